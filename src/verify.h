// SPDX-License-Identifier: MIT
// The walk behind brim/verify.h: one Verifier a call, its parts in verify*.cc.
//
// Why a finding is no race. A rule is checked only in an order of loads in which traffic can not
// make it look broken:
//   - of one slot: the slot first, then the policy, then the clock. A policy is there before a word
//     is stored under it, and its clock and ceilings never fall (compile.cc), so a word judged by
//     what was read later is judged too mildly at worst; it is the rule by which callers heal.
//   - of a place: the slot first, then reach, then the slots before it. reach never falls and a
//     slot that is not virgin never becomes virgin, so what a claim found true stays true. Which
//     key an id is comes from a name whose check value covers both; that is true at any time.
//   - of two copies: see both_there() in verify_copies.cc.
//   - of counters: the one that is counted later is read first.
//   - of overrides: under the lock that their writers hold.
// Whatever is found is looked at again before it is reported.
#ifndef BRIM_SRC_VERIFY_H_
#define BRIM_SRC_VERIFY_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "brim/verify.h"
#include "shm/repair.h"
#include "src/algo/step.h"
#include "src/base/text.h"
#include "src/engine.h"
#include "src/policy_words.h"

namespace brim {

// What can be found, each with its stable name.
struct FindingKind {
  Severity severity;
  std::string_view name;
  std::string_view remedy;
};

class Verifier {
 public:
  using Visit = std::function<void(const Finding&)>;
  Verifier(internal::Engine& engine, const VerifyOptions& options, const Visit& visit)
      : engine_(engine), options_(options), visit_(visit) {}

  VerifyReport run();

 private:
  static constexpr uint64_t kNowhere = ~uint64_t{0};

  // The key of a slot, as far as the stored name tells.
  struct Known {
    bool verified = false;
    bool whole = false;  // `text` is the whole key, so its window is known
    std::string text;
    Hash128 hash;
  };

  // One broken rule of one slot, and the change that would mend it.
  struct Fault {
    const FindingKind* kind = nullptr;  // null: none
    std::string value = {};
    enum class Cure : uint8_t {
      kNone,
      kFree,
      kSpend,
      kHeal,
      kWord,
      kReach,
      kCell
    } cure = Cure::kNone;
    uint64_t position = 0;  // of the slot or cell to change
    Word word = 0;          // kHeal, kWord: what it shall hold
    uint64_t reach = 0;     // kReach: groups wanted, less one
    uint64_t cell = 0;      // kCell: what it holds
  };

  void check_header();
  void check_file();
  void check_attachments();
  void check_policies();
  void check_policy(uint16_t number, const shm::PolicyWords& words, const std::string& text);
  std::string differing_word(const Policy& policy, const shm::PolicyWords& words) const;
  void check_overrides();
  std::vector<Finding> override_faults(bool& count_low) const;
  std::vector<Finding> settled_override_faults();
  void check_slots();
  void check_slot(uint64_t position);
  Fault judge(uint64_t position, const shm::Slot& slot);
  Fault judge_key(uint64_t position, const shm::Slot& slot, const Quota& quota);
  Fault judge_place(uint64_t position, const shm::Slot& slot);
  Fault judge_cells(uint64_t position, const shm::Slot& slot, const Quota& quota);
  std::vector<uint64_t> virgins_before(const shm::Probe& probe, uint64_t away,
                                       uint64_t position) const;
  bool cure(uint64_t position, const shm::Slot& slot, const Fault& fault);
  bool spend_before(uint64_t position, uint64_t id);
  void check_copies();
  void compare_copies(uint64_t id, const std::vector<uint64_t>& positions);
  void compare_unnamed(uint64_t id, const std::vector<uint64_t>& positions);
  bool both_there(uint64_t id, uint64_t first, uint64_t later) const;
  void report_copies(uint64_t id, uint64_t first, uint64_t later, bool proven);
  void check_counters();

  Known name_of(uint64_t position, uint64_t id) const;
  // Groups from home to the slot at `position`, or kNowhere if it is not in the whole window.
  uint64_t distance(const shm::Probe& probe, uint64_t position) const;
  bool read_part(uint64_t id, Quota& quota) const {
    return read_quota(engine_.registry, shm::id_policy(id), shm::id_part(id), quota);
  }
  shm::AtomicSlot* slot_at(uint64_t position) const { return engine_.segment->slots() + position; }
  void count(shm::Event event) {
    if (!engine_.read_only) engine_.counters.add(event);
  }

  static Finding make(const FindingKind& kind, std::string value);
  Finding about_slot(const FindingKind& kind, uint64_t position, uint64_t id, std::string value);
  std::string policy_label(uint16_t number) const;
  void report(const Finding& finding);

  internal::Engine& engine_;
  const VerifyOptions& options_;
  const Visit& visit_;
  VerifyReport report_;
  bool place_checked_ = false;  // of the slot that check_slots() is at
};

}  // namespace brim

#endif  // BRIM_SRC_VERIFY_H_
