// SPDX-License-Identifier: MIT
// What the parts of bench_snapshot share.
#ifndef BRIM_BENCHMARKS_SNAPSHOT_BENCH_H_
#define BRIM_BENCHMARKS_SNAPSHOT_BENCH_H_

#include <unistd.h>

#include <cstdint>
#include <string>

#include "brim/limiter.h"
#include "brim/snapshot.h"
#include "src/base/check.h"
#include "src/base/text.h"

namespace brim::bench {

struct Settings {
  uint64_t keys = 1000000;
  int rounds = 5;
  double seconds = 2;  // of each phase with workers
  std::string directory;
  std::string file(const char* name) const { return cat(directory, "/", name); }
};

inline std::string segment_name(const char* part) {
  return cat("brim-bench-", part, "-", getpid());
}

inline std::string key_text(uint64_t n) { return cat("user:", n * 2654435761u % 4294967291u, ":"); }

// Room for a third more than `keys` live ones. A key that took a permit of "slow" owes it for an
// hour; "busy" never refuses workers, and its keys owe something as long as they run.
inline Options options_for(uint64_t keys) {
  Options options;
  options.capacity = keys + keys * 3 / 10;
  options.policies.push_back({"busy", "10/s burst 100000000"});
  options.policies.push_back({"slow", "1/h burst 100000"});
  return options;
}

inline Limiter filled(const std::string& name, uint64_t keys) {
  auto limiter = Limiter::create(name, options_for(keys));
  if (!limiter.ok()) std::fprintf(stderr, "%s\n", std::string(limiter.status().message()).c_str());
  BRIM_CHECK(limiter.ok());
  const auto policy = limiter->policy("slow");
  BRIM_CHECK(policy.ok());
  for (uint64_t i = 0; i < keys; ++i) policy->try_acquire(key_text(i));
  return *std::move(limiter);
}

inline Snapshotter snapshotter(const std::string& segment, const std::string& file) {
  auto opened = Snapshotter::open(segment, {.file = file});
  BRIM_CHECK(opened.ok());
  return *std::move(opened);
}

// Decisions per second of two workers with and without an agent beside them.
void measure_workers(const Settings& settings);
// Anonymous memory of a writer and a restorer at its peak.
void measure_memory(const Settings& settings);

}  // namespace brim::bench

#endif  // BRIM_BENCHMARKS_SNAPSHOT_BENCH_H_
