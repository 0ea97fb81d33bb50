// SPDX-License-Identifier: MIT
// Damage of policies, overrides, header, attachments, counters and file.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "brim/cluster.h"
#include "brim/inspect.h"
#include "tests/unit/random_policy.h"
#include "tests/verify/support.h"

namespace brim::test {
namespace {

class VerifyPolicies : public VerifyTest {
 protected:
  shm::PolicyRecord& record(uint16_t number) const { return segment().policies()[number]; }
  // The copy that readers use.
  shm::PolicyCopy& copy(uint16_t number) const {
    return record(number).copy[record(number).version.load() & 1];
  }
};

TEST_F(VerifyPolicies, NamesAndTexts) {
  open(64, {{"p", "10/s burst 3"}, {"q", "10/s burst 3"}});
  record(1).name[0] = 'p';
  expect_kept("policy_name_twice");
  record(1).name[0] = '\x1b';
  expect_kept("policy_name_invalid");
  std::memset(record(1).name, 'x', sizeof(record(1).name));
  expect_kept("policy_name_invalid");
  std::memset(record(1).name, 0, sizeof(record(1).name));
  record(1).name[0] = 'q';
  const uint64_t text = copy(0).text[0];
  copy(0).text[0] = ~text;
  expect_kept("policy_text_invalid");
  ASSERT_TRUE(limiter_.change("p", "10/s burst 3").ok()) << "the remedy that is given";
  EXPECT_TRUE(run().findings.empty());
}

// Goal: each word that the text determines is compared. Method: alters each in turn.
TEST_F(VerifyPolicies, EveryWordOfARate) {
  open(64, {{"p", "10/s burst 3 ban 5 in 1m for 10m"},
            {"w", "fixed-window 5/m utc+2"},
            {"l", "concurrency 3 ttl 1m"}});
  EXPECT_TRUE(run().findings.empty()) << run().all();
  const auto altered = [&](uint16_t number, size_t word, uint64_t bits) {
    copy(number).words[word] ^= bits;
    const Findings found = run();
    copy(number).words[word] ^= bits;
    return found.count("policy_words_differ") == 1 && found.findings.size() == 1 &&
           found.report.errors == 1;
  };
  for (const size_t word :
       {kWordKind, kWordWhole, kWordPart, kWordDenominator, kWordReciprocal, kWordCapacity,
        kWordInverseWhole, kWordInversePart, kWordInverseDenominator, kWordInverseReciprocal,
        kWordLimit, kWordPeriod, kWordExtra, kWordAhead}) {
    EXPECT_TRUE(altered(0, word, 1)) << "word " << word;
  }
  EXPECT_TRUE(altered(0, kWordCapacityMax, copy(0).words[kWordCapacityMax])) << "0";
  EXPECT_TRUE(altered(1, kWordLimit, 2));
  EXPECT_TRUE(altered(2, kWordPeriod, 2));
  EXPECT_TRUE(altered(0, kOptionWords, 1 << 16)) << "enforced share";
  EXPECT_TRUE(altered(0, kWordFactor, 1 << 30));
  EXPECT_TRUE(altered(0, kBanPart * shm::kPartWords + kWordLimit, 1));
}

// The scope is in flags and options; a share is there only while other nodes are away.
TEST_F(VerifyPolicies, Scopes) {
  open(64, {{"c", "10/s; 100/h burst 3 scope cluster"}, {"s", "10/s scope cluster strict"}});
  const auto clean = [this] {
    const Findings found = run();
    return found.findings.empty() ? "" : found.all();
  };
  EXPECT_EQ(clean(), "");
  Options options;
  options.clock = ClockKind::kManual;
  options.manual_clock_ns = &*clock_;
  auto view = ClusterView::attach(name_.str(), options);
  ASSERT_TRUE(view.ok()) << view.status();
  ASSERT_TRUE(view->set_share(0, 250000).ok());
  EXPECT_EQ(clean(), "");
  EXPECT_TRUE(policy("c").try_acquire("key").admitted);
  EXPECT_EQ(clean(), "");
  const auto altered = [&](uint16_t number, size_t word, uint64_t bits) {
    copy(number).words[word] ^= bits;
    const Findings found = run();
    copy(number).words[word] ^= bits;
    return found.count("policy_words_differ") == 1 && found.findings.size() == 1;
  };
  EXPECT_TRUE(altered(0, kWordKind, uint64_t{kShared} << 16));
  EXPECT_TRUE(altered(1, kWordKind, uint64_t{kShared} << 16));
  EXPECT_TRUE(altered(1, kOptionWords, uint64_t{1} << 49)) << "strict";
  EXPECT_TRUE(altered(0, kWordShare, uint64_t{1} << 40));
  EXPECT_TRUE(altered(1, kWordShare, 1)) << "strict has none";
}

// Goal: no policy that the library itself wrote is found to differ from its text.
// Method: random policies; then changes, factors and overrides of them.
TEST_F(VerifyPolicies, NoFalseFindingAfterAnyChange) {
  open(64, {});
  Random random(11);
  int defined = 0;
  for (int i = 0; i < 4000 && defined < 60; ++i) {
    const std::string text = policy_text(random_policy(random));
    defined += limiter_.define("p" + std::to_string(defined), text).ok() ? 1 : 0;
  }
  ASSERT_EQ(defined, 60);
  EXPECT_TRUE(run().findings.empty()) << run().all();
  int changed = 0;
  for (int i = 0; i < 6000; ++i) {
    clock_->fetch_add(static_cast<int64_t>(random.below(3 * kSecond)));
    const std::string name = "p" + std::to_string(random.below(60));
    const std::string text = policy_text(random_policy(random));
    const auto how = static_cast<OnChange>(random.below(3));
    if (random.one_in(8)) {
      (void)limiter_.set_factor(name, static_cast<uint32_t>(random.below(1000001)));
    }
    if (random.one_in(64)) (void)limiter_.set_override(name, "key", "unlimited");
    changed += limiter_.change(name, text, how).ok() ? 1 : 0;
    if (i % 40 != 0) continue;
    const Findings found = run();
    ASSERT_TRUE(found.findings.empty()) << found.all();
  }
  EXPECT_GT(changed, 500);
}

class VerifyOverrides : public VerifyTest {
 protected:
  void SetUp() override {
    open(64, {{"p", "10/s burst 3"}, {"big", "100/s"}});
    ASSERT_TRUE(limiter_.set_override("p", "vip", "big").ok());
    ASSERT_TRUE(limiter_.set_override("*", "all", "deny").ok());
    entries_ = static_cast<shm::Pair*>(segment().overrides()) + shm::kOverrideHeaderElements;
    count_ = segment().section(shm::SectionType::kOverrides)->count - shm::kOverrideHeaderElements;
    for (uint64_t i = 0; i < count_; ++i) {
      if (entries_[i].low > shm::kOverrideDeleted &&
          shm::unpack_override(entries_[i].high).from == 0) {
        vip_ = i;
      }
    }
    EXPECT_TRUE(run().findings.empty()) << run().all();
  }
  shm::OverrideHeader& header() const {
    return *static_cast<shm::OverrideHeader*>(segment().overrides());
  }
  void set(shm::Override what) const {
    entries_[vip_].high = shm::pack_override(what, entries_[vip_].high);
  }
  shm::Pair* entries_ = nullptr;
  uint64_t count_ = 0;
  uint64_t vip_ = 0;
};

TEST_F(VerifyOverrides, Entries) {
  set({9, 0, 1});
  expect_kept("override_malformed");
  set({1, 0, 60});
  expect_kept("override_malformed");
  set({1, 50, 1});
  expect_kept("override_malformed");
  set({1, 0, 1});
  EXPECT_TRUE(run().findings.empty());
  const uint64_t far = (vip_ + count_ / 2) % count_;
  ASSERT_EQ(entries_[far].low, shm::kOverrideUnused);
  entries_[far] = entries_[vip_];
  entries_[vip_] = {shm::kOverrideDeleted, 0};
  expect_kept("override_unreachable");
  entries_[vip_] = entries_[far];
  entries_[far] = {0, 0};
  const uint64_t next = (vip_ + 1) % count_;
  ASSERT_EQ(entries_[next].low, shm::kOverrideUnused);
  entries_[next] = entries_[vip_];
  header().entries = 3;
  expect_kept("override_twice");
}

// Goal: a count that hides the overrides from callers is found, and mended by the repair.
TEST_F(VerifyOverrides, CountTooLow) {
  header().entries = 0;
  EXPECT_EQ(policy().try_acquire("all").reason, Reason::kNone);
  expect_repair("override_count_low");
  EXPECT_EQ(policy().try_acquire("all").reason, Reason::kBlocked);
}

TEST_F(VerifyOverrides, InterruptedChange) {
  header().changing = 1;
  EXPECT_EQ(run().report.errors, 0u);
  expect_repair("override_interrupted");
}

// Goal: whoever is told may change the segment. Method: under the lock that would be an error,
// after as long as a writer waits for it.
TEST_F(VerifyOverrides, VisitMayChangeTheSegment) {
  header().changing = 1;
  int told = 0;
  VerifyOptions options;
  options.repair = true;
  options.access.clock = ClockKind::kManual;
  options.access.manual_clock_ns = &*clock_;
  const auto visit = [&](const Finding& finding) {
    EXPECT_EQ(finding.name, "override_interrupted");
    const absl::Status changed = limiter_.ban("p", "somebody", 1000000000);
    EXPECT_TRUE(changed.ok()) << changed;
    ++told;
  };
  ASSERT_TRUE(verify(name_.str(), options, visit).ok());
  EXPECT_EQ(told, 1);
}

// Goal: findings that could not be confirmed, as somebody holds the lock, are not dropped.
TEST_F(VerifyOverrides, LockHeldBySomebodyElse) {
  set({9, 0, 1});
  const int other = ::open(("/dev/shm/" + name_.str()).c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(flock(other, LOCK_EX | LOCK_NB), 0);
  const Findings found = run(true);
  close(other);
  EXPECT_EQ(found.names, std::vector<std::string>{"overrides_not_checked"}) << found.all();
  EXPECT_EQ(found.report.warnings_remaining, 1u);
  expect_kept("override_malformed");
}

TEST_F(VerifyOverrides, PolicyThatDoesNotLook) {
  const shm::PolicyRecord& record = segment().policies()[0];
  auto& words = const_cast<shm::PolicyRecord&>(record).copy[record.version.load() & 1].words;
  words[kOptionWords] &= ~(uint64_t{1} << 48);
  EXPECT_EQ(run().report.errors, 0u);
  expect_kept("override_unseen");
}

TEST_F(VerifyTest, ReachBeyondTheLimit) {
  open(64, {{"p", "10/s burst 3"}});
  set_reach(1 << 20);
  expect_repair("reach_beyond_limit");
  EXPECT_EQ(segment().stored_reach(), raw_->window("key").size() / 4 - 1);
}

TEST_F(VerifyTest, AttachIdsNearlyUsed) {
  open(64, {{"p", "10/s burst 3"}});
  segment().shared()->next_attach_id = (1u << kAttachIdBits) - 100;
  EXPECT_EQ(run().report.errors, 0u);
  expect_kept("attach_ids_used");
}

// Goal: the entry of a killed process is a note and can be emptied; a living one's is neither.
TEST_F(VerifyTest, DeadAttachment) {
  open(64, {{"p", "10/s burst 3"}});
  EXPECT_TRUE(run().findings.empty()) << run().all();
  // The child enters itself when it is forked, and has no time to leave.
  const pid_t child = spawn([] { return true; });
  ASSERT_TRUE(succeeded(child));
  expect_repair("dead_attachment");
  shm::Attachment& entry = segment().attachments()[100];
  entry.owner = uint64_t{0x12345} << 32 | static_cast<uint32_t>(child);
  entry.pid_namespace = segment().attachments()[0].pid_namespace.load();
  expect_repair("dead_attachment");
  EXPECT_EQ(entry.owner, 0u);
  EXPECT_NE(segment().attachments()[0].owner, 0u) << "this process's own";
}

TEST_F(VerifyTest, FileChangedUnderTheName) {
  open(64, {{"p", "10/s burst 3"}});
  ASSERT_EQ(chmod(("/dev/shm/" + name_.str()).c_str(), 0400), 0);
  EXPECT_EQ(run().names, std::vector<std::string>{"mode_changed"});
  ASSERT_EQ(chmod(("/dev/shm/" + name_.str()).c_str(), 0600), 0);
  raw_->set(3, {id("key"), make_tentative(1, 2, now() - 5 * kSecond)});
  std::vector<std::string> names;
  VerifyOptions options;
  options.access.clock = ClockKind::kManual;
  options.access.manual_clock_ns = &*clock_;
  const auto report = verify(name_.str(), options, [&](const Finding& finding) {
    names.emplace_back(finding.name);
    (void)Limiter::unlink(name_.str());
  });
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(names, (std::vector<std::string>{"dead_tentative", "name_lost"}));
  EXPECT_TRUE(absl::IsNotFound(verify(name_.str(), options, nullptr).status()));
}

TEST_F(VerifyTest, ManualClockWithoutAClock) {
  open(64, {{"p", "10/s burst 3"}});
  VerifyOptions options;
  options.access.clock = ClockKind::kManual;
  for (const absl::Status& status : {verify(name_.str(), options, nullptr).status(),
                                     Inspector::attach(name_.str(), options.access).status(),
                                     Limiter::attach(name_.str(), options.access).status()}) {
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  }
}

TEST_F(VerifyTest, Counters) {
  open(64, {{"p", "10/s burst 3"}});
  (void)policy().try_acquire("key");
  const shm::Counters& counters = raw_->engine().counters;
  counters.add(shm::Event::kReclaimed, 5);
  expect_kept("counter_inconsistent");
  counters.add(shm::Event::kProbeLength0, 5);
  EXPECT_TRUE(run().findings.empty());
  counters.add(0, shm::PolicyCounter::kEvicted, 1);
  expect_kept("counter_inconsistent");
  counters.add(shm::Event::kEvictedLive, 1);
  counters.add(shm::Event::kProbeLength0, 1);
  counters.add(0, shm::PolicyCounter::kDenied, uint64_t{1} << 63);
  expect_kept("counter_inconsistent");
}

TEST_F(VerifyTest, CountersOfPlantedKeysAreANote) {
  open(3000, {{"p", "10/s burst 3"}});
  for (uint64_t i = 0; i < 2000; ++i) raw_->set(i, {shm::make_id(0, 5000 + i), full()});
  EXPECT_EQ(run().report.errors, 0u);
  expect_kept("counter_low");
}

}  // namespace
}  // namespace brim::test
