// SPDX-License-Identifier: MIT
// State that does not fit in a slot's word: the sliding window log and concurrency leases.
//
// Each slot has `depth` cells of 8 bytes at its position in a side array. The slot's word then
// holds idle_at: no cell of the key expires later. It is raised by compare-and-swap *before* a cell
// is written and never lowered, and a slot is reclaimed only when idle_at <= clock - skew. So a
// take-over cleans nothing: all it finds has expired.
//
//   log    one cell a permit: {expiry = timestamp + span}. 0: never used. Free at n: expiry <= n.
//   lease  two cells, changed together: {expiry, holder}. A holder has its top bit set and a
//          timestamp has not, so each kind sees what the other left behind as free.
//
// `Context` provides, for one call on one slot:
//     uint64_t id()                  the key's
//     Slot load()                    the slot, one 16-byte load
//     bool raise(Slot seen, Word to) compare-and-swap of the slot: seen -> {seen.id, to}
//     int64_t now()                  the clock, read anew each time, > 0
//     void retry(uint32_t round)     a lost race: count it, pause
// The proof is with each class; tests/sim/cells_*.cc runs it. Layout edge: E2, for cells too.
//
// Rules of the log, and why. A call sees that the slot is its key's, then reads the clock (n), then
// looks at the cells, then sees or makes idle_at >= n + span, then takes free cells.
//   1. In one cell, two admissions of a key are at least a span apart: a cell is taken only if its
//      value is <= n, and becomes n + span. It falls only when taken permits are given back: an
//      undo restores what it replaced, a refund leaves the time of the refund, both not below what
//      was there before. So what a stopped call sees or finds by its old n is only stricter, and
//      equal values that come back (A, B, A) are harmless: the value is all there is to know.
//   2. Any two admissions of a key less than a span apart are in one slot: the key holds the slot
//      from n to n + span, since idle_at says so, and holds no other meanwhile.
//   3. So a half-open window of one span holds at most one admission a cell.
//   4. A call takes only the first `limit - live` free cells, live counted over all `depth`. They
//      end a prefix of q cells with q + (live behind q) <= limit. Of the calls admitted in a window
//      let one have the largest q. Every other is in that prefix, at most one a cell, or was among
//      the live behind it: at most `limit` in all. This needs no fixed limit. After a policy lowers
//      it, the bound is the new limit plus what calls that still have the old one take after a call
//      with the new one has looked; never more than the larger of the two. A changed span counts
//      for permits taken from then on; for a while a window is one of the smaller span.
//   5. A refusal is due to cells of the key, not of whoever has the slot now: the slot is loaded
//      again. A key that comes back has a larger idle_at, so an unchanged slot never changed hands.
//   6. A holder, or a time beyond what the policy can reach, is left over from another key or
//      corrupt, and free; unless the call was stopped and looks at what another key holds now. So
//      then too the slot is loaded again before anything is taken.
//   7. The cells are looked at one after another, so a permit that was given back and one that was
//      taken meanwhile may both be seen, though they never were there together. Before a refusal
//      the live cells are looked at again: those that are the same were there all together in
//      between. (A permit given back counts as there if one of the very same ns is taken in its
//      cell.)
// Not exact, on purpose: a call for several permits that loses a race gives back what it took, and
// for those microseconds others may be refused. A kill in between leaves at most its cost charged
// until it ages out. A refund that hits such a passing charge gives back what was not admitted: at
// most the refunded permits more are admitted.
#ifndef BRIM_SHM_CELLS_H_
#define BRIM_SHM_CELLS_H_

#include <algorithm>
#include <cstdint>

#include "shm/slot.h"

