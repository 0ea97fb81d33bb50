// SPDX-License-Identifier: MIT
// What happened in a soak, and whether that was enough for it to have found anything.
#ifndef BRIM_TESTS_SOAK_COUNTS_H_
#define BRIM_TESTS_SOAK_COUNTS_H_

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>

#include "tests/soak/plan.h"
#include "tests/soak/soak_options.h"

namespace brim::soak {

struct Counts {
  int64_t rounds = 0;
  int64_t calls = 0;
  int64_t kills = 0;
  int64_t stops = 0;
  int64_t restarts = 0;
  int64_t changes = 0;
  int64_t failed_changes = 0;
  int64_t changers_killed = 0;
  int64_t unknown = 0;
  int64_t excess = 0;
  int64_t evictions = 0;
  int64_t forgiven = 0;
  int64_t hot_expected = 0;  // permits that flowed back while the hot key was exhausted
};

inline bool runs(const Settings& settings, size_t policy) {
  return settings.only < 0 || settings.only == static_cast<int64_t>(policy);
}

inline bool none(const char* what, int64_t count) {
  if (count != 0) std::fprintf(stderr, "FOUND: %s: %" PRId64 "\n", what, count);
  return count == 0;
}

inline bool some(const char* what, bool wanted, int64_t count) {
  const bool good = !wanted || count > 0;
  if (!good) std::fprintf(stderr, "TOO LITTLE: no %s\n", what);
  return good;
}

// A soak in which nothing happened has found nothing.
inline bool enough(const Settings& settings, const Counts& counts) {
  // Asked for, and the first round has time for one.
  const int64_t round_ms = 1000 * std::min(settings.seconds, settings.round_seconds);
  const auto due = [&](int64_t mean_ms) { return mean_ms != 0 && 4 * mean_ms <= round_ms; };
  bool hot = false;
  bool evicts = false;
  for (size_t p = 0; p < kPlanCount; ++p) {
    hot = hot || (runs(settings, p) && is_hot(kPlans[p]));
    evicts = evicts || (runs(settings, p) && kPlans[p].segment == kEvict);
  }
  bool good = some("calls", true, counts.calls);
  good = some("kills", due(settings.kill_ms), counts.kills) && good;
  good = some("stops", due(settings.stop_ms), counts.stops) && good;
  good = some("policy changes", true, counts.changes) && good;
  good = some("evictions", evicts, counts.evictions) && good;
  good = some("permits of an exhausted hot key", hot, counts.hot_expected) && good;
  // A change fails where one was killed at the same thing, and not else.
  const int64_t beyond = counts.failed_changes - counts.changers_killed;
  return none("failed changes beyond the changers killed", std::max<int64_t>(beyond, 0)) && good;
}

}  // namespace brim::soak

#endif  // BRIM_TESTS_SOAK_COUNTS_H_
