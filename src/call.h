// SPDX-License-Identifier: MIT
// What the table needs to know of one call on one rate (see shm/table.h), and the rules: what a
// call makes of a word. `general` calls also apply what the policy's options demand.
#ifndef BRIM_SRC_CALL_H_
#define BRIM_SRC_CALL_H_

#include <algorithm>
#include <limits>
#include <string_view>

#include "brim/limiter.h"
#include "shm/names.h"
#include "src/algo/step.h"
#include "src/engine.h"
#include "src/policy_words.h"
#include "src/use.h"

namespace brim {

using internal::Engine;
using shm::Event;
using shm::Outcome;
using shm::PolicyCounter;

// A caller may pass any time at all.
inline int64_t saturating_add(int64_t time, int64_t delta) noexcept {
  int64_t sum;
  if (!__builtin_add_overflow(time, delta, &sum)) return sum;
  return delta < 0 ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
}

// True for a word that no honest process can have written by now. Another process's clock may be
// ahead of ours by the skew, and a time given by its caller ahead of that by as much again.
inline bool is_garbage(Word word, const Quota& quota, int64_t now) noexcept {
  return !plausible(word, instant(quota, saturating_add(now, 2 * kClockSkewNs)), quota);
}

// A class of requests may use `percent` of the burst or limit.
inline void scale_class(Quota& quota, uint32_t percent) noexcept {
  quota.capacity = static_cast<uint64_t>(static_cast<uint128>(quota.capacity) * percent / 100);
  if (has(quota, kByDebtBefore)) return;
  quota.burst = static_cast<uint32_t>(uint64_t{quota.burst} * percent / 100);
}

// A window's limit under a warm-up or factor: at least 1 unless the factor is 0. While a warm-up
// lasts, a cost above it will pass later; a factor stays until somebody changes it.
inline void scale_limit(Quota& quota, int64_t now) noexcept {
  const uint64_t gone = ns_since(quota.warp.start_ns, now);
  const uint64_t ppm = rate_ppm(gone, quota.warp);
  const auto scaled = static_cast<uint64_t>(static_cast<uint128>(quota.capacity) * ppm / kWholePpm);
  quota.capacity = std::max<uint64_t>(scaled, quota.warp.factor_ppm == 0 ? 0 : 1);
  if (gone >= quota.warp.ramp_ns) {
    quota.burst = static_cast<uint32_t>(std::min<uint64_t>(quota.burst, quota.capacity));
  }
}

// The rate as a request of this class meets it.
inline void apply_options(Quota& quota, uint64_t options, Priority priority, int64_t now) noexcept {
  if (has(quota, kScaled)) scale_limit(quota, now);
  const uint32_t percent = class_share(options_from_word(options), priority);
  if (percent != 100) scale_class(quota, percent);
}

// Several permits or none.
struct Acquire {
  uint32_t cost;
  [[gnu::always_inline]] Step operator()(Word word, const Instant& at,
                                         const Quota& quota) const noexcept {
    return step(word, at, quota, cost);
  }
};

// As many as there are from `min` to `max`.
struct AcquireUpTo {
  uint32_t min;
  uint32_t max;
  uint32_t cost = 0;  // what the last step asked for
  Step operator()(Word word, const Instant& at, const Quota& quota) noexcept {
    cost = std::max(min, std::min(max, available(word, at, quota)));
    return step(word, at, quota, cost);
  }
};

// A start at most max_delay_ns from now. Buckets only.
struct Reserve {
  uint32_t cost;
  int64_t max_delay_ns;
  bool too_late = false;
  Step operator()(Word word, const Instant& at, const Quota& quota) noexcept {
    too_late = false;
    if (cost == 0 || cost > quota.burst) return {word, cost == 0};
    const Word next = at.v + gcra::debt_units(word, at.v) + gcra::cost_units(quota, cost);
    const bool fits = has(quota, kByDebtBefore) ? gcra::next_word(word, at.v, quota, cost) != word
                                                : next - at.v <= quota.capacity_max;
    too_late = !fits || delay_ns(next, at, quota) > max_delay_ns;
    return too_late ? Step{word, false} : Step{next, true};
  }
  int64_t delay_ns(Word next, const Instant& at, const Quota& quota) const noexcept {
    if (cost == 0) return 0;  // nothing is booked: there is no start to wait for
    return ns_until(quota, at.now_ns, gcra::start_reading(next, at.v, quota, cost));
  }
  // ns until the booking of `word` that is too late now would be in time.
  int64_t retry_ns(Word word, const Instant& at, const Quota& quota) const noexcept {
    const uint64_t debt = gcra::debt_units(word, at.v);
    const uint64_t units = gcra::cost_units(quota, cost);
    const bool before = has(quota, kByDebtBefore);
    const uint64_t most = before ? quota.capacity : quota.capacity_max;
    const uint64_t asked = before ? debt : debt + units;
    const int64_t fits = asked > most ? ns_until(quota, at.now_ns, at.v + (asked - most)) : 0;
    const int64_t delay = delay_ns(at.v + debt + units, at, quota);
    return std::max(fits, delay > max_delay_ns ? delay - max_delay_ns : 0);
  }
};

struct Refund {
  uint32_t cost;
  Step operator()(Word word, const Instant& at, const Quota& quota) const noexcept {
    return {refund(word, at, quota, cost), true};
  }
};

// A charge is made undone.
struct Undo {
  static constexpr bool kClockAfterWord = true;
  uint32_t cost;
  Receipt receipt;
  Step operator()(Word word, const Instant& at, const Quota& quota) const noexcept {
    return {undo(word, receipt, at, quota, cost), true};
  }
};

// A refund if the booking that ended at `end` can still be given back.
struct Cancel {
  uint32_t cost;
  uint64_t end;
  Step operator()(Word word, const Instant& at, const Quota& quota) const noexcept {
    return {word >= end ? refund(word, at, quota, cost) : word, true};
  }
};

// Takes permits without asking.
struct Charge {
  uint32_t cost;
  Step operator()(Word word, const Instant& at, const Quota& quota) const noexcept {
    return {charge(word, at, quota, cost), true};
  }
};

struct Reset {
  uint32_t cost = 0;
  Step operator()(Word word, const Instant& at, const Quota& quota) const noexcept {
    return {debt(word, at, quota) == 0 ? word : kEmptyWord, true};
  }
};

// One more refusal of a key that bans are kept for.
struct CountRefusal {
  uint32_t cost = 0;
  Step operator()(Word word, const Instant& at, const Quota& quota) const noexcept {
    return {ban::refused_word(word, at.now_ns, quota), true};
  }
};

// The key of a window log or of leases gets its slot, and holds it for `span_ns` from now. A slot
// that it has already is not touched: a refusal writes nothing.
struct HoldSlot {
  uint64_t span_ns;
  uint32_t cost = 0;
  Step operator()(Word word, const Instant& at, const Quota&) const noexcept {
    const uint64_t now = static_cast<uint64_t>(std::max<int64_t>(at.now_ns, 0));
    return {word == kEmptyWord ? shm::idle_word(now + span_ns, span_ns) : word, true};
  }
};

// For a rule's member `cut`: of the key only the beginning is at hand. Length 0: it is whole.
struct CutKey {
  uint64_t length = 0;
  uint64_t place = 0;
};

// Which slot a call is about.
struct Target {
  uint16_t policy = 0;
  uint8_t part = 0;
  Priority priority = Priority::kCritical;  // the class of the request
  uint64_t id = 0;
  shm::Probe probe = {};
};

// What a call takes into account.
enum class Scope : uint8_t {
  kPlain,    // a bucket without any flag; begin() is false for others, all branches for them fold
  kAny,      // any rate that needs no options
  kGeneral,  // what the policy's options demand of the rate, too
};

template <class Rule, Scope kScope = Scope::kAny>
class Call {
 public:
  Call(const Engine& engine, const Target& target, std::string_view key, Rule rule) noexcept
      : engine_(&engine), key_(key), target_(target), rule_(rule) {}

