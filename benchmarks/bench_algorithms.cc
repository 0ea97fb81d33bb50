// SPDX-License-Identifier: MIT
// Every algorithm beside GCRA in the same run: ns of CPU per decision, admitted and refused, on a
// few hundred keys in the cache, in interleaved rounds; and as a ratio to GCRA's.
//
//   bench_algorithms [--rounds N] [--calls N]
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "benchmarks/workload.h"
#include "brim/limiter.h"
#include "src/base/check.h"
#include "src/base/text.h"

namespace brim::bench {
namespace {

struct Subject {
  const char* name;
  const char* admits;   // so much that nothing is ever refused
  const char* refuses;  // one permit in a long time
};

constexpr Subject kSubjects[] = {
    {"gcra", "1000000000/s burst 1000000", "1/y"},
    {"token-bucket debt", "token-bucket 1000000000/s burst 1000000 debt 1000",
     "token-bucket 1/y debt 1"},
    {"gcra forward", "gcra 1000000000/s burst 1000000 forward", "gcra 1/y forward"},
    {"queue", "queue 1000000000/s burst 1000000", "queue 1/y burst 0"},
    {"fixed-window", "fixed-window 4000000000/h", "fixed-window 1/y"},
    {"fixed-window first-hit", "fixed-window 4000000000/h first-hit", "fixed-window 1/y first-hit"},
    {"calendar-window month", "calendar-window 4000000000/month", "calendar-window 1/year"},
    {"sliding-counter", "sliding-counter 2000000/10ms", "sliding-counter 1/y"},
    {"sliding-log, limit 16", "sliding-log 16/us", "sliding-log 16/y"},
    {"sliding-log, limit 128", "sliding-log 128/us", "sliding-log 128/y"},
    {"two rates", "1000000000/s burst 1000000; 1000000000/s burst 1000001", "1/y; 2/y"},
    {"four rates",
     "1000000000/s burst 1000000; 1000000000/s burst 1000001; 1000000000/s burst 1000002; "
     "1000000000/s burst 1000003",
     "1/y; 2/y; 3/y; 4/y"},
    {"classes", "1000000000/s burst 1000000 classes 50 60 70", "2/y classes 50 60 100"},
    {"warm-up", "1000000000/s burst 1000000 warm-up 50% over 1d", "1/y warm-up 50% over 1d"},
    {"scope cluster", "1000000000/s burst 1000000 scope cluster", "1/y scope cluster"},
    {"barred", "1000000000/s burst 1000000 ban 9 in 1s for 1s",
     "1/y ban 1 in 1d for 300d max 365d"},
};

Contender contender(const std::string& name, const PolicyHandle& policy) {
  return {name, [policy](const Keys& keys, uint64_t n, uint64_t seed) {
            KeyPicker picker{seed, keys.count()};
            uint64_t sum = 0;
            for (uint64_t i = 0; i < n; ++i)
              sum += policy.try_acquire(keys[picker.next()]).admitted;
            return sum;
          }};
}

// A segment for each: the slots of one key for many policies would not fit its home group.
PolicyHandle open(const char* text) {
  const std::string name = cat("brim-bench-algorithms-", getpid());
  Options options;
  options.capacity = 8192;
  options.name_bytes = Options::kNoNames;
  options.hash = HashKind::kXxh3;
  options.policies = {{"p", text}};
  const auto limiter = Limiter::create(name, options);
  if (!limiter.ok()) std::fprintf(stderr, "%s\n", limiter.status().ToString().c_str());
  BRIM_CHECK(limiter.ok());
  BRIM_CHECK(Limiter::unlink(name).ok());
  return *limiter->policy("p");
}

std::vector<double> run(bool refused, const Keys& keys, int rounds, uint64_t calls) {
  std::vector<Contender> contenders;
  for (const Subject& one : kSubjects) {
    contenders.push_back(contender(one.name, open(refused ? one.refuses : one.admits)));
  }
  if (refused) {
    for (const Contender& one : contenders) one.run(keys, keys.count() * 200, 1);
  }
  return measure(contenders, keys, 1, rounds, calls);
}

}  // namespace
}  // namespace brim::bench

int main(int argc, char** argv) {
  using namespace brim::bench;
  int rounds = 21;
  uint64_t calls = 200000;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--rounds") == 0) rounds = std::atoi(argv[i + 1]);
    if (std::strcmp(argv[i], "--calls") == 0) calls = std::strtoull(argv[i + 1], nullptr, 10);
  }
  const Keys keys(256);
  const std::vector<double> admitted = run(false, keys, rounds, calls);
  const std::vector<double> refused = run(true, keys, rounds, calls);
  std::printf("%-26s %10s %8s %10s %8s\n", "ns per decision, 256 keys", "admitted", "x gcra",
              "refused", "x gcra");
  for (size_t i = 0; i < admitted.size(); ++i) {
    std::printf("%-26s %10.1f %8.2f %10.1f %8.2f\n", kSubjects[i].name, admitted[i],
                admitted[i] / admitted[0], refused[i], refused[i] / refused[0]);
  }
}
