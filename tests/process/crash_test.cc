// SPDX-License-Identifier: MIT
// P3 and faults F21, F22, F24, F26: workers that are killed, stopped, forked off or interrupted
// while they decide.
#include <sys/resource.h>
#include <sys/time.h>

#include <thread>

#include "tests/process/support.h"

namespace brim::test {
namespace {

constexpr uint32_t kWorkers = 4;
constexpr uint32_t kHotKeys = 8;
constexpr uint32_t kGroups = 16;     // of keys; one is asked for at a time, so all others go idle
constexpr uint32_t kGroupKeys = 64;  // two groups fill most of the table: each step reclaims
constexpr uint32_t kMaxSteps = 40000;
constexpr int64_t kStepNs = 50 * kMs;
constexpr uint32_t kHotBurst = 4000000;
constexpr uint32_t kGroupBurst = 3;

struct Storm {
  std::atomic<int64_t> clock_ns;
  std::atomic<uint32_t> stop;
  std::atomic<uint64_t> operations;
  std::atomic<uint64_t> unavailable;
  std::atomic<uint64_t> worker_operations[kWorkers];
  std::atomic<uint64_t> hot[kHotKeys];
  std::atomic<uint32_t> admitted[kMaxSteps][kGroupKeys];
};

std::string hot_key(uint64_t i) { return "hot" + std::to_string(i); }
std::string group_key(uint64_t group, uint64_t i) {
  return "group" + std::to_string(group) + "/" + std::to_string(i);
}

// Asks for hot keys and for the keys of the clock's group; reports each admission after it.
void storm_worker(Storm& storm, const PolicyHandle& hot, const PolicyHandle& group,
                  uint32_t worker) {
  std::mt19937_64 random(static_cast<uint64_t>(getpid()));
  char key[64];
  while (storm.stop.load(std::memory_order_relaxed) == 0) {
    const uint64_t draw = random();
    Decision decision;
    if (draw % 4 == 0) {
      const uint64_t i = draw / 4 % kHotKeys;
      std::snprintf(key, sizeof(key), "hot%lu", i);
      decision = hot.try_acquire(key);
      if (decision.admitted) storm.hot[i].fetch_add(1);
    } else {
      const int64_t before = storm.clock_ns.load();
      const auto step = static_cast<uint64_t>((before - kEpoch) / kStepNs);
      const uint64_t i = draw / 4 % kGroupKeys;
      std::snprintf(key, sizeof(key), "group%lu/%lu", step % kGroups, i);
      decision = group.try_acquire(key);
      // Only what certainly happened at this step's instant.
      if (decision.admitted && storm.clock_ns.load() == before) {
        storm.admitted[step][i].fetch_add(1);
      }
    }
    if (decision.verdict == Verdict::kUnavailable) storm.unavailable.fetch_add(1);
    storm.worker_operations[worker].fetch_add(1, std::memory_order_relaxed);
  }
}

enum class Harm { kKill, kStop };

class StormTest : public ::testing::Test {
 protected:
  void run(Harm harm, int64_t duration_ns) {
    Storm& storm = *shared_;
    storm.clock_ns = kEpoch;
    Options options = manual(&storm.clock_ns, 200, "100/s burst 3 on-unavailable deny");
    options.policies.push_back({"hot", "20000/s burst 4000000 on-unavailable deny"});
    const auto limiter = Limiter::create(name_.str(), options);
    ASSERT_TRUE(limiter.ok()) << limiter.status();
    const PolicyHandle group = *limiter->policy("p");
    const PolicyHandle hot = *limiter->policy("hot");
    const Raw raw(name_.str(), &storm.clock_ns);
    for (uint32_t i = 0; i < kHotKeys; ++i) ASSERT_TRUE(hot.try_acquire(hot_key(i), kHotBurst));

    const auto start = [&](uint32_t worker) {
      return spawn([&, worker] {
        setpriority(PRIO_PROCESS, 0, 0);
        storm_worker(storm, hot, group, worker);
        return true;
      });
    };
    setpriority(PRIO_PROCESS, 0, -10);  // the killer must get its turn
    std::vector<pid_t> dead;
    pid_t pids[kWorkers];
    for (uint32_t i = 0; i < kWorkers; ++i) pids[i] = start(i);
    std::mt19937_64 random(1);
    uint64_t harms = 0;
    const int64_t end = monotonic_now_ns() + duration_ns;
    // The hot keys' debt must last: 200 s of their clock.
    for (uint32_t step = 1; monotonic_now_ns() < end && step < 3900; ++step) {
      usleep(static_cast<useconds_t>(2000 + random() % 3000));
      storm.clock_ns.fetch_add(kStepNs);
      const uint32_t victim = random() % kWorkers;
      if (harm == Harm::kKill) {
        kill(pids[victim], SIGKILL);
        dead.push_back(pids[victim]);  // buried later: its death takes a turn of the scheduler
        pids[victim] = start(victim);
      } else {
        kill(pids[victim], SIGSTOP);
        usleep(static_cast<useconds_t>(random() % 2000));
        storm.clock_ns.fetch_add(kStepNs);
        ++step;
        usleep(static_cast<useconds_t>(random() % 2000));
        kill(pids[victim], SIGCONT);
      }
      ++harms;
    }
    setpriority(PRIO_PROCESS, 0, 0);
    for (const pid_t pid : dead) kill_and_reap(pid);
    // Nobody hangs: every worker still makes decisions.
    for (uint32_t i = 0; i < kWorkers; ++i) {
      const uint64_t seen = storm.worker_operations[i];
      int waited = 0;
      while (storm.worker_operations[i] == seen && waited < 20000) usleep(1000), ++waited;
      EXPECT_LT(waited, 20000) << "worker " << i << " hangs";
    }
    storm.stop = 1;
    for (const pid_t pid : pids) EXPECT_TRUE(succeeded(pid));
    check(harm, harms, raw, hot, group);
  }

