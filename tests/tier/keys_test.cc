// SPDX-License-Identifier: MIT
// What nodes together may admit, in virtual time: tier::Keys among nodes with uneven loads, a store
// that is slow, loses requests and answers, and is flushed, nodes that are cut off, and agents that
// die. Each run measures each key's true bucket and compares with the formula of
// docs/concepts/cluster.md; and with the same code made wrong, in ways that it must not be, each of
// which must break the formula or the count.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/tier/sim.h"

namespace brim::tier::sim {
namespace {

struct Result {
  bool within = true;
  bool exact = true;
  int64_t rounds = 0;
  double closest = 0;  // of the bound
};

Result run(const Settings& settings, int64_t length_ns) {
  World world(settings);
  world.run_until(world.now + kSecond);
  for (int i = 0; i < 3; ++i) world.vary_loads();
  world.run_until(world.now + length_ns);
  Result result;
  result.closest = world.most_over() / world.bound();
  result.within = result.closest <= 1;
  world.settle();
  result.exact = settings.flushes != 0 || world.exact();
  result.rounds = world.rounds;
  return result;
}

const std::vector<Settings>& scenarios() {
  static const std::vector<Settings> all = [] {
    std::vector<Settings> list;
    Settings calm;
    list.push_back(calm);
    list.push_back({.nodes = 3, .rate = 1000, .burst = 2});
    list.push_back({.nodes = 5, .rate = 20, .burst = 200, .keys = 5});
    list.push_back({.nodes = 3, .rate = 200, .burst = 50, .most_delay_ns = 150 * kMs});
    list.push_back({.nodes = 3, .rate = 50, .burst = 30, .lost = 0.2});
    list.push_back({.nodes = 3, .rate = 50, .burst = 30, .cut_ns = 3 * kSecond});
    list.push_back({.nodes = 5, .rate = 100, .burst = 10, .lost = 0.05, .dies = 0.01});
    list.push_back({.nodes = 2, .rate = 100, .burst = 100, .lost = 0.05, .flushes = 1});
    list.push_back({.nodes = 3, .rate = 200, .burst = 5, .lost = 0.1, .reclaim = true});
    return list;
  }();
  return all;
}

TEST(Keys, NodesStayWithinTheFormula) {
  int64_t rounds = 0;
  for (size_t i = 0; i < scenarios().size(); ++i) {
    double closest = 0;
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      Settings settings = scenarios()[i];
      settings.seed = seed;
      const Result result = run(settings, 40 * kSecond);
      EXPECT_TRUE(result.within) << "scenario " << i << " seed " << seed << ": the excess is "
                                 << result.closest << " of the bound";
      EXPECT_TRUE(result.exact) << "scenario " << i << " seed " << seed;
      rounds += result.rounds;
      closest = std::max(closest, result.closest);
    }
    RecordProperty("scenario" + std::to_string(i), std::to_string(closest));
  }
  EXPECT_GT(rounds, 100000);
}

bool found(const Mutant& mutant) {
  for (Settings settings : scenarios()) {
    settings.mutant = mutant;
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      settings.seed = seed;
      const Result result = run(settings, 40 * kSecond);
      if (!result.within || !result.exact) return true;
    }
  }
  return false;
}

TEST(Keys, WrongOnesAreFound) {
  EXPECT_TRUE(found({.clamp = true}));
  EXPECT_TRUE(found({.early = true}));
  EXPECT_TRUE(found({.differences = true}));
  EXPECT_TRUE(found({.forget_raise = true}));
}

// A use that others must hear of waits seven eighths of an interval, a round under way, and its own
// way to the store.
TEST(Keys, UsesAreToldInTime) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Settings settings{.seed = seed, .nodes = 3, .rate = 50, .burst = 40, .keys = 4};
    World world(settings);
    world.vary_loads();
    world.vary_loads();
    world.run_until(world.now + 60 * kSecond);
    EXPECT_GT(world.longest_wait_ns, settings.interval_ns / 8);
    EXPECT_LE(world.longest_wait_ns, 7 * settings.interval_ns / 8 + 2 * world.longest_round_ns);
  }
}

// Nodes that are there and do not ask take nothing away, where a burst lasts longer than it takes
// to hear of one's own use; else a part.
TEST(Keys, ALoneNodeHasTheWholeLimit) {
  for (const uint32_t burst : {2u, 20u, 500u}) {
    Settings settings{.nodes = 3, .rate = 200, .burst = burst, .keys = 1};
    World world(settings);
    world.run_until(world.now + kSecond);
    world.set_load(0, 0, 1000);
    world.run_until(world.now + 30 * kSecond);
    const double whole = burst + 30.0 * settings.rate;
    const double once = settings.rate * 1e-9 * static_cast<double>(settings.interval_ns) + 2;
    EXPECT_GE(static_cast<double>(world.admitted), whole - once) << burst;
    EXPECT_LE(world.most_over(), 0) << burst;
  }
}

// Whoever asks gets it: nodes that want more than the rate leave nothing of it.
// Nor does a store that forgot what it was told count it twice.
TEST(Keys, TheRateIsUsedUp) {
  for (const int flushes : {0, 3}) {
    Settings settings{.nodes = 3, .rate = 200, .burst = 40, .keys = 1, .flushes = flushes};
    World world(settings);
    world.run_until(world.now + kSecond);
    for (int node = 0; node < 3; ++node) world.set_load(node, 0, 50 + 100 * node);
    world.run_until(world.now + 60 * kSecond);
    EXPECT_GE(world.admitted, 60 * 200 * 97 / 100) << flushes;
    EXPECT_LE(static_cast<double>(world.admitted), 60 * 200 + 40 + world.bound()) << flushes;
  }
}

// Keys that are far from their limit, or not used, are left alone.
TEST(Keys, IdleKeysCostNothing) {
  Settings settings{.nodes = 2, .rate = 100, .burst = 100, .keys = 3};
  World world(settings);
  world.run_until(world.now + kSecond);
  world.burst(0, 0, 24);  // less than burst / 2N
  world.run_until(world.now + kSecond);
  EXPECT_EQ(world.rounds, 0);
  world.burst(0, 1, 25);
  world.run_until(world.now + kSecond);
  EXPECT_EQ(world.rounds, 1);
  world.burst(0, 2, 100);  // until it owes less than half again, and more and more rarely
  world.run_until(world.now + 100 * kSecond);
  EXPECT_LE(world.rounds, 8);
}

TEST(Keys, HoldBack) {
  EXPECT_EQ(hold_back(100, 2), 25u);
  EXPECT_EQ(hold_back(3, 2), 1u);
  EXPECT_EQ(hold_back(100, 0), 50u);
  EXPECT_EQ(hold_back(4000000000u, 1), 2000000000u);
}

}  // namespace
}  // namespace brim::tier::sim
