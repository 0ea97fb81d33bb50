// SPDX-License-Identifier: MIT
#include "tests/sim/ghost.h"

#include <algorithm>
#include <cstdio>

#include "tests/sim/world.h"

namespace brim::sim {
namespace {

using shm::Slot;
using ull = unsigned long long;  // for printf
__extension__ using Wide = unsigned __int128;

}  // namespace

Rate make_rate(uint32_t limit, uint64_t period_ns, uint32_t burst) {
  Rate rate{limit, period_ns, burst, 1};
  while (limit * rate.permit < period_ns) rate.permit *= 2;
  return rate;
}

uint64_t Rate::reading(int64_t clock) const {
  const auto elapsed = static_cast<uint64_t>(std::max<int64_t>(clock - kT0, 0));
  uint64_t product;
  if (!__builtin_mul_overflow(elapsed, limit * permit, &product)) [[likely]]
    return kV0 + product / period_ns;
  return kV0 + static_cast<uint64_t>(Wide{elapsed} * (limit * permit) / period_ns);
}

void Ghost::reset(uint32_t groups, uint32_t limit, bool evicts, int64_t skew) {
  groups_ = groups;
  limit_ = limit;
  evicts_ = evicts;
  skew_ = skew;
  key_count_ = 0;
}

uint32_t Ghost::add_key(uint64_t id, const Window& window) {
  Key& key = keys_[key_count_];
  key.id = id;
  key.window = window;
  key.tat = key.forgiven = 0;
  key.admissions = 0;
  return key_count_++;
}

Ghost::Key* Ghost::find(uint64_t id) {
  const uint64_t index = (id & shm::kFingerprintMask) - kFirstFingerprint;
  return index < key_count_ && keys_[index].id == id ? &keys_[index] : nullptr;
}

uint64_t Ghost::reach_in_use() const {
  // Relaxed: the simulator has one thread.
  return memory_.reach.load(std::memory_order_relaxed) + 1;
}

uint32_t Ghost::slot_of(const Window& window, uint32_t n) const {
  const uint32_t group = (window.home + n / shm::kSlotsPerGroup * window.stride) % groups_;
  return group * shm::kSlotsPerGroup + n % shm::kSlotsPerGroup;
}

Slot Ghost::slot(uint32_t i) const {
  return {memory_.slots[i].pair.low, memory_.slots[i].pair.high};
}

uint32_t Ghost::copies(uint64_t id) const {
  uint32_t count = 0;
  for (uint32_t i = 0; i < slot_count(); ++i) {
    const Slot s = slot(i);
    count += s.id == id && !is_tentative(s.word) ? 1 : 0;
  }
  return count;
}

const char* Ghost::text(const Slot& slot) const {
  static char buffers[4][80];
  static uint32_t turn = 0;
  char* const out = buffers[turn++ % 4];
  if (slot.id == shm::kVirginId) return slot.word == 0 ? "virgin" : "virgin with a word!";
  if (slot.id == shm::kFreeId) return "free";
  const uint64_t fingerprint = slot.id & shm::kFingerprintMask;
  const bool foreign = fingerprint >= kForeignFingerprint;
  const auto number =
      static_cast<ull>(fingerprint - (foreign ? kForeignFingerprint : kFirstFingerprint));
  const char* const who = foreign ? "foreign" : "key";
  if (is_tentative(slot.word)) {
    std::snprintf(out, sizeof(buffers[0]), "%s %llu tentative (%u.%u)", who, number,
                  static_cast<unsigned>(slot.word >> 42 & 0x1fffff),
                  static_cast<unsigned>(slot.word >> 22 & 0xfffff));
  } else {
    const auto debt = static_cast<int64_t>(slot.word - rate_of(slot.id).reading(world.clock()));
    std::snprintf(out, sizeof(buffers[0]), "%s %llu debt %lld", who, number,
                  static_cast<long long>(debt));
  }
  return out;
}

void Ghost::begin(Op& op, Rule rule, uint32_t key, uint32_t cost, int64_t now) {
  op = Op{};
  op.rule = rule;
  op.key = key;
  op.cost = cost;
  op.id = keys_[key].id;
  op.now = now;
}

void Ghost::on_load(const Slot& seen) {
  Op* const op = world.op();
  if (op != nullptr && seen.id == op->id) op->load_tat = keys_[op->key].tat;
}

void Ghost::on_step(Op& op, Word seen, Word next) {
  op.seen = seen;
  op.next = next;
  op.step_now = op.now;
  op.step_tat = seen == kEmptyWord ? keys_[op.key].tat : op.load_tat;
}

void Ghost::on_cas(const shm::AtomicSlot* where, const Slot& old, const Slot& now) {
  const auto at = static_cast<uint32_t>(where - memory_.slots);
  if (now.id == shm::kVirginId) {
    if (!allow_virgin_) world.fail("slot %u became virgin again", at);
  } else if (now.id == shm::kFreeId) {
    check_drop(at, old);
  } else if (is_tentative(now.word)) {
    check_claim(at, old, now);
  } else if (old.id == now.id && !is_tentative(old.word)) {
    check_update(at, old, now);
  } else {
    if (old.id != now.id) check_claim(at, old, now);
    check_insertion(at, now);
  }
}

void Ghost::on_raise(uint64_t from, uint64_t to) {
  if (to != from + 1 || to >= limit_) {
    world.fail("reach went from %llu to %llu of %u", static_cast<ull>(from), static_cast<ull>(to),
               limit_);
  }
}

void Ghost::check_drop(uint32_t at, const Slot& old) {
  if (world.op()->repairs) {
    ++stats_.repairs;
    if (old.id != shm::kVirginId) check_removed(old);
    if (world.op()->evictions != 0) world.fail("slot %u, %s, was freed", at, text(old));
  } else if (!is_tentative(old.word)) {
    world.fail("slot %u, %s, was freed", at, text(old));
  }
}

void Ghost::check_claim(uint32_t at, const Slot& old, const Slot& now) {
  const Key* const key = find(now.id);
  if (key == nullptr || now.id != world.op()->id) {
    world.fail("slot %u was claimed for an id that the call does not have", at);
    return;
  }
  ++world.op()->claims;
  world.op()->fences = 0;
  uint32_t n = 0;
  const auto reachable = static_cast<uint32_t>(reach_in_use() * shm::kSlotsPerGroup);
  while (n < reachable && slot_of(key->window, n) != at) {
    if (!allow_virgin_ && slot(slot_of(key->window, n)).id == shm::kVirginId) {
      world.fail("key %u claimed slot %u behind the virgin slot %u", world.op()->key, at,
                 slot_of(key->window, n));
    }
    ++n;
  }
  if (n == reachable) world.fail("key %u claimed slot %u beyond reach", world.op()->key, at);
  if (old.id != shm::kVirginId && old.id != shm::kFreeId) check_removed(old);
}

// `old` had to make room for another key.
void Ghost::check_removed(const Slot& old) {
  Op& op = *world.op();
  if (is_tentative(old.word)) {
    constexpr uint32_t kModulus = 1 << 22;
    const auto now_ms = static_cast<uint64_t>(op.now / 1000000);
    const auto age = static_cast<uint32_t>((now_ms - old.word) % kModulus);
    if (age <= 1000 || age >= kModulus - 16) {
      world.fail("a tentative was taken after %u ms", age <= 1000 ? age : 0);
    }
    return;
  }
  const Rate& rate = rate_of(old.id);
  if (old.word > rate.reading(op.judged - skew_)) {
    if (!evicts_) world.fail("%s was live and had to make room", text(old));
    ++op.evictions;
    ++stats_.evictions;
  }
  Key* const key = find(old.id);
  if (key == nullptr) return;
  if (key->tat != old.word) world.fail("%s is not the only copy of its key", text(old));
  const uint64_t v = rate.reading(world.clock());
  if (old.word > v) {  // live in truth: whoever inserts it again starts from nothing
    if (!evicts_) world.fail("%s was taken for idle", text(old));
    key->forgiven += old.word - v;
    key->tat = 0;
  }
}

void Ghost::check_insertion(uint32_t at, const Slot& now) {
  Key* const key = find(now.id);
  if (key == nullptr || copies(now.id) != 1) {
    world.fail("slot %u: there are %u verified copies of %s", at, copies(now.id), text(now));
    return;
  }
  charge(*key, now);
}

void Ghost::check_update(uint32_t at, const Slot& old, const Slot& now) {
  Key* const key = find(now.id);
  if (key == nullptr || key->tat != old.word) {
    world.fail("slot %u, %s, is not what the ghost holds", at, text(old));
    return;
  }
  if (now.word > old.word) {
    charge(*key, now);
  } else if (now.word == world.op()->next && world.op()->rule != Rule::kAcquire) {
    check_given_back(*key, now);
  } else {
    check_heal(*key, old, now);
  }
}

// Only a word that lies beyond what the policy could hold when the clock was read may be lowered.
void Ghost::check_heal(Key& key, const Slot& old, const Slot& now) {
  const Rate& rate = rate_of(key.id);
  const uint64_t limit = rate.reading(world.op()->ceiling_clock + skew_) + rate.capacity();
  if (old.word <= limit) world.fail("%s was true and was lowered to %s", text(old), text(now));
  key.tat = now.word;
  ++stats_.heals;
}

void Ghost::check_given_back(Key& key, const Slot& now) {
  Op& op = *world.op();
  const Rate& rate = rate_of(key.id);
  const uint64_t v = rate.reading(op.now);
  const uint64_t debt = key.tat > v ? key.tat - v : 0;
  const uint64_t next =
      op.rule == Rule::kReset ? 0 : key.tat - std::min(debt, op.cost * rate.permit);
  if (++op.charges != 1 || now.id != op.id || debt == 0 || now.word != next) {
    world.fail("%s: wrong refund or reset", text(now));
  }
  // After a reset a call in flight may be admitted at a timestamp of long ago: no bound by
  // timestamps holds, only the exact replay.
  key.forgiven += op.rule == Rule::kReset ? kValueMax / 4 : key.tat - next;
  key.forgiven = std::min(key.forgiven, kValueMax / 2);
  key.tat = next;
  ++stats_.refunds;
}

void Ghost::charge(Key& key, const Slot& now) {
  Op& op = *world.op();
  if (now.id != op.id || op.rule != Rule::kAcquire) {
    world.fail("%s was charged by a call for another key", text(now));
    return;
  }
  if (++op.charges != 1) world.fail("a call was charged twice");
  const Rate& rate = rate_of(now.id);
  const uint64_t v = rate.reading(op.now);
  const uint64_t next = std::max(key.tat, v) + op.cost * rate.permit;
  if (next - v > rate.capacity()) {
    world.fail("over-admission: %s, exact debt %llu + cost %u exceeds the burst", text(now),
               static_cast<ull>(key.tat - v), op.cost);
  }
  if (now.word != next) {
    world.fail("slot holds %s, the exact word has debt %lld", text(now),
               static_cast<long long>(next - rate.reading(world.clock())));
  }
  key.tat = next;
  if (key.admissions < kMaxLog) key.log[key.admissions] = {v, op.cost * rate.permit};
  ++key.admissions;
}

void Ghost::check_denial(const Op& op) {
  ++stats_.denials;
  const Rate& rate = rate_of(op.id);
  const uint64_t v = rate.reading(op.step_now);
  if (std::max(op.step_tat, v) + op.cost * rate.permit - v <= rate.capacity()) {
    world.fail("spurious denial of key %u, cost %u: exact debt was %llu of %llu", op.key, op.cost,
               static_cast<ull>(std::max(op.step_tat, v) - v), static_cast<ull>(rate.capacity()));
  }
}

// Scheduling points of one call: 64 rounds of search, claim and verify, and the update rounds.
uint64_t Ghost::call_bound() const {
  const uint64_t slots = slot_count();
  const uint64_t search = 2 * slots + 2;
  const uint64_t claim = (slots + 6) * (2 * limit_ + 2);
  const uint64_t verify = slots * (3 * slots + 4) + 8;
  return 64 * (search + claim + verify + 4) + 4096 * 36;
}

void Ghost::end(Op& op, Result result) {
  ++stats_.calls;
  stats_.max_call_steps = std::max(stats_.max_call_steps, op.steps);
  stats_.max_updates = std::max<uint64_t>(stats_.max_updates, op.retries);
  if (op.pauses == 0) {
    stats_.max_rounds = std::max<uint64_t>(stats_.max_rounds, op.claims + op.adoptions);
  }
  if (op.steps > call_bound()) world.fail("a call took %llu steps", static_cast<ull>(op.steps));
  if (op.evictions != op.told_evicted) world.fail("an eviction was not counted, or twice");
  if (result != Result::kDecided) {
    if (op.charges != 0) world.fail("a call was charged but not decided");
    if (result == Result::kFull && evicts_) world.fail("full although eviction is allowed");
    // Only a window of nothing but young tentatives of others can hold a call up for so long.
    if (result == Result::kContended && op.pauses == 0) world.fail("contended without waiting");
    ++(result == Result::kFull ? stats_.full : stats_.contended);
    return;
  }
  const bool admitted = op.next != op.seen;
  if (admitted != (op.charges == 1)) {
    world.fail("key %u: %s, but %u charges", op.key, admitted ? "done" : "refused", op.charges);
  }
  if (op.rule != Rule::kAcquire) return;
  if (admitted) {
    ++stats_.admissions;
  } else {
    check_denial(op);
  }
}

void Ghost::add_to(Digest& digest) const {
  digest.add(memory_.slots, slot_count());
  digest.add(reach_in_use());
  for (uint32_t i = 0; i < key_count_; ++i) {
    const Key& key = keys_[i];
    digest.add(key.tat);
    digest.add(key.forgiven);
    digest.add(key.log, std::min(key.admissions, kMaxLog));
  }
}

void Ghost::check_log(uint32_t index) {
  Key& key = keys_[index];
  if (key.admissions > kMaxLog) return;
  const Rate& rate = rate_of(key.id);
  std::sort(key.log, key.log + key.admissions,
            [](const Admission& a, const Admission& b) { return a.v < b.v; });
  uint64_t level = 0;
  for (uint32_t i = 0; i < key.admissions; ++i) {
    const uint64_t v = key.log[i].v;
    level = std::max(level, v) + key.log[i].units;
    if (level - v > rate.capacity() + key.forgiven) {
      world.fail("key %u: over-admission by timestamps of %llu units", index,
                 static_cast<ull>(level - v - rate.capacity() - key.forgiven));
    }
  }
}

}  // namespace brim::sim
