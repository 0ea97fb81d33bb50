// SPDX-License-Identifier: MIT
// Goal: any bytes are a line of an export whose values are in the ranges that StateWriter asks for,
// or are refused with a sentence. Method: the bytes through the reader of one line; base64 that is
// taken has one spelling.
#include "export.h"
#include "output.h"
#include "tests/fuzz/fuzz.h"

namespace brim::fuzz {
namespace {

void check(const tools::ExportHead& head) { require(head.wall_ns >= 0, "a time"); }
void check(const tools::ExportEnd&) {}

void check(const tools::ExportPolicy& policy) {
  require(policy.state.factor_ppm <= 1000000 && policy.state.rates.size() <= 8, "a policy");
  for (const RateState& rate : policy.state.rates) {
    require(
        rate.part < 8 && rate.period_ns >= 0 && rate.unit_shift < 64 && rate.slowest_ppm <= 1000000,
        "a rate");
  }
}

void check(const tools::ExportOverride& entry) {
  require(entry.state.key.size() == entry.state.key_length && entry.after_ns >= 0 &&
              entry.state.ends_in_ns >= 0,
          "an override");
}

void check(const tools::ExportKey& key) {
  const KeyState& state = key.state;
  require(state.part < 8 && state.until_ns >= 0 && state.as_of_ns >= 0, "a key");
  require(state.key.size() <= state.key_length && state.left_ns.size() <= 256, "a key's sizes");
  for (const int64_t left : state.left_ns) require(left >= 0, "a time left");
  require(tools::kind_of(tools::kind_name(state.kind)) == state.kind, "a kind");
}

}  // namespace
}  // namespace brim::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) { return 0; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brim::fuzz;
  const std::string_view text = as_text(data, size);
  if (const auto bytes = brim::tools::base64_bytes(text); bytes.has_value()) {
    require(brim::tools::base64(*bytes) == text, "base64 with two spellings", text);
  }
  const auto line = brim::tools::parse_export_line(text);
  if (line.ok()) {
    std::visit([](const auto& parsed) { check(parsed); }, *line);
  } else {
    const std::string message(line.status().message());
    require(!message.empty() && printable_ascii(message, ""), "a message", message);
  }
  return 0;
}
