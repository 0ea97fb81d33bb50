// SPDX-License-Identifier: MIT
#include "shm/cells.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "shm/leases.h"
#include "tests/unit/support.h"

namespace brim::shm {
namespace {

using test::Random;

constexpr uint64_t kId = 77;

// One slot with its cells, and a clock that is set by hand.
struct Place {
  alignas(16) AtomicSlot slot{{kId, 1}};
  alignas(16) AtomicCell cells[64] = {};
  int64_t clock = 1000000;
  uint32_t raises = 0;

  uint64_t id() const { return kId; }
  Slot load() const { return HardwareCellAtomics::load(&slot); }
  bool raise(Slot seen, Word to) {
    ++raises;
    return HardwareCellAtomics::cas(&slot, seen, {seen.id, to});
  }
  int64_t now() const { return clock; }
  void retry(uint32_t) { ADD_FAILURE() << "nobody else is here"; }
  uint64_t time() const { return static_cast<uint64_t>(clock); }
};
using TestLog = Log<HardwareCellAtomics, Place>;

// Loads before which something else happens, once.
struct Interrupted : HardwareCellAtomics {
  static inline const AtomicCell* before = nullptr;
  static inline void (*act)(AtomicCell*) = nullptr;
  static void arrive(const AtomicCell* cell) {
    if (cell == std::exchange(before, cell == before ? nullptr : before)) {
      act(const_cast<AtomicCell*>(cell));
    }
  }
  static uint64_t load_cell(const AtomicCell* cell) {
    arrive(cell);
    return HardwareCellAtomics::load_cell(cell);
  }
  static Pair load_pair(const AtomicCell* cell) {
    arrive(cell);
    return HardwareCellAtomics::load_pair(cell);
  }
};
// The same place, where races are lost.
struct Busy : Place {
  void retry(uint32_t) {}
};
using TestLeases = Leases<HardwareCellAtomics, Place>;

// The definition (semantics 3.7): live events are those with a timestamp > t - P, or >= if
// inclusive; admitted iff live + cost <= limit.
struct Model {
  uint32_t limit;
  int64_t period;
  bool inclusive;
  std::deque<int64_t> events;  // ascending

