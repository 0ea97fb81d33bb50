// SPDX-License-Identifier: MIT
// Goal: no bytes of a server crash the reader of replies, or make it keep more than its bounds.
// Input: the bytes; the first one says in what pieces they come.
#include "src/tier/redis_slots.h"
#include "src/tier/resp.h"
#include "tests/fuzz/fuzz.h"

namespace brim::fuzz {
namespace {

size_t size_of(const tier::Reply& reply, int depth) {
  require(depth <= tier::ReplyReader::kMostDepth + 1, "nested too deep");
  size_t size = 1;
  for (const tier::Reply& item : reply.items) size += size_of(item, depth + 1);
  return size;
}

}  // namespace
}  // namespace brim::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) { return 0; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brim;
  fuzz::Input input(data, size);
  const size_t piece = size_t{1} + input.byte();
  tier::ReplyReader reader;
  while (!input.empty()) {
    reader.feed(input.take_bytes(piece));
    while (true) {
      auto reply = reader.next();
      if (!reply.ok()) return 0;
      if (!reply->has_value()) break;
      fuzz::require(fuzz::size_of(**reply, 1) <= tier::ReplyReader::kMostItems + 1, "too many");
      tier::parse_slots(**reply, {"host", 1}).status().IgnoreError();
      if ((*reply)->is_error()) static_cast<void>(tier::parse_redirect((*reply)->text, {"h", 1}));
    }
  }
  return 0;
}
