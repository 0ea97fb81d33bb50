// SPDX-License-Identifier: MIT
// The table: find a key's slot or claim one, and change it by one compare-and-swap.
//
// Knows no algorithm, no policy and no clock: those arrive in `Call`, which provides
//     Word step(Word)          next word for this one; the same word means: write nothing
//     bool plausible(Word)     false: maybe above what the policy can hold
//     Word ceiling(Word)       a corrupt word brought down to what the policy can hold, or itself
//     void refresh()           read the clock again
//     int64_t now_ns()         the time last read
//     uint64_t debt(Slot, i)   another key's debt in requests, in slot i; 0 exactly if it is idle,
//                              kAwaitsTelling if it is and other nodes should hear of it first
//     Word tentative()         a tentative word that was never used before
//     void name(uint64_t i)    record the key's text for slot i
//     void charged(uint64_t i) the last step's word is in slot i now
//     void count(Event)        statistics; evicted(Slot): a live key had to make room
// `Atomics` is HardwareAtomics, or the simulator's.
//
// Insertion is two-phase, because two processes may want to put one key into two slots. A claimed
// slot is first *tentative*. Its owner, or whoever else wants the key, then looks at every other
// slot of the window: a verified copy, or an earlier tentative, wins over it; a later tentative is
// undone. Only then does one compare-and-swap verify the slot and charge the permits: whoever's
// succeeds owns the admission. The proof is in docs/design/0001-slot-protocol.md.
#ifndef BRIM_SHM_TABLE_H_
#define BRIM_SHM_TABLE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "shm/layout.h"
#include "shm/slot.h"
#include "src/base/uint128.h"
#include "src/base/word.h"

namespace brim::shm {

enum class Outcome : uint8_t {
  kDecided,    // the last step() holds the answer, and its word is stored if it differs
  kFull,       // every slot of the window holds a live key and none may be evicted
  kContended,  // a bound on retries was reached
};

// Insertion: lost races in a row. Never seen above 4 in the simulator, in 436 million calls.
inline constexpr uint32_t kMaxInsertRounds = 64;
// Update of one hot key: a fair race of 64 processes is lost this often in a row with
// probability (63/64)^4096 < 1e-27.
inline constexpr uint32_t kMaxUpdateRounds = 4096;

// A clock reading older than this is taken again before keys are judged to be live by it.
inline constexpr int64_t kStaleNs = 100000;

// Where a key's window begins and how it goes on.
struct Probe {
  uint64_t home;
  uint64_t stride;
};

template <class Atomics>
class Table {
 public:
  // REQUIRES: groups >= 1, probe_limit >= 1; `slots` has 4 * groups elements, 64-byte aligned.
  Table(AtomicSlot* slots, uint64_t groups, uint32_t probe_limit, std::atomic<uint64_t>* reach,
        bool evicts) noexcept
      : slots_(slots),
        groups_(groups),
        limit_(std::min<uint64_t>(probe_limit, groups)),
        reach_(reach),
        evicts_(evicts) {}

  // The upper half of `hash` picks the home group, the lower half the stride. groups is prime, so
  // that every stride visits distinct groups.
  Probe probe(uint64_t hash) const noexcept {
    const uint64_t rotated = hash << 32 | hash >> 32;
    return {high_product(hash, groups_), 1 + high_product(rotated, groups_ - 1)};
  }

  void prefetch(const Probe& probe) const noexcept {
    __builtin_prefetch(slots_ + probe.home * kSlotsPerGroup, 1);
  }

  // Runs call.step() on the key's word, or on kEmptyWord if the key is absent, and stores what it
  // returns. Lock-free; bounded by kMaxInsertRounds and kMaxUpdateRounds.
  template <class Call>
  Outcome update(const Probe& probe, uint64_t id, Call& call) const noexcept {
    return update_at_home(probe, id, call) ? Outcome::kDecided : update_slowly(probe, id, call);
  }

