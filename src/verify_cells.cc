// SPDX-License-Identifier: MIT
#include "src/verify_cells.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>

#include "shm/identity.h"
#include "shm/leases.h"
#include "src/cell_context.h"

namespace brim {

namespace {

using Atomics = shm::HardwareCellAtomics;

constexpr uint64_t kMarginNs = 2 * static_cast<uint64_t>(kClockSkewNs);

// Beyond doubt, as in lease.cc: in the pid namespace of the segment's creator no such process is.
bool is_dead(const internal::Engine& engine, uint64_t holder) {
  static const uint64_t own = shm::machine_identity().pid_namespace;
  if (!shm::holder_known(holder) || own != engine.segment->header().pid_namespace) return false;
  return kill(static_cast<pid_t>(shm::holder_pid(holder)), 0) != 0 && errno == ESRCH;
}

// By the policy of now, and a clock that is read last: the ttl may have been raised since `quota`
// was read, and the cell written under that. A policy's ceiling never falls.
bool impossible(const internal::Engine& engine, uint64_t id, uint8_t algorithm, uint64_t expiry) {
  Quota latest;
  if (!read_quota(engine.registry, shm::id_policy(id), shm::id_part(id), latest)) return false;
  const auto now = static_cast<uint64_t>(std::max<int64_t>(engine.clock.now(), 1));
  return latest.algorithm == algorithm && expiry > now &&
         expiry - now > horizon_ns(latest) + kMarginNs;
}

// The cell was loaded before the slot is here, and the clock is read after both. idle_at is raised
// before a cell is written, and while the slot is the key's it never falls below a cell in force.
// A slot that is the same, word and all, was not another key's in between (rule 5 of shm/cells.h).
CellFault judge_expiry(const internal::Engine& engine, uint64_t position, const shm::Slot& slot,
                       const Quota& quota, uint64_t index, uint64_t expiry) {
  if (is_tentative(slot.word) || engine.table.at(position) != slot) return {};
  const auto now = static_cast<uint64_t>(std::max<int64_t>(engine.clock.now(), 1));
  if (expiry <= now + kMarginNs) return {};
  if (expiry - now > horizon_ns(quota) + kMarginNs &&
      impossible(engine, slot.id, quota.algorithm, expiry)) {
    return {CellFault::kImpossible, index, expiry, expiry - now};
  }
  if (expiry <= slot.word + kMarginNs) return {};
  return {CellFault::kBeyondIdle, index, expiry, expiry - slot.word};
}

}  // namespace

CellFault judge_cells_of(const internal::Engine& engine, uint64_t position, const shm::Slot& slot,
                         const Quota& quota) {
  const shm::AtomicCell* const cells = cells_at(engine, position);
  const uint32_t depth = std::min(engine.cells_per_key, shm::kMaxCells);
  const bool leases = quota.algorithm == static_cast<uint8_t>(Algorithm::kConcurrency);
  CellFault noted;
  for (uint32_t i = 0; i + (leases ? 1 : 0) < depth; i += leases ? 2 : 1) {
    uint64_t expiry = 0;
    uint64_t holder = 0;
    if (leases) {
      const shm::Pair pair = Atomics::load_pair(cells + i);
      expiry = pair.low;
      holder = pair.high;
      if ((holder & shm::kHolderBit) == 0) continue;  // free
    } else {
      expiry = Atomics::load_cell(cells + i);
      if (expiry > kValueMax) continue;  // what a lease of another key left
    }
    const CellFault fault = judge_expiry(engine, position, slot, quota, i, expiry);
    if (fault.kind != CellFault::kNone) return fault;
    const auto now = static_cast<uint64_t>(std::max<int64_t>(engine.clock.now(), 1));
    if (leases && noted.kind == CellFault::kNone && expiry > now && is_dead(engine, holder)) {
      noted = {CellFault::kDeadHolder, i, shm::holder_pid(holder), 0};
    }
  }
  return noted;
}

// Equals a call that takes the cell, which is free to it, and gives it back at once: rule 1 of
// shm/cells.h. The new value is read after the old one was judged, so it is not below any time at
// which the cell was in force. Judged once more here, in the same order: cell, slot, policy, clock.
bool end_impossible_cell(const internal::Engine& engine, uint64_t position, const shm::Slot& slot,
                         uint64_t index, uint64_t value) {
  shm::AtomicCell* const cells = cells_at(engine, position);
  Quota quota;
  if (!read_quota(engine.registry, shm::id_policy(slot.id), shm::id_part(slot.id), quota)) {
    return false;
  }
  const bool lease = quota.algorithm == static_cast<uint8_t>(Algorithm::kConcurrency);
  const shm::Pair seen =
      lease ? Atomics::load_pair(cells + index) : shm::Pair{Atomics::load_cell(cells + index), 0};
  if (seen.low != value || engine.table.at(position) != slot) return false;
  if (!impossible(engine, slot.id, quota.algorithm, value)) return false;
  const auto now = static_cast<uint64_t>(std::max<int64_t>(engine.clock.now(), 1));
  // Killed here: the impossible cell, or a free one.
  return lease ? Atomics::cas_pair(cells + index, seen, {now, now})
               : Atomics::cas_cell(cells + index, value, now);
}

}  // namespace brim
