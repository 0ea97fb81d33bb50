// SPDX-License-Identifier: MIT
// How full the table gets before the first live key must make room, and how far keys lie from
// home: distinct live keys are inserted until the first eviction, for several sizes and probe
// limits, with one and with three policies a key (they share a home group). Bytes a key at that
// load. The clock stands still, so that no key ever becomes idle.
//
//   bench_load [--slots N,N,...]
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "brim/inspect.h"
#include "brim/limiter.h"
#include "src/base/check.h"
#include "src/base/text.h"

namespace brim::bench {
namespace {

uint64_t counter(const Inspector& inspector, std::string_view name) {
  for (const Counter& one : inspector.counters()) {
    if (one.name == name) return one.value;
  }
  return 0;
}

void fill(uint64_t slots, uint32_t probe_limit, size_t policies) {
  const std::string name = cat("brim-bench-load-", getpid());
  static std::atomic<int64_t> clock{1000000000};
  Options options;
  options.capacity = slots;
  options.name_bytes = Options::kNoNames;
  options.probe_limit = probe_limit;
  options.hash = HashKind::kXxh3;
  options.clock = ClockKind::kManual;
  options.manual_clock_ns = &clock;
  for (size_t i = 0; i < policies; ++i) options.policies.push_back({cat("p", i), "1000/y"});
  auto limiter = Limiter::create(name, options);
  BRIM_CHECK(limiter.ok());
  const auto inspector = Inspector::attach(name);
  BRIM_CHECK(inspector.ok());
  BRIM_CHECK(Limiter::unlink(name).ok());
  std::vector<PolicyHandle> handles;
  for (size_t i = 0; i < policies; ++i) handles.push_back(*limiter->policy(cat("p", i)));
  uint64_t live = 0;
  for (uint64_t key = 0; live <= slots * 2; ++key) {
    const std::string text = cat("client-", key);
    for (const PolicyHandle& handle : handles) handle.try_acquire(text);
    live += policies;
    if (key % 64 == 0 && counter(*inspector, "evicted_live") != 0) break;
  }
  const SegmentInfo info = inspector->info();
  const uint64_t lines = info.groups_in_use;
  std::printf("%10llu %6u %9zu %10.3f %8llu %12.1f   ", static_cast<unsigned long long>(info.slots),
              probe_limit, policies, static_cast<double>(live) / static_cast<double>(info.slots),
              static_cast<unsigned long long>(lines),
              static_cast<double>(info.slots) * 16 / static_cast<double>(live));
  const auto total = static_cast<double>(counter(*inspector, "inserted"));
  for (const char* bin : {"probe_0", "probe_1", "probe_2", "probe_4", "probe_8", "probe_16"}) {
    std::printf(" %6.3f", 100 * static_cast<double>(counter(*inspector, bin)) / total);
  }
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace
}  // namespace brim::bench

int main(int argc, char** argv) {
  std::vector<uint64_t> sizes = {1000, 16000, 262144, 1000000};
  if (argc == 3 && std::strcmp(argv[1], "--slots") == 0) {
    sizes.clear();
    for (char* at = argv[2]; *at != '\0'; at += *at == ',' ? 1 : 0) {
      sizes.push_back(std::strtoull(at, &at, 10));
    }
  }
  std::printf("%10s %6s %9s %10s %8s %12s    insertions by groups from home, %%\n", "slots",
              "limit", "policies", "live load", "reach", "bytes/key");
  std::printf("%60s    %6s %6s %6s %6s %6s %6s\n", "", "0", "1", "2+", "4+", "8+", "16+");
  for (const uint64_t slots : sizes) {
    for (const size_t policies : {size_t{1}, size_t{3}}) {
      for (const uint32_t limit : {8u, 16u, 32u, 48u, 64u}) {
        brim::bench::fill(slots, limit, policies);
      }
    }
  }
  return 0;
}
