// SPDX-License-Identifier: MIT
// Bans: `limit` refusals within period_ns bar a key for `capacity` ns, the next time `burst` times
// as long, at most `extra` ns. A state of its own beside the rate's, written by refusals only.
//
// word = {barred 1 | level 6 | refusals 16 | end 40}; end in ticks of 2^19 ns since t0, rounded
// up: of the ban, or of the time within which refusals add up. The level, how often the key was
// barred before, is forgotten once the key has stayed away for as long as its last ban took.
#ifndef BRIM_SRC_ALGO_BAN_H_
#define BRIM_SRC_ALGO_BAN_H_

#include <algorithm>
#include <cstdint>

#include "src/algo/quota.h"
#include "src/base/uint128.h"
#include "src/base/word.h"

namespace brim::ban {

inline constexpr int kTickShift = 19;
inline constexpr int kEndBits = 40;
inline constexpr int kRefusalBits = 16;
inline constexpr int kLevelBits = 6;
inline constexpr uint64_t kEndMask = (uint64_t{1} << kEndBits) - 1;

struct State {
  bool barred;
  uint64_t level;
  uint64_t refusals;
  uint64_t end;  // ticks
};

constexpr State unpack(Word word) noexcept {
  return {((word >> 62) & 1) != 0, (word >> (kEndBits + kRefusalBits)) & ((1u << kLevelBits) - 1),
          (word >> kEndBits) & ((1u << kRefusalBits) - 1), word & kEndMask};
}
constexpr Word pack(const State& state) noexcept {
  return uint64_t{state.barred} << 62 | state.level << (kEndBits + kRefusalBits) |
         state.refusals << kEndBits | state.end;
}

constexpr uint64_t ticks_up(uint64_t ns) noexcept {
  return std::min((ns >> kTickShift) + ((ns & ((uint64_t{1} << kTickShift) - 1)) != 0), kEndMask);
}

// ns of the ban number `level`, from 0.
constexpr uint64_t ban_ns(const Quota& quota, uint64_t level) noexcept {
  uint128 ns = quota.capacity;
  for (uint64_t i = 0; i < level && ns < quota.extra && quota.burst > 1; ++i) ns *= quota.burst;
  return static_cast<uint64_t>(std::min<uint128>(ns, quota.extra));
}

// ns since t0 at which the state equals a key that was never refused.
constexpr uint64_t idle_at(const State& state, const Quota& quota) noexcept {
  const uint64_t end = state.end << kTickShift;
  return state.level == 0 ? end : end + ban_ns(quota, state.level - 1);
}

constexpr bool is_idle(Word word, int64_t now_ns, const Quota& quota) noexcept {
  return word == kEmptyWord || idle_at(unpack(word), quota) <= elapsed_ns(quota, now_ns);
}

// ns for which the key is still barred; 0 if it is not.
constexpr int64_t barred_for(Word word, int64_t now_ns, const Quota& quota) noexcept {
  const State state = unpack(word);
  const uint64_t end = state.end << kTickShift;
  const uint64_t elapsed = elapsed_ns(quota, now_ns);
  return state.barred && end > elapsed ? static_cast<int64_t>(end - elapsed) : 0;
}

// The word after one more refusal.
constexpr Word refused_word(Word word, int64_t now_ns, const Quota& quota) noexcept {
  if (barred_for(word, now_ns, quota) != 0) return word;
  const uint64_t elapsed = elapsed_ns(quota, now_ns);
  State state = is_idle(word, now_ns, quota) ? State{false, 0, 0, 0} : unpack(word);
  if (state.barred || state.end << kTickShift <= elapsed) {
    state = {false, state.level, 0, ticks_up(elapsed + static_cast<uint64_t>(quota.period_ns))};
  }
  if (++state.refusals >= quota.limit) {
    const uint64_t until = ticks_up(elapsed + ban_ns(quota, state.level));
    state = {true, std::min<uint64_t>(state.level + 1, (1u << kLevelBits) - 1), 0, until};
  }
  return pack(state);
}

// The largest `end` an honest process can have written by now.
constexpr uint64_t highest_end(int64_t now_ns, const Quota& quota) noexcept {
  return ticks_up(elapsed_ns(quota, now_ns) + quota.capacity_max);
}

}  // namespace brim::ban

#endif  // BRIM_SRC_ALGO_BAN_H_
