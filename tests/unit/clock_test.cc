// SPDX-License-Identifier: MIT
#include "src/base/clock.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <thread>
#include <vector>

#include "tests/unit/support.h"

namespace brim {
namespace {

// How far a series of readings strayed from CLOCK_MONOTONIC, and back from itself.
struct Spread {
  int64_t early = 0;  // below the system's reading just before
  int64_t late = 0;   // above the system's reading just after
  int64_t back = 0;   // below the previous reading
};

Spread read_many(int readings) {
  Spread spread;
  int64_t last = 0;
  for (int i = 0; i < readings; ++i) {
    const int64_t before = monotonic_now_ns();
    const int64_t now = tsc_now_ns();
    const int64_t after = monotonic_now_ns();
    spread.early = std::max(spread.early, before - now);
    spread.late = std::max(spread.late, now - after);
    if (i != 0) spread.back = std::max(spread.back, last - now);
    last = now;
  }
  return spread;
}

void expect_close(const Spread& spread) {
  EXPECT_LT(spread.early, kClockSkewNs);
  EXPECT_LT(spread.late, kClockSkewNs);
  EXPECT_LT(spread.back, kClockSkewNs);
}

// A TSC the kernel does not trust may be anything: nothing to test there but that it is not used.
class TscClock : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!tsc_usable()) GTEST_SKIP() << "the kernel's clocksource is not the TSC";
  }
};

