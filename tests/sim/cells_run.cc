// SPDX-License-Identifier: MIT
// The production cells.h, leases.h and table.h on simulated memory: fibers of several processes
// call for log, lease and GCRA keys that take over each other's slots. A mutant is this file
// compiled with BRIM_SIM_CELLS_H or BRIM_SIM_LEASES_H naming a changed copy.
#include "tests/sim/cells_run.h"

#if !defined(BRIM_SIM_CELLS_H)
#define BRIM_SIM_CELLS_H "shm/cells.h"
#endif
#if !defined(BRIM_SIM_LEASES_H)
#define BRIM_SIM_LEASES_H "shm/leases.h"
#endif
// In this order: a changed cells.h keeps the other one out.
#include BRIM_SIM_CELLS_H
#include BRIM_SIM_LEASES_H

#include "shm/table.h"
#include "tests/sim/cells_atomics.h"

namespace brim::sim::cells {
namespace {

using shm::AtomicCell;
using shm::CellOutcome;
using shm::Slot;
using SimTable = shm::Table<CellSimAtomics>;

constexpr uint32_t kFresh = kPlayers;  // the process that comes after all others
constexpr shm::Probe kProbe = {0, 1};

struct Player {
  uint32_t counter = 0;
  shm::Lease held[2];
  uint64_t position[2] = {};
};

struct Run {
  Config config;
  const Script* script = nullptr;
  const SimTable* table = nullptr;
  Player players[kPlayers + 1];
};
Run run;

uint64_t span_of(Kind kind) {
  const uint64_t span = run.config.span[static_cast<uint32_t>(kind)];
  return kind == Kind::kLog ? shm::log_span(span, run.config.inclusive) : span;
}

// What the table asks of its caller.
class TableCall {
 public:
  TableCall(Call* call, uint32_t player) : call_(call), player_(player) { refresh(); }

  Word step(Word word) {
    const Kind kind = run.config.kind[call_->key];
    const auto now = static_cast<uint64_t>(call_->now);
    if (kind != Kind::kGcra) {
      return word == kEmptyWord ? shm::idle_word(now + span_of(kind), span_of(kind)) : word;
    }
    const uint64_t next = std::max(word, now) + call_->cost * span_of(kind);
    return next > now + 2 * span_of(kind) ? word : next;
  }
  bool plausible(Word) const { return true; }
  Word ceiling(Word word) const { return word; }
  void refresh() {
    world.point();
    call_->now = world.read_clock();
  }
  int64_t now_ns() const { return call_->now; }
  uint64_t debt(const Slot& slot, uint64_t) const {
    const int64_t past = call_->now - run.config.skew;
    if (slot.word <= static_cast<uint64_t>(past)) return 0;
    const bool evictable = shm::id_policy(slot.id) == static_cast<uint16_t>(Kind::kGcra);
    return evictable ? 2 : ~uint64_t{0};
  }
  Word tentative() {
    return make_tentative(player_ + 1, run.players[player_].counter++, call_->now);
  }
  void name(uint64_t) { world.point(); }
  void charged(uint64_t) {}
  void count(shm::Event) {}
  void evicted(const Slot&) {}

 private:
  Call* call_;
  uint32_t player_;
};

class SimContext {
 public:
  SimContext(Call* call, uint64_t position) : call_(call), slot_(ghost.memory().slots + position) {}
  uint64_t id() const { return call_->id; }
  Slot load() { return CellSimAtomics::load(slot_); }
  bool raise(Slot seen, Word to) { return CellSimAtomics::cas(slot_, seen, {seen.id, to}); }
  int64_t now() {
    world.point();
    call_->now = world.read_clock();
    world.trace("reads the clock");
    return call_->now;
  }
  void retry(uint32_t) {
    world.point();
    ++call_->retries;
  }

