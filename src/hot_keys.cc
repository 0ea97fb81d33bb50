// SPDX-License-Identifier: MIT
#include "src/hot_keys.h"

#include <algorithm>

#include "brim/inspect.h"
#include "shm/hot_keys.h"
#include "src/slot_name.h"

namespace brim {

namespace {

static_assert(Inspector::kSampleRate == kHotRate);

shm::HotKeys hot_keys(const Engine& engine) noexcept {
  const shm::Section* const section = engine.segment->section(shm::SectionType::kHotKeys);
  return {engine.segment->hot_keys(), section == nullptr ? 0 : section->count};
}

}  // namespace

[[gnu::cold, gnu::noinline]] void sample_decision(const Engine& engine, const Target& target,
                                                  bool admitted) noexcept {
  if (engine.read_only) return;
  const shm::HotKeys ring = hot_keys(engine);
  if (ring.size() == 0) return;
  const uint64_t fingerprint = target.id & shm::kFingerprintMask;
  for (const uint32_t part : {uint32_t{target.part}, kBanPart}) {
    const uint64_t id = shm::make_id(target.policy, fingerprint, part);
    shm::Slot slot;
    const uint64_t at = engine.table.find(target.probe, id, slot);
    if (at != engine.table.slot_count()) return ring.write({id, at, admitted});
  }
}

uint64_t Inspector::hot_position() const { return hot_keys(*engine_).position(); }

std::vector<HotSample> Inspector::hot_samples(uint64_t since) const {
  std::vector<HotSample> list;
  const shm::HotKeys ring = hot_keys(*engine_);
  const uint64_t end = ring.position();
  if (ring.size() == 0 || since >= end) return list;
  for (uint64_t at = end - std::min(end - since, ring.size()); at != end; ++at) {
    shm::Hot hot;
    if (!ring.read(at, hot) || hot.id <= shm::kFreeId || hot.slot >= engine_->table.slot_count() ||
        engine_->table.at(hot.slot).id != hot.id) {
      continue;
    }
    HotSample sample;
    sample.slot = hot.slot;
    sample.policy = shm::id_policy(hot.id);
    sample.admitted = hot.admitted;
    sample.fingerprint = hot.id & shm::kFingerprintMask;
    SlotName name;
    sample.has_name = read_slot_name(*engine_, hot.slot, hot.id, sample.name, name);
    list.push_back(std::move(sample));
  }
  return list;
}

}  // namespace brim
