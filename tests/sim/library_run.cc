// SPDX-License-Identifier: MIT
// One run of the whole request path in fibers, over a real segment and a clock turned by hand.
#include "tests/sim/library_run.h"

#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "brim/limiter.h"
#include "src/base/text.h"
#include "src/compile.h"
#include "src/engine.h"
#include "src/overrides.h"
#include "tests/sim/library_ghost.h"
#include "tests/sim/library_plan.h"

namespace brim::sim {
namespace {
std::atomic<int64_t> manual_clock{0};
constexpr int64_t kWall = int64_t{1700000000} * 1000000000;

// A name for a private member: an explicit instantiation may say it.
template <class Tag, auto Member>
struct Reveal {
  friend auto member(Tag) { return Member; }
};
struct EngineTag {
  friend auto member(EngineTag);
};
struct NumberTag {
  friend auto member(NumberTag);
};
template struct Reveal<EngineTag, &PolicyHandle::engine_>;
template struct Reveal<NumberTag, &PolicyHandle::number_>;

struct Table {
  uint32_t capacity = 0;
  uint32_t on_full = 0;
  std::shared_ptr<Engine> engine;
};
Table tables[32];

std::shared_ptr<Engine> engine;
PolicyHandle handles[kMostPolicies];
uint16_t numbers[kMostPolicies];
Plan plan;
const Leave* left_out = nullptr;
const LibraryScript* script = nullptr;  // none: chance

// One segment for each shape of table; its name is gone at once.
std::shared_ptr<Engine> engine_for(uint32_t capacity, uint32_t on_full) {
  Table* table = tables;
  while (table->engine != nullptr && (table->capacity != capacity || table->on_full != on_full)) {
    ++table;
  }
  if (table->engine != nullptr) return table->engine;
  shm::SegmentSpec spec;
  spec.capacity = capacity;
  spec.on_full = on_full;
  spec.max_policies = kMostPolicies;
  spec.cells_per_key = kCellsPerKey;
  spec.overrides = 8;
  spec.name_bytes = 8;
  spec.stripes = 1;
  spec.cluster = true;
  const std::string name = cat("brim-sim-library-", getpid(), "-", capacity, "-", on_full);
  auto segment = shm::Segment::create(name, spec, {});
  if (!segment.ok()) {
    std::fprintf(stderr, "%s\n", std::string(segment.status().message()).c_str());
    std::exit(2);
  }
  (void)shm::Segment::unlink(name);
  *table = {capacity, on_full, std::make_shared<Engine>(*segment, Clock::manual(&manual_clock))};
  return table->engine;
}

// The table as if it were new, with a secret of this run.
void clear_segment(Rng& rng) {
  shm::Segment& segment = *engine->segment;
  for (const shm::SectionType type :
       {shm::SectionType::kPolicies, shm::SectionType::kCounters, shm::SectionType::kSlots,
        shm::SectionType::kNames, shm::SectionType::kCells, shm::SectionType::kOverrides,
        shm::SectionType::kConsumption, shm::SectionType::kNear, shm::SectionType::kTier}) {
    const shm::Section* const section = segment.section(type);
    if (section == nullptr) continue;
    std::memset(reinterpret_cast<char*>(segment.shared()) + section->offset, 0,
                section->element_size * section->count);
  }
  segment.shared()->reach.store(0);
  engine->secret.key0 = rng.next();
  engine->secret.key1 = rng.next();
  const uint64_t shared[2] = {rng.next(), rng.next()};
  engine->consumption.set_secret(shared);
}

Beginning beginning() {
  const int64_t now = manual_clock.load();
  return {now, kWall + now};
}

// ---- Fibers

struct Holding {
  AskPlan ask;
};

struct Worker {
  uint32_t index = 0;
  Rng rng;
  bool done = false;
  bool writer = false;
  Holding held[16];
  uint32_t held_count = 0;
  brim::Lease lease[8];
  LeaseRecord* lease_record[8] = {};
  uint32_t lease_count = 0;
  uint32_t record_points = 0;
};
Worker workers[kMaxFibers];

uint32_t pick_policy(Rng& rng, bool leases, bool& found) {
  const uint32_t first = rng.below(plan.policies);
  for (uint32_t i = 0; i < plan.policies; ++i) {
    const uint32_t p = (first + i) % plan.policies;
    if (plan.policy[p].leases == leases) {
      found = true;
      return p;
    }
  }
  found = false;
  return 0;
}

AskPlan draw_ask(Rng& rng, bool& found) {
  AskPlan ask;
  ask.policy = pick_policy(rng, false, found);
  ask.key = rng.below(plan.keys);
  ask.cost = rng.one_in(2) ? 1 : rng.between(1, 3);
  return ask;
}

void keep(Worker& me, const AskPlan& ask, const Decision& decision) {
  if (decision.verdict != Verdict::kAllowed || decision.reason != Reason::kNone) return;
  if (me.held_count < std::size(me.held)) me.held[me.held_count++] = {ask};
}

void acquire(Worker& me, const AskPlan& ask, Priority priority) {
  const char* const key = kKeyNames[ask.key];
  CallRecord& call = library_ghost.begin(Kind::kAcquire, "try_acquire", &ask, 1, priority);
  const Request request{ask.cost, priority};
  const Decision decision = handles[ask.policy].try_acquire(key, request);
  library_ghost.end(call, decision);
  keep(me, ask, decision);
}

void do_acquire(Worker& me) {
  bool found;
  const AskPlan ask = draw_ask(me.rng, found);
  if (!found) return;
  auto priority = Priority::kNormal;
  if (me.rng.one_in(4)) priority = static_cast<Priority>(me.rng.below(4));
  acquire(me, ask, priority);
}

void do_up_to(Worker& me) {
  bool found;
  AskPlan ask = draw_ask(me.rng, found);
  if (!found) return;
  const uint32_t least = me.rng.between(1, 2);
  library_ghost.tries_again(ask.policy, ask.key);
  ask.cost = least + me.rng.below(2);
  CallRecord& call =
      library_ghost.begin(Kind::kAcquire, "try_acquire_up_to", &ask, 1, Priority::kNormal);
  const Granted granted =
      handles[ask.policy].try_acquire_up_to(kKeyNames[ask.key], least, ask.cost);
  if (granted.cost > ask.cost) world.fail("up_to: %u granted", granted.cost);
  const bool allowed = granted.decision.verdict == Verdict::kAllowed;
  library_ghost.end(call, granted.decision, allowed ? granted.cost : least);
  if (allowed) ask.cost = granted.cost;
  keep(me, ask, granted.decision);
}

void acquire_all(Worker& me, const AskPlan* asks, uint32_t count) {
  PolicyHandle::Ask real[kMostAsks];
  for (uint32_t i = 0; i < count; ++i) {
    real[i] = {&handles[asks[i].policy], kKeyNames[asks[i].key], asks[i].cost};
  }
  CallRecord& call =
      library_ghost.begin(Kind::kAcquire, "try_acquire_all", asks, count, Priority::kNormal);
  const Decision decision = PolicyHandle::try_acquire_all({real, count});
  library_ghost.end(call, decision);
  for (uint32_t i = 0; i < count; ++i) keep(me, asks[i], decision);
}

void do_all(Worker& me) {
  AskPlan asks[kMostAsks];
  const uint32_t count = me.rng.between(2, kMostAsks);
  uint32_t shadows = 0;
  for (uint32_t i = 0; i < count; ++i) {
    bool found;
    asks[i] = draw_ask(me.rng, found);
    if (!found) return;
    shadows += plan.policy[asks[i].policy].shadow ? 1 : 0;
    const bool logs = plan.policy[asks[i].policy].rates[0].form == Form::kLog;
    if (left_out->undo_log && logs) return;
  }
  if (shadows > 1 || (shadows != 0 && left_out->shadow_asks) ||
      (left_out->undo_time && !plan.frozen))
    return;
  acquire_all(me, asks, count);
}

void refund(const AskPlan& ask) {
  CallRecord& call = library_ghost.begin(Kind::kGiveBack, "refund", &ask, 1, Priority::kNormal);
  handles[ask.policy].refund(kKeyNames[ask.key], ask.cost);
  library_ghost.end_other(call);
}

void do_refund(Worker& me) {
  if (!plan.refunds || me.held_count == 0) return;
  const uint32_t i = me.rng.below(me.held_count);
  AskPlan ask = me.held[i].ask;
  me.held[i] = me.held[--me.held_count];
  const char* const key = kKeyNames[ask.key];
  if (me.rng.one_in(3)) {
    const uint32_t held = ask.cost;
    const uint32_t actual = me.rng.below(held + 2);
    if (actual > held) {  // charged without asking; its return is not this worker's business
      library_ghost.overcharged(ask.policy, ask.key, actual - held);
      CallRecord& call =
          library_ghost.begin(Kind::kOther, "commit more", &ask, 1, Priority::kNormal);
      handles[ask.policy].commit(key, held, actual);
      library_ghost.end_other(call);
      return;
    }
    ask.cost = held - actual;
    CallRecord& call =
        library_ghost.begin(Kind::kGiveBack, "commit less", &ask, 1, Priority::kNormal);
    handles[ask.policy].commit(key, held, actual);
    library_ghost.end_other(call);
    return;
  }
  refund(ask);
}

void do_reserve(Worker& me) {
  bool found;
  const AskPlan ask = draw_ask(me.rng, found);
  if (!found || plan.policy[ask.policy].rate_count != 1 || plan.overrides ||
      plan.policy[ask.policy].ban_after != 0 || plan.policy[ask.policy].shadow ||
      plan.policy[ask.policy].rates[0].form > Form::kQueue) {
    return;
  }
  const bool ahead = me.rng.one_in(3);
  const int64_t most = ahead ? int64_t{100} * 3600 * 1000000000 : 0;
  const char* const key = kKeyNames[ask.key];
  if (ahead) library_ghost.booked(ask.policy, ask.key);
  CallRecord& call = library_ghost.begin(Kind::kAcquire, "reserve", &ask, 1, Priority::kNormal);
  call.alone = false;
  const Ticket ticket = handles[ask.policy].reserve(key, ask.cost, most);
  library_ghost.end(call, ticket.decision);
  if (ticket.decision.verdict != Verdict::kAllowed) return;
  ++library_ghost.totals.bookings;
  const Form form = plan.policy[ask.policy].rates[0].form;
  if (!left_out->reserve && form < Form::kForward &&
      ticket.decision.delay_ns > Rate::kDefaultAheadNs + 10) {
    world.fail("reserve: booked %lld ns ahead", static_cast<long long>(ticket.decision.delay_ns));
  }
  if (!plan.refunds || me.rng.one_in(2)) return;
  CallRecord& back = library_ghost.begin(Kind::kGiveBack, "cancel", &ask, 1, Priority::kNormal);
  const bool cancelled = handles[ask.policy].cancel(key, ticket);
  library_ghost.end_other(back);
  if (!cancelled) {
    // Others gave back meanwhile, so that the line ends before this booking: it stays charged.
    library_ghost.booked(ask.policy, ask.key);
    library_ghost.overcharged(ask.policy, ask.key, ask.cost);
  }
}

void do_lease(Worker& me) {
  bool found;
  AskPlan ask;
  ask.policy = pick_policy(me.rng, true, found);
  ask.key = me.rng.below(plan.keys);
  if (!found) return;
  const PolicyHandle& handle = handles[ask.policy];
  const uint32_t what = me.rng.below(4);
  if (what < 2 || me.lease_count == 0) {
    if (me.lease_count == std::size(me.lease)) return;
    CallRecord& call =
        library_ghost.begin(Kind::kLease, "acquire_lease", &ask, 1, Priority::kNormal);
    const brim::Lease lease = handle.acquire_lease(kKeyNames[ask.key]);
    LeaseRecord* const record = library_ghost.lease_taken(call, lease);
    if (record == nullptr) return;
    me.lease[me.lease_count] = lease;
    me.lease_record[me.lease_count++] = record;
    return;
  }
  const uint32_t i = me.rng.below(me.lease_count);
  LeaseRecord& record = *me.lease_record[i];
  ask = {record.policy, record.key, 1};
  if (what == 2) {
    CallRecord& call = library_ghost.begin(Kind::kOther, "renew", &ask, 1, Priority::kNormal);
    const bool renewed = handles[record.policy].renew(me.lease[i]);
    library_ghost.end_other(call);
    if (renewed) record.expires = me.lease[i].expires_ns;
    if (!renewed && plan.frozen && !library_ghost.may_fill()) world.fail("renew: a lease is lost");
    return;
  }
  CallRecord& call = library_ghost.begin(Kind::kOther, "release", &ask, 1, Priority::kNormal);
  record.live = false;
  const bool released = handles[record.policy].release(me.lease[i]);
  library_ghost.end_other(call);
  if (!released && plan.frozen) world.fail("release: a lease is lost");
  me.lease[i] = me.lease[--me.lease_count];
  me.lease_record[i] = me.lease_record[me.lease_count];
}

// A record that is read is one that was written, whole.
void do_read(Worker& me) {
  static shm::PolicyWords words[kMaxFibers];
  static std::string text[kMaxFibers];
  const uint32_t p = me.rng.below(plan.policies);
  const uint32_t oldest = library_ghost.oldest(p);
  const AskPlan ask{p, 0, 1};
  CallRecord& call = library_ghost.begin(Kind::kOther, "read", &ask, 1, Priority::kNormal);
  const bool read = engine->registry.read(numbers[p], words[me.index], text[me.index]);
  library_ghost.end_other(call);
  if (read && library_ghost.any_version(p, words[me.index], oldest) == nullptr) {
    world.fail("read: a record of policy %u that nobody wrote", p);
  }
}

void work(void* argument) {
  Worker& me = *static_cast<Worker*>(argument);
  const uint32_t ops = me.rng.between(1, plan.ops);
  for (uint32_t i = 0; i < ops; ++i) {
    switch (me.rng.below(12)) {
      case 0:
        do_read(me);
        break;
      case 1:
        do_up_to(me);
        break;
      case 2:
      case 3:
        do_all(me);
        break;
      case 4:
        do_reserve(me);
        break;
      case 5:
      case 6:
        do_refund(me);
        break;
      case 7:
      case 8:
        do_lease(me);
        break;
      default:
        do_acquire(me);
        break;
    }
  }
  me.done = true;
  world.finish();
}

// What a writer made before it may be stopped; nothing it owns lives on its stack.
struct Draft {
  PolicyPlan shape[kMostPolicies];
  shm::PolicyWords words;
  shm::PolicyWords next;
  std::string text;
};
Draft draft;

void publish(uint32_t p) {
  const AskPlan ask{p, 0, 1};
  CallRecord& call = library_ghost.begin(Kind::kOther, "replace", &ask, 1, Priority::kNormal);
  library_ghost.version_begins(p, draft.next);
  engine->registry.replace(numbers[p], draft.next, draft.text);
  library_ghost.version_done(p);
  library_ghost.end_other(call);
  ++library_ghost.totals.changes;
}

void set_override(Rng& rng, uint32_t p) {
  const uint32_t k = rng.below(plan.keys);
  auto state = static_cast<OverrideState>(rng.below(4));
  uint32_t to = rng.below(plan.policies);
  if (state == OverrideState::kOther && plan.policy[to].leases != plan.policy[p].leases) to = p;
  const Hash128 hash = hash_key(engine->secret, kKeyNames[k]);
  const shm::Section* const section = engine->segment->section(shm::SectionType::kOverrides);
  shm::OverrideWriter writer(engine->segment->overrides(), section->count);
  shm::Override what;
  what.from = numbers[p];
  what.to = numbers[to];
  what.action = static_cast<uint8_t>(state == OverrideState::kUnlimited ? OverrideKind::kUnlimited
                                     : state == OverrideState::kDeny    ? OverrideKind::kDeny
                                                                        : OverrideKind::kPolicy);
  const AskPlan ask{p, k, 1};
  library_ghost.use_begins(p, k, state);
  CallRecord& call = library_ghost.begin(Kind::kOther, "override", &ask, 1, Priority::kNormal);
  world.trace("override of policy %u key %u: %u", p, k, static_cast<uint32_t>(state));
  if (state == OverrideState::kNone) {
    writer.remove({hash.low, hash.high}, what.from);
  } else if (!writer.set({hash.low, hash.high}, what).ok()) {
    world.fail("override: refused");
  }
  library_ghost.end_other(call);
  if (!engine->registry.read(numbers[p], draft.words, draft.text)) world.fail("read: no policy");
  if (!options_from_word(draft.words[kOptionWords]).overrides) {
    draft.next = with_overrides(draft.words);
    publish(p);
  }
  library_ghost.use_done(p, k);
}

// Draws nothing.
void change_to(uint32_t p, const PolicyPlan& shape) {
  {
    const std::string text = text_of(shape);
    const auto policy = parse_policy(text);
    if (!policy.ok()) return;
    const auto words = recompile(*policy, beginning(), draft.words, false);
    if (!words.ok()) return;
    draft.next = *words;
    draft.text = policy_text(*policy);
    draft.shape[p] = shape;
  }
  world.trace("policy %u becomes %s", p, draft.text.c_str());
  publish(p);
}

void change(Rng& rng, uint32_t p) {
  for (const RatePlan& rate : plan.policy[p].rates) {
    if (left_out->log_change && rate.form == Form::kLog) return;
  }
  if (!engine->registry.read(numbers[p], draft.words, draft.text)) world.fail("read: no policy");
  if (rng.one_in(3)) {
    constexpr uint32_t kFactors[] = {0, 100000, 500000, 1000000, 1000000};
    const uint32_t factor = kFactors[left_out->stopped ? rng.between(1, 4) : rng.below(5)];
    world.trace("factor %u for policy %u", factor, p);
    draft.next = with_factor(draft.words, manual_clock.load(), factor);
    return publish(p);
  }
  change_to(p, vary(draft.shape[p], rng, *left_out));
}

void script_main(void* argument) {
  Worker& me = *static_cast<Worker*>(argument);
  for (const LibraryOp& op : script->ops[me.index]) {
    if (op.what == LibraryOp::kAcquire) acquire(me, op.ask, Priority::kNormal);
    if (op.what == LibraryOp::kAll) acquire_all(me, script->all, 2);
    if (op.what == LibraryOp::kRefund && me.held_count != 0) refund(me.held[--me.held_count].ask);
    if (op.what == LibraryOp::kRead) do_read(me);
    if (op.what == LibraryOp::kChange) {
      if (!engine->registry.read(numbers[0], draft.words, draft.text)) world.fail("no policy");
      change_to(0, script->next);
    }
  }
  me.done = true;
  world.finish();
}

void write(void* argument) {
  Worker& me = *static_cast<Worker*>(argument);
  for (uint32_t i = 0; i < plan.changes; ++i) {
    const uint32_t p = me.rng.below(plan.policies);
    if (plan.overrides && me.rng.one_in(2)) {
      set_override(me.rng, p);
    } else {
      change(me.rng, p);
    }
  }
  me.done = true;
  world.finish();
}

// ---- Runs

bool define_policies() {
  for (uint32_t p = 0; p < plan.policies; ++p) {
    const auto policy = parse_policy(text_of(plan.policy[p]));
    if (!policy.ok()) return false;  // two equal rates
    const auto words = compile(*policy, beginning());
    if (!words.ok()) return false;
    library_ghost.version_begins(p, *words);
    const auto number = engine->registry.add(cat("p", p), *words, policy_text(*policy));
    if (!number.ok()) return false;
    numbers[p] = *number;
    handles[p].*member(EngineTag{}) = engine;
    handles[p].*member(NumberTag{}) = numbers[p];
    draft.shape[p] = plan.policy[p];
  }
  return true;
}

void spawn(uint32_t index, void (*entry)(void*), uint64_t seed) {
  Worker& worker = workers[index];
  worker.index = index;
  worker.rng = Rng(seed);
  worker.done = false;
  worker.held_count = worker.lease_count = worker.record_points = 0;
  world.spawn(index, entry, &worker, 0);
}

void run_phase(Rng& rng) {
  world.set_pace(plan.pace);
  const uint32_t count = plan.workers + (plan.writer ? 1 : 0);
  for (uint32_t i = 0; i < count; ++i) {
    spawn(i, plan.writer && i == plan.workers ? write : work, rng.next());
  }
  world.run();
  if (!world.failed()) library_ghost.collect_killed();
}

// A segment with the plan's policies. False: there can be none.
bool prepare(Rng& rng) {
  engine = engine_for(plan.capacity, plan.on_full);
  const int64_t start = int64_t{1000000} * 1000000000 + rng.below(1000000000);
  world.reset(rng.next(), start);
  manual_clock.store(start);
  clear_segment(rng);
  for (uint16_t p = 0; p < kMostPolicies; ++p) numbers[p] = p;
  library_ghost.reset(plan, *engine, numbers);
  return define_policies();
}

bool end_run() {
  if (!world.failed()) library_ghost.check_bounds();
  if (!world.failed()) library_ghost.check_quiet();
  return !world.failed();
}
}  // namespace

bool run_seed(uint64_t seed, const Leave& leave) {
  left_out = &leave;
  Rng rng(seed);
  plan = draw_plan(rng, *left_out);
  if (world.tracing()) std::printf("seed=%" PRIu64 " %s\n", seed, describe(plan).c_str());
  if (!prepare(rng)) return true;
  advance_clock(rng.below(4) * int64_t{300000000000});  // their clocks are on their way
  run_phase(rng);
  if (plan.second_phase && !world.failed()) run_phase(rng);
  return end_run();
}

bool skip_record_point() {
  if (script == nullptr) return false;
  if (script->plan.changes == 0) return true;
  static_assert(kThin < shm::kPolicyWords);
  return ++workers[world.running() % kMaxFibers].record_points % kThin != 1;
}

bool run_script(const LibraryScript& scripted, Director& director) {
  script = &scripted;
  plan = scripted.plan;
  Rng rng(1);
  if (!prepare(rng)) return world.fail("a policy of the script is wrong"), false;
  world.set_director(&director);
  for (uint32_t i = 0; i < plan.workers; ++i) spawn(i, script_main, i);
  world.run();
  if (!world.failed()) library_ghost.collect_killed();
  return end_run();
}

const Plan& last_plan() { return plan; }

PolicyHandle handle_of(uint16_t number) {
  PolicyHandle handle;
  handle.*member(EngineTag{}) = engine;
  handle.*member(NumberTag{}) = number;
  return handle;
}

void advance_clock(int64_t ns) {
  world.advance(ns);
  manual_clock.store(world.clock());
}
}  // namespace brim::sim

// A count, a name or an attachment that is written a little later is no other world for anybody,
// so stores that nobody races for are no points here.
extern "C" void brim_schedule_point(BrimPoint point) noexcept {
  if (point == BrimPoint::kStore) return;
  const bool record = point == BrimPoint::kLoadRecord || point == BrimPoint::kChangeRecord;
  if (record && brim::sim::skip_record_point()) return;
  using brim::sim::world;
  if (world.running() == brim::sim::World::kMain) return;
  world.point();
  brim::sim::manual_clock.store(world.clock(), std::memory_order_relaxed);
  if (brim::sim::library_ghost.too_long()) world.fail("a call does not end");
}
