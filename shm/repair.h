// SPDX-License-Identifier: MIT
// Changes of slots that mend what no sound process wrote, while traffic runs. Each is one
// compare-and-swap of the exact contents that were judged, so whatever happens in between makes it
// fail. Why each is safe:
//
//   free_slot   Allowed only for a slot that some claim could have: one that is idle by the claim's
//               own rule, a tentative older than 1 s, or a slot whose id no key can have or reach.
//               It then equals a claim by another key that is dropped again, both of which the
//               proof of docs/design/0001-slot-protocol.md covers. A slot of an id that nobody can
//               reach decides nothing, whatever it holds. The slot becomes free, never virgin: a
//               key may lie behind it.
//   spend       A virgin slot becomes free: again a claim by some key that is dropped. What lay
//               behind it is reachable again, with its debt.
//   replace     A word is brought down as Table::settle does it, or raised, which is a charge.
//   merge_copies  See there.
//
// `Atomics` is as in shm/table.h.
#ifndef BRIM_SHM_REPAIR_H_
#define BRIM_SHM_REPAIR_H_

#include <cstdint>

#include "shm/layout.h"
#include "shm/slot.h"
#include "src/base/word.h"

namespace brim::shm {

template <class Atomics>
bool free_slot(AtomicSlot* at, const Slot& seen) noexcept {
  // Killed here: the slot is as it was, or free.
  return seen.id != kVirginId && Atomics::cas(at, seen, {kFreeId, 0});
}

template <class Atomics>
bool spend(AtomicSlot* at, const Slot& seen) noexcept {
  // Killed here: the slot is virgin or free.
  return seen.id == kVirginId && Atomics::cas(at, seen, {kFreeId, 0});
}

template <class Atomics>
bool replace_word(AtomicSlot* at, const Slot& seen, Word word) noexcept {
  // Killed here: the old word or the new one.
  return Atomics::cas(at, seen, {seen.id, word});
}

enum class Merged : uint8_t {
  kDropped,  // the later copy is free
  kAlone,    // there is one copy by now
  kPinned,   // the later one can not be dropped before it is idle
  kBusy,     // they changed too often
};

// Two verified copies of `id` in one window, `first` before `later` in the order of its probes:
// every caller uses the first and leaves the later alone, as long as the first is there. `rule` is
// asked after each look and reads the clock anew:
//     void refresh()               the clock and the policy
//     bool idle(Word)              by the rule of a claim
//     bool movable()               the state is all in the word
//     Word healed(Word)            a corrupt word brought down, or itself
//     Word stricter(Word, Word)    a word that admits no more than either, and whose being idle
//                                  implies that of both
// The first copy is raised to the stricter of both, then the later one, unchanged since it was
// read, becomes free.
//
// Why that admits nothing. Let the later copy hold w when it is read, and the first hold at least
// w after that, at t. The later one is dropped only if it is still {id, w}. Then no call was
// admitted on it in between, for an admission changes the word; and what it owed was owed by the
// first copy at t as well. If the first is still there, the key owes it still. If it was reclaimed
// as idle, w was idle too (stricter). If it was evicted, its debt was lost by that eviction, which
// is counted, and no admission came between that and now. If it was refunded or reset, that was on
// purpose. So the key loses no debt but by one of the ways that it could lose it by before.
// Why uniqueness stays. A verified copy that ends is what the proof allows at any time; nothing
// here makes one.
template <class Atomics, class Rule>
Merged merge_copies(AtomicSlot* first, AtomicSlot* later, uint64_t id, Rule& rule) noexcept {
  for (int tries = 0; tries < 64; ++tries) {
    const Slot second = Atomics::load(later);
    const Slot kept = Atomics::load(first);
    const auto verified = [id](const Slot& slot) {
      return slot.id == id && !is_tentative(slot.word);
    };
    if (!verified(second) || !verified(kept)) return Merged::kAlone;
    rule.refresh();
    const Word sound = rule.healed(second.word);
    if (sound != second.word) {
      replace_word<Atomics>(later, second, sound);
      continue;
    }
    if (!rule.idle(second.word)) {
      if (!rule.movable()) return Merged::kPinned;
      const Word wanted = rule.stricter(rule.healed(kept.word), second.word);
      if (wanted != kept.word && !replace_word<Atomics>(first, kept, wanted)) continue;
    }
    if (free_slot<Atomics>(later, second)) return Merged::kDropped;
  }
  return Merged::kBusy;
}

}  // namespace brim::shm

#endif  // BRIM_SHM_REPAIR_H_
