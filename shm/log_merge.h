// SPDX-License-Identifier: MIT
// Giving a log the permits of another one, for states that were kept outside; read shm/cells.h
// first. Cells are only raised, each by one compare-and-swap of the exact value that was seen, so
// rule 1 of cells.h holds, and whoever is killed in between has charged some of the permits.
#ifndef BRIM_SHM_LOG_MERGE_H_
#define BRIM_SHM_LOG_MERGE_H_

#include <algorithm>
#include <cstdint>

#include "shm/cells.h"

namespace brim::shm {

template <class Atomics, class Context>
class LogMerge {
 public:
  using TheLog = Log<Atomics, Context>;
  explicit LogMerge(TheLog& log) noexcept : log_(log) {}

  // Makes the log as strict as one whose live permits expire at `expiries`, latest first: the n-th
  // latest permit expires at the later of both. A merge of sets and no sum: twice is once.
  CellOutcome run(const uint64_t* expiries, uint32_t count) noexcept {
    for (uint32_t round = 0; round < kMaxCellRounds; ++round) {
      if (round != 0) log_.context_.retry(round);
      Slot slot;
      if (!internal::look(log_.context_, slot)) return CellOutcome::kMoved;
      typename TheLog::View view;
      log_.scan(view);
      if (log_.context_.load() != slot) continue;
      if (count == 0 || expiries[0] <= view.now) return CellOutcome::kDecided;
      if (!internal::raise_idle(log_.context_, slot, expiries[0], log_.rule_.span_ns)) continue;
      if (raise(view, expiries, std::min(count, log_.depth_))) return CellOutcome::kDecided;
    }
    return CellOutcome::kContended;
  }

 private:
  // False if somebody else changed one meanwhile.
  bool raise(const typename TheLog::View& view, const uint64_t* expiries, uint32_t count) noexcept {
    const uint32_t depth = log_.depth_;
    uint16_t latest[kMaxCells];
    uint64_t value[kMaxCells] = {};  // of the live ones
    for (uint32_t i = 0; i < depth; ++i) {
      latest[i] = static_cast<uint16_t>(i);
      value[i] = view.at[i];
    }
    for (uint32_t i = 0; i < depth - view.live; ++i) value[view.free[i]] = 0;
    std::sort(latest, latest + depth, [&](uint16_t a, uint16_t b) { return value[a] > value[b]; });
    for (uint32_t i = 0; i < count && expiries[i] > view.now; ++i) {
      const uint16_t cell = latest[i];
      // Killed here: some of the permits are charged.
      if (value[cell] < expiries[i] &&
          !Atomics::cas_cell(log_.cells_ + cell, view.at[cell], expiries[i])) {
        return false;
      }
    }
    return true;
  }

  TheLog& log_;
};

}  // namespace brim::shm

#endif  // BRIM_SHM_LOG_MERGE_H_
