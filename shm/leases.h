// SPDX-License-Identifier: MIT
// Concurrency leases, in pairs of cells at a slot's position; read shm/cells.h first.
//
//   low   expiry, ns; of a free pair the last fence
//   high  holder {1 | known 1 | pid 22 | start time's low 24 | number 16}; of a free pair `low`
// A free pair is two equal times (0: never used) and not {fence, 0}: a log's cell must never go
// back to what it was before a permit (rule 1 of cells.h): a call of a log that had the slot
// before, and was stopped, would take the 0 that it remembers for the same 0.
//
// At most `limit` leases of a key are unexpired at any moment, whatever dies:
//   - A pair is taken only if it is free or expired, and changes only by a compare-and-swap of both
//     halves, so it holds one lease. Number and expiry make the value unique: {expiry, holder}
//     comes back only if one process acquires 2^16 leases between two that expire in the same ns.
//     So release and renewal by exact value hit one's own lease or nothing.
//   - The key stays in its slot until its last lease has expired, since idle_at is raised before a
//     lease is written or renewed. A call that stops between the two writes a lease that has
//     expired before anyone else can have the slot; it gets what it asked for, too late.
//   - `limit` may be below the depth, as in rule 4 of cells.h: a call takes only the first
//     `limit - live` free pairs. Those behind them that have expired are first made free, so that
//     no late renewal revives one.
// Time is each caller's clock: a holder must take its lease for lost kClockSkewNs before it ends,
// and a holder that overruns overlaps with the next. For that there is the fence, a number that
// grows with every lease of one pair. With a limit of 1 that never was another it grows with every
// lease of the key, through take-overs of slots too. With a larger limit leases that run side by
// side are in no order. reap() does not know the fence of the dead and puts it at now + skew:
// when two leases of one pair are reaped within that time, the fence may repeat.
#ifndef BRIM_SHM_LEASES_H_
#define BRIM_SHM_LEASES_H_

#include <algorithm>
#include <cstdint>

#include "shm/cells.h"

namespace brim::shm {

inline constexpr uint64_t kHolderBit = uint64_t{1} << 63;
inline constexpr uint32_t kMaxLeases = kMaxCells / 2;

// `known`: the pid can be judged, since it is of the pid namespace of the segment's creator.
constexpr uint64_t make_holder(bool known, uint32_t pid, uint64_t start_time,
                               uint32_t number) noexcept {
  return kHolderBit | (known ? uint64_t{1} << 62 : 0) | uint64_t{pid & 0x3fffff} << 40 |
         (start_time & 0xffffff) << 16 | (number & 0xffff);
}
constexpr bool holder_known(uint64_t holder) noexcept { return (holder >> 62 & 1) != 0; }
constexpr uint32_t holder_pid(uint64_t holder) noexcept {
  return static_cast<uint32_t>(holder >> 40) & 0x3fffff;
}
constexpr uint32_t holder_start(uint64_t holder) noexcept {
  return static_cast<uint32_t>(holder >> 16) & 0xffffff;
}

struct Lease {
  uint32_t index = 0;  // of the pair at the slot's position
  uint64_t expiry_ns = 0;
  uint64_t holder = 0;  // 0: no lease
  uint64_t fence = 0;
};

struct LeaseRule {
  uint32_t limit = 0;
  uint64_t horizon_ns = ~uint64_t{0};  // no lease can end further ahead: longest ever, + skew
};

struct LeaseResult {
  CellOutcome outcome = CellOutcome::kDecided;
  bool admitted = false;
  Lease lease;
  uint32_t live = 0;         // after the call
  uint64_t now_ns = 0;       // the call's timestamp
  uint64_t retry_at_ns = 0;  // refused: when expiries make room; a release may, before
  uint64_t reset_at_ns = 0;  // when the last lease expires; now_ns if there is none
};

template <class Atomics, class Context>
class Leases {
 public:
  // REQUIRES: the slot of `context` is the one at the position of `cells`, which is 16-byte
  // aligned.
  Leases(AtomicCell* cells, uint32_t depth, const LeaseRule& rule, Context& context) noexcept
      : cells_(cells), count_(std::min(depth, kMaxCells) / 2), rule_(rule), context_(context) {
    rule_.limit = std::min(rule.limit, count_);
  }

