// SPDX-License-Identifier: MIT
// F48: a file that was damaged, cut, exchanged or robbed of its log gives its sound contents or an
// error that names the reason; never a wrong value, never a crash. Its bytes are kept.
#include <sqlite3.h>

#include "tests/snapshot/support.h"

namespace brim::test {
namespace {

class F48 : public SnapshotFiles {
 protected:
  // A sound file in one piece: the last connection to close has moved the log into it.
  void SetUp() override {
    create();
    fill(6);
    ASSERT_TRUE(limiter_.set_override("bucket", "vip", "unlimited").ok());
    ASSERT_TRUE(limiter_.set_factor("two", 500000).ok());
    take(file_);
    ASSERT_TRUE(folder_.entries("-wal").empty());
    good_ = read_file(file_);
    absl::Status status;
    sound_ = contents(file_, status);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_GT(good_.size(), 4096u);
  }

  // True if the file is refused; if it is not, it must say exactly what it said before.
  bool refused(const std::string& what) {
    absl::Status status;
    const std::string now = contents(file_, status);
    if (status.ok()) {
      EXPECT_TRUE(now == sound_) << what << ": a wrong value was read";
      return false;
    }
    const std::string message = text_of(status);
    EXPECT_TRUE(message.starts_with("snapshot_corrupt: ") ||
                message.starts_with("snapshot_foreign: ") ||
                message.starts_with("snapshot_version: "))
        << what << ": " << message;
    return true;
  }

  // What is refused is set aside with its bytes, and the next snapshot stands in its place.
  void expect_set_aside(const std::string& bytes, std::string_view reason) {
    SCOPED_TRACE(reason);
    const size_t before = folder_.entries(".corrupt-").size();
    place(file_, bytes);
    auto snapshotter = Snapshotter::open(name_.str(), to(file_));
    ASSERT_TRUE(snapshotter.ok()) << snapshotter.status();
    const auto report = snapshotter->take();
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_TRUE(report->full);
    EXPECT_EQ(report->generation, 1u);
    EXPECT_TRUE(snapshotter->set_aside().starts_with(reason)) << snapshotter->set_aside();
    const auto aside = folder_.entries(".corrupt-");
    ASSERT_EQ(aside.size(), before + 1);
    size_t same = 0;
    for (const std::string& one : aside) same += read_file(one) == bytes ? 1 : 0;
    EXPECT_GE(same, 1u) << "the damaged file's bytes are lost";
    EXPECT_TRUE(read_snapshot(file_).ok());
  }

