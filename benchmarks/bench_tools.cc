// SPDX-License-Identifier: MIT
// What looking costs those that decide: two worker processes that do nothing but decide, while
// `brim dump`, `brim stats` or `brim top` run beside them again and again, against the same workers
// alone. Each phase with a tool is compared with the mean of the two without one around it, so that
// a machine that others use, too, disturbs both alike.
//   bench_tools BRIM [KEYS [ROUNDS [SECONDS]]]
// "decisions/s" tells what the workers lose in all; where there are no more CPUs than workers that
// is mostly the time of the CPU that the tool takes. "per CPU second" tells what a decision costs
// while the tool reads the same memory.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "benchmarks/workload.h"
#include "brim/limiter.h"
#include "src/base/check.h"
#include "src/base/text.h"

namespace brim::bench {
namespace {

constexpr int kWorkers = 2;

struct alignas(64) Done {
  std::atomic<uint64_t> decisions;
  std::atomic<int64_t> cpu_ns;
};

struct Shared {
  Done workers[kWorkers];
  std::atomic<bool> stop;
};

struct Setup {
  std::string brim;
  std::string segment;
  uint64_t keys = 1000000;
  int rounds = 5;
  double seconds = 2;
};

int64_t time_ns(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
}

void sleep_ns(int64_t ns) {
  const timespec time{ns / 1000000000, ns % 1000000000};
  nanosleep(&time, nullptr);
}

void work_on(const Setup& setup, const Keys& keys, Shared& shared, int index) {
  const auto limiter = Limiter::attach(setup.segment);
  BRIM_CHECK(limiter.ok());
  const auto policy = limiter->policy("p");
  BRIM_CHECK(policy.ok());
  KeyPicker picker{0x9e3779b97f4a7c15 + static_cast<uint64_t>(index), keys.count()};
  Done& done = shared.workers[index];
  while (!shared.stop.load(std::memory_order_relaxed)) {
    for (int i = 0; i < 1000; ++i) policy->try_acquire(keys[picker.next()]);
    done.decisions.fetch_add(1000, std::memory_order_relaxed);
    done.cpu_ns.store(time_ns(CLOCK_PROCESS_CPUTIME_ID), std::memory_order_relaxed);
  }
}

pid_t start_tool(const Setup& setup, const std::vector<std::string>& arguments) {
  const pid_t pid = fork();
  BRIM_CHECK(pid >= 0);
  if (pid != 0) return pid;
  const int nowhere = open("/dev/null", O_WRONLY);
  dup2(nowhere, STDOUT_FILENO);
  dup2(nowhere, STDERR_FILENO);  // "the first 1000 of ..."
  std::vector<char*> argv{const_cast<char*>(setup.brim.c_str())};
  for (const std::string& each : arguments) argv.push_back(const_cast<char*>(each.c_str()));
  argv.push_back(nullptr);
  execv(setup.brim.c_str(), argv.data());
  _exit(127);
}

struct Rate {
  double per_second = 0;
  double per_cpu_second = 0;
  double runs = 0;  // of the tool
};

Rate phase(const Setup& setup, Shared& shared, const std::vector<std::string>& tool) {
  const auto sum = [&](auto Done::*what) {
    double total = 0;
    for (const Done& done : shared.workers) total += static_cast<double>((done.*what).load());
    return total;
  };
  sleep_ns(100000000);
  const double decisions = sum(&Done::decisions);
  const double cpu = sum(&Done::cpu_ns);
  const int64_t began = time_ns(CLOCK_MONOTONIC);
  const int64_t end = began + static_cast<int64_t>(setup.seconds * 1e9);
  Rate rate;
  while (time_ns(CLOCK_MONOTONIC) < end) {
    if (tool.empty()) {
      sleep_ns(end - time_ns(CLOCK_MONOTONIC));
      continue;
    }
    const pid_t pid = start_tool(setup, tool);
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
      if (time_ns(CLOCK_MONOTONIC) >= end) kill(pid, SIGTERM);
      sleep_ns(2000000);
    }
    ++rate.runs;
    BRIM_CHECK(!WIFEXITED(status) || WEXITSTATUS(status) == 0);
  }
  const auto wall = static_cast<double>(time_ns(CLOCK_MONOTONIC) - began);
  rate.per_second = (sum(&Done::decisions) - decisions) / wall * 1e9;
  rate.per_cpu_second = (sum(&Done::decisions) - decisions) / (sum(&Done::cpu_ns) - cpu) * 1e9;
  return rate;
}

std::string spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  char text[64];
  std::snprintf(text, sizeof(text), "%5.3f (%5.3f to %5.3f)", values[values.size() / 2],
                values.front(), values.back());
  return text;
}