  // REQUIRES: `holder` from make_holder, with a number of its own; ttl_ns > 2 * skew, or right
  // after a reap the call may find itself contended, since its fence would not be below its end.
  LeaseResult acquire(uint64_t ttl_ns, uint64_t holder) noexcept {
    for (uint32_t round = 0; round < kMaxCellRounds; ++round) {
      if (round != 0) context_.retry(round);
      Slot slot;
      if (!internal::look(context_, slot)) return failed(CellOutcome::kMoved);
      View view;
      scan(view);
      LeaseResult result = describe(view);
      const bool room = view.live < rule_.limit;
      if (!room && still_live(view) < rule_.limit) continue;
      if ((!room || view.odd) && context_.load() != slot) continue;
      if (!room) return result;
      const uint64_t expiry = view.now + ttl_ns;
      if (!internal::raise_idle(context_, slot, expiry, ttl_ns)) continue;
      if (!free_expired(view) || !take(view, expiry, holder, result.lease)) continue;
      result.admitted = true;
      ++result.live;
      result.reset_at_ns = std::max(result.reset_at_ns, expiry);
      return result;
    }
    return failed(CellOutcome::kContended);
  }

  // What acquire() would see; writes nothing. `admitted` is whether there is room.
  LeaseResult peek() noexcept {
    for (uint32_t round = 0; round < kMaxCellRounds; ++round) {
      if (round != 0) context_.retry(round);
      Slot slot;
      if (!internal::look(context_, slot)) return failed(CellOutcome::kMoved);
      View view;
      scan(view);
      if (view.live >= rule_.limit && still_live(view) < rule_.limit) continue;
      if (context_.load() != slot) continue;
      LeaseResult result = describe(view);
      result.admitted = view.live < rule_.limit;
      return result;
    }
    return failed(CellOutcome::kContended);
  }

  // Moves the end of a lease to now + ttl_ns. kMoved: it is lost.
  CellOutcome renew(Lease& lease, uint64_t ttl_ns) noexcept {
    if (lease.index >= count_) return CellOutcome::kMoved;
    for (uint32_t round = 0; round < kMaxCellRounds; ++round) {
      if (round != 0) context_.retry(round);
      Slot slot;
      if (!internal::look(context_, slot)) return CellOutcome::kMoved;
      const auto now = static_cast<uint64_t>(context_.now());
      if (lease.expiry_ns <= now) return CellOutcome::kMoved;
      const uint64_t expiry = now + ttl_ns;
      if (!internal::raise_idle(context_, slot, expiry, ttl_ns)) continue;
      // Killed here: before, the lease ends as it would have; after, when nobody renews it.
      if (!Atomics::cas_pair(cells_ + 2 * lease.index, {lease.expiry_ns, lease.holder},
                             {expiry, lease.holder})) {
        return CellOutcome::kMoved;
      }
      lease.expiry_ns = expiry;
      return CellOutcome::kDecided;
    }
    return CellOutcome::kContended;
  }

  // Ends a lease. False: it had ended; true also if it had expired and nobody took its place. Needs
  // no look at the slot: the value is nobody else's.
  static bool release(AtomicCell* cells, uint32_t depth, const Lease& lease) noexcept {
    if (lease.holder == 0 || lease.index >= std::min(depth, kMaxCells) / 2) return false;
    // Killed here: before, the lease ends when it expires.
    return Atomics::cas_pair(cells + 2 * lease.index, {lease.expiry_ns, lease.holder},
                             {lease.fence, lease.fence});
  }

  // Ends the leases whose holder dead() knows to be gone; returns how many. Not for the request
  // path: dead() asks the kernel. `skew_ns`: what clocks may differ by; no fence is further ahead.
  template <class Dead>
  uint32_t reap(uint64_t skew_ns, Dead dead) noexcept {
    uint32_t ended = 0;
    for (uint32_t i = 0; i < count_; ++i) {
      Slot slot;
      if (!internal::look(context_, slot)) break;
      const auto now = static_cast<uint64_t>(context_.now());
      const Pair seen = Atomics::load_pair(cells_ + 2 * i);
      if (!occupied(seen, now) || !holder_known(seen.high) || !dead(seen.high)) continue;
      // A log that has the slot now may have put its own half beside a dead holder.
      if (context_.load() != slot) continue;
      // Read after the pair, so that it is not below the lease's fence. Nor is the expiry.
      const uint64_t latest = static_cast<uint64_t>(context_.now()) + skew_ns;
      const uint64_t fence = std::min(seen.low - 1, latest);
      // Killed here: the next caller finds the dead again.
      if (Atomics::cas_pair(cells_ + 2 * i, seen, {fence, fence})) ++ended;
    }
    return ended;
  }

