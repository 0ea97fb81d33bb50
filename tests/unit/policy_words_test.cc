// SPDX-License-Identifier: MIT
#include "src/policy_words.h"

#include <gtest/gtest.h>

#include "brim/policy.h"
#include "shm/registry.h"
#include "src/algo/step.h"
#include "src/compile.h"
#include "tests/unit/model.h"
#include "tests/unit/support.h"

namespace brim {
namespace {

using test::kSecondNs;
using test::kYearNs;
using test::Random;
using test::Rule;

Quota make(const Rule& rule) {
  return make_quota(static_cast<uint32_t>(rule.limit), rule.period,
                    static_cast<uint32_t>(rule.burst), rule.t0);
}

// One call on a word: what PolicyHandle::try_acquire does, without a table.
Decision ask(Word& word, const Quota& quota, int64_t t, uint32_t cost) {
  const Instant at = instant(quota, t);
  const Step taken = step(word, at, quota, cost);
  const Decision decision = decide(word, taken, at, quota, cost);
  word = taken.next;
  return decision;
}

// Goal: a quota survives the trip through the segment's words, in any part of a policy, and what is
// read decides as what was written. Method: random rules, all fields, also arbitrary flags.
TEST(PolicyWords, QuotaSurvivesThePolicyWords) {
  Random random(44);
  for (int i = 0; i < test::scaled(20000); ++i) {
    const Rule rule = test::random_rule(random);
    Quota quota = make(rule);
    quota.algorithm = static_cast<uint8_t>(1 + random.below(3));
    quota.capacity_max += random.below(uint64_t{1} << 60);
    quota.extra = random.bits();
    if (random.one_in(2)) quota.flags = static_cast<uint16_t>(random.bits());
    if (has(quota, kWarped | kScaled)) {
      quota.warp = {rule.t0, random.below(uint64_t{1} << 47),
                    static_cast<uint32_t>(random.below(kWholePpm + 1)),
                    static_cast<uint32_t>(random.below(kWholePpm + 1))};
    }
    const auto part = static_cast<uint32_t>(random.below(shm::kMaxParts));
    shm::PolicyWords words = {};
    store_quota(quota, part, words);
    Quota read = quota_from(words, part);
    if (!has(quota, kWarped | kScaled)) read.warp = {};  // is not read then
    ASSERT_EQ(read.flags, quota.flags);
    ASSERT_EQ(read.extra, quota.extra);
    shm::PolicyWords again = {};
    store_quota(read, part, again);
    ASSERT_EQ(again, words);
    for (size_t word = 0; word < words.size(); ++word) {
      ASSERT_TRUE(word / shm::kPartWords == part || words[word] == 0) << word;
    }
    Word a = kEmptyWord;
    Word b = kEmptyWord;
    ASSERT_EQ(ask(a, quota, rule.t0 + kSecondNs, 1), ask(b, read, rule.t0 + kSecondNs, 1));
    ASSERT_EQ(a, b);
  }
}

// Goal: what a policy says is what its words decide. Method: random policies of one bucket through
// compile(); every field that a rule has is in the quota read back, and so are the options.
TEST(PolicyWords, ACompiledPolicyIsItsQuota) {
  Random random(45);
  int compiled = 0;
  for (int i = 0; i < test::scaled(20000); ++i) {
    const Rule rule = test::random_rule(random);
    Rate rate;
    rate.algorithm = static_cast<Algorithm>(1 + random.below(3));
    rate.limit = static_cast<uint32_t>(rule.limit);
    rate.period_ns = rule.period;
    rate.burst = static_cast<uint32_t>(rule.burst);
    Policy policy;
    policy.rates = {rate};
    policy.on_unavailable = random.one_in(2) ? OnUnavailable::kDeny : OnUnavailable::kAllow;
    if (!validate(policy).ok()) continue;
    ++compiled;
    const auto words = compile(policy, {rule.t0, 0});
    ASSERT_TRUE(words.ok()) << words.status();
    const Quota read = quota_from(*words, 0);
    Quota expected = make(rule);
    expected.algorithm = static_cast<uint8_t>(rate.algorithm);
    ASSERT_EQ(read.algorithm, expected.algorithm);
    ASSERT_EQ(read.t0, rule.t0);
    ASSERT_EQ(read.shift, expected.shift);
    ASSERT_EQ(read.limit, expected.limit);
    ASSERT_EQ(read.burst, expected.burst);
    ASSERT_EQ(read.capacity, expected.capacity);
    ASSERT_EQ(read.period_ns, expected.period_ns);
    ASSERT_EQ(has(read, kDenyIfUnavailable), policy.on_unavailable == OnUnavailable::kDeny);
    ASSERT_FALSE(has(read, kExtended));
    // Bookings may go as far ahead as the policy says, to the unit.
    const Instant ahead = instant(expected, rule.t0 + rate.ahead_ns);
    ASSERT_EQ(read.capacity_max, expected.capacity + ahead.v);
    const PolicyOptions options = options_from_word((*words)[kOptionWords]);
    ASSERT_TRUE(is_plain(options));
    ASSERT_EQ(options.deny_if_unavailable, policy.on_unavailable == OnUnavailable::kDeny);
    ASSERT_EQ((*words)[kWordFactor], kWholePpm);
    Word a = kEmptyWord;
    Word b = kEmptyWord;
    for (const uint32_t cost : {1u, rate.burst, 1u}) {
      const int64_t t = rule.t0 + random.between(0, kYearNs);
      ASSERT_EQ(ask(a, read, t, cost), ask(b, expected, t, cost));
    }
  }
  EXPECT_GT(compiled, test::scaled(10000));
}

}  // namespace
}  // namespace brim
