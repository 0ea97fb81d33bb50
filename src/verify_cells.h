// SPDX-License-Identifier: MIT
// The cells of one slot: what verify looks for in them.
#ifndef BRIM_SRC_VERIFY_CELLS_H_
#define BRIM_SRC_VERIFY_CELLS_H_

#include <cstdint>

#include "shm/slot.h"
#include "src/algo/quota.h"
#include "src/engine.h"

namespace brim {

struct CellFault {
  enum Kind : uint8_t { kNone, kBeyondIdle, kImpossible, kDeadHolder } kind = kNone;
  uint64_t index = 0;  // of the cell at the slot's position
  uint64_t value = 0;  // the cell; kDeadHolder: the pid
  uint64_t ns = 0;     // how far off it is
};

// The first broken rule of the cells of a verified slot that was loaded as `slot`.
// REQUIRES: the segment has cells, the slot's rate keeps its state in them.
CellFault judge_cells_of(const internal::Engine& engine, uint64_t position, const shm::Slot& slot,
                         const Quota& quota);

// Frees a cell (of a lease: the pair) that holds the impossible `value`. False if it changed.
// REQUIRES: the cell was judged with the slot as `slot`.
bool end_impossible_cell(const internal::Engine& engine, uint64_t position, const shm::Slot& slot,
                         uint64_t index, uint64_t value);

}  // namespace brim

#endif  // BRIM_SRC_VERIFY_CELLS_H_
