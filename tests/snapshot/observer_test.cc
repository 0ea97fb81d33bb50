// SPDX-License-Identifier: MIT
// P9, P11: what a lost machine costs, seen from outside.
//
// Goal: over a whole run in which everything is killed again and again, restored from the snapshot
// and continued, for each key and every span of time
//
//   admitted <= what the policy admits in such a span + the sum, over the losses in it, of
//               min(burst or limit, what the key was admitted from the start of the last snapshot
//                   that was taken until the loss)
//
// and, where workers end before the writer takes its last snapshot, without that sum.
// Method: worker processes ask as fast as they are let, a writer takes a snapshot every 100 ms.
// Each admission is noted with the time before and after the call, in memory that survives every
// kill. Then workers and writer are killed at once, the segment is removed, and made again from the
// file. The check is run without the sum, too, and without a restore: both must be seen as an
// excess.
#include <time.h>

#include <cinttypes>
#include <limits>

#include "tests/snapshot/support.h"

namespace brim::test {
namespace {

constexpr uint32_t kWorkers = 3;
constexpr uint32_t kKeys = 2;  // of each policy
constexpr uint32_t kMostRecords = 1 << 20;
constexpr uint32_t kMostGenerations = 1 << 16;

struct Kind {
  const char* name;
  const char* text;
  uint64_t most;  // at one instant
  uint64_t limit;
  int64_t period_ns;
};

constexpr Kind kKinds[] = {
    {"fast", "40/s burst 20 on-unavailable deny", 20, 40, kSecond},
    {"slow", "5/s burst 40 on-unavailable deny", 40, 5, kSecond},
    {"fixed", "fixed-window 40/3s on-unavailable deny", 40, 40, 3 * kSecond},
    {"counter", "sliding-counter 40/3s on-unavailable deny", 40, 40, 3 * kSecond},
    {"log", "sliding-log 40/3s on-unavailable deny", 40, 40, 3 * kSecond}};
constexpr uint32_t kCounted = 5 * kKeys;

struct Record {
  std::atomic<uint32_t> done;
  uint32_t key;
  int64_t before;
  int64_t after;
};

struct Ledger {
  std::atomic<uint32_t> stop_workers;
  std::atomic<uint32_t> stop_writer;
  std::atomic<uint64_t> generation;
  std::atomic<int64_t> started[kMostGenerations];
  std::atomic<uint32_t> records;
  Record record[kMostRecords];
};

struct Call {
  int64_t before;
  int64_t after;
};

struct Loss {
  int64_t when = 0;
  int64_t since = 0;  // when the snapshot that was restored was begun
};

void sleep_ns(int64_t ns) {
  const timespec time = {ns / kSecond, ns % kSecond};
  nanosleep(&time, nullptr);
}

class Observer : public ::testing::Test {
 protected:
  Options options() const {
    Options options;
    options.capacity = 256;
    for (const Kind& kind : kKinds) options.policies.push_back({kind.name, kind.text});
    return options;
  }

  void start(const Limiter& limiter) {
    ledger_->stop_workers = ledger_->stop_writer = 0;
    for (uint32_t worker = 0; worker < kWorkers; ++worker) {
      workers_.add(spawn([this, &limiter, seed = random_()] { return work(limiter, seed); }));
    }
    writer_.add(spawn([this] { return write(); }));
  }

  bool work(const Limiter& limiter, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<PolicyHandle> policies;
    for (const Kind& kind : kKinds) policies.push_back(*limiter.policy(kind.name));
    while (ledger_->stop_workers == 0) {
      for (int n = 0; n < 20; ++n) {
        const auto key = static_cast<uint32_t>(random() % kCounted);
        const int64_t before = monotonic_now_ns();
        const bool admitted =
            policies[key / kKeys].try_acquire("key" + std::to_string(key)).admitted;
        if (!admitted) continue;
        const uint32_t at = ledger_->records.fetch_add(1);
        if (at >= kMostRecords) return false;
        Record& record = ledger_->record[at];
        record.key = key;
        record.before = before;
        record.after = monotonic_now_ns();
        record.done = 1;
      }
      sleep_ns(static_cast<int64_t>(random() % (4 * kMs)));
    }
    return true;
  }

