// SPDX-License-Identifier: MIT
// A resize in the middle of a call, at each of its points in turn, and one that is killed at each
// of its own stores: never more than the policy, whichever table a call is decided in.
#include "brim/resize.h"

#include "shm/schedule_point.h"
#include "tests/process/support.h"

namespace {

struct Points {
  bool armed = false;
  uint64_t passed = 0;   // all
  uint64_t stores = 0;   // but those of a policy's record: the new one has no name then
  uint64_t meet_at = 0;  // of all
  uint64_t kill_at = 0;  // of the stores
  std::function<void()> meets = {};
} points;

}  // namespace

extern "C" void brim_schedule_point(BrimPoint point) noexcept {
  if (!points.armed) return;
  if (point == BrimPoint::kChange || point == BrimPoint::kStore) {
    if (++points.stores == points.kill_at) raise(SIGKILL);
  }
  // One word of a policy's record is as good as another.
  if (point == BrimPoint::kLoadRecord || point == BrimPoint::kChangeRecord) return;
  if (++points.passed != points.meet_at) return;
  points.armed = false;
  points.meets();
  points.armed = true;
}

namespace brim::test {
namespace {

constexpr uint32_t kLimit = 4;

const char* const kTexts[] = {"4/d",
                              "token-bucket 4/d",
                              "fixed-window 4/d first-hit",
                              "queue 4/d burst 3",
                              "sliding-log 4/d",
                              "4/d; 9/d; sliding-log 5/d",
                              "sliding-counter 4/d",
                              "4/d ban 100 in 1m for 1m",
                              "4/d classes 99 99 100"};

// A segment with one policy, and key "k" with `used` permits charged.
class Place {
 public:
  Place(const char* text, uint32_t used, bool other_key = false) {
    clock_->store(kEpoch);
    options_.capacity = 64;
    options_.max_policies = 2;
    options_.overrides = 1;
    options_.cells_per_key = 8;
    options_.clock = ClockKind::kManual;
    options_.manual_clock_ns = &*clock_;
    access_ = options_;
    options_.policies = {{"p", text}};
    access_.accept_stored = true;
    limiter = *Limiter::create(name.str(), options_);
    policy = *limiter.policy("p");
    for (uint32_t i = 0; i < used; ++i) EXPECT_TRUE(take(policy, "k"));
    if (other_key) {
      EXPECT_TRUE(take(policy, "other"));
    }
  }

  absl::Status grow(uint64_t capacity = 256) const {
    return resize(name.str(), {.capacity = capacity}, access_).status();
  }
  // A process that is killed at one of the stores of its resize. False: it came to the end.
  bool grow_killed(uint64_t at) const {
    const pid_t pid = spawn([&] {
      points = {};
      points.armed = true;
      points.kill_at = at;
      return grow().ok();
    });
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) return true;
    EXPECT_EQ(status, 0);
    return false;
  }
  static bool take(const PolicyHandle& policy, std::string_view key) {
    return policy.try_acquire(key, {1, Priority::kCritical}).verdict == Verdict::kAllowed;
  }
  // How many more pass, asked for by old hands and newcomers by turns.
  uint32_t left(std::string_view key = "k") const {
    const auto newcomer = Limiter::attach(name.str(), access_);
    EXPECT_TRUE(newcomer.ok()) << newcomer.status();
    if (!newcomer.ok()) return 1000;
    uint32_t admitted = 0;
    const PolicyHandle fresh = *newcomer->policy("p");
    const PolicyHandle by_turns[] = {policy, fresh};
    for (int refused = 0, i = 0; refused < 2 && i < 40; ++i) {
      const bool passed = take(by_turns[i % 2], key);
      admitted += passed ? 1 : 0;
      refused = passed ? 0 : refused + 1;
    }
    return admitted;
  }

  SegmentName name;
  Limiter limiter;
  PolicyHandle policy;

