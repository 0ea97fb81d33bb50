// SPDX-License-Identifier: MIT
// Slot, a plain value, and HardwareAtomics, how the table touches the shared ones. The
// deterministic simulator of tests/sim supplies another Atomics with the same functions.
#ifndef BRIM_SHM_SLOT_H_
#define BRIM_SHM_SLOT_H_

#include <cstdint>

#include "shm/atomic128.h"
#include "shm/layout.h"
#include "src/base/word.h"

namespace brim::shm {

struct Slot {
  uint64_t id = kVirginId;
  Word word = kEmptyWord;
  friend bool operator==(const Slot&, const Slot&) = default;
};

struct AtomicSlot {
  Pair pair;  // {id, word}
};
static_assert(sizeof(AtomicSlot) == 16 && alignof(AtomicSlot) == 16);

// The debt of an idle key whose slot is better left to it: only used when no other idle one is
// there. A live key's debt is more.
inline constexpr uint64_t kAwaitsTelling = 1;

struct HardwareAtomics {
  // See load128, cas128: one 16-byte access each [E2].
  static Slot load(const AtomicSlot* slot) noexcept {
    const Pair pair = load128(&slot->pair);
    return {pair.low, pair.high};
  }
  static bool cas(AtomicSlot* slot, Slot expected, Slot desired) noexcept {
    Pair pair{expected.id, expected.word};
    return cas128(&slot->pair, pair, {desired.id, desired.word});
  }
  static uint64_t load_id(const AtomicSlot* slot) noexcept { return load_low(&slot->pair); }
  static void fence() noexcept { full_fence(); }
  static void pause() noexcept { cpu_pause(); }

  // Sequentially consistent [E4]: read after a claim it must not be older than the claim.
  static uint64_t load_reach(const std::atomic<uint64_t>* reach) noexcept {
    BRIM_SCHEDULE_POINT();
    return reach->load(std::memory_order_seq_cst);
  }
  // Raises reach from `from` by one, unless someone else has [E4].
  // Killed here: the window is one group longer than anyone uses.
  static void raise_reach(std::atomic<uint64_t>* reach, uint64_t from) noexcept {
    BRIM_CHANGE_POINT();
    reach->compare_exchange_strong(from, from + 1, std::memory_order_seq_cst,
                                   std::memory_order_seq_cst);
  }
};

}  // namespace brim::shm

#endif  // BRIM_SHM_SLOT_H_
