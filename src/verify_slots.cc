// SPDX-License-Identifier: MIT
// Slot by slot: id, policy, word, place in the key's window, cells.
#include <algorithm>

#include "src/call.h"
#include "src/cell_context.h"
#include "src/slot_name.h"
#include "src/verify.h"
#include "src/verify_cells.h"

namespace brim {

namespace {

constexpr FindingKind kMalformedSlot = {Severity::kError, "malformed_slot",
                                        "a slot of no key holds a word; --repair frees it"};
constexpr FindingKind kMalformedId = {Severity::kError, "malformed_id",
                                      "no key can have this id; --repair frees the slot"};
constexpr FindingKind kUndefinedPolicy = {
    Severity::kError, "undefined_policy",
    "the slot counts as unused and is taken by the next key; --repair frees it"};
constexpr FindingKind kUndefinedPart = {
    Severity::kError, "undefined_part",
    "the slot counts as unused and is taken by the next key; --repair frees it"};
constexpr FindingKind kDeadTentative = {
    Severity::kNote, "dead_tentative",
    "an insertion that nobody finished: the key's next caller does, any other takes the slot; "
    "--repair frees it"};
constexpr FindingKind kImpossibleWord = {
    Severity::kError, "impossible_word",
    "the key's next caller brings it down to the most the policy can hold; --repair does so now"};
constexpr FindingKind kWrappedCounter = {
    Severity::kNote, "wrapped_counter",
    "corrupt, or the key was silent for so long that its window's number came round; the next "
    "caller and --repair take it for idle"};
constexpr FindingKind kUnreachable = {
    Severity::kError, "unreachable",
    "callers of the key do not find this copy; --repair makes it reachable again, or frees it if "
    "no caller ever can"};
constexpr FindingKind kCellBeyondIdle = {
    Severity::kError, "cell_beyond_idle",
    "the slot may be given away while the cell is in force; --repair makes the slot last"};
constexpr FindingKind kImpossibleCell = {Severity::kWarning, "impossible_cell",
                                         "callers take it for free; --repair makes it so"};
constexpr FindingKind kDeadLease = {
    Severity::kNote, "dead_lease",
    "its holder is gone: it ends when it expires, or when a caller finds no other room"};

// Looks at one slot, each after a repair or a change by somebody else. Each cell of it may need
// one.
constexpr int kMaxLooks = 16 + static_cast<int>(shm::kMaxCells);

}  // namespace

void Verifier::check_slots() {
  report_.slots = engine_.table.slot_count();
  for (uint64_t i = 0; i < report_.slots; ++i) {
    const shm::Slot slot = engine_.table.at(i);
    if (slot.id == shm::kVirginId && slot.word == kEmptyWord) continue;
    place_checked_ = false;
    check_slot(i);
    if (slot.id <= shm::kFreeId) continue;
    ++report_.used;
    if (is_tentative(slot.word)) ++report_.tentative;
    if (place_checked_) ++report_.checked;
  }
}

// A finding needs two looks that agree, with the policy and the clock read anew after each. What is
// still wrong after the last look is reported as it is: an error must not end in silence.
void Verifier::check_slot(uint64_t position) {
  for (int look = 0; look < kMaxLooks; ++look) {
    const shm::Slot slot = engine_.table.at(position);
    if (judge(position, slot).kind == nullptr) return;
    if (engine_.table.at(position) != slot) continue;
    const Fault fault = judge(position, slot);
    if (fault.kind == nullptr) continue;
    Finding finding = about_slot(*fault.kind, position, slot.id, fault.value);
    if (!options_.repair || fault.cure == Fault::Cure::kNone) {
      report(finding);
      return;
    }
    if (!cure(position, slot, fault)) continue;  // it changed: look again
    finding.repaired = true;
    report(finding);
  }
  const shm::Slot slot = engine_.table.at(position);
  if (judge(position, slot).kind == nullptr) return;
  const Fault fault = judge(position, slot);
  if (fault.kind != nullptr) report(about_slot(*fault.kind, position, slot.id, fault.value));
}

Verifier::Fault Verifier::judge(uint64_t position, const shm::Slot& slot) {
  using Cure = Fault::Cure;
  if (slot.id <= shm::kFreeId) {
    if (slot.word == kEmptyWord) return {};
    const bool virgin = slot.id == shm::kVirginId;
    return {&kMalformedSlot, cat(virgin ? "virgin" : "free", ", word ", hex(slot.word, 16)),
            virgin ? Cure::kSpend : Cure::kFree, position};
  }
  const uint16_t number = shm::id_policy(slot.id);
  if ((slot.id & shm::kFingerprintMask) <= shm::kFreeId) {
    return {&kMalformedId, cat("id ", hex(slot.id, 16)), Cure::kFree, position};
  }
  if (engine_.registry.version(number) == 0) {
    return {&kUndefinedPolicy, cat("policy number ", number), Cure::kFree, position};
  }
  Quota quota;
  if (!read_part(slot.id, quota)) return {};  // replaced over and over: nothing can be said
  if (quota.algorithm == 0) {
    return {&kUndefinedPart, cat("part ", shm::id_part(slot.id)), Cure::kFree, position};
  }
  return judge_key(position, slot, quota);
}

Verifier::Fault Verifier::judge_key(uint64_t position, const shm::Slot& slot, const Quota& quota) {
  using Cure = Fault::Cure;
  const int64_t now = engine_.clock.now();
  if (is_tentative(slot.word)) {
    const uint32_t age = tentative_age_ms(slot.word, now);
    Fault fault = judge_place(position, slot);
    if (fault.kind != nullptr || age <= kTentativeLifeMs) return fault;
    return {&kDeadTentative, cat(age, " ms old"), Cure::kFree, position};
  }
  if (is_garbage(slot.word, quota, now)) {
    // A policy that was replaced between the two readings has the later clock.
    Quota latest;
    const int64_t later = engine_.clock.now();
    if (read_part(slot.id, latest) && is_garbage(slot.word, latest, later)) {
      const Word healed = healed_word(instant(latest, later), latest);
      return {family(latest) == Family::kCounter ? &kWrappedCounter : &kImpossibleWord,
              cat("word ", hex(slot.word, 16), ", at most ", hex(healed, 16)), Cure::kHeal,
              position, healed};
    }
  }
  Fault fault = judge_place(position, slot);
  if (fault.kind == nullptr && family(quota) == Family::kCells && engine_.cells != nullptr) {
    fault = judge_cells(position, slot, quota);
  }
  return fault;
}

// The slot was seen first: whoever claimed it found reach above it, and no virgin slot before it,
// and neither can have come to be since.
Verifier::Fault Verifier::judge_place(uint64_t position, const shm::Slot& slot) {
  using Cure = Fault::Cure;
  const Known known = name_of(position, slot.id);
  if (!known.whole) return {};
  place_checked_ = true;
  const shm::Probe probe = engine_.table.probe(known.hash.low);
  const uint64_t away = distance(probe, position);
  if (away == kNowhere) return {&kUnreachable, "outside the key's window", Cure::kFree, position};
  const uint64_t in_use = engine_.table.groups_in_use();
  if (away >= in_use) {
    Fault fault{&kUnreachable, cat("group ", away, " of the window, ", in_use, " in use"),
                Cure::kReach, position};
    fault.reach = away;
    return fault;
  }
  const std::vector<uint64_t> unused = virgins_before(probe, away, position);
  if (unused.empty()) return {};
  const std::string more = unused.size() == 1 ? "" : cat(" and ", unused.size() - 1, " more");
  return {&kUnreachable, cat("behind the unused slot ", unused[0], more), Cure::kSpend, position};
}

// The virgin slots that callers meet before `position`, `away` groups from home: at most a window.
std::vector<uint64_t> Verifier::virgins_before(const shm::Probe& probe, uint64_t away,
                                               uint64_t position) const {
  std::vector<uint64_t> found;
  const uint64_t groups = engine_.segment->header().group_count;
  uint64_t group = probe.home;
  for (uint64_t n = 0; n <= away; ++n, group = (group + probe.stride) % groups) {
    for (uint64_t i = group * shm::kSlotsPerGroup; i < (group + 1) * shm::kSlotsPerGroup; ++i) {
      if (i == position) return found;
      if (engine_.table.at(i).id == shm::kVirginId) found.push_back(i);
    }
  }
  return found;
}

// All of them at once: the copy is reachable only behind the last.
bool Verifier::spend_before(uint64_t position, uint64_t id) {
  const Known known = name_of(position, id);
  if (!known.whole) return false;
  const shm::Probe probe = engine_.table.probe(known.hash.low);
  const uint64_t away = distance(probe, position);
  if (away == kNowhere) return false;
  for (const uint64_t i : virgins_before(probe, away, position)) {
    // A lost race: a claim took it.
    shm::spend<shm::HardwareAtomics>(slot_at(i), engine_.table.at(i));
  }
  return true;
}

Verifier::Fault Verifier::judge_cells(uint64_t position, const shm::Slot& slot,
                                      const Quota& quota) {
  using Cure = Fault::Cure;
  const CellFault found = judge_cells_of(engine_, position, slot, quota);
  switch (found.kind) {
    case CellFault::kNone:
      break;
    case CellFault::kBeyondIdle: {
      Fault fault{&kCellBeyondIdle,
                  cat("cell ", found.index, " ends ", found.ns, " ns after the slot"), Cure::kWord,
                  position};
      fault.word = std::min(found.value, kValueMax);
      return fault;
    }
    case CellFault::kImpossible: {
      Fault fault{&kImpossibleCell, cat("cell ", found.index, " ends ", found.ns, " ns from now"),
                  Cure::kCell, found.index};
      fault.cell = found.value;
      return fault;
    }
    case CellFault::kDeadHolder:
      return {&kDeadLease, cat("cell ", found.index, ", pid ", found.value)};
  }
  return {};
}

// Each change is one compare-and-swap of what was judged; see shm/repair.h for why each is safe.
bool Verifier::cure(uint64_t position, const shm::Slot& slot, const Fault& fault) {
  using Atomics = shm::HardwareAtomics;
  switch (fault.cure) {
    case Fault::Cure::kNone:
      return false;
    case Fault::Cure::kFree:
      if (!shm::free_slot<Atomics>(slot_at(position), slot)) return false;
      if (fault.kind == &kDeadTentative) count(shm::Event::kDropped);
      if (fault.kind == &kUnreachable) count(shm::Event::kDuplicate);
      return true;
    case Fault::Cure::kSpend:
      if (slot.id == shm::kVirginId) return shm::spend<Atomics>(slot_at(position), slot);
      return spend_before(position, slot.id);
    case Fault::Cure::kHeal:
      if (!shm::replace_word<Atomics>(slot_at(position), slot, fault.word)) return false;
      count(shm::Event::kHealed);
      return true;
    case Fault::Cure::kWord:
      return shm::replace_word<Atomics>(slot_at(position), slot, fault.word);
    case Fault::Cure::kReach:
      // As a claim would. A longer window never hides a key.
      for (uint32_t n = 0; n < shm::kMaxProbeLimit; ++n) {
        const uint64_t in_use = engine_.table.groups_in_use();
        if (in_use > fault.reach) return true;
        Atomics::raise_reach(&engine_.segment->shared()->reach, in_use - 1);
        count(shm::Event::kReachRaised);
      }
      return engine_.table.groups_in_use() > fault.reach;
    case Fault::Cure::kCell:
      return end_impossible_cell(engine_, position, slot, fault.position, fault.cell);
  }
  return false;
}

Verifier::Known Verifier::name_of(uint64_t position, uint64_t id) const {
  Known known;
  SlotName name;
  known.verified = read_slot_name(engine_, position, id, known.text, name);
  if (!known.verified || name.length != known.text.size()) return known;
  known.hash = hash_key(engine_.secret, known.text);
  known.whole = fingerprint(known.hash) == (id & shm::kFingerprintMask);
  return known;
}

uint64_t Verifier::distance(const shm::Probe& probe, uint64_t position) const {
  const shm::HeaderFields& header = engine_.segment->header();
  const uint64_t wanted = position / shm::kSlotsPerGroup;
  const uint64_t limit = std::min<uint64_t>(header.probe_limit, header.group_count);
  uint64_t group = probe.home;
  for (uint64_t n = 0; n < limit; ++n) {
    if (group == wanted) return n;
    group += probe.stride;
    if (group >= header.group_count) group -= header.group_count;
  }
  return kNowhere;
}

Finding Verifier::about_slot(const FindingKind& kind, uint64_t position, uint64_t id,
                             std::string value) {
  Finding finding = make(kind, std::move(value));
  finding.slot = position;
  if (id <= shm::kFreeId) return finding;
  finding.policy = policy_label(shm::id_policy(id));
  finding.part = shm::id_part(id);
  finding.fingerprint = id & shm::kFingerprintMask;
  Known known = name_of(position, id);
  finding.has_key = known.verified;
  if (known.verified) finding.key = std::move(known.text);
  return finding;
}

}  // namespace brim
