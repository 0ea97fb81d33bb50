// SPDX-License-Identifier: MIT
#include "tests/soak/soak_options.h"

#include <charconv>
#include <string_view>

#include "tests/soak/plan.h"

namespace brim::soak {

const char* const kUsage =
    "usage: soak [--seconds N | --minutes N] [--round-seconds N] [--workers N] [--kill-ms N]\n"
    "            [--stop-ms N] [--pace-us N] [--only POLICY] [--seed N] [--brim PROGRAM]\n"
    "  --kill-ms, --stop-ms  mean time between two kills, two stops; 0: none\n"
    "  --pace-us             longest pause of a worker between two runs of calls; 0: none\n"
    "  --only POLICY         calls of this policy alone\n"
    "  --brim PROGRAM        run its `info` and `verify` after each round\n";

namespace {

bool number(std::string_view text, int64_t most, int64_t& value) {
  const char* const end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && at == end && value >= 0 && value <= most;
}

bool policy(std::string_view name, int64_t& index) {
  for (size_t p = 0; p < kPlanCount; ++p) {
    if (name != kPlans[p].name) continue;
    index = static_cast<int64_t>(p);
    return true;
  }
  return false;
}

}  // namespace

bool parse(int argc, char** argv, Settings& settings) {
  constexpr int64_t kMost = 1000000;
  const struct {
    std::string_view name;
    int64_t* value;
  } numbers[] = {{"--seconds", &settings.seconds},
                 {"--minutes", &settings.seconds},
                 {"--round-seconds", &settings.round_seconds},
                 {"--workers", &settings.workers},
                 {"--kill-ms", &settings.kill_ms},
                 {"--stop-ms", &settings.stop_ms},
                 {"--pace-us", &settings.pace_us},
                 {"--seed", &settings.seed}};
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view word = argv[i];
    const std::string_view text = argv[i + 1];
    bool good = false;
    if (word == "--brim") {
      settings.brim = text;
      good = !text.empty();
    }
    if (word == "--only") good = policy(text, settings.only);
    for (const auto& one : numbers) {
      if (word == one.name) good = number(text, kMost, *one.value);
    }
    if (word == "--minutes") settings.seconds *= 60;
    if (!good) return false;
  }
  return argc % 2 == 1 && settings.seconds > 0 && settings.round_seconds > 0 &&
         settings.workers > 0;
}

}  // namespace brim::soak
