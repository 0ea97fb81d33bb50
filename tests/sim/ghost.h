// SPDX-License-Identifier: MIT
// The ghost: an exact GCRA per key, kept beside the table and told of each compare-and-swap.
//
// It shares no arithmetic with src/algo. It checks at each admission that the stored word is the
// one an exact GCRA yields at the call's time, at each refusal that an exact GCRA would have
// refused, and after each change of a slot what the layout promises (I1, I2, I5). Evictions are
// followed: the ghost forgets the key's debt too and adds it to what the key may exceed. After a
// run every key's admissions, sorted by timestamp, must fit burst + d/T in any interval d.
#ifndef BRIM_TESTS_SIM_GHOST_H_
#define BRIM_TESTS_SIM_GHOST_H_

#include <atomic>
#include <cstdint>

#include "shm/layout.h"
#include "shm/slot.h"
#include "src/base/word.h"
#include "tests/sim/digest.h"

namespace brim::sim {

inline constexpr uint32_t kMaxGroups = 5;
inline constexpr uint32_t kMaxSlots = kMaxGroups * shm::kSlotsPerGroup;
inline constexpr uint32_t kMaxKeys = 8 + kMaxSlots;
inline constexpr uint32_t kMaxLog = 64;
inline constexpr uint32_t kPolicies = 5;
inline constexpr uint32_t kFillerPolicy = 4;  // so slow that its live keys stay live
inline constexpr uint64_t kFirstFingerprint = 16;
inline constexpr uint64_t kForeignFingerprint = 1000;  // keys that nobody asks for

inline constexpr int64_t kT0 = 1000000000000;
inline constexpr uint64_t kV0 = 5000;

// limit permits per period_ns, written out once more: units of 2^-k permit.
struct Rate {
  uint32_t limit = 0;
  uint64_t period_ns = 1;
  uint32_t burst = 0;
  uint64_t permit = 0;  // units
  uint64_t capacity() const { return burst * permit; }
  uint64_t reading(int64_t clock) const;
};
Rate make_rate(uint32_t limit, uint64_t period_ns, uint32_t burst);

// Where a key looks: home, home + stride, ... modulo the number of groups.
struct Window {
  uint32_t home = 0;
  uint32_t stride = 1;
};

enum class Rule : uint8_t { kAcquire, kRefund, kReset };

// One call of one fiber.
struct Op {
  Rule rule = Rule::kAcquire;
  uint32_t key = 0;
  uint32_t cost = 0;
  uint64_t id = 0;
  int64_t now = 0;     // the clock as last read
  int64_t judged = 0;  // the time of the last debt()
  uint64_t steps = 0;
  uint32_t charges = 0;       // compare-and-swaps that took permits
  uint32_t evictions = 0;     // as the ghost saw them
  uint32_t told_evicted = 0;  // as the table reported them
  uint32_t claims = 0;
  uint32_t adoptions = 0;
  uint32_t pauses = 0;
  uint32_t retries = 0;
  uint32_t fences = 0;  // since the last claim or adoption
  // The last step() of the table on a word.
  Word seen = 0;
  Word next = 0;
  int64_t step_now = 0;
  uint64_t step_tat = 0;      // the ghost's when that word was loaded
  uint64_t load_tat = 0;      // the ghost's when a slot of the key was last loaded
  int64_t ceiling_clock = 0;  // true time at the last ceiling()
  bool repairs = false;       // not a call: it changes slots as verify does
};

struct Stats {
  uint64_t runs = 0, steps = 0, kills = 0, stalls = 0, jumps = 0, calls = 0;
  uint64_t admissions = 0, denials = 0, refunds = 0, full = 0, contended = 0, heals = 0;
  uint64_t evictions = 0, repairs = 0, moves = 0, max_rounds = 0, max_updates = 0,
           max_call_steps = 0;
  uint64_t events[shm::kEvents] = {};
};

enum class Result : uint8_t { kDecided, kFull, kContended };  // as shm::Outcome

class Ghost {
 public:
  struct Memory {
    alignas(64) shm::AtomicSlot slots[kMaxSlots];
    alignas(64) std::atomic<uint64_t> reach;
  };

  void reset(uint32_t groups, uint32_t limit, bool evicts, int64_t skew);
  void set_rate(uint32_t policy, const Rate& rate) { rates_[policy] = rate; }
  uint32_t add_key(uint64_t id, const Window& window);
  // The key's word before the run.
  void plant(uint32_t key, Word word) { keys_[key].tat = word; }
  void allow_virgin() { allow_virgin_ = true; }

  void begin(Op& op, Rule rule, uint32_t key, uint32_t cost, int64_t now);
  void on_load(const shm::Slot& seen);
  void on_step(Op& op, Word seen, Word next);
  void on_cas(const shm::AtomicSlot* at, const shm::Slot& old, const shm::Slot& now);
  void on_raise(uint64_t from, uint64_t to);
  void end(Op& op, Result result);
  // Any interval of length d holds at most burst + d/T admissions, plus what evictions forgave.
  void check_log(uint32_t key);

  // All that it knows and that is not the same in every run of a scenario.
  void add_to(Digest& digest) const;

  Memory& memory() { return memory_; }
  Stats& stats() { return stats_; }
  uint32_t slot_count() const { return groups_ * shm::kSlotsPerGroup; }
  uint32_t key_count() const { return key_count_; }
  uint64_t id(uint32_t key) const { return keys_[key].id; }
  const Window& window(uint32_t key) const { return keys_[key].window; }
  const Rate& rate_of(uint64_t id) const { return rates_[shm::id_policy(id) % kPolicies]; }
  int64_t skew() const { return skew_; }
  // In runs with planted corrupt words the ghost follows them: they are healed, never reclaimed.
  bool has_corrupt_words() const { return corrupt_; }
  void expect_corrupt_words(bool expected) { corrupt_ = expected; }
  uint64_t reach_in_use() const;
  // Index of the n-th slot of the window.
  uint32_t slot_of(const Window& window, uint32_t n) const;
  shm::Slot slot(uint32_t i) const;
  // Verified copies of `id` in the whole table.
  uint32_t copies(uint64_t id) const;
  // For traces and messages, in one of a few static buffers.
  const char* text(const shm::Slot& slot) const;

 private:
  struct Admission {
    uint64_t v;
    uint64_t units;
  };
  struct Key {
    uint64_t id = 0;
    Window window;
    uint64_t tat = 0;       // exact GCRA state
    uint64_t forgiven = 0;  // debt lost by eviction, refund and reset, units
    uint32_t admissions = 0;
    Admission log[kMaxLog];
  };

  void check_drop(uint32_t at, const shm::Slot& old);
  void check_claim(uint32_t at, const shm::Slot& old, const shm::Slot& now);
  void check_removed(const shm::Slot& old);
  void check_insertion(uint32_t at, const shm::Slot& now);
  void check_update(uint32_t at, const shm::Slot& old, const shm::Slot& now);
  void check_heal(Key& key, const shm::Slot& old, const shm::Slot& now);
  void check_given_back(Key& key, const shm::Slot& now);
  void charge(Key& key, const shm::Slot& now);
  void check_denial(const Op& op);
  uint64_t call_bound() const;
  Key* find(uint64_t id);

  Memory memory_;
  uint32_t groups_ = 0;
  uint32_t limit_ = 0;
  uint32_t key_count_ = 0;
  bool evicts_ = false;
  bool allow_virgin_ = false;
  int64_t skew_ = 0;
  bool corrupt_ = false;
  Rate rates_[kPolicies];
  Key keys_[kMaxKeys];
  Stats stats_;
};

inline Ghost ghost;

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_GHOST_H_