  void check(Harm harm, uint64_t harms, const Raw& raw, const PolicyHandle& hot,
             const PolicyHandle& group) {
    Storm& storm = *shared_;
    // Hot keys never went idle: what all took is exactly what flowed back, less one call a kill.
    const uint64_t flowed = refill(20000, storm.clock_ns - kEpoch);
    uint64_t lost = 0;
    for (uint32_t i = 0; i < kHotKeys; ++i) {
      const uint32_t left = hot.peek(hot_key(i)).remaining;
      EXPECT_LE(storm.hot[i] + left, flowed) << "over-admission";
      lost += flowed - storm.hot[i] - left;
    }
    EXPECT_LE(lost, harm == Harm::kKill ? harms : 0u) << "lost without a kill";
    uint64_t over = 0;
    uint64_t exact = 0;
    uint64_t used = 0;
    for (const auto& step : storm.admitted) {
      for (const auto& count : step) {
        over += count > kGroupBurst ? 1 : 0;
        exact += count == kGroupBurst ? 1 : 0;
        used += count != 0 ? 1 : 0;
      }
    }
    EXPECT_EQ(over, 0u) << "more than the burst at one instant";
    // A stalled call may take an idle key for a live one by its old time, never a hot key.
    EXPECT_EQ(raw.sum(hot.number(), shm::PolicyCounter::kEvicted), 0u);
    EXPECT_LE(raw.sum(shm::Event::kEvictedLive), 2 * harms);
    EXPECT_EQ(storm.unavailable, 0u);

    std::vector<PolicyKey> known;
    for (uint32_t i = 0; i < kHotKeys; ++i) known.push_back({hot.number(), hot_key(i)});
    for (uint32_t g = 0; g < kGroups; ++g) {
      for (uint32_t i = 0; i < kGroupKeys; ++i) known.push_back({group.number(), group_key(g, i)});
    }
    EXPECT_TRUE(table_is_legal(raw, known));
    const uint64_t adopted = raw.sum(shm::Event::kAdopted);
    // Every key touched once: no dead insertion is left that stands between a key and its slot.
    for (uint32_t g = 0; g < kGroups; ++g) {
      storm.clock_ns.fetch_add(2 * kSecond);
      for (uint32_t i = 0; i < kGroupKeys; ++i) EXPECT_TRUE(group.try_acquire(group_key(g, i)));
    }
    for (uint32_t i = 0; i < kHotKeys; ++i) (void)hot.try_acquire(hot_key(i));
    uint64_t beside = 0;
    EXPECT_EQ(lingering(raw, storm.clock_ns, &beside), 0u);
    EXPECT_TRUE(table_is_legal(raw, known));
    uint64_t operations = 0;
    for (const auto& count : storm.worker_operations) operations += count;
    std::printf(
        "%s: %lu times, %lu operations, %lu lost, adopted %lu, expired %lu, dropped %lu, "
        "reclaimed %lu, evicted %lu, bursts complete %lu of %lu, dead tentatives beside a copy "
        "%lu\n",
        harm == Harm::kKill ? "F21 kill" : "F22 stop", harms, operations, lost, adopted,
        raw.sum(shm::Event::kExpired), raw.sum(shm::Event::kDropped),
        raw.sum(shm::Event::kReclaimed), raw.sum(shm::Event::kEvictedLive), exact, used, beside);
  }

