// SPDX-License-Identifier: MIT
// Sampled decisions: whose they were and what became of them, and about how many.
#include <map>

#include "tests/policies/support.h"

namespace brim::test {
namespace {

// Readings of the clock at which each decision is sampled, and none is.
constexpr int64_t kDrawn = (kEpoch | 1023);
constexpr int64_t kNotDrawn = kDrawn - 1;

class HotKeys : public Policies {
 protected:
  void create(std::vector<NamedPolicy> policies, uint64_t capacity = 256) {
    open(std::move(policies), capacity);
    inspector_ = std::make_unique<Inspector>(*Inspector::attach(name_->str(), options_));
    clock_->store(kDrawn);
  }
  // "policy key admitted" -> how often, of the samples since then.
  std::map<std::string, int> since(uint64_t position) const {
    std::map<std::string, int> seen;
    for (const HotSample& sample : inspector_->hot_samples(position)) {
      const std::string name = sample.has_name ? sample.name : "?";
      ++seen[std::to_string(sample.policy) + " " + name + (sample.admitted ? " +" : " -")];
    }
    return seen;
  }
  std::unique_ptr<Inspector> inspector_;
};

using Seen = std::map<std::string, int>;

// Goal: admitted and refused decisions of every kind of policy, and of no other call.
TEST_F(HotKeys, WhoseTheyWere) {
  create({{"p", "3/1d burst 3"},
          {"several", "9/1h; fixed-window 2/1d"},
          {"log", "sliding-log 2/1d"},
          {"ban", "1/1d burst 1 ban 1 in 1h for 1h"}});
  EXPECT_EQ(inspector_->hot_position(), 0u);
  for (int i = 0; i < 5; ++i) {
    for (const char* const name : {"p", "several", "log", "ban"}) {
      (void)policy(name).try_acquire("k");
    }
  }
  (void)policy("p").try_acquire("k", 0);
  (void)policy("p").peek("k");
  clock_->store(kNotDrawn);
  (void)policy("p").try_acquire("k");
  const Seen wanted = {{"0 k +", 3}, {"0 k -", 2}, {"1 k +", 2}, {"1 k -", 3},
                       {"2 k +", 2}, {"2 k -", 3}, {"3 k +", 1}, {"3 k -", 4}};
  EXPECT_EQ(since(0), wanted);
  EXPECT_EQ(inspector_->hot_position(), 20u);
  EXPECT_TRUE(since(20).empty());
  EXPECT_TRUE(since(~uint64_t{0}).empty());
  clock_->store(kDrawn);
  (void)policy("p").try_acquire("other", Request{1, Priority::kLow});
  EXPECT_EQ(since(20), (Seen{{"0 other +", 1}}));
}

// Goal: at most the ring's size, the newest.
TEST_F(HotKeys, TheRingTurns) {
  create({{"p", "1000000/1d burst 1000000"}});
  for (int i = 0; i < 5000; ++i) (void)policy("p").try_acquire(i < 904 ? "old" : "new");
  EXPECT_EQ(inspector_->hot_position(), 5000u);
  EXPECT_EQ(since(0), (Seen{{"0 new +", 4096}}));
  EXPECT_EQ(since(4990), (Seen{{"0 new +", 10}}));
}

// Goal: a sample whose slot another key has now is not told as that key's.
TEST_F(HotKeys, SlotsThatChangedHands) {
  create({{"p", "3/1h burst 3"}}, 4);
  for (const char* const key : {"a", "b", "c", "d"}) (void)policy("p").try_acquire(key);
  EXPECT_EQ(since(0).size(), 4u);
  clock_->fetch_add((int64_t{1} << 10) * 10000000000);  // all idle, and drawn again
  ASSERT_EQ(clock_->load() & 1023, 1023);
  for (const char* const key : {"e", "f"}) (void)policy("p").try_acquire(key);
  EXPECT_EQ(inspector_->hot_position(), 6u);
  const Seen seen = since(0);
  EXPECT_EQ(seen.size(), 4u);
  EXPECT_EQ(seen.count("0 e +") + seen.count("0 f +"), 2u);
}

// Goal: with the real clock about one decision in kSampleRate is drawn.
TEST_F(HotKeys, AboutOneInAThousand) {
  options_.clock = ClockKind::kAuto;
  const SegmentName name;
  const auto limiter = Limiter::create(name.str(), {.policies = {{"p", "1000000/s"}}});
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const PolicyHandle p = *limiter->policy("p");
  const uint64_t calls = scaled(1000000, 20000000);
  for (uint64_t i = 0; i < calls; ++i) (void)p.try_acquire("k" + std::to_string(i % 64));
  const uint64_t drawn = Inspector::attach(name.str())->hot_position();
  EXPECT_GT(drawn, calls / Inspector::kSampleRate / 4);
  EXPECT_LT(drawn, calls / Inspector::kSampleRate * 4);
  std::map<std::string, int> keys;
  for (const HotSample& one : Inspector::attach(name.str())->hot_samples(0)) ++keys[one.name];
  EXPECT_GT(keys.size(), 48u) << "all keys are asked for alike";
}

// Goal: a process that only reads draws none, and nobody's death hinders others.
TEST_F(HotKeys, ReadersAndTheDead) {
  create({{"p", "1000000/1d burst 1000000"}});
  const auto reader = Limiter::attach_read_only(name_->str(), options_);
  (void)reader->policy("p")->try_acquire("k");
  EXPECT_EQ(inspector_->hot_position(), 0u);
  for (int round = 0; round < 20; ++round) {
    const Shared<std::atomic<uint64_t>> calls;
    const pid_t pid = spawn([&] {
      for (;; calls->fetch_add(1)) (void)policy("p").try_acquire("child");
      return false;
    });
    while (calls->load() < 100) (void)policy("p").try_acquire("parent");
    kill(pid, SIGKILL);
    while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  for (const auto& [what, count] : since(0)) {
    EXPECT_TRUE(what == "0 child +" || what == "0 parent +") << what;
  }
  const uint64_t position = inspector_->hot_position();
  (void)policy("p").try_acquire("last");
  EXPECT_EQ(since(position), (Seen{{"0 last +", 1}}));
}

}  // namespace
}  // namespace brim::test
