// SPDX-License-Identifier: MIT
#include "tests/sim/config.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "brim/policy.h"
#include "src/base/word.h"

namespace brim::sim {
namespace {

using shm::make_id;
using shm::Slot;

struct Shape {
  uint32_t limit;
  int64_t period_ns;
};
constexpr Shape kShapes[kPolicies] = {
    {1, 1000}, {1, 1000}, {3, 1000}, {2, 700}, {1, 3000000000},
};
constexpr uint32_t kFillerBurst = 8;
constexpr uint32_t kMaxBurst = 3;

void put(uint32_t at, const Slot& slot) { ghost.memory().slots[at].pair = {slot.id, slot.word}; }

uint64_t now_units(const Config& config, uint32_t policy) {
  return ghost.rate_of(make_id(static_cast<uint16_t>(policy), 0)).reading(config.clock);
}

// A live key that nobody asks for and that stays live for seconds.
Slot filler(const Config& config, Rng& rng, uint32_t number) {
  const uint64_t debt = 2000000000 + uint64_t{rng.below(1000)} * 10000000;
  return {make_id(kFillerPolicy, kForeignFingerprint + number),
          now_units(config, kFillerPolicy) + debt};
}

// What an unoccupied slot may hold: nothing, a key that is idle or soon will be, a dead claim.
Slot open_slot(const Config& config, Rng& rng, uint32_t number) {
  const auto policy = static_cast<uint16_t>(rng.between(1, 3));
  const uint64_t id = make_id(policy, kForeignFingerprint + number);
  const uint64_t v = now_units(config, policy);
  if (config.race && !rng.one_in(5)) return {id, v + 1 + rng.below(600)};
  switch (rng.below(14)) {
    case 0:
    case 1:
    case 2:
      return {shm::kVirginId, 0};
    case 3:
    case 4:
    case 5:
    case 6:
      return {shm::kFreeId, 0};
    case 7:
    case 8:
      return {id, v - rng.below(4000)};
    case 9:
    case 10:
    case 11:
      return {id, v + 1 + rng.below(2500)};
    case 12:
      return {id, make_tentative(500, number, config.clock)};
    default: {
      const int64_t age_ns = int64_t{rng.between(900, 1100)} * 1000000;
      return {id, make_tentative(500, number, config.clock - age_ns)};
    }
  }
}

// A copy of the key from before the run, or tentatives that dead processes left.
void plant_key(const Config& config, Rng& rng, uint32_t key) {
  const uint64_t id = ghost.id(key);
  const uint32_t slots = (config.reach + 1) * shm::kSlotsPerGroup;
  const auto any = [&] { return ghost.slot_of(ghost.window(key), rng.below(slots)); };
  if (config.race && !rng.one_in(8)) return;
  const Rate& rate = ghost.rate_of(id);
  const uint64_t v = rate.reading(config.clock);
  if (rng.one_in(3)) {
    Word word = v - rng.below(3000);
    if (rng.one_in(2)) word = v + 1 + rng.below(static_cast<uint32_t>(rate.capacity()));
    if (config.corrupt && key == 0) word = v + (uint64_t{1} << rng.between(24, 50));
    ghost.plant(key, word);
    put(any(), {id, word});
  }
  for (uint32_t left = rng.one_in(4) ? rng.between(1, 2) : 0; left != 0; --left) {
    const uint32_t at = any();
    if (ghost.slot(at).id == id && !is_tentative(ghost.slot(at).word)) continue;
    const int64_t age_ns = rng.one_in(2) ? 0 : int64_t{rng.below(1200)} * 1000000;
    put(at, {id, make_tentative(600, 8 * key + left, config.clock - age_ns)});
  }
}

// I2: no copy of a key lies behind a virgin slot of its window. What was overwritten by another
// key's copy is forgotten by the ghost.
void repair() {
  for (uint32_t key = 0; key < ghost.key_count(); ++key) {
    const uint64_t id = ghost.id(key);
    bool seen = false;
    for (uint32_t n = ghost.slot_count(); n-- != 0;) {
      const uint32_t at = ghost.slot_of(ghost.window(key), n);
      seen = seen || ghost.slot(at).id == id;
      if (seen && ghost.slot(at).id == shm::kVirginId) put(at, {shm::kFreeId, 0});
    }
    if (ghost.copies(id) == 0) ghost.plant(key, 0);
  }
}

// All but keys and slots.
void prepare(const Config& config) {
  ghost.reset(config.groups, config.limit, config.evicts, config.skew);
  ghost.expect_corrupt_words(config.corrupt);
  for (uint32_t p = 0; p < kPolicies; ++p) {
    ghost.set_rate(p, make_rate(kShapes[p].limit, static_cast<uint64_t>(kShapes[p].period_ns),
                                config.burst[p]));
  }
  // Relaxed: nothing runs yet.
  ghost.memory().reach.store(config.reach, std::memory_order_relaxed);
}

Pace draw_pace(Rng& rng, uint32_t fibers) {
  Pace pace;
  pace.schedule = static_cast<Schedule>(rng.below(3));
  pace.stay = rng.one_in(2) ? 128 + rng.below(120) : 240;
  pace.change = 1u << rng.below(7);
  constexpr uint32_t kClockRates[] = {0, 20, 100, 300, 800};
  pace.clock_rate = kClockRates[rng.below(5)];
  pace.clock_kind = rng.below(3);
  constexpr uint32_t kEventRates[] = {0, 20, 80, 200};
  pace.event_rate = kEventRates[rng.below(4)];
  constexpr uint32_t kCasRates[] = {0, 0, 16, 64};
  pace.cas_rate = kCasRates[rng.below(4)];
  pace.kills = rng.one_in(2) ? rng.below(fibers + 1) : 0;
  return pace;
}

// Two keys that take turns in one or two slots, within one millisecond: the same slot sees the
// same key, claimed by the same process, again and again.
void narrow(Rng& rng, Config& config) {
  config.windows = 1;
  config.keys = rng.between(1, 2);
  config.fibers = rng.between(2, 3);
  config.max_ops = 6;
  for (uint32_t p = 0; p < kFillerPolicy; ++p) config.burst[p] = 1;
  config.open_slots = rng.between(1, 2);
  config.corrupt = config.gives_back = false;
  config.pace.clock_rate = 400 + 400 * rng.below(3);
  config.pace.clock_kind = 0;
  config.pace.cas_rate = 16u << rng.below(3);
}

// Many want one absent key while slots for it appear: claims of different slots, the only way to
// two tentatives of a key, become frequent.
void race(Rng& rng, Config& config) {
  config.race = true;
  config.windows = 1;
  config.keys = rng.one_in(4) ? 2 : 1;
  config.fibers = rng.between(3, kMaxPlayers);
  config.max_ops = rng.between(1, 3);
  config.open_slots = rng.between(2, 5);
  config.skew = 0;
  config.corrupt = config.gives_back = false;
  config.pace.clock_rate = 200 + 300 * rng.below(4);
  config.pace.fine_clock = true;
}

}  // namespace

Config draw_config(uint64_t seed) {
  Rng rng(seed);
  Config config;
  config.seed = seed;
  constexpr uint32_t kGroups[] = {1, 1, 1, 2, 2, 3, 3, 5};
  config.groups = kGroups[rng.below(8)];
  config.limit = rng.between(1, config.groups);
  config.reach = rng.one_in(2) ? 0 : rng.below(config.limit);
  config.windows = rng.one_in(3) ? 2 : 1;
  for (Window& window : config.window) {
    window.home = rng.below(config.groups);
    window.stride = config.groups == 1 ? 1 : rng.between(1, config.groups - 1);
  }
  constexpr uint32_t kKeys[] = {1, 1, 1, 2, 2, 2, 3, 4};
  config.keys = kKeys[rng.below(8)];
  config.fibers = rng.between(2, kMaxPlayers);
  config.max_ops = rng.between(1, 6);
  for (uint32_t& burst : config.burst) burst = rng.between(1, kMaxBurst);
  config.burst[kFillerPolicy] = kFillerBurst;
  config.skew = rng.one_in(4) ? 300 : 0;
  config.clock = kT0 + 5000000000 + rng.below(1000000000) * int64_t{4};
  config.evicts = rng.one_in(3);
  config.corrupt = rng.one_in(16);
  config.gives_back = rng.one_in(6);
  config.behind = rng.one_in(4);
  config.open_slots = rng.one_in(4) ? 0 : rng.between(1, 4);
  config.pace = draw_pace(rng, config.fibers);
  const uint32_t family = rng.below(6);
  if (family < 2) narrow(rng, config);
  if (family == 2 || family == 3) race(rng, config);
  if (config.skew != 0 && rng.one_in(2)) config.pace.jitter = static_cast<uint32_t>(config.skew);
  config.repairs = rng.one_in(5);
  return config;
}

void populate(const Config& config, Rng& rng) {
  prepare(config);
  const uint32_t slots = ghost.slot_count();
  for (uint32_t i = 0; i < slots; ++i) {
    const bool open = config.open_slots == 0 && !rng.one_in(3);
    put(i, open ? open_slot(config, rng, i) : filler(config, rng, i));
  }
  for (uint32_t k = 0; k < config.keys; ++k) {
    const auto policy = static_cast<uint16_t>(rng.between(1, 3));
    ghost.add_key(make_id(policy, kFirstFingerprint + k), config.window[rng.below(config.windows)]);
  }
  // Open slots lie in the first window, most of them in what is in use.
  for (uint32_t left = config.open_slots; left != 0; --left) {
    const uint32_t groups = rng.one_in(4) ? config.limit : config.reach + 1;
    const uint32_t at = ghost.slot_of(config.window[0], rng.below(groups * shm::kSlotsPerGroup));
    put(at, open_slot(config, rng, at));
  }
  for (uint32_t k = 0; k < config.keys; ++k) plant_key(config, rng, k);
  repair();
}

Config config_of(const Script& script) {
  Config config;
  config.groups = config.limit = static_cast<uint32_t>(script.slots.size()) / shm::kSlotsPerGroup;
  config.reach = script.reach;
  config.keys = script.keys;
  config.fibers = 0;
  for (const auto& ops : script.ops) config.fibers += ops.empty() ? 0 : 1;
  for (uint32_t& burst : config.burst) burst = script.burst;
  config.burst[kFillerPolicy] = kFillerBurst;
  config.clock = kT0 + 5000000000;
  config.evicts = script.evicts;
  return config;
}

void populate(const Config& config, const Script& script) {
  prepare(config);
  for (uint32_t k = 0; k < config.keys; ++k) {
    ghost.add_key(make_id(1, kFirstFingerprint + k), config.window[0]);
  }
  const uint64_t v = now_units(config, 1);
  const auto own = [&](uint32_t at, uint32_t key, Word word) {
    if (!is_tentative(word)) ghost.plant(key, word);
    put(at, {ghost.id(key), word});
  };
  Rng rng(1);
  for (uint32_t i = 0; i < script.slots.size(); ++i) {
    const uint64_t foreign = make_id(1, kForeignFingerprint + i);
    const Word young = make_tentative(600, i, config.clock);
    const Word old = make_tentative(600, i, config.clock - 2000000000);
    const char what = script.slots[i];
    if (what == '.') put(i, {shm::kVirginId, 0});
    if (what == 'f') put(i, {shm::kFreeId, 0});
    if (what == 'L') put(i, filler(config, rng, i));
    if (what == 'i') put(i, {foreign, v - 2000});
    if (what == 's') put(i, {foreign, v + 500});
    if (what == 't') put(i, {foreign, young});
    if (what == 'o') put(i, {foreign, old});
    if (what == 'A' || what == 'B')
      own(i, static_cast<uint32_t>(what - 'A'), v + ghost.rate_of(foreign).permit);
    if (what == 'a' || what == 'b') own(i, static_cast<uint32_t>(what - 'a'), v - 2000);
    if (what == 'T' || what == 'U') own(i, static_cast<uint32_t>(what - 'T'), young);
    if (what == 'O') own(i, 0, old);
  }
}

void fill_quotas(const Config& config, Quota* quotas) {
  static const auto all = [] {
    std::array<std::array<Quota, kFillerBurst + 1>, kPolicies> made;
    for (uint32_t p = 0; p < kPolicies; ++p) {
      for (uint32_t burst = 1; burst <= kFillerBurst; ++burst) {
        made[p][burst] = make_quota(kShapes[p].limit, kShapes[p].period_ns, burst, kT0, kV0);
        made[p][burst].algorithm = static_cast<uint8_t>(Algorithm::kGcra);
      }
    }
    return made;
  }();
  for (uint32_t p = 0; p < kPolicies; ++p) quotas[p] = all[p][config.burst[p]];
}

void describe(const Config& config, char* out, size_t size) {
  constexpr const char* kSchedules[] = {"uniform", "sticky", "priority"};
  std::snprintf(
      out, size,
      "groups:%u,limit:%u,reach:%u,windows:%u,keys:%u,fibers:%u,ops:%u,bursts:%u/%u/%u,skew:%lld/"
      "%u,"
      "evicts:%d,corrupt:%d,gives:%d,behind:%d,open:%u,race:%d,schedule:%s,clock:%u/%u,events:%u/"
      "%u,kills:%u",
      config.groups, config.limit, config.reach, config.windows, config.keys, config.fibers,
      config.max_ops, config.burst[1], config.burst[2], config.burst[3],
      static_cast<long long>(config.skew), config.pace.jitter, config.evicts, config.corrupt,
      config.gives_back, config.behind, config.open_slots, config.race,
      kSchedules[static_cast<uint32_t>(config.pace.schedule)], config.pace.clock_rate,
      config.pace.clock_kind, config.pace.event_rate, config.pace.cas_rate, config.pace.kills);
}

}  // namespace brim::sim