  bool write() {
    auto snapshotter = Snapshotter::open(name_.str(), to_);
    if (!snapshotter.ok()) return false;
    for (bool last = false; !last; sleep_ns(last ? 0 : 100 * kMs)) {
      last = ledger_->stop_writer != 0;
      const uint64_t next = ledger_->generation + 1;
      if (next >= kMostGenerations) return false;
      ledger_->started[next] = monotonic_now_ns();
      const auto report = snapshotter->take();
      if (!report.ok() || report->generation != next) return false;
      ledger_->generation = report->generation;
    }
    return true;
  }

  // Runs until a snapshot was taken and a random time longer.
  void run_a_while() {
    const uint64_t first = ledger_->generation;
    while (ledger_->generation == first) {
      ASSERT_TRUE(writer_.all_running());
      sleep_ns(5 * kMs);
    }
    sleep_ns(static_cast<int64_t>(200 * kMs + random_() % (500 * kMs)));
  }

  // Everything of the machine but its disk is gone.
  void lose() {
    workers_.kill_all();
    writer_.kill_all();
    Loss loss;
    loss.when = monotonic_now_ns();
    const auto file = read_snapshot(to_.file);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_GE(file->generation, ledger_->generation) << "a snapshot that was told is lost";
    ASSERT_LE(file->generation, ledger_->generation + 1);
    ledger_->generation = file->generation;
    loss.since = ledger_->started[file->generation];
    losses_.push_back(loss);
  }

  void stop_cleanly() {
    ledger_->stop_workers = 1;
    ASSERT_TRUE(workers_.all_succeeded());
    ledger_->stop_writer = 1;
    ASSERT_TRUE(writer_.all_succeeded());
  }

  // The run, with `rounds` ends of everything.
  void run(uint32_t rounds, bool clean, bool restored) {
    absl::StatusOr<Limiter> limiter = Limiter::create(name_.str(), options());
    for (uint32_t round = 0;; ++round) {
      ASSERT_TRUE(limiter.ok()) << limiter.status();
      start(*limiter);
      run_a_while();
      if (HasFatalFailure()) return;
      if (clean || round == rounds) {
        stop_cleanly();
      } else {
        lose();
      }
      if (HasFatalFailure() || round == rounds) return;
      limiter = Limiter();
      ASSERT_TRUE(Limiter::unlink(name_.str()).ok());
      limiter = restored ? create_restored(name_.str(), options(), to_.file)
                         : Limiter::create(name_.str(), options());
    }
  }

  std::vector<Call> calls(uint32_t key) const {
    std::vector<Call> list;
    for (uint32_t i = 0; i < std::min(ledger_->records.load(), kMostRecords); ++i) {
      const Record& record = ledger_->record[i];
      if (record.done != 0 && record.key == key) list.push_back({record.before, record.after});
    }
    std::sort(list.begin(), list.end(),
              [](const Call& a, const Call& b) { return a.before < b.before; });
    return list;
  }

  // What a policy admits to a key in a span of this length, however it lies. Processes' clocks
  // may differ by 1 ms; the wall clock counts while the segment is away, and may run 0.1 % off.
  static int64_t allowed(const Kind& kind, int64_t span) {
    span += kMs + span / 1000;
    const auto periods = static_cast<uint64_t>(span / kind.period_ns);
    const std::string_view name = kind.name;
    uint64_t most = 0;
    if (name == "log") {
      most = kind.limit * (periods + 1);
    } else if (name == "fixed" || name == "counter") {  // docs/concepts/algorithms.md: worst case
      most = kind.limit * (periods + 2) - (name == "counter" && periods == 0 ? 1 : 0);
    } else {
      most = kind.most + refill(kind.limit, span);
    }
    return static_cast<int64_t>(most);
  }

  std::vector<int64_t> costs(const Kind& kind, const std::vector<Call>& list) const {
    std::vector<int64_t> each;
    for (const Loss& loss : losses_) {
      const auto since = std::count_if(list.begin(), list.end(), [&](const Call& call) {
        return call.after >= loss.since && call.before <= loss.when;
      });
      each.push_back(std::min<int64_t>(since, static_cast<int64_t>(kind.most)));
    }
    return each;
  }

