// SPDX-License-Identifier: MIT
// The 64-bit state word of a slot: {tentative 1 | value 63}.
//
// A verified word (top bit clear) holds the algorithm's state; for GCRA the theoretical arrival
// time in units of the policy's token clock. A tentative word (top bit set) marks a slot whose
// claim is not yet verified: {1 | attach id 21 | counter 20 | clock in ms 22}.
#ifndef BRIM_SRC_BASE_WORD_H_
#define BRIM_SRC_BASE_WORD_H_

#include <cstdint>

namespace brim {

using Word = uint64_t;

inline constexpr Word kEmptyWord = 0;  // what an absent key holds, for every algorithm
inline constexpr Word kTentativeBit = uint64_t{1} << 63;
inline constexpr Word kValueMax = kTentativeBit - 1;

inline constexpr int kAttachIdBits = 21;
inline constexpr int kCounterBits = 20;
inline constexpr int kMillisBits = 22;
static_assert(1 + kAttachIdBits + kCounterBits + kMillisBits == 64);

constexpr bool is_tentative(Word word) noexcept { return (word & kTentativeBit) != 0; }

// A tentative value never repeats within 2^22 ms (70 minutes): a thread would have to make 2^20
// insertions within one millisecond, or the segment to hand out 2^21 attach ids.
constexpr Word make_tentative(uint32_t attach_id, uint32_t counter, int64_t now_ns) noexcept {
  const uint64_t ms = static_cast<uint64_t>(now_ns / 1000000);
  return kTentativeBit | (uint64_t{attach_id} & ((1u << kAttachIdBits) - 1)) << 42 |
         (uint64_t{counter} & ((1u << kCounterBits) - 1)) << 22 | (ms & ((1u << kMillisBits) - 1));
}

// How long ago a tentative word was made, in ms modulo 2^22. A stamp that lies up to 16 ms in the
// future (another process's clock) counts as new; one further ahead is garbage and counts as old.
constexpr uint32_t tentative_age_ms(Word word, int64_t now_ns) noexcept {
  const uint32_t mask = (1u << kMillisBits) - 1;
  const uint32_t now_ms = static_cast<uint32_t>(static_cast<uint64_t>(now_ns / 1000000)) & mask;
  const uint32_t age = (now_ms - static_cast<uint32_t>(word)) & mask;
  return age > mask - 16 ? 0 : age;
}

// A tentative of another key older than this may be taken by anyone: a dead process can then
// never keep a slot, and two live keys can never undo each other for ever.
inline constexpr uint32_t kTentativeLifeMs = 1000;

}  // namespace brim

#endif  // BRIM_SRC_BASE_WORD_H_
