// SPDX-License-Identifier: MIT
// What the table asks of its caller (see shm/table.h), with the production step(), debt(),
// plausible() and healed_word(), put together as in src/call.h. Flags weaken it, for the mutants
// that no change of the table can make.
#ifndef BRIM_TESTS_SIM_SIM_CALL_H_
#define BRIM_TESTS_SIM_SIM_CALL_H_

#include <algorithm>
#include <cstdint>

#include "shm/layout.h"
#include "shm/slot.h"
#include "src/algo/quota.h"
#include "src/algo/step.h"
#include "src/base/word.h"
#include "tests/sim/ghost.h"
#include "tests/sim/world.h"

namespace brim::sim {

struct Weakness {
  bool same_nonce = false;     // every tentative of one ms is the same word
  bool wrap_nonce = false;     // a process has two tentative values
  bool stale_ceiling = false;  // a word is judged corrupt by an old reading of the clock
  bool stale_garbage = false;  // the same, of another key's word
  bool no_grace = false;       // a foreign slot is idle at one's own time, skew or not
  bool allow_virgin = false;   // do not report the cause, wait for the effect
  bool repair_live = false;    // a repair frees what is not idle yet
  bool repair_young = false;   // ... or a tentative that may be finished
};

// A process, as far as the table can tell.
struct Process {
  uint32_t attach_id = 0;
  uint32_t counter = 0;
};

class SimCall {
 public:
  SimCall(Op* op, Process* process, const Quota* quotas, const Weakness* weakness)
      : op_(op), process_(process), quotas_(quotas), weakness_(weakness) {}

  Word step(Word word) {
    const Step taken = rule(word);
    ghost.on_step(*op_, word, taken.next);
    return taken.next;
  }

  bool plausible(Word word) const { return brim::plausible(word, at(op_->now), quota()); }

  Word ceiling(Word word) {
    if (plausible(word)) return word;
    if (!weakness_->stale_ceiling) refresh();
    op_->ceiling_clock = world.clock();
    return is_garbage(word, quota(), op_->now) ? healed_word(at(op_->now), quota()) : word;
  }

  void refresh() {
    world.point();
    op_->now = world.read_clock();
    if (world.tracing()) world.trace("reads the clock");
  }

  int64_t now_ns() const { return op_->now; }

  uint64_t debt(const shm::Slot& slot, uint64_t = 0) const {
    const Quota& other = quotas_[shm::id_policy(slot.id)];
    // The keys that only fill slots hold words that no caller could have written.
    const bool filler = (slot.id & shm::kFingerprintMask) >= kForeignFingerprint;
    const auto garbage = [&](int64_t now) { return !filler && is_garbage(slot.word, other, now); };
    op_->judged = op_->now;
    if (garbage(op_->now)) {
      if (weakness_->stale_garbage) return 0;
      world.point();
      if (garbage(world.read_clock()) && !ghost.has_corrupt_words()) return 0;
    }
    const int64_t grace = weakness_->no_grace ? 0 : ghost.skew();
    const uint64_t owed = brim::debt(slot.word, instant(other, op_->now - grace), other);
    return owed == shm::kAwaitsTelling ? owed + 1 : owed;
  }

  Word tentative() {
    const uint32_t counter = process_->counter++;
    if (weakness_->same_nonce) return make_tentative(1, 0, op_->now);
    return make_tentative(process_->attach_id, weakness_->wrap_nonce ? counter & 1 : counter,
                          op_->now);
  }

  void name(uint64_t) { world.point(); }
  void charged(uint64_t) {}

  void count(shm::Event event) {
    ++ghost.stats().events[static_cast<uint32_t>(event)];
    if (event == shm::Event::kCasRetry) ++op_->retries;
    if (event == shm::Event::kAdopted) {
      ++op_->adoptions;
      op_->fences = 0;
    }
  }

  void evicted(const shm::Slot&) { ++op_->told_evicted; }

 private:
  Step rule(Word word) const {
    switch (op_->rule) {
      case Rule::kAcquire:
        return brim::step(word, at(op_->now), quota(), op_->cost);
      case Rule::kRefund:
        return {brim::refund(word, at(op_->now), quota(), op_->cost), true};
      case Rule::kReset:
        break;
    }
    return {brim::debt(word, at(op_->now), quota()) == 0 ? word : kEmptyWord, true};
  }
  static bool is_garbage(Word word, const Quota& quota, int64_t now) {
    return !brim::plausible(word, instant(quota, now + ghost.skew()), quota);
  }
  const Quota& quota() const { return quotas_[shm::id_policy(op_->id)]; }
  Instant at(int64_t now) const { return instant(quota(), now); }

  Op* op_;
  Process* process_;
  const Quota* quotas_;
  const Weakness* weakness_;
};

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_SIM_CALL_H_
