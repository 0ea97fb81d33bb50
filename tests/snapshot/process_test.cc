// SPDX-License-Identifier: MIT
// F47 and what goes with it: who writes when processes fork, die, or lose their files; sweeping
// beside traffic; memory that does not grow with the rows.
#include <cinttypes>

#include "tests/snapshot/support.h"

namespace brim::test {
namespace {

class F47 : public SnapshotFiles {
 protected:
  void SetUp() override { create(1024, {{"p", "100/d burst 100"}, {"log", "sliding-log 9/d"}}); }

  Snapshotter open() const {
    auto snapshotter = Snapshotter::open(name_.str(), to(file_));
    EXPECT_TRUE(snapshotter.ok()) << snapshotter.status();
    return *std::move(snapshotter);
  }
  uint64_t generation() const {
    const auto head = read_snapshot(file_);
    return head.ok() ? head->generation : 0;
  }
  // Ends by the test's own time limit if it never comes to pass.
  template <class True>
  void wait_until(True is_so) const {
    while (!is_so()) usleep(5000);
  }
  SnapshotLoopOptions every(int64_t ns) const {
    SnapshotLoopOptions options;
    options.snapshot = to(file_);
    options.interval_ns = ns;
    return options;
  }

  std::string file_ = folder_.file();
};

// Method: a child's copy of the Snapshotter writes nothing, and neither its end nor its
// destructors disturb the parent, whose lock and open database it shares.
TEST_F(F47, AChildNeitherWritesNorHolds) {
  Snapshotter parent = open();
  ASSERT_TRUE(parent.take().ok());
  for (const bool destroy : {false, true}) {
    const pid_t child = spawn([&] {
      const absl::Status status = parent.take().status();
      if (!text_of(status).starts_with("snapshot_forked")) return false;
      if (!destroy) return true;
      Snapshotter gone(std::move(parent));
      return true;
    });
    ASSERT_TRUE(succeeded(child));
    policy("p").try_acquire("k");
    const auto report = parent.take();
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_FALSE(report->full) << "the parent had to begin anew";
    EXPECT_EQ(report->written, 1u);
    EXPECT_TRUE(read_snapshot(file_).ok());
  }
  // A child that lives on does not keep the lock: another process leads once the parent has ended.
  const Shared<std::atomic<uint32_t>> go;
  Children children;
  children.add(spawn([&] {
    while (*go == 0) usleep(1000);
    return true;
  }));
  Snapshotter other = open();
  EXPECT_TRUE(text_of(other.take().status()).starts_with("snapshot_not_leader"));
  { const Snapshotter ended(std::move(parent)); }
  EXPECT_TRUE(other.take().ok());
  *go = 1;
  EXPECT_TRUE(children.all_succeeded());
}

// Goal: F45, what a kill may leave is what a reader may see: whole snapshots, one after the other.
// Method: a writer without a pause, and a reader beside it; each look passes all checks.
TEST_F(F47, F45ReadersSeeWholeSnapshots) {
  ASSERT_EQ(take(file_).generation, 1u);
  const Shared<std::atomic<uint32_t>> stop;
  Children writer;
  writer.add(spawn([&] {
    auto snapshotter = Snapshotter::open(name_.str(), to(file_));
    for (uint32_t n = 0; *stop == 0; ++n) {
      policy("p").try_acquire(std::to_string(n % 300));
      if (!snapshotter.ok() || !snapshotter->take().ok()) return false;
    }
    return true;
  }));
  uint64_t last = 1;
  uint32_t changes = 0;
  for (uint32_t looks = 0; changes < scaled(200, 20000); ++looks) {
    const auto head = read_snapshot(file_);
    ASSERT_TRUE(head.ok()) << head.status();
    ASSERT_GE(head->generation, last);
    changes += head->generation > last ? 1 : 0;
    last = head->generation;
    ASSERT_TRUE(writer.all_running());
  }
  *stop = 1;
  EXPECT_TRUE(writer.all_succeeded());
}

// A failure is counted in the segment; being no leader is none.
TEST_F(F47, OnlyFailuresCount) {
  Snapshotter leader = open();
  ASSERT_TRUE(leader.take().ok());
  Snapshotter other = open();
  EXPECT_TRUE(absl::IsUnavailable(other.take().status()));
  EXPECT_EQ(Inspector::attach(name_.str())->info().snapshot_failures, 0u);
  EXPECT_EQ(Inspector::attach(name_.str())->info().snapshot_generation, 1u);
}

// Method: without its lock file the leader leads no more than whoever makes a new one; what both
// write is whole, and the one that lost looks again.
TEST_F(F47, LockFileRemoved) {
  Snapshotter first = open();
  ASSERT_TRUE(first.take().ok());
  unlink((file_ + ".lock").c_str());
  Snapshotter second = open();
  policy("p").try_acquire("a", 7);
  const auto report = second.take();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->generation, 2u);
  EXPECT_TRUE(text_of(first.take().status()).starts_with("snapshot_not_leader"));
  { const Snapshotter ended(std::move(second)); }
  policy("p").try_acquire("b", 7);
  const auto again = first.take();
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->generation, 3u);
  EXPECT_TRUE(again->full) << "another wrote meanwhile";
  EXPECT_EQ(again->rows, 2u);
}

