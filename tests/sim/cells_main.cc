// SPDX-License-Identifier: MIT
// The simulator of the cells: runs one seed after another until enough steps were made or a
// violation is found, which `--seed N` then replays step by step.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/sim/cells_ghost.h"
#include "tests/sim/cells_run.h"

namespace brim::sim::cells {
namespace {

using ull = unsigned long long;

struct Options {
  uint64_t steps = 100000000;
  uint64_t first = 1;
  uint64_t seed = 0;
  uint32_t only = 0;
  bool mutant_expected = false;
  bool explore = false;
  ExploreOptions exploring;
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--mutant-expected") == 0) {
      options.mutant_expected = true;
      continue;
    }
    const bool number = i + 1 < argc && argv[i + 1][0] >= '0' && argv[i + 1][0] <= '9';
    const bool kinds = number && std::strcmp(argv[i], "--only") == 0;
    if (!kinds && parse_exploring(argc, argv, i, options.explore, options.exploring)) continue;
    if (i + 1 == argc) return false;
    const char* const name = argv[i];
    const uint64_t value = std::strtoull(argv[++i], nullptr, 0);
    if (std::strcmp(name, "--steps") == 0) {
      options.steps = value;
    } else if (std::strcmp(name, "--first") == 0) {
      options.first = value;
    } else if (std::strcmp(name, "--seed") == 0) {
      options.seed = value;
    } else if (std::strcmp(name, "--only") == 0) {
      options.only = static_cast<uint32_t>(value);
    } else {
      return false;
    }
  }
  return true;
}

// Prints what was reached. False if an interesting place never was.
bool report(double seconds, uint32_t only) {
  const Stats& s = ghost.stats();
  std::printf("%.1f s, %.2f M steps/s; most retries of a call %llu, most steps %llu\n", seconds,
              static_cast<double>(s.steps) / seconds / 1e6, static_cast<ull>(s.max_retries),
              static_cast<ull>(s.max_steps));
  const struct {
    const char* name;
    uint64_t count;
    uint32_t not_in;  // an `only` that can not reach it
  } all[] = {{"runs", s.runs, 0},
             {"steps", s.steps, 0},
             {"calls", s.calls, 0},
             {"kills", s.kills, 0},
             {"stalls", s.stalls, 0},
             {"refused", s.refused, 0},
             {"takeovers", s.takeovers, 0},
             {"moved", s.moved, 0},
             {"admitted", s.admitted, 2},
             {"given back", s.refunds, 2},
             {"undone", s.undone, 2},
             {"late with the old limit", s.late, 2},
             {"leases", s.leases, 1},
             {"renewed", s.renewed, 1},
             {"lost", s.lost, 1},
             {"released", s.released, 1},
             {"reaped", s.reaped, 1},
             {"retired", s.retired, 1},
             {"unavailable", s.unavailable, 0}};
  bool reached = true;
  for (const auto& each : all) {
    std::printf("%s %llu%s", each.name, static_cast<ull>(each.count),
                &each == std::end(all) - 1 ? "\n" : "  ");
    if (each.count == 0 && (only == 0 || each.not_in != only)) {
      std::printf("(never!)  ");
      reached = false;
    }
  }
  return reached;
}

int search(const Options& options) {
  const auto begin = std::chrono::steady_clock::now();
  bool clean = true;
  uint64_t seed = options.first;
  while (clean && ghost.stats().steps < options.steps) clean = run_seed(seed++, options.only);
  const bool reached =
      report(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(),
             options.only);
  if (!clean) {
    std::printf("violation: %s\nseed %llu\n", world.failure(), static_cast<ull>(seed - 1));
  }
  if (!options.mutant_expected) return clean && reached ? 0 : 1;
  std::puts(clean ? "the mutant survived" : "the mutant was caught");
  return clean ? 1 : 0;
}

int replay(const Options& options) {
  world.set_tracing(true);
  const bool clean = run_seed(options.seed, options.only);
  std::printf("%s\n", clean ? "no violation" : world.failure());
  return clean ? 0 : 1;
}

}  // namespace
}  // namespace brim::sim::cells

int main(int argc, char** argv) {
  brim::sim::cells::Options options;
  if (!brim::sim::cells::parse(argc, argv, options)) {
    std::fputs(
        "usage: cells_sim [--steps N] [--first SEED] [--seed SEED] [--mutant-expected]\n"
        "                 [--only 1 (no leases) | 2 (no logs) | 3 (one slot)]\n"
        "       cells_sim --explore [--large] [--only NAME] | --replay SCHEDULE\n",
        stderr);
    return 2;
  }
  if (options.explore) {
    options.exploring.mutant_expected = options.mutant_expected;
    return brim::sim::explore(brim::sim::cells::scenarios(), options.exploring);
  }
  return options.seed != 0 ? replay(options) : search(options);
}
