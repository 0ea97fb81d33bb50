// SPDX-License-Identifier: MIT
// The ghost of the cells: which permits and leases each key has, told by each compare-and-swap.
//
// Shares no arithmetic with shm/cells.h. Log: after a run every half-open window of one span of
// each key's admissions, by the clock value that the call used, must fit the limit; a refusal must
// be explained by permits of the key that were there during the call. Leases: at each moment at
// which one is taken or renewed, no more than the limit are unexpired.
#ifndef BRIM_TESTS_SIM_CELLS_GHOST_H_
#define BRIM_TESTS_SIM_CELLS_GHOST_H_

#include <atomic>
#include <cstdint>

#include "shm/atomic128.h"
#include "shm/layout.h"
#include "shm/slot.h"
#include "tests/sim/digest.h"
#include "tests/sim/rng.h"
#include "tests/sim/world.h"

namespace brim::sim::cells {

inline constexpr uint32_t kPlayers = 5;
inline constexpr uint32_t kSlotsMax = 12;
inline constexpr uint32_t kDepthMax = 8;
inline constexpr uint32_t kKeysMax = 4;
inline constexpr uint32_t kUnitsMax = 400;
inline constexpr uint32_t kLeasesMax = 200;
inline constexpr uint64_t kFirstFingerprint = 16;
inline constexpr int64_t kClock0 = 1000000000000;

enum class Kind : uint8_t { kLog, kLease, kGcra, kFiller };  // policy number = kind
inline constexpr uint32_t kKinds = 4;

struct Config {
  uint32_t groups = 1;
  uint32_t open_slots = 1;  // all others hold live keys that nobody asks for
  uint32_t depth = 4;
  uint32_t keys = 1;
  Kind kind[kKeysMax] = {};
  uint32_t fibers = 2;
  uint32_t max_ops = 1;
  uint32_t limit[2][2] = {};  // [log, lease][before, after the change]
  uint32_t change_at = 0;     // calls before the change
  uint64_t span[kKinds] = {};
  bool inclusive = false;
  bool gives_back = false;
  bool evicts = false;
  int64_t skew = 0;
  Pace pace;
};
// only: 0 any kinds, 1 no leases, 2 no logs, 3 a log and leases that take turns in one slot.
Config draw_config(uint64_t seed, uint32_t only);

enum class Action : uint8_t { kAcquire, kRefund, kReset, kPeek, kRelease, kRenew, kReap };

// One call of one fiber.
struct Call {
  Action action = Action::kAcquire;
  uint32_t key = 0;
  uint32_t cost = 0;
  uint32_t limit = 0;
  uint32_t version = 0;  // 0 before, 1 after the change of limits
  uint64_t id = 0;
  int64_t now = 0;     // the clock as last read
  uint64_t begin = 0;  // in events
  uint64_t holder = 0;
  uint64_t steps = 0;
  uint32_t number = 0;
  uint32_t given = 0;
  uint32_t retries = 0;
};

// A permit in a cell.
struct Unit {
  uint32_t key, call, cell, version;
  uint64_t at;  // timestamp
  uint64_t expiry;
  uint64_t gone;      // the event that removed or replaced it; ~0: still there
  uint32_t previous;  // in this cell
  bool admitted, refunded, undone, late;
};

struct Held {
  uint32_t key, cell, version;
  uint64_t holder, expiry, fence;
  uint64_t gone;
  bool late;
};

struct Stats {
  uint64_t runs = 0, steps = 0, kills = 0, stalls = 0, calls = 0, admitted = 0, refused = 0;
  uint64_t unavailable = 0, refunds = 0, undone = 0, leases = 0, renewed = 0, lost = 0;
  uint64_t released = 0, reaped = 0, takeovers = 0, moved = 0, late = 0, retired = 0;
  uint64_t max_retries = 0, max_steps = 0;
};

class Ghost {
 public:
  struct Memory {
    alignas(64) shm::AtomicSlot slots[kSlotsMax];
    alignas(64) uint64_t cells[kSlotsMax * kDepthMax];
    alignas(64) std::atomic<uint64_t> reach;
  };

  void reset(const Config& config);
  // All that it knows and that is not the same in every run of a scenario.
  void add_to(Digest& digest) const;

  Memory& memory() { return memory_; }
  Stats& stats() { return stats_; }
  uint64_t id(uint32_t key) const {
    return shm::make_id(static_cast<uint16_t>(config_.kind[key]), kFirstFingerprint + key);
  }
  bool changed() const { return changed_; }
  void change() { changed_ = true; }

  void begin(Call& call, Action action, uint32_t key, uint32_t cost);
  void on_slot(uint32_t slot, const shm::Slot& old, const shm::Slot& now);
  void on_cell(const Call& call, uint32_t cell, uint64_t old, uint64_t now);
  void on_pair(Call& call, uint32_t cell, const shm::Pair& old, const shm::Pair& now);

  void end_log(const Call& call, bool admitted, uint64_t timestamp);
  void end_refund(const Call& call, uint32_t given);
  void end_lease(const Call& call, bool admitted, uint64_t timestamp, uint64_t fence);
  // Permits of the key that are live at `time`, now that nobody runs.
  uint32_t live_permits(uint32_t key, uint64_t time) const;
  uint32_t live_leases(uint32_t key, uint64_t time) const;
  void check_windows(uint32_t key);
  uint64_t new_holder(uint32_t player) const;
  void die(uint32_t player) { dead_ |= 1u << player; }
  bool is_dead(uint64_t holder) const;

 private:
  static constexpr uint32_t kNone = ~0u;
  static constexpr uint64_t kEver = ~uint64_t{0};

  uint32_t bound(uint32_t kind, uint32_t only_old, uint32_t late) const;
  void take_permit(const Call& call, uint32_t cell, uint64_t old, uint64_t now);
  void check_leases(uint32_t key);
  Held* find_lease(uint64_t holder);

  Config config_;
  Memory memory_;
  Stats stats_;
  bool changed_ = false;
  bool new_seen_ = false;  // a call with the new limit has begun
  uint32_t dead_ = 0;
  uint64_t event_ = 0;
  uint32_t calls_ = 0;
  uint32_t units_ = 0;
  uint32_t leases_ = 0;
  uint32_t current_[kSlotsMax * kDepthMax];
  uint64_t cell_fence_[kSlotsMax * kDepthMax];
  uint64_t key_fence_[kKeysMax];
  Unit unit_[kUnitsMax];
  Held lease_[kLeasesMax];
};

inline Ghost ghost;

}  // namespace brim::sim::cells

#endif  // BRIM_TESTS_SIM_CELLS_GHOST_H_
