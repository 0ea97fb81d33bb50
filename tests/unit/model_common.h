// SPDX-License-Identifier: MIT
// What the models of all algorithms share, written from docs and semantics and not from src/algo:
// 128-bit time, a search for the first instant at which something holds, a key under test, and the
// driver that compares each field of each decision with a model.
//
// A model has: never(c), admits(t, c), take(t, c), refuse(t, c), remaining(t), idle(t), refund(t,
// c), charge(t, c), delay(t, c) of an admitted call before it is taken.
#ifndef BRIM_TESTS_UNIT_MODEL_COMMON_H_
#define BRIM_TESTS_UNIT_MODEL_COMMON_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "src/algo/step.h"
#include "src/compile.h"
#include "src/policy_words.h"
#include "tests/unit/check.h"
#include "tests/unit/support.h"

namespace brim::test {

__extension__ using Wide = __int128;

inline constexpr int64_t kMilliNs = 1000000;
inline constexpr int64_t kSecNs = 1000000000;
inline constexpr int64_t kDayNs = 86400 * kSecNs;
inline constexpr Wide kForever = Wide{1} << 100;
inline constexpr Wide kLongestWait = std::numeric_limits<int64_t>::max();

inline Wide floor_div(Wide a, Wide b) {
  const Wide quotient = a / b;
  return quotient - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}
inline Wide wide(uint64_t value) { return static_cast<Wide>(value); }

// Least d >= 0 for which holds(d), which stays true once it is; kForever if it never does.
template <class Holds>
Wide least(const Holds& holds) {
  if (holds(0)) return 0;
  Wide low = 0;
  Wide high = 1;
  for (; !holds(high); high *= 2) {
    if (high >= kForever >> 4) return kForever;
    low = high;
  }
  while (high - low > 1) {
    const Wide middle = low + (high - low) / 2;
    (holds(middle) ? high : low) = middle;
  }
  return high;
}

// The quota of a policy's only rate; no value if the rate does not fit a word.
inline Quota quota_of(const Policy& policy, const Beginning& at, uint32_t part = 0) {
  return quota_from(*compile(policy, at), part);
}
inline Policy policy_of(const Rate& rate) {
  Policy policy;
  policy.rates = {rate};
  return policy;
}
inline Quota quota_of(const Rate& rate, const Beginning& at) {
  return quota_of(policy_of(rate), at);
}

inline std::string words_of(const Rate& rate, const Beginning& at) {
  std::string text = "algorithm " + std::to_string(static_cast<int>(rate.algorithm));
  const auto add = [&text](const char* name, int64_t value) {
    if (value != 0) text += std::string(" ") + name + " " + std::to_string(value);
  };
  add("limit", rate.limit);
  add("period", rate.period_ns);
  add("burst", rate.burst);
  add("debt", rate.debt);
  add("undelayed", rate.undelayed);
  add("forward", rate.forward);
  add("first-hit", rate.first_hit);
  add("count-denied", rate.count_denied);
  add("floor", rate.floor_weight);
  add("calendar", static_cast<int64_t>(rate.calendar));
  add("utc", rate.utc_offset_s);
  add("ahead", rate.ahead_ns);
  add("now", at.now_ns);
  add("wall", at.wall_ns);
  return text;
}

// One key.
struct Key {
  Quota quota;
  Word word = kEmptyWord;

