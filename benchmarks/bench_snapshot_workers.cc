// SPDX-License-Identifier: MIT
// The parts of bench_snapshot that need processes of their own.
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <vector>

#include "benchmarks/snapshot_bench.h"
#include "benchmarks/workload.h"

namespace brim::bench {

namespace {

constexpr int kWorkers = 2;

int64_t time_ns(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
}

void sleep_ns(int64_t ns) {
  const timespec time{ns / 1000000000, ns % 1000000000};
  nanosleep(&time, nullptr);
}

template <class Work>
pid_t start(Work work) {
  std::fflush(stdout);
  const pid_t pid = fork();
  BRIM_CHECK(pid >= 0);
  if (pid != 0) return pid;
  work();
  std::fflush(stdout);
  _exit(0);
}

void join(pid_t pid) {
  int status = 0;
  BRIM_CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

uint64_t status_kib(const char* name) {
  std::ifstream status("/proc/self/status");
  std::string word;
  uint64_t value = 0;
  while (status >> word) {
    if (word == name && status >> value) return value;
  }
  return 0;
}

// Peak of what is resident, less what is files and shared memory at the end: those only grow.
template <class Work>
void print_peak(const char* what, uint64_t keys, Work work) {
  join(start([&] {
    std::ofstream("/proc/self/clear_refs") << "5" << std::flush;  // the peak begins here
    const uint64_t before = status_kib("RssAnon:");
    const auto kept = work();  // mapped, so that its pages can be told from memory
    const uint64_t after = status_kib("VmHWM:") - status_kib("RssShmem:") - status_kib("RssFile:");
    const auto slots = static_cast<double>(options_for(keys).capacity);
    std::printf("%-10s %10llu keys %9llu KiB   %6.1f bytes a slot\n", what,
                static_cast<unsigned long long>(keys),
                static_cast<unsigned long long>(after - std::min(after, before)),
                static_cast<double>(after - std::min(after, before)) * 1024 / slots);
  }));
}

struct alignas(64) Done {
  std::atomic<uint64_t> decisions;
  std::atomic<int64_t> cpu_ns;
};

struct Shared {
  Done done[kWorkers];
  Done agent;                                    // decisions: snapshots
  std::atomic<uint64_t> written;                 // rows
  alignas(64) std::atomic<int64_t> interval_ns;  // of the agent; 0: it rests
  std::atomic<bool> stop;
};

void work_on(const std::string& segment, uint64_t keys, Shared& shared, int index) {
  const auto limiter = Limiter::attach(segment);
  BRIM_CHECK(limiter.ok());
  const auto policy = limiter->policy("busy");
  BRIM_CHECK(policy.ok());
  std::vector<std::string> texts;
  for (uint64_t i = 0; i < keys; ++i) texts.push_back(key_text(i));
  KeyPicker picker{0x9e3779b97f4a7c15 + static_cast<uint64_t>(index), keys};
  Done& done = shared.done[index];
  while (!shared.stop.load(std::memory_order_relaxed)) {
    for (int i = 0; i < 1000; ++i) policy->try_acquire(texts[picker.next()]);
    done.decisions.fetch_add(1000, std::memory_order_relaxed);
    done.cpu_ns.store(time_ns(CLOCK_PROCESS_CPUTIME_ID), std::memory_order_relaxed);
  }
}

void serve(const std::string& segment, const std::string& file, Shared& shared) {
  Snapshotter writer = snapshotter(segment, file);
  BRIM_CHECK(writer.take().ok());
  ++shared.agent.decisions;
  int64_t next = 0;
  while (!shared.stop.load()) {
    const int64_t interval = shared.interval_ns.load();
    if (interval == 0 || time_ns(CLOCK_MONOTONIC) < next) {
      sleep_ns(1000000);
      continue;
    }
    const auto report = writer.take();
    BRIM_CHECK(report.ok());
    next = time_ns(CLOCK_MONOTONIC) + interval;
    ++shared.agent.decisions;
    shared.written += report->written;
    shared.agent.cpu_ns = time_ns(CLOCK_PROCESS_CPUTIME_ID);
  }
}

struct Rate {
  double per_second = 0;
  double per_cpu_second = 0;
  double snapshots = 0;
  double rows = 0;
  double agent_cpu = 0;  // share of one core
};

Rate phase(Shared& shared, int64_t interval_ns, double seconds) {
  shared.interval_ns = interval_ns;
  sleep_ns(200000000);  // what the phase before began ends
  const auto sum = [&](auto Done::*what) {
    double total = 0;
    for (const Done& done : shared.done) total += static_cast<double>((done.*what).load());
    return total;
  };
  const double decisions = sum(&Done::decisions);
  const double cpu = sum(&Done::cpu_ns);
  const auto snapshots = static_cast<double>(shared.agent.decisions);
  const auto rows = static_cast<double>(shared.written);
  const auto agent = static_cast<double>(shared.agent.cpu_ns);
  const int64_t began = time_ns(CLOCK_MONOTONIC);
  sleep_ns(static_cast<int64_t>(seconds * 1e9));
  Rate rate;
  const double wall = static_cast<double>(time_ns(CLOCK_MONOTONIC) - began);
  rate.per_second = (sum(&Done::decisions) - decisions) / wall * 1e9;
  rate.per_cpu_second = (sum(&Done::decisions) - decisions) / (sum(&Done::cpu_ns) - cpu) * 1e9;
  rate.snapshots = static_cast<double>(shared.agent.decisions) - snapshots;
  rate.rows = (static_cast<double>(shared.written) - rows) / std::max(rate.snapshots, 1.0);
  rate.agent_cpu = (static_cast<double>(shared.agent.cpu_ns) - agent) / wall;
  return rate;
}

// Each phase with the agent against the mean of the two without it around it: off[2 * i + first] is
// the one before.
void print_effect(const char* name, const std::vector<Rate>& with, const std::vector<Rate>& off,
                  size_t first) {
  std::vector<double> wall;
  std::vector<double> cpu;
  double snapshots = 0;
  double rows = 0;
  double agent = 0;
  for (size_t i = 0; i < with.size(); ++i) {
    const size_t at = 2 * i + first;
    const auto mean = [&](double Rate::*what) { return (off[at].*what + off[at + 1].*what) / 2; };
    wall.push_back(with[i].per_second / mean(&Rate::per_second));
    cpu.push_back(with[i].per_cpu_second / mean(&Rate::per_cpu_second));
    snapshots += with[i].snapshots / static_cast<double>(with.size());
    rows += with[i].rows / static_cast<double>(with.size());
    agent += with[i].agent_cpu / static_cast<double>(with.size());
  }
  std::sort(wall.begin(), wall.end());
  std::sort(cpu.begin(), cpu.end());
  const auto print = [](const std::vector<double>& values) {
    std::printf("   %5.3f (%5.3f to %5.3f)", values[values.size() / 2], values.front(),
                values.back());
  };
  std::printf("%-22s %6.1f %9.0f %7.2f", name, snapshots, rows, agent);
  print(wall);
  print(cpu);
  std::printf("\n");
  std::fflush(stdout);
}

void measure_share(const Settings& settings, const std::string& segment, uint64_t warm,
                   Shared& shared) {
  shared.stop = false;
  shared.interval_ns = 0;
  shared.agent.decisions = 0;
  std::vector<pid_t> children;
  for (int i = 0; i < kWorkers; ++i) {
    children.push_back(start([&, i] { work_on(segment, warm, shared, i); }));
  }
  children.push_back(start([&] { serve(segment, settings.file("agent.db"), shared); }));
  while (shared.agent.decisions.load() == 0) sleep_ns(10000000);
  std::vector<Rate> off{phase(shared, 0, settings.seconds)};  // before, between and after
  std::vector<Rate> slow;
  std::vector<Rate> fast;
  for (int round = 0; round < settings.rounds; ++round) {
    slow.push_back(phase(shared, 1000000000, settings.seconds));
    off.push_back(phase(shared, 0, settings.seconds));
    fast.push_back(phase(shared, 100000000, settings.seconds));
    off.push_back(phase(shared, 0, settings.seconds));
  }
  shared.stop = true;
  for (const pid_t child : children) join(child);
  print_effect(cat("1 s, ", warm, " warm").c_str(), slow, off, 0);
  print_effect(cat("100 ms, ", warm, " warm").c_str(), fast, off, 1);
}

}  // namespace

void measure_memory(const Settings& settings) {
  for (const uint64_t keys : {settings.keys / 4, settings.keys}) {
    const std::string name = segment_name("memory");
    const std::string file = settings.file("memory.db");
    const std::string restored = segment_name("memory-restored");
    join(start([&] { filled(name, keys); }));
    print_peak("full", keys, [&] {
      Snapshotter writer = snapshotter(name, file);
      BRIM_CHECK(writer.take().ok());
      return writer;
    });
    print_peak("restore", keys, [&] {
      auto empty = Limiter::create(restored, options_for(keys));
      BRIM_CHECK(empty.ok());
      const auto report = restore(*empty, file);
      BRIM_CHECK(report.ok() && report->merged == keys);
      return empty;
    });
    BRIM_CHECK(Limiter::unlink(name).ok() && Limiter::unlink(restored).ok());
    for (const char* const tail : {"", "-wal", "-shm", ".lock"}) unlink(cat(file, tail).c_str());
  }
}

void measure_workers(const Settings& settings) {
  void* const memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  BRIM_CHECK(memory != MAP_FAILED);
  auto* const shared = new (memory) Shared();
  const std::string segment = segment_name("workers");
  join(start([&] { filled(segment, settings.keys); }));
  std::printf("%-22s %6s %9s %7s   %-24s %s\n", "2 workers and an agent", "taken", "rows each",
              "cores", "decisions/s, x without", "decisions per CPU second");
  for (const uint64_t part : {1000u, 10u}) {
    measure_share(settings, segment, std::max<uint64_t>(settings.keys / part, 1), *shared);
  }
  BRIM_CHECK(Limiter::unlink(segment).ok());
  munmap(memory, sizeof(Shared));
}

}  // namespace brim::bench
