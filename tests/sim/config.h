// SPDX-License-Identifier: MIT
// One run's configuration, drawn from its seed: table, keys, policies, fibers, schedule and what
// the slots hold at the start.
#ifndef BRIM_TESTS_SIM_CONFIG_H_
#define BRIM_TESTS_SIM_CONFIG_H_

#include <cstddef>
#include <cstdint>

#include "src/algo/quota.h"
#include "tests/sim/ghost.h"
#include "tests/sim/rng.h"
#include "tests/sim/world.h"

namespace brim::sim {

inline constexpr uint32_t kMaxPlayers = 5;

struct Config {
  uint64_t seed = 0;
  uint32_t groups = 1;
  uint32_t limit = 1;  // of groups in a window
  uint32_t reach = 0;  // at the start
  uint32_t windows = 1;
  uint32_t keys = 1;
  uint32_t fibers = 2;
  uint32_t max_ops = 1;
  uint32_t burst[kPolicies] = {};
  int64_t skew = 0;  // each fiber's clock is ahead of true time by up to this
  int64_t clock = 0;
  bool evicts = false;
  bool corrupt = false;     // one key starts with a word from far in the future
  bool behind = false;      // callers pass times of their own, up to 2 s old
  bool gives_back = false;  // refunds and resets too
  bool repairs = false;     // verify --repair walks over the slots, too
  uint32_t open_slots = 0;  // all others hold live foreign keys; 0: anything anywhere
  bool race = false;        // open slots become idle one after the other while all want one key
  Window window[2];
  Pace pace;
};

Config draw_config(uint64_t seed);

// Sets the ghost, its keys and the slots up. Draws from `rng`.
void populate(const Config& config, Rng& rng);

// The production Quota of each policy.
void fill_quotas(const Config& config, Quota* quotas);

void describe(const Config& config, char* out, size_t size);

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_CONFIG_H_
