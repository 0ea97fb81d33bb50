// SPDX-License-Identifier: MIT
// What the unit tests share: a small seeded generator, and how often a random property is tried.
#ifndef BRIM_TESTS_UNIT_SUPPORT_H_
#define BRIM_TESTS_UNIT_SUPPORT_H_

#include <cstdint>
#include <ostream>
#include <string_view>

#include "absl/status/status.h"

namespace brim::test {

// Sanitizers make a decision about ten times as dear; the properties stay, the repetitions shrink.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr int kShare = 10;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer) || __has_feature(undefined_behavior_sanitizer)
inline constexpr int kShare = 10;
#else
inline constexpr int kShare = 1;
#endif
#else
inline constexpr int kShare = 1;
#endif

constexpr int scaled(int tries) { return tries / kShare; }

// SplitMix64 (Steele, Lea, Flood, 2014): every seed gives another reproducible sequence.
class Random {
 public:
  explicit constexpr Random(uint64_t seed) : state_(seed) {}

  constexpr uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  // 0 .. n - 1.
  constexpr uint64_t below(uint64_t n) { return bits() % n; }
  // low .. high, both included.
  constexpr int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(
                     below(static_cast<uint64_t>(high) - static_cast<uint64_t>(low) + 1));
  }
  // 1 .. max, every magnitude equally likely.
  constexpr uint64_t magnitude(uint64_t max) {
    uint64_t width = 1;
    while (width < 64 && (max >> width) != 0) ++width;
    const uint64_t value = bits() >> (64 - 1 - below(width));
    return value == 0 ? 1 : value > max ? 1 + value % max : value;
  }
  constexpr bool one_in(uint64_t n) { return below(n) == 0; }

 private:
  uint64_t state_;
};

// The message as a std::string_view (Debian's abseil has a string_view of its own).
inline std::string_view message(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

}  // namespace brim::test

#endif  // BRIM_TESTS_UNIT_SUPPORT_H_