  bool live(int64_t event, int64_t t) const {
    return inclusive ? event >= t - period : event > t - period;
  }
  uint32_t count(int64_t t) const {
    return static_cast<uint32_t>(
        std::count_if(events.begin(), events.end(), [&](int64_t event) { return live(event, t); }));
  }
  bool admits(int64_t t, uint32_t cost) const { return count(t) + cost <= limit; }
  void add(int64_t t, uint32_t cost) {
    while (!events.empty() && !live(events.front(), t)) events.pop_front();
    events.insert(events.end(), cost, t);
  }
  uint32_t give_back(int64_t t, uint32_t cost) {
    const uint32_t given = std::min(cost, count(t));
    events.erase(events.end() - given, events.end());
    return given;
  }
};

// Goal: each answer, and the promised time, is what the definition says, on both edges. Method:
// random histories; a refused call is asked again 1 ns before the promised time and at it.
TEST(CellsLog, EqualsTheModel) {
  Random random(7);
  int decisions = 0, refused = 0;
  while (decisions < test::scaled(100000)) {
    Place place;
    const auto limit = static_cast<uint32_t>(random.between(1, 12));
    const auto depth = limit + static_cast<uint32_t>(random.below(8));
    const int64_t period = random.between(1, 60);
    Model model{limit, period, random.one_in(2), {}};
    const LogRule rule{limit, log_span(static_cast<uint64_t>(period), model.inclusive)};
    TestLog log(place.cells, depth, rule, place);
    for (int i = 0; i < 60; ++i, ++decisions) {
      place.clock += random.one_in(3) ? 0 : random.between(0, random.one_in(4) ? 2 * period : 6);
      const auto cost =
          static_cast<uint32_t>(random.between(0, limit + (random.one_in(9) ? 2 : 0)));
      if (random.one_in(8)) {
        ASSERT_EQ(log.refund(cost).given, model.give_back(place.clock, cost));
      }
      const Place before = place;
      const bool fits = model.admits(place.clock, cost);
      const LogResult peeked = log.peek(cost);
      const LogResult result = log.acquire(cost);
      ASSERT_EQ(result.outcome, CellOutcome::kDecided);
      ASSERT_EQ(result.admitted, fits);
      ASSERT_EQ(peeked.admitted, fits);
      ASSERT_EQ(result.never, cost > limit);
      if (fits) model.add(place.clock, cost);
      if (result.never) continue;
      ASSERT_EQ(result.live, model.count(place.clock));
      ASSERT_EQ(result.remaining, limit - model.count(place.clock));
      int64_t reset = place.clock;
      if (model.count(place.clock) != 0) {
        reset = model.events.back() + period + (model.inclusive ? 1 : 0);
      }
      ASSERT_EQ(result.reset_at_ns, static_cast<uint64_t>(reset));
      ASSERT_GE(place.slot.pair.high + (cost == 0 ? ~uint64_t{0} >> 1 : 0), result.reset_at_ns);
      if (fits) continue;
      ++refused;
      // A refusal writes nothing.
      ASSERT_EQ(place.raises, before.raises);
      for (int c = 0; c < 64; ++c) ASSERT_EQ(place.cells[c].value, before.cells[c].value);
      const auto retry = static_cast<int64_t>(result.retry_at_ns);
      ASSERT_FALSE(model.admits(retry - 1, cost));
      ASSERT_TRUE(model.admits(retry, cost));
      if (!random.one_in(3)) continue;
      place.clock = retry - 1;
      ASSERT_FALSE(log.acquire(cost).admitted);
      place.clock = retry;
      ASSERT_TRUE(log.acquire(cost).admitted);
      model.add(retry, cost);
    }
  }
  EXPECT_GT(refused, test::scaled(10000));
}

TEST(CellsLog, AboveTheLimitIsNever) {
  Place place;
  TestLog log(place.cells, 4, {3, 100}, place);
  EXPECT_TRUE(log.acquire(4).never);
  EXPECT_FALSE(log.acquire(4).admitted);
  EXPECT_EQ(place.raises, 0u);
}

TEST(CellsLog, ALowerLimitCountsWhatLiesBehindIt) {
  Place place;
  ASSERT_TRUE(TestLog(place.cells, 4, {4, 100}, place).acquire(3).admitted);
  place.clock += 50;
  ASSERT_TRUE(TestLog(place.cells, 4, {4, 100}, place).acquire(1).admitted);
  TestLog lower(place.cells, 4, {2, 100}, place);
  const LogResult refused = lower.acquire(1);
  EXPECT_FALSE(refused.admitted);
  EXPECT_EQ(refused.live, 4u);
  EXPECT_EQ(refused.remaining, 0u);
  EXPECT_EQ(refused.retry_at_ns, 1000100u);
  place.clock = 1000100;
  EXPECT_TRUE(lower.acquire(1).admitted);
  EXPECT_FALSE(lower.acquire(1).admitted);
}

TEST(CellsLog, ASlotOfAnotherKeyIsLeftAlone) {
  Place place;
  place.slot.pair.low = kId + 1;
  TestLog log(place.cells, 4, {4, 100}, place);
  EXPECT_EQ(log.acquire(1).outcome, CellOutcome::kMoved);
  EXPECT_EQ(log.refund(1).outcome, CellOutcome::kMoved);
  EXPECT_EQ(place.cells[0].value, 0u);
}

// Where another call gives a permit back between this one's look and its compare-and-swap.
struct RacedPlace : Place {
  int readings = -1;  // of the clock, until the other is there
  uint32_t retries = 0;

