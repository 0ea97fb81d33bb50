// SPDX-License-Identifier: MIT
#include "shm/counters.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/unit/support.h"

namespace brim::shm {
namespace {

constexpr uint32_t kPolicies = 4;

// Stripes in memory that fork() shares, zeroed.
class Shared {
 public:
  explicit Shared(uint32_t stripes)
      : bytes_(stripes * stripe_bytes(kPolicies) + 4096),
        base_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
        counters_(words(), stripes, kPolicies) {}
  ~Shared() { munmap(base_, bytes_); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  const Counters& counters() const { return counters_; }
  uint64_t* words() const { return static_cast<uint64_t*>(base_); }
  // A word beyond the stripes, for a child to report in.
  std::atomic<uint64_t>* report(size_t i) const {
    return reinterpret_cast<std::atomic<uint64_t>*>(static_cast<char*>(base_) + bytes_ - 4096) + i;
  }

 private:
  size_t bytes_;
  void* base_;
  Counters counters_;
};

uint32_t cpus() { return static_cast<uint32_t>(sysconf(_SC_NPROCESSORS_CONF)); }

void move_to_cpu(uint64_t cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof(set), &set);  // a CPU we may not use: stay
}

// Adds `times` ones to three counters while moving between CPUs.
void add_many(const Counters& counters, int times, uint64_t seed) {
  test::Random random(seed);
  for (int i = 0; i < times; ++i) {
    if (i % 4096 == 0) move_to_cpu(random.below(cpus()));
    counters.add(Event::kInserted);
    counters.add(3, PolicyCounter::kAllowed, 3);
    counters.add(0, PolicyCounter::kDenied);
  }
}

void run_threads(const Counters& counters, int threads, int times) {
  std::vector<std::thread> all;
  for (int i = 0; i < threads; ++i) {
    all.emplace_back(
        [&counters, times, i] { add_many(counters, times, 80 + static_cast<uint64_t>(i)); });
  }
  for (std::thread& one : all) one.join();
}

// Goal: no add is lost or doubled, whatever the scheduler does in the middle of it. Method: eight
// threads on few CPUs, moved between them all the while; the sums are exact.
TEST(Counters, ExactUnderThreadsThatMigrate) {
  const Shared shared(cpus() + 1);
  const int times = test::scaled(1000000);
  run_threads(shared.counters(), 8, times);
  const auto expected = static_cast<uint64_t>(8) * static_cast<uint64_t>(times);
  EXPECT_EQ(shared.counters().sum(Event::kInserted), expected);
  EXPECT_EQ(shared.counters().sum(3, PolicyCounter::kAllowed), 3 * expected);
  EXPECT_EQ(shared.counters().sum(0, PolicyCounter::kDenied), expected);
}

// Goal: the same with too few stripes, where some CPUs, or all, share the last one. Method: one
// stripe only (nobody has a CPU's), then two (CPU 0 has one).
TEST(Counters, ExactOnTheLastStripe) {
  for (const uint32_t stripes : {1u, 2u}) {
    const Shared shared(stripes);
    const int times = test::scaled(200000);
    run_threads(shared.counters(), 4, times);
    const auto expected = static_cast<uint64_t>(4) * static_cast<uint64_t>(times);
    EXPECT_EQ(shared.counters().sum(Event::kInserted), expected);
    EXPECT_EQ(shared.counters().sum(3, PolicyCounter::kAllowed), 3 * expected);
  }
}

// Goal: each counter has its own word: an add changes nothing else. Method: each counter of each
// policy and each event gets its own amount; all are read back.
TEST(Counters, EachHasItsOwnWord) {
  const Shared shared(cpus() + 1);
  const Counters& counters = shared.counters();
  uint64_t amount = 0;
  for (uint32_t event = 0; event < kEvents; ++event) {
    counters.add(static_cast<Event>(event), ++amount);
  }
  for (uint16_t policy = 0; policy < kPolicies; ++policy) {
    for (uint32_t i = 0; i < kPolicyCounters; ++i) {
      counters.add(policy, static_cast<PolicyCounter>(i), ++amount);
    }
  }
  uint64_t expected = 0;
  for (uint32_t event = 0; event < kEvents; ++event) {
    EXPECT_EQ(counters.sum(static_cast<Event>(event)), ++expected);
  }
  for (uint16_t policy = 0; policy < kPolicies; ++policy) {
    for (uint32_t i = 0; i < kPolicyCounters; ++i) {
      EXPECT_EQ(counters.sum(policy, static_cast<PolicyCounter>(i)), ++expected);
    }
  }
}

// Goal: processes share the stripes exactly, and what they counted outlives them. Method: four
// children on one mapping, also moving between CPUs.
TEST(Counters, ExactAcrossProcesses) {
  const Shared shared(cpus() + 1);
  const int times = test::scaled(200000);
  std::vector<pid_t> children;
  for (uint64_t i = 0; i < 4; ++i) {
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      add_many(shared.counters(), times, 90 + i);
      _exit(0);
    }
    children.push_back(pid);
  }
  for (const pid_t pid : children) waitpid(pid, nullptr, 0);
  EXPECT_EQ(shared.counters().sum(Event::kInserted), 4 * static_cast<uint64_t>(times));
}

// Goal: a process killed at any instruction loses at most the one add it was in, and breaks none of
// the others'. Method: a child counts its own finished adds beside the counter and is killed at a
// random time, while another process goes on adding to the same stripes.
TEST(Counters, AKilledProcessLosesAtMostOneAdd) {
  test::Random random(99);
  for (int round = 0; round < test::scaled(100); ++round) {
    const Shared shared(cpus() + 1);
    std::atomic<uint64_t>* const done = shared.report(0);
    const pid_t victim = fork();
    ASSERT_GE(victim, 0);
    if (victim == 0) {
      for (uint64_t i = 0;; ++i) {
        shared.counters().add(1, PolicyCounter::kAllowed);
        done->store(i + 1);
      }
    }
    const int others = 20000;
    for (int i = 0; i < others; ++i) shared.counters().add(2, PolicyCounter::kAllowed);
    usleep(static_cast<useconds_t>(random.below(2000)));
    kill(victim, SIGKILL);
    waitpid(victim, nullptr, 0);
    const uint64_t counted = shared.counters().sum(1, PolicyCounter::kAllowed);
    ASSERT_GE(counted, done->load());
    ASSERT_LE(counted, done->load() + 1);
    ASSERT_EQ(shared.counters().sum(2, PolicyCounter::kAllowed), static_cast<uint64_t>(others));
  }
}

const Counters* handler_counters = nullptr;
std::atomic<uint64_t> handler_adds{0};

void add_in_handler(int) {
  handler_counters->add(Event::kCasRetry);
  handler_counters->add(Event::kInserted);
  handler_adds.fetch_add(1, std::memory_order_relaxed);
}

// Goal: an add in a signal handler that interrupts an add of the same word loses neither. Method: a
// timer signal every 50 us over a tight loop of adds.
TEST(Counters, ExactWithAddsInASignalHandler) {
  const Shared shared(cpus() + 1);
  handler_counters = &shared.counters();
  handler_adds = 0;
  struct sigaction action {};
  struct sigaction old {};
  action.sa_handler = add_in_handler;
  ASSERT_EQ(sigaction(SIGALRM, &action, &old), 0);
  const itimerval every{{0, 50}, {0, 50}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &every, nullptr), 0);
  uint64_t own = 0;
  while (handler_adds.load(std::memory_order_relaxed) < 500) {
    for (int i = 0; i < 1000; ++i, ++own) shared.counters().add(Event::kInserted);
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &old, nullptr);
  EXPECT_EQ(shared.counters().sum(Event::kInserted), own + handler_adds.load());
  EXPECT_EQ(shared.counters().sum(Event::kCasRetry), handler_adds.load());
}

