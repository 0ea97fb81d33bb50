// SPDX-License-Identifier: MIT
// What the table touches memory with, here: each access is a scheduling point, then happens at
// once and whole, and the ghost hears of it. Memory is therefore sequentially consistent: a
// missing fence is not found here but by the TSan and process tests.
#ifndef BRIM_TESTS_SIM_SIM_ATOMICS_H_
#define BRIM_TESTS_SIM_SIM_ATOMICS_H_

#include <atomic>
#include <cstdint>

#include "shm/slot.h"
#include "tests/sim/ghost.h"
#include "tests/sim/world.h"

namespace brim::sim {

struct SimAtomics {
  static shm::Slot load(const shm::AtomicSlot* slot) noexcept {
    world.point();
    const shm::Slot seen{slot->pair.low, slot->pair.high};
    ghost.on_load(seen);
    if (world.tracing()) world.trace("load    slot %u: %s", index(slot), ghost.text(seen));
    return seen;
  }

  static uint64_t load_id(const shm::AtomicSlot* slot) noexcept {
    world.point();
    if (world.tracing()) {
      world.trace("load id slot %u: %s", index(slot),
                  ghost.text({slot->pair.low, slot->pair.high}));
    }
    return slot->pair.low;
  }

  static bool cas(shm::AtomicSlot* slot, shm::Slot expected, shm::Slot desired) noexcept {
    world.point_before_cas();
    const shm::Slot found{slot->pair.low, slot->pair.high};
    const bool done = found == expected;
    if (world.tracing()) {
      world.trace("cas     slot %u: %s -> %s%s%s", index(slot), ghost.text(expected),
                  ghost.text(desired), done ? "" : "; failed, it holds ",
                  done ? "" : ghost.text(found));
    }
    if (!done) return false;
    slot->pair = {desired.id, desired.word};
    ghost.on_cas(slot, expected, desired);
    return true;
  }

  static void fence() noexcept {
    world.point();
    // A second look in one round: an earlier tentative took over.
    if (world.op()->fences++ != 0) ++ghost.stats().moves;
  }

  static void pause() noexcept {
    world.point();
    ++world.op()->pauses;
    if (world.tracing()) world.trace("pause");
  }

  static uint64_t load_reach(const std::atomic<uint64_t>* reach) noexcept {
    world.point();
    // Relaxed: one thread.
    const uint64_t seen = reach->load(std::memory_order_relaxed);
    if (world.tracing()) world.trace("load reach: %u", static_cast<unsigned>(seen));
    return seen;
  }

  static void raise_reach(std::atomic<uint64_t>* reach, uint64_t from) noexcept {
    world.point();
    if (reach->load(std::memory_order_relaxed) != from) return;
    reach->store(from + 1, std::memory_order_relaxed);
    if (world.tracing()) world.trace("reach raised from %u", static_cast<unsigned>(from));
    ghost.on_raise(from, from + 1);
  }

 private:
  static uint32_t index(const shm::AtomicSlot* slot) {
    return static_cast<uint32_t>(slot - ghost.memory().slots);
  }
};

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_SIM_ATOMICS_H_
