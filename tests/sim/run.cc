// SPDX-License-Identifier: MIT
// The only file that includes the table. A mutant is this file compiled with BRIM_SIM_TABLE_H
// naming a changed copy of it.
#include "tests/sim/run.h"

#if !defined(BRIM_SIM_TABLE_H)
#define BRIM_SIM_TABLE_H "shm/table.h"
#endif
#include BRIM_SIM_TABLE_H

#include "shm/repair.h"
#include "tests/sim/config.h"
#include "tests/sim/ghost.h"
#include "tests/sim/sim_atomics.h"
#include "tests/sim/world.h"

namespace brim::sim {
namespace {

using SimTable = shm::Table<SimAtomics>;

static_assert(static_cast<int>(Result::kFull) == static_cast<int>(shm::Outcome::kFull));
static_assert(static_cast<int>(Result::kContended) == static_cast<int>(shm::Outcome::kContended));

constexpr uint32_t kFresh = kMaxPlayers;  // the process that comes after all others

struct Run {
  Config config;
  const Script* script = nullptr;
  const SimTable* table = nullptr;
  const Weakness* weakness = nullptr;
  Quota quotas[kPolicies];
  Process processes[kMaxPlayers + 1];
};
Run run;

shm::Probe probe_of(uint32_t key) { return {ghost.window(key).home, ghost.window(key).stride}; }

// One call of the running fiber (or of the fresh process). Returns whether it was admitted.
bool call_once(uint32_t player, Rule rule, uint32_t key, uint32_t cost) {
  Op op;
  ghost.begin(op, rule, key, cost, world.clock());
  world.set_op(&op, &op.steps);
  constexpr const char* kRules[] = {"wants", "refunds", "resets"};
  if (world.tracing()) {
    world.trace("%s key %u, cost %u", kRules[static_cast<uint32_t>(rule)], key, cost);
  }
  SimCall call(&op, &run.processes[player], run.quotas, run.weakness);
  call.refresh();
  if (run.config.behind && player != kFresh) {
    op.now -= world.rng().below(world.rng().one_in(8) ? 2000000000 : 3000);
  }
  const auto result = static_cast<Result>(run.table->update(probe_of(key), op.id, call));
  if (world.tracing()) {
    world.trace("%s", result == Result::kFull        ? "full"
                      : result == Result::kContended ? "contended"
                      : op.charges != 0              ? "done"
                                                     : "denied");
  }
  ghost.end(op, result);
  static uint64_t no_steps;
  world.set_op(nullptr, &no_steps);
  return op.charges != 0;
}

// One slot as `brim verify --repair` treats it: what nobody uses is freed, a corrupt word lowered.
void repair_slot(shm::AtomicSlot* at, Op& op, SimCall& call) {
  const shm::Slot seen = SimAtomics::load(at);
  if (seen.id == shm::kFreeId) return;
  call.refresh();
  if (seen.id == shm::kVirginId) {
    if (world.rng().one_in(8)) shm::spend<SimAtomics>(at, seen);
    return;
  }
  if (is_tentative(seen.word)) {
    const bool old = tentative_age_ms(seen.word, op.now) > kTentativeLifeMs;
    if (old || run.weakness->repair_young) shm::free_slot<SimAtomics>(at, seen);
    return;
  }
  if (call.debt(seen) == 0 || run.weakness->repair_live) {
    shm::free_slot<SimAtomics>(at, seen);
    return;
  }
  op.id = seen.id;
  const bool known = (seen.id & shm::kFingerprintMask) < kForeignFingerprint;
  const Word lowered = known ? call.ceiling(seen.word) : seen.word;
  if (lowered != seen.word) shm::replace_word<SimAtomics>(at, seen, lowered);
}

// A walk over some slots beside all the calls.
void repair(uint32_t player) {
  Op op;
  ghost.begin(op, Rule::kAcquire, 0, 0, world.clock());
  op.repairs = true;
  world.set_op(&op, &op.steps);
  if (world.tracing()) world.trace("repairs");
  SimCall call(&op, &run.processes[player], run.quotas, run.weakness);
  const uint32_t first = world.rng().below(ghost.slot_count());
  for (uint32_t i = first; i < ghost.slot_count(); ++i) {
    repair_slot(ghost.memory().slots + i, op, call);
  }
  static uint64_t no_steps;
  world.set_op(nullptr, &no_steps);
}

void fiber_main(void* argument) {
  const auto player = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(argument));
  for (uint32_t ops = world.rng().between(1, run.config.max_ops); ops != 0; --ops) {
    if (run.config.repairs && world.rng().one_in(4)) {
      repair(player);
      continue;
    }
    const uint32_t key = world.rng().below(run.config.keys);
    const uint32_t cost = world.rng().one_in(4) ? 2 : 1;
    const uint32_t gives = run.config.gives_back ? world.rng().below(6) : 2;
    call_once(player,
              gives == 0   ? Rule::kRefund
              : gives == 1 ? Rule::kReset
                           : Rule::kAcquire,
              key, cost);
  }
  world.finish();
}

// Nobody is left in the middle of a call. Every key is asked for at once, exactly decided.
void touch_all_keys() {
  for (uint32_t key = 0; key < run.config.keys && !world.failed(); ++key) {
    call_once(kFresh, Rule::kAcquire, key, 1);
    if (ghost.copies(ghost.id(key)) > 1) world.fail("key %u has two verified copies", key);
  }
}

// All tentatives are older than 1 s and all keys idle: each key must be admitted.
void admit_all_keys() {
  for (uint32_t key = 0; key < run.config.keys && !world.failed(); ++key) {
    world.advance(uint64_t{3600} * 1000000000);
    // A corrupt word may lie further ahead; healing is all that it is promised.
    if (run.config.corrupt && key == 0) continue;
    if (!call_once(kFresh, Rule::kAcquire, key, 1)) {
      world.fail("key %u: a fresh process was not admitted after an hour", key);
      return;
    }
    shm::Slot found;
    if (run.table->find(probe_of(key), ghost.id(key), found) == run.table->slot_count() ||
        ghost.copies(ghost.id(key)) != 1) {
      world.fail("key %u was admitted and is not in the table once", key);
    }
  }
}

// As many new keys as the window has slots must all find room, and then no tentative is left.
void fill_window() {
  world.advance(uint64_t{3600} * 1000000000);
  const Window window = run.config.window[0];
  const auto slots = static_cast<uint32_t>(run.table->groups_in_use() * shm::kSlotsPerGroup);
  for (uint32_t i = 0; i < slots && !world.failed(); ++i) {
    const uint64_t id = shm::make_id(1, kFirstFingerprint + ghost.key_count());
    if (!call_once(kFresh, Rule::kAcquire, ghost.add_key(id, window), 1)) {
      world.fail("key %u of %u found no room in an idle window", i, slots);
    }
  }
  for (uint32_t n = 0; n < slots; ++n) {
    if (is_tentative(ghost.slot(ghost.slot_of(window, n)).word)) {
      world.fail("slot %u is tentative for ever", ghost.slot_of(window, n));
    }
  }
}

void script_main(void* argument) {
  const auto player = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(argument));
  for (const ScriptOp& op : run.script->ops[player]) call_once(player, op.rule, op.key, op.cost);
  world.finish();
}

