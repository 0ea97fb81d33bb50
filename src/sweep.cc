// SPDX-License-Identifier: MIT
// Frees the slots of keys that have been idle for long. Callers reuse such slots anyway; sweeping
// makes the occupancy tell the truth, and lets a claim take an unused slot without judging it.
#include <algorithm>

#include "brim/limiter.h"
#include "shm/repair.h"
#include "src/algo/step.h"
#include "src/engine.h"
#include "src/policy_words.h"
#include "src/use.h"

namespace brim {

using internal::Engine;

namespace {

// Idle at both times: now by the rule of a claim (Call::debt), and `idle_ns` ago.
bool idle_since(const Engine& engine, const shm::Slot& slot, uint64_t position,
                int64_t idle_ns) noexcept {
  Quota quota;
  if (!read_quota(engine.registry, shm::id_policy(slot.id), shm::id_part(slot.id), quota)) {
    return false;  // verify's business
  }
  const int64_t now = engine.clock.now();
  if (!plausible(slot.word, instant(quota, now), quota)) return false;
  for (const int64_t ago : {kClockSkewNs, std::min(idle_ns, now)}) {
    if (debt(slot.word, instant(quota, now - ago), quota) != 0) return false;
  }
  return !has(quota, kShared) ||
         !awaits_telling(engine, slot, position, instant(quota, now), quota);
}

}  // namespace

uint64_t Limiter::sweep(int64_t idle_ns) const {
  if (engine_ == nullptr || !engine_->check_writable().ok()) return 0;
  const Engine& engine = engine_->current();
  uint64_t freed = 0;
  for (uint64_t i = 0; i < engine.table.slot_count(); ++i) {
    const shm::Slot slot = engine.table.at(i);
    if (slot.id == shm::kVirginId || slot.id == shm::kFreeId || is_tentative(slot.word)) continue;
    if (!idle_since(engine, slot, i, std::max(idle_ns, kClockSkewNs))) continue;
    const bool done = shm::free_slot<shm::HardwareAtomics>(engine.segment->slots() + i, slot);
    freed += done ? 1 : 0;
  }
  return freed;
}

}  // namespace brim
