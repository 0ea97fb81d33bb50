// SPDX-License-Identifier: MIT
// Two verified copies of one id in one window (I1), over the whole table.
//
// Needs 16 bytes for each key in use, or reads the slots several times and compares a share of the
// ids each time.
#include <algorithm>

#include "src/algo/stricter.h"
#include "src/call.h"
#include "src/verify.h"

namespace brim {

namespace {

constexpr FindingKind kDuplicate = {
    Severity::kError, "duplicate",
    "callers use the first copy; --repair moves what the later one owes there and frees it"};
constexpr FindingKind kSuspect = {
    Severity::kWarning, "suspect_copy",
    "two slots have one fingerprint and their keys' names are not known in whole: probably one key "
    "twice; --repair frees one once it is idle"};
constexpr FindingKind kNotCompared = {Severity::kNote, "not_compared",
                                      "run it again when fewer slots hold the same bytes"};

constexpr size_t kMaxCopies = 4096;  // of one id; the rest is reported as not compared

struct Copy {
  uint64_t id;
  uint64_t position;
};

// Which share of the ids is compared in which pass.
uint64_t pass_of(uint64_t id, uint64_t passes) {
  return static_cast<uint64_t>((static_cast<uint128>(id * 0x9e3779b97f4a7c15) * passes) >> 64);
}

bool is_copy(const shm::Slot& slot) {
  return (slot.id & shm::kFingerprintMask) > shm::kFreeId && !is_tentative(slot.word);
}

// What merge_copies() asks.
class MergeRule {
 public:
  MergeRule(const internal::Engine& engine, uint64_t id) : engine_(&engine), id_(id) { refresh(); }

  // The clock first, so that an old slope is never applied to a later time.
  void refresh() {
    const int64_t now = engine_->clock.now();
    Quota quota;
    known_ = read_quota(engine_->registry, shm::id_policy(id_), shm::id_part(id_), quota);
    if (known_) quota_ = quota;
    now_ = now;
    at_ = instant(quota_, now);
  }
  // Of a policy that is replaced over and over nothing is known; of none nothing is owed.
  bool idle(Word word) const {
    if (!known_) return engine_->registry.version(shm::id_policy(id_)) == 0;
    return debt(word, instant(quota_, saturating_add(now_, -kClockSkewNs)), quota_) == 0;
  }
  bool movable() const { return known_ && family(quota_) != Family::kCells; }
  Word healed(Word word) const {
    return known_ && is_garbage(word, quota_, now_) ? healed_word(at_, quota_) : word;
  }
  Word stricter(Word a, Word b) const { return brim::stricter(a, b, at_, quota_); }