namespace brim::shm {

inline constexpr uint32_t kMaxCells = 256;       // of one slot
inline constexpr uint32_t kMaxCellRounds = 256;  // lost races in a row

// idle_at is raised by this share of a span more than needed, so that a busy key's slot changes
// seldom and not with each permit.
inline constexpr int kSlackShift = 4;

struct AtomicCell {
  uint64_t value;
};
static_assert(sizeof(AtomicCell) == 8);

struct HardwareCellAtomics : HardwareAtomics {
  // Acquire [E2]: the load of the slot that judges the cells must not move before it.
  static uint64_t load_cell(const AtomicCell* cell) noexcept {
    BRIM_SCHEDULE_POINT();
    return __atomic_load_n(&cell->value, __ATOMIC_ACQUIRE);
  }
  // Sequentially consistent [E2]: after the raise of idle_at in the order of all processes.
  static bool cas_cell(AtomicCell* cell, uint64_t expected, uint64_t desired) noexcept {
    BRIM_CHANGE_POINT();
    return __atomic_compare_exchange_n(&cell->value, &expected, desired, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
  }
  // Two cells, 16-byte aligned: see load128, cas128 [E2]. Mixed size only where a policy turned
  // from log to lease or back and a late call of the old kind meets cells of the new. Both accesses
  // are atomic, so the sanitizer is silent; what it can not judge is covered by the values: each
  // kind sees what the other left behind as free, whichever half was written last.
  static Pair load_pair(const AtomicCell* cell) noexcept {
    return load128(reinterpret_cast<const Pair*>(cell));
  }
  static bool cas_pair(AtomicCell* cell, Pair expected, Pair desired) noexcept {
    return cas128(reinterpret_cast<Pair*>(cell), expected, desired);
  }
};

enum class CellOutcome : uint8_t {
  kDecided,
  kMoved,      // the slot is not the key's (any more): find or insert it, then call again
  kContended,  // kMaxCellRounds was reached
};

// The word for a key whose last cell expires at `expiry`; what Call::step() stores when it inserts.
constexpr Word idle_word(uint64_t expiry, uint64_t span_ns) noexcept {
  return std::min(expiry + (span_ns >> kSlackShift), kValueMax);
}

namespace internal {

// False if the slot is not the key's.
template <class Context>
bool look(Context& context, Slot& slot) noexcept {
  slot = context.load();
  return slot.id == context.id() && !is_tentative(slot.word);
}

// Makes idle_at at least `expiry`, if the slot is still as seen. On failure the clock must be read
// again: the key may have lived elsewhere in between.
template <class Context>
bool raise_idle(Context& context, const Slot& seen, uint64_t expiry, uint64_t span_ns) noexcept {
  // Killed here: the slot stays the key's for a span longer than its cells need.
  return seen.word >= expiry || context.raise(seen, idle_word(expiry, span_ns));
}

// True for an expiry that no sound process can have written by now. Judged by a clock that was
// read after the cell: to a call that was stopped every newer cell looks impossible.
template <class Context>
bool is_garbage(Context& context, uint64_t expiry, uint64_t now, uint64_t horizon_ns) noexcept {
  if (expiry <= now || expiry - now <= horizon_ns) [[likely]]
    return false;
  const auto later = static_cast<uint64_t>(context.now());
  return expiry > later && expiry - later > horizon_ns;
}

// The time at which `cost` more fit below `limit`. REQUIRES: live.size() + cost > limit >= cost.
inline uint64_t time_of_room(uint64_t* live, uint32_t count, uint32_t cost,
                             uint32_t limit) noexcept {
  uint64_t* const last_to_go = live + (count + cost - limit - 1);
  std::nth_element(live, last_to_go, live + count);
  return *last_to_go;
}

}  // namespace internal

struct LogRule {
  uint32_t limit = 0;                  // permits in any half-open window of one span
  uint64_t span_ns = 1;                // see log_span
  uint64_t horizon_ns = ~uint64_t{0};  // no cell can be further ahead: largest span ever, + skew
};

// An event is live while it is less than period_ns old, or `inclusive`: not more than that.
constexpr uint64_t log_span(uint64_t period_ns, bool inclusive) noexcept {
  return period_ns + (inclusive ? 1 : 0);
}

struct LogResult {
  CellOutcome outcome = CellOutcome::kDecided;
  bool admitted = false;
  bool never = false;        // cost above the limit
  uint32_t live = 0;         // permits, after the call
  uint32_t remaining = 0;    // limit - live, or 0
  uint64_t now_ns = 0;       // the call's timestamp
  uint64_t retry_at_ns = 0;  // refused before, admitted at this time, if nothing else happens
  uint64_t reset_at_ns = 0;  // when the last permit expires; now_ns if there is none
  uint64_t taken[kMaxCells / 64] = {};  // acquire(): bits of the cells that were taken
};

struct RefundResult {
  CellOutcome outcome = CellOutcome::kDecided;
  uint32_t given = 0;  // permits
};

template <class Atomics, class Context>
class Log {
 public:
  // REQUIRES: the slot of `context` is the one at the position of `cells`.
  Log(AtomicCell* cells, uint32_t depth, const LogRule& rule, Context& context) noexcept
      : cells_(cells), depth_(std::min(depth, kMaxCells)), rule_(rule), context_(context) {
    rule_.limit = std::min(rule.limit, depth_);
  }