  // Most that any key was admitted beyond the bound in any span; `with_losses`: with the sum.
  int64_t excess(bool with_losses) const {
    int64_t worst = std::numeric_limits<int64_t>::min();
    for (uint32_t key = 0; key < kCounted; ++key) {
      const Kind& kind = kKinds[key / kKeys];
      const std::vector<Call> list = calls(key);
      const std::vector<int64_t> cost = costs(kind, list);
      const auto lost = [&](int64_t from, int64_t to) {
        int64_t sum = 0;
        for (size_t i = 0; with_losses && i < cost.size(); ++i) {
          if (losses_[i].when >= from && losses_[i].when <= to) sum += cost[i];
        }
        return sum;
      };
      for (size_t i = 0; i < list.size(); ++i) {
        int64_t end = 0;
        for (size_t j = i; j < list.size(); ++j) {
          end = std::max(end, list[j].after);
          const auto count = static_cast<int64_t>(j - i + 1);
          const int64_t over = count - allowed(kind, end - list[i].before);
          if (over > worst) worst = std::max(worst, over - lost(list[i].before, end));
        }
      }
      if (std::string_view(kind.name) == "fixed") {
        worst = std::max(worst, over_aligned(kind, list, lost));
      }
    }
    return worst;
  }

  // The windows of a fixed window follow the wall clock; what lies within 10 ms of a border is in
  // none for certain.
  template <class Lost>
  int64_t over_aligned(const Kind& kind, const std::vector<Call>& list, Lost lost) const {
    std::map<int64_t, int64_t> counts;
    for (const Call& call : list) {
      const int64_t first = (call.before + to_wall_ - 10 * kMs) / kind.period_ns;
      const int64_t last = (call.after + to_wall_ + 10 * kMs) / kind.period_ns;
      if (first == last) ++counts[first];
    }
    int64_t worst = std::numeric_limits<int64_t>::min();
    for (const auto& [window, count] : counts) {
      const int64_t begin = window * kind.period_ns - to_wall_;
      worst = std::max(
          worst, count - static_cast<int64_t>(kind.limit) - lost(begin, begin + kind.period_ns));
    }
    return worst;
  }

  SegmentName name_;
  Folder folder_;
  SnapshotOptions to_ = [this] {
    SnapshotOptions options;
    options.file = folder_.file();
    options.synchronous = Synchronous::kOff;
    return options;
  }();
  const int64_t to_wall_ = wall_now_ns() - monotonic_now_ns();
  Shared<Ledger> ledger_;
  std::vector<Loss> losses_;
  std::mt19937_64 random_{std::random_device()()};
  Children workers_;
  Children writer_;
};

using P11 = Observer;

TEST_F(P11, KilledMachinesCostWhatTheLastIntervalHeld) {
  run(scaled(8, 150), false, true);
  ASSERT_FALSE(HasFatalFailure());
  const int64_t with = excess(true);
  const int64_t without = excess(false);
  std::printf("P11: %zu losses, %u admissions, most beyond the bound %" PRId64
              " permits, beyond the policy alone %" PRId64 "\n",
              losses_.size(), ledger_->records.load(), with, without);
  EXPECT_LE(with, 0);
  EXPECT_GT(without, 0) << "nothing was lost: the test is blind";
}

TEST_F(P11, CleanStopsForgiveNothing) {
  run(scaled(4, 60), true, true);
  ASSERT_FALSE(HasFatalFailure());
  const int64_t found = excess(false);
  std::printf("P11: clean stops, %u admissions, most beyond the policy %" PRId64 " permits\n",
              ledger_->records.load(), found);
  EXPECT_LE(found, 0);
}

// The check itself: who does not restore is found out.
TEST_F(P11, TheObserverSeesAnExcess) {
  run(3, false, false);
  ASSERT_FALSE(HasFatalFailure());
  EXPECT_GT(excess(true), 0);
}

}  // namespace
}  // namespace brim::test
