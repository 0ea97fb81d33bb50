// SPDX-License-Identifier: MIT
// The kill switch: every call admits, is counted as such, and leaves no trace.
#include "tests/policies/support.h"

namespace brim::test {
namespace {

class Pause : public Policies {};

// Goal: every entry honours it, from the next call on and for all attached; nothing is charged.
TEST_F(Pause, EveryCallAdmitsAndChargesNothing) {
  open({{"p", "2/h"},
        {"two", "5/h; 3/h"},
        {"log", "sliding-log 2/h"},
        {"c", "concurrency 1 ttl 10s"},
        {"shut", "deny"}});
  const PolicyHandle p = policy("p");
  const Limiter other = *Limiter::attach(name_->str(), options_);
  EXPECT_EQ(passes(p, "spent"), 2u);
  const Lease lease = policy("c").acquire_lease("k");
  ASSERT_TRUE(lease);
  EXPECT_FALSE(limiter_.paused());
  ASSERT_TRUE(other.pause().ok());
  ASSERT_TRUE(other.pause().ok());
  EXPECT_TRUE(limiter_.paused());
  EXPECT_TRUE(Inspector::attach(name_->str())->info().paused);
  const auto paused = [](const Decision& decision) {
    return decision.verdict == Verdict::kAllowed && decision.admitted &&
           decision.reason == Reason::kPaused && decision.retry_after_ns == 0;
  };
  EXPECT_TRUE(paused(p.try_acquire("spent")));
  EXPECT_TRUE(paused(p.try_acquire("spent", {1, Priority::kHigh})));
  EXPECT_TRUE(paused(p.try_acquire_at(now(), "spent")));
  EXPECT_TRUE(paused(p.peek("spent", 1)));
  EXPECT_TRUE(paused(p.acquire("spent", kSecond)));
  EXPECT_TRUE(paused(policy("two").try_acquire("spent", 100)));
  EXPECT_TRUE(paused(policy("log").try_acquire("spent", 2)));
  EXPECT_TRUE(paused(policy("shut").try_acquire("spent")));
  const Granted granted = p.try_acquire_up_to("spent", 1, 7);
  EXPECT_TRUE(paused(granted.decision));
  EXPECT_EQ(granted.cost, 7u);
  const std::string_view keys[] = {"spent", "new"};
  Decision out[2];
  p.try_acquire_batch(keys, out);
  EXPECT_TRUE(paused(out[0]) && paused(out[1]));
  const PolicyHandle two = policy("two");
  const PolicyHandle::Ask asks[] = {{&p, "spent", 1}, {&two, "spent", 1}};
  EXPECT_TRUE(paused(PolicyHandle::try_acquire_all(asks)));
  const Ticket ticket = p.reserve("spent", 1, kSecond);
  EXPECT_TRUE(paused(ticket.decision));
  EXPECT_FALSE(p.cancel("spent", ticket));
  const Lease more = policy("c").acquire_lease("k");
  EXPECT_TRUE(paused(more.decision));
  EXPECT_EQ(more.place, Lease::kNoPlace);
  EXPECT_TRUE(policy("c").release(more));
  EXPECT_FALSE(p.refund("spent"));  // those admitted now were not charged
  EXPECT_TRUE(p.commit("spent", 1, 2));
  EXPECT_EQ(counter("p", "paused"), 9u);
  EXPECT_EQ(counter("two", "paused"), 2u);
  EXPECT_EQ(counter("c", "paused"), 1u);
  EXPECT_EQ(counter("p", "allowed"), 2u);

  ASSERT_TRUE(limiter_.resume().ok());
  EXPECT_FALSE(other.paused());
  EXPECT_FALSE(p.try_acquire("spent"));  // owed as before
  EXPECT_EQ(passes(p, "new"), 2u);       // nothing was charged
  EXPECT_EQ(passes(policy("two"), "spent"), 3u);
  EXPECT_EQ(passes(policy("log"), "spent"), 2u);
  EXPECT_FALSE(policy("c").acquire_lease("k"));
  EXPECT_TRUE(policy("c").release(lease));
}

// Goal: an operator can forgive a key while all is paused; read-only processes see the pause and
//   can not set it; it outlasts whoever set it.
TEST_F(Pause, WhoMayAndHowLong) {
  open({{"p", "1/h"}});
  EXPECT_TRUE(policy("p").try_acquire("k"));
  {
    const Limiter other = *Limiter::attach(name_->str(), options_);
    ASSERT_TRUE(other.pause().ok());
  }
  const Limiter reader = *Limiter::attach_read_only(name_->str(), options_);
  EXPECT_TRUE(reader.paused());
  EXPECT_EQ(reader.policy("p")->peek("k", 1).reason, Reason::kPaused);
  EXPECT_EQ(reader.policy("p")->try_acquire("k").reason, Reason::kPaused);
  EXPECT_TRUE(absl::IsFailedPrecondition(reader.resume()));
  EXPECT_TRUE(absl::IsFailedPrecondition(Limiter().pause()));
  EXPECT_FALSE(Limiter().paused());
  EXPECT_TRUE(policy("p").reset("k"));
  ASSERT_TRUE(limiter_.resume().ok());
  EXPECT_TRUE(policy("p").try_acquire("k"));
}

}  // namespace
}  // namespace brim::test
