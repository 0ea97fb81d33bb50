// SPDX-License-Identifier: MIT
// What the segment tells of its last snapshot. For people: nothing is decided by it, and a writer
// that was killed in the middle leaves mixed numbers.
#ifndef BRIM_SHM_SNAPSHOT_STATUS_H_
#define BRIM_SHM_SNAPSHOT_STATUS_H_

#include <atomic>
#include <cstdint>

#include "shm/layout.h"
#include "shm/schedule_point.h"

namespace brim::shm {

struct SnapshotNumbers {
  uint64_t generation = 0;  // 0: none was taken
  uint64_t taken_ns = 0;
  uint64_t duration_ns = 0;
  uint64_t rows = 0;
  uint64_t failures = 0;
};

inline SnapshotNumbers load_snapshot(const SnapshotStatus& status) noexcept {
  constexpr auto kOrder = std::memory_order_relaxed;
  return {status.generation.load(kOrder), status.taken_ns.load(kOrder),
          status.duration_ns.load(kOrder), status.rows.load(kOrder), status.failures.load(kOrder)};
}

inline void store_snapshot(SnapshotStatus& status, const SnapshotNumbers& numbers) noexcept {
  const auto store = [](std::atomic<uint64_t>& word, uint64_t value) {
    BRIM_STORE_POINT();
    word.store(value, std::memory_order_relaxed);
  };
  store(status.taken_ns, numbers.taken_ns);
  store(status.duration_ns, numbers.duration_ns);
  store(status.rows, numbers.rows);
  store(status.failures, numbers.failures);
  store(status.generation, numbers.generation);
}

inline void count_failed_snapshot(SnapshotStatus& status) noexcept {
  BRIM_STORE_POINT();
  status.failures.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace brim::shm

#endif  // BRIM_SHM_SNAPSHOT_STATUS_H_
