// SPDX-License-Identifier: MIT
// F29: second verified copies. The first in probe order stays and owes what either owed.
#include "src/algo/stricter.h"
#include "tests/verify/support.h"

namespace brim::test {
namespace {

// Goal: the word that stands for two admits no more than either, now and at any later time.
// Method: random pairs of words that calls have made, of each family.
TEST(Stricter, AdmitsNoMoreThanEither) {
  for (const char* text : {"10/s burst 7", "queue 10/s burst 7", "fixed-window 9/100ms",
                           "fixed-window 9/100ms first-hit", "sliding-counter 9/100ms"}) {
    const auto policy = parse_policy(text);
    ASSERT_TRUE(policy.ok()) << policy.status();
    const SegmentName name;
    Shared<std::atomic<int64_t>> clock;
    clock->store(kEpoch);
    const auto limiter = Limiter::create(name.str(), manual(&*clock, 64, text));
    ASSERT_TRUE(limiter.ok()) << text << ": " << limiter.status();
    const Raw raw(name.str(), &*clock);
    const Quota quota = raw.quota(0);
    std::mt19937_64 random(7);
    for (int round = 0; round < 20000; ++round) {
      Word words[2] = {kEmptyWord, kEmptyWord};
      int64_t now = kEpoch + static_cast<int64_t>(random() % 1000) * kMs;
      for (int calls = static_cast<int>(random() % 12); calls > 0; --calls) {
        Word& word = words[random() % 2];
        word = charge(word, instant(quota, now), quota, static_cast<uint32_t>(1 + random() % 3));
        now += static_cast<int64_t>(random() % 40) * kMs;
      }
      const Word both = stricter(words[0], words[1], instant(quota, now), quota);
      for (int later = 0; later < 6; ++later, now += static_cast<int64_t>(random() % 90) * kMs) {
        const Instant at = instant(quota, now);
        EXPECT_TRUE(plausible(both, at, quota)) << text;
        for (const Word word : words) {
          EXPECT_LE(available(both, at, quota), available(word, at, quota)) << text;
          EXPECT_GE(debt(both, at, quota), debt(word, at, quota)) << text;
        }
      }
    }
  }
}

// Goal: a ban that stands for two bars whenever either does, is idle only when both are, and
//   further refusals bar it no later and no shorter than either.
TEST(Stricter, BansBarAsLongAsEither) {
  Quota quota{};
  quota.algorithm = kBanAlgorithm;
  quota.limit = 3;
  quota.period_ns = 10 * kSecond;
  quota.capacity = static_cast<uint64_t>(60 * kSecond);
  quota.burst = 2;
  quota.extra = quota.capacity_max = static_cast<uint64_t>(600 * kSecond);
  std::mt19937_64 random(9);
  for (int round = 0; round < 20000; ++round) {
    Word words[2] = {kEmptyWord, kEmptyWord};
    int64_t now = kSecond;
    for (int calls = static_cast<int>(random() % 20); calls > 0; --calls) {
      Word& word = words[random() % 2];
      word = ban::refused_word(word, now, quota);
      now += static_cast<int64_t>(random() % 9) * kSecond;
    }
    const Word both = stricter(words[0], words[1], instant(quota, now), quota);
    EXPECT_TRUE(plausible(both, instant(quota, now), quota));
    for (int later = 0; later < 20; ++later, now += static_cast<int64_t>(random() % 40) * kSecond) {
      for (const Word word : words) {
        EXPECT_GE(ban::barred_for(both, now, quota), ban::barred_for(word, now, quota));
        EXPECT_TRUE(!ban::is_idle(both, now, quota) || ban::is_idle(word, now, quota));
        if (ban::barred_for(both, now, quota) != 0) continue;
        Word refused[2] = {both, word};  // while barred nothing adds up
        for (uint64_t refusals = 0; refusals < quota.limit; ++refusals) {
          for (Word& one : refused) one = ban::refused_word(one, now, quota);
          EXPECT_GE(ban::barred_for(refused[0], now, quota),
                    ban::barred_for(refused[1], now, quota));
        }
      }
    }
  }
}

class F29 : public VerifyTest {
 protected:
  // The word of a key that took `cost` permits now.
  Word word_after(uint32_t cost) const {
    const Quota quota = raw_->quota(0);
    return charge(kEmptyWord, instant(quota, now()), quota, cost);
  }
};

// Goal: every pair of places: one copy stays, where callers look first, and admits what the
//   stricter copy would have; the drop is counted.
TEST_F(F29, DuplicateInAllPairsOfPlaces) {
  for (const char* text : {"10/s burst 3", "fixed-window 3/m", "sliding-counter 3/m"}) {
    Limiter::unlink(name_.str()).IgnoreError();
    open(8, {{"p", text}}, 2);
    const std::vector<uint64_t> window = raw_->window("key");
    ASSERT_EQ(window.size(), 8u);
    set_reach(1);
    for (size_t first = 0; first < window.size(); ++first) {
      for (size_t second = first + 1; second < window.size(); ++second) {
        for (const uint32_t owed : {0u, 1u, 3u}) {
          all_free();
          plant(window[first], id("key"), word_after(owed), "key");
          plant(window[second], id("key"), word_after(3 - owed), "key");
          const uint64_t counted = raw_->sum(shm::Event::kDuplicate);
          const Findings found = expect_repair("duplicate");
          EXPECT_EQ(found.findings[0].slot, window[second]);
          EXPECT_EQ(raw_->sum(shm::Event::kDuplicate), counted + 1);
          EXPECT_EQ(raw_->find(0, "key"), window[first]);
          EXPECT_EQ(raw_->get(window[second]), (shm::Slot{shm::kFreeId, 0}));
          uint32_t admitted = 0;
          drain(policy(), "key", admitted, 9);
          EXPECT_EQ(admitted, owed == 1 ? 1u : 0u) << text;
          EXPECT_TRUE(table_is_legal(*raw_, {{0, "key"}}));
        }
      }
    }
  }
}

TEST_F(F29, ManyCopiesBecomeOne) {
  open(8, {{"p", "10/s burst 3"}}, 2);
  const std::vector<uint64_t> window = raw_->window("key");
  set_reach(1);
  for (size_t i = 0; i < window.size(); ++i) {
    plant(window[i], id("key"), word_after(i == 5 ? 3 : 0), "key");
  }
  EXPECT_EQ(run().count("duplicate"), 7u);
  EXPECT_EQ(run(true).report.repaired, 7u);
  EXPECT_TRUE(run().findings.empty());
  EXPECT_EQ(raw_->find(0, "key"), window[0]);
  EXPECT_EQ(policy().peek("key").remaining, 0u);
}

// Goal: an impossible later copy moves no more than the policy can hold.
TEST_F(F29, ImpossibleLaterCopy) {
  open(8, {{"p", "10/s burst 3 ahead 0s"}}, 2);
  const std::vector<uint64_t> window = raw_->window("key");
  set_reach(1);
  all_free();
  plant(window[1], id("key"), word_after(0), "key");
  plant(window[6], id("key"), kValueMax, "key");
  EXPECT_EQ(run(true).names, (std::vector<std::string>{"impossible_word", "duplicate"}));
  EXPECT_EQ(raw_->get(window[1]).word, full());
}

// Goal: a log's copy whose cells may be in force stays until it is idle.
TEST_F(F29, CopyWithCells) {
  open(8, {{"p", "sliding-log 4/m"}}, 2);
  const std::vector<uint64_t> window = raw_->window("key");
  set_reach(1);
  all_free();
  const Word idle_at = static_cast<Word>(now() + 30 * kSecond);
  plant(window[1], id("key"), idle_at, "key");
  plant(window[6], id("key"), idle_at, "key");
  expect_kept("duplicate");
  clock_->fetch_add(31 * kSecond);
  expect_repair("duplicate");
}

// Goal: without names copies in one group are proven, in two groups suspected, and what is idle
//   goes.
TEST_F(F29, WithoutNames) {
  open(64, {{"p", "10/s burst 3"}}, 0, Options::kNoNames);
  raw_->set(4, {id("key"), word_after(1)});
  raw_->set(6, {id("key"), word_after(3)});
  const Findings found = expect_repair("duplicate");
  EXPECT_EQ(found.findings[0].slot, 6u);
  EXPECT_EQ(raw_->get(4).word, word_after(3));
  raw_->set(13, {id("key"), word_after(2)});
  expect_kept("suspect_copy");
  EXPECT_EQ(run().report.errors, 0u);
  clock_->fetch_add(250 * kMs);  // the second is idle then, the first is not
  expect_repair("suspect_copy");
  EXPECT_EQ(raw_->get(4).id, id("key"));
  EXPECT_EQ(raw_->get(13).id, shm::kFreeId);
}

// Goal: a copy whose name is not known is proven to be the key's only in one group with another.
TEST_F(F29, NamedAndUnnamed) {
  open(8, {{"p", "10/s burst 3"}}, 2);
  const std::vector<uint64_t> window = raw_->window("key");
  set_reach(1);
  for (const size_t unnamed : {6u, 0u}) {
    all_free();
    for (uint64_t i = 0; i < raw_->slots(); ++i) {
      *segment().name_entry(i) = {};
    }
    plant(window[unnamed == 0 ? 5 : 1], id("key"), word_after(2), "key");
    raw_->set(window[unnamed], {id("key"), word_after(3)});
    expect_kept("suspect_copy");
    EXPECT_EQ(run().report.errors, 0u);
    raw_->set(window[unnamed + 1], {id("key"), word_after(1)});
    Findings found = run();
    EXPECT_EQ(found.count("duplicate"), 1u) << found.all();
    EXPECT_EQ(found.count("suspect_copy"), 1u) << found.all();
    EXPECT_EQ(found.find("duplicate")->slot, window[unnamed + 1]);
  }
  all_free();
  plant(window[0], id("key"), word_after(2), "key");
  raw_->set(window[1], {id("key"), word_after(3)});
  *segment().name_entry(window[1]) = {};
  expect_repair("duplicate");
}

// Goal: little memory means more passes, not fewer findings.
TEST_F(F29, BoundedMemory) {
  open(9000, {{"p", "10/s burst 3"}});
  for (int i = 0; i < 6000; ++i) (void)policy().try_acquire("key" + std::to_string(i));
  set_reach(std::max<uint64_t>(segment().stored_reach(), 5));
  uint64_t planted = 0;
  for (int i = 0; i < 6000; i += 1000) {
    const std::string key = "key" + std::to_string(i);
    const std::vector<uint64_t> window = raw_->window(key);
    for (size_t n = 23; n > 4; --n) {
      if (raw_->get(window[n]).id != shm::kVirginId || raw_->find(0, key) == window[n]) continue;
      for (size_t before = 0; before < n; ++before) {
        if (raw_->get(window[before]).id == shm::kVirginId) raw_->set(window[before], {1, 0});
      }
      plant(window[n], id(key), word_after(3), key);
      ++planted;
      break;
    }
  }
  ASSERT_GT(planted, 3u);
  EXPECT_EQ(run(false, 16384).count("duplicate"), planted);  // 1024 keys a pass
  const Findings repaired = run(true, 16384);
  EXPECT_EQ(repaired.report.repaired, planted) << repaired.all();
  EXPECT_TRUE(run().findings.empty());
}

}  // namespace
}  // namespace brim::test
