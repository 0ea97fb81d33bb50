// SPDX-License-Identifier: MIT
// Commands to bytes, and bytes to replies. The grammar is hiredis'; what a reply may cost is ours:
// whatever a server sends, a reader holds a few MiB and ends in an error.
#ifndef BRIM_SRC_TIER_RESP_H_
#define BRIM_SRC_TIER_RESP_H_

#include <hiredis/read.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace brim::tier {

struct Reply {
  enum class Kind : uint8_t { kNil, kInteger, kText, kError, kArray };
  Kind kind = Kind::kNil;
  int64_t integer = 0;
  std::string text;  // of an error too
  std::vector<Reply> items;

  bool is_error() const { return kind == Kind::kError; }
  bool is_text(std::string_view expected) const { return kind == Kind::kText && text == expected; }
};

inline std::string_view text_of(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

// One word of a command.
void append_word(std::string& out, std::string_view word);
void append_head(std::string& out, size_t words);
std::string command(std::initializer_list<std::string_view> words);

class ReplyReader {
 public:
  static constexpr int kMostItems = 4096;  // of a reply, at all depths
  static constexpr int kMostDepth = 4;
  static constexpr size_t kMostText = 1 << 20;
  static constexpr size_t kMostBytes = 4 << 20;  // of a reply

  ReplyReader();
  ReplyReader(ReplyReader&&) noexcept;
  ReplyReader& operator=(ReplyReader&&) noexcept;
  ~ReplyReader();

  // A piece of what arrived, at most 64 KiB at a time; then next() until it has no more.
  void feed(std::string_view bytes);
  // Error: DataLoss (tier_protocol), from then on always.
  absl::StatusOr<std::optional<Reply>> next();

 private:
  struct Limits;
  struct Free {
    void operator()(redisReader* reader) const { redisReaderFree(reader); }
  };
  std::unique_ptr<Limits> limits_;  // what hiredis' callbacks fill: at one place for as long as it
  std::unique_ptr<redisReader, Free> reader_;
};

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_RESP_H_
