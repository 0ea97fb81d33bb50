// SPDX-License-Identifier: MIT
// The observer's checks find a lie and nothing else: calls that a limiter can have answered, made
// here by the simplest model of each algorithm, and the same with one admission too many or one
// refusal that nothing explains.
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <random>

#include "tests/soak/checks.h"

namespace brim::soak {
namespace {

struct Subject {
  const char* name;
  Part part;
  int64_t excess_of_one;  // admissions at one instant, to be surely one too many
};

const Subject kSubjects[] = {
    {"bucket", bucket(20, 10), 11},
    {"forward", bucket(20, 9, Kind::kForward), 11},
    {"window", window(Kind::kAligned, 20, kSecond), 21},
    {"first_hit", window(Kind::kFirstHit, 20, kSecond), 40},
    {"counter", window(Kind::kCounter, 20, kSecond), 21},
    {"floor", window(Kind::kFloorCounter, 20, kSecond), 21},
    {"log", window(Kind::kLog, 20, kSecond), 21},
};

// All admissions so far, by their time; asked in order of time.
class Model {
 public:
  explicit Model(const Part& part) : part_(part) {}
  bool admit(int64_t now) {
    if (!fits(now)) return false;
    times_.push_back(now);
    if (part_.kind == Kind::kFirstHit && now >= end_) {
      end_ = now + part_.period;
      count_ = 0;
    }
    ++count_;
    paid_ = std::max(paid_, now * part_.limit) + part_.period;
    return true;
  }