  // Reads the policy, after the clock: an old slope is never applied to a later time. False if
  // there is no such policy; nothing else may be called then.
  [[gnu::always_inline]] bool begin(int64_t now) noexcept {
    constexpr bool kPlain = kScope == Scope::kPlain;
    if (!read<kPlain>(quota_)) [[unlikely]]
      return false;
    if constexpr (kScope == Scope::kPlain) {
      constexpr auto kSpecial = static_cast<uint16_t>(~kDenyIfUnavailable);
      if (has(quota_, kSpecial) || family(quota_) != Family::kBucket) return false;
      quota_.flags = 0;
      quota_.algorithm = static_cast<uint8_t>(Algorithm::kGcra);
    }
    adjust(now);
    at_ = instant(quota_, now);
    return true;
  }

  [[gnu::always_inline]] Word step(Word word) noexcept {
    word_ = word;
    if constexpr (requires { Rule::kClockAfterWord; }) refresh();
    step_ = rule_(word, at_, quota_);
    return step_.next;
  }

  [[gnu::always_inline]] bool plausible(Word word) const noexcept {
    return brim::plausible(word, at_, quota_);
  }

  // A word no honest process can have written is brought down; judged by a fresh clock.
  Word ceiling(Word word) noexcept {
    if (plausible(word)) return word;
    refresh();
    return is_garbage(word, quota_, at_.now_ns) ? healed_word(at_, quota_) : word;
  }