  int64_t now() {
    if (--readings == 0) cells[2].value = time();
    return clock;
  }
  void retry(uint32_t) { ++retries; }
};

TEST(CellsLog, TwoRefundsGiveTwoPermitsBack) {
  RacedPlace place;
  Log<HardwareCellAtomics, RacedPlace> log(place.cells, 4, {4, 100}, place);
  for (int i = 0; i < 3; ++i, ++place.clock) ASSERT_TRUE(log.acquire(1).admitted);
  place.readings = 2;
  EXPECT_EQ(log.refund(1).given, 1u);
  EXPECT_EQ(place.retries, 1u);
  EXPECT_EQ(log.peek(0).live, 1u);
  // Nothing is left for this one.
  place.cells[0].value = place.cells[1].value = 0;
  place.cells[2].value = place.time() + 100;
  place.readings = 2;
  EXPECT_EQ(log.refund(1).given, 0u);
  EXPECT_EQ(log.peek(0).live, 0u);
}

TEST(CellsLog, AnImpossibleTimeIsFree) {
  Place place;
  place.cells[0].value = place.time() + 1000000;
  place.cells[1].value = make_holder(true, 1, 2, 3);
  TestLog log(place.cells, 2, {2, 100, 200}, place);
  EXPECT_TRUE(log.acquire(2).admitted);
  EXPECT_EQ(log.peek(1).live, 2u);
}

TEST(CellsLog, ResetGivesAllBack) {
  Place place;
  TestLog log(place.cells, 8, {8, 100}, place);
  ASSERT_TRUE(log.acquire(5).admitted);
  place.clock += 10;
  ASSERT_TRUE(log.acquire(3).admitted);
  EXPECT_EQ(log.reset().given, 8u);
  EXPECT_EQ(log.peek(0).reset_at_ns, place.time());
  EXPECT_TRUE(log.acquire(8).admitted);
}

struct RacingPlace : Place {
  void retry(uint32_t) {}
};
struct RacingAtomics : HardwareCellAtomics {
  static inline std::function<void()> before_next_change;
  static bool cas_cell(AtomicCell* cell, uint64_t expected, uint64_t desired) noexcept {
    if (before_next_change) std::exchange(before_next_change, nullptr)();
    return HardwareCellAtomics::cas_cell(cell, expected, desired);
  }
};

// Goal: a reset that lost a race looks again, but leaves what was taken after it began.
// Method: another call refunds a permit and takes two others right before its first change.
TEST(CellsLog, ResetLeavesWhatIsTakenMeanwhile) {
  RacingPlace place;
  const LogRule rule{8, 100};
  Log<RacingAtomics, RacingPlace> log(place.cells, 8, rule, place);
  ASSERT_TRUE(log.acquire(4).admitted);
  RacingAtomics::before_next_change = [&] {
    place.cells[0].value = place.time();
    place.clock += 10;
    Log<HardwareCellAtomics, RacingPlace> other(place.cells, 8, rule, place);
    EXPECT_TRUE(other.acquire(2).admitted);
  };
  EXPECT_EQ(log.reset().given, 3u);
  EXPECT_EQ(log.peek(0).live, 2u);
  EXPECT_EQ(log.reset().given, 2u);
}

TEST(CellsLease, HolderKeepsItsParts) {
  constexpr uint64_t holder = make_holder(true, 4194303, 0xabcdef, 0xffff);
  static_assert(holder_known(holder) && holder_pid(holder) == 4194303);
  static_assert(holder_start(holder) == 0xabcdef && !holder_known(make_holder(false, 1, 1, 1)));
  static_assert(make_holder(false, 0, 0, 0) != 0);
}

// Goal: never more than the limit, and each end of a lease makes room at once and exactly.
TEST(CellsLease, EqualsTheModel) {
  Random random(8);
  for (int run = 0; run < test::scaled(2000); ++run) {
    Place place;
    const auto limit = static_cast<uint32_t>(random.between(1, 6));
    const uint64_t ttl = static_cast<uint64_t>(random.between(50, 400));
    TestLeases leases(place.cells, 2 * limit + 2 * static_cast<uint32_t>(random.below(3)), {limit},
                      place);
    std::vector<Lease> held;
    uint64_t fence = 0;
    for (uint32_t i = 0; i < 40; ++i) {
      place.clock += random.between(0, 90);
      std::erase_if(held, [&](const Lease& lease) { return lease.expiry_ns <= place.time(); });
      const uint64_t which = held.empty() ? 0 : random.below(held.size());
      if (!held.empty() && random.one_in(4)) {
        ASSERT_TRUE(TestLeases::release(place.cells, 64, held[which]));
        ASSERT_FALSE(TestLeases::release(place.cells, 64, held[which]));
        held.erase(held.begin() + static_cast<ptrdiff_t>(which));
      } else if (!held.empty() && random.one_in(4)) {
        const Lease old = held[which];
        ASSERT_EQ(leases.renew(held[which], ttl), CellOutcome::kDecided);
        ASSERT_EQ(held[which].expiry_ns, place.time() + ttl);
        if (held[which].expiry_ns != old.expiry_ns) {
          ASSERT_FALSE(TestLeases::release(place.cells, 64, old));
        }
      }
      const LeaseResult result = leases.acquire(ttl, make_holder(true, 9, 9, i));
      ASSERT_EQ(result.admitted, held.size() < limit);
      if (result.admitted) {
        held.push_back(result.lease);
        ASSERT_TRUE(limit != 1 || result.lease.fence > fence);
        fence = result.lease.fence;
      } else {
        uint64_t least = ~uint64_t{0};
        for (const Lease& lease : held) least = std::min(least, lease.expiry_ns);
        ASSERT_EQ(result.retry_at_ns, least);
      }
      ASSERT_EQ(leases.peek().live, held.size());
      for (const Lease& lease : held) ASSERT_GE(place.slot.pair.high, lease.expiry_ns);
    }
  }
}

TEST(CellsLease, ALostLeaseIsNotRenewed) {
  Place place;
  TestLeases leases(place.cells, 2, {1}, place);
  Lease first = leases.acquire(10, make_holder(true, 1, 1, 1)).lease;
  place.clock += 10;
  EXPECT_EQ(leases.renew(first, 10), CellOutcome::kMoved);
  const Lease second = leases.acquire(10, make_holder(true, 1, 1, 2)).lease;
  EXPECT_NE(second.holder, 0u);
  EXPECT_GT(second.fence, first.fence);
  EXPECT_FALSE(TestLeases::release(place.cells, 2, first));
  EXPECT_EQ(leases.peek().live, 1u);
}

TEST(CellsLease, OnlyTheDeadAreReaped) {
  Place place;
  TestLeases leases(place.cells, 6, {3}, place);
  ASSERT_TRUE(leases.acquire(100, make_holder(true, 1, 1, 1)).admitted);
  ASSERT_TRUE(leases.acquire(100, make_holder(true, 2, 1, 1)).admitted);
  ASSERT_TRUE(leases.acquire(100, make_holder(false, 1, 1, 1)).admitted);
  EXPECT_EQ(leases.reap(5, [](uint64_t holder) { return holder_pid(holder) == 1; }), 1u);
  EXPECT_EQ(leases.peek().live, 2u);
  EXPECT_TRUE(leases.acquire(100, make_holder(true, 3, 1, 1)).admitted);
}

// Goal: a call is refused only for permits that were there together. Method: between the looks at
// two cells the permit in the first is given back and one is taken in the second, so at no moment
// was there more than one of the two that are allowed.
TEST(CellsLog, CountsOnlyWhatWasThereTogether) {
  for (const bool peek : {false, true}) {
    Busy place;
    place.slot.pair.high = place.time() + 1000;
    place.cells[0].value = place.time() + 100;
    Interrupted::before = place.cells + 1;
    Interrupted::act = [](AtomicCell* second) {
      second[0].value = second[-1].value + 1;
      second[-1].value = 1000000;  // the time at which it was given back
    };
    Log<Interrupted, Busy> log(place.cells, 2, {2, 500}, place);
    EXPECT_TRUE((peek ? log.peek(1) : log.acquire(1)).admitted);
  }
}

TEST(CellsLeases, CountsOnlyWhatWasThereTogether) {
  for (const bool peek : {false, true}) {
    Busy place;
    place.slot.pair.high = place.time() + 1000;
    place.cells[0].value = place.time() + 100;
    place.cells[1].value = make_holder(true, 1, 1, 1);
    Interrupted::before = place.cells + 2;
    Interrupted::act = [](AtomicCell* second) {
      second[0].value = second[-2].value;
      second[1].value = make_holder(true, 2, 2, 2);
      second[-2].value = second[-1].value = 1000000;  // the fence
    };
    Leases<Interrupted, Busy> leases(place.cells, 4, {2}, place);
    EXPECT_TRUE(peek ? leases.peek().admitted
                     : leases.acquire(500, make_holder(true, 3, 3, 3)).admitted);
  }
}

}  // namespace
}  // namespace brim::shm
