// SPDX-License-Identifier: MIT
// Policies `scope cluster strict`: what is asked, and what is made of the answer. The store is a
// fake one: see tests/tier for a real one.
#include "src/use.h"
#include "tests/policies/cluster.h"

namespace brim::test {
namespace {

class FakeDecider : public StrictDecider {
 public:
  Answer ask(const Ask& asked) noexcept override {
    ++calls;
    identity = asked.identity;
    given_back += asked.given_back;
    Answer answer;
    answer.known = known;
    answer.as_of_ns = clock->load();
    const uint64_t permit = asked.terms[0].permit_units;
    answer.admitted = asked.cost != 0 && used + asked.cost <= limit;
    if (answer.admitted) used += asked.cost;
    used = used + asked.charged - std::min<uint64_t>(used, asked.given_back);
    for (size_t i = 0; i < asked.rates; ++i) answer.level_units[i] = used * permit;
    owed = asked.owed_units[0] / permit;
    return answer;
  }
  std::atomic<int64_t>* clock = nullptr;
  bool known = true;
  uint64_t used = 0;
  uint64_t limit = 10;
  uint64_t calls = 0;
  uint64_t given_back = 0;
  uint64_t identity = 0;
  uint64_t owed = 0;
};

TEST_F(ClusterTest, StrictAsksForWhatThisNodeWouldAdmit) {
  start(
      {{"p", "10/h scope cluster strict on-unavailable deny"}, {"q", "5/h scope cluster strict"}});
  const PolicyHandle p = policy("p");
  const Decision nobody = p.try_acquire("k");
  EXPECT_EQ(nobody.reason, Reason::kTierUnavailable);
  EXPECT_FALSE(nobody.admitted);
  EXPECT_TRUE(policy("q").try_acquire("k").admitted);  // on-unavailable allow
  EXPECT_EQ(passes(policy("q"), "k"), 4u);  // ... but no more than this node may by itself
  const auto decider = std::make_shared<FakeDecider>();
  decider->clock = &*clock_;
  ASSERT_TRUE(set_strict_decider(limiter_, decider).ok());
  decider->used = 4;  // by other nodes
  const Decision first = p.try_acquire("k");
  EXPECT_TRUE(first.admitted);
  EXPECT_EQ(first.remaining, 5u);
  EXPECT_EQ(decider->identity, shared_identity(kSecret, "k"));
  EXPECT_EQ(passes(p, "k"), 5u);
  EXPECT_EQ(decider->calls, 6u);
  const Decision refused = p.try_acquire("k");  // known here: nobody is asked
  EXPECT_EQ(refused.verdict, Verdict::kDenied);
  EXPECT_EQ(refused.retry_after_ns, 360 * kSecond);
  EXPECT_EQ(decider->calls, 6u);
  EXPECT_TRUE(uses().empty());  // the store counts already
  // Another node takes what flows back.
  advance(360 * kSecond);
  const Decision taken = p.try_acquire("k");
  EXPECT_EQ(taken.verdict, Verdict::kDenied);
  EXPECT_EQ(decider->calls, 7u);
  EXPECT_GT(taken.retry_after_ns, 0);
  EXPECT_TRUE(p.refund("k", 3));
  EXPECT_EQ(decider->given_back, 3u);
  EXPECT_TRUE(p.try_acquire("k").admitted);
  decider->known = false;
  EXPECT_EQ(p.try_acquire("other").reason, Reason::kTierUnavailable);
  EXPECT_EQ(p.reserve("k", 1, kNever).decision.reason, Reason::kUnsupported);
  const PolicyHandle q = policy("q");
  const std::vector<PolicyHandle::Ask> asks = {{&p, "a"}, {&q, "a"}};
  EXPECT_EQ(PolicyHandle::try_acquire_all(asks).reason, Reason::kUnsupported);
  const auto status = ClusterView::status_of(name_->str());
  EXPECT_EQ(status->strict_calls, decider->calls - status->strict_errors);
  EXPECT_GE(status->strict_errors, 1u);
}

TEST_F(ClusterTest, StrictPacesAQueue) {
  start({{"p", "queue 10/s burst 5 scope cluster strict"}});
  const auto decider = std::make_shared<FakeDecider>();
  decider->clock = &*clock_;
  ASSERT_TRUE(set_strict_decider(limiter_, decider).ok());
  const PolicyHandle p = policy("p");
  EXPECT_EQ(p.try_acquire("k").delay_ns, 0);
  EXPECT_EQ(p.try_acquire("k").delay_ns, kSecond / 10);
  decider->used = 3;  // one more by another node
  EXPECT_EQ(p.try_acquire("k").delay_ns, kSecond / 10 * 3);
}

TEST_F(ClusterTest, StrictIsHeldByItsFactor) {
  start({{"p", "10/s scope cluster strict"}});
  const auto decider = std::make_shared<FakeDecider>();
  decider->clock = &*clock_;
  decider->limit = 1000000;
  ASSERT_TRUE(set_strict_decider(limiter_, decider).ok());
  ASSERT_TRUE(limiter_.set_factor("p", 100000).ok());
  const PolicyHandle p = policy("p");
  uint64_t admitted = 0;
  for (int i = 0; i < 100; ++i) {
    decider->used -= std::min<uint64_t>(decider->used, 10);  // the whole rate flows back there
    admitted += passes(p, "k");
    advance(kSecond);
  }
  EXPECT_GE(admitted, 100u);
  EXPECT_LE(admitted, 110u);
}

// A batch's later keys are judged by the time that the store's answer to the earlier ones took.
TEST_F(ClusterTest, StrictBatchesKeepTheTime) {
  start({{"p", "10/s burst 2 scope cluster strict"}});
  class Slow : public StrictDecider {
   public:
    Answer ask(const Ask& asked) noexcept override {
      Answer answer;
      answer.as_of_ns = clock->fetch_add(kSecond) + kSecond;
      answer.known = answer.admitted = true;
      answer.level_units[0] = asked.terms[0].permit_units;
      return answer;
    }
    std::atomic<int64_t>* clock = nullptr;
  };
  const auto decider = std::make_shared<Slow>();
  decider->clock = &*clock_;
  ASSERT_TRUE(set_strict_decider(limiter_, decider).ok());
  const std::vector<std::string_view> keys(4, "k");
  std::vector<Decision> out(4);
  policy("p").try_acquire_batch(keys, out);
  for (const Decision& decision : out) EXPECT_TRUE(decision.admitted);
}

}  // namespace
}  // namespace brim::test
