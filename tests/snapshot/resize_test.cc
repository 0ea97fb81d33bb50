// SPDX-License-Identifier: MIT
// Snapshots beside a resize that was killed between its switch and its end: the table that has the
// name grows stale, the one that decides may lack keys. No snapshot may pass for a fresh one.
#include "brim/resize.h"

#include <sqlite3.h>

#include <cstdio>

#include "tests/snapshot/support.h"

namespace brim::test {
namespace {

// A resize tells how far it is once in so many slots, after the switch.
constexpr uint64_t kCapacity = 100000;

class Resized : public SnapshotFiles {
 protected:
  void make() {
    create(kCapacity, {{"p", "10/d burst 1000"}});
    charge("k", 10);
  }
  void charge(std::string_view key, uint32_t cost) const {
    ASSERT_TRUE(policy("p").try_acquire(key, {cost, Priority::kNormal}).admitted);
  }
  void resize_killed() const {
    const pid_t pid = spawn([&] {
      ResizeOptions options;
      options.progress = [](const ResizeProgress&) { raise(SIGKILL); };
      return resize(name_.str(), options).ok();
    });
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFSIGNALED(status));
    ASSERT_TRUE(info().superseded);
  }
  SegmentInfo info() const { return Inspector::attach(name_.str())->info(); }
  std::string table() const { return "/dev/shm/" + name_.str(); }
  std::string next_table() const { return "/dev/shm/.brim-next-" + name_.str(); }
  void run_sql(const char* sql) const {
    sqlite3* database = nullptr;
    EXPECT_EQ(sqlite3_open(folder_.file().c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, sql, nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(database);
  }
  // Permits that the file says "k" has taken.
  uint64_t taken(uint64_t* generation = nullptr) const {
    uint64_t used = 0;
    std::vector<PolicyState> policies;
    const auto head = read_snapshot(
        folder_.file(),
        [&](const KeyState& key) {
          const uint32_t shift = policies.at(0).rates.at(0).unit_shift;
          if (key.key == "k") used = (key.used + (uint64_t{1} << shift) - 1) >> shift;
          return true;
        },
        [&](const SnapshotFile& file) { policies = file.policies; });
    EXPECT_TRUE(head.ok()) << head.status();
    if (head.ok() && generation != nullptr) *generation = head->generation;
    return used;
  }
};

// Goal: from the switch on it fails, is counted where `brim info` looks, and is told once; the
// resize finished, all goes on without anyone's help.
TEST_F(Resized, FailsUntilItIsFinished) {
  make();
  std::vector<std::string> said;
  SnapshotLoopOptions options;
  options.snapshot = to(folder_.file());
  options.say = [&](int level, const std::string& what) {
    said.push_back(std::to_string(level) + " " + what);
  };
  SnapshotLoop loop(name_.str(), options);
  loop.step();
  ASSERT_EQ(said.size(), 1u) << said.back();
  resize_killed();
  charge("k", 20);  // the new table alone knows
  for (int n = 0; n < 3; ++n) EXPECT_EQ(loop.step(), options.interval_ns);
  ASSERT_EQ(said.size(), 2u) << said.back();
  EXPECT_TRUE(said.back().starts_with("3 snapshot_moving: ")) << said.back();
  EXPECT_NE(said.back().find("brim resize finishes it"), std::string::npos);
  EXPECT_EQ(info().snapshot_failures, 3u);
  EXPECT_TRUE(text_of(loop.finish()).starts_with("snapshot_moving"));
  auto newcomer = Snapshotter::open(name_.str(), to(folder_.file("other.db")));
  ASSERT_TRUE(newcomer.ok()) << newcomer.status();
  EXPECT_TRUE(newcomer->superseded());
  EXPECT_TRUE(absl::IsUnavailable(newcomer->take().status()));
  uint64_t generation = 0;
  EXPECT_EQ(taken(&generation), 10u);
  EXPECT_EQ(generation, 1u);
  ASSERT_TRUE(resize(name_.str(), {}).ok());
  loop.step();
  EXPECT_EQ(taken(&generation), 30u);
  EXPECT_EQ(generation, 2u);
  EXPECT_EQ(info().snapshot_failures, 0u);
  EXPECT_EQ(info().snapshot_generation, 2u);
}

// Goal: the same for who attached the table that is being filled.
TEST_F(Resized, FailsWhileItIsFilled) {
  make();
  resize_killed();
  ASSERT_EQ(std::rename(next_table().c_str(), table().c_str()), 0);
  auto filling = Snapshotter::open(name_.str(), to(folder_.file()));
  ASSERT_TRUE(filling.ok()) << filling.status();
  EXPECT_FALSE(filling->superseded());
  EXPECT_TRUE(text_of(filling->take().status()).starts_with("snapshot_moving"));
  EXPECT_EQ(info().snapshot_failures, 1u);
}

// Goal: whenever a resize comes, a snapshot that is said to be taken is no stale one.
// Method: permits are taken and snapshots made in turn while another process resizes; after each
// good snapshot the file has at least what had been charged before it was begun.
TEST_F(Resized, AtAnyMoment) {
  make();
  const pid_t pid = spawn([&] {
    for (uint32_t n = 0; n < scaled(6, 60); ++n) {
      ResizeOptions options;
      options.capacity = kCapacity + n;
      options.progress = [](const ResizeProgress&) { usleep(20000); };
      if (!resize(name_.str(), options).ok()) return false;
      usleep(10000);
    }
    return true;
  });
  SnapshotLoopOptions options;
  options.snapshot = to(folder_.file());
  SnapshotLoop loop(name_.str(), options);
  uint64_t last = 0;
  uint32_t good = 0;
  int status = 0;
  uint32_t charged = 10;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (charged < 900) {
      charge("k", 1);
      ++charged;
    }
    loop.step();
    uint64_t generation = last;
    if (read_snapshot(folder_.file()).ok()) {
      const uint64_t used = taken(&generation);
      if (generation != last) {
        EXPECT_GE(used, charged) << "generation " << generation;
        ++good;
      }
    }
    last = generation;
  }
  EXPECT_EQ(status, 0);
  charge("k", 1);
  loop.step();
  EXPECT_GE(taken(), charged + 1);
  std::printf("snapshots amid resizes: %u\n", good);
}

// Goal: a state is not called merged that went where nobody looks.
TEST_F(Resized, StateForATableThatCanNotBeReached) {
  make();
  const auto reader = StateReader::attach(name_.str());
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::vector<KeyState> states;
  reader->for_each([&](const KeyState& state) {
    states.push_back(state);
    return true;
  });
  ASSERT_EQ(states.size(), 1u);
  const auto writer = StateWriter::open(limiter_, reader->segment(), reader->policies());
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_EQ(writer->put(states[0], 0), PutResult::kMerged);
  resize_killed();
  ASSERT_EQ(unlink(next_table().c_str()), 0);
  EXPECT_EQ(writer->put(states[0], 0), PutResult::kContended);
}

// Goal: the file of the table before a resize is not merged into the one after it; what it says of
// its line is covered by the sum.
TEST_F(Resized, LineageInTheFile) {
  make();
  const std::string first = StateReader::attach(name_.str())->segment().uuid;
  take(folder_.file());
  ASSERT_TRUE(resize(name_.str(), {}).ok());
  policy("p").reset("k");
  take(folder_.file());
  const SegmentState now = StateReader::attach(name_.str())->segment();
  EXPECT_EQ(now.lineage, first);
  EXPECT_NE(now.uuid, first);
  const auto head = read_snapshot(folder_.file());
  ASSERT_TRUE(head.ok()) << head.status();
  EXPECT_EQ(head->segment.lineage, first);
  EXPECT_EQ(head->segment.uuid, now.uuid);
  EXPECT_EQ(head->rows, 0u);
  EXPECT_EQ(head->generation, 2u);
  run_sql("UPDATE meta SET value = '0123456789abcdef0123456789abcdef' WHERE name = 'lineage'");
  EXPECT_TRUE(text_of(read_snapshot(folder_.file()).status()).starts_with("snapshot_corrupt"));
  run_sql("DELETE FROM meta WHERE name = 'lineage'");
  EXPECT_TRUE(text_of(read_snapshot(folder_.file()).status()).starts_with("snapshot_corrupt"));
}

}  // namespace
}  // namespace brim::test