  // The first try of update(), where nearly every call ends: one line, four ids, one
  // compare-and-swap. False: nothing was decided, go on with update_slowly().
  template <class Call>
  [[gnu::always_inline]] bool update_at_home(const Probe& probe, uint64_t id,
                                             Call& call) const noexcept {
    AtomicSlot* const home = slots_ + probe.home * kSlotsPerGroup;
    AtomicSlot* at = home;
    while (Atomics::load_id(at) != id) {
      if (++at == home + kSlotsPerGroup) return false;
    }
    const Slot seen = Atomics::load(at);
    if (seen.id != id || is_tentative(seen.word)) return false;
    const Word next = call.step(seen.word);
    if (next == seen.word) return call.plausible(next);  // refused: nothing written
    // Killed here: after it the permits are charged and nobody was told. Before: nothing.
    if (Atomics::cas(at, seen, {id, next})) [[likely]] {
      call.charged(static_cast<uint64_t>(at - slots_));
      return true;
    }
    call.count(Event::kCasRetry);
    return false;
  }

  template <class Call>
  [[gnu::noinline]] Outcome update_slowly(const Probe& probe, uint64_t id,
                                          Call& call) const noexcept {
    for (uint32_t round = 0; round < kMaxInsertRounds; ++round) {
      Own own;
      if (AtomicSlot* const verified = search(probe, id, own)) {
        Outcome outcome;
        if (settle(verified, id, call, outcome)) return outcome;
        continue;
      }
      call.refresh();  // whose slot is idle is judged by a fresh clock, not by the caller's time
      if (call.step(kEmptyWord) == kEmptyWord) return Outcome::kDecided;
      if (own.slot != nullptr) {
        call.count(Event::kAdopted);
      } else {
        const Claim claimed = claim(probe, id, call, own);
        if (claimed == Claim::kFull) {
          call.count(Event::kFull);
          return Outcome::kFull;
        }
        if (claimed == Claim::kLost) continue;
      }
      if (verify(probe, id, call, own)) return Outcome::kDecided;
    }
    call.count(Event::kContended);
    return Outcome::kContended;
  }

  // The slot at position i of the whole table, for scans.
  Slot at(uint64_t i) const noexcept { return Atomics::load(slots_ + i); }
  uint64_t slot_count() const noexcept { return groups_ * kSlotsPerGroup; }
  uint64_t groups_in_use() const noexcept {
    return std::min(Atomics::load_reach(reach_), limit_ - 1) + 1;
  }

  // Position of the verified copy of `id` in its window, or slot_count().
  uint64_t find(const Probe& probe, uint64_t id, Slot& slot) const noexcept {
    uint64_t position = slot_count();
    walk(probe, groups_in_use(), [&](AtomicSlot* at, uint64_t) {
      const uint64_t seen = Atomics::load_id(at);
      if (seen != id) return seen != kVirginId;
      slot = Atomics::load(at);
      if (slot.id != id || is_tentative(slot.word)) return true;
      position = static_cast<uint64_t>(at - slots_);
      return false;
    });
    return position;
  }

 private:
  enum class Claim { kTaken, kLost, kFull };

  // A tentative slot that this call tries to verify.
  struct Own {
    AtomicSlot* slot = nullptr;
    Word tentative = 0;
  };

  static uint64_t high_product(uint64_t a, uint64_t b) noexcept {
    return static_cast<uint64_t>((static_cast<uint128>(a) * b) >> 64);
  }

  // Visits the slots of the window's first `count` groups in order until visit() returns false.
  // Returns whether all were visited.
  template <class Visit>
  bool walk(const Probe& probe, uint64_t count, Visit visit) const noexcept {
    uint64_t group = probe.home;
    for (uint64_t n = 0; n < count; ++n) {
      AtomicSlot* const first = slots_ + group * kSlotsPerGroup;
      for (uint32_t i = 0; i < kSlotsPerGroup; ++i) {
        if (!visit(first + i, n)) return false;
      }
      group += probe.stride;
      if (group >= groups_) group -= groups_;
    }
    return true;
  }

  // Steps a slot that holds the key. False if it no longer does (or only tentatively).
  template <class Call>
  bool settle(AtomicSlot* at, uint64_t id, Call& call, Outcome& outcome) const noexcept {
    outcome = Outcome::kDecided;
    for (uint32_t round = 0; round < kMaxUpdateRounds; ++round) {
      const Slot seen = Atomics::load(at);
      if (seen.id != id || is_tentative(seen.word)) return false;
      Word next = call.step(seen.word);
      if (next == seen.word) [[unlikely]] {
        const Word lowered = call.ceiling(seen.word);
        if (lowered != seen.word) {
          if (Atomics::cas(at, seen, {id, lowered})) call.count(Event::kHealed);
          continue;
        }
        next = call.step(seen.word);         // ceiling() may have read the clock again
        if (next == seen.word) return true;  // a refusal, or nothing asked: nothing written
      }
      // Killed here: after it the permits are charged and nobody was told. Before: nothing.
      if (Atomics::cas(at, seen, {id, next})) [[likely]] {
        call.charged(static_cast<uint64_t>(at - slots_));
        return true;
      }
      back_off(round, call);
    }
    call.count(Event::kContended);
    outcome = Outcome::kContended;
    return true;
  }