  Decision ask(int64_t t, uint32_t cost) {
    const Instant at = instant(quota, t);
    const Step done = step(word, at, quota, cost);
    const Decision decision = decide(word, done, at, quota, cost);
    word = done.next;
    return decision;
  }
  Decision look(int64_t t, uint32_t cost) const { return Key(*this).ask(t, cost); }
  uint64_t owed(int64_t t) const { return debt(word, instant(quota, t), quota); }
  void refund(int64_t t, uint32_t cost) {
    word = brim::refund(word, instant(quota, t), quota, cost);
  }
  void charge(int64_t t, uint32_t cost) {
    word = brim::charge(word, instant(quota, t), quota, cost);
  }
};

// What the driver must know of a rate to land near its edges.
struct Edges {
  int64_t period = 1;
  int64_t permit = 1;
  int64_t refill = 1;    // until all is as new
  int64_t farthest = 1;  // longest jump
  uint32_t burst = 1;
  int64_t first = 0;  // least time
  int64_t last = 0;   // most time
  bool counts_refused = false;
  bool exact_idle = true;  // debt() == 0 not only if but whenever no call can tell
};

inline int64_t random_jump(Random& random, const Edges& edges, const Decision& before) {
  const int64_t next = before.retry_after_ns != kNever && before.retry_after_ns != 0
                           ? before.retry_after_ns
                           : before.reset_after_ns;
  switch (random.below(14)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return 0;
    case 4:
      return 1;
    case 5:
      return random.between(0, 2 * edges.permit);
    case 6:
      return edges.permit + random.between(-1, 1);
    case 7:
      return edges.period + random.between(-1, 1);
    case 8:
      return edges.refill + random.between(-1, 1);
    case 9:
      return static_cast<int64_t>(random.magnitude(static_cast<uint64_t>(edges.farthest)));
    case 10:
      return -static_cast<int64_t>(random.magnitude(kMilliNs));
    case 11:
      return -1;
    case 12:
      return before.reset_after_ns + random.between(-1, 1);
    default:
      return next + random.between(-1, 1);
  }
}

inline int64_t jumped(Random& random, const Edges& edges, const Decision& before, int64_t t) {
  const Wide to = Wide{t} + random_jump(random, edges, before);
  return static_cast<int64_t>(std::clamp<Wide>(to, edges.first, edges.last));
}

inline uint32_t random_cost(Random& random, uint32_t burst) {
  switch (random.below(10)) {
    case 0:
      return 0;
    case 1:
      return static_cast<uint32_t>(std::min<uint64_t>(uint64_t{burst} + random.below(3), kMaxCost));
    case 2:
      return static_cast<uint32_t>(random.magnitude(kMaxCost));
    case 3:
    case 4:
    case 5:
      return static_cast<uint32_t>(random.magnitude(burst));
    default:
      return 1;
  }
}

// The times of `decision`, which the key gave at t for `cost`, are the first that pass.
template <class Model>
void check_times(const Key& key, const Model& model, const Decision& decision, int64_t t,
                 uint32_t cost) {
  const Wide reset = least([&](Wide d) { return model.idle(t + d); });
  ASSERT_EQ(Wide{decision.reset_after_ns}, std::min(reset, kLongestWait));
  ASSERT_EQ(key.owed(t) == 0, reset == 0);
  if (decision.allowed()) {
    ASSERT_EQ(decision.retry_after_ns, 0);
    ASSERT_EQ(decision.verdict, Verdict::kAllowed);
    ASSERT_EQ(decision.reason, Reason::kNone);
    return;
  }
  ASSERT_EQ(decision.verdict, Verdict::kDenied);
  ASSERT_EQ(decision.delay_ns, 0);
  const bool never = model.never(cost);
  ASSERT_EQ(decision.reason, never ? Reason::kCostAboveBurst : Reason::kNone);
  const Wide retry = never ? kForever : least([&](Wide d) { return model.admits(t + d, cost); });
  ASSERT_EQ(Wide{decision.retry_after_ns}, std::min(retry, kLongestWait));
  if (never) return;
  ASSERT_GT(retry, 0);
  if (retry > kLongestWait - t) return;
  ASSERT_FALSE(key.look(t + decision.retry_after_ns - 1, cost).allowed());
  ASSERT_TRUE(key.look(t + decision.retry_after_ns, cost).allowed());
}

// A word without debt answers as an absent key does, now and later; one with debt admits less.
inline void check_idle(Random& random, const Key& key, const Edges& edges, int64_t t) {
  Key seen = key;
  Key absent{key.quota};
  if (key.owed(t) != 0) {
    if (edges.exact_idle) {
      ASSERT_LT(seen.look(t, 0).remaining, absent.look(t, 0).remaining);
    }
    return;
  }
  for (int i = 0; i < 4; ++i) {
    const uint32_t cost = random_cost(random, edges.burst);
    const Decision decision = absent.ask(t, cost);
    ASSERT_EQ(seen.ask(t, cost), decision);
    ASSERT_EQ(seen.owed(t), absent.owed(t));
    t = std::max(t, jumped(random, edges, decision, t));
  }
}

// No honest word is taken for garbage, even by a reader whose clock is 1 ms behind (call.h allows
// for 2 ms).
inline void check_plausible(Random& random, const Key& key, int64_t t) {
  const int64_t skew = random.one_in(2) ? kMilliNs : random.between(0, kMilliNs);
  ASSERT_TRUE(plausible(key.word, instant(key.quota, t - skew + 2 * kMilliNs), key.quota));
  ASSERT_LE(key.word, kValueMax);
}

// One call on both; returns the key's answer.
template <class Model>
Decision compare(Key& key, Model& model, int64_t t, uint32_t cost, bool counts_refused) {
  const Word before = key.word;
  const bool never = cost != 0 && model.never(cost);
  const bool allowed = cost == 0 || (!never && model.admits(t, cost));
  const Wide delay = allowed && cost != 0 ? model.delay(t, cost) : 0;
  const uint32_t room = available(key.word, instant(key.quota, t), key.quota);
  if (cost != 0 && allowed) model.take(t, cost);
  if (!allowed && !never && counts_refused) model.refuse(t, cost);
  const Decision decision = key.ask(t, cost);
  [&] {
    ASSERT_EQ(decision.allowed(), allowed);
    ASSERT_EQ(Wide{decision.delay_ns}, delay);
    ASSERT_EQ(Wide{decision.remaining}, model.remaining(t));
    ASSERT_EQ(available(key.word, instant(key.quota, t), key.quota), decision.remaining);
    if (cost == 0 || (!allowed && (never || !counts_refused))) {
      ASSERT_EQ(key.word, before) << "a refusal or look writes nothing";
      ASSERT_EQ(room, decision.remaining);
    }
    check_times(key, model, decision, t, cost);
  }();
  return decision;
}

// `steps` random calls, refunds and charges of one key from t on. Returns how many were admitted.
template <class Model>
int drive(Random& random, Key& key, Model& model, const Edges& edges, int64_t t, int steps) {
  Decision decision;
  int admitted = 0;
  int64_t latest = t;
  for (int i = 0; i < steps; ++i) {
    const uint32_t cost = random_cost(random, edges.burst);
    t = std::max(jumped(random, edges, decision, t), latest - kMilliNs);
    latest = std::max(latest, t);
    if (random.one_in(10)) {
      model.refund(t, cost);
      key.refund(t, cost);
    } else if (random.one_in(14)) {
      model.charge(t, cost);
      key.charge(t, cost);
    } else {
      decision = compare(key, model, t, cost, edges.counts_refused);
      admitted += decision.allowed() && cost != 0 ? 1 : 0;
    }
    [&] {
      ASSERT_EQ(Wide{key.look(t, 0).remaining}, model.remaining(t));
      ASSERT_EQ(key.owed(t) == 0, model.idle(t));
      if (i % 4 == 0) check_idle(random, key, edges, t);
      check_plausible(random, key, latest);
    }();
    BRIM_STOP(admitted);
  }
  return admitted;
}

}  // namespace brim::test

#endif  // BRIM_TESTS_UNIT_MODEL_COMMON_H_
