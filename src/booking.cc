// SPDX-License-Identifier: MIT
// Bookings ahead of time, and the call that waits.
#include <time.h>

#include <algorithm>
#include <cerrno>

#include "brim/limiter.h"
#include "src/call.h"
#include "src/parts.h"
#include "src/route.h"

namespace brim {

namespace {

// True if the policy is one bucket or queue: its word can hold a start in the future.
bool can_book(const Engine& engine, uint16_t policy) noexcept {
  Quota quota;
  PolicyOptions options;
  return read_quota(engine.registry, policy, 0, quota) && family(quota) == Family::kBucket &&
         read_options(engine, policy, options) && options.rates == 1 && !options.strict;
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

Ticket book(const Engine& engine, uint16_t policy, std::string_view key, uint32_t cost,
            int64_t max_delay_ns) noexcept {
  Ticket ticket;
  if (!can_book(engine, policy)) {
    ticket.decision = unavailable(Reason::kUnsupported, false);
    return ticket;
  }
  const int64_t now = engine.clock.now();
  Parts parts(engine);
  if (!parts.add(policy, key, cost, Priority::kNormal) || parts.size() != 1 ||
      parts[0].family != Family::kBucket || parts.strict()) {
    ticket.decision =
        parts.size() == 0 ? parts.decided() : unavailable(Reason::kUnsupported, false);
    if (ticket.decision.reason == Reason::kBarred) {
      count_decided(engine, policy, ticket.decision);
    }
    return ticket;
  }
  if (engine.read_only) {
    ticket.decision = parts.read_only();
    return ticket;
  }
  if (parts.any_barred(now)) {
    ticket.decision = parts.decided();
    return ticket;
  }
  const Target target = parts[0].target;
  Call<Reserve, Scope::kGeneral> call(
      engine, target, key,
      {cost, std::clamp<int64_t>(max_delay_ns, 0, furthest(engine, target.policy))});
  if (!call.begin(now)) {
    ticket.decision = unavailable(Reason::kNoPolicy, true);
    return ticket;
  }
  const Outcome outcome = engine.table.update(target.probe, target.id, call);
  if (outcome != Outcome::kDecided) {
    engine.count(policy, PolicyCounter::kUnavailable);
    ticket.decision = undecided(engine, outcome, call);
    return ticket;
  }
  if (!call.admitted()) {
    ticket.decision = parts.refuse_booking(refused_booking(call), now);
    return ticket;
  }
  count_use(engine, target, key, call.use(), cost);
  engine.count(policy, PolicyCounter::kAllowed);
  ticket.decision = call.decision();
  ticket.decision.delay_ns = call.rule().delay_ns(call.next(), call.at(), call.quota());
  ticket.end = call.next();
  ticket.cost = cost;
  return ticket;
}

// `tells`: other nodes hear of it; not of what another table tells.
bool give_back(const Engine& engine, uint16_t policy, std::string_view key, const Ticket& ticket,
               bool tells) noexcept {
  if (engine.read_only) return false;
  Parts parts(engine);
  if (!parts.add(policy, key, ticket.cost, Priority::kCritical, false) || parts.size() != 1) {
    return false;
  }
  const Target target = parts[0].target;
  Call<Cancel, Scope::kGeneral> call(engine, target, key, {ticket.cost, ticket.end});
  if (!call.begin(engine.clock.now()) ||
      engine.table.update(target.probe, target.id, call) != Outcome::kDecided || !call.changed()) {
    return false;
  }
  if (tells) count_use(engine, target, key, call.use(), -int64_t{call.given_back()});
  engine.count(policy, PolicyCounter::kRefunded, call.given_back());
  return true;
}

}  // namespace

Ticket PolicyHandle::reserve(std::string_view key, uint32_t cost,
                             int64_t max_delay_ns) const noexcept {
  Ticket ticket;
  if (engine_ == nullptr) {
    ticket.decision = unavailable(Reason::kNoPolicy, true);
    return ticket;
  }
  Route route(*engine_, number_);
  while (route.open(key)) {
    ticket = book(route.engine(), number_, key, cost, max_delay_ns);
    if (!route.engine().superseded()) return ticket;
  }
  ticket = {};
  ticket.decision = route.decided();
  return ticket;
}

bool PolicyHandle::cancel(std::string_view key, const Ticket& ticket) const noexcept {
  if (engine_ == nullptr || !ticket || ticket.cost == 0) return false;
  Route route(*engine_, number_, false);
  if (!route.find() && !route.paused()) return false;
  if (!route.carry(number_, key)) return false;
  if (route.from() != nullptr) give_back(*route.from(), number_, key, ticket, false);
  return give_back(route.engine(), number_, key, ticket, true);
}

Decision PolicyHandle::acquire(std::string_view key, int64_t timeout_ns,
                               uint32_t cost) const noexcept {
  if (engine_ == nullptr || timeout_ns <= 0) return try_acquire(key, cost);
  const Clock& clock = engine_->clock;
  const int64_t deadline = saturating_add(clock.now(), timeout_ns);
  while (can_book(engine_->current(), number_)) {
    const int64_t now = clock.now();
    const int64_t left = deadline == kNever ? kNever : std::max<int64_t>(deadline - now, 0);
    const Ticket ticket = reserve(key, cost, left);
    const Reason reason = ticket.decision.reason;
    if (reason == Reason::kUnsupported) break;  // an override leads to a policy without bookings
    if (ticket) {
      // From a reading after the booking's: never before one's place.
      if (ticket.decision.delay_ns > 0) {
        sleep_until(clock, saturating_add(clock.now(), ticket.decision.delay_ns));
      }
      return ticket.decision;
    }
    if (reason != Reason::kTooLate && reason != Reason::kBarred) return ticket.decision;
    // Too late for the caller, or only for how far ahead the policy lets anyone book?
    const int64_t start = peek(key, cost).retry_after_ns;
    const int64_t wait = std::max<int64_t>(ticket.decision.retry_after_ns, 1);
    if (start == kNever || std::max(start, wait) > left) return ticket.decision;
    sleep_until(clock, saturating_add(now, wait));
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