// Goal: the extrapolated clock stays within kClockSkewNs of the system's, across many renewals of
// its anchor. Method: readings between two readings of the system's clock; each thread has its own
// anchor, and starts with none.
TEST_F(TscClock, AgreesWithTheSystemClockInEveryThread) {
  std::vector<Spread> spreads(4);
  std::vector<std::thread> threads;
  for (Spread& spread : spreads) {
    threads.emplace_back([&spread] { spread = read_many(test::scaled(500000)); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Spread& spread : spreads) expect_close(spread);
  expect_close(read_many(test::scaled(500000)));
}

// Goal: an anchor survives inactivity: after sleeps shorter and much longer than its life the next
// reading is right. Method: sleeps of 0.1 to 50 ms between single readings.
TEST_F(TscClock, IsRightAfterAPause) {
  for (const int us : {100, 1000, 3900, 4100, 10000, 50000, 1, 2000}) {
    usleep(static_cast<useconds_t>(us));
    expect_close(read_many(1));
  }
}

// Goal: a child of fork() goes on with its parent's anchor and later with its own; both agree.
// Method: a child whose exit status tells its spread, at once and after the anchor's life.
TEST_F(TscClock, AgreesAcrossFork) {
  expect_close(read_many(1000));
  for (int child = 0; child < 4; ++child) {
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      Spread worst;
      for (int part = 0; part < 4; ++part) {
        const Spread spread = read_many(test::scaled(50000));
        worst.early = std::max(worst.early, spread.early);
        worst.late = std::max(worst.late, spread.late);
        usleep(5000);
      }
      _exit(worst.early < kClockSkewNs && worst.late < kClockSkewNs ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }
}

// Goal: what one thread has seen, another does not fall behind by kClockSkewNs: the margin the
// table's reclaim rule leaves. Method: threads publish the highest reading and compare with it.
TEST_F(TscClock, ThreadsNeverDisagreeByTheSkew) {
  std::atomic<int64_t> highest{0};
  std::atomic<int64_t> worst{0};
  const auto work = [&] {
    for (int i = 0; i < test::scaled(500000); ++i) {
      const int64_t seen = highest.load();
      const int64_t now = tsc_now_ns();
      int64_t most = worst.load();
      while (seen - now > most && !worst.compare_exchange_weak(most, seen - now)) {
      }
      most = highest.load();
      while (now > most && !highest.compare_exchange_weak(most, now)) {
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  EXPECT_LT(worst.load(), kClockSkewNs);
}

std::atomic<int64_t> handler_late{0};
std::atomic<int64_t> handler_runs{0};

void read_in_handler(int) {
  const int64_t before = monotonic_now_ns();
  const int64_t now = tsc_now_ns();
  const int64_t after = monotonic_now_ns();
  const int64_t off = std::max(before - now, now - after);
  if (off > handler_late.load(std::memory_order_relaxed)) {
    handler_late.store(off, std::memory_order_relaxed);
  }
  handler_runs.fetch_add(1, std::memory_order_relaxed);
}

// Goal (F26 for the clock): now() in a signal handler that interrupts now() is right, and so is the
// interrupted one. Method: a timer signal every 100 us for half a second over a loop of readings.
TEST_F(TscClock, MayBeReadInASignalHandler) {
  handler_late = 0;
  handler_runs = 0;
  struct sigaction action {};
  struct sigaction old {};
  action.sa_handler = read_in_handler;
  action.sa_flags = SA_RESTART;
  ASSERT_EQ(sigaction(SIGALRM, &action, &old), 0);
  const itimerval every{{0, 100}, {0, 100}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &every, nullptr), 0);
  Spread worst;
  const int64_t end = monotonic_now_ns() + 500000000;
  while (monotonic_now_ns() < end) {
    const Spread spread = read_many(1000);
    worst.early = std::max(worst.early, spread.early);
    worst.late = std::max(worst.late, spread.late);
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &old, nullptr);
  EXPECT_GT(handler_runs.load(), 10);
  EXPECT_LT(handler_late.load(), kClockSkewNs);
  EXPECT_LT(worst.early, kClockSkewNs);
  EXPECT_LT(worst.late, kClockSkewNs);
}

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Single-steps one call of now() by the CPU's trap flag, and at instruction `stop_at` spends two
// lives of an anchor in the handler, reading the clock all the while, as a slow handler would.
int step_count = 0;
int stop_at = 0;

void spend_two_anchors(int) {
  if (step_count++ != stop_at) return;
  for (int renewals = 0; renewals < 2; ++renewals) {
    const int64_t before = internal::clock_anchors.copy[0].ns + internal::clock_anchors.copy[1].ns;
    const auto unchanged = [before] {
      return internal::clock_anchors.copy[0].ns + internal::clock_anchors.copy[1].ns == before;
    };
    const int64_t end = monotonic_now_ns() + 100000000;  // anchors may be renewed otherwise one day
    while (unchanged() && monotonic_now_ns() < end) (void)tsc_now_ns();
  }
}

__attribute__((noinline)) int64_t stepped_now() {
  asm volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
  const int64_t now = tsc_now_ns();
  asm volatile("pushfq\n\tandq $-257, (%%rsp)\n\tpopfq" ::: "memory", "cc");
  return now;
}

// Goal: a handler that renews the anchor twice while a reading is interrupted does not mix the
// reading's two halves: the interrupted now() must not lie ahead of the clock. Method: every
// instruction of now() in turn is interrupted by such a handler (the anchor is aged 3 ms before, so
// that a mixture shows); the result is compared with the system's clock right after.
TEST_F(TscClock, AnInterruptedReadingIsNeverAhead) {
  struct sigaction action {};
  struct sigaction old {};
  action.sa_handler = spend_two_anchors;
  ASSERT_EQ(sigaction(SIGTRAP, &action, &old), 0);
  int64_t worst = std::numeric_limits<int64_t>::min();
  int at_worst = -1;
  for (stop_at = 0; stop_at < 48; ++stop_at) {
    (void)tsc_now_ns();
    int64_t until = monotonic_now_ns() + 5000000;  // a fresh anchor,
    while (monotonic_now_ns() < until) (void)tsc_now_ns();
    (void)internal::renew_clock_anchor();
    until = monotonic_now_ns() + 3000000;  // three quarters of its life old
    while (monotonic_now_ns() < until) {
    }
    step_count = 0;
    const int64_t now = stepped_now();
    const int64_t ahead = now - monotonic_now_ns();
    if (ahead > worst) worst = ahead, at_worst = stop_at;
    if (step_count <= stop_at) break;  // past the end of now()
  }
  sigaction(SIGTRAP, &old, nullptr);
  EXPECT_LT(worst, kClockSkewNs) << "interrupted at instruction " << at_worst;
}
#endif

TEST(Clock, ManualShowsWhatItIsTold) {
  std::atomic<int64_t> ns{5};
  const Clock clock = Clock::manual(&ns);
  EXPECT_EQ(clock.now(), 5);
  ns = -7;
  EXPECT_EQ(clock.now(), -7);
  EXPECT_TRUE(clock.is_manual());
  EXPECT_STREQ(clock.name(), "manual");
  const Clock copy = clock;
  EXPECT_EQ(copy, clock);
  std::atomic<int64_t> other{0};
  EXPECT_FALSE(Clock::manual(&other) == clock);
}

TEST(Clock, MonotonicIsTheSystems) {
  const Clock clock = Clock::monotonic();
  EXPECT_STREQ(clock.name(), "monotonic");
  EXPECT_FALSE(clock.is_manual());
  for (int i = 0; i < 10000; ++i) {
    const int64_t before = monotonic_now_ns();
    const int64_t now = clock.now();
    ASSERT_LE(before, now);
    ASSERT_LE(now, monotonic_now_ns());
  }
}

TEST(Clock, AutomaticIsTheTscWhereItMayBe) {
  EXPECT_STREQ(Clock::automatic().name(), tsc_usable() ? "tsc" : "monotonic");
  EXPECT_GT(wall_now_ns(), int64_t{1700000000} * 1000000000);
}

}  // namespace
}  // namespace brim