  void refresh() noexcept {
    const int64_t now = engine_->clock.now();
    Quota changed;
    if (read<false>(changed)) {
      quota_ = changed;
      adjust(now);
    }
    at_ = instant(quota_, now);
  }

  int64_t now_ns() const noexcept { return at_.now_ns; }

  // Judged at the time that the slowest clock may still show, so that no process re-admits a burst
  // that another one's reclaim forgot.
  uint64_t debt(const shm::Slot& slot, uint64_t position) noexcept {
    constexpr uint64_t kMostEvictable = ~uint64_t{0} - 1;
    const uint16_t number = shm::id_policy(slot.id);
    Quota quota;
    if (!read_quota(engine_->registry, number, shm::id_part(slot.id), quota)) {
      return engine_->registry.version(number) == 0 ? 0 : kMostEvictable;
    }
    // Judged again by a clock read after the word: to a call that was stopped every newer word
    // looks impossible.
    if (is_garbage(slot.word, quota, at_.now_ns) &&
        is_garbage(slot.word, quota, engine_->clock.now())) [[unlikely]] {
      return 0;
    }
    const Instant then = instant(quota, saturating_add(at_.now_ns, -kClockSkewNs));
    uint64_t owed = brim::debt(slot.word, then, quota);
    if (owed == shm::kAwaitsTelling) ++owed;
    if (owed == 0 && has(quota, kShared) && awaits_telling(*engine_, slot, position, then, quota)) {
      owed = shm::kAwaitsTelling;
    }
    // Cells stay where they are: their slot is not given away while any is live.
    const bool pinned = owed != 0 && family(quota) == Family::kCells;
    pinned_ = pinned_ || pinned;
    return pinned ? ~uint64_t{0} : std::min(owed, kMostEvictable);
  }

  Word tentative() noexcept { return engine_->segment->next_tentative(at_.now_ns); }

  void name(uint64_t slot) noexcept {
    shm::NameEntry* const entry = engine_->segment->name_entry(slot);
    if (entry == nullptr) return;
    const size_t room = engine_->segment->header().name_bytes;
    if constexpr (requires { rule_.cut; }) {
      if (rule_.cut.length > key_.size()) return name_cut(entry, room);
    }
    const std::string_view text = key_.substr(0, shm::kept_bytes(key_.size(), room));
    const uint64_t place = key_.size() > room ? hash_key(engine_->secret, key_).low : 0;
    shm::store_name(entry, room, text, key_.size(), place,
                    name_check(engine_->secret, target_.id, key_.size(), place, text));
  }

  // Where more of the text would have to be kept than there is, the slot has no name.
  void name_cut(shm::NameEntry* entry, size_t room) noexcept {
    const CutKey& cut = rule_.cut;
    const std::string_view text = key_.substr(0, shm::kept_bytes(cut.length, room));
    if (cut.length <= room || text.size() != shm::kept_bytes(cut.length, room)) return;
    shm::store_name(entry, room, text, cut.length, cut.place,
                    name_check(engine_->secret, target_.id, cut.length, cut.place, text));
  }

