// SPDX-License-Identifier: MIT
// What the protocols of shm/cells.h need to know of one call on one slot.
#ifndef BRIM_SRC_CELL_CONTEXT_H_
#define BRIM_SRC_CELL_CONTEXT_H_

#include <algorithm>
#include <cstdint>

#include "shm/cells.h"
#include "src/call.h"
#include "src/engine.h"

namespace brim {

// Times a key's slot may change hands during one call.
inline constexpr int kMaxMoves = 64;

// The cells of the slot at `position`. REQUIRES: the segment has cells.
inline shm::AtomicCell* cells_at(const Engine& engine, uint64_t position) noexcept {
  return engine.cells + position * engine.cells_per_key;
}

// No cell of an honest process ends further ahead.
inline uint64_t horizon_ns(const Quota& quota) noexcept {
  return quota.capacity_max + 2 * static_cast<uint64_t>(kClockSkewNs);
}

class CellContext {
 public:
  CellContext(const Engine& engine, const Target& target, uint64_t position) noexcept
      : engine_(&engine), slot_(engine.segment->slots() + position), id_(target.id) {}
  CellContext(const Engine& engine, uint64_t id, uint64_t position) noexcept
      : engine_(&engine), slot_(engine.segment->slots() + position), id_(id) {}

  uint64_t id() const noexcept { return id_; }
  shm::Slot load() const noexcept { return shm::HardwareAtomics::load(slot_); }
  bool raise(const shm::Slot& seen, Word to) const noexcept {
    // Killed here: the slot stays the key's for longer than its cells need.
    return shm::HardwareAtomics::cas(slot_, seen, {seen.id, to});
  }
  int64_t now() const noexcept { return std::max<int64_t>(engine_->clock.now(), 1); }
  void retry(uint32_t round) const noexcept {
    if (!engine_->read_only) engine_->counters.add(Event::kCasRetry);
    for (uint32_t i = 4; i < std::min<uint32_t>(round, 32); ++i) shm::HardwareAtomics::pause();
  }

 private:
  const Engine* engine_;
  shm::AtomicSlot* slot_;
  uint64_t id_;
};

}  // namespace brim

#endif  // BRIM_SRC_CELL_CONTEXT_H_