void compare(const Setup& setup, Shared& shared) {
  const std::vector<std::pair<const char*, std::vector<std::string>>> tools = {
      {"nothing", {}},
      {"top, each second", {"top", setup.segment, "--batch", "--interval", "1s"}},
      {"top, each 100 ms", {"top", setup.segment, "--batch", "--interval", "100ms"}},
      {"stats, each second", {"stats", setup.segment, "--count", "1000000"}},
      {"dump, again and again", {"dump", setup.segment, "--state", "all"}},
      {"dump --sort, again", {"dump", setup.segment, "--state", "all", "--sort", "remaining"}},
  };
  std::vector<std::vector<double>> wall(tools.size());
  std::vector<std::vector<double>> cpu(tools.size());
  std::vector<double> runs(tools.size());
  for (const Done& done : shared.workers) {
    while (done.decisions.load() < setup.keys) sleep_ns(1000000);
  }
  Rate before = phase(setup, shared, {});
  std::vector<double> alone;
  for (int round = 0; round < setup.rounds; ++round) {
    for (size_t i = 0; i < tools.size(); ++i) {
      const Rate with = phase(setup, shared, tools[i].second);
      const Rate after = phase(setup, shared, {});
      wall[i].push_back(2 * with.per_second / (before.per_second + after.per_second));
      cpu[i].push_back(2 * with.per_cpu_second / (before.per_cpu_second + after.per_cpu_second));
      runs[i] += with.runs / setup.rounds;
      before = after;
      alone.push_back(after.per_second);
    }
  }
  std::sort(alone.begin(), alone.end());
  std::printf("%d workers alone: %.2f M decisions/s, %llu keys, %ld CPUs\n", kWorkers,
              alone[alone.size() / 2] / 1e6, static_cast<unsigned long long>(setup.keys),
              sysconf(_SC_NPROCESSORS_ONLN));
  std::printf("%-22s %6s   %-24s %s\n", "beside them", "runs", "decisions/s, x alone",
              "decisions per CPU second, x alone");
  for (size_t i = 0; i < tools.size(); ++i) {
    std::printf("%-22s %6.1f   %-24s %s\n", tools[i].first, runs[i], spread(wall[i]).c_str(),
                spread(cpu[i]).c_str());
  }
}

int run(const Setup& setup) {
  Options options;
  options.capacity = setup.keys + setup.keys * 3 / 10;
  // Never refuses, so that each decision writes to its slot.
  options.policies = {{"p", "10/s burst 100000000"}};
  const auto limiter = Limiter::create(setup.segment, options);
  BRIM_CHECK(limiter.ok());
  const auto policy = limiter->policy("p");
  const Keys keys(setup.keys);
  for (uint64_t i = 0; i < keys.count(); ++i) policy->try_acquire(keys[i]);
  void* const memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  BRIM_CHECK(memory != MAP_FAILED);
  auto* const shared = new (memory) Shared();
  std::vector<pid_t> children;
  for (int i = 0; i < kWorkers; ++i) {
    const pid_t pid = fork();
    BRIM_CHECK(pid >= 0);
    if (pid == 0) {
      work_on(setup, keys, *shared, i);
      _exit(0);
    }
    children.push_back(pid);
  }
  compare(setup, *shared);
  shared->stop = true;
  for (const pid_t child : children) waitpid(child, nullptr, 0);
  BRIM_CHECK(Limiter::unlink(setup.segment).ok());
  return 0;
}

}  // namespace
}  // namespace brim::bench

int main(int argc, char** argv) {
  if (argc < 2 || argc > 5) {
    std::fprintf(stderr, "usage: bench_tools BRIM [KEYS [ROUNDS [SECONDS]]]\n");
    return 2;
  }
  brim::bench::Setup setup;
  setup.brim = argv[1];
  setup.segment = brim::cat("brim-bench-tools-", getpid());
  if (argc > 2) setup.keys = std::strtoull(argv[2], nullptr, 10);
  if (argc > 3) setup.rounds = std::atoi(argv[3]);
  if (argc > 4) setup.seconds = std::atof(argv[4]);
  return brim::bench::run(setup);
}
