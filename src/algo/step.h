// SPDX-License-Identifier: MIT
// The switches over the algorithm: (word, time, quota, cost) -> (next word, decision).
// Pure and constexpr; may run several times for one request. next == word means that nothing is
// written: a refusal, or a call that asks for nothing. (With count_denied and for bans a refusal
// does write.) Window logs and leases keep their state in cells, not in the word: src/cells.
#ifndef BRIM_SRC_ALGO_STEP_H_
#define BRIM_SRC_ALGO_STEP_H_

#include <cstdint>

#include "brim/decision.h"
#include "brim/policy.h"
#include "src/algo/ban.h"
#include "src/algo/counter.h"
#include "src/algo/gcra.h"
#include "src/algo/quota.h"
#include "src/algo/window.h"
#include "src/base/word.h"

namespace brim {

// Which arithmetic a rate's words follow.
enum class Family : uint8_t { kBucket, kWindow, kCounter, kCells, kBan, kNone };

inline constexpr uint8_t kBanAlgorithm = 0xff;  // the hidden part that holds a policy's bans

[[gnu::always_inline]] constexpr Family family(const Quota& quota) noexcept {
  switch (static_cast<Algorithm>(quota.algorithm)) {
    case Algorithm::kGcra:
    case Algorithm::kTokenBucket:
    case Algorithm::kLeakyBucket:
    case Algorithm::kQueue:
      return Family::kBucket;
    case Algorithm::kFixedWindow:
    case Algorithm::kCalendarWindow:
      return Family::kWindow;
    case Algorithm::kSlidingCounter:
      return Family::kCounter;
    case Algorithm::kSlidingLog:
    case Algorithm::kConcurrency:
      return Family::kCells;
    case Algorithm::kUnlimited:
    case Algorithm::kDeny:
      return Family::kNone;
  }
  return quota.algorithm == kBanAlgorithm ? Family::kBan : Family::kNone;
}

// The quota's view of one instant, computed once per call.
struct Instant {
  int64_t now_ns;
  uint64_t v;
};

[[gnu::always_inline]] constexpr Instant instant(const Quota& quota, int64_t now_ns) noexcept {
  return {now_ns, token_clock(quota, now_ns)};
}

struct Step {
  Word next;
  bool admitted;
};

// `cost` permits or none. Out of line and by value, as all that is not a bucket: a bucket's quota
// then stays in registers.
[[gnu::noinline]] constexpr Step step_window(Word word, Instant at, Quota quota,
                                             uint32_t cost) noexcept {
  const bool counter = family(quota) == Family::kCounter;
  if (!counter && family(quota) != Family::kWindow) return {word, cost == 0};
  const window::State fixed = window::current(word, at.v, at.now_ns, quota);
  const counter::State sliding = counter::current(word, at.v, at.now_ns, quota);
  const uint32_t room =
      counter ? counter::available(sliding, quota) : window::available(fixed, quota);
  const bool admitted = cost <= room;
  if (cost == 0 || cost > quota.burst || (!admitted && !has(quota, kCountDenied)) ||
      (counter && sliding.ahead)) {
    return {word, cost == 0};
  }
  return {counter ? counter::counted_word(sliding, quota, cost)
                  : window::counted_word(fixed, quota, cost),
          admitted};
}

[[gnu::always_inline]] constexpr Step step(Word word, const Instant& at, const Quota& quota,
                                           uint32_t cost) noexcept {
  if (family(quota) != Family::kBucket) [[unlikely]]
    return step_window(word, at, quota, cost);
  const Word next = gcra::next_word(word, at.v, quota, cost);
  return {next, next != word || cost == 0};
}

[[gnu::noinline]] constexpr Decision decide_window(Step step, Instant at, Quota quota,
                                                   uint32_t cost) noexcept {
  if (family(quota) == Family::kCounter) {
    return counter::decision(counter::current(step.next, at.v, at.now_ns, quota), step.admitted,
                             at.v, at.now_ns, quota, cost);
  }
  return window::decision(window::current(step.next, at.v, at.now_ns, quota), step.admitted,
                          at.now_ns, quota, cost);
}

[[gnu::always_inline]] constexpr Decision decide(Word word, const Step& step, const Instant& at,
                                                 const Quota& quota, uint32_t cost) noexcept {
  if (family(quota) != Family::kBucket) [[unlikely]]
    return decide_window(step, at, quota, cost);
  return gcra::decision(word, step.next, at.v, at.now_ns, quota, cost);
}

// The largest cost that would pass.
constexpr uint32_t available(Word word, const Instant& at, const Quota& quota) noexcept {
  switch (family(quota)) {
    case Family::kBucket:
      return gcra::available(word, at.v, quota);
    case Family::kWindow:
      return window::available(window::current(word, at.v, at.now_ns, quota), quota);
    case Family::kCounter:
      return counter::available(counter::current(word, at.v, at.now_ns, quota), quota);
    default:
      return 0;
  }
}

// Gives back up to `cost` permits.
constexpr Word refund(Word word, const Instant& at, const Quota& quota, uint32_t cost) noexcept {
  switch (family(quota)) {
    case Family::kBucket:
      return gcra::refunded_word(word, at.v, quota, cost);
    case Family::kWindow:
      return window::refunded_word(word, window::current(word, at.v, at.now_ns, quota), quota,
                                   cost);
    case Family::kCounter:
      return counter::refunded_word(word, counter::current(word, at.v, at.now_ns, quota), quota,
                                    cost);
    default:
      return word;
  }
}

// What a charge must know to be undone.
struct Receipt {
  Word word = kEmptyWord;  // that it stored
  uint64_t v = 0;          // the clock that it was judged by
};

// Takes back a charge of `cost` permits, and nothing that others were charged since. REQUIRES: `at`
// was read after `word`, or what others were charged in between may be taken for this charge's.
//
// Of a bucket as much comes back as surely has not flowed back: all but the refill since the
// charge. The word that the charge stored would tell more, but not after another charge below it
// was undone too. Then what flows back is this charge's, and the word looks as if it were the
// other's.
constexpr Word undo(Word word, const Receipt& receipt, const Instant& at, const Quota& quota,
                    uint32_t cost) noexcept {
  switch (family(quota)) {
    case Family::kBucket: {
      const uint64_t units = gcra::cost_units(quota, cost);
      const uint64_t own = units - std::min(units, gcra::debt_units(at.v, receipt.v));
      return word - std::min(own, gcra::debt_units(word, at.v));
    }
    case Family::kWindow: {
      const window::State state = window::current(word, at.v, at.now_ns, quota);
      const bool same = state.window == receipt.word >> window::count_bits(quota);
      return same ? window::refunded_word(word, state, quota, cost) : word;
    }
    case Family::kCounter:
      return counter::undone_word(word, receipt.word,
                                  counter::current(word, at.v, at.now_ns, quota), quota, cost);
    default:
      return word;
  }
}

// Takes `cost` permits whatever is left; cut at what the word can hold.
constexpr Word charge(Word word, const Instant& at, const Quota& quota, uint32_t cost) noexcept {
  if (cost == 0) return word;
  switch (family(quota)) {
    case Family::kBucket:
      return gcra::charged_word(word, at.v, quota, cost);
    case Family::kWindow:
      return window::counted_word(window::current(word, at.v, at.now_ns, quota), quota, cost);
    case Family::kCounter:
      return counter::counted_word(counter::current(word, at.v, at.now_ns, quota), quota, cost);
    default:
      return word;
  }
}

inline constexpr uint64_t kMostDebt = ~uint64_t{0};  // of a state that must not be evicted

// How far the key is from idle, in 2^-20 permits rounded up; 0 exactly when the state equals an
// absent key's. Comparable between policies: it counts requests, not time.
constexpr uint64_t bucket_debt(Word word, const Instant& at, const Quota& quota) noexcept {
  const uint64_t units = gcra::debt_units(word, at.v);
  if (units == 0) return 0;
  const uint32_t shift = quota.shift & 63;
  if (shift <= 20) {
    const uint32_t up = 20 - shift;
    return units >> (63 - up) != 0 ? kMostDebt : units << up;
  }
  return ((units - 1) >> (shift - 20)) + 1;
}

constexpr uint64_t debt(Word word, const Instant& at, const Quota& quota) noexcept {
  if (word == kEmptyWord) return 0;
  switch (family(quota)) {
    case Family::kBucket:
      return bucket_debt(word, at, quota);
    case Family::kWindow:
      return window::current(word, at.v, at.now_ns, quota).count << 20;
    case Family::kCounter: {
      const counter::State state = counter::current(word, at.v, at.now_ns, quota);
      return (state.prev + state.cur) << 20;
    }
    case Family::kCells:  // the word is idle_at
      return word > static_cast<uint64_t>(std::max<int64_t>(at.now_ns, 0)) ? kMostDebt : 0;
    case Family::kBan: {
      if (ban::is_idle(word, at.now_ns, quota)) return 0;
      const ban::State state = ban::unpack(word);
      return std::max<uint64_t>(state.barred ? quota.limit : state.refusals, 1) << 20;
    }
    case Family::kNone:
      break;
  }
  return 0;
}

// False for a word that no honest process can have written by `at`: corrupt, or from a clock that
// ran ahead.
[[gnu::noinline]] constexpr bool plausible_window(Word word, Instant at, Quota quota) noexcept {
  switch (family(quota)) {
    case Family::kBucket:
      break;
    case Family::kWindow:
      return word <= window::highest_word(at.v, at.now_ns, quota);
    case Family::kCounter: {
      const uint64_t away = counter::distance(word, at.v, quota);
      return away == 0 || away > counter::window_mask(quota) / 2;
    }
    case Family::kCells:
      return word <= static_cast<uint64_t>(std::max<int64_t>(at.now_ns, 0)) + quota.capacity_max;
    case Family::kBan:
      return ban::unpack(word).end <= ban::highest_end(at.now_ns, quota);
    case Family::kNone:
      break;
  }
  return true;
}

[[gnu::always_inline]] constexpr bool plausible(Word word, const Instant& at,
                                                const Quota& quota) noexcept {
  if (family(quota) != Family::kBucket) [[unlikely]]
    return plausible_window(word, at, quota);
  return word <= at.v + quota.capacity_max;
}

// What an implausible word is brought down to: no key is ever barred for longer than the fullest
// true state would bar it.
constexpr Word healed_word(const Instant& at, const Quota& quota) noexcept {
  switch (family(quota)) {
    case Family::kBucket:
      return at.v + quota.capacity_max;
    case Family::kWindow:
      return window::highest_word(at.v, at.now_ns, quota);
    case Family::kCounter:  // its number has come round: the key was silent for very long
      return kEmptyWord;
    case Family::kCells:
      return static_cast<uint64_t>(std::max<int64_t>(at.now_ns, 0)) + quota.capacity_max;
    case Family::kBan:
    case Family::kNone:
      break;
  }
  return kEmptyWord;
}

}  // namespace brim

#endif  // BRIM_SRC_ALGO_STEP_H_