  LogResult acquire(uint32_t cost) noexcept {
    if (cost == 0) return peek(0);
    if (cost > rule_.limit) return never();
    for (uint32_t round = 0; round < kMaxCellRounds; ++round) {
      if (round != 0) context_.retry(round);
      Slot slot;
      if (!internal::look(context_, slot)) return failed(CellOutcome::kMoved);
      View view;
      scan(view);
      LogResult result = describe(view, cost);
      if (!result.admitted && still_live(view) + cost <= rule_.limit) continue;
      if ((!result.admitted || view.odd) && context_.load() != slot) continue;
      if (!result.admitted) return result;
      const uint64_t expiry = view.now + rule_.span_ns;
      if (!internal::raise_idle(context_, slot, expiry, rule_.span_ns)) continue;
      if (!take(view, cost, expiry)) continue;
      for (uint32_t i = 0; i < cost; ++i) {
        result.taken[view.free[i] / 64] |= uint64_t{1} << view.free[i] % 64;
      }
      result.live += cost;
      result.remaining -= cost;
      result.reset_at_ns = std::max(result.reset_at_ns, expiry);
      return result;
    }
    return failed(CellOutcome::kContended);
  }

  // What acquire(cost) would say; writes nothing.
  LogResult peek(uint32_t cost) noexcept {
    for (uint32_t round = 0; round < kMaxCellRounds; ++round) {
      View view;
      const CellOutcome outcome = scan_whole(view);
      if (outcome != CellOutcome::kDecided) return failed(outcome);
      const LogResult result = describe(view, cost);
      if (result.admitted || result.never || still_live(view) + cost > rule_.limit) return result;
      context_.retry(round);
    }
    return failed(CellOutcome::kContended);
  }

  // Gives back the newest `cost` live permits. What has aged out meanwhile is void. A permit that
  // another call gave back first does not count: the next newest is taken instead.
  RefundResult refund(uint32_t cost, bool until_now = false) noexcept {
    RefundResult result;
    uint64_t until = kValueMax;  // later permits were taken after a reset began
    for (uint32_t round = 0; round < kMaxCellRounds; ++round) {
      if (round != 0) context_.retry(round);
      View view;
      result.outcome = scan_whole(view);
      // A slot with live cells is pinned: it is another's only after all of them have expired.
      if (result.outcome == CellOutcome::kMoved && round != 0) {
        result.outcome = CellOutcome::kDecided;  // so nothing is left to give back
        return result;
      }
      if (result.outcome != CellOutcome::kDecided) return result;
      if (until_now && round == 0) until = std::max(view.last, view.now + rule_.span_ns);
      uint64_t* const end = view.live_at + view.live;
      view.live = static_cast<uint32_t>(
          std::remove_if(view.live_at, end, [until](uint64_t at) { return at > until; }) -
          view.live_at);
      if (give_back_newest(view, cost, result.given)) return result;
    }
    result.outcome = CellOutcome::kContended;
    return result;
  }

  // Gives back what an acquire() at `now_ns` took: its own cells, as far as they still hold it.
  RefundResult undo(const LogResult& taken) noexcept {
    Slot slot;
    if (!internal::look(context_, slot)) return {CellOutcome::kMoved, 0};
    const uint64_t expiry = taken.now_ns + rule_.span_ns;
    RefundResult result;
    // Read after the permits were taken; see refund().
    const uint64_t then{static_cast<uint64_t>(context_.now())};
    if (expiry <= then) return result;
    for (uint32_t i = 0; i < depth_; ++i) {
      if ((taken.taken[i / 64] >> i % 64 & 1) == 0) continue;
      // Killed here: the rest stays charged until it ages out.
      if (Atomics::cas_cell(cells_ + i, expiry, then)) ++result.given;
    }
    return result;
  }

  // Gives back every live permit, but none of those that are taken while it runs.
  RefundResult reset() noexcept { return refund(depth_, true); }

 private:
  template <class A, class C>
  friend class LogMerge;

  // The cells as seen at one time `now` that was read after the slot.
  struct View {
    uint64_t now;
    uint64_t last;             // expiry of the newest
    uint32_t live;             // cells; their expiries are in live_at
    bool odd;                  // some are free though not expired: see rule 6
    uint16_t free[kMaxCells];  // indices of the others, ascending
    uint64_t at[kMaxCells];
    uint64_t live_at[kMaxCells];
  };

  static LogResult failed(CellOutcome outcome) noexcept {
    LogResult result;
    result.outcome = outcome;
    return result;
  }
  static LogResult never() noexcept {
    LogResult result;
    result.never = true;
    return result;
  }

