// SPDX-License-Identifier: MIT
// F28: one key, many processes, one instant. And the history of a longer run, call by call.
#include "tests/process/support.h"

namespace brim::test {
namespace {

constexpr uint32_t kProcesses = 64;
constexpr uint32_t kMaxRounds = 100000;

struct Race {
  std::atomic<int64_t> clock_ns;
  Barrier barrier;
  std::atomic<uint64_t> unavailable;
  std::atomic<uint32_t> admitted[kMaxRounds];
};

// What a window looks like before the race.
void prepare(const Raw& raw, uint32_t round, int64_t now) {
  for (uint64_t i = 0; i < raw.slots(); ++i) {
    switch (round % 4) {
      case 0:
        raw.set(i, {});
        break;
      case 1:
        raw.set(i, {shm::kFreeId, 0});
        break;
      case 2:  // idle keys
        raw.set(i, {shm::make_id(0, 1000 + i), raw.reading(0, now - kSecond)});
        break;
      default:  // dead tentatives, some of the key itself
        raw.set(i,
                {i % 5 == 0 ? raw.id(0, "key" + std::to_string(round)) : shm::make_id(0, 1000 + i),
                 make_tentative(77, static_cast<uint32_t>(i), now - 5 * kSecond)});
    }
  }
}

// Goal: F28, exactly the burst is admitted whatever the window held and whoever came first.
// Method: 64 processes wait at a barrier; one of them lays the window out anew for every round.
TEST(RaceTest, F28SixtyFourProcessesOnOneKey) {
  const SegmentName name;
  const Shared<Race> race;
  race->clock_ns = kEpoch;
  const auto limiter = Limiter::create(
      name.str(), manual(&race->clock_ns, 64, "100/s burst 10 on-unavailable deny"));
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const PolicyHandle policy = *limiter->policy("p");
  const uint32_t rounds = scaled(1000, kMaxRounds);
  std::vector<pid_t> pids;
  for (uint32_t p = 0; p < kProcesses; ++p) {
    pids.push_back(spawn(
        [&, p] {
          const Raw raw(name.str(), &race->clock_ns);
          for (uint32_t round = 0; round < rounds; ++round) {
            if (p == 0) prepare(raw, round, race->clock_ns);
            const std::string key = "key" + std::to_string(round);
            race->barrier.wait(kProcesses);
            for (int i = 0; i < 3; ++i) {
              const Decision decision = policy.try_acquire(key);
              if (decision.admitted) race->admitted[round].fetch_add(1);
              if (decision.verdict == Verdict::kUnavailable) race->unavailable.fetch_add(1);
            }
            race->barrier.wait(kProcesses);
            if (p != 0) continue;
            if (!table_is_legal(raw, {{0, key}}) && round % 4 < 2) return false;
          }
          return true;
        },
        slow() ? 3000 : 300));
  }
  for (const pid_t pid : pids) EXPECT_TRUE(succeeded(pid));
  uint64_t wrong = 0;
  for (uint32_t round = 0; round < rounds; ++round) wrong += race->admitted[round] != 10 ? 1 : 0;
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(race->unavailable, 0u);
  const Raw raw(name.str(), &race->clock_ns);
  std::printf("F28: %u rounds, inserted %lu, adopted %lu, dropped %lu, retries %lu\n", rounds,
              raw.sum(shm::Event::kInserted), raw.sum(shm::Event::kAdopted),
              raw.sum(shm::Event::kDropped), raw.sum(shm::Event::kCasRetry));
}

// One admission: it happened at some time between the caller's reading and its return.
struct Admission {
  int64_t from;
  int64_t to;
};

constexpr uint32_t kHistoryKeys = 16;
constexpr uint32_t kMaxLog = 4000;
constexpr uint32_t kHistoryProcesses = 6;

struct History {
  std::atomic<int64_t> clock_ns;
  std::atomic<uint32_t> stop;
  struct Log {
    std::atomic<uint32_t> size;
    Admission entries[kMaxLog];
  } logs[kHistoryProcesses][kHistoryKeys];
};

// At most burst + limit * d (per second) in every window of length d that holds the whole of its
// admissions. Returns the largest excess over all windows.
int64_t worst_excess(std::vector<Admission> list, uint64_t burst, uint64_t limit) {
  std::vector<int64_t> starts;
  for (const Admission& one : list) starts.push_back(one.from);
  std::sort(starts.begin(), starts.end());
  std::sort(list.begin(), list.end(),
            [](const Admission& a, const Admission& b) { return a.to < b.to; });
  int64_t worst = INT64_MIN;
  for (size_t s = 0; s < starts.size(); s += 1 + starts.size() / 2000) {
    uint64_t count = 0;
    for (const Admission& one : list) {
      if (one.from < starts[s]) continue;
      ++count;
      const uint64_t bound = burst + refill(limit, one.to - starts[s]);
      worst = std::max(worst, static_cast<int64_t>(count) - static_cast<int64_t>(bound));
    }
  }
  return worst;
}

// Demand that comes and goes, so that keys go idle, lose their slots and return.
void history_worker(History& history, const PolicyHandle& policy, uint32_t process, bool real) {
  std::mt19937_64 random(process);
  std::vector<std::string> keys;
  for (uint32_t i = 0; i < kHistoryKeys; ++i) keys.push_back("history" + std::to_string(i));
  while (history.stop == 0) {
    const auto clock = [&] { return real ? monotonic_now_ns() : history.clock_ns.load(); };
    const uint64_t phase = static_cast<uint64_t>(clock() / (20 * kMs));
    const uint32_t k = static_cast<uint32_t>((phase * 7 + random() % 4) % kHistoryKeys);
    const int64_t from = clock();
    // A caller may sit on its time for a while.
    if (random() % 64 == 0) usleep(static_cast<useconds_t>(random() % 3000));
    const bool admitted = policy.try_acquire_at(from, keys[k]).admitted;
    const int64_t to = clock();
    (void)policy.try_acquire("filler" + std::to_string(random() % 4000));
    if (!admitted) continue;
    auto& log = history.logs[process][k];
    const uint32_t at = log.size.load();
    if (at == kMaxLog) return;
    log.entries[at] = {from, to};
    log.size.store(at + 1);
  }
}

void run_history(bool real) {
  const SegmentName name;
  const Shared<History> history;
  history->clock_ns = kEpoch;
  Options options = manual(&history->clock_ns, 6000, "400/s burst 4 on-unavailable deny");
  if (real) options.clock = ClockKind::kAuto;
  const auto limiter = Limiter::create(name.str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const PolicyHandle policy = *limiter->policy("p");
  std::vector<pid_t> pids;
  for (uint32_t p = 0; p < kHistoryProcesses; ++p) {
    pids.push_back(spawn([&, p] {
      history_worker(*history, policy, p, real);
      return true;
    }));
  }
  const int64_t end = monotonic_now_ns() + (slow() ? 30 : 5) * kSecond;
  std::mt19937_64 random(9);
  while (monotonic_now_ns() < end) {
    usleep(500);
    history->clock_ns.fetch_add(static_cast<int64_t>(random() % kMs));
  }
  history->stop = 1;
  for (const pid_t pid : pids) EXPECT_TRUE(succeeded(pid));
  size_t total = 0;
  int64_t worst = INT64_MIN;
  for (uint32_t k = 0; k < kHistoryKeys; ++k) {
    std::vector<Admission> merged;
    for (uint32_t p = 0; p < kHistoryProcesses; ++p) {
      const auto& log = history->logs[p][k];
      merged.insert(merged.end(), log.entries, log.entries + log.size);
    }
    total += merged.size();
    worst = std::max(worst, worst_excess(merged, 4, 400));
  }
  const Raw raw(name.str(), &history->clock_ns);
  EXPECT_EQ(raw.sum(shm::Event::kEvictedLive), 0u);
  EXPECT_GT(total, 1000u);
  EXPECT_LE(worst, 0) << "more than burst + rate * d in some window";
  std::printf("history (%s): %zu admissions, worst window %+ld of the bound, reclaimed %lu\n",
              real ? "real clock" : "stepped clock", total, worst, raw.sum(shm::Event::kReclaimed));
}

// Goal: P1 in every window of time, not only over the whole run.
// Method: each process logs its admissions with the time it read itself before and after; the
//   merged logs are searched for a window with more than burst + rate * d.
TEST(RaceTest, HistoryOnTheSteppedClock) { run_history(false); }
TEST(RaceTest, HistoryOnTheRealClock) { run_history(true); }

}  // namespace
}  // namespace brim::test