 private:
  const internal::Engine* engine_;
  uint64_t id_;
  Quota quota_{};
  bool known_ = false;  // quota_ is the policy's
  int64_t now_ = 0;
  Instant at_{};
};

}  // namespace

void Verifier::check_copies() {
  const uint64_t room = std::max<uint64_t>(options_.memory_bytes / sizeof(Copy), 1024);
  const uint64_t passes =
      report_.used + report_.used / 4 >= room ? report_.used / (room / 2) + 1 : 1;
  std::vector<Copy> copies;
  copies.reserve(std::min(room, report_.used / passes * 9 / 8 + 1024));
  for (uint64_t pass = 0; pass < passes; ++pass) {
    copies.clear();
    for (uint64_t i = 0; i < engine_.table.slot_count(); ++i) {
      const shm::Slot slot = engine_.table.at(i);
      if (!is_copy(slot) || pass_of(slot.id, passes) != pass) continue;
      if (copies.size() == room) {
        report(make(kNotCompared, cat("slots from ", i, " in pass ", pass, " of ", passes)));
        break;
      }
      copies.push_back({slot.id, i});
    }
    std::sort(copies.begin(), copies.end(), [](const Copy& a, const Copy& b) {
      return a.id != b.id ? a.id < b.id : a.position < b.position;
    });
    for (size_t i = 0, end = 0; i < copies.size(); i = end) {
      for (end = i + 1; end < copies.size() && copies[end].id == copies[i].id;) ++end;
      if (end - i == 1) continue;
      std::vector<uint64_t> positions;
      for (size_t n = i; n < std::min(end, i + kMaxCopies); ++n) {
        positions.push_back(copies[n].position);
      }
      if (end - i > kMaxCopies) {
        report(
            make(kNotCompared, cat(end - i - kMaxCopies, " copies of id ", hex(copies[i].id, 16))));
      }
      compare_copies(copies[i].id, positions);
    }
  }
}

// A whole name gives the window, and so the order in which callers meet the copies in it. Whose
// name says that it is another key's does not count. Two copies with the key's name are proven to
// be its; one without a name only beside another in its group, see compare_unnamed().
void Verifier::compare_copies(uint64_t id, const std::vector<uint64_t>& positions) {
  struct Place {
    uint64_t order;
    uint64_t position;
    bool whole;
    Hash128 hash;  // of the whole name: two keys of one hash are one key to callers
  };
  std::vector<Place> left;
  for (const uint64_t position : positions) {
    const Known known = name_of(position, id);
    left.push_back({0, position, known.whole, known.hash});
  }
  const auto whole = [](const Place& place) { return place.whole; };
  // Each round ends one name, with all that have it.
  for (auto at = left.begin();
       (at = std::find_if(left.begin(), left.end(), whole)) != left.end();) {
    const Hash128 hash = at->hash;
    const shm::Probe probe = engine_.table.probe(hash.low);
    const uint64_t in_use = engine_.table.groups_in_use();
    std::vector<Place> same;
    std::vector<Place> rest;
    for (Place place : left) {
      const bool own = place.whole && place.hash.low == hash.low && place.hash.high == hash.high;
      const uint64_t away = place.whole && !own ? kNowhere : distance(probe, place.position);
      place.order = away * shm::kSlotsPerGroup + place.position % shm::kSlotsPerGroup;
      if (away < in_use) {
        same.push_back(place);
      } else if (!own) {
        rest.push_back(place);
      }
    }
    std::sort(same.begin(), same.end(),
              [](const Place& a, const Place& b) { return a.order < b.order; });
    const auto first = std::find_if(same.begin(), same.end(), whole);
    if (first == same.end()) {  // callers of the key find none of its own
      rest.insert(rest.end(), same.begin(), same.end());
      same.clear();
    }
    std::vector<uint64_t> others;
    for (auto place = same.begin(); place != same.end(); ++place) {
      if (place > first && place->whole) {
        report_copies(id, first->position, place->position, true);
      } else {
        others.push_back(place->position);
      }
    }
    compare_unnamed(id, others);
    left = std::move(rest);
  }
  std::vector<uint64_t> unnamed;
  for (const Place& place : left) unnamed.push_back(place.position);
  std::sort(unnamed.begin(), unnamed.end());
  compare_unnamed(id, unnamed);
}

// Two copies in one group: whichever key's window has the group has both, so they break I1, and
// callers meet the lower one first. Otherwise nobody knows whether they share a window. By chance
// two of n keys have one id with probability n^2 / 2^50 per policy. The copies of a group follow
// each other in `positions`.
void Verifier::compare_unnamed(uint64_t id, const std::vector<uint64_t>& positions) {
  std::vector<uint64_t> heads;  // the first of each group
  for (const uint64_t position : positions) {
    if (!heads.empty() && heads.back() / shm::kSlotsPerGroup == position / shm::kSlotsPerGroup) {
      report_copies(id, heads.back(), position, true);
    } else {
      heads.push_back(position);
    }
  }
  // Last, as a repair may free the first of the two.
  for (size_t i = 1; i < heads.size(); ++i) report_copies(id, heads[0], heads[i], false);
}

// Looks at the two slots in turn, many times, a few nanoseconds apart. If a slot holds the copy at
// two of its looks that follow each other and held it all the time between, then both were there
// at the look at the other slot that lies between the two. So a false answer needs the key to leave
// and return to each slot between every two looks at it: with each move an eviction and a whole
// insertion of hundreds of nanoseconds, in every one of 64 gaps.
bool Verifier::both_there(uint64_t id, uint64_t first, uint64_t later) const {
  for (int look = 0; look < 32; ++look) {
    for (const uint64_t position : {first, later}) {
      const shm::Slot slot = engine_.table.at(position);
      if (slot.id != id || is_tentative(slot.word)) return false;
    }
  }
  return true;
}

void Verifier::report_copies(uint64_t id, uint64_t first, uint64_t later, bool proven) {
  if (!both_there(id, first, later)) return;
  Finding finding = about_slot(proven ? kDuplicate : kSuspect, later, id,
                               cat("the first copy is in slot ", first));
  if (options_.repair && proven) {
    MergeRule rule(engine_, id);
    const shm::Merged merged =
        shm::merge_copies<shm::HardwareAtomics>(slot_at(first), slot_at(later), id, rule);
    if (merged == shm::Merged::kAlone) return;  // it ended by itself
    finding.repaired = merged == shm::Merged::kDropped;
    if (merged == shm::Merged::kPinned)
      finding.value += "; its cells are in force: run again later";
  } else if (options_.repair) {
    // Which one callers use is not known. An idle one may go whichever it is: any key may take it.
    for (const uint64_t position : {later, first}) {
      const shm::Slot slot = engine_.table.at(position);
      if (slot.id != id || is_tentative(slot.word)) return;
      const MergeRule rule(engine_, id);
      if (!rule.idle(slot.word)) continue;
      finding.repaired = shm::free_slot<shm::HardwareAtomics>(slot_at(position), slot);
      if (finding.repaired) break;
    }
    if (!finding.repaired) finding.value += "; both may be in use: run again later";
  }
  if (finding.repaired) count(shm::Event::kDuplicate);
  report(finding);
}

}  // namespace brim
