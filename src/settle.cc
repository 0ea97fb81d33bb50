// SPDX-License-Identifier: MIT
// What was charged is given back, or was more than asked for.
#include <algorithm>
#include <limits>

#include "brim/limiter.h"
#include "src/call.h"
#include "src/parts.h"
#include "src/route.h"
#include "src/strict.h"

namespace brim {

namespace {

// Whether other nodes hear of what is given back: of a key that two tables know, once.
enum class Told : uint8_t { kYes, kElsewhere };

// Lowers what the key owes under each rate of the policy, words by `rule` and logs by up to
// `from_log` permits. Returns whether there was any.
template <class Rule>
bool give_back(const Engine& engine, uint16_t policy, Parts& parts, Rule rule, uint32_t from_log,
               Told told) noexcept {
  bool any = false;
  uint32_t permits = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const Part& part = parts[i];
    if (part.family == Family::kCells) {
      const uint32_t given = refund_log(engine, part, from_log);
      any = any || given != 0;
      permits = std::max(permits, given);
      continue;
    }
    Call<Rule, Scope::kGeneral> call(engine, part.target, part.key, rule);
    if (!call.begin(engine.clock.now())) continue;
    if (engine.table.update(part.target.probe, part.target.id, call) != Outcome::kDecided) {
      engine.count(policy, PolicyCounter::kUnavailable);
      continue;
    }
    if (!call.changed()) continue;
    any = true;
    permits = std::max(permits, call.given_back());
    if (told == Told::kElsewhere) continue;
    count_use(engine, part.target, part.key, call.use(), -int64_t{call.given_back()});
  }
  if (any) engine.count(policy, PolicyCounter::kRefunded, permits);
  return any;
}

}  // namespace

bool charge_more(const Engine& engine, Part& part, uint32_t more) noexcept {
  const int64_t now = engine.clock.now();
  if (part.family == Family::kCells) {  // a log holds no more than its limit: it takes what fits
    const uint32_t left = peek_log(engine, part, now).remaining;
    part.cost = std::min(left, more);
    return charge_log(engine, part, now).admitted && left >= more;
  }
  Call<Charge, Scope::kGeneral> call(engine, part.target, part.key, {more});
  if (!call.begin(now)) return false;
  if (engine.table.update(part.target.probe, part.target.id, call) != Outcome::kDecided) {
    engine.count(part.target.policy, PolicyCounter::kUnavailable);
    return false;
  }
  count_use(engine, part.target, part.key, call.use(), static_cast<int64_t>(call.taken()));
  return call.taken() >= more;
}

bool lift_ban(const Engine& engine, uint16_t policy, std::string_view key) noexcept {
  const Target target = locate(engine, policy, kBanPart, hash_key(engine.secret, key));
  Call<Reset, Scope::kGeneral> call(engine, target, key, {});
  return call.begin(engine.clock.now()) && call.quota().algorithm == kBanAlgorithm &&
         engine.table.update(target.probe, target.id, call) == Outcome::kDecided && call.changed();
}

namespace {

bool refund_at(const Engine& engine, uint16_t policy, std::string_view key, uint32_t cost,
               Told told = Told::kYes) noexcept {
  if (engine.read_only) return false;
  Parts parts(engine);
  if (!parts.add(policy, key, cost, Priority::kCritical, false)) return false;
  if (told == Told::kYes) tell_cluster(engine, parts, key, cost, 0);
  return give_back(engine, policy, parts, Refund{cost}, cost, told);
}

bool reset_at(const Engine& engine, uint16_t policy, std::string_view key,
              Told told = Told::kYes) noexcept {
  if (engine.read_only) return false;
  constexpr uint32_t kAll = std::numeric_limits<uint32_t>::max();
  Parts parts(engine);
  bool any = parts.add(policy, key, 0, Priority::kCritical, false);
  if (any && told == Told::kYes) tell_cluster(engine, parts, key, kAll, 0);
  any = any && give_back(engine, policy, parts, Reset{}, kAll, told);
  any = lift_ban(engine, policy, key) || any;
  if (parts.size() != 0 && parts.followed() != policy) {
    any = lift_ban(engine, parts.followed(), key) || any;
  }
  return any;
}

bool charge_at(const Engine& engine, uint16_t policy, std::string_view key,
               uint32_t more) noexcept {
  Parts parts(engine);
  if (engine.read_only || !parts.add(policy, key, more, Priority::kCritical, false)) return false;
  bool whole = tell_cluster(engine, parts, key, 0, more);
  for (size_t i = 0; i < parts.size(); ++i) {
    whole = charge_more(engine, parts[i], more) && whole;
  }
  return whole;
}

}  // namespace

// What of the key has to be given back in the table that a resize is emptying, so that it is not
// carried over once more. The key has been carried before: so none of it is given back twice.
bool PolicyHandle::refund(std::string_view key, uint32_t cost) const noexcept {
  if (engine_ == nullptr) return false;
  Route route(*engine_, number_, false);
  if (!route.open(key)) return false;
  if (route.from() != nullptr) refund_at(*route.from(), number_, key, cost, Told::kElsewhere);
  return refund_at(route.engine(), number_, key, cost);
}

bool PolicyHandle::reset(std::string_view key) const noexcept {
  if (engine_ == nullptr) return false;
  Route route(*engine_, number_, false);
  if (!route.find() && !route.paused()) return false;
  if (!route.carry(number_, key)) return false;
  const bool before =
      route.from() != nullptr && reset_at(*route.from(), number_, key, Told::kElsewhere);
  return reset_at(route.engine(), number_, key) || before;
}

bool PolicyHandle::commit(std::string_view key, uint32_t held, uint32_t actual) const noexcept {
  if (engine_ == nullptr || engine_->read_only) return false;
  if (actual == held) return true;
  Route route(*engine_, number_, false);
  while (route.open(key)) {
    if (actual < held) return refund(key, held - actual);
    const bool whole = charge_at(route.engine(), number_, key, actual - held);
    if (!route.engine().superseded()) return whole;
  }
  return route.paused();  // nothing is to be settled then
}

}  // namespace brim
