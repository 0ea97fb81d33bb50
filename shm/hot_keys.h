// SPDX-License-Identifier: MIT
// The ring of sampled decisions: which keys are asked for most, without a look at the table. For
// display only: nobody waits for anybody, samples may be lost or torn, and a reader goes by the
// slot that a sample names, not by what the sample says of it.
#ifndef BRIM_SHM_HOT_KEYS_H_
#define BRIM_SHM_HOT_KEYS_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "shm/layout.h"
#include "shm/schedule_point.h"

namespace brim::shm {

struct Hot {
  uint64_t id = 0;
  uint64_t slot = 0;
  bool admitted = false;
};

inline constexpr int kHotSlotBits = 34;
static_assert(kMaxSlots <= uint64_t{1} << kHotSlotBits);

class HotKeys {
 public:
  // REQUIRES: the section has `elements`, more than its header; or is null.
  HotKeys(HotHeader* header, uint64_t elements) noexcept : header_(header) {
    if (header == nullptr) return;
    cells_ = reinterpret_cast<HotCell*>(header) + kHotHeaderElements;
    count_ = elements - kHotHeaderElements;
  }

  uint64_t size() const noexcept { return count_; }
  uint64_t position() const noexcept {
    // Relaxed: a number to show.
    return header_ == nullptr ? 0 : header_->position.load(std::memory_order_relaxed);
  }

  // Relaxed throughout: nothing is decided by it. Killed here: a sample that is not shown, or the
  // former one's half with another's, which its slot betrays.
  void write(const Hot& hot) const noexcept {
    if (header_ == nullptr) return;
    BRIM_STORE_POINT();
    const uint64_t at = header_->position.fetch_add(1, std::memory_order_relaxed);
    HotCell& cell = cells_[at % count_];
    BRIM_STORE_POINT();
    cell.what.store(pack(at, hot), std::memory_order_relaxed);
    BRIM_STORE_POINT();
    cell.id.store(hot.id, std::memory_order_relaxed);
  }

  // False: the sample of that position is not there any more, or not yet.
  bool read(uint64_t at, Hot& hot) const noexcept {
    const HotCell& cell = cells_[at % count_];
    hot.id = cell.id.load(std::memory_order_relaxed);
    const uint64_t what = cell.what.load(std::memory_order_relaxed);
    hot.slot = what & ((uint64_t{1} << kHotSlotBits) - 1);
    hot.admitted = (what >> kHotSlotBits & 1) != 0;
    return pack(at, hot) == what;
  }

 private:
  static uint64_t pack(uint64_t at, const Hot& hot) noexcept {
    return at << (kHotSlotBits + 1) | uint64_t{hot.admitted} << kHotSlotBits |
           (hot.slot & ((uint64_t{1} << kHotSlotBits) - 1));
  }

  HotHeader* header_ = nullptr;
  HotCell* cells_ = nullptr;
  uint64_t count_ = 0;
};

}  // namespace brim::shm

#endif  // BRIM_SHM_HOT_KEYS_H_
