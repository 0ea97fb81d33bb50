// SPDX-License-Identifier: MIT
#include "src/strict.h"

#include <algorithm>

#include "brim/cluster.h"
#include "src/base/no_cancel.h"
#include "src/terms.h"

namespace brim {

namespace {

StrictDecider* decider_of(const Engine& engine) noexcept {
  for (const Engine* one = &engine; one != nullptr; one = one->predecessor()) {
    void* const found = one->segment->companion.load(std::memory_order_acquire);
    if (found != nullptr) return static_cast<StrictDecider*>(found);
  }
  return nullptr;
}

// What the store must know of the parts of one policy and key.
struct Asking {
  StrictDecider::Ask ask;
  RateTerms terms[kMaxRates];
  uint64_t owed[kMaxRates] = {};
  Quota quotas[kMaxRates];
};

// The rate as the request of this class meets it, and its terms.
bool read_terms(const Engine& engine, const Target& target, int64_t now, Quota& quota,
                RateTerms& terms) noexcept {
  uint64_t options = 0;
  if (!read_quota(engine.registry, target.policy, target.part, quota, &options)) return false;
  if (family(quota) != Family::kBucket) return false;
  terms = terms_of(quota);
  Quota scaled = quota;
  apply_options(scaled, options, target.priority, now);
  terms.capacity_units = static_cast<uint64_t>(
      (static_cast<uint128>(scaled.capacity) * terms.permit_units) >> (quota.shift & 63));
  return true;
}

bool prepare(const Engine& engine, StrictDecider& decider, Parts& parts, std::string_view key,
             Asking& out) noexcept {
  uint64_t secret[2];
  if (!engine.consumption.kept()) return false;
  if (!engine.consumption.secret(secret) &&
      !(decider.agree() && engine.consumption.secret(secret))) {
    return false;
  }
  out.ask.policy = engine.registry.stored_name(parts.followed());
  out.ask.identity = shared_identity(secret, key);
  out.ask.key = key;
  out.ask.rates = std::min(parts.size(), kMaxRates);
  out.ask.terms = out.terms;
  out.ask.owed_units = out.owed;
  const int64_t now = engine.clock.now();
  for (size_t i = 0; i < out.ask.rates; ++i) {
    const Target& target = parts[i].target;
    if (!read_terms(engine, target, now, out.quotas[i], out.terms[i])) return false;
    shm::Slot slot;
    const bool found =
        engine.table.find(target.probe, target.id, slot) != engine.table.slot_count();
    const uint64_t debt = found ? gcra::debt_units(slot.word, token_clock(out.quotas[i], now)) : 0;
    out.owed[i] =
        to_exchanged(std::min(debt, out.quotas[i].capacity_max), out.quotas[i], out.terms[i]);
  }
  return true;
}

// pthread_cancel() waits until the store has answered, or is given up.
StrictDecider::Answer ask(StrictDecider& decider, const StrictDecider::Ask& ask) noexcept {
  const NoCancel whole;
  return decider.ask(ask);
}

void count_call(const Engine& engine, bool known) noexcept {
  if (engine.read_only || !engine.consumption.kept()) return;
  shm::TierBoard* const board = engine.consumption.board();
  // Killed here: a statistic misses one.
  BRIM_STORE_POINT();
  (known ? board->strict_calls : board->strict_errors).fetch_add(1, std::memory_order_relaxed);
}

// The store's answer is kept in the words, so that later refusals need no asking. Returns for how
// long the request has to wait, in a queue: behind all that the cluster owed before it.
int64_t raise(const Engine& engine, const Part& part, const Asking& asking, size_t i,
              const StrictDecider::Answer& answer) noexcept {
  const uint64_t units = from_exchanged(answer.level_units[i], asking.quotas[i], asking.terms[i]);
  const uint32_t used = answer.admitted ? asking.ask.cost : 0;
  Call<RaiseTo, Scope::kGeneral> call(engine, part.target, part.key,
                                      {units, answer.as_of_ns, used});
  if (units == 0 || !call.begin(engine.clock.now())) return 0;
  engine.table.update(part.target.probe, part.target.id, call);
  if (!has(call.quota(), kByDebtBefore)) return 0;
  const Instant& at = call.at();
  const Word told = token_clock(call.quota(), std::min(answer.as_of_ns, at.now_ns)) + units;
  const Word behind = has(call.quota(), kWarped) ? std::max(told, call.next()) : told;
  return ns_until(call.quota(), at.now_ns, gcra::start_reading(behind, at.v, call.quota(), used));
}

}  // namespace

// The store could not be asked. What on-unavailable admits is charged here, so that each node by
// itself keeps to the limit meanwhile.
Decision Parts::without_cluster() noexcept {
  Quota first;
  const bool known = read_quota(engine_->registry, parts_[0].target.policy, 0, first);
  const Decision decision =
      unavailable(Reason::kTierUnavailable, !known || !has(first, kDenyIfUnavailable));
  for (size_t i = 0; i < size_ && decision.admitted; ++i) {
    charge_more(*engine_, parts_[i], parts_[i].cost);
  }
  return decision;
}

// REQUIRES: one ask, surveyed.
Decision Parts::ask_cluster(int64_t now) noexcept {
  if (asked_[0].shadowed) return admitted(true);
  StrictDecider* const decider = decider_of(*engine_);
  Asking asking;
  if (decider == nullptr || !prepare(*engine_, *decider, *this, asked_[0].key, asking)) {
    return without_cluster();
  }
  asking.ask.cost = parts_[0].cost;
  const StrictDecider::Answer answer = ask(*decider, asking.ask);
  count_call(*engine_, answer.known);
  if (!answer.known) return without_cluster();
  now = std::max(now, engine_->clock.now());
  for (size_t i = 0; i < asking.ask.rates; ++i) {
    const int64_t delay = raise(*engine_, parts_[i], asking, i, answer);
    Part after = parts_[i];
    after.cost = 0;  // what is left, the request's permits being charged
    parts_[i].answer = peek_word(*engine_, after, now);
    parts_[i].answer.delay_ns = delay;
    parts_[i].charged = answer.admitted;
  }
  if (answer.admitted) return admitted(true);
  Decision refusal;
  if (survey(now, refusal)) {  // the word, rounded, would just admit
    refusal = asked_[0].shadowed ? asked_[0].refusal : Decision{};
    refusal.retry_after_ns = std::max<int64_t>(refusal.retry_after_ns, 1);
    if (!asked_[0].enforced) {
      if (!asked_[0].shadowed) refuse_in_shadow(0, refusal);
      return admitted(true);
    }
  }
  refusal.verdict = Verdict::kDenied;
  return refusal;
}

bool tell_cluster(const Engine& engine, Parts& parts, std::string_view key, uint32_t given_back,
                  uint32_t charged) noexcept {
  PolicyOptions options;
  if (parts.size() == 0 || !read_options(engine, parts.followed(), options) || !options.strict) {
    return true;
  }
  StrictDecider* const decider = decider_of(engine);
  Asking asking;
  if (decider == nullptr || !prepare(engine, *decider, parts, key, asking)) return false;
  asking.ask.cost = 0;
  asking.ask.given_back = given_back;
  asking.ask.charged = charged;
  const bool known = ask(*decider, asking.ask).known;
  count_call(engine, known);
  return known;
}

}  // namespace brim
