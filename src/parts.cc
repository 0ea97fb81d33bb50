// SPDX-License-Identifier: MIT
#include "src/parts.h"

#include <algorithm>
#include <limits>
#include <memory>

#include "src/overrides.h"

namespace brim {

namespace {

// `now` becomes later where the call had to look at the clock itself: an insertion does. The parts
// after it must not be judged by an earlier time than what it wrote, which they may share.
Decision charge_word(const Engine& engine, Part& part, int64_t& now) noexcept {
  Call<Acquire, Scope::kGeneral> call(engine, part.target, part.key, {part.cost});
  if (!call.begin(now)) return unavailable(Reason::kNoPolicy, true);
  const Outcome outcome = engine.table.update(part.target.probe, part.target.id, call);
  now = std::max(now, call.now_ns());
  part.receipt = {call.next(), call.at().v};
  part.use = call.use();
  return outcome == Outcome::kDecided ? call.decision() : undecided(engine, outcome, call);
}

void undo_word(const Engine& engine, const Part& part) noexcept {
  Call<Undo, Scope::kGeneral> call(engine, part.target, part.key, {part.cost, part.receipt});
  if (!call.begin(engine.clock.now())) return;
  // An undo that can not be done leaves the permits charged: stricter, and counted.
  if (engine.table.update(part.target.probe, part.target.id, call) != Outcome::kDecided) {
    engine.count(part.target.policy, PolicyCounter::kUnavailable);
  }
}

// Takes what both say: the tighter of two answers that admit.
void merge(Decision& whole, const Decision& one, uint8_t label) noexcept {
  whole.reset_after_ns = std::max(whole.reset_after_ns, one.reset_after_ns);
  whole.delay_ns = std::max(whole.delay_ns, one.delay_ns);
  if (one.remaining > whole.remaining) return;
  whole.remaining = one.remaining;
  whole.part = label;
}

}  // namespace

bool read_options(const Engine& engine, uint16_t policy, PolicyOptions& options) noexcept {
  for (int tries = 0; tries < 64; ++tries) {
    const uint64_t version = engine.registry.version(policy);
    if (version == 0) return false;
    const uint64_t word = engine.registry.word(policy, version, kOptionWords);
    if (!engine.registry.still_at(policy, version)) continue;
    options = options_from_word(word);
    return true;
  }
  return false;
}

Decision refuse_always() noexcept {
  Decision decision;
  decision.reason = Reason::kBlocked;
  decision.retry_after_ns = kNever;
  return decision;
}

Decision refuse_barred(int64_t left_ns) noexcept {
  Decision decision;
  decision.reason = Reason::kBarred;
  decision.retry_after_ns = left_ns;
  decision.reset_after_ns = left_ns;
  return decision;
}

void count_decided(const Engine& engine, uint16_t policy, const Decision& decision) noexcept {
  if (decision.verdict == Verdict::kUnavailable) {
    return engine.count(policy, PolicyCounter::kUnavailable);
  }
  if (decision.reason == Reason::kBarred) engine.count(policy, PolicyCounter::kBarred);
  engine.count(policy, PolicyCounter::kDenied);
}

Decision admit_uncounted() noexcept {
  Decision decision;
  decision.verdict = Verdict::kAllowed;
  decision.reason = Reason::kExempt;
  decision.admitted = true;
  decision.remaining = std::numeric_limits<uint32_t>::max();
  return decision;
}

Decision peek_word(const Engine& engine, const Part& part, int64_t now) noexcept {
  Call<Acquire, Scope::kGeneral> call(engine, part.target, part.key, {part.cost});
  if (!call.begin(now)) return unavailable(Reason::kNoPolicy, true);
  shm::Slot slot;
  const bool found =
      engine.table.find(part.target.probe, part.target.id, slot) != engine.table.slot_count();
  Word word = found ? slot.word : kEmptyWord;
  if (!call.plausible(word)) word = call.ceiling(word);
  call.step(word);
  return call.decision();
}

bool Parts::decide_now(const Decision& decision) noexcept {
  decided_ = decision;
  return false;
}

// True if the ask is subject to `options` of ask.followed; false if an override decides it.
bool Parts::follow_override(Asked& ask, PolicyOptions& options, bool asks) noexcept {
  const OverrideUse use = find_override(*engine_, ask.policy, ask.key, ask.hash);
  switch (use.kind) {
    case OverrideKind::kNone:
      return true;
    case OverrideKind::kPolicy:
      ask.followed = use.policy;
      return read_options(*engine_, use.policy, options) ||
             decide_now(unavailable(Reason::kNoPolicy, true));
    case OverrideKind::kUnlimited:
      return decide_now(admit_uncounted());
    case OverrideKind::kBan:
      return !asks || decide_now(refuse_barred(use.left_ns));
    case OverrideKind::kDeny:
      break;
  }
  return decide_now(refuse_always());
}

bool Parts::add(uint16_t policy, std::string_view key, uint32_t cost, Priority priority,
                bool asks) noexcept {
  PolicyOptions options;
  if (asked_count_ == PolicyHandle::kMaxAsks || !read_options(*engine_, policy, options)) {
    return decide_now(unavailable(Reason::kNoPolicy, true));
  }
  Asked& ask = *std::construct_at(
      &asked_[asked_count_],
      Asked{policy, policy, true, false, false, false, hash_key(engine_->secret, key), key, {}});
  const auto label = static_cast<uint8_t>(asked_count_++);
  if (options.overrides && !follow_override(ask, options, asks)) {
    // An exempt key leaves the other asks as they are.
    if (decided_.reason != Reason::kBarred) engine_->count(policy, PolicyCounter::kExempt);
    decided_.part = label;
    return decided_.reason == Reason::kExempt;
  }
  ask.bans = options.bans;
  ask.strict = options.strict;
  ask.enforced = is_enforced(options, ask.hash);
  for (uint32_t i = 0; i < options.rates; ++i) {
    Quota quota;
    if (!read_quota(engine_->registry, ask.followed, i, quota)) {
      return decide_now(unavailable(Reason::kNoPolicy, true));
    }
    if (quota.algorithm == static_cast<uint8_t>(Algorithm::kUnlimited)) {
      decided_ = admit_uncounted();
      continue;
    }
    const bool stopped = has(quota, kWarped | kScaled) && quota.warp.factor_ppm == 0;
    if ((stopped && asks) || quota.algorithm == static_cast<uint8_t>(Algorithm::kDeny)) {
      decided_ = refuse_always();
      decided_.part = label;
      if (ask.enforced) return false;
      ask.shadowed = true;
      ask.refusal = decided_;
      decided_.reason = Reason::kShadow;
      decided_.admitted = true;
      continue;
    }
    if (size_ == kMost || quota.algorithm == static_cast<uint8_t>(Algorithm::kConcurrency)) {
      return decide_now(unavailable(Reason::kUnsupported, false));
    }
    Part& part = *std::construct_at(&parts_[size_++]);
    part.target = locate(*engine_, ask.followed, i, ask.hash);
    part.target.priority = priority;
    part.key = ask.key;
    part.cost = cost;
    part.ask = label;
    part.family = family(quota);
  }
  return true;
}

bool Parts::any_barred(int64_t now) noexcept {
  Decision longest;
  for (size_t i = 0; i < asked_count_; ++i) {
    if (!asked_[i].enforced || !barred(asked_[i], now)) continue;
    engine_->count(asked_[i].policy, PolicyCounter::kBarred);
    if (decided_.retry_after_ns <= longest.retry_after_ns) continue;
    longest = decided_;
    longest.part = static_cast<uint8_t>(asked_count_ > 1 ? i : 0);
  }
  if (longest.reason != Reason::kBarred) return false;
  decided_ = longest;
  count_all(PolicyCounter::kDenied);
  return true;
}

Decision Parts::refuse_booking(Decision answer, int64_t now) noexcept {
  if (asked_[0].enforced) return refused(answer, now);
  count_all(PolicyCounter::kShadowDenied);
  answer.reason = Reason::kShadow;
  answer.admitted = true;
  return answer;
}

// True if the key is banned: decided() then holds the answer.
bool Parts::barred(const Asked& ask, int64_t now) noexcept {
  if (!ask.bans) return false;
  Quota quota;
  if (!read_quota(engine_->registry, ask.followed, kBanPart, quota)) return false;
  const Target target = locate(*engine_, ask.followed, kBanPart, ask.hash);
  shm::Slot slot;
  if (engine_->table.find(target.probe, target.id, slot) == engine_->table.slot_count()) {
    return false;
  }
  if (is_garbage(slot.word, quota, engine_->clock.now())) return false;
  const int64_t left = ban::barred_for(slot.word, now, quota);
  if (left == 0) return false;
  decided_ = refuse_barred(left);
  return true;
}

// ns for which the key is banned by it; 0 if it is not.
int64_t Parts::count_refusal(const Asked& ask, int64_t now) noexcept {
  if (!ask.bans || !ask.enforced) return 0;
  const Target target = locate(*engine_, ask.followed, kBanPart, ask.hash);
  Call<CountRefusal, Scope::kGeneral> call(*engine_, target, ask.key, {});
  if (!call.begin(now) ||
      engine_->table.update(target.probe, target.id, call) != Outcome::kDecided) {
    return 0;
  }
  return ban::barred_for(call.next(), call.now_ns(), call.quota());
}

// Looks at every part. True: all that are enforced admit; asks refused in shadow are marked. False:
// `answer` is the refusal, or why there is none.
bool Parts::survey(int64_t now, Decision& answer) noexcept {
  bool refuses = false;
  for (size_t i = 0; i < size_; ++i) {
    Part& part = parts_[i];
    part.answer = part.family == Family::kCells ? peek_log(*engine_, part, now)
                                                : peek_word(*engine_, part, now);
    if (part.answer.verdict == Verdict::kUnavailable) {
      answer = part.answer;
      return false;
    }
    if (part.answer.verdict == Verdict::kAllowed) continue;
    if (!asked_[part.ask].enforced) {
      refuse_in_shadow(i, part.answer);
      continue;
    }
    if (!refuses || part.answer.retry_after_ns > answer.retry_after_ns) {
      answer = part.answer;
      answer.part = label(i);
    }
    refuses = true;
  }
  return !refuses;
}

// Of the refusals of one ask the longest wait counts.
void Parts::refuse_in_shadow(size_t part, const Decision& one) noexcept {
  Asked& ask = asked_[parts_[part].ask];
  if (ask.shadowed && ask.refusal.retry_after_ns >= one.retry_after_ns) return;
  ask.shadowed = true;
  ask.refusal = one;
  ask.refusal.part = label(part);
}

// Rates that count refused calls are charged by them.
void Parts::count_denied(int64_t now) noexcept {
  for (size_t i = 0; i < size_; ++i) {
    const Target& target = parts_[i].target;
    Quota quota;
    if ((parts_[i].family == Family::kWindow || parts_[i].family == Family::kCounter) &&
        read_quota(engine_->registry, target.policy, target.part, quota) &&
        has(quota, kCountDenied)) {
      charge_word(*engine_, parts_[i], now);
    }
  }
}

void Parts::undo(size_t i) noexcept {
  Part& part = parts_[i];
  if (!part.charged) return;
  part.charged = false;
  part.family == Family::kCells ? undo_log(*engine_, part) : undo_word(*engine_, part);
}

// Charges the parts in order; what a late refusal makes void is given back.
Decision Parts::charge(int64_t now) noexcept {
  for (size_t i = 0; i < size_; ++i) {
    Part& part = parts_[i];
    const Asked& ask = asked_[part.ask];
    if (ask.shadowed) continue;
    part.answer = part.family == Family::kCells ? charge_log(*engine_, part, now)
                                                : charge_word(*engine_, part, now);
    part.charged = part.answer.verdict == Verdict::kAllowed;
    if (part.charged) continue;
    const bool shadow = part.answer.verdict == Verdict::kDenied && !ask.enforced;
    for (size_t j = i; j-- > 0;) {
      if (!shadow || parts_[j].ask == part.ask) undo(j);
    }
    if (shadow) {
      refuse_in_shadow(i, part.answer);
      continue;
    }
    Decision answer = part.answer;
    answer.part = label(i);
    return answer;
  }
  for (size_t i = 0; i < size_; ++i) {
    const Part& part = parts_[i];
    if (part.charged) count_use(*engine_, part.target, part.key, part.use, part.cost);
  }
  return admitted(true);
}

// The answer when nobody who is enforced refuses. `writes`: what was charged counts, else all.
Decision Parts::admitted(bool writes) noexcept {
  Decision whole;
  whole.verdict = Verdict::kAllowed;
  whole.admitted = true;
  whole.remaining = std::numeric_limits<uint32_t>::max();
  for (size_t i = 0; i < size_; ++i) {
    if (writes ? parts_[i].charged : !asked_[parts_[i].ask].shadowed) {
      merge(whole, parts_[i].answer, label(i));
    }
  }
  for (size_t i = asked_count_; i-- > 0;) {
    if (!asked_[i].shadowed) continue;
    const int64_t delay = whole.delay_ns;
    whole = asked_[i].refusal;
    whole.delay_ns = delay;
    whole.reason = Reason::kShadow;
    whole.admitted = true;
  }
  return whole;
}

Decision Parts::read_only() const noexcept {
  Quota quota;
  const Target& first = parts_[0].target;
  const bool known = read_quota(engine_->registry, first.policy, first.part, quota);
  return unavailable(Reason::kReadOnly, !known || !has(quota, kDenyIfUnavailable));
}

void Parts::count_all(PolicyCounter counter) const noexcept {
  for (size_t i = 0; i < asked_count_; ++i) engine_->count(asked_[i].policy, counter);
}

// A refusal by the policies: bans count it, shadow admits it.
Decision Parts::refused(Decision answer, int64_t now) noexcept {
  count_all(PolicyCounter::kDenied);
  for (size_t i = 0; i < asked_count_; ++i) {
    const bool binding = asked_count_ == 1 || answer.part == i;
    const int64_t ban = binding ? count_refusal(asked_[i], now) : 0;
    answer.retry_after_ns = std::max(answer.retry_after_ns, ban);
  }
  return answer;
}

Decision Parts::acquire(int64_t now) noexcept {
  if (!engine_->read_only && any_barred(now)) return decided_;
  if (size_ == 0) {  // nothing but exempt keys, and those refused in shadow
    for (size_t i = 0; i < asked_count_; ++i) {
      if (asked_[i].shadowed) engine_->count(asked_[i].policy, PolicyCounter::kShadowDenied);
    }
    return decided_;
  }
  if (engine_->read_only) return read_only();
  const bool any_strict =
      std::any_of(asked_, asked_ + asked_count_, [](const Asked& ask) { return ask.strict; });
  if (any_strict && asked_count_ > 1) {  // nobody could undo what the store has admitted
    count_all(PolicyCounter::kUnavailable);
    return unavailable(Reason::kUnsupported, false);
  }
  if (any_strict) now = std::max(now, engine_->clock.now());  // a batch's calls before it waited
  Decision answer;
  const bool direct =
      size_ == 1 && asked_count_ == 1 && asked_[0].enforced && !any_strict;  // one compare-and-swap
  const bool surveyed = direct || survey(now, answer);
  if (surveyed) answer = asked_[0].strict ? ask_cluster(now) : charge(now);
  if (answer.verdict == Verdict::kUnavailable) {
    count_all(PolicyCounter::kUnavailable);
    return answer;
  }
  if (!answer.admitted) {
    if (!surveyed) count_denied(now);
    return refused(answer, now);
  }
  for (size_t i = 0; i < asked_count_; ++i) {
    engine_->count(asked_[i].policy,
                   asked_[i].shadowed ? PolicyCounter::kShadowDenied : PolicyCounter::kAllowed);
  }
  return answer;
}

Decision Parts::peek(int64_t now) noexcept {
  for (size_t i = 0; i < asked_count_; ++i) {
    if (asked_[i].enforced && barred(asked_[i], now)) return decided_;
  }
  if (size_ == 0) return decided_;
  Decision refusal;
  return survey(now, refusal) ? admitted(false) : refusal;
}

}  // namespace brim