TEST_F(F47, FileRemovedOrReplaced) {
  Snapshotter writer = open();
  for (int n = 0; n < 50; ++n) policy("p").try_acquire(std::to_string(n));
  ASSERT_TRUE(writer.take().ok());
  const std::string copy = read_file(file_);
  unlink(file_.c_str());
  policy("p").try_acquire("more");
  auto report = writer.take();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->full);
  EXPECT_EQ(read_snapshot(file_)->rows, 51u);
  // Another file under the name, and the log of the one before it left beside it.
  { const Snapshotter ended(std::move(writer)); }
  Snapshotter next = open();
  ASSERT_TRUE(next.take().ok());
  policy("p").try_acquire("yet more");
  ASSERT_TRUE(next.take().ok());
  const std::string other = folder_.file("other");
  write_file(other, read_file(file_));
  ASSERT_EQ(rename(other.c_str(), file_.c_str()), 0);
  report = next.take();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->full);
  EXPECT_EQ(read_snapshot(file_)->rows, 52u);
  policy("p").try_acquire("and more");
  report = next.take();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->written, 1u);
  EXPECT_EQ(read_snapshot(file_)->rows, 53u);
}

// Method: two processes with a SnapshotThread; the one that writes is killed, the other goes on.
TEST_F(F47, ThreadsInWorkersTakeOver) {
  const Shared<std::atomic<uint32_t>> stop;
  Children workers;
  for (int n = 0; n < 2; ++n) {
    workers.add(spawn([&] {
      const SnapshotThread thread(name_.str(), every(20 * kMs));
      while (*stop == 0) usleep(1000);
      return true;
    }));
    wait_until([&] { return generation() != 0; });  // the first one leads
  }
  for (int round = 0; round < 3; ++round) {
    const uint64_t before = generation();
    policy("p").try_acquire("round" + std::to_string(round));
    wait_until([&] { return generation() > before; });
    if (round == 0) kill(workers[0], SIGKILL);
  }
  EXPECT_TRUE(running(workers[1]));
  // A snapshot that had begun before the last call may be the one that was waited for.
  wait_until([&] { return read_snapshot(file_)->rows == 3; });
  *stop = 1;
  EXPECT_TRUE(succeeded(workers[1]));
}

// A stopped leader keeps the lock: nobody overtakes it, and its pid is told.
TEST_F(F47, AStoppedLeaderIsNotOvertaken) {
  const Shared<std::atomic<uint32_t>> ready;
  Children children;
  children.add(spawn([&] {
    auto leader = Snapshotter::open(name_.str(), to(file_));
    if (!leader.ok() || !leader->take().ok()) return false;
    *ready = 1;
    for (;;) pause();
  }));
  wait_until([&] { return *ready != 0; });
  kill(children[0], SIGSTOP);
  Snapshotter other = open();
  const std::string message = text_of(other.take().status());
  EXPECT_TRUE(
      message.starts_with("snapshot_not_leader: process " + std::to_string(children[0]) + " "))
      << message;
  EXPECT_EQ(generation(), 1u);
  children.kill_all();
  EXPECT_EQ(other.take()->generation, 2u);
}

TEST_F(F47, DestructionTakesALastSnapshot) {
  {
    const SnapshotThread thread(name_.str(), every(3600 * kSecond));
    wait_until([&] { return generation() != 0; });
    policy("p").try_acquire("k", 60);
    EXPECT_EQ(read_snapshot(file_)->rows, 0u);
    // A child of the process has no thread to end, and writes nothing.
    EXPECT_TRUE(succeeded(spawn([&] {
      const_cast<SnapshotThread&>(thread).~SnapshotThread();
      return true;
    })));
    EXPECT_EQ(generation(), 1u);
  }
  EXPECT_EQ(read_snapshot(file_)->rows, 1u);
  const SegmentName other;
  EXPECT_EQ(create_restored(other.str(), {}, file_)->policy("p")->peek("k").remaining, 40u);
}