  template <class Call>
  [[gnu::noinline]] static void back_off(uint32_t round, Call& call) noexcept {
    call.count(Event::kCasRetry);
    for (uint32_t i = 4; i < std::min<uint32_t>(round, 32); ++i) Atomics::pause();
    call.refresh();
  }

  // Step 1: the verified copy of the key, or else its first tentative in `own`.
  AtomicSlot* search(const Probe& probe, uint64_t id, Own& own) const noexcept {
    AtomicSlot* verified = nullptr;
    walk(probe, groups_in_use(), [&](AtomicSlot* at, uint64_t) {
      const uint64_t seen_id = Atomics::load_id(at);
      if (seen_id != id) return seen_id != kVirginId;
      const Slot seen = Atomics::load(at);
      if (seen.id != id) return true;
      if (!is_tentative(seen.word)) {
        verified = at;
        return false;
      }
      if (own.slot == nullptr) own = {at, seen.word};
      return true;
    });
    return verified;
  }

  // A slot that a claim may take, with what it would cost somebody.
  struct Candidate {
    AtomicSlot* at = nullptr;
    Slot old;
    uint64_t debt = ~uint64_t{0};  // of the live key in it; 0: nobody loses anything
    uint64_t distance = 0;         // groups from home

    // Least debt first; then a slot that nobody uses, so that idle keys keep theirs while there is
    // room; then the key that has been idle longest (exact within a policy, a guess between two).
    bool before(const Candidate& other) const noexcept {
      return debt != other.debt ? debt < other.debt : debt == 0 && last_use() < other.last_use();
    }
    Word last_use() const noexcept {
      const bool unused = old.id == kVirginId || old.id == kFreeId || is_tentative(old.word);
      return unused ? 0 : old.word + 1;
    }
  };

  // Step 2: makes a slot of the first group that has a reclaimable one, or by eviction the slot
  // with the least debt, a tentative of the key. Virgin slots are reclaimable and never come back,
  // and no claim goes past one: that is why a virgin slot ends every probe.
  template <class Call>
  Claim claim(const Probe& probe, uint64_t id, Call& call, Own& own) const noexcept {
    for (uint64_t tries = 0; tries < 2 * limit_ + 2; ++tries) {
      const uint64_t groups = groups_in_use();
      Candidate best;
      bool appeared = false;
      walk(probe, groups, [&](AtomicSlot* at, uint64_t n) {
        if (best.debt == 0 && n != best.distance) return false;  // the group is done
        const Slot seen = Atomics::load(at);
        appeared = seen.id == id;
        if (appeared) return false;
        const Candidate one{at, seen, reclaim_debt(at, seen, call), n};
        if (one.before(best)) best = one;
        return seen.id != kVirginId;
      });
      const bool all_live = best.debt > kAwaitsTelling;
      if (appeared) return Claim::kLost;
      if (all_live && judged_long_ago(call)) continue;
      if (all_live && groups < limit_) {
        Atomics::raise_reach(reach_, groups - 1);
        call.count(Event::kReachRaised);
        continue;
      }
      if (all_live && !evicts_) return Claim::kFull;
      if (best.at == nullptr) {  // nothing but new tentatives of other keys
        Atomics::pause();
        return Claim::kLost;
      }
      own = {best.at, call.tentative()};
      // Killed here: before, nothing; after, a tentative that this key's next caller adopts.
      if (!Atomics::cas(best.at, best.old, {id, own.tentative})) {
        call.count(Event::kCasRetry);
        return Claim::kLost;
      }
      count_claim(best, call);
      return Claim::kTaken;
    }
    return Claim::kLost;  // somebody keeps changing reach
  }

