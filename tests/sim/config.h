// SPDX-License-Identifier: MIT
// One run's configuration, drawn from its seed: table, keys, policies, fibers, schedule and what
// the slots hold at the start.
#ifndef BRIM_TESTS_SIM_CONFIG_H_
#define BRIM_TESTS_SIM_CONFIG_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

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

struct ScriptOp {
  Rule rule = Rule::kAcquire;
  uint32_t key = 0;
  uint32_t cost = 1;
};

// A run without chance: what the slots hold, and what each fiber calls for. A letter a slot:
//     .  virgin    f  free       L  live, nobody asks for it, as all in lower case that follow
//     i  idle      s  idle 500 ns from now     t  a new tentative    o  one older than 1 s
//     A  key 0, a debt of one permit   a  key 0, idle   T  key 0, a new tentative   O  an old one
//     B  key 1, a debt of one permit   b  key 1, idle   U  key 1, a new tentative
struct Script {
  std::string slots;
  std::vector<ScriptOp> ops[3];
  uint32_t keys = 2;
  uint32_t burst = 1;
  uint32_t reach = 0;
  bool evicts = false;
};

// As draw_config() and populate().
Config config_of(const Script& script);
void populate(const Config& config, const Script& script);

void describe(const Config& config, char* out, size_t size);

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_CONFIG_H_
