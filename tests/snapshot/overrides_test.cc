// SPDX-License-Identifier: MIT
// Overrides and bans through a file: their texts, the ends of bans in wall-clock time, and files of
// the version before them.
#include <sqlite3.h>

#include "src/snapshot/store.h"
#include "tests/snapshot/support.h"

namespace brim::test {
namespace {

constexpr int64_t kHour = 3600 * kSecond;

class SnapshotOverrides : public SnapshotFiles {
 protected:
  // The segment made anew from the file, under another name and hash key.
  Limiter restored(const std::string& file, std::string hash_seed = {}) {
    Options options = options_;
    options.hash_seed = std::move(hash_seed);
    const auto head = read_snapshot(file);
    EXPECT_TRUE(head.ok()) << head.status();
    if (!head.ok()) return Limiter();
    other_ = std::make_unique<SegmentName>();
    auto made = Limiter::create(other_->str(), options);
    EXPECT_TRUE(made.ok()) << made.status();
    const auto report = restore(*made, file);
    EXPECT_TRUE(report.ok()) << report.status();
    lost_ = report.ok() ? report->overrides_lost : 0;
    return *made;
  }
  std::vector<OverrideInfo> overrides_of(const Limiter& limiter) {
    return Inspector::attach(limiter.name())->overrides();
  }
  void run_sql(const std::string& file, const char* sql) {
    sqlite3* database = nullptr;
    EXPECT_EQ(sqlite3_open(file.c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, sql, nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(database);
  }

  std::unique_ptr<SegmentName> other_;
  uint64_t lost_ = 0;
};

// Goal: what was set and banned is so afterwards, under another hash key too; a ban ends when it
// would have ended, one that has ended meanwhile is gone.
TEST_F(SnapshotOverrides, RoundTrip) {
  create();
  ASSERT_TRUE(limiter_.set_override("bucket", std::string("v\0p", 3), "unlimited").ok());
  ASSERT_TRUE(limiter_.set_network_override("*", "2001:db8::/32", "deny").ok());
  ASSERT_TRUE(limiter_.ban("fixed", "villain", kHour).ok());
  ASSERT_TRUE(limiter_.ban("*", "for ever", kNever).ok());
  ASSERT_TRUE(limiter_.ban("fixed", "short", 1).ok());
  const std::string longer(500, 'l');
  ASSERT_TRUE(limiter_.ban("fixed", longer, kHour).ok());
  take(folder_.file());
  const timespec pause = {0, 10000000};
  nanosleep(&pause, nullptr);
  const std::string seed = read_snapshot(folder_.file())->segment.hash_seed;
  for (const bool same_hash : {false, true}) {
    const Limiter other = restored(folder_.file(), same_hash ? seed : "");
    EXPECT_EQ(other.policy("bucket")->peek(std::string("v\0p", 3)).reason, Reason::kExempt);
    EXPECT_EQ(other.policy("bucket")->peek("2001:db8::1").reason, Reason::kBlocked);
    const Decision villain = other.policy("fixed")->peek("villain");
    EXPECT_EQ(villain.reason, Reason::kBarred);
    EXPECT_LT(villain.retry_after_ns, kHour);
    EXPECT_GT(villain.retry_after_ns, kHour / 2);
    EXPECT_EQ(other.policy("log")->peek("for ever").retry_after_ns, kNever);
    EXPECT_EQ(other.policy("fixed")->peek("short").reason, Reason::kNone);
    const Reason cut = same_hash ? Reason::kBarred : Reason::kNone;
    EXPECT_EQ(other.policy("fixed")->peek(longer).reason, cut);
    EXPECT_EQ(lost_, same_hash ? 0u : 1u) << "of a cut key only the hash is known";
    const size_t listed = overrides_of(other).size();
    EXPECT_EQ(listed, same_hash ? 5u : 4u);
    for (const OverrideInfo& one : overrides_of(other)) EXPECT_TRUE(one.has_key);
  }
}

// Goal: a policy that was removed is neither written nor restored.
TEST_F(SnapshotOverrides, RemovedPolicies) {
  create();
  fill(4);
  ASSERT_TRUE(limiter_.remove_policy("two").ok());
  take(folder_.file());
  const auto head = read_snapshot(folder_.file());
  ASSERT_TRUE(head.ok()) << head.status();
  for (const PolicyState& policy : head->policies) EXPECT_NE(policy.name, "two");
  options_.policies.erase(options_.policies.begin() + 4);
  const Limiter other = restored(folder_.file());
  EXPECT_FALSE(other.policy("two").ok());
  EXPECT_LT(other.policy("bucket")->peek("k3").remaining, 10u);
}

// Goal: a file of version 1 restores, and the next snapshot brings it up to date.
// Method: a segment without texts leaves the new table empty; without it the file is of version 1.
TEST_F(SnapshotOverrides, FilesOfTheVersionBefore) {
  options_.name_bytes = Options::kNoNames;
  create();
  ASSERT_TRUE(limiter_.set_override("bucket", "vip", "deny").ok());
  take(folder_.file());
  run_sql(folder_.file(), "DROP TABLE override_details; PRAGMA user_version = 1");
  const std::string seed = read_snapshot(folder_.file())->segment.hash_seed;
  EXPECT_EQ(restored(folder_.file(), seed).policy("bucket")->peek("vip").reason, Reason::kBlocked);
  ASSERT_TRUE(limiter_.ban("bucket", "villain", kHour).ok());
  take(folder_.file());
  const Limiter other = restored(folder_.file(), seed);
  EXPECT_EQ(other.policy("bucket")->peek("vip").reason, Reason::kBlocked);
  EXPECT_EQ(other.policy("bucket")->peek("villain").reason, Reason::kBarred);
  EXPECT_TRUE(folder_.entries(".corrupt-").empty());
}

// Goal: details that do not add up are damage.
TEST_F(SnapshotOverrides, DamagedDetails) {
  create();
  ASSERT_TRUE(limiter_.ban("fixed", "villain", kHour).ok());
  take(folder_.file());
  const std::string good = read_file(folder_.file());
  for (const char* const sql :
       {"DELETE FROM override_details", "UPDATE override_details SET ends_ns = ends_ns - 1",
        "UPDATE override_details SET ends_ns = NULL", "UPDATE override_details SET ends_ns = -1",
        "UPDATE override_details SET key = 'nobody!'", "UPDATE override_details SET key_length = 2",
        "UPDATE override_details SET policy = '*'", "DELETE FROM overrides"}) {
    place(folder_.file(), good);
    run_sql(folder_.file(), sql);
    EXPECT_TRUE(text_of(read_snapshot(folder_.file()).status()).starts_with("snapshot_corrupt: "))
        << sql;
  }
}

}  // namespace
}  // namespace brim::test