  // Every newer key seems to be live to a call that was stopped after it read the clock. It must
  // neither evict one for that nor lengthen every window.
  template <class Call>
  static bool judged_long_ago(Call& call) noexcept {
    const int64_t then = call.now_ns();
    call.refresh();
    return call.now_ns() - then > kStaleNs;
  }

  // 0: the slot may be taken; ~0: it may not be, even by eviction.
  template <class Call>
  uint64_t reclaim_debt(const AtomicSlot* at, const Slot& slot, Call& call) const noexcept {
    if (slot.id == kVirginId || slot.id == kFreeId) return 0;
    if (!is_tentative(slot.word)) return call.debt(slot, static_cast<uint64_t>(at - slots_));
    return tentative_age_ms(slot.word, call.now_ns()) > kTentativeLifeMs ? 0 : ~uint64_t{0};
  }

  template <class Call>
  static void count_claim(const Candidate& claimed, Call& call) noexcept {
    const Slot& old = claimed.old;
    const uint64_t distance = claimed.distance;
    const auto log2 = static_cast<uint32_t>(64 - __builtin_clzll(distance | 1)) - 1;
    const uint32_t bin = distance == 0 ? 0 : log2 + 1;
    call.count(static_cast<Event>(static_cast<uint32_t>(Event::kProbeLength0) + bin));
    if (old.id == kVirginId || old.id == kFreeId) return;
    if (is_tentative(old.word)) {
      call.count(Event::kExpired);
    } else if (claimed.debt <= kAwaitsTelling) {
      call.count(Event::kReclaimed);
    } else {
      call.count(Event::kEvictedLive);
      call.evicted(old);
    }
  }

  enum class Look { kClear, kMoved, kLost };

  // Steps 4 and 5: verify and charge in one compare-and-swap. False: start over.
  template <class Call>
  bool verify(const Probe& probe, uint64_t id, Call& call, Own own) const noexcept {
    // Each move goes to an earlier slot, so there are fewer moves than slots.
    for (Look look = Look::kMoved; look != Look::kClear;) {
      look = check_others(probe, id, call, own);
      if (look == Look::kLost) return false;
    }
    call.refresh();  // a claim may have stalled: its time must be later than the search
    const Word next = call.step(kEmptyWord);
    if (next == kEmptyWord) {  // refused at the later time
      Atomics::cas(own.slot, {id, own.tentative}, {kFreeId, 0});
      return true;
    }
    call.name(static_cast<uint64_t>(own.slot - slots_));
    // Killed here: before, a tentative; after, the permits are charged and nobody was told.
    if (!Atomics::cas(own.slot, {id, own.tentative}, {id, next})) return false;
    call.charged(static_cast<uint64_t>(own.slot - slots_));
    call.count(Event::kInserted);
    return true;
  }

  // Looks at every other slot of the window. A verified copy (live or idle) or an earlier
  // tentative beats ours; a later tentative is undone.
  template <class Call>
  Look check_others(const Probe& probe, uint64_t id, Call& call, Own& own) const noexcept {
    Atomics::fence();  // [E2] the looks below must not be older than the claim
    Look result = Look::kClear;
    bool past_own = false;
    // Reads reach after the claim: whoever claims beyond it has raised it before [E4].
    walk(probe, groups_in_use(), [&](AtomicSlot* at, uint64_t) {
      if (at == own.slot) {
        past_own = true;
        return true;
      }
      for (uint32_t tries = 0; tries < kMaxInsertRounds; ++tries) {
        const uint64_t seen_id = Atomics::load_id(at);
        if (seen_id != id) return seen_id != kVirginId;
        const Slot seen = Atomics::load(at);
        if (seen.id != id) continue;
        if (past_own && is_tentative(seen.word)) {
          // Killed here: after it one tentative fewer; its owner starts over.
          if (Atomics::cas(at, seen, {kFreeId, 0})) return true;
          continue;
        }
        Atomics::cas(own.slot, {id, own.tentative}, {kFreeId, 0});
        call.count(Event::kDropped);
        result = is_tentative(seen.word) ? Look::kMoved : Look::kLost;
        own = {at, seen.word};
        return false;
      }
      result = Look::kLost;
      return false;
    });
    return result;
  }

  AtomicSlot* slots_;
  uint64_t groups_;
  uint64_t limit_;
  std::atomic<uint64_t>* reach_;
  bool evicts_;
};

}  // namespace brim::shm

#endif  // BRIM_SHM_TABLE_H_
