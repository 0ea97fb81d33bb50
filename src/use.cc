// SPDX-License-Identifier: MIT
#include "src/use.h"

#include <cstdlib>

#include "src/call.h"
#include "src/engine.h"
#include "src/hash.h"

namespace brim {

namespace {

// Never 0, and not the last one of this key, nearly always.
uint64_t new_nonce(const Engine& engine) noexcept {
  const Word fresh = engine.segment->next_tentative(engine.clock.now());
  const uint64_t mixed = fresh * 0x9e3779b97f4a7c15;
  return (mixed >> 40) | 1;
}

// What others must hear of, whatever the key owes.
uint32_t hold_back(const Engine& engine, const Target& target) noexcept {
  return engine.registry.hold_back(target.policy, target.part);
}

// Names a new count. False: there is no secret yet; the key is named when it is used again.
bool name_count(const shm::Consumption& consumption, uint64_t slot, const shm::UseSeen& now,
                std::string_view key) noexcept {
  constexpr int kMostSecrets = 16;  // that come meanwhile: a cluster has one
  for (int tries = 0; tries < kMostSecrets; ++tries) {
    uint64_t secret[2];
    uint64_t version = 0;
    if (!consumption.secret(secret, &version)) return false;
    consumption.identify(slot, now, shared_identity(secret, key));
    if (consumption.secret_is(version)) return true;
  }
  return false;
}

}  // namespace

uint64_t shared_identity(const uint64_t secret[2], std::string_view key) noexcept {
  const uint64_t hash = siphash128<1, 3>(secret[0], secret[1], key).low;
  return hash == 0 ? 1 : hash;
}

void count_use(const Engine& engine, const Target& target, std::string_view key, const Use& use,
               int64_t permits) noexcept {
  if (use.slot == kNoSlot || permits == 0 || !engine.consumption.kept()) return;
  const shm::Consumption& consumption = engine.consumption;
  shm::UseSeen now;
  if (!consumption.count(
          use.slot, target.id, permits, [&] { return new_nonce(engine); }, now)) {
    return;
  }
  if (now.identity == 0 && !name_count(consumption, use.slot, now, key)) return;
  const int64_t untold = now.untold();
  if (use.near || std::abs(untold) >= int64_t{hold_back(engine, target)})
    consumption.mark(use.slot);
}

bool awaits_telling(const Engine& engine, const shm::Slot& slot, uint64_t position,
                    const Instant& at, const Quota& quota) noexcept {
  if (!engine.consumption.kept()) return false;
  const shm::UseSeen seen = engine.consumption.look(position);
  // A count without a name can not be told: there was no agent.
  if (seen.id != slot.id || seen.identity == 0 || seen.untold() == 0) return false;
  const uint64_t idle = at.v > slot.word ? at.v - slot.word : 0;
  return idle / kForgottenAfter < quota.capacity;
}

}  // namespace brim