// Goal: the sequence is really used where the kernel has it, else its test would test nothing.
// Method: after adds on CPU c, the word of stripe c holds them and the last stripe nearly none
// (an add that was interrupted four times in a row goes there).
TEST(Counters, UsesTheStripeOfTheCpu) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the thread sanitizer's build uses the last stripe only";
#endif
  if (__rseq_size == 0 || internal::thread_rseq()->cpu_id >= cpus()) {
    GTEST_SKIP() << "no restartable sequences here";
  }
  const Shared shared(cpus() + 1);
  for (int i = 0; i < 100000; ++i) shared.counters().add(Event::kInserted);
  const size_t stripe = stripe_bytes(kPolicies) / sizeof(uint64_t);
  const uint64_t last = shared.words()[cpus() * stripe + static_cast<size_t>(Event::kInserted)];
  EXPECT_LT(last, 50000u);
  EXPECT_EQ(shared.counters().sum(Event::kInserted), 100000u);
}

// Goal: add_on_cpu refuses on the wrong CPU and then adds nothing. Method: a CPU number nobody is
// on.
TEST(Counters, TheSequenceRefusesAnotherCpu) {
  if (__rseq_size == 0) GTEST_SKIP() << "no restartable sequences here";
  uint64_t word = 5;
  EXPECT_FALSE(internal::add_on_cpu(&word, 1, 0xfffffff));
  EXPECT_EQ(word, 5u);
}

}  // namespace
}  // namespace brim::shm