 private:
  Shared<std::atomic<int64_t>> clock_;
  Options options_;
  Options access_;
};

// Permits of "k" that each form of call takes.
using Form = uint32_t (*)(const PolicyHandle& policy);
const Form kForms[] = {[](const PolicyHandle& p) { return p.try_acquire("k").admitted ? 1u : 0u; },
                       [](const PolicyHandle& p) { return Place::take(p, "k") ? 1u : 0u; },
                       [](const PolicyHandle& p) { return p.try_acquire_up_to("k", 1, 2).cost; },
                       [](const PolicyHandle& p) {
                         const std::string_view keys[] = {"k", "other"};
                         Decision out[2];
                         p.try_acquire_batch(keys, out);
                         return out[0].admitted ? 1u : 0u;
                       },
                       [](const PolicyHandle& p) {
                         const PolicyHandle::Ask asks[] = {{&p, "k", 1}, {&p, "other", 1}};
                         return PolicyHandle::try_acquire_all(asks).admitted ? 1u : 0u;
                       },
                       [](const PolicyHandle& p) {
                         return p.reserve("k", 1, 0).decision.verdict == Verdict::kAllowed ? 1u
                                                                                           : 0u;
                       },
                       [](const PolicyHandle& p) { return p.commit("k", 1, 2) ? 1u : 0u; }};

// Runs `form` with `meets` at each of its points in turn; what was admitted in all is never more
// than the limit, and less by what one call takes at most.
template <class Meets>
void meet_everywhere(const char* text, size_t form, uint32_t used, Meets meets, uint64_t& runs) {
  for (uint64_t at = 1;; ++at) {
    const Place place(text, used);
    points = {};
    points.meet_at = at;
    points.meets = [&] { meets(place); };
    points.armed = true;
    const uint32_t taken = kForms[form](place.policy);
    points.armed = false;
    const bool met = points.passed >= at;
    const uint32_t all = used + taken + place.left();
    ASSERT_LE(all, kLimit) << text << ", form " << form << ", point " << at;
    ASSERT_GE(all, kLimit - 2) << text << ", form " << form << ", point " << at;
    ++runs;
    if (!met) return;
  }
}

// Goal: no permit is in neither table (the second look at the flags; the copy after the switch).
TEST(ResizePoints, ResizeInTheMiddleOfACall) {
  uint64_t runs = 0;
  for (const char* text : kTexts) {
    for (size_t form = 0; form < std::size(kForms); ++form) {
      if (form > 0 && text != kTexts[form % 2 * 5] && !slow()) continue;
      // A key that is new, and one that is there.
      for (const uint32_t used : {0u, 2u}) {
        if ((form > 0 || text != kTexts[0]) && used == 0 && !slow()) continue;
        meet_everywhere(
            text, form, used, [](const Place& place) { EXPECT_TRUE(place.grow().ok()); }, runs);
      }
    }
  }
  std::printf("resize in a call: %lu runs\n", runs);
}

// Goal: the same where the resize stands still half way and calls look at both tables.
TEST(ResizePoints, HalfAResizeInTheMiddleOfACall) {
  uint64_t runs = 0;
  for (const char* text : {kTexts[0], kTexts[4], kTexts[5]}) {
    points = {};
    {
      const Place place(text, 2);
      points.armed = true;
      ASSERT_TRUE(place.grow().ok());
      points.armed = false;
    }
    const uint64_t last = points.stores;
    // Before the end of filling, in the middle of a key, before the first.
    for (const uint64_t before : {0, 3}) {
      for (const size_t form : {0, 2}) {
        if (form != 0 && text != kTexts[0] && !slow()) continue;
        meet_everywhere(
            text, form, 2, [&](const Place& place) { place.grow_killed(last - before); }, runs);
      }
    }
  }
  std::printf("half a resize in a call: %lu runs\n", runs);
}

// Goal: killed at any store, a resize leaves the old table, or both, in use; the next one finishes
//   it; nothing is forgiven, and what is given back is given back once.
TEST(ResizePoints, KilledAtEveryStore) {
  uint64_t kills = 0;
  uint64_t filling = 0;
  for (const char* text : kTexts) {
    // Not at every one each time: steps that are prime to the cases below.
    const uint64_t step = slow() ? 1 : text == kTexts[5] ? 5 : 7;
    for (uint64_t at = 1;; at += step) {
      const Place place(text, 3, true);
      const bool killed = place.grow_killed(at);
      const SegmentInfo info = Inspector::attach(place.name.str())->info();
      filling += info.superseded ? 1 : 0;
      const bool paused = at % 3 == 0;
      const bool refunds = !paused && at % 2 == 0;
      if (paused) {
        EXPECT_TRUE(place.limiter.pause().ok());
      }
      if (refunds) {
        EXPECT_TRUE(place.policy.refund("k"));
      }
      if (paused) {
        EXPECT_TRUE(place.policy.reset("other"));
      }
      if (info.superseded) {
        EXPECT_FALSE(place.limiter.set_factor("p", 500000).ok());
      }
      ASSERT_TRUE(place.grow(128).ok()) << text << " at " << at;
      EXPECT_EQ(place.limiter.paused(), paused);
      EXPECT_TRUE(place.limiter.resume().ok());
      EXPECT_EQ(place.left(), kLimit - 3 + (refunds ? 1 : 0)) << text << " at " << at;
      EXPECT_EQ(place.left("other"), paused ? kLimit : kLimit - 1) << text << " at " << at;
      EXPECT_TRUE(place.limiter.linked());
      EXPECT_TRUE(place.limiter.set_factor("p", 500000).ok());
      if (!killed) break;
      ++kills;
    }
  }
  EXPECT_GT(filling, kills / 50);
  std::printf("resize killed: %lu kills, %lu of them after the switch\n", kills, filling);
}

}  // namespace
}  // namespace brim::test
