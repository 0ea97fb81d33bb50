// SPDX-License-Identifier: MIT
// What is beside the slots of policies `scope cluster`, when somebody was stopped in the middle,
// the secret or the policy changes, or the table does; see shm/consumption.h.
#include "brim/resize.h"
#include "shm/consumption.h"
#include "src/use.h"
#include "tests/policies/cluster.h"

namespace brim::test {
namespace {

class ClusterCellsTest : public ClusterTest {
 protected:
  // The segment under the name, as bytes.
  shm::Segment& raw() {
    if (raw_ == nullptr) {
      auto attached = shm::Segment::attach(name_->str(), {});
      EXPECT_TRUE(attached.ok()) << attached.status();
      raw_ = *std::move(attached);
    }
    return *raw_;
  }
  shm::Consumption cells() {
    return {raw().slots(), raw().use_cells(), raw().near_marks(), raw().tier_board()};
  }
  int64_t untold_sum() {
    int64_t sum = 0;
    for (const KeyUse& use : uses()) sum += use.untold();
    return sum;
  }
  std::shared_ptr<shm::Segment> raw_;
};

// A worker was stopped between its count and saying whose it is, until the slot was another key's:
// it must not take that one's name away, whose use would not be told until it is used again.
TEST_F(ClusterCellsTest, AStoppedOneDoesNotTakeANameAway) {
  start({{"p", "100/h scope cluster"}}, 4);
  shm::Consumption cells = this->cells();
  shm::AtomicSlot* const slot = raw().slots();
  const uint64_t a = shm::make_id(0, 77);
  const uint64_t b = shm::make_id(0, 88);
  shm::UseSeen stopped;
  shm::UseSeen now;
  slot->pair.low = a;
  ASSERT_TRUE(cells.count(
      0, a, 3, [] { return 1; }, stopped));
  slot->pair.low = b;
  ASSERT_TRUE(cells.count(
      0, b, 5, [] { return 3; }, now));
  cells.identify(0, now, 1234);
  cells.mark(0);
  cells.acknowledge(0, 1234, 3, 2);
  cells.identify(0, stopped, 4321);
  const shm::UseSeen seen = cells.look(0);
  EXPECT_EQ(seen.identity, 1234u);
  EXPECT_EQ(seen.untold(), 3);
  ASSERT_EQ(uses(false).size(), 1u);
  // Nor does it count for the other, or take its count away.
  EXPECT_FALSE(cells.count(
      0, a, 3, [] { return 1; }, stopped));
  EXPECT_EQ(cells.look(0).total, 5u);
}

// What was given back matters to others as what was used.
TEST_F(ClusterCellsTest, GivenBackIsTold) {
  start({{"p", "100/h scope cluster"}});
  const PolicyHandle p = policy("p");
  view_->set_hold_back(0, 0, 25);
  EXPECT_TRUE(p.try_acquire("k", 60).admitted);
  ASSERT_EQ(uses(false).size(), 1u);
  view_->acknowledge(use());
  EXPECT_TRUE(p.refund("k", 24));
  EXPECT_TRUE(uses(false).empty());
  EXPECT_TRUE(p.refund("k", 1));
  const std::vector<KeyUse> given = uses(false);
  ASSERT_EQ(given.size(), 1u);
  EXPECT_EQ(given[0].untold(), -25);
}

TEST_F(ClusterCellsTest, GivenBackIsNotTakenAgainByALevelFromBefore) {
  start({{"p", "3600/h burst 100 scope cluster"}});
  const PolicyHandle p = policy("p");
  EXPECT_TRUE(p.try_acquire("k", 50).admitted);
  const KeyUse told = use();  // and the store answers: 50 of ours, 10 of others
  EXPECT_TRUE(p.refund("k", 20));
  EXPECT_TRUE(view_->raise(told, level(told, 60), now()));
  EXPECT_EQ(p.peek("k").remaining, 100u - (60 - 20));
  EXPECT_TRUE(p.reset("k"));
  EXPECT_TRUE(view_->raise(told, level(told, 5), now()));  // others' 5 are given back, too
  EXPECT_EQ(p.peek("k").remaining, 100u);
}

// Rates that a policy has no more are nobody's business.
TEST_F(ClusterCellsTest, RatesThatAreGoneAreNotGiven) {
  start({{"p", "10/h; 20/d scope cluster"}});
  const PolicyHandle p = policy("p");
  EXPECT_TRUE(p.try_acquire("k", 3).admitted);
  EXPECT_EQ(uses().size(), 2u);
  ASSERT_TRUE(limiter_.change("p", "10/h scope cluster").ok());
  ASSERT_EQ(uses().size(), 1u);
  EXPECT_EQ(uses()[0].part, 0u);
  ASSERT_EQ(view_->policies().size(), 1u);
  EXPECT_EQ(view_->policies()[0].rates.size(), 1u);
  ASSERT_TRUE(limiter_.change("p", "10/h; 20/d").ok());
  EXPECT_TRUE(uses().empty());
  EXPECT_TRUE(view_->policies().empty());
  ASSERT_TRUE(limiter_.change("p", "10/h; 20/d scope cluster").ok());
  EXPECT_EQ(uses().size(), 2u);  // it goes on
}

// Nobody can be told of keys that nobody has named: they do not keep their slots.
TEST_F(ClusterCellsTest, WithoutAnAgentIdleSlotsAreTaken) {
  open({{"p", "3600/h burst 4 scope cluster"}}, 4);
  const PolicyHandle p = policy("p");
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(p.try_acquire("k" + std::to_string(i)).admitted);
  advance(10 * kSecond);
  EXPECT_TRUE(p.try_acquire("new").admitted);
  EXPECT_EQ(counter("p", "evicted"), 0u);
  EXPECT_GE(limiter_.sweep(1), 3u);
}

// While a resize carries keys over, calls look at both tables. What is given back in both was used
// once: others hear of it once.
TEST_F(ClusterCellsTest, GivenBackOnceWhileATableIsCarriedOver) {
  start({{"p", "100/h scope cluster"}}, 64);
  const PolicyHandle p = policy("p");
  EXPECT_TRUE(p.try_acquire("k", 10).admitted);
  const Ticket ticket = p.reserve("k", 5, kNever);
  EXPECT_TRUE(ticket);
  EXPECT_EQ(untold_sum(), 15);
  const absl::StatusOr<ResizeReport> report = resize(name_->str(), {.capacity = 128}, options_);
  ASSERT_TRUE(report.ok()) << report.status();
  // As if it were not done yet.
  shm::set_flag(*raw().shared(), shm::kFlagFilling);
  Options attach = options_;
  attach.capacity = 0;
  attach.policies.clear();
  absl::StatusOr<ClusterView> later = ClusterView::attach(name_->str(), attach);
  ASSERT_TRUE(later.ok()) << later.status();
  later->set_secret(kSecret);
  const auto sum = [&] {
    int64_t both = untold_sum();
    later->for_each_use(true, [&](const KeyUse& use) {
      both += use.untold();
      return true;
    });
    return both;
  };
  EXPECT_EQ(sum(), 15);
  EXPECT_TRUE(p.cancel("k", ticket));
  EXPECT_EQ(sum(), 10);
  EXPECT_TRUE(p.refund("k", 4));
  EXPECT_EQ(sum(), 6);
  EXPECT_TRUE(p.reset("k"));
  EXPECT_EQ(sum(), 0);
}

// The store is told of a reset, once, or it would charge the key again.
TEST_F(ClusterCellsTest, AResetOfAStrictPolicyIsTold) {
  class Notes : public StrictDecider {
   public:
    Answer ask(const Ask& asked) noexcept override {
      used = asked.cost + used - std::min<uint64_t>(used, asked.given_back);
      Answer answer;
      answer.known = answer.admitted = true;
      answer.as_of_ns = kEpoch;
      answer.level_units[0] = used * asked.terms[0].permit_units;
      return answer;
    }
    uint64_t used = 0;
  };
  start({{"p", "10/h scope cluster strict"}});
  const auto notes = std::make_shared<Notes>();
  ASSERT_TRUE(set_strict_decider(limiter_, notes).ok());
  const PolicyHandle p = policy("p");
  EXPECT_EQ(p.try_acquire("k", 7).remaining, 3u);
  EXPECT_TRUE(p.reset("k"));
  EXPECT_EQ(notes->used, 0u);
  EXPECT_EQ(p.try_acquire("k", 1).remaining, 9u);
}

}  // namespace
}  // namespace brim::test
