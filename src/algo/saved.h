// SPDX-License-Identifier: MIT
// A key's state without its segment: permits and ns instead of readings of a policy's clock, so
// that it can be kept in a file, wait there, and be given to a policy with another clock.
//
//     save(word) -> Saved -> age(elapsed) -> merged_word(word of the policy that takes it)
//
// Three rules. Nothing owed is forgiven: a refill while away goes by the slowest rate that may have
// held, and what can not be carried over exactly is rounded up. The stricter of two states wins, so
// giving one twice is giving it once. Nothing is made up beyond that rounding and the clocks'
// uncertainty.
#ifndef BRIM_SRC_ALGO_SAVED_H_
#define BRIM_SRC_ALGO_SAVED_H_

#include <algorithm>
#include <cstdint>
#include <limits>

#include "src/algo/step.h"

namespace brim::saved {

// In what a state is counted: the rate that it was saved under.
struct Unit {
  Family family = Family::kNone;
  uint32_t shift = 0;  // bucket: one permit is 2^shift units
  uint32_t limit = 1;
  int64_t period_ns = 1;
  uint32_t slowest_ppm = kWholePpm;  // bucket: least share of the rate that may have held
};

struct Saved {
  uint64_t used = 0;         // bucket: units owed; window, counter: permits now; ban: refusals
  uint64_t before = 0;       // counter: permits of the window before; ban: times barred
  int64_t until_ns = 0;      // until a bucket is idle, a window ends, a ban or its counting ends
  bool barred = false;       // ban
  int64_t forgotten_ns = 0;  // ban: until how often the key was barred is forgotten
  friend bool operator==(const Saved&, const Saved&) = default;
};

constexpr int64_t kMostNs = int64_t{1} << 62;

constexpr int64_t clamp_ns(uint64_t ns) noexcept {
  return static_cast<int64_t>(std::min<uint64_t>(ns, kMostNs));
}

// Permits, rounded up.
constexpr uint64_t permits_up(uint64_t units, uint32_t shift) noexcept {
  const uint64_t whole = units >> (shift & 63);
  return whole + ((whole << (shift & 63)) != units ? 1 : 0);
}

// REQUIRES: the word is plausible. Cells are saved by whoever can read them.
constexpr Saved save(Word word, const Instant& at, const Quota& quota) noexcept {
  Saved state;
  if (debt(word, at, quota) == 0) return state;
  switch (family(quota)) {
    case Family::kBucket:
      state.used = gcra::debt_units(word, at.v);
      state.until_ns = ns_until(quota, at.now_ns, word);
      break;
    case Family::kWindow: {
      const window::State now = window::current(word, at.v, at.now_ns, quota);
      state.used = now.count;
      state.until_ns = ns_until(quota, at.now_ns, window::end_reading(now, quota));
      break;
    }
    case Family::kCounter: {
      const counter::State now = counter::current(word, at.v, at.now_ns, quota);
      state.used = now.cur;
      state.before = now.prev;
      const auto lead = static_cast<uint64_t>(counter::lead_ns(now, at.v, at.now_ns, quota));
      state.until_ns = clamp_ns(lead + counter::period_of(quota) - now.gone_ns);
      break;
    }
    case Family::kBan: {
      const ban::State now = ban::unpack(word);
      const uint64_t elapsed = elapsed_ns(quota, at.now_ns);
      const uint64_t end = now.end << ban::kTickShift;
      const uint64_t idle = ban::idle_at(now, quota);
      if (end > elapsed) {  // after that only how often it was barred is left
        state.used = now.refusals;
        state.barred = now.barred;
        state.until_ns = clamp_ns(end - elapsed);
      }
      state.before = now.level;
      state.forgotten_ns = clamp_ns(idle - std::min(idle, elapsed));
      break;
    }
    case Family::kCells:
    case Family::kNone:
      break;
  }
  return state;
}

// What flows back in `elapsed_ns`, in units, rounded down.
constexpr uint64_t refill(uint64_t elapsed_ns, const Unit& unit) noexcept {
  const uint128 slope = static_cast<uint128>(unit.limit) << (unit.shift & 63);
  const auto period = static_cast<uint64_t>(std::max<int64_t>(unit.period_ns, 1));
  const uint64_t elapsed = std::min<uint64_t>(elapsed_ns, kMostNs);
  if (slope > kValueMax) return 0;  // no such rate
  const uint128 whole = elapsed * slope / period;
  const uint64_t units = static_cast<uint64_t>(std::min<uint128>(whole, kValueMax));
  return static_cast<uint64_t>(static_cast<uint128>(units) * unit.slowest_ppm / kWholePpm);
}

// The state after `elapsed_ns` without a call. A clock that stepped back counts as no time.
constexpr Saved age(Saved state, const Unit& unit, int64_t elapsed_ns) noexcept {
  const uint64_t elapsed = static_cast<uint64_t>(std::max<int64_t>(elapsed_ns, 0));
  const auto period = static_cast<uint64_t>(std::max<int64_t>(unit.period_ns, 1));
  const uint64_t left = static_cast<uint64_t>(std::max<int64_t>(state.until_ns, 0));
  switch (unit.family) {
    case Family::kBucket:
      state.used -= std::min(state.used, refill(elapsed, unit));
      break;
    case Family::kWindow:
      if (elapsed >= left) return {};
      break;
    case Family::kCounter:
      if (elapsed >= left) {  // the next window, or one later still
        if (elapsed - left >= period) return {};
        state = {0, state.used, static_cast<int64_t>(period - (elapsed - left)), false};
        return (state.used | state.before) == 0 ? Saved{} : state;
      }
      break;
    case Family::kBan: {
      const auto memory = static_cast<uint64_t>(std::max<int64_t>(state.forgotten_ns, 0));
      if (elapsed >= left) {
        if (state.before == 0 || elapsed >= memory) return {};
        state.barred = false;
        state.used = 0;
      }
      state.forgotten_ns = clamp_ns(memory - std::min(memory, elapsed));
      break;
    }
    case Family::kCells:
    case Family::kNone:
      return {};
  }
  state.until_ns = clamp_ns(left - std::min(left, elapsed));
  return state;
}

// Permits of a counter's state, the fading ones rounded up. What is left of its window may be
// longer than the period only by another clock's skew.
constexpr uint64_t weight_up(const Saved& state, const Unit& unit) noexcept {
  const auto period = static_cast<uint64_t>(std::max<int64_t>(unit.period_ns, 1));
  const uint64_t left =
      std::min(static_cast<uint64_t>(std::max<int64_t>(state.until_ns, 0)), period);
  const uint128 faded = static_cast<uint128>(state.before) * left;
  const uint128 sum = state.used + (faded + period - 1) / period;
  return static_cast<uint64_t>(std::min<uint128>(sum, std::numeric_limits<uint64_t>::max()));
}

// What the state is worth to a policy of another kind: permits that were taken a moment ago.
constexpr uint64_t permits_taken(const Saved& state, const Unit& unit) noexcept {
  switch (unit.family) {
    case Family::kBucket:
      return permits_up(state.used, unit.shift);
    case Family::kWindow:
      return state.used;
    case Family::kCounter:
      return weight_up(state, unit);
    default:
      return 0;
  }
}

namespace internal {

constexpr Word merge_bucket(Word word, const Saved& state, const Unit& unit, const Instant& at,
                            const Quota& quota) noexcept {
  const uint32_t shift = quota.shift & 63;
  uint128 units =
      unit.family != Family::kBucket ? static_cast<uint128>(permits_taken(state, unit)) << shift
      : shift >= (unit.shift & 63) ? static_cast<uint128>(state.used) << (shift - (unit.shift & 63))
                                   : permits_up(state.used, (unit.shift & 63) - shift);
  units = std::min<uint128>(units, quota.capacity_max);
  const uint64_t owed = std::max(static_cast<uint64_t>(units), gcra::debt_units(word, at.v));
  return owed == 0 ? word : at.v + owed;
}

constexpr Word merge_window(Word word, const Saved& state, const Unit& unit, const Instant& at,
                            const Quota& quota) noexcept {
  const window::State now = window::current(word, at.v, at.now_ns, quota);
  window::State next = now;
  next.count = std::min(std::max(now.count, permits_taken(state, unit)), window::count_mask(quota));
  if (next.count == 0) return word;
  if (has(quota, kFirstHit) && unit.family == Family::kWindow) {
    const uint64_t longest = std::min<uint64_t>(quota.capacity_max, kMostNs);
    const auto left = static_cast<uint64_t>(std::max<int64_t>(state.until_ns, 0));
    const uint64_t end = window::first_hit_end(quota, at.now_ns, std::min(left, longest));
    next.window = now.count == 0 ? end : std::max(now.window, end);
  }
  return window::pack(next, quota);
}

// Exact where the two windows lie alike: the policy's window began at most the clocks' skew before
// the saved one, or up to an eighth of the period after it, which is stricter.
constexpr Word merge_counter(Word word, const Saved& state, const Unit& unit, const Instant& at,
                             const Quota& quota) noexcept {
  constexpr int64_t kSkewNs = 1000000;
  const counter::State now = counter::current(word, at.v, at.now_ns, quota);
  if (now.ahead) return word;
  const auto period = static_cast<int64_t>(std::min<uint64_t>(counter::period_of(quota), kMostNs));
  const int64_t gone = period - state.until_ns;
  const int64_t later = gone - static_cast<int64_t>(now.gone_ns);
  counter::State next = now;
  if (unit.family == Family::kCounter && unit.period_ns == period && later >= -kSkewNs &&
      later <= period / 8) {
    next.cur = std::max(now.cur, state.used);
    next.prev = std::max(now.prev, state.before);
  } else {
    next.cur = std::max(now.cur, permits_taken(state, unit));
  }
  next.cur = std::min(next.cur, counter::count_mask(quota));
  next.prev = std::min(next.prev, counter::count_mask(quota));
  return (next.cur | next.prev) == 0 ? word : counter::pack(next, quota);
}

// A word can not tell less of the past than its policy's beginning: in a policy that began a moment
// ago the number of bans is remembered for up to the last ban's length from then on.
constexpr Word merge_ban(Word word, const Saved& state, const Unit& unit, const Instant& at,
                         const Quota& quota) noexcept {
  if (unit.family != Family::kBan || (state.used | state.before) == 0) return word;
  const bool idle = ban::is_idle(word, at.now_ns, quota);
  const ban::State now = idle ? ban::State{false, 0, 0, 0} : ban::unpack(word);
  const uint64_t elapsed = elapsed_ns(quota, at.now_ns);
  const uint64_t left =
      std::min(static_cast<uint64_t>(std::max<int64_t>(state.until_ns, 0)), quota.capacity_max);
  const bool now_runs = now.end << ban::kTickShift > elapsed;
  const bool now_barred = now.barred && now_runs;
  const bool then_barred = state.barred && left != 0;
  ban::State next;
  next.barred = now_barred || then_barred;
  next.level = std::min<uint64_t>(std::max(now.level, state.before), (1u << ban::kLevelBits) - 1);
  const uint64_t refusals =
      std::max(now_runs ? now.refusals : 0, left != 0 ? state.used : uint64_t{0});
  const uint64_t most = std::max<uint64_t>(quota.limit, 1) - 1;
  next.refusals =
      next.barred ? 0 : std::min({refusals, most, (uint64_t{1} << ban::kRefusalBits) - 1});
  next.end = (next.barred ? now_barred : !idle) ? now.end : 0;
  if (left != 0 && (!next.barred || then_barred)) {
    next.end = std::max(next.end, ban::ticks_up(elapsed + left));
  } else if (!next.barred) {  // over; forgotten after `forgotten_ns`
    const auto memory = static_cast<uint64_t>(std::max<int64_t>(state.forgotten_ns, 0));
    const uint64_t after = next.level == 0 ? 0 : ban::ban_ns(quota, next.level - 1);
    const uint64_t end = elapsed + std::min(memory, after) - std::min(elapsed + memory, after);
    next.end = std::max(next.end, ban::ticks_up(end));
  }
  return ban::pack(next);
}

}  // namespace internal

// The word that is as strict as `word` and as the state that has been aged up to now. The word
// itself if the state adds nothing. Cells: see shm/log_merge.h.
constexpr Word merged_word(Word word, const Saved& state, const Unit& unit, const Instant& at,
                           const Quota& quota) noexcept {
  switch (family(quota)) {
    case Family::kBucket:
      return internal::merge_bucket(word, state, unit, at, quota);
    case Family::kWindow:
      return internal::merge_window(word, state, unit, at, quota);
    case Family::kCounter:
      return internal::merge_counter(word, state, unit, at, quota);
    case Family::kBan:
      return internal::merge_ban(word, state, unit, at, quota);
    case Family::kCells:
    case Family::kNone:
      break;
  }
  return word;
}

}  // namespace brim::saved

#endif  // BRIM_SRC_ALGO_SAVED_H_
