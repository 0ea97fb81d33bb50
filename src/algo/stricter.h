// SPDX-License-Identifier: MIT
// Of two words of one key the one that admits less, or one made of both: at no time from now on
// does it admit more than either, and once it is idle both are. Both must be plausible.
//
// Not exact: a sliding counter's word whose window has not begun by this clock. What the other word
// counted in the window before its own is dropped, as that later window weighs it no more; until it
// begins, by the skew of two clocks at most, the other word alone may have admitted less. And a
// word further ahead than that stands alone.
#ifndef BRIM_SRC_ALGO_STRICTER_H_
#define BRIM_SRC_ALGO_STRICTER_H_

#include <algorithm>
#include <cstdint>

#include "src/algo/step.h"

namespace brim {

constexpr Word stricter_window(Word a, Word b, const Instant& at, const Quota& quota) noexcept {
  const window::State one = window::current(a, at.v, at.now_ns, quota);
  const window::State two = window::current(b, at.v, at.now_ns, quota);
  if (one.count == 0) return b;
  if (two.count == 0) return a;
  return window::pack({std::max(one.window, two.window), std::max(one.count, two.count)}, quota);
}

// The earlier of two states is moved on to the other's window, where its current count is the
// previous one.
constexpr Word stricter_counter(Word a, Word b, const Instant& at, const Quota& quota) noexcept {
  const counter::State first = counter::current(a, at.v, at.now_ns, quota);
  const counter::State second = counter::current(b, at.v, at.now_ns, quota);
  if ((first.prev | first.cur) == 0) return b;
  if ((second.prev | second.cur) == 0) return a;
  counter::State one = first.window < second.window ? second : first;
  const counter::State two = first.window < second.window ? first : second;
  const uint64_t apart = one.window - two.window;
  if (apart > 1) return counter::pack(one, quota);
  one.prev = std::max(one.prev, apart == 1 ? two.cur : two.prev);
  one.cur = std::max(one.cur, apart == 1 ? 0 : two.cur);
  return counter::pack(one, quota);
}

constexpr Word stricter_ban(Word a, Word b, const Instant& at, const Quota& quota) noexcept {
  if (ban::is_idle(a, at.now_ns, quota)) return b;
  if (ban::is_idle(b, at.now_ns, quota)) return a;
  ban::State one = ban::unpack(a);
  const ban::State two = ban::unpack(b);
  one.barred =
      ban::barred_for(a, at.now_ns, quota) != 0 || ban::barred_for(b, at.now_ns, quota) != 0;
  // A ban lasts until refusals that add up beside it are void too, at most one period longer: if it
  // ended before, the key would be idle while the other word still counts.
  one.end = std::max(one.end, two.end);
  one.level = std::max(one.level, two.level);
  one.refusals = std::max(one.refusals, two.refusals);
  return ban::pack(one);
}

constexpr Word stricter(Word a, Word b, const Instant& at, const Quota& quota) noexcept {
  switch (family(quota)) {
    case Family::kBucket:
    case Family::kCells:
      return std::max(a, b);
    case Family::kWindow:
      return stricter_window(a, b, at, quota);
    case Family::kCounter:
      return stricter_counter(a, b, at, quota);
    case Family::kBan:
      return stricter_ban(a, b, at, quota);
    case Family::kNone:
      break;
  }
  return a;
}

}  // namespace brim

#endif  // BRIM_SRC_ALGO_STRICTER_H_