 private:
  struct View {
    uint64_t now;
    uint64_t last;  // expiry of the last
    uint32_t live;
    bool odd;  // as in cells.h
    uint32_t free_count;
    uint16_t free[kMaxLeases];  // indices, ascending
    Pair at[kMaxLeases];
    uint64_t live_at[kMaxLeases];
  };

  static bool occupied(const Pair& pair, uint64_t now) noexcept {
    return (pair.high & kHolderBit) != 0 && pair.low > now;
  }

  static LeaseResult failed(CellOutcome outcome) noexcept {
    LeaseResult result;
    result.outcome = outcome;
    return result;
  }

  void scan(View& view) noexcept {
    view.now = static_cast<uint64_t>(context_.now());
    view.last = view.now;
    view.live = view.free_count = 0;
    view.odd = false;
    for (uint32_t i = 0; i < count_; ++i) {
      const Pair pair = view.at[i] = Atomics::load_pair(cells_ + 2 * i);
      if (!occupied(pair, view.now) || pair.low > kValueMax ||
          internal::is_garbage(context_, pair.low, view.now, rule_.horizon_ns)) {
        view.free[view.free_count++] = static_cast<uint16_t>(i);
        view.odd = view.odd || pair.low > view.now ||
                   ((pair.high & kHolderBit) == 0 && pair.high > view.now);
        continue;
      }
      view.live_at[view.live++] = pair.low;
      view.last = std::max(view.last, pair.low);
    }
  }

  // How many of the live leases are there still, renewed or not: see rule 7 of cells.h.
  uint32_t still_live(const View& view) const noexcept {
    uint32_t live = 0;
    for (uint32_t i = 0, free = 0; i < count_; ++i) {
      if (free < view.free_count && view.free[free] == i) {
        ++free;
      } else if (const Pair pair = Atomics::load_pair(cells_ + 2 * i);
                 pair.high == view.at[i].high && occupied(pair, view.now)) {
        ++live;
      }
    }
    return live;
  }

  LeaseResult describe(View& view) const noexcept {
    LeaseResult result;
    result.live = view.live;
    result.now_ns = result.retry_at_ns = view.now;
    result.reset_at_ns = view.last;
    if (rule_.limit == 0) {
      result.retry_at_ns = kValueMax;
    } else if (view.live >= rule_.limit) {
      result.retry_at_ns = internal::time_of_room(view.live_at, view.live, 1, rule_.limit);
    }
    return result;
  }

  // Ends expired leases behind the candidates. False: somebody was faster.
  bool free_expired(const View& view) noexcept {
    for (uint32_t i = rule_.limit - view.live; i < view.free_count; ++i) {
      const Pair seen = view.at[view.free[i]];
      if ((seen.high & kHolderBit) == 0) continue;
      // Killed here: a lease that had expired is gone.
      if (!Atomics::cas_pair(cells_ + 2 * view.free[i], seen, {seen.low, seen.low})) return false;
    }
    return true;
  }

  bool take(const View& view, uint64_t expiry, uint64_t holder, Lease& lease) noexcept {
    for (uint32_t i = 0; i < rule_.limit - view.live; ++i) {
      const uint16_t index = view.free[i];
      const Pair seen = view.at[index];
      // Both an expiry and a fence are below what comes after them.
      const uint64_t fence = std::max(view.now, seen.low + 1);
      const bool late = fence >= expiry;  // ... so this call's clock is of long ago
      if (late && !internal::is_garbage(context_, seen.low, view.now, rule_.horizon_ns)) continue;
      // Killed here: before, nothing; after, a lease that nobody knows of ends when it expires.
      if (!Atomics::cas_pair(cells_ + 2 * index, seen, {expiry, holder})) continue;
      lease = {index, expiry, holder, late ? view.now : fence};
      return true;
    }
    return false;
  }

  AtomicCell* cells_;
  uint32_t count_;
  LeaseRule rule_;
  Context& context_;
};

}  // namespace brim::shm

#endif  // BRIM_SHM_LEASES_H_
