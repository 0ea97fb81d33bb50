// SPDX-License-Identifier: MIT
// The deterministic simulator: runs one seed after another until enough steps were made or a
// violation is found, which `--seed N` then replays step by step.
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "shm/layout.h"
#include "tests/sim/config.h"
#include "tests/sim/explore.h"
#include "tests/sim/ghost.h"
#include "tests/sim/run.h"
#include "tests/sim/scripts.h"
#include "tests/sim/world.h"

namespace brim::sim {
namespace {

constexpr const char* kUsage =
    "usage: sim [--steps N] [--first SEED] [--seed SEED] [--mutant-expected] [--weak NAME]...\n"
    "  --steps N          stop after N scheduler steps (100000000)\n"
    "  --first SEED       begin with this seed (1)\n"
    "  --seed SEED        replay one run and print its steps\n"
    "  --explore          every schedule of each scenario of scripts.cc; --large: of more\n"
    "  --only NAME        ... of this one\n"
    "  --replay SCHEDULE  repeat the schedule of a violation and print its steps\n"
    "  --mutant-expected  exit 0 if a violation is found, 1 if none\n"
    "  --weak NAME        same-nonce, wrap-nonce, stale-ceiling,\n"
    "                     stale-garbage, no-grace, repair-live, repair-young: a weakened caller;\n"
    "                     allow-virgin: do not report virgin slots that come back\n";

struct Options {
  uint64_t steps = 100000000;
  uint64_t first = 1;
  uint64_t seed = 0;
  bool replay = false;
  bool mutant_expected = false;
  bool explore = false;
  ExploreOptions exploring;
  Weakness weakness;
};

bool set_weakness(const char* name, Weakness& weakness) {
  const struct {
    const char* name;
    bool* flag;
  } all[] = {{"same-nonce", &weakness.same_nonce},       {"wrap-nonce", &weakness.wrap_nonce},
             {"stale-ceiling", &weakness.stale_ceiling}, {"stale-garbage", &weakness.stale_garbage},
             {"no-grace", &weakness.no_grace},           {"allow-virgin", &weakness.allow_virgin},
             {"repair-live", &weakness.repair_live},     {"repair-young", &weakness.repair_young}};
  for (const auto& each : all) {
    if (std::strcmp(name, each.name) == 0) return *each.flag = true;
  }
  return false;
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const bool more = i + 1 < argc;
    if (std::strcmp(argv[i], "--mutant-expected") == 0) {
      options.mutant_expected = true;
    } else if (more && std::strcmp(argv[i], "--steps") == 0) {
      options.steps = std::strtoull(argv[++i], nullptr, 0);
    } else if (more && std::strcmp(argv[i], "--first") == 0) {
      options.first = std::strtoull(argv[++i], nullptr, 0);
    } else if (more && std::strcmp(argv[i], "--seed") == 0) {
      options.replay = true;
      options.seed = std::strtoull(argv[++i], nullptr, 0);
    } else if (parse_exploring(argc, argv, i, options.explore, options.exploring)) {
      continue;
    } else if (!more || std::strcmp(argv[i], "--weak") != 0 ||
               !set_weakness(argv[++i], options.weakness)) {
      return false;
    }
  }
  return true;
}

void print_violation(uint64_t seed) {
  char config[400];
  describe(draw_config(seed), config, sizeof(config));
  std::printf("violation: %s\nseed=%" PRIu64 " config=%s\n", world.failure(), seed, config);
}

uint64_t events(shm::Event event) { return ghost.stats().events[static_cast<uint32_t>(event)]; }

void print_stats(double seconds) {
  const Stats& s = ghost.stats();
  std::printf("runs %" PRIu64 "  steps %" PRIu64 "  seconds %.1f  steps/s %.2f M  runs/s %.0f\n",
              s.runs, s.steps, seconds, static_cast<double>(s.steps) / seconds / 1e6,
              static_cast<double>(s.runs) / seconds);
  std::printf("calls %" PRIu64 "  admissions %" PRIu64 "  denials %" PRIu64 "  full %" PRIu64
              "  contended (waiting) %" PRIu64 "\n",
              s.calls, s.admissions, s.denials, s.full, s.contended);
  std::printf("kills %" PRIu64 "  stalls %" PRIu64 "  clock jumps > 1 s %" PRIu64
              "  evictions %" PRIu64 "  heals %" PRIu64 "  refunds %" PRIu64 "\n",
              s.kills, s.stalls, s.jumps, s.evictions, s.heals, s.refunds);
  std::printf("inserts %" PRIu64 "  reclaims %" PRIu64 "  adoptions %" PRIu64 "  drops %" PRIu64
              "  moves %" PRIu64 "  expiries %" PRIu64 "  reach raises %" PRIu64
              "  lost races %" PRIu64 "\n",
              events(shm::Event::kInserted), events(shm::Event::kReclaimed),
              events(shm::Event::kAdopted), events(shm::Event::kDropped), s.moves,
              events(shm::Event::kExpired), events(shm::Event::kReachRaised),
              events(shm::Event::kCasRetry));
  std::printf("most rounds of a call %" PRIu64 "  most lost races %" PRIu64
              "  most steps of a call %" PRIu64 "\n",
              s.max_rounds, s.max_updates, s.max_call_steps);
}

// A simulation that never came to the interesting places proves nothing.
bool all_paths_hit() {
  const struct {
    const char* name;
    uint64_t count;
  } paths[] = {{"kill", ghost.stats().kills},
               {"stall", ghost.stats().stalls},
               {"clock jump", ghost.stats().jumps},
               {"admission", ghost.stats().admissions},
               {"denial", ghost.stats().denials},
               {"full", ghost.stats().full},
               {"eviction", ghost.stats().evictions},
               {"move to an earlier tentative", ghost.stats().moves},
               {"heal", ghost.stats().heals},
               {"repair", ghost.stats().repairs},
               {"insertion", events(shm::Event::kInserted)},
               {"reclaim", events(shm::Event::kReclaimed)},
               {"adoption", events(shm::Event::kAdopted)},
               {"drop", events(shm::Event::kDropped)},
               {"expiry", events(shm::Event::kExpired)},
               {"reach raise", events(shm::Event::kReachRaised)}};
  bool all = true;
  for (const auto& path : paths) {
    if (path.count != 0) continue;
    std::printf("never hit: %s\n", path.name);
    all = false;
  }
  return all;
}

int replay(const Options& options) {
  char config[400];
  describe(draw_config(options.seed), config, sizeof(config));
  std::printf("seed=%" PRIu64 " config=%s\n", options.seed, config);
  world.set_tracing(true);
  const bool clean = run_seed(options.seed, options.weakness);
  if (clean) {
    std::puts("no violation");
  } else {
    print_violation(options.seed);
  }
  return clean == options.mutant_expected;
}

int search(const Options& options) {
  const auto begin = std::chrono::steady_clock::now();
  bool clean = true;
  uint64_t seed = options.first;
  while (clean && ghost.stats().steps < options.steps) clean = run_seed(seed++, options.weakness);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  print_stats(seconds);
  if (!clean) print_violation(seed - 1);
  if (options.mutant_expected) {
    std::puts(clean ? "the mutant survived" : "the mutant was caught");
    return clean ? 1 : 0;
  }
  return clean && all_paths_hit() ? 0 : 1;
}

}  // namespace
}  // namespace brim::sim

int main(int argc, char** argv) {
  brim::sim::Options options;
  if (!brim::sim::parse(argc, argv, options)) {
    std::fputs(brim::sim::kUsage, stderr);
    return 2;
  }
  if (options.explore) {
    options.exploring.mutant_expected = options.mutant_expected;
    return brim::sim::explore(brim::sim::table_scenarios(options.weakness), options.exploring);
  }
  return options.replay ? brim::sim::replay(options) : brim::sim::search(options);
}
