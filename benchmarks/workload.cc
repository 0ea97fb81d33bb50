// SPDX-License-Identifier: MIT
#include "benchmarks/workload.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>

#include "src/base/check.h"

namespace brim::bench {

Keys::Keys(uint64_t count) : count_(count), text_(count * kKeyBytes, '.') {
  for (uint64_t i = 0; i < count; ++i) {
    char one[kKeyBytes + 1];
    const int length =
        std::snprintf(one, sizeof(one),
                      "user:%llu:", static_cast<unsigned long long>(i * 2654435761u % 4294967291u));
    std::memcpy(text_.data() + i * kKeyBytes, one, static_cast<size_t>(length));
  }
}

namespace {

struct Shared {
  std::atomic<int> ready;
  std::atomic<int> go;
  double ns[64];
  uint64_t sink;
};

// CPU time of this thread: what other programs take from a shared machine does not count.
int64_t cpu_now_ns() {
  timespec ts;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return int64_t{ts.tv_sec} * 1000000000 + ts.tv_nsec;
}

double one_round(const Contender& contender, const Keys& keys, int processes, uint64_t n,
                 uint64_t seed, Shared* shared) {
  shared->ready = 0;
  shared->go = 0;
  const auto work = [&](int index) {
    ++shared->ready;
    while (shared->go.load() == 0) {
    }
    const int64_t start = cpu_now_ns();
    const uint64_t sum = contender.run(keys, n, seed + static_cast<uint64_t>(index) * 7919);
    shared->ns[index] = static_cast<double>(cpu_now_ns() - start) / static_cast<double>(n);
    __atomic_fetch_add(&shared->sink, sum, __ATOMIC_RELAXED);
  };
  std::vector<pid_t> children;
  for (int i = 1; i < processes; ++i) {
    const pid_t pid = fork();
    BRIM_CHECK(pid >= 0);
    if (pid == 0) {
      work(i);
      _exit(0);
    }
    children.push_back(pid);
  }
  while (shared->ready.load() != processes - 1) {
  }
  shared->go = 1;
  work(0);
  double sum = shared->ns[0];
  for (size_t i = 0; i < children.size(); ++i) {
    int status = 0;
    waitpid(children[i], &status, 0);
    sum += shared->ns[i + 1];
  }
  return sum / processes;
}

}  // namespace

std::vector<double> measure(const std::vector<Contender>& contenders, const Keys& keys,
                            int processes, int rounds, uint64_t n) {
  void* const memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  BRIM_CHECK(memory != MAP_FAILED);
  auto* const shared = static_cast<Shared*>(memory);
  std::vector<std::vector<double>> samples(contenders.size());
  for (int round = 0; round <= rounds; ++round) {  // round 0 warms up
    for (size_t i = 0; i < contenders.size(); ++i) {
      const double ns = one_round(contenders[i], keys, processes, n,
                                  0x9e3779b97f4a7c15 + static_cast<uint64_t>(round), shared);
      if (round != 0) samples[i].push_back(ns);
    }
  }
  munmap(memory, sizeof(Shared));
  std::vector<double> medians;
  for (std::vector<double>& s : samples) {
    std::nth_element(s.begin(), s.begin() + static_cast<long>(s.size() / 2), s.end());
    medians.push_back(s[s.size() / 2]);
  }
  return medians;
}

}  // namespace brim::bench
