// SPDX-License-Identifier: MIT
// The simulator of the whole library: runs one seed after another until enough steps were made or
// a violation is found, which `--seed N --trace` replays.
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/sim/library_ghost.h"
#include "tests/sim/library_run.h"

namespace brim::sim {
namespace {

constexpr const char* kUsage =
    "usage: sim_library [--steps N] [--seconds S] [--first SEED] [--seed SEED] [--trace]\n"
    "                   [--mutant-expected] [--leave NAME]...\n"
    "  --steps N          stop after N scheduler steps (100000000)\n"
    "  --seconds S        ... or after this time\n"
    "  --first SEED       begin with this seed (1)\n"
    "  --seed SEED        one run only; --trace prints what it does\n"
    "  --explore          every schedule of each scenario of library_scripts.cc with few\n"
    "                     preemptions; --large: of more\n"
    "  --only NAME        ... of this one\n"
    "  --replay SCHEDULE  repeat the schedule of a violation and print its steps\n"
    "  --mutant-expected  exit 0 if a violation is found, 1 if none\n"
    "  --leave NAME       no scenarios that show a known defect; see library_plan.h:\n"
    "                     undo-time, undo-log, shadow, shadow-asks, hybrid, log, stopped, "
    "reserve\n";

struct Options {
  uint64_t steps = 100000000;
  uint64_t first = 1;
  uint64_t seed = 0;
  bool replay = false;
  bool mutant_expected = false;
  double seconds = 1e9;
  bool explore = false;
  ExploreOptions exploring;
};

Leave leave;

bool* flag_of(std::string_view name) {
  const struct {
    std::string_view name;
    bool* flag;
  } all[] = {{"undo-time", &leave.undo_time}, {"undo-log", &leave.undo_log},
             {"shadow", &leave.shadow},       {"shadow-asks", &leave.shadow_asks},
             {"hybrid", &leave.hybrid},       {"log", &leave.log_change},
             {"stopped", &leave.stopped},     {"reserve", &leave.reserve}};
  for (const auto& each : all) {
    if (each.name == name) return each.flag;
  }
  return nullptr;
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const bool more = i + 1 < argc;
    if (word == "--mutant-expected") {
      options.mutant_expected = true;
    } else if (parse_exploring(argc, argv, i, options.explore, options.exploring)) {
      continue;
    } else if (word == "--trace") {
      world.set_tracing(true);
    } else if (word == "--steps" && more) {
      options.steps = std::strtoull(argv[++i], nullptr, 0);
    } else if (word == "--first" && more) {
      options.first = std::strtoull(argv[++i], nullptr, 0);
    } else if (word == "--seconds" && more) {
      options.seconds = std::strtod(argv[++i], nullptr);
    } else if (word == "--seed" && more) {
      options.replay = true;
      options.seed = std::strtoull(argv[++i], nullptr, 0);
    } else if (word == "--leave" && more) {
      bool* const flag = flag_of(argv[++i]);
      if (flag == nullptr) return false;
      *flag = true;
    } else {
      return false;
    }
  }
  return true;
}

void print_totals(uint64_t runs, uint64_t steps, uint64_t kills, uint64_t stalls, double seconds) {
  const Totals& t = library_ghost.totals;
  std::printf("runs %" PRIu64 "  steps %" PRIu64 "  kills %" PRIu64 "  stalls %" PRIu64
              "  seconds %.1f\n",
              runs, steps, kills, stalls, seconds);
  std::printf("calls %" PRIu64 "  admissions %" PRIu64 "  denials %" PRIu64 "  barred %" PRIu64
              "  shadowed %" PRIu64 "  exempt %" PRIu64 "  blocked %" PRIu64 "  full %" PRIu64
              "  contended %" PRIu64 "\n",
              t.calls, t.admissions, t.denials, t.barred, t.shadowed, t.exempt, t.blocked, t.full,
              t.contended);
  std::printf("changes %" PRIu64 "  leases %" PRIu64 "  lease denials %" PRIu64 "  refunds %" PRIu64
              "  bookings %" PRIu64 "  evictions %" PRIu64 "\n",
              t.changes, t.leases, t.lease_denials, t.refunds, t.bookings, t.evictions);
  std::printf("calls alone %" PRIu64 "  parts checked %" PRIu64 "  keys drained %" PRIu64
              "  most points of a call %" PRIu64 "\n",
              t.alone, t.checked_parts, t.drained, t.most_points);
}

int run(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  if (options.explore) {
    options.exploring.mutant_expected = options.mutant_expected;
    return explore(library_scenarios(), options.exploring);
  }
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  uint64_t seed = options.replay ? options.seed : options.first;
  uint64_t runs = 0;
  uint64_t steps = 0;
  uint64_t kills = 0;
  uint64_t stalls = 0;
  bool clean = true;
  do {
    clean = run_seed(seed++, leave);
    ++runs;
    steps += world.steps();
    kills += world.kills();
    stalls += world.stalls();
  } while (clean && !options.replay && steps < options.steps &&
           (runs % 64 != 0 || elapsed() < options.seconds));
  print_totals(runs, steps, kills, stalls, elapsed());
  if (!clean) {
    std::printf("violation: %s\nseed=%" PRIu64 " %s\n", world.failure(), seed - 1,
                describe(last_plan()).c_str());
  }
  if (options.mutant_expected) {
    std::puts(clean ? "the mutant survived" : "the mutant was caught");
    return clean ? 1 : 0;
  }
  return clean ? 0 : 1;
}

}  // namespace
}  // namespace brim::sim

int main(int argc, char** argv) { return brim::sim::run(argc, argv); }