 private:
  Call* call_;
  shm::AtomicSlot* slot_;
};

using Log = shm::Log<CellSimAtomics, SimContext>;
using Leases = shm::Leases<CellSimAtomics, SimContext>;

AtomicCell* cells_at(uint64_t position) {
  return reinterpret_cast<AtomicCell*>(ghost.memory().cells + position * run.config.depth);
}

// The key's slot; inserts it if `insert`. slot_count(): none.
uint64_t position_of(Call& call, uint32_t player, bool insert) {
  const uint64_t none = run.table->slot_count();
  for (uint32_t round = 0; round < 64; ++round) {
    Slot slot;
    const uint64_t position = run.table->find(kProbe, call.id, slot);
    if (position != none || !insert) return position;
    TableCall table_call(&call, player);
    if (run.table->update(kProbe, call.id, table_call) != shm::Outcome::kDecided) return none;
  }
  return none;
}

// Calls visit(position) until it answers anything but kMoved.
template <class Visit>
bool on_slot_of(Call& call, uint32_t player, bool insert, Visit visit) {
  for (uint32_t round = 0; round < 64; ++round) {
    const uint64_t position = position_of(call, player, insert);
    if (position == run.table->slot_count()) break;
    const CellOutcome outcome = visit(position);
    if (outcome == CellOutcome::kContended) world.fail("contended");
    if (outcome == CellOutcome::kDecided) return true;
    ++ghost.stats().moved;
  }
  ++ghost.stats().unavailable;
  return false;
}

void enter(Call& call) {
  world.set_op(nullptr, &call.steps);
  set_current(&call);
}

void leave(const Call& call) {
  static uint64_t no_steps;
  world.set_op(nullptr, &no_steps);
  set_current(nullptr);
  Stats& stats = ghost.stats();
  stats.max_retries = std::max<uint64_t>(stats.max_retries, call.retries);
  stats.max_steps = std::max(stats.max_steps, call.steps);
}

shm::LogResult call_log(uint32_t player, Action action, uint32_t key, uint32_t cost) {
  Call call;
  ghost.begin(call, action, key, cost);
  enter(call);
  world.trace("log key %u: action %u, cost %u", key, static_cast<unsigned>(action), cost);
  const shm::LogRule rule{call.limit, span_of(Kind::kLog), ~uint64_t{0}};
  shm::LogResult result;
  shm::RefundResult refunded;
  const bool done = on_slot_of(call, player, action == Action::kAcquire, [&](uint64_t position) {
    SimContext context(&call, position);
    Log log(cells_at(position), run.config.depth, rule, context);
    if (action == Action::kAcquire || action == Action::kPeek) {
      result = action == Action::kPeek ? log.peek(cost) : log.acquire(cost);
      return result.outcome;
    }
    refunded = action == Action::kRefund ? log.refund(cost) : log.reset();
    return refunded.outcome;
  });
  if (!done) result.outcome = CellOutcome::kContended;
  if (done && action == Action::kAcquire && !result.never) {
    world.trace("%s", result.admitted ? "admitted" : "refused");
    ghost.end_log(call, result.admitted, result.now_ns);
  }
  if (action == Action::kRefund || action == Action::kReset) ghost.end_refund(call, refunded.given);
  leave(call);
  return result;
}

void call_gcra(uint32_t player, uint32_t key) {
  Call call;
  ghost.begin(call, Action::kAcquire, key, 1);
  enter(call);
  TableCall table_call(&call, player);
  run.table->update(kProbe, call.id, table_call);
  leave(call);
}

shm::LeaseResult call_lease(uint32_t player, uint32_t key, uint32_t place) {
  Call call;
  ghost.begin(call, Action::kAcquire, key, 1);
  enter(call);
  world.trace("lease key %u", key);
  Player& who = run.players[player];
  shm::LeaseResult result;
  const bool done = on_slot_of(call, player, true, [&](uint64_t position) {
    SimContext context(&call, position);
    call.holder = ghost.new_holder(player);
    Leases leases(cells_at(position), run.config.depth, {call.limit, ~uint64_t{0}}, context);
    result = leases.acquire(span_of(Kind::kLease), call.holder);
    who.position[place] = position;
    return result.outcome;
  });
  if (done) {
    world.trace("%s", result.admitted ? "a lease" : "refused");
    if (result.admitted) who.held[place] = result.lease;
    ghost.end_lease(call, result.admitted, result.now_ns, result.lease.fence);
  } else {
    result.outcome = CellOutcome::kContended;
  }
  leave(call);
  return result;
}

// Renews or releases a lease, or reaps the dead ones beside it.
void call_held(uint32_t player, Action action, uint32_t key, uint32_t place) {
  Player& who = run.players[player];
  shm::Lease& lease = who.held[place];
  const uint64_t position = who.position[place];
  Call call;
  ghost.begin(call, action, key, 1);
  call.holder = lease.holder;
  enter(call);
  world.trace("lease key %u: action %u", key, static_cast<unsigned>(action));
  SimContext context(&call, position);
  if (action == Action::kRelease) {
    const bool ended = Leases::release(cells_at(position), run.config.depth, lease);
    ghost.stats().released += ended;
    if (Leases::release(cells_at(position), run.config.depth, lease) && ended) {
      world.fail("a lease was released twice");
    }
    lease = {};
  } else if (action == Action::kRenew) {
    Leases leases(cells_at(position), run.config.depth, {call.limit, ~uint64_t{0}}, context);
    if (leases.renew(lease, span_of(Kind::kLease)) != CellOutcome::kDecided) {
      ++ghost.stats().lost;
      lease = {};
    }
  } else {
    Leases leases(cells_at(position), run.config.depth, {call.limit, ~uint64_t{0}}, context);
    ghost.stats().reaped += leases.reap(static_cast<uint64_t>(run.config.skew) + 100,
                                        [](uint64_t holder) { return ghost.is_dead(holder); });
  }
  leave(call);
}

void lease_turn(uint32_t player, uint32_t key) {
  Player& who = run.players[player];
  const uint32_t place = world.rng().below(2);
  if (who.held[place].holder == 0) {
    call_lease(player, key, place);
    return;
  }
  constexpr Action kActions[] = {Action::kRelease, Action::kRelease, Action::kRenew, Action::kRenew,
                                 Action::kReap};
  call_held(player, kActions[world.rng().below(5)], key, place);
}

void fiber_main(void* argument) {
  const auto player = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(argument));
  Rng& rng = world.rng();
  uint32_t key = rng.below(run.config.keys);
  for (uint32_t ops = rng.between(1, run.config.max_ops); ops != 0; --ops) {
    // A lease is renewed under the key that it was taken for.
    const bool holds =
        run.players[player].held[0].holder != 0 || run.players[player].held[1].holder != 0;
    if (!holds) key = rng.below(run.config.keys);
    if (ghost.stats().calls % 64 == run.config.change_at) ghost.change();
    switch (run.config.kind[key]) {
      case Kind::kLog: {
        const uint32_t what = run.config.gives_back ? rng.below(8) : 7;
        const Action action = what == 0   ? Action::kReset
                              : what <= 2 ? Action::kRefund
                              : what == 3 ? Action::kPeek
                                          : Action::kAcquire;
        call_log(player, action, key, rng.one_in(3) ? rng.between(2, 3) : 1);
        break;
      }
      case Kind::kLease:
        lease_turn(player, key);
        break;
      default:
        call_gcra(player, key);
    }
  }
  if (rng.one_in(2)) ghost.die(player);
  world.finish();
}

void do_scripted(uint32_t player, const CellOp& op) {
  const Kind kind = run.config.kind[op.key];
  const bool holds = run.players[player].held[0].holder != 0;
  switch (op.what) {
    case Do::kCall:
      if (kind == Kind::kGcra) return call_gcra(player, op.key);
      if (kind == Kind::kLog) call_log(player, Action::kAcquire, op.key, op.cost);
      if (kind == Kind::kLease && !holds) call_lease(player, op.key, 0);
      return;
    case Do::kRefund:
    case Do::kReset:
      call_log(player, op.what == Do::kReset ? Action::kReset : Action::kRefund, op.key, op.cost);
      return;
    case Do::kRelease:
    case Do::kRenew:
    case Do::kReap:
      if (holds) {
        call_held(player,
                  op.what == Do::kRelease ? Action::kRelease
                  : op.what == Do::kRenew ? Action::kRenew
                                          : Action::kReap,
                  op.key, 0);
      }
      return;
    case Do::kChange:
      world.point();
      return ghost.change();
    case Do::kDie:
      world.point();
      return ghost.die(player);
  }
}

void script_main(void* argument) {
  const auto player = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(argument));
  for (const CellOp& op : run.script->ops[player]) do_scripted(player, op);
  world.finish();
}