// Goal: sweep frees idle keys only, whatever others do meanwhile.
// Method: keys that owe for a day and keys that owe a millisecond; other processes go on asking for
//   both; after each sweep those that owe are there, and none was given more than its burst.
TEST(Sweep, FreesIdleKeysOnly) {
  const SegmentName name;
  Options options;
  options.capacity = 4096;
  options.policies = {{"day", "20/d burst 20 on-unavailable deny"},
                      {"quick", "1000/s burst 1"},
                      {"log", "sliding-log 5/d on-unavailable deny"},
                      {"ban", "5/s burst 5 ban 1 in 1h for 1h"}};
  const auto limiter = Limiter::create(name.str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  constexpr uint32_t kKeys = 100;
  struct Counts {
    std::atomic<uint32_t> stop;
    std::atomic<uint32_t> day[kKeys];
    std::atomic<uint32_t> log[kKeys];
  };
  const Shared<Counts> counts;
  const auto key = [](uint64_t n) { return "k" + std::to_string(n); };
  for (uint32_t n = 0; n < kKeys; ++n) {
    for (int i = 0; i < 7; ++i) (void)limiter->policy("ban")->try_acquire(key(n));
  }
  Children children;
  for (uint32_t worker = 0; worker < 2; ++worker) {
    children.add(spawn([&, worker] {
      std::mt19937 random(worker);
      const PolicyHandle day = *limiter->policy("day");
      const PolicyHandle log = *limiter->policy("log");
      const PolicyHandle quick = *limiter->policy("quick");
      while (counts->stop == 0) {
        const auto n = static_cast<uint32_t>(random() % kKeys);
        if (day.try_acquire(key(n)).admitted) counts->day[n].fetch_add(1);
        if (log.try_acquire(key(n)).admitted) counts->log[n].fetch_add(1);
        for (int i = 0; i < 4; ++i) quick.try_acquire("q" + std::to_string(random() % 1000));
        if (random() % 64 == 0) usleep(1000);
      }
      return true;
    }));
  }
  uint64_t freed = 0;
  const uint32_t rounds = scaled(60, 3000);
  for (uint32_t round = 0; round < rounds; ++round) {
    usleep(5000);
    freed += limiter->sweep(10 * kMs);
  }
  counts->stop = 1;
  EXPECT_TRUE(children.all_succeeded());
  EXPECT_GT(freed, rounds) << "nothing went idle: the test is blind";
  for (uint32_t n = 0; n < kKeys; ++n) {
    EXPECT_LE(counts->day[n], 20u) << n;
    EXPECT_EQ(counts->day[n] + limiter->policy("day")->peek(key(n)).remaining, 20u) << n;
    EXPECT_EQ(counts->log[n] + limiter->policy("log")->peek(key(n)).remaining, 5u) << n;
    EXPECT_EQ(limiter->policy("ban")->peek(key(n), 1).reason, Reason::kBarred) << n;
  }
  usleep(30000);
  (void)limiter->sweep(kMs);
  EXPECT_EQ(limiter->sweep(kMs), 0u) << "the same slots are freed twice";
}

// Goal: a writer and a reader keep 16 bytes a slot and a constant, whatever the rows hold.
// Method: the same number of slots, few rows and 200 000; the peak of a child that writes and one
//   that reads grows by less than the rows are long.
TEST(Memory, DoesNotGrowWithTheRows) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer has memory of its own";
  const SegmentName name;
  const Folder folder;
  Options options;
  options.capacity = 262144;
  options.name_bytes = 64;
  options.policies = {{"p", "100/d burst 100"}};
  const auto limiter = Limiter::create(name.str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const PolicyHandle p = *limiter->policy("p");
  SnapshotOptions to;
  to.synchronous = Synchronous::kOff;
  // Anonymous memory only: the segment itself and the page cache are not the writer's.
  const Shared<std::atomic<int64_t>> peak;
  const auto anonymous_kb = [] {
    std::ifstream file("/proc/self/status");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with("RssAnon:")) return std::strtoll(line.c_str() + 8, nullptr, 10);
    }
    return 0LL;
  };
  const auto measure = [&](auto body) {
    peak->store(0);
    EXPECT_TRUE(succeeded(spawn([&] {
      const int64_t before = anonymous_kb();
      const auto look = [&] { peak->store(std::max<int64_t>(*peak, anonymous_kb() - before)); };
      return body(look);
    })));
    return peak->load();
  };
  int64_t writer[2];
  int64_t reader[2];
  for (int full = 0; full < 2; ++full) {
    const int keys = full == 0 ? 100 : 200000;
    for (int n = 0; n < keys; ++n) p.try_acquire("a key of some length: " + std::to_string(n));
    to.file = folder.file("m" + std::to_string(full));
    writer[full] = measure([&](auto look) {
      auto snapshotter = Snapshotter::open(name.str(), to);
      const auto report = snapshotter->take();
      look();
      return report.ok() && report->rows >= static_cast<uint64_t>(keys) * 9 / 10;
    });
    reader[full] = measure([&](auto look) {
      uint64_t rows = 0;
      return read_snapshot(to.file,
                           [&](const KeyState&) {
                             if (++rows % 64 == 0) look();
                             return true;
                           })
          .ok();
    });
  }
  const int64_t slots = 16 * 262144 / 1024;  // kB
  const int64_t file = static_cast<int64_t>(std::filesystem::file_size(to.file)) / 1024;
  std::printf("Memory: writer %" PRId64 " and %" PRId64 " kB, reader %" PRId64 " and %" PRId64
              " kB, file %" PRId64 " kB\n",
              writer[0], writer[1], reader[0], reader[1], file);
  EXPECT_LE(writer[1], slots + 8192);
  EXPECT_LE(reader[1], reader[0] + 4096);
  EXPECT_GT(file, slots + 8192 + 4096) << "too few rows to tell";
}

}  // namespace
}  // namespace brim::test
