// SPDX-License-Identifier: MIT
// What table and cells touch memory with, here: each access is a scheduling point, then happens at
// once and whole, and the ghost hears of each change.
#ifndef BRIM_TESTS_SIM_CELLS_ATOMICS_H_
#define BRIM_TESTS_SIM_CELLS_ATOMICS_H_

#include <atomic>
#include <cstdint>

#include "shm/cells.h"
#include "shm/slot.h"
#include "tests/sim/cells_ghost.h"
#include "tests/sim/world.h"

namespace brim::sim::cells {

// The call of the running fiber.
inline Call* current_call[kMaxFibers + 1];
inline void set_current(Call* call) { current_call[world.running()] = call; }
inline Call& current() { return *current_call[world.running()]; }

struct CellSimAtomics {
  static shm::Slot load(const shm::AtomicSlot* slot) noexcept {
    world.point();
    const shm::Slot seen{slot->pair.low, slot->pair.high};
    if (world.tracing()) trace_slot("load   ", slot, seen);
    return seen;
  }
  static uint64_t load_id(const shm::AtomicSlot* slot) noexcept {
    world.point();
    return slot->pair.low;
  }
  static bool cas(shm::AtomicSlot* slot, shm::Slot expected, shm::Slot desired) noexcept {
    world.point_before_cas();
    const shm::Slot found{slot->pair.low, slot->pair.high};
    if (world.tracing()) trace_slot(found == expected ? "cas    " : "cas lost", slot, desired);
    if (found != expected) return false;
    slot->pair = {desired.id, desired.word};
    ghost.on_slot(index(slot), expected, desired);
    return true;
  }
  static void fence() noexcept { world.point(); }
  static void pause() noexcept { world.point(); }
  static uint64_t load_reach(const std::atomic<uint64_t>* reach) noexcept {
    world.point();
    // Relaxed: one thread.
    return reach->load(std::memory_order_relaxed);
  }
  static void raise_reach(std::atomic<uint64_t>* reach, uint64_t from) noexcept {
    world.point();
    if (reach->load(std::memory_order_relaxed) != from) return;
    reach->store(from + 1, std::memory_order_relaxed);
  }

  static uint64_t load_cell(const shm::AtomicCell* cell) noexcept {
    world.point();
    return *raw(cell);
  }
  static bool cas_cell(shm::AtomicCell* cell, uint64_t expected, uint64_t desired) noexcept {
    world.point_before_cas();
    uint64_t* const at = raw(cell);
    const bool done = *at == expected;
    if (world.tracing()) {
      world.trace("cas cell %u: %+lld -> %+lld%s", index(cell), ago(expected), ago(desired),
                  done ? "" : "; failed");
    }
    if (!done) return false;
    *at = desired;
    ghost.on_cell(current(), index(cell), expected, desired);
    return true;
  }
  static shm::Pair load_pair(const shm::AtomicCell* cell) noexcept {
    world.point();
    return {raw(cell)[0], raw(cell)[1]};
  }
  static bool cas_pair(shm::AtomicCell* cell, shm::Pair expected, shm::Pair desired) noexcept {
    world.point_before_cas();
    uint64_t* const at = raw(cell);
    const bool done = at[0] == expected.low && at[1] == expected.high;
    if (world.tracing()) {
      world.trace("cas pair %u: %+lld %llx -> %+lld %llx%s", index(cell), ago(expected.low),
                  static_cast<unsigned long long>(expected.high), ago(desired.low),
                  static_cast<unsigned long long>(desired.high), done ? "" : "; failed");
    }
    if (!done) return false;
    at[0] = desired.low;
    at[1] = desired.high;
    ghost.on_pair(current(), index(cell), expected, desired);
    return true;
  }

 private:
  static uint64_t* raw(const shm::AtomicCell* cell) {
    return ghost.memory().cells +
           (reinterpret_cast<uintptr_t>(cell) - reinterpret_cast<uintptr_t>(ghost.memory().cells)) /
               8;
  }
  static uint32_t index(const shm::AtomicCell* cell) {
    return static_cast<uint32_t>(raw(cell) - ghost.memory().cells);
  }
  static uint32_t index(const shm::AtomicSlot* slot) {
    return static_cast<uint32_t>(slot - ghost.memory().slots);
  }
  static long long ago(uint64_t time) {
    return static_cast<long long>(time) - static_cast<long long>(kClock0);
  }
  static void trace_slot(const char* what, const shm::AtomicSlot* slot, const shm::Slot& value) {
    world.trace("%s slot %u: key %lld of kind %u, %+lld%s", what, index(slot),
                static_cast<long long>(value.id & shm::kFingerprintMask) -
                    static_cast<long long>(kFirstFingerprint),
                shm::id_policy(value.id), ago(value.word & kValueMax),
                is_tentative(value.word) ? " tentative" : "");
  }
};

}  // namespace brim::sim::cells

#endif  // BRIM_TESTS_SIM_CELLS_ATOMICS_H_
