// SPDX-License-Identifier: MIT
#include "src/carry.h"

#include <algorithm>
#include <functional>

#include "shm/log_merge.h"
#include "src/algo/stricter.h"
#include "src/cell_context.h"
#include "src/overrides.h"

namespace brim {

namespace {

using Log = shm::Log<shm::HardwareCellAtomics, CellContext>;
using LogMerge = shm::LogMerge<shm::HardwareCellAtomics, CellContext>;

// The stricter of the key's word and of the one that is carried.
struct TakeWord {
  Word carried;
  CutKey cut;
  uint32_t cost = 0;
  Step operator()(Word word, const Instant& at, const Quota& quota) const noexcept {
    return {stricter(word, carried, at, quota), true};
  }
};

struct Hold : HoldSlot {
  CutKey cut;
};

Carried carried(Outcome outcome) noexcept {
  return outcome == Outcome::kDecided ? Carried::kDone
         : outcome == Outcome::kFull  ? Carried::kFull
                                      : Carried::kContended;
}

Carried carry_word(const Engine& to, const Target& target, Word word, const Quota& quota,
                   const CarriedKey& key) noexcept {
  const int64_t now = to.clock.now();
  if (is_garbage(word, quota, now)) word = healed_word(instant(quota, now), quota);
  // Idle by the slowest clock, as where a slot is given away (Call::debt).
  if (debt(word, instant(quota, saturating_add(now, -kClockSkewNs)), quota) == 0) {
    return Carried::kNothing;
  }
  Call<TakeWord> call(to, target, key.text, {word, key.cut});
  if (!call.begin(now)) return Carried::kNothing;
  return carried(to.table.update(target.probe, target.id, call));
}

// The times at which the slot's permits expire, latest first. False if the slot is another key's.
bool read_log(const Engine& from, uint64_t position, uint64_t id, const Quota& quota,
              uint64_t* expiries, uint32_t& count) noexcept {
  const shm::AtomicCell* const cells = cells_at(from, position);
  const auto now = static_cast<uint64_t>(std::max<int64_t>(from.clock.now(), 0));
  count = 0;
  for (uint32_t i = 0; i < std::min(from.cells_per_key, shm::kMaxCells); ++i) {
    const uint64_t expiry = shm::HardwareCellAtomics::load_cell(cells + i);
    if (expiry > now && expiry - now <= horizon_ns(quota)) expiries[count++] = expiry;
  }
  std::sort(expiries, expiries + count, std::greater<>());
  return from.table.at(position).id == id;
}

Carried carry_log(const Engine& from, uint64_t position, const Engine& to, const Target& target,
                  const Quota& quota, const CarriedKey& key) noexcept {
  uint64_t expiries[shm::kMaxCells];
  uint32_t count = 0;
  if (from.cells == nullptr || to.cells == nullptr ||
      !read_log(from, position, target.id, quota, expiries, count) || count == 0) {
    return Carried::kNothing;
  }
  shm::LogRule rule;
  rule.limit = static_cast<uint32_t>(std::min<uint64_t>(quota.capacity, shm::kMaxCells));
  rule.span_ns = shm::log_span(static_cast<uint64_t>(quota.period_ns), has(quota, kInclusive));
  rule.horizon_ns = horizon_ns(quota);
  for (int moves = 0; moves < kMaxMoves; ++moves) {
    shm::Slot slot;
    const uint64_t at = to.table.find(target.probe, target.id, slot);
    if (at == to.table.slot_count()) {
      Call<Hold> call(to, target, key.text, {{rule.span_ns}, key.cut});
      if (!call.begin(to.clock.now())) return Carried::kNothing;
      const Outcome outcome = to.table.update(target.probe, target.id, call);
      if (outcome == Outcome::kDecided) continue;
      return call.pinned() ? Carried::kFull : carried(outcome);
    }
    CellContext context(to, target, at);
    Log log(cells_at(to, at), to.cells_per_key, rule, context);
    const shm::CellOutcome outcome = LogMerge(log).run(expiries, count);
    if (outcome == shm::CellOutcome::kDecided) return Carried::kDone;
    if (outcome == shm::CellOutcome::kContended) break;
  }
  return Carried::kContended;
}

bool carry_policy(const Engine& from, const Engine& to, uint16_t policy, const Hash128& hash,
                  std::string_view key, Reason& why) noexcept {
  for (uint32_t part = 0; part < shm::kMaxParts; ++part) {
    Quota quota;
    if (!read_quota(to.registry, policy, part, quota)) return true;
    if (quota.algorithm == 0) continue;
    const Target old = locate(from, policy, part, hash);
    shm::Slot slot;
    const uint64_t position = from.table.find(old.probe, old.id, slot);
    if (position == from.table.slot_count()) continue;
    const Carried done = carry_slot(from, position, old.id, to, {key, {}, hash.low});
    if (done == Carried::kFull || done == Carried::kContended) {
      why = done == Carried::kFull ? Reason::kFull : Reason::kContended;
      return false;
    }
  }
  return true;
}

}  // namespace

Carried carry_slot(const Engine& from, uint64_t position, uint64_t id, const Engine& to,
                   const CarriedKey& key) noexcept {
  const shm::Slot slot = from.table.at(position);
  if (slot.id != id || is_tentative(slot.word)) return Carried::kNothing;
  Target target;
  target.policy = shm::id_policy(id);
  target.part = static_cast<uint8_t>(shm::id_part(id));
  target.id = id;
  target.probe = to.table.probe(key.place);
  Quota quota;
  if (!read_quota(to.registry, target.policy, target.part, quota)) return Carried::kNothing;
  switch (family(quota)) {
    case Family::kCells:
      if (quota.algorithm != static_cast<uint8_t>(Algorithm::kSlidingLog)) break;
      return carry_log(from, position, to, target, quota, key);
    case Family::kNone:
      break;
    default:
      return carry_word(to, target, slot.word, quota, key);
  }
  return Carried::kNothing;
}

bool carry_key(const Engine& from, const Engine& to, uint16_t policy, std::string_view key,
               Reason& why) noexcept {
  const Hash128 hash = hash_key(to.secret, key);
  if (!carry_policy(from, to, policy, hash, key, why)) return false;
  OverrideUse use = find_override(to, policy, key, hash);
  if (use.kind == OverrideKind::kBan) {  // it may end before the call looks
    use = find_override(to, policy, key, hash, kNever);
  }
  return use.kind != OverrideKind::kPolicy || carry_policy(from, to, use.policy, hash, key, why);
}

}  // namespace brim