  void scan(View& view) noexcept {
    view.now = static_cast<uint64_t>(context_.now());
    view.last = view.now;
    view.live = 0;
    view.odd = false;
    uint32_t free = 0;
    for (uint32_t i = 0; i < depth_; ++i) {
      const uint64_t value = view.at[i] = Atomics::load_cell(cells_ + i);
      if (value <= view.now || value > kValueMax ||
          internal::is_garbage(context_, value, view.now, rule_.horizon_ns)) {
        view.free[free++] = static_cast<uint16_t>(i);
        view.odd = view.odd || value > view.now;
        continue;
      }
      view.live_at[view.live++] = value;
      view.last = std::max(view.last, value);
    }
  }

  // How many of the live cells hold the same still: see rule 7.
  uint32_t still_live(const View& view) const noexcept {
    uint32_t live = 0;
    for (uint32_t i = 0, free = 0; i < depth_; ++i) {
      if (free < depth_ - view.live && view.free[free] == i) {
        ++free;
      } else if (Atomics::load_cell(cells_ + i) == view.at[i]) {
        ++live;
      }
    }
    return live;
  }

  // A scan of cells that were the key's all the while.
  CellOutcome scan_whole(View& view) noexcept {
    for (uint32_t round = 0; round < kMaxCellRounds; ++round) {
      if (round != 0) context_.retry(round);
      Slot slot;
      if (!internal::look(context_, slot)) return CellOutcome::kMoved;
      scan(view);
      if (context_.load() == slot) return CellOutcome::kDecided;
    }
    return CellOutcome::kContended;
  }

  // Frees one cell that was seen with this expiry. Only permits of this key can have it: whoever
  // has the slot next writes later ones.
  bool give_back(View& view, uint64_t expiry, uint64_t since) noexcept {
    for (uint32_t i = 0; i < depth_; ++i) {
      if (view.at[i] != expiry) continue;
      view.at[i] = 0;  // not twice
      // Killed here: some of the permits are given back. A lost race: it was already.
      if (Atomics::cas_cell(cells_ + i, expiry, since)) return true;
    }
    return false;
  }

  // The newest of the permits seen, until `given` is `cost`. False: a race for one of them was
  // lost, so there may be others to give back.
  bool give_back_newest(View& view, uint32_t cost, uint32_t& given) noexcept {
    // Read after the cells: not before the time of any permit seen. See rule 1.
    const auto since = static_cast<uint64_t>(context_.now());
    uint64_t* const end = view.live_at + view.live;
    uint64_t* const newest = end - std::min(cost - given, view.live);
    std::nth_element(view.live_at, newest, end);
    bool whole = true;
    for (const uint64_t* expiry = newest; expiry != end; ++expiry) {
      if (*expiry <= since) continue;
      const bool done = give_back(view, *expiry, since);
      given += done ? 1 : 0;
      whole = whole && done;
    }
    return whole;
  }

  LogResult describe(View& view, uint32_t cost) const noexcept {
    LogResult result;
    result.live = view.live;
    result.remaining = rule_.limit - std::min(rule_.limit, view.live);
    result.admitted = cost <= result.remaining;
    result.never = cost > rule_.limit;
    result.now_ns = result.retry_at_ns = view.now;
    result.reset_at_ns = view.last;
    if (!result.admitted && !result.never) {
      result.retry_at_ns = internal::time_of_room(view.live_at, view.live, cost, rule_.limit);
    }
    return result;
  }

  // Takes `cost` of the first `limit - live` free cells, or none. In ascending order, and not one
  // more when too few are left: of the calls that race for them one gets all it wants.
  bool take(View& view, uint32_t cost, uint64_t expiry) noexcept {
    const uint32_t candidates = rule_.limit - view.live;
    uint32_t taken = 0;
    for (uint32_t i = 0; taken < cost && candidates - i >= cost - taken; ++i) {
      const uint16_t cell = view.free[i];
      // Killed here: before the last of them, up to `cost` permits are charged until they age out;
      // after it, the caller was admitted and not told.
      if (Atomics::cas_cell(cells_ + cell, view.at[cell], expiry)) view.free[taken++] = cell;
    }
    if (taken == cost) return true;
    while (taken != 0) {
      const uint16_t cell = view.free[--taken];
      // Killed here: the rest stays charged until it ages out. A lost race: it was refunded.
      Atomics::cas_cell(cells_ + cell, expiry, view.at[cell]);
    }
    return false;
  }

  AtomicCell* cells_;
  uint32_t depth_;
  LogRule rule_;
  Context& context_;
};

}  // namespace brim::shm

#endif  // BRIM_SHM_CELLS_H_