// Nobody runs: the answer must be exact, and so must be the time that a refusal promises.
void settle_log(uint32_t key) {
  const uint32_t limit = run.config.limit[0][ghost.changed() ? 1 : 0];
  for (uint32_t i = 0; i < 3 && !world.failed(); ++i) {
    const uint32_t cost = 1 + i % limit;
    const auto now = static_cast<uint64_t>(world.clock());
    const uint32_t live = ghost.live_permits(key, now);
    const shm::LogResult result = call_log(kFresh, Action::kAcquire, key, cost);
    if (world.failed() || result.outcome != CellOutcome::kDecided) return;
    const bool fits = live + cost <= limit;
    if (result.admitted != fits || result.live != live + (fits ? cost : 0)) {
      return world.fail("key %u: %u live of %u, cost %u: wrong answer, %u live", key, live, limit,
                        cost, result.live);
    }
    if (fits) continue;
    world.advance(static_cast<int64_t>(result.retry_at_ns - now) - 1);
    if (call_log(kFresh, Action::kAcquire, key, cost).admitted) {
      return world.fail("key %u: admitted before the promised time", key);
    }
    world.advance(1);
    const shm::LogResult again = call_log(kFresh, Action::kAcquire, key, cost);
    if (again.outcome == CellOutcome::kDecided && !again.admitted) {
      return world.fail("key %u: refused at the promised time", key);
    }
  }
}