  // The last step's word is in slot i.
  void charged(uint64_t i) noexcept {
    if constexpr (kScope != Scope::kPlain) slot_ = i;
  }
  // What the last step has used, if the rate is shared with other nodes. Not counted yet: whoever
  // answers the request counts it, by count_use().
  Use use() const noexcept {
    if (slot_ == kNoSlot || !has(quota_, kShared)) return {};
    return {slot_, gcra::debt_units(step_.next, at_.v) > quota_.capacity / 2};
  }

  void count(Event event) noexcept { engine_->counters.add(event); }
  void evicted(const shm::Slot& slot) noexcept {
    const uint16_t number = shm::id_policy(slot.id);
    if (number < engine_->registry.size()) engine_->counters.add(number, PolicyCounter::kEvicted);
  }

  bool extended() const noexcept { return has(quota_, kExtended); }
  bool admitted() const noexcept { return step_.admitted; }
  bool changed() const noexcept { return step_.next != word_; }
  bool pinned() const noexcept { return pinned_; }
  Word word() const noexcept { return word_; }
  Word next() const noexcept { return step_.next; }
  const Rule& rule() const noexcept { return rule_; }
  const Quota& quota() const noexcept { return quota_; }
  const Instant& at() const noexcept { return at_; }
  // Permits by which the last step raised the debt; debts are rounded up.
  uint64_t taken() const noexcept {
    const uint64_t before = brim::debt(word_, at_, quota_);
    const uint64_t after = brim::debt(step_.next, at_, quota_);
    return after > before ? (after - before + 1) >> 20 : 0;
  }
  // Whole permits by which the last step lowered the debt.
  uint32_t given_back() const noexcept {
    const uint64_t before = brim::debt(word_, at_, quota_);
    const uint64_t after = brim::debt(step_.next, at_, quota_);
    return before > after ? static_cast<uint32_t>((before - after) >> 20) : 0;
  }
  [[gnu::always_inline]] Decision decision() const noexcept {
    return decide(word_, step_, at_, quota_, rule_.cost);
  }
  bool admits_unavailable() const noexcept { return !has(quota_, kDenyIfUnavailable); }

 private:
  [[gnu::always_inline]] void adjust(int64_t now) noexcept {
    if constexpr (kScope == Scope::kGeneral) {
      apply_options(quota_, options_, target_.priority, now);
    }
  }

  // The rate and, with kGeneral, the options of the same version of the policy.
  template <bool kPlain>
  [[gnu::always_inline]] bool read(Quota& quota) noexcept {
    return read_quota<kPlain>(engine_->registry, target_.policy, target_.part, quota,
                              kScope == Scope::kGeneral ? &options_ : nullptr);
  }

  const Engine* engine_;
  std::string_view key_;
  Target target_;
  Rule rule_;
  bool pinned_ = false;
  uint64_t slot_ = kNoSlot;
  Quota quota_;
  Instant at_;
  uint64_t options_ = 0;
  Word word_ = kEmptyWord;
  Step step_ = {kEmptyWord, false};
};

inline Decision unavailable(Reason reason, bool admitted) noexcept {
  Decision result;
  result.verdict = Verdict::kUnavailable;
  result.reason = reason;
  result.admitted = admitted;
  return result;
}

// What a call answers that found no slot or lost too many races.
template <class AnyCall>
Decision undecided(const Engine& engine, Outcome outcome, const AnyCall& call) noexcept {
  if (outcome == Outcome::kFull || call.pinned()) {
    return unavailable(Reason::kFull, outcome == Outcome::kFull
                                          ? engine.segment->header().on_full == shm::kOnFullAllow
                                          : call.admits_unavailable());
  }
  return unavailable(Reason::kContended, call.admits_unavailable());
}

// The slot of one rate for a key; its home group is on its way into the cache.
inline Target locate(const Engine& engine, uint16_t policy, uint32_t part,
                     const Hash128& hash) noexcept {
  Target target;
  target.policy = policy;
  target.part = static_cast<uint8_t>(part);
  target.id = shm::make_id(policy, fingerprint(hash), part);
  target.probe = engine.table.probe(hash.low);
  engine.table.prefetch(target.probe);
  return target;
}

}  // namespace brim

#endif  // BRIM_SRC_CALL_H_
