// SPDX-License-Identifier: MIT
#include <algorithm>

#include "tests/sim/cells_ghost.h"

namespace brim::sim::cells {
namespace {

Pace draw_pace(Rng& rng, uint32_t fibers) {
  Pace pace;
  pace.schedule = static_cast<Schedule>(rng.below(3));
  pace.stay = rng.one_in(2) ? 128 + rng.below(120) : 240;
  pace.change = 1u << rng.below(7);
  constexpr uint32_t kClockRates[] = {20, 100, 300, 800, 1500};
  pace.clock_rate = kClockRates[rng.below(5)];
  pace.clock_kind = rng.one_in(6) ? 2 : 0;
  pace.fine_clock = pace.clock_kind == 0 && rng.one_in(3);
  constexpr uint32_t kEventRates[] = {0, 20, 80, 200};
  pace.event_rate = kEventRates[rng.below(4)];
  constexpr uint32_t kCasRates[] = {0, 0, 16, 64};
  pace.cas_rate = kCasRates[rng.below(4)];
  pace.kills = rng.one_in(2) ? rng.below(fibers + 1) : 0;
  return pace;
}

Kind draw_kind(Rng& rng, uint32_t only) {
  if (rng.one_in(5)) return Kind::kGcra;
  if (only == 1) return Kind::kLog;
  if (only == 2) return Kind::kLease;
  return rng.one_in(2) ? Kind::kLog : Kind::kLease;
}

}  // namespace

Config draw_config(uint64_t seed, uint32_t only) {
  Rng rng(seed);
  Config config;
  config.groups = rng.one_in(4) ? 2 : 1;
  config.open_slots = rng.between(1, 3);
  config.depth = 2 * rng.between(1, 4);
  config.keys = rng.between(1, rng.one_in(3) ? kKeysMax : 2);
  const Kind first = only == 2 || (only == 0 && rng.one_in(2)) ? Kind::kLease : Kind::kLog;
  for (uint32_t key = 0; key < config.keys; ++key) {
    // Most runs have one kind, so that keys of that kind follow each other in a slot.
    config.kind[key] = key == 0 || rng.one_in(2) ? first : draw_kind(rng, only);
  }
  if (only == 3) {
    config.keys = 2;
    config.open_slots = 1;
    config.kind[0] = Kind::kLog;
    config.kind[1] = Kind::kLease;
  }
  config.fibers = rng.between(2, kPlayers);
  config.max_ops = rng.between(1, 8);
  const uint32_t most[2] = {std::min(config.depth, 4u), config.depth / 2};
  for (uint32_t kind = 0; kind < 2; ++kind) {
    config.limit[kind][0] = rng.between(1, most[kind]);
    config.limit[kind][1] = rng.one_in(2) ? rng.between(1, most[kind]) : config.limit[kind][0];
  }
  config.change_at = rng.below(64);
  constexpr uint64_t kSpans[] = {300, 700, 2000, 6000, 20000};
  for (uint64_t& span : config.span) span = kSpans[rng.below(5)];
  config.inclusive = rng.one_in(3);
  config.evicts = rng.one_in(3);
  config.skew = rng.one_in(4) ? 300 : 0;
  // A lease is longer than what clocks may differ by, twice.
  if (config.skew != 0) config.span[1] = std::max<uint64_t>(config.span[1], 2000);
  config.gives_back = config.skew == 0 && rng.one_in(3);
  config.pace = draw_pace(rng, config.fibers);
  return config;
}

}  // namespace brim::sim::cells