void settle_lease(uint32_t key) {
  const uint32_t limit = run.config.limit[1][ghost.changed() ? 1 : 0];
  for (uint32_t i = 0; i <= limit && !world.failed(); ++i) {
    const uint32_t live = ghost.live_leases(key, static_cast<uint64_t>(world.clock()));
    const shm::LeaseResult result = call_lease(kFresh, key, 0);
    if (world.failed() || result.outcome != CellOutcome::kDecided) return;
    if (result.admitted != (live < limit)) {
      return world.fail("key %u: %u leases of %u: wrong answer", key, live, limit);
    }
    if (!result.admitted) {
      world.advance(static_cast<int64_t>(result.retry_at_ns) - world.clock());
    }
  }
}

void settle() {
  for (uint32_t key = 0; key < run.config.keys && !world.failed(); ++key) {
    if (run.config.kind[key] == Kind::kLog) settle_log(key);
    if (run.config.kind[key] == Kind::kLease) settle_lease(key);
  }
}

void populate() {
  const uint32_t slots = run.config.groups * shm::kSlotsPerGroup;
  for (uint32_t i = 0; i < slots; ++i) {
    ghost.memory().slots[i].pair = {
        shm::make_id(static_cast<uint16_t>(Kind::kFiller), kFirstFingerprint + 100 + i),
        uint64_t{1} << 62};
  }
}

SimTable begin_run() {
  ghost.reset(run.config);
  for (Player& player : run.players) player = Player{};
  return {ghost.memory().slots, run.config.groups, run.config.groups, &ghost.memory().reach,
          run.config.evicts};
}

// After the fibers. False: a violation.
bool end_run() {
  if (!world.failed()) settle();
  for (uint32_t key = 0; key < run.config.keys && !world.failed(); ++key) ghost.check_windows(key);
  Stats& stats = ghost.stats();
  ++stats.runs;
  stats.steps += world.steps();
  stats.kills += world.kills();
  stats.stalls += world.stalls();
  return !world.failed();
}

}  // namespace

bool run_seed(uint64_t seed, uint32_t only) {
  run.config = draw_config(seed, only);
  world.reset(seed ^ 0x5bd1e995, kClock0 + static_cast<int64_t>(seed % 1000));
  const SimTable table = begin_run();
  run.table = &table;
  populate();
  for (uint32_t left = run.config.open_slots; left != 0; --left) {
    const uint32_t slots = run.config.groups * shm::kSlotsPerGroup;
    ghost.memory().slots[world.rng().below(slots)].pair = {shm::kFreeId, 0};
  }
  for (uint32_t i = 0; i < run.config.fibers; ++i) {
    const int64_t offset = world.rng().below(static_cast<uint32_t>(run.config.skew) + 1);
    world.spawn(i, fiber_main, reinterpret_cast<void*>(uintptr_t{i}), offset);
  }
  world.set_pace(run.config.pace);
  world.run();
  // Beyond the life of a tentative and the fibers' clocks, or right after.
  if (world.rng().one_in(4)) world.advance(2000000000);
  world.advance(run.config.skew);
  return end_run();
}

bool run_script(const Script& script, Director& director) {
  run.config = script.config;
  run.script = &script;
  world.reset(1, kClock0);
  world.set_director(&director);
  const SimTable table = begin_run();
  run.table = &table;
  populate();
  for (uint32_t i = 0; i < run.config.open_slots; ++i) {
    ghost.memory().slots[i].pair = {shm::kFreeId, 0};
  }
  for (const CellOp& op : script.before) do_scripted(kFresh, op);
  world.advance(script.pause);
  for (uint32_t i = 0; i < run.config.fibers; ++i) {
    world.spawn(i, script_main, reinterpret_cast<void*>(uintptr_t{i}), 0);
  }
  world.run();
  return world.stopped() || end_run();
}

void add_run_to(Digest& digest) {
  digest.add(run.players);
  ghost.add_to(digest);
}

}  // namespace brim::sim::cells