  SegmentName name_;
  Shared<Storm> shared_;
};

// Goal: F21, P3: kill -9 at any time leaves a usable table and exact counts.
// Method: a random worker is killed every 2-5 ms and replaced; reports go to shared memory after
//   each admission, so a kill hides at most one.
TEST_F(StormTest, F21KillMinusNine) { run(Harm::kKill, slow() ? 60 * kSecond : 10 * kSecond); }

// Goal: F22: a worker stopped anywhere, with the clock moving on, costs nothing at all.
// Method: SIGSTOP and SIGCONT of random workers.
TEST_F(StormTest, F22StopAndContinue) { run(Harm::kStop, slow() ? 60 * kSecond : 8 * kSecond); }

struct ForkState {
  std::atomic<int64_t> clock_ns;
  std::atomic<uint32_t> stop;
  std::atomic<uint64_t> admitted[64];
  std::atomic<uint64_t> shared_admitted;
};

// Goal: F24, a child forked while 8 threads decide works at once, under an attach id of its own.
// Method: the child takes its own key's burst and its share of a common key; the common key's sum
//   over all threads and children is the burst.
TEST(CrashTest, F24ForkFromThreadsInAcquire) {
  const SegmentName name;
  const Shared<ForkState> state;
  state->clock_ns = kEpoch;
  const auto limiter = Limiter::create(
      name.str(), manual(&state->clock_ns, 4096, "1/h burst 50000 on-unavailable deny"));
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const PolicyHandle own = *limiter->define("own", "1/h burst 5 on-unavailable deny");
  const PolicyHandle common = *limiter->policy("p");
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (uint32_t i = 0; state->stop == 0; ++i) {
        if (i % 64 == 0 && common.try_acquire("common")) state->shared_admitted.fetch_add(1);
        (void)own.try_acquire("t" + std::to_string(t) + "/" + std::to_string(i % 200));
      }
    });
  }
  const Raw raw(name.str(), &state->clock_ns);
  const uint64_t ids = raw.engine().segment->shared()->next_attach_id;
  const uint32_t children = scaled(40, 400);
  for (uint32_t c = 0; c < children; ++c) {
    const pid_t pid = spawn(
        [&, c] {
          uint32_t admitted = 0;
          drain(own, "child" + std::to_string(c), admitted, 50);
          for (int i = 0; i < 50; ++i) {
            if (common.try_acquire("common")) state->shared_admitted.fetch_add(1);
          }
          const auto again = Limiter::attach(
              name.str(), manual(&state->clock_ns, 0, "1/h burst 50000 on-unavailable deny"));
          return admitted == 5 && again.ok() && again->policy("own")->peek("child0").remaining == 0;
        },
        120);
    EXPECT_TRUE(succeeded(pid)) << "child " << c;
  }
  state->stop = 1;
  for (std::thread& thread : threads) thread.join();
  while (common.try_acquire("common")) state->shared_admitted.fetch_add(1);
  EXPECT_EQ(state->shared_admitted, 50000u);
  EXPECT_GE(raw.engine().segment->shared()->next_attach_id, ids + children)
      << "every child has an attach id of its own";
}

// What the signal handler works with.
struct Handler {
  PolicyHandle policy;
  std::vector<std::string> keys;
  std::vector<uint64_t> admitted;
  std::atomic<uint64_t> calls{0};
  std::atomic<uint64_t> unavailable{0};
  std::atomic<size_t> current{0};
};
Handler* handler = nullptr;

void on_timer(int) {
  const int saved = errno;
  const uint64_t call = handler->calls.fetch_add(1);
  // The very key that the interrupted call works on, and others.
  const size_t i = (handler->current + call % 3) % handler->keys.size();
  const Decision decision = handler->policy.try_acquire(handler->keys[i]);
  if (decision.verdict == Verdict::kUnavailable) handler->unavailable.fetch_add(1);
  if (decision.admitted) __atomic_fetch_add(&handler->admitted[i], 1, __ATOMIC_RELAXED);
  errno = saved;
}