  std::string file_ = folder_.file();
  std::string good_;
  std::string sound_;
};

// Method: one bit of one byte after the other; a sample over all pages, everything in slow.
TEST_F(F48, BitFlips) {
  const size_t step = slow() ? 1 : std::max<size_t>(1, good_.size() / scaled(2000, 1));
  std::mt19937_64 random(48);
  uint32_t found = 0;
  uint32_t harmless = 0;
  std::string bytes = good_;
  for (size_t at = 0; at < bytes.size(); at += slow() ? 1 : 1 + random() % (2 * step)) {
    for (int bit = slow() ? 0 : static_cast<int>(random() % 8), left = slow() ? 8 : 1; left != 0;
         ++bit, --left) {
      bytes[at] = static_cast<char>(good_[at] ^ (1 << bit));
      place(file_, bytes);
      const bool was = refused("byte " + std::to_string(at) + " bit " + std::to_string(bit));
      ++(was ? found : harmless);
      if (HasFailure()) return;
    }
    bytes[at] = good_[at];
  }
  std::printf("F48: %zu bytes, %u flips refused, %u in bytes that nobody reads\n", good_.size(),
              found, harmless);
  EXPECT_GT(found, harmless / 20) << "the check is blind";
}

TEST_F(F48, CutAnywhere) {
  for (size_t size = 0; size < good_.size(); size += 4096) {
    for (const size_t odd : {size_t{0}, size_t{1}, size_t{100}, size_t{4095}}) {
      if (size + odd >= good_.size()) break;
      place(file_, good_.substr(0, size + odd));
      EXPECT_TRUE(refused("cut to " + std::to_string(size + odd)));
    }
  }
}

TEST_F(F48, SetAsideAndOn) {
  std::string flipped = good_;
  const size_t key = flipped.find("k5");
  ASSERT_NE(key, std::string::npos);
  flipped[key + 1] = '6';
  expect_set_aside(flipped, "snapshot_corrupt");
  expect_set_aside(good_.substr(0, 8192), "snapshot_corrupt");
  expect_set_aside("no database, but some words of a text file", "snapshot_corrupt");
  expect_set_aside(std::string(10000, '\0'), "snapshot_corrupt");
}

// Method: the two marks of the file's header, changed by SQLite itself.
TEST_F(F48, OtherMarks) {
  const auto marked = [&](const char* sql) {
    place(file_, good_);
    sqlite3* database = nullptr;
    EXPECT_EQ(sqlite3_open(file_.c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, sql, nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(database);
    return read_file(file_);
  };
  expect_set_aside(marked("PRAGMA user_version = 3"), "snapshot_version");
  expect_set_aside(marked("PRAGMA user_version = 0"), "snapshot_version");
  expect_set_aside(marked("PRAGMA user_version = 1"), "snapshot_corrupt");  // a table too many
  expect_set_aside(marked("PRAGMA application_id = 7"), "snapshot_foreign");
  for (const char* sql : {"DROP TABLE keys", "DELETE FROM keys WHERE slot > 20", "DROP TABLE meta",
                          "DELETE FROM overrides", "UPDATE policies SET factor_ppm = 1000000",
                          "UPDATE keys SET used = 0", "DELETE FROM meta WHERE name = 'sum'",
                          "UPDATE meta SET value = value + 1 WHERE name = 'wall_ns'",
                          "DROP VIEW states; ALTER TABLE keys DROP COLUMN barred",
                          "UPDATE keys SET as_of_ns = as_of_ns + 1"}) {
    expect_set_aside(marked(sql), "snapshot_corrupt");
  }
}

// An empty file is what a writer leaves that was killed before its first transaction: filled. The
// same with SQLite's own header in it. Nothing is there to be set aside.
TEST_F(F48, BegunFilesAreFilled) {
  place(file_, "");
  EXPECT_EQ(take(file_).generation, 1u);
  place(file_, "");
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(file_.c_str(), &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database, "PRAGMA journal_mode = WAL", nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(database);
  ASSERT_GT(read_file(file_).size(), 0u);
  EXPECT_EQ(take(file_).generation, 1u);
  EXPECT_TRUE(folder_.entries(".corrupt-").empty());
}

TEST_F(F48, RestoringFromDamage) {
  const SegmentName other;
  const std::string bytes = good_.substr(0, good_.size() / 2);
  place(file_, bytes);
  EXPECT_TRUE(absl::IsDataLoss(create_restored(other.str(), {}, file_).status()));
  EXPECT_TRUE(absl::IsNotFound(Limiter::attach(other.str()).status())) << "half a segment is left";
  EXPECT_EQ(read_file(file_), bytes) << "create_restored only reads";
  Options options;
  options.policies = one_of_each();
  std::string note;
  const auto opened = open_restored(other.str(), options, file_, &note);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_TRUE(note.starts_with("snapshot_corrupt: ")) << note;
  EXPECT_NE(note.find("it was renamed to "), std::string::npos) << note;
  EXPECT_EQ(opened->policy("bucket")->peek("k5").remaining, 10u);
  const auto aside = folder_.entries(".corrupt-");
  ASSERT_EQ(aside.size(), 1u);
  EXPECT_EQ(read_file(aside[0]), bytes);
  EXPECT_TRUE(absl::IsNotFound(read_snapshot(file_).status()));
}

// Method: a writer that is killed leaves the last snapshots in the log. Without it the file is the
// whole snapshot of the last checkpoint, or refused; with a cut or damaged log it is one of the
// snapshots that were taken, or refused.
TEST_F(F48, LogMissingCutOrDamaged) {
  std::vector<std::string> taken = {sound_};
  const pid_t writer = spawn([&] {
    auto snapshotter = Snapshotter::open(name_.str(), to(file_));
    for (int n = 0; n < 5; ++n) {
      policy("bucket").try_acquire("more" + std::to_string(n));
      if (!snapshotter.ok() || !snapshotter->take().ok()) return false;
      const std::string copy = folder_.file("copy" + std::to_string(n));
      for (const char* const tail : {"", "-wal"}) write_file(copy + tail, read_file(file_ + tail));
    }
    raise(SIGKILL);
    return false;
  });
  int status = 0;
  ASSERT_EQ(waitpid(writer, &status, 0), writer);
  ASSERT_TRUE(WIFSIGNALED(status));
  absl::Status read;
  for (int n = 0; n < 5; ++n) {
    taken.push_back(contents(folder_.file("copy" + std::to_string(n)), read));
    ASSERT_TRUE(read.ok()) << read;
  }
  const std::string main = read_file(file_);
  const std::string log = read_file(file_ + "-wal");
  ASSERT_GT(log.size(), 4096u);
  const auto look = [&](const std::string& what, const std::string& bytes) {
    place(file_, main);
    if (!bytes.empty()) write_file(file_ + "-wal", bytes);
    const std::string now = contents(file_, read);
    const std::string message = text_of(read);
    if (read.ok()) {
      EXPECT_NE(std::find(taken.begin(), taken.end(), now), taken.end())
          << what << ": no snapshot that was taken";
    } else {
      EXPECT_TRUE(message.starts_with("snapshot_corrupt") ||
                  message.starts_with("snapshot_foreign"))
          << what << ": " << message;
    }
    return now;
  };
  EXPECT_EQ(look("whole", log), taken.back());
  EXPECT_EQ(look("missing", ""), taken.front()) << "the snapshot of the last checkpoint is whole";
  std::mt19937_64 random(7);
  std::map<std::string, int> seen;
  for (uint32_t n = 0; n < scaled(200, 5000) && !HasFailure(); ++n) {
    ++seen[look("cut", log.substr(0, 1 + random() % log.size()))];
    std::string flipped = log;
    const size_t at = random() % log.size();
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << random() % 8));
    ++seen[look("flipped", flipped)];
  }
  EXPECT_GE(seen.size(), 3u) << "the cuts never fell between two snapshots";
}

}  // namespace
}  // namespace brim::test