 private:
  int64_t since(int64_t from) const {
    int64_t count = 0;
    for (const int64_t time : times_) count += time >= from ? 1 : 0;
    return count;
  }
  bool fits(int64_t now) const {
    const int64_t begin = now / part_.period * part_.period;
    const int64_t owed = std::max<int64_t>(paid_ - now * part_.limit, 0);
    switch (part_.kind) {
      case Kind::kBucket:
        return owed + part_.period <= part_.capacity * part_.period;
      case Kind::kForward:
        return owed <= part_.capacity * part_.period;
      case Kind::kAligned:
        return since(begin) < part_.limit;
      case Kind::kFirstHit:
        return now >= end_ || count_ < part_.limit;
      case Kind::kCounter:
      case Kind::kFloorCounter: {
        const int64_t current = since(begin);
        int64_t faded = (since(begin - part_.period) - current) * (part_.period - (now - begin));
        if (part_.kind == Kind::kFloorCounter) faded = faded / part_.period * part_.period;
        return faded + (current + 1) * part_.period <= part_.limit * part_.period;
      }
      default:
        return since(now - part_.period + 1) < part_.limit;
    }
  }
  Part part_;
  std::vector<int64_t> times_;
  int64_t paid_ = 0;
  int64_t end_ = 0;
  int64_t count_ = 0;
};

constexpr int64_t kBegin = 100 * kSecond;

History sound(const Part& part, std::mt19937_64& random) {
  Model model(part);
  History history;
  int64_t now = kBegin;
  for (int i = 0; i < 400; ++i) {
    now += static_cast<int64_t>(random() % (random() % 16 == 0 ? 1000 * kMs : 40 * kMs));
    // Mostly short calls; some were stopped.
    const auto wide = static_cast<int64_t>(random() % 32 == 0 ? 900 * kMs : 1000);
    const Call call{now - static_cast<int64_t>(random() % 100) * wide / 100,
                    now + static_cast<int64_t>(random() % 100) * wide / 100, 1};
    (model.admit(now) ? history.admitted : history.denied).push_back(call);
  }
  // One that was killed: charged or not, nobody knows.
  if (!history.admitted.empty()) {
    history.unknown.push_back(history.admitted.back());
    history.admitted.pop_back();
  }
  return history;
}

int64_t unexplained(const Part& part, const History& history, const Paid& paid = {}) {
  std::vector<char> explained(history.denied.size());
  explain(part, history, paid, {}, std::vector<int64_t>(history.denied.size()), explained);
  return std::count(explained.begin(), explained.end(), 0);
}

class ChecksTest : public ::testing::TestWithParam<Subject> {};
INSTANTIATE_TEST_SUITE_P(Kinds, ChecksTest, ::testing::ValuesIn(kSubjects),
                         [](const auto& subject) { return std::string(subject.param.name); });

TEST_P(ChecksTest, SoundCallsPass) {
  std::mt19937_64 random(1);
  uint64_t refused = 0;
  for (int round = 0; round < 100; ++round) {
    const Part& part = GetParam().part;
    const History history = sound(part, random);
    EXPECT_EQ(check_admitted(part, history, {}, {}, 1).excess, 0);
    EXPECT_EQ(unexplained(part, history), 0);
    refused += history.denied.size();
  }
  EXPECT_GT(refused, 100u);
}

TEST_P(ChecksTest, OneTooManyIsFound) {
  const Part& part = GetParam().part;
  History history;
  const Call call{kBegin + 500 * kMs, kBegin + 500 * kMs + 200, 1};
  for (int64_t i = 1; i < GetParam().excess_of_one; ++i) history.admitted.push_back(call);
  EXPECT_EQ(check_admitted(part, history, {}, {}, 1).excess, 0);
  history.admitted.push_back(call);
  EXPECT_GT(check_admitted(part, history, {}, {}, 1).excess, 0);
  // Perhaps it was not in the window: then nothing can be said.
  history.admitted.back() = {kBegin - 3 * kSecond, kBegin + 4 * kSecond, 1};
  EXPECT_EQ(check_admitted(part, history, {}, {}, 1).excess, 0);
}

TEST_P(ChecksTest, OneTooManyInASoundRunIsFound) {
  std::mt19937_64 random(2);
  int found = 0;
  for (int round = 0; round < 50; ++round) {
    const Part& part = GetParam().part;
    History history = sound(part, random);
    const Call call = history.denied[random() % history.denied.size()];
    // What was refused is now said to be admitted, some times over.
    for (int64_t i = 0; i < part.limit; ++i) history.admitted.push_back(call);
    found += check_admitted(part, history, {}, {}, 1).excess > 0 ? 1 : 0;
  }
  EXPECT_GT(found, 25);  // not those that were stopped
}

TEST_P(ChecksTest, ARefusalWithoutCauseIsFound) {
  const Part& part = GetParam().part;
  History history;
  const int64_t now = kBegin + 900 * kMs;
  history.denied = {{now, now + 200, 1}};
  EXPECT_EQ(unexplained(part, history), 1);
  // One permit is left ...
  const int64_t most = part.kind == Kind::kBucket    ? part.capacity
                       : part.kind == Kind::kForward ? part.capacity + 1
                                                     : part.limit;
  for (int64_t i = 1; i < most; ++i) history.admitted.push_back({now - 500, now - 300, 1});
  EXPECT_EQ(unexplained(part, history), 1);
  // ... but for one who was killed; or none.
  history.unknown.push_back({now - 400, now - 250, 1});
  EXPECT_EQ(unexplained(part, history), 0);
  history.unknown.clear();
  history.admitted.push_back({now + 150, now + 400, 1});
  EXPECT_EQ(unexplained(part, history), 0);
  // Long ago is no cause.
  for (Call& call : history.admitted) call = {call.b - 3 * kSecond, call.a - 3 * kSecond, 1};
  EXPECT_EQ(unexplained(part, history), 1);
}

TEST(ObserverTest, ABucketsStateIsCarriedOver) {
  const Part part = bucket(20, 10);
  History first;
  for (int i = 0; i < 10; ++i) first.admitted.push_back({kBegin, kBegin + 100, 1});
  const Paid paid = settle(part, first, {});
  History second;
  const auto at = [](int64_t time) { return Call{kBegin + time, kBegin + time + 100, 1}; };
  second.admitted = {at(50 * kMs + 1000)};
  EXPECT_EQ(check_admitted(part, second, paid, {}, 1).excess, 0);
  second.admitted = {at(20 * kMs)};
  EXPECT_GT(check_admitted(part, second, paid, {}, 1).excess, 0);
  second.admitted.clear();
  second.denied = {at(40 * kMs)};
  EXPECT_EQ(unexplained(part, second, paid), 0);
  second.denied = {at(60 * kMs)};
  EXPECT_EQ(unexplained(part, second, paid), 1);
}

TEST(ObserverTest, RefundsMakeRoomInTheirWindowOnly) {
  const Part part = bucket(20, 10);
  History history;
  for (int i = 0; i < 12; ++i) history.admitted.push_back({kBegin, kBegin + 1000, 1});
  EXPECT_EQ(check_admitted(part, history, {}, {}, 1).excess, 2);
  history.refunds = {{kBegin + 100, kBegin + 200, 2}};
  EXPECT_EQ(check_admitted(part, history, {}, {}, 1).excess, 0);
  history.refunds = {{kBegin - 200, kBegin - 100, 2}};
  EXPECT_EQ(check_admitted(part, history, {}, {}, 1).excess, 2);
  history.refunds = {{kBegin + 2000, kBegin + 3000, 2}};
  EXPECT_EQ(check_admitted(part, history, {}, {}, 1).excess, 2);
}

TEST(ObserverTest, Leases) {
  const Part part = window(Kind::kLease, 2, kSecond);
  History history;
  history.leases = {{0, 10, 100, 120}, {20, 30, 60, 65}, {70, 75, 90, 95}};
  EXPECT_EQ(check_leases(part, history).excess, 0);
  history.leases.push_back({40, 50, 80, 90});
  EXPECT_EQ(check_leases(part, history).excess, 1);
  const auto explained = [&](int64_t b, int64_t a) {
    history.denied = {{b, a, 1}};
    std::vector<char> marks(1);
    explain_leases(part, history, marks);
    return marks[0] != 0;
  };
  EXPECT_TRUE(explained(62, 64));
  EXPECT_TRUE(explained(110, 130) == false && explained(92, 93));
}

TEST(ObserverTest, Bans) {
  Plan plan = {};
  plan.ban_after = 3;
  plan.ban_within = kSecond;
  plan.ban_for = kSecond;
  History history;
  history.barred = {{kBegin + 1500 * kMs, kBegin + 1501 * kMs, 1}};
  history.denied = {{kBegin, kBegin + 1, 1}, {kBegin + 2, kBegin + 3, 1}};
  EXPECT_EQ(unexplained_bans(plan, history), 1u);
  history.denied_before = {{kBegin - 3, kBegin - 2, 1}};
  EXPECT_EQ(unexplained_bans(plan, history), 0u);
  history.denied_before = {{kBegin - 3 * kSecond, kBegin - 2 * kSecond, 1}};
  EXPECT_EQ(unexplained_bans(plan, history), 1u);
}

}  // namespace
}  // namespace brim::soak