// Goal: F26, try_acquire in a signal handler that interrupted try_acquire: returns, and the count
//   stays exact.
// Method: a timer every 50 us; new keys all the time, so that insertions are interrupted too.
TEST(CrashTest, F26SignalHandlerInterruptsAcquire) {
  const SegmentName name;
  const Shared<std::atomic<int64_t>> clock;
  clock->store(kEpoch);
  constexpr size_t kKeys = 20000;
  const auto limiter =
      Limiter::create(name.str(), manual(&*clock, kKeys * 2, "100/s burst 9 on-unavailable deny"));
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  Handler state;
  state.policy = *limiter->policy("p");
  for (size_t i = 0; i < kKeys; ++i) state.keys.push_back("key" + std::to_string(i));
  state.admitted.resize(kKeys);
  handler = &state;
  struct sigaction action {};
  action.sa_handler = on_timer;
  struct sigaction old {};
  ASSERT_EQ(sigaction(SIGALRM, &action, &old), 0);
  const itimerval every{{0, 50}, {0, 50}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &every, nullptr), 0);
  uint64_t operations = 0;
  uint64_t wrong = 0;
  const uint32_t rounds = scaled(8, 200);
  for (uint32_t round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < kKeys; ++i) {
      state.current.store(i);
      for (bool admitted = true; admitted; ++operations) {
        admitted = state.policy.try_acquire(state.keys[i]).admitted;
        if (admitted) __atomic_fetch_add(&state.admitted[i], 1, __ATOMIC_RELAXED);
      }
    }
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_BLOCK, &set, &before);
    for (uint64_t& count : state.admitted) wrong += std::exchange(count, 0) != 9 ? 1 : 0;
    clock->fetch_add(100 * kMs);
    sigprocmask(SIG_SETMASK, &before, nullptr);
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &old, nullptr);
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(state.unavailable, 0u);
  EXPECT_GT(state.calls, 100u) << "the timer must have fired";
  const Raw raw(name.str(), &*clock);
  std::vector<PolicyKey> known;
  for (const std::string& key : state.keys) known.push_back({0, key});
  EXPECT_TRUE(table_is_legal(raw, known));
  EXPECT_EQ(lingering(raw, *clock + 2 * kSecond), 0u);
  std::printf("F26: %lu calls interrupted %lu times, adopted %lu, dropped %lu\n", operations,
              state.calls.load(), raw.sum(shm::Event::kAdopted), raw.sum(shm::Event::kDropped));
}

// Goal: F26 on the real clock: interrupting the renewal of the clock's anchor is harmless.
// Method: the same timer; admitted <= burst + rate * elapsed by CLOCK_MONOTONIC.
TEST(CrashTest, F26SignalHandlerOnTheRealClock) {
  const SegmentName name;
  Options options;
  options.policies = {{"p", "1000/s burst 100 on-unavailable deny"}};
  const auto limiter = Limiter::create(name.str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  Handler state;
  state.policy = *limiter->policy("p");
  state.keys = {"key"};
  state.admitted.resize(1);
  handler = &state;
  struct sigaction action {};
  action.sa_handler = on_timer;
  struct sigaction old {};
  ASSERT_EQ(sigaction(SIGALRM, &action, &old), 0);
  const int64_t start = monotonic_now_ns();
  const itimerval every{{0, 50}, {0, 50}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &every, nullptr), 0);
  const int64_t end = start + (slow() ? 30 : 2) * kSecond;
  while (monotonic_now_ns() < end) {
    for (int i = 0; i < 1000; ++i) {
      if (state.policy.try_acquire("key")) {
        __atomic_fetch_add(&state.admitted[0], 1, __ATOMIC_RELAXED);
      }
    }
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &old, nullptr);
  const uint64_t bound = 100 + refill(1000, monotonic_now_ns() - start + 2 * kClockSkewNs);
  EXPECT_LE(state.admitted[0], bound);
  std::printf("F26 real clock: %lu of %lu, %lu signals\n", state.admitted[0], bound,
              state.calls.load());
}

}  // namespace
}  // namespace brim::test
