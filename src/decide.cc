// SPDX-License-Identifier: MIT
// The request path: key -> hash -> probe -> step -> CAS -> decision. Nothing here blocks,
// allocates, throws or makes a system call. What a policy of one plain rate does not need is in
// parts.cc.
#include <algorithm>
#include <array>
#include <limits>

#include "brim/limiter.h"
#include "src/call.h"
#include "src/engine.h"
#include "src/hot_keys.h"
#include "src/parts.h"
#include "src/route.h"

namespace brim {

namespace {

constexpr int64_t kLastTime = int64_t{1} << 59;  // a clock read there still fits a word

// Counts and tells what the call's last step decided.
template <Scope kScope>
[[gnu::always_inline]] inline Decision answer(const Engine& engine, uint16_t policy,
                                              const Call<Acquire, kScope>& call) noexcept {
  if (call.rule().cost != 0) {
    engine.counters.add(policy, call.admitted() ? PolicyCounter::kAllowed : PolicyCounter::kDenied);
  }
  return call.decision();
}

inline Target locate(const Engine& engine, uint16_t policy, std::string_view key) noexcept {
  return locate(engine, policy, 0, hash_key(engine.secret, key));
}

Decision acquire_parts(const Engine& engine, uint16_t policy, std::string_view key, uint32_t cost,
                       Priority priority, int64_t now) noexcept {
  Parts parts(engine);
  if (!parts.add(policy, key, cost, priority)) {
    count_decided(engine, policy, parts.decided());
    return parts.decided();
  }
  return cost == 0 ? parts.peek(now) : parts.acquire(now);
}

// The same, sampled.
Decision acquire_any(const Engine& engine, uint16_t policy, std::string_view key, uint32_t cost,
                     Priority priority, int64_t now) noexcept {
  const Decision decision = acquire_parts(engine, policy, key, cost, priority, now);
  if (is_sampled(now) && cost != 0 && decision.verdict != Verdict::kUnavailable) [[unlikely]] {
    sample_decision(engine, locate(engine, policy, key), decision.admitted);
  }
  return decision;
}

// What the fast path could not finish: a new key, a lost race, a corrupt word, a full table, or
// whatever is not one plain bucket. `now` becomes later where the call had to look at the clock
// itself, as an insertion does.
[[gnu::noinline]] Decision acquire_slowly(const Engine& engine, const Target& target,
                                          std::string_view key, uint32_t cost,
                                          int64_t& now) noexcept {
  Call<Acquire> call(engine, target, key, {cost});
  if (!call.begin(now)) return unavailable(Reason::kNoPolicy, true);
  if (call.extended()) {
    return acquire_any(engine, target.policy, key, cost, Priority::kNormal, now);
  }
  if (engine.read_only) return unavailable(Reason::kReadOnly, call.admits_unavailable());
  const bool sampled = is_sampled(now) && cost != 0;
  const Outcome outcome = engine.table.update(target.probe, target.id, call);
  now = std::max(now, call.now_ns());
  if (outcome == Outcome::kDecided) {
    if (sampled) sample_decision(engine, target, call.admitted());
    if (call.admitted()) count_use(engine, target, key, call.use(), cost);
    return answer(engine, target.policy, call);
  }
  engine.count(target.policy, PolicyCounter::kUnavailable);
  return undecided(engine, outcome, call);
}

// The slow path begins anew instead of taking the call over: nothing of this one is ever in
// memory then but in registers (measured: 5 to 9 ns of 30). A call that is to be sampled takes it
// too, so that here one predicted branch is all there is of that.
[[gnu::always_inline]] inline Decision acquire_word(const Engine& engine, const Target& target,
                                                    std::string_view key, uint32_t cost,
                                                    int64_t now) noexcept {
  Call<Acquire, Scope::kPlain> call(engine, target, key, {cost});
  if (!engine.read_only && !is_sampled(now) && call.begin(now) &&
      engine.table.update_at_home(target.probe, target.id, call)) [[likely]] {
    return answer(engine, target.policy, call);
  }
  return acquire_slowly(engine, target, key, cost, now);
}

// The segment is paused, or was resized.
[[gnu::noinline]] Decision acquire_elsewhere(const Engine& engine, uint16_t policy,
                                             std::string_view key, uint32_t cost, Priority priority,
                                             int64_t now) noexcept {
  Route route(engine, policy, cost != 0);
  while (route.open(key)) {
    const Engine& there = route.engine();
    const Decision decision = priority == Priority::kNormal
                                  ? acquire_word(there, locate(there, policy, key), key, cost, now)
                                  : acquire_any(there, policy, key, cost, priority, now);
    if (!there.superseded()) return decision;
  }
  return route.decided();
}

// What acquire_one() could not finish.
[[gnu::noinline]] Decision acquire_rest(const Engine& engine, const Target& target,
                                        std::string_view key, uint32_t cost,
                                        int64_t& now) noexcept {
  if (engine.flags() == 0) {
    const Decision decision = acquire_slowly(engine, target, key, cost, now);
    if (!engine.superseded()) return decision;
  }
  return acquire_elsewhere(engine, target.policy, key, cost, Priority::kNormal, now);
}

// The flags are looked at twice: a charge that is not found by whoever supersedes the table sees
// the flag afterwards, and is made in the successor as well [E6].
// `later` is told of a later clock read; see charge_word() in parts.cc.
template <class Later>
[[gnu::always_inline]] inline Decision acquire_one(const Engine& engine, const Target& target,
                                                   std::string_view key, uint32_t cost, int64_t now,
                                                   Later later) noexcept {
  Call<Acquire, Scope::kPlain> call(engine, target, key, {cost});
  if (engine.flags() == 0 && !engine.read_only && !is_sampled(now) && call.begin(now) &&
      engine.table.update_at_home(target.probe, target.id, call) && !engine.superseded())
      [[likely]] {
    return answer(engine, target.policy, call);
  }
  int64_t at = now;  // here only: what has an address is not kept in a register
  const Decision decision = acquire_rest(engine, target, key, cost, at);
  later(at);
  return decision;
}

[[gnu::always_inline]] inline Decision acquire_one(const Engine& engine, const Target& target,
                                                   std::string_view key, uint32_t cost,
                                                   int64_t now) noexcept {
  return acquire_one(engine, target, key, cost, now, [](int64_t) {});
}

Decision peek_at(const Engine& engine, uint16_t policy, std::string_view key,
                 uint32_t cost) noexcept {
  Quota quota;
  if (!read_quota(engine.registry, policy, 0, quota)) return unavailable(Reason::kNoPolicy, true);
  const int64_t now = engine.clock.now();
  if (has(quota, kExtended)) {
    Parts parts(engine);
    return parts.add(policy, key, cost, Priority::kNormal) ? parts.peek(now) : parts.decided();
  }
  Part part;
  part.target = locate(engine, policy, key);
  part.key = key;
  part.cost = cost;
  return peek_word(engine, part, now);
}

Granted acquire_up_to(const Engine& engine, uint16_t policy, std::string_view key, uint32_t min,
                      uint32_t max) noexcept {
  Granted granted;
  const Target target = locate(engine, policy, key);
  Call<AcquireUpTo> call(engine, target, key, {min, max});
  const bool known = call.begin(engine.clock.now());
  if (known && !call.extended() && !engine.read_only) {
    const Outcome outcome = engine.table.update(target.probe, target.id, call);
    if (outcome != Outcome::kDecided) {
      engine.count(policy, PolicyCounter::kUnavailable);
      granted.decision = undecided(engine, outcome, call);
      return granted;
    }
    if (call.admitted()) count_use(engine, target, key, call.use(), call.rule().cost);
    engine.count(policy, call.admitted() ? PolicyCounter::kAllowed : PolicyCounter::kDenied);
    granted.decision = call.decision();
    granted.cost = call.admitted() ? call.rule().cost : 0;
    return granted;
  }
  // Several rates: what all of them have left; a lost race looks again.
  for (int round = 0; round < 16; ++round) {
    const uint32_t left = peek_at(engine, policy, key, 0).remaining;
    const uint32_t cost = std::max(min, std::min(max, left));
    int64_t now = engine.clock.now();
    granted.decision = acquire_slowly(engine, target, key, cost, now);
    granted.cost = granted.decision.verdict == Verdict::kAllowed ? cost : 0;
    if (granted.decision.verdict != Verdict::kDenied || cost == min) break;
  }
  return granted;
}

}  // namespace

Decision PolicyHandle::try_acquire(std::string_view key, uint32_t cost) const noexcept {
  if (engine_ == nullptr) return unavailable(Reason::kNoPolicy, true);
  const Target target = locate(*engine_, number_, key);
  return acquire_one(*engine_, target, key, cost, engine_->clock.now());
}

Decision PolicyHandle::try_acquire(std::string_view key, const Request& request) const noexcept {
  if (request.priority == Priority::kNormal || engine_ == nullptr) {  // any call's class
    return try_acquire(key, request.cost);
  }
  const int64_t now = engine_->clock.now();
  if (engine_->flags() == 0) [[likely]] {
    const Decision decision =
        acquire_any(*engine_, number_, key, request.cost, request.priority, now);
    if (!engine_->superseded()) [[likely]]
      return decision;
  }
  return acquire_elsewhere(*engine_, number_, key, request.cost, request.priority, now);
}

Decision PolicyHandle::try_acquire_at(int64_t now_ns, std::string_view key,
                                      uint32_t cost) const noexcept {
  if (engine_ == nullptr) return unavailable(Reason::kNoPolicy, true);
  return acquire_one(*engine_, locate(*engine_, number_, key), key, cost,
                     std::min(now_ns, kLastTime));
}

Granted PolicyHandle::try_acquire_up_to(std::string_view key, uint32_t min,
                                        uint32_t max) const noexcept {
  Granted granted;
  if (engine_ == nullptr || min > max) {
    granted.decision = unavailable(engine_ == nullptr ? Reason::kNoPolicy : Reason::kUnsupported,
                                   engine_ == nullptr);
    return granted;
  }
  Route route(*engine_, number_);
  while (route.open(key)) {
    granted = acquire_up_to(route.engine(), number_, key, min, max);
    if (!route.engine().superseded()) return granted;
  }
  return {route.decided(), route.paused() ? max : 0};
}

void PolicyHandle::try_acquire_batch(std::span<const std::string_view> keys,
                                     std::span<Decision> out) const noexcept {
  constexpr size_t kChunk = 16;  // about as many cache misses as a core keeps in flight
  std::array<Target, kChunk> located;
  const size_t total = std::min(keys.size(), out.size());
  for (size_t start = 0; start < total; start += kChunk) {
    const size_t count = std::min(kChunk, total - start);
    if (engine_ == nullptr) {
      std::fill_n(out.begin() + static_cast<ptrdiff_t>(start), count,
                  unavailable(Reason::kNoPolicy, true));
      continue;
    }
    for (size_t i = 0; i < count; ++i) located[i] = locate(*engine_, number_, keys[start + i]);
    int64_t now = engine_->clock.now();
    for (size_t i = 0; i < count; ++i) {
      out[start + i] = acquire_one(*engine_, located[i], keys[start + i], 1, now,
                                   [&now](int64_t later) { now = later; });
    }
  }
}

Decision PolicyHandle::try_acquire_all(std::span<const Ask> asks) noexcept {
  if (asks.empty() || asks.size() > kMaxAsks) return unavailable(Reason::kUnsupported, true);
  const Engine* const engine = asks[0].policy == nullptr ? nullptr : asks[0].policy->engine_.get();
  if (engine == nullptr) return unavailable(Reason::kNoPolicy, true);
  for (const Ask& ask : asks) {
    if (ask.policy == nullptr || ask.policy->engine_.get() != engine) {
      return unavailable(Reason::kUnsupported, true);
    }
  }
  Route route(*engine, asks[0].policy->number_, false);
  const auto count = [&](PolicyCounter counter) {
    for (const Ask& ask : asks) route.engine().count(ask.policy->number_, counter);
  };
  while (route.find()) {
    const bool carried = std::all_of(asks.begin(), asks.end(), [&](const Ask& ask) {
      return route.carry(ask.policy->number_, ask.key);
    });
    if (!carried) break;
    Parts parts(route.engine());
    const bool added = std::all_of(asks.begin(), asks.end(), [&](const Ask& ask) {
      if (parts.add(ask.policy->number_, ask.key, ask.cost, Priority::kNormal)) return true;
      count_decided(route.engine(), ask.policy->number_, parts.decided());
      return false;
    });
    const Decision decision = added ? parts.acquire(route.engine().clock.now()) : parts.decided();
    if (!route.engine().superseded()) return decision;
  }
  count(route.paused() ? PolicyCounter::kPaused : PolicyCounter::kUnavailable);
  return route.decided();
}

Decision PolicyHandle::peek(std::string_view key, uint32_t cost) const noexcept {
  if (engine_ == nullptr) return unavailable(Reason::kNoPolicy, true);
  if (engine_->flags() == 0) return peek_at(*engine_, number_, key, cost);
  Route route(*engine_, number_, false);
  if (!route.find()) return route.decided();
  const Decision decision = peek_at(route.engine(), number_, key, cost);
  if (route.from() == nullptr || !decision.admitted) return decision;
  // Nothing is written, so the key may not have been carried over: then the old table knows more.
  const Decision before = peek_at(*route.from(), number_, key, cost);
  return before.admitted && before.remaining >= decision.remaining ? decision : before;
}

}  // namespace brim
