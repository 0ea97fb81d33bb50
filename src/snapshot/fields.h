// SPDX-License-Identifier: MIT
// How values stand in the tables, and what they add up to.
#ifndef BRIM_SRC_SNAPSHOT_FIELDS_H_
#define BRIM_SRC_SNAPSHOT_FIELDS_H_

#include <string>
#include <string_view>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "absl/status/status.h"
#include "brim/state.h"
#include "src/base/text.h"

namespace brim::snapshot {

inline constexpr std::pair<StateKind, std::string_view> kKinds[] = {
    {StateKind::kBucket, "bucket"},
    {StateKind::kWindow, "window"},
    {StateKind::kCounter, "counter"},
    {StateKind::kLog, "log"},
    {StateKind::kBan, "ban"}};

inline std::string_view kind_name(StateKind kind) {
  for (const auto& [value, name] : kKinds) {
    if (value == kind) return name;
  }
  return "unknown";
}

inline bool kind_from(std::string_view text, StateKind& kind) {
  for (const auto& [value, name] : kKinds) {
    if (name != text) continue;
    kind = value;
    return true;
  }
  return false;
}

// A policy's rates, and its bans; see KeyState::part.
inline constexpr uint32_t kMostParts = 8;

// XXH3 over values with their lengths: no two lists of values have the same bytes.
class Sum {
 public:
  Sum() { bytes_.reserve(256); }  // a row with a short key
  Sum& add(uint64_t word) {
    bytes_.append(reinterpret_cast<const char*>(&word), sizeof(word));
    return *this;
  }
  Sum& add(int64_t word) { return add(static_cast<uint64_t>(word)); }
  Sum& add(std::string_view text) {
    add(uint64_t{text.size()});
    bytes_.append(text);
    return *this;
  }
  uint64_t value() const { return XXH3_64bits(bytes_.data(), bytes_.size()); }

 private:
  std::string bytes_;
};

// Valid UTF-8 without NUL, so that the sqlite3 shell shows it as text.
inline bool is_text(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size();) {
    const auto lead = static_cast<uint8_t>(bytes[i]);
    const size_t more = lead < 0x80                   ? 0
                        : lead >= 0xc2 && lead < 0xe0 ? 1
                        : lead >= 0xe0 && lead < 0xf0 ? 2
                        : lead >= 0xf0 && lead < 0xf5 ? 3
                                                      : 9;
    if (lead == 0 || i + more >= bytes.size()) return false;
    for (size_t n = 1; n <= more; ++n) {
      if ((static_cast<uint8_t>(bytes[i + n]) & 0xc0) != 0x80) return false;
    }
    i += more + 1;
  }
  return true;
}

inline absl::Status corrupt(std::string_view what) {
  return absl::DataLossError(cat("snapshot_corrupt: ", what));
}

}  // namespace brim::snapshot

#endif  // BRIM_SRC_SNAPSHOT_FIELDS_H_
