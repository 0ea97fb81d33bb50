// SPDX-License-Identifier: MIT
// Bookings ahead of time, and the call that waits.
#include <time.h>

#include <algorithm>
#include <cerrno>

#include "brim/limiter.h"
#include "src/call.h"
#include "src/parts.h"

namespace brim {

namespace {

// True if the policy is one bucket or queue: its word can hold a start in the future.
bool can_book(const Engine& engine, uint16_t policy) noexcept {
  Quota quota;
  PolicyOptions options;
  return read_quota(engine.registry, policy, 0, quota) && family(quota) == Family::kBucket &&
         read_options(engine, policy, options) && options.rates == 1;
}

// How far ahead the policy lets anyone book, in ns. A queue's own length is its bound.
int64_t furthest(const Engine& engine, uint16_t policy) noexcept {
  Quota quota;
  if (!read_quota(engine.registry, policy, 0, quota)) return 0;
  if (has(quota, kByDebtBefore)) return kNever;
  const uint64_t version = engine.registry.version(policy);
  return static_cast<int64_t>(engine.registry.word(policy, version, kWordAhead) & kMaxPeriodMask);
}

// Sleeps until the limiter's clock shows `until`.
void sleep_until(const Clock& clock, int64_t until) noexcept {
  if (clock.is_manual()) {  // whoever turns it wakes nobody
    constexpr timespec kTick = {0, 1000000};
    while (clock.now() < until) nanosleep(&kTick, nullptr);
    return;
  }
  const timespec at = {until / 1000000000, until % 1000000000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) == EINTR) {
  }
}

Decision refused_booking(const Call<Reserve, Scope::kGeneral>& call) noexcept {
  Decision decision = call.decision();
  if (!call.rule().too_late) return decision;
  decision.retry_after_ns = call.rule().retry_ns(call.word(), call.at(), call.quota());
  decision.verdict = Verdict::kDenied;
  decision.admitted = false;
  decision.delay_ns = 0;
  decision.reason = Reason::kTooLate;
  return decision;
}

}  // namespace

Ticket PolicyHandle::reserve(std::string_view key, uint32_t cost,
                             int64_t max_delay_ns) const noexcept {
  Ticket ticket;
  if (engine_ == nullptr || !can_book(*engine_, number_)) {
    ticket.decision = unavailable(engine_ == nullptr ? Reason::kNoPolicy : Reason::kUnsupported,
                                  engine_ == nullptr);
    return ticket;
  }
  const int64_t now = engine_->clock.now();
  Parts parts(*engine_);
  if (!parts.add(number_, key, cost, Priority::kNormal) || parts.size() != 1 ||
      parts[0].family != Family::kBucket) {
    ticket.decision =
        parts.size() == 0 ? parts.decided() : unavailable(Reason::kUnsupported, false);
    if (ticket.decision.reason == Reason::kBarred) {
      count_decided(*engine_, number_, ticket.decision);
    }
    return ticket;
  }
  if (engine_->read_only) {
    ticket.decision = parts.read_only();
    return ticket;
  }
  if (parts.any_barred(now)) {
    ticket.decision = parts.decided();
    return ticket;
  }
  const Target target = parts[0].target;
  Call<Reserve, Scope::kGeneral> call(
      *engine_, target, key,
      {cost, std::clamp<int64_t>(max_delay_ns, 0, furthest(*engine_, target.policy))});
  if (!call.begin(now)) {
    ticket.decision = unavailable(Reason::kNoPolicy, true);
    return ticket;
  }
  const Outcome outcome = engine_->table.update(target.probe, target.id, call);
  if (outcome != Outcome::kDecided) {
    engine_->count(number_, PolicyCounter::kUnavailable);
    ticket.decision = undecided(*engine_, outcome, call);
    return ticket;
  }
  if (!call.admitted()) {
    ticket.decision = parts.refuse_booking(refused_booking(call), now);
    return ticket;
  }
  engine_->count(number_, PolicyCounter::kAllowed);
  ticket.decision = call.decision();
  ticket.decision.delay_ns = call.rule().delay_ns(call.next(), call.at(), call.quota());
  ticket.end = call.next();
  ticket.cost = cost;
  return ticket;
}

bool PolicyHandle::cancel(std::string_view key, const Ticket& ticket) const noexcept {
  if (engine_ == nullptr || engine_->read_only || !ticket || ticket.cost == 0) return false;
  Parts parts(*engine_);
  if (!parts.add(number_, key, ticket.cost, Priority::kCritical, false) || parts.size() != 1) {
    return false;
  }
  const Target target = parts[0].target;
  Call<Cancel, Scope::kGeneral> call(*engine_, target, key, {ticket.cost, ticket.end});
  if (!call.begin(engine_->clock.now()) ||
      engine_->table.update(target.probe, target.id, call) != Outcome::kDecided ||
      !call.changed()) {
    return false;
  }
  engine_->count(number_, PolicyCounter::kRefunded, call.given_back());
  return true;
}

Decision PolicyHandle::acquire(std::string_view key, int64_t timeout_ns,
                               uint32_t cost) const noexcept {
  if (engine_ == nullptr || timeout_ns <= 0) return try_acquire(key, cost);
  const int64_t start = engine_->clock.now();
  const int64_t deadline = saturating_add(start, timeout_ns);
  if (can_book(*engine_, number_)) {
    const Ticket ticket = reserve(key, cost, timeout_ns);
    if (ticket && ticket.decision.delay_ns > 0) {
      // From a reading after the booking's: never before one's place.
      sleep_until(engine_->clock, saturating_add(engine_->clock.now(), ticket.decision.delay_ns));
    }
    // An override may lead to a policy that has no bookings.
    if (ticket.decision.reason != Reason::kUnsupported) return ticket.decision;
  }
  for (;;) {
    const Decision decision = try_acquire(key, cost);
    if (decision.verdict != Verdict::kDenied || decision.admitted) return decision;
    const int64_t wait = std::max<int64_t>(decision.retry_after_ns, 1);
    const int64_t again = saturating_add(engine_->clock.now(), wait);
    if (decision.retry_after_ns == kNever || again > deadline) return decision;
    sleep_until(engine_->clock, again);
  }
}

}  // namespace brim
