// SPDX-License-Identifier: MIT
// Damage of slots and cells, planted one kind at a time: verify names it, repairs it where it
// says so, and then finds nothing.
#include <sys/stat.h>

#include "shm/leases.h"
#include "src/verify_cells.h"
#include "tests/verify/support.h"

namespace brim::test {
namespace {

// Goal: a sound segment has no finding, whatever its policies. Method: ordinary calls of each kind.
TEST_F(VerifyTest, SoundSegmentHasNoFinding) {
  open(500, {{"p", "10/s burst 3"},
             {"w", "fixed-window 5/m; sliding-log 8/m"},
             {"c", "sliding-counter 9/m ban 2 in 1m for 10m"},
             {"l", "concurrency 3 ttl 1m"}});
  for (int i = 0; i < 60; ++i) {
    for (const char* name : {"p", "w", "c"}) {
      for (int n = 0; n < 12; ++n) (void)policy(name).try_acquire("key" + std::to_string(i));
    }
    (void)policy("l").acquire_lease("key" + std::to_string(i));
    clock_->fetch_add(100 * kMs);
  }
  const Findings found = run();
  EXPECT_TRUE(found.findings.empty()) << found.all();
  EXPECT_GT(found.report.used, 200u);  // the clock runs: some are idle and give their slots up
  EXPECT_EQ(found.report.checked, found.report.used);
}

TEST_F(VerifyTest, MalformedSlot) {
  open(16, {{"p", "10/s burst 3"}});
  raw_->set(3, {shm::kVirginId, 5});
  expect_repair("malformed_slot");
  EXPECT_EQ(raw_->get(3), (shm::Slot{shm::kFreeId, 0})) << "never virgin again";
  raw_->set(4, {shm::kFreeId, ~uint64_t{0}});
  expect_repair("malformed_slot");
}

TEST_F(VerifyTest, IdsOfNoKeyPolicyOrPart) {
  open(16, {{"p", "10/s burst 3"}});
  raw_->set(3, {shm::make_id(0, 1, 2), full()});
  expect_repair("malformed_id");
  raw_->set(3, {shm::make_id(9, 12345), full()});
  expect_repair("undefined_policy");
  raw_->set(3, {shm::make_id(4095, 12345), full()});
  expect_repair("undefined_policy");
  raw_->set(3, {shm::make_id(0, 12345, 3), full()});
  expect_repair("undefined_part");
  EXPECT_EQ(raw_->get(3).id, shm::kFreeId);
  EXPECT_EQ(raw_->sum(shm::Event::kDuplicate), 0u) << "none of them was a copy";
}

// Goal: F27 seen from outside: an old tentative is a note, a young one nothing.
TEST_F(VerifyTest, F27DeadTentative) {
  open(16, {{"p", "10/s burst 3"}});
  const uint64_t dropped = raw_->sum(shm::Event::kDropped);
  raw_->set(3, {id("key"), make_tentative(1, 2, now() - 1000 * kMs)});
  EXPECT_TRUE(run(true).findings.empty());
  EXPECT_EQ(run().report.tentative, 1u);
  clock_->fetch_add(kMs);
  EXPECT_EQ(run().report.errors, 0u);
  expect_repair("dead_tentative");
  EXPECT_EQ(raw_->sum(shm::Event::kDropped), dropped + 1);
}

// Goal: F34 by repair instead of by a caller: the word is brought to the ceiling and counted.
TEST_F(VerifyTest, F34ImpossibleWord) {
  open(64, {{"p", "10/s burst 5 ahead 0s"}, {"w", "fixed-window 5/m"}});
  (void)policy().try_acquire("key");
  (void)policy("w").try_acquire("key");
  const uint64_t at = raw_->find(0, "key");
  const uint64_t healed = raw_->sum(shm::Event::kHealed);
  raw_->set(at,
            {id("key"), full() + (raw_->reading(0, now() + kSecond) - raw_->reading(0, now()))});
  const Findings found = expect_repair("impossible_word");
  EXPECT_EQ(found.findings[0].slot, at);
  EXPECT_EQ(found.findings[0].key, "key");
  EXPECT_EQ(raw_->get(at).word, full());
  EXPECT_EQ(raw_->sum(shm::Event::kHealed), healed + 1);
  EXPECT_EQ(policy().peek("key").remaining, 0u);
  raw_->set(at, {id("key"), full()});
  EXPECT_TRUE(run().findings.empty()) << "the fullest possible word is no damage";
  raw_->set(raw_->find(1, "key"), {id("key", 0, 1), kValueMax});
  expect_repair("impossible_word");
}

TEST_F(VerifyTest, WrappedCounterIsANote) {
  open(64, {{"p", "sliding-counter 9/m"}});
  (void)policy().try_acquire("key");
  const uint64_t at = raw_->find(0, "key");
  const Quota quota = raw_->quota(0);
  raw_->set(at,
            {id("key"), counter::pack({raw_->reading(0, now()) + 1000, 1, 1, 0, false}, quota)});
  EXPECT_EQ(run().report.errors, 0u);
  expect_repair("wrapped_counter");
}

// Goal: a copy behind an unused slot is reachable again after the repair, with its debt.
TEST_F(VerifyTest, UnreachableBehindAVirginSlot) {
  open(64, {{"p", "10/s burst 3"}});
  const std::vector<uint64_t> window = raw_->window("key");
  all_free();
  set_reach(3);
  raw_->set(window[2], {});
  plant(window[6], id("key"), full(), "key");
  EXPECT_EQ(policy().peek("key").remaining, 3u);
  const Findings found = expect_repair("unreachable");
  EXPECT_EQ(found.findings[0].slot, window[6]);
  EXPECT_EQ(policy().peek("key").remaining, 0u);
  EXPECT_EQ(raw_->get(window[2]), (shm::Slot{shm::kFreeId, 0}));
}

// Goal: however many unused slots lie before a copy, one finding says so and one repair mends it.
TEST_F(VerifyTest, UnreachableBehindManyVirginSlots) {
  open(64, {{"p", "10/s burst 3"}});
  const std::vector<uint64_t> window = raw_->window("key");
  all_free();
  set_reach(window.size() / shm::kSlotsPerGroup - 1);
  for (size_t i = 0; i < 40; ++i) raw_->set(window[i], {});
  plant(window[40], id("key"), full(), "key");
  EXPECT_EQ(policy().peek("key").remaining, 3u);
  expect_repair("unreachable");
  EXPECT_EQ(policy().peek("key").remaining, 0u);
}

TEST_F(VerifyTest, UnreachableBeyondReach) {
  open(64, {{"p", "10/s burst 3"}});
  all_free();
  set_reach(0);
  plant(raw_->window("key")[9], id("key"), full(), "key");
  EXPECT_EQ(policy().peek("key").remaining, 3u);
  expect_repair("unreachable");
  EXPECT_EQ(segment().stored_reach(), 2u);
  EXPECT_EQ(policy().peek("key").remaining, 0u);
}

TEST_F(VerifyTest, UnreachableOutsideTheWindow) {
  open(64, {{"p", "10/s burst 3"}}, 2);
  all_free();
  set_reach(1);
  const std::vector<uint64_t> window = raw_->window("key");
  const uint64_t duplicates = raw_->sum(shm::Event::kDuplicate);
  uint64_t outside = 0;
  while (std::find(window.begin(), window.end(), outside) != window.end()) ++outside;
  plant(outside, id("key"), full(), "key");
  expect_repair("unreachable");
  EXPECT_EQ(raw_->get(outside), (shm::Slot{shm::kFreeId, 0}));
  EXPECT_EQ(raw_->sum(shm::Event::kDuplicate), duplicates + 1);
}

// Goal: nothing is said of the place of a key whose name is cut, or not kept.
TEST_F(VerifyTest, UnknownNamesAreCountedAsUnchecked) {
  open(64, {{"p", "10/s burst 3"}}, 0, 8);
  (void)policy().try_acquire("a key that is longer than eight bytes");
  (void)policy().try_acquire("short");
  const Findings found = run();
  EXPECT_TRUE(found.findings.empty());
  EXPECT_EQ(found.report.used, 2u);
  EXPECT_EQ(found.report.checked, 1u);
}

class VerifyCells : public VerifyTest {
 protected:
  shm::AtomicCell* cells(uint64_t position) const {
    return segment().cells() + position * segment().header().cells_per_key;
  }
};

// Goal: a log's cell that outlives its slot is found; the repaired slot lasts as long.
TEST_F(VerifyCells, CellBeyondIdle) {
  open(64, {{"p", "sliding-log 4/m"}});
  (void)policy().try_acquire("key", 2);
  const uint64_t at = raw_->find(0, "key");
  const uint64_t expiry = static_cast<uint64_t>(now() + 60 * kSecond);
  raw_->set(at, {id("key"), expiry - 10 * kMs});
  expect_repair("cell_beyond_idle");
  EXPECT_GE(raw_->get(at).word, expiry);
  EXPECT_EQ(policy().peek("key").remaining, 2u);
  raw_->set(at, {id("key"), expiry - kMs});
  EXPECT_TRUE(run().findings.empty()) << "within what clocks differ by";
}

TEST_F(VerifyCells, ImpossibleCell) {
  open(64, {{"p", "sliding-log 4/m"}, {"l", "concurrency 2 ttl 1m"}});
  (void)policy().try_acquire("key", 2);
  shm::AtomicCell* const log = cells(raw_->find(0, "key"));
  const uint64_t far = static_cast<uint64_t>(now()) + 3600 * static_cast<uint64_t>(kSecond);
  log[3].value = far;
  EXPECT_EQ(policy().peek("key").remaining, 2u);
  EXPECT_EQ(run().report.errors, 0u);
  expect_repair("impossible_cell");
  EXPECT_EQ(policy().peek("key").remaining, 2u);
  EXPECT_LE(log[3].value, static_cast<uint64_t>(now()));
  ASSERT_TRUE(policy("l").acquire_lease("key"));
  shm::AtomicCell* const pair = cells(raw_->find(1, "key"));
  pair[2].value = far;
  pair[3].value = shm::make_holder(false, 1, 1, 1);
  expect_repair("impossible_cell");
  EXPECT_TRUE(policy("l").acquire_lease("key"));
  EXPECT_FALSE(policy("l").acquire_lease("key"));
}

// Goal: a lease in force is not taken for impossible by a policy that was read before its ttl was
//   raised, nor by a slot that changed since.
TEST_F(VerifyCells, CellsAreJudgedByThePolicyOfNow) {
  open(64, {{"l", "concurrency 2 ttl 1m"}});
  const Quota before = raw_->quota(0);
  ASSERT_TRUE(limiter_.change("l", "concurrency 2 ttl 1h").ok());
  ASSERT_TRUE(policy("l").acquire_lease("key"));
  const uint64_t at = raw_->find(0, "key");
  const internal::Engine& engine = raw_->engine();
  const shm::Slot slot = raw_->get(at);
  EXPECT_EQ(judge_cells_of(engine, at, slot, before).kind, CellFault::kNone);
  const uint64_t lease = cells(at)[0].value;
  EXPECT_FALSE(end_impossible_cell(engine, at, slot, 0, lease));
  EXPECT_EQ(cells(at)[0].value, lease);
  const uint64_t far = cells(at)[0].value = static_cast<uint64_t>(now() + 7200 * kSecond);
  EXPECT_EQ(judge_cells_of(engine, at, slot, before).kind, CellFault::kImpossible);
  raw_->set(at, {slot.id, slot.word + 1});
  EXPECT_EQ(judge_cells_of(engine, at, slot, before).kind, CellFault::kNone);
  EXPECT_FALSE(end_impossible_cell(engine, at, slot, 0, far));
  EXPECT_TRUE(end_impossible_cell(engine, at, raw_->get(at), 0, far));
}

TEST_F(VerifyCells, DeadLeaseIsANote) {
  open(64, {{"l", "concurrency 2 ttl 1m"}});
  const pid_t child = spawn([&] { return static_cast<bool>(policy("l").acquire_lease("key")); });
  ASSERT_TRUE(succeeded(child));
  const Findings found = run();
  EXPECT_EQ(found.report.errors + found.report.warnings, 0u) << found.all();
  ASSERT_EQ(found.count("dead_lease"), 1u) << found.all();
  EXPECT_NE(found.find("dead_lease")->value.find(std::to_string(child)), std::string::npos);
}

// Goal: F30, whatever bytes the slots, names, cells, overrides, counters and reach hold, verify
//   returns, and after a repair no slot has a finding that it could have repaired.
// Method: random fillings with fixed seeds; policies are left sound.
TEST_F(VerifyCells, F30Garbage) {
  open(61, {{"p", "10/s burst 5"}, {"w", "sliding-log 8/m; fixed-window 3/m"}});
  const shm::Section* const overrides = segment().section(shm::SectionType::kOverrides);
  const std::pair<char*, size_t> areas[] = {
      {reinterpret_cast<char*>(segment().slots()), 16 * raw_->slots()},
      {reinterpret_cast<char*>(segment().name_entry(0)), (16 + 48) * raw_->slots()},
      {reinterpret_cast<char*>(segment().cells()),
       8 * segment().header().cells_per_key * raw_->slots()},
      {static_cast<char*>(segment().overrides()), 16 * overrides->count},
      {reinterpret_cast<char*>(&segment().shared()->reach), 8},
      {reinterpret_cast<char*>(segment().counters()),
       shm::stripe_bytes(64) * segment().header().stripe_count}};
  uint64_t findings = 0;
  const uint32_t fillings = scaled(300, 20000);
  for (uint32_t filling = 0; filling < fillings; ++filling) {
    std::mt19937_64 random(filling);
    for (const auto& [bytes, size] : areas) {
      if (random() % 3 == 0) continue;
      const size_t step = 8 * (1 + random() % 8);
      for (size_t i = 0; i + 8 <= size; i += step) {
        const uint64_t word = random() % 3 == 0 ? ~uint64_t{0} >> random() % 64 : random();
        std::memcpy(bytes + i, &word, 8);
      }
    }
    for (uint64_t i = 0; i < raw_->slots(); ++i) {
      const std::string key = "k" + std::to_string(random() % 8);
      if (random() % 4 == 0) plant(i, id(key), full() - random() % 1000, key);
      if (random() % 8 == 0) raw_->set(i, {});
    }
    findings += run().findings.size();
    const Findings repaired = run(true);
    const Findings again = run();
    for (const Finding& left : again.findings) {
      const bool slot = left.slot != Finding::kNoSlot;
      ASSERT_TRUE(!slot || left.name == "suspect_copy" ||
                  (left.name == "duplicate" && left.policy == "w"))
          << "filling " << filling << "\n"
          << again.all();
    }
    for (const char* name : {"p", "w"}) (void)policy(name).try_acquire("k1");
  }
  std::printf("F30: %u fillings, %lu findings\n", fillings, findings);
  EXPECT_GT(findings, fillings);
}

}  // namespace
}  // namespace brim::test
