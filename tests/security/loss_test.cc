// SPDX-License-Identifier: MIT
// F37, P9, P16: policies replaced without end, keys whose state is lost, slots read while written.
#include <sys/stat.h>

#include <fstream>

#include "tests/policies/support.h"
#include "tests/segment/util.h"

namespace brim::test {
namespace {

using segment_test::open_descriptors;

// Pages of this process's memory in use.
uint64_t resident() {
  std::ifstream file("/proc/self/statm");
  uint64_t size = 0;
  uint64_t pages = 0;
  file >> size >> pages;
  return pages;
}

struct Reload {
  std::atomic<uint32_t> stop;
  std::atomic<uint64_t> reads;
  std::atomic<uint64_t> mixed;
  std::atomic<uint64_t> seen[2][2];  // by each reader: the old one, the new one
  bool all_seen() const { return seen[0][0] && seen[0][1] && seen[1][0] && seen[1][1]; }
};

// Reads what becomes of "p": its text, and what a key gets that nobody used.
void read_policy(const Limiter& limiter, const std::string (&texts)[2], int reader,
                 Reload& shared) {
  const PolicyHandle p = *limiter.policy("p");
  while (shared.stop == 0) {
    const std::string text = policy_text(p.policy());
    const uint32_t left = p.peek("unknown").remaining;
    if (text != texts[0] && text != texts[1]) shared.mixed.fetch_add(1);
    if (left != 7 && left != 11) shared.mixed.fetch_add(1);
    shared.seen[reader][left == 7 ? 0 : 1].fetch_add(1);
    shared.reads.fetch_add(1);
  }
}

// Goal: F37, policies hot-reloaded in a loop leak nothing, and readers see the old one or the new
//   one, never a mix; a full registry says so for as long as one likes.
// Method: one process changes a policy between two texts that differ in every number; two others
//   read its text and what an unknown key would get. Descriptors and pages are counted.
TEST(F37, ReloadedInALoop) {
  const char* const texts[2] = {"100/s burst 7", "3/h burst 11"};
  const SegmentName name;
  const Shared<Reload> shared;
  Options options;
  options.capacity = 64;
  options.max_policies = 4;
  options.policies = {{"p", texts[0]}};
  const auto limiter = Limiter::create(name.str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const std::string canonical[2] = {policy_text(*parse_policy(texts[0])),
                                    policy_text(*parse_policy(texts[1]))};
  Children readers;
  for (int reader = 0; reader < 2; ++reader) {
    readers.add(spawn(
        [&] {
          read_policy(*limiter, canonical, reader, *shared);
          return true;
        },
        7000));
  }
  const uint32_t changes = scaled(20000, 10000000);
  uint64_t pages = 0;
  const size_t open_before = open_descriptors();
  // Longer where the readers hardly get a turn.
  const auto go_on = [&](uint64_t i) {
    return i < changes || (!shared->all_seen() && readers.all_running());
  };
  uint64_t i = 0;
  for (; go_on(i) && !::testing::Test::HasFailure(); ++i) {
    if (i == 1000) pages = resident();
    EXPECT_TRUE(limiter->change("p", texts[(i + 1) % 2]).ok());
  }
  EXPECT_EQ(open_descriptors(), open_before);
  if (!kSanitized) {
    EXPECT_LE(resident(), pages + 256) << "memory grows with each change";
  }
  for (int q = 0; q < 3; ++q) EXPECT_TRUE(limiter->define("q" + std::to_string(q), "1/s").ok());
  for (int r = 0; r < 10000; ++r) {
    const absl::Status full = limiter->define("r" + std::to_string(r), "1/s").status();
    ASSERT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
    ASSERT_TRUE(full.message().find("policy_table_full: ") == 0) << full;
  }
  EXPECT_EQ(limiter->policy_names().size(), 4u);
  EXPECT_EQ(open_descriptors(), open_before);
  shared->stop = 1;
  EXPECT_TRUE(readers.all_succeeded());
  EXPECT_EQ(shared->mixed, 0u);
  EXPECT_TRUE(shared->all_seen());
  std::printf("F37: %lu changes, %lu reads\n", i, shared->reads.load());
}

constexpr uint32_t kBurst = 5;

class P9 : public Policies {
 protected:
  // Calls that pass for the key until it is refused.
  uint32_t drained(std::string_view key) { return passes(policy("p"), key); }
};

// Goal: P9, a live key that loses its slot to others gets one burst again, not more, and each such
//   loss is counted.
// Method: more drained keys than slots, round after round; whoever passes again was evicted.
TEST_F(P9, EvictionCostsOneBurstAndIsCounted) {
  open({{"p", "1/h burst 5"}}, 8);
  const Raw raw(name_->str(), &*clock_);
  const uint64_t slots = raw.slots();
  std::map<uint32_t, uint64_t> admitted;
  uint64_t lost = 0;
  for (uint32_t round = 0; round < 200; ++round) {
    const uint32_t key = round * 7 % 23;
    const bool known = admitted[key] != 0;
    const bool live = raw.find(0, "k" + std::to_string(key)) < slots;
    const uint64_t evicted = raw.sum(shm::Event::kEvictedLive);
    const uint32_t got = drained("k" + std::to_string(key));
    EXPECT_EQ(got, live ? 0 : kBurst) << "a loss is one burst";
    lost += known && !live ? 1 : 0;
    admitted[key] += got;
    EXPECT_LE(raw.sum(shm::Event::kEvictedLive) - evicted, 1u);
  }
  const uint64_t evicted = raw.sum(shm::Event::kEvictedLive);
  uint64_t in_table = 0;
  uint64_t total = 0;
  for (const auto& [key, count] : admitted) {
    in_table += raw.find(0, "k" + std::to_string(key)) < slots ? 1 : 0;
    total += count;
  }
  // All time stands still: each permit above a key's burst is an eviction's doing.
  EXPECT_EQ(total, (admitted.size() + lost) * kBurst);
  EXPECT_EQ(evicted, lost + admitted.size() - in_table) << "counted, each once";
  EXPECT_EQ(counter("p", "evicted"), evicted);
  EXPECT_GT(lost, 50u);
}

// Goal: P9, a slot wiped by a writer costs its key one burst.
// Method: the slot of a drained key is set free, a hundred times.
TEST_F(P9, WipedSlotCostsOneBurst) {
  open({{"p", "1/h burst 5"}}, 64);
  const Raw raw(name_->str(), &*clock_);
  ASSERT_EQ(drained("k"), kBurst);
  for (int i = 0; i < 100; ++i) {
    const uint64_t inserted = raw.sum(shm::Event::kInserted);
    raw.set(raw.find(0, "k"), i % 2 == 0 ? shm::Slot{shm::kFreeId, 0} : shm::Slot{});
    EXPECT_EQ(drained("k"), kBurst);
    EXPECT_EQ(drained("k"), 0u);
    EXPECT_EQ(raw.sum(shm::Event::kInserted), inserted + 1);
  }
}

// Goal: P9, an unlinked and recreated segment costs every key one burst in all, and linked() tells.
// Method: whoever holds the old one and whoever opens the new one drain a key.
TEST_F(P9, UnlinkAndRecreateCostOneBurst) {
  open({{"p", "1/h burst 5"}}, 64);
  const PolicyHandle old = policy("p");
  ASSERT_EQ(passes(old, "k"), kBurst);
  for (int i = 0; i < 20; ++i) {
    const Limiter before = limiter_;
    if (i % 2 == 0) {
      ASSERT_TRUE(Limiter::unlink(name_->str()).ok());
    }
    options_.replace = i % 2 != 0;
    auto fresh = Limiter::create(name_->str(), options_);
    ASSERT_TRUE(fresh.ok()) << fresh.status();
    EXPECT_FALSE(before.linked());
    EXPECT_TRUE(fresh->linked());
    EXPECT_EQ(passes(*fresh->policy("p"), "k"), kBurst);
    EXPECT_EQ(passes(*before.policy("p"), "k"), 0u);
    limiter_ = *std::move(fresh);
  }
  EXPECT_EQ(passes(old, "k"), 0u);
}

// A word that only this id has.
Word word_of(uint64_t id) {
  uint64_t z = id * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 29)) * 0xbf58476d1ce4e5b9;
  return z ^ (z >> 32);
}

// Goal: P16, a reader sees each slot whole, whatever others write to it meanwhile: through a
//   read-only mapping in a process of its own.
// Method: two processes change all slots of a group to pairs whose word is a function of the id;
//   this one loads them and computes the word again. 10^7 loads, 10^9 in the slow suite.
TEST(P16, SlotsAreSeenWhole) {
  if (kSanitized) GTEST_SKIP() << "its 16-byte load is another one";
  const SegmentName name;
  Options options;
  options.capacity = 4;
  options.policies = {{"p", "1/s"}};
  const auto limiter = Limiter::create(name.str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const Shared<std::atomic<uint32_t>> stop;
  const Shared<std::atomic<uint64_t>> writes;
  Children writers;
  for (uint64_t w = 1; w <= 2; ++w) {
    writers.add(spawn(
        [&, w] {
          const Raw raw(name.str(), nullptr);
          uint64_t done = 0;
          for (uint64_t n = w; *stop == 0; n += 2, ++done) {
            const uint64_t id = n << 8 | 3;
            raw.set(n / 2 % 4, {id, word_of(id)});
          }
          writes->fetch_add(done);
          return true;
        },
        7000));
  }
  const auto segment = shm::Segment::attach(name.str(), {.read_only = true});
  ASSERT_TRUE(segment.ok()) << segment.status();
  const shm::AtomicSlot* const slots = (*segment)->slots();
  const uint64_t loads = slow() ? 1000000000 : 10000000;
  uint64_t torn = 0;
  uint64_t changes = 0;
  uint64_t last[4] = {};
  uint64_t i = 0;
  // Longer where the writers hardly get a turn, but not for ever.
  for (; i < loads || (changes < 1000 && i < 100 * loads); ++i) {
    if (changes < 1000 && i % 65536 == 0) sched_yield();
    const shm::Slot slot = shm::HardwareAtomics::load(slots + i % 4);
    torn += slot.word != (slot.id == 0 ? 0 : word_of(slot.id)) ? 1 : 0;
    changes += slot.id != last[i % 4] ? 1 : 0;
    last[i % 4] = slot.id;
  }
  *stop = 1;
  EXPECT_TRUE(writers.all_succeeded());
  EXPECT_EQ(torn, 0u);
  EXPECT_GT(changes, 100u) << "nothing was written meanwhile";
  std::printf("P16: %lu loads, %lu writes, %lu times another value\n", i, writes->load(), changes);
}

}  // namespace
}  // namespace brim::test