// The fibers have been spawned. False: a violation.
bool play(bool fills) {
  world.run();
  if (world.stopped()) return true;
  if (!world.failed()) touch_all_keys();
  if (!world.failed()) admit_all_keys();
  if (!world.failed() && fills) fill_window();
  for (uint32_t key = 0; key < ghost.key_count() && !world.failed(); ++key) ghost.check_log(key);
  Stats& stats = ghost.stats();
  ++stats.runs;
  stats.steps += world.steps();
  stats.kills += world.kills();
  stats.stalls += world.stalls();
  stats.jumps += world.jumps();
  return !world.failed();
}

void prepare(const SimTable& table, const Weakness& weakness) {
  run.weakness = &weakness;
  if (weakness.allow_virgin) ghost.allow_virgin();
  fill_quotas(run.config, run.quotas);
  run.table = &table;
  for (uint32_t i = 0; i <= kMaxPlayers; ++i) run.processes[i] = {i + 1, 0};
  if (!world.tracing()) return;
  for (uint32_t i = 0; i < ghost.slot_count(); ++i) {
    world.trace("slot %u holds %s", i, ghost.text(ghost.slot(i)));
  }
}

SimTable make_table() {
  return {ghost.memory().slots, run.config.groups, run.config.limit, &ghost.memory().reach,
          run.config.evicts};
}

}  // namespace

bool run_seed(uint64_t seed, const Weakness& weakness) {
  run.config = draw_config(seed);
  world.reset(seed ^ 0x5bd1e995, run.config.clock);
  populate(run.config, world.rng());
  const SimTable table = make_table();
  prepare(table, weakness);
  for (uint32_t i = 0; i < run.config.fibers; ++i) {
    const int64_t ahead = run.config.pace.jitter != 0 ? 0 : run.config.skew;
    const int64_t offset = world.rng().below(static_cast<uint32_t>(ahead) + 1);
    world.spawn(i, fiber_main, reinterpret_cast<void*>(uintptr_t{i}), offset);
  }
  world.set_pace(run.config.pace);
  return play(seed % 8 == 0 && !run.config.corrupt);
}

bool run_script(const Script& script, const Weakness& weakness, Director& director) {
  run.config = config_of(script);
  run.script = &script;
  world.reset(1, run.config.clock);
  world.set_director(&director);
  populate(run.config, script);
  const SimTable table = make_table();
  prepare(table, weakness);
  for (uint32_t i = 0; i < run.config.fibers; ++i) {
    world.spawn(i, script_main, reinterpret_cast<void*>(uintptr_t{i}), 0);
  }
  return play(true);
}

void add_run_to(Digest& digest) {
  digest.add(run.processes);
  ghost.add_to(digest);
}

}  // namespace brim::sim
