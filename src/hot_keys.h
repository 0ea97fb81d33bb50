// SPDX-License-Identifier: MIT
// Which decisions are sampled, and the writing of a sample.
#ifndef BRIM_SRC_HOT_KEYS_H_
#define BRIM_SRC_HOT_KEYS_H_

#include <cstdint>

#include "src/call.h"

namespace brim {

// A power of two. Decisions are drawn by the low bits of the clock reading that each of them has:
// nanoseconds, whose last bits no caller keeps in step with. The pattern is one that times rounded
// to microseconds never have, so a test with a round manual clock draws none.
inline constexpr uint64_t kHotRate = 1024;

[[gnu::always_inline]] inline bool is_sampled(int64_t now) noexcept {
  return (static_cast<uint64_t>(now) & (kHotRate - 1)) == kHotRate - 1;
}

// Writes the sample of a decision, if the key has a slot: that of its first rate or of its bans.
void sample_decision(const Engine& engine, const Target& target, bool admitted) noexcept;

}  // namespace brim

#endif  // BRIM_SRC_HOT_KEYS_H_
