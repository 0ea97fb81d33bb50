// SPDX-License-Identifier: MIT
#include "tests/sim/library_ghost.h"

#include <algorithm>
#include <cstring>

#include "src/parts.h"

namespace brim::sim {

const char* const kKeyNames[kMostKeys] = {"alice", "bob", "2001:db8::7"};

void LibraryGhost::reset(const Plan& plan, const Engine& engine, const uint16_t* numbers) {
  const Totals kept = totals;
  const auto clear = [](auto& array) { std::memset(&array, 0, sizeof(array)); };
  totals = kept;
  plan_ = &plan;
  engine_ = &engine;
  std::copy_n(numbers, kMostPolicies, number_);
  clear(begun_), clear(done_), clear(use_), clear(use_begun_), clear(use_done_);
  clear(charged_), clear(admitted_), clear(refunded_), clear(killed_), clear(killed_back_);
  clear(over_), clear(booked_), clear(tries_), clear(refusals_), clear(barred_until_);
  clear(priorities_), clear(current_);
  call_count_ = active_ = lease_count_ = admission_count_ = 0;
  serial_ = 0;
  uint64_t ids = plan.workers + 1;
  for (uint32_t p = 0; p < plan.policies; ++p) {
    ids +=
        uint64_t{plan.keys} * (plan.policy[p].rate_count + (plan.policy[p].ban_after != 0 ? 1 : 0));
  }
  may_fill_ = ids >= engine.table.slot_count();
}

void LibraryGhost::version_begins(uint32_t policy, const shm::PolicyWords& words) {
  if (begun_[policy] + 1 == kMostVersions) world.fail("harness: too many versions");
  versions_[policy][++begun_[policy]] = words;
  if (engine_->registry.version(number_[policy]) == 0) {  // the first
    begun_[policy] = done_[policy] = 0;
    versions_[policy][0] = words;
  }
}

const shm::PolicyWords* LibraryGhost::any_version(uint32_t policy, const shm::PolicyWords& words,
                                                  uint32_t oldest) const {
  for (uint32_t v = oldest; v <= begun_[policy]; ++v) {
    if (versions_[policy][v] == words) return &versions_[policy][v];
  }
  return nullptr;
}

void LibraryGhost::use_begins(uint32_t policy, uint32_t key, OverrideState state) {
  use_[policy][key][++use_begun_[policy][key]] = state;
}

Quota LibraryGhost::effective(uint32_t policy, uint32_t version, uint32_t part,
                              Priority priority) const {
  const shm::PolicyWords& words = versions_[policy][version];
  Quota quota = quota_from(words, part);
  if (has(quota, kScaled)) scale_limit(quota, engine_->clock.now());
  const PolicyOptions options = options_from_word(words[kOptionWords]);
  const auto index = static_cast<uint32_t>(priority);
  const uint32_t percent = index < 3 ? options.class_percent[index] : 100;
  if (percent != 100) scale_class(quota, percent);
  return quota;
}

uint64_t LibraryGhost::most_permits(uint32_t policy, uint32_t part) const {
  uint64_t most = 0;
  for (uint32_t v = 0; v <= begun_[policy]; ++v) {
    for (uint32_t priority = 0; priority < 4; ++priority) {
      if ((priorities_[policy] >> priority & 1) == 0) continue;
      const Quota quota = effective(policy, v, part, static_cast<Priority>(priority));
      // Judged by what was owed before: the last one may go beyond it by all of its cost.
      most = std::max(most, capacity_of(quota) + (by_debt(quota) ? 3 : 0));
    }
  }
  return most;
}

bool LibraryGhost::may_be_stopped(uint32_t policy, uint32_t oldest) const {
  for (uint32_t v = oldest; v <= begun_[policy]; ++v) {
    if (versions_[policy][v][kWordFactor] == 0) return true;
  }
  return false;
}

int64_t LibraryGhost::slack(uint32_t policy, uint32_t key, uint32_t part) const {
  return family(quota_from(versions_[policy][0], part)) == Family::kCells ? refunded_[policy][key]
                                                                          : 0;
}

bool LibraryGhost::possible(uint32_t policy, uint32_t key, uint32_t oldest,
                            OverrideState state) const {
  for (uint32_t u = oldest; u <= use_begun_[policy][key]; ++u) {
    if (use_[policy][key][u] == state) return true;
  }
  return false;
}

bool LibraryGhost::ambiguous(const CallRecord& call, uint32_t i) const {
  const AskPlan& ask = call.ask[i];
  return use_begun_[ask.policy][ask.key] != 0;
}

CallRecord& LibraryGhost::begin(Kind kind, const char* name, const AskPlan* asks, uint32_t count,
                                Priority priority) {
  if (call_count_ == kMostCalls) world.fail("harness: too many calls");
  CallRecord& call = calls_[call_count_++];
  call = {};
  call.kind = kind;
  call.name = name;
  call.asks = count;
  call.priority = priority;
  std::copy_n(asks, count, call.ask);
  call.begin = engine_->clock.now();
  call.serial = ++serial_;
  call.alone = active_++ == 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t p = asks[i].policy;
    const uint32_t k = asks[i].key;
    call.oldest[i] = done_[p];
    call.oldest_use[i] = use_done_[p][k];
    if (kind == Kind::kAcquire) {
      ++tries_[p][k];
      priorities_[p] |= 1u << static_cast<uint32_t>(priority);
      const PolicyPlan& policy = plan_->policy[p];
      if (policy.ban_after != 0 && !may_fill_ && !policy.shadow) {
        call.refused_enough[i] = plan_->frozen && refusals_[p][k] >= policy.ban_after;
        call.barred_until[i] = barred_until_[p][k];
      }
    }
    if (kind == Kind::kGiveBack) {
      admitted_[p][k] -= asks[i].cost;
      refunded_[p][k] += asks[i].cost;
    }
  }
  if (world.tracing()) {
    for (uint32_t i = 0; i < count; ++i) {
      world.trace("%s policy %u key %u cost %u class %u", name, asks[i].policy, asks[i].key,
                  asks[i].cost, static_cast<uint32_t>(priority));
    }
  }
  world.set_op(nullptr, &call.points);
  current_[world.running()] = &call;
  return call;
}

void LibraryGhost::count_points(const CallRecord& call) {
  totals.most_points = std::max(totals.most_points, call.points);
}

void LibraryGhost::end_other(CallRecord& call) {
  static uint64_t idle;
  world.set_op(nullptr, &idle);
  current_[world.running()] = nullptr;
  call.end = engine_->clock.now();
  call.finished = true;
  call.alone = call.alone && call.serial == serial_;
  ++serial_;  // a call that began before this one ends was not alone
  --active_;
  ++totals.calls;
  count_points(call);
  if (call.kind != Kind::kGiveBack) return;
  ++totals.refunds;
  for (uint32_t i = 0; i < call.asks; ++i) {
    charged_[call.ask[i].policy][call.ask[i].key] -= call.ask[i].cost;
  }
}

void LibraryGhost::check_unavailable(const CallRecord& call, const Decision& decision) {
  if (decision.reason == Reason::kFull) ++totals.full;
  if (decision.reason == Reason::kContended) ++totals.contended;
  if ((decision.reason == Reason::kFull || decision.reason == Reason::kContended) && may_fill_) {
    return;
  }
  world.fail("%s: unavailable for reason %u, and the table can not be full", call.name,
             static_cast<uint32_t>(decision.reason));
}

// Nobody else called meanwhile, so what was charged is known, and the answer follows.
void LibraryGhost::check_alone(const CallRecord& call, const Decision& decision) {
  if (!call.alone || !plan_->frozen || call.asks != 1 || plan_->policy[call.ask[0].policy].shadow ||
      plan_->overrides || may_fill_) {
    return;
  }
  const AskPlan& ask = call.ask[0];
  if (over_[ask.policy][ask.key] != 0 || decision.reason == Reason::kBarred) return;
  ++totals.alone;
  const auto before = static_cast<uint64_t>(charged_[ask.policy][ask.key]);
  bool may_admit = true;
  bool may_refuse = false;
  for (uint32_t i = 0; i < rates(ask.policy); ++i) {
    if (slack(ask.policy, ask.key, i) != 0) return;
    bool one_admits = false;
    for (uint32_t v = call.oldest[0]; v <= begun_[ask.policy]; ++v) {
      const bool admitted = admits(effective(ask.policy, v, i, call.priority), before, ask.cost);
      one_admits = one_admits || admitted;
      may_refuse = may_refuse || !admitted;
    }
    may_admit = may_admit && one_admits;
  }
  const bool admitted = decision.verdict == Verdict::kAllowed;
  if (admitted ? may_admit : may_refuse) return;
  world.fail("%s: policy %u key %u cost %u with %llu charged was %s by no version of the policy",
             call.name, ask.policy, ask.key, ask.cost, static_cast<unsigned long long>(before),
             admitted ? "admitted" : "refused");
}

void LibraryGhost::check_ban(const CallRecord& call, const Decision& decision) {
  const bool barred = decision.reason == Reason::kBarred;
  totals.barred += barred ? 1 : 0;
  if (plan_->overrides) return;  // calls under other policies count here too
  for (uint32_t i = 0; i < call.asks; ++i) {
    const uint32_t p = call.ask[i].policy;
    const uint32_t k = call.ask[i].key;
    const PolicyPlan& policy = plan_->policy[p];
    const bool about = call.asks == 1 || decision.part == i;
    if (barred && about) {
      if (policy.ban_after == 0) world.fail("%s: barred without a ban", call.name);
      if (tries_[p][k] < policy.ban_after + 1) {
        world.fail("%s: barred after %u tries, bans after %u refusals", call.name, tries_[p][k],
                   policy.ban_after);
      }
      if (plan_->on_full != shm::kOnFullEvict || !may_fill_) {
        barred_until_[p][k] = std::max(barred_until_[p][k], call.begin + decision.retry_after_ns);
      }
    }
    if ((call.refused_enough[i] || call.barred_until[i] > call.end) && !barred &&
        decision.reason != Reason::kBlocked && !ambiguous(call, i)) {
      world.fail("%s: policy %u key %u is banned and was not barred", call.name, p, k);
    }
    if (!barred && decision.verdict == Verdict::kDenied && call.asks == 1 &&
        decision.reason != Reason::kBlocked && decision.reason != Reason::kShadow) {
      ++refusals_[p][k];
    }
  }
}

void LibraryGhost::check_over(uint32_t policy, uint32_t key) {
  if (!plan_->frozen || booked_[policy][key]) return;
  if (plan_->on_full == shm::kOnFullEvict && may_fill_) return;
  for (uint32_t i = 0; i < rates(policy); ++i) {
    const auto most = static_cast<int64_t>(most_permits(policy, i)) + slack(policy, key, i);
    if (admitted_[policy][key] > most) {
      world.fail("over: policy %u key %u part %u: %lld admitted, at most %lld", policy, key, i,
                 static_cast<long long>(admitted_[policy][key]), static_cast<long long>(most));
    }
  }
}

void LibraryGhost::end(CallRecord& call, const Decision& decision, uint32_t charged_cost) {
  if (world.tracing()) {
    world.trace("%s -> verdict %u reason %u admitted %d remaining %u part %u retry %lld", call.name,
                static_cast<uint32_t>(decision.verdict), static_cast<uint32_t>(decision.reason),
                decision.admitted, decision.remaining, decision.part,
                static_cast<long long>(decision.retry_after_ns));
  }
  end_other(call);
  if (is_unavailable(decision)) return check_unavailable(call, decision);
  if (charged_cost != ~0u) call.ask[0].cost = charged_cost;
  check_alone(call, decision);
  check_ban(call, decision);
  const bool shadow = decision.reason == Reason::kShadow;
  if (decision.reason == Reason::kExempt) ++totals.exempt;
  if (decision.reason == Reason::kBlocked) ++totals.blocked;
  if (shadow) ++totals.shadowed;
  const bool admitted = (decision.verdict == Verdict::kAllowed || shadow) && decision.admitted;
  admitted ? ++totals.admissions : ++totals.denials;
  for (uint32_t i = 0; i < call.asks; ++i) {
    const AskPlan& ask = call.ask[i];
    const bool about = call.asks == 1 || decision.part == i;
    if (about && decision.reason == Reason::kExempt &&
        !possible(ask.policy, ask.key, call.oldest_use[i], OverrideState::kUnlimited)) {
      world.fail("%s: exempt without an override", call.name);
    }
    if (about && decision.reason == Reason::kBlocked &&
        !possible(ask.policy, ask.key, call.oldest_use[i], OverrideState::kDeny) &&
        !may_be_stopped(ask.policy, call.oldest[i]) &&
        !possible(ask.policy, ask.key, call.oldest_use[i], OverrideState::kOther)) {
      world.fail("%s: blocked without an override", call.name);
    }
    if (call.asks == 1 && decision.reason == Reason::kNone &&
        !possible(ask.policy, ask.key, call.oldest_use[i], OverrideState::kNone) &&
        !possible(ask.policy, ask.key, call.oldest_use[i], OverrideState::kOther)) {
      world.fail("%s: decided by the policy in spite of an override", call.name);
    }
    if (!admitted) continue;
    --tries_[ask.policy][ask.key];
    if (decision.reason == Reason::kExempt) continue;
    if (shadow && plan_->policy[ask.policy].shadow) continue;
    if (ambiguous(call, i)) {
      for (uint32_t p = 0; p < plan_->policies; ++p) killed_[p][ask.key] += ask.cost;
      continue;
    }
    charged_[ask.policy][ask.key] += ask.cost;
    admitted_[ask.policy][ask.key] += ask.cost;
    admission_[admission_count_++] = {ask.policy, ask.key, ask.cost, call.begin, call.end};
    check_over(ask.policy, ask.key);
  }
}

LeaseRecord* LibraryGhost::lease_taken(CallRecord& call, const Lease& lease) {
  const AskPlan& ask = call.ask[0];
  end_other(call);
  if (is_unavailable(lease.decision)) {
    check_unavailable(call, lease.decision);
    return nullptr;
  }
  if (lease.decision.reason == Reason::kExempt || lease.decision.reason == Reason::kBlocked) {
    if (use_begun_[ask.policy][ask.key] == 0 &&
        (lease.decision.reason == Reason::kExempt || !may_be_stopped(ask.policy, call.oldest[0]))) {
      world.fail("lease: override without one");
    }
    return nullptr;
  }
  uint32_t live = 0;
  for (uint32_t i = 0; i < lease_count_; ++i) {
    const LeaseRecord& one = leases_[i];
    live += one.live && one.policy == ask.policy && one.key == ask.key &&
                    one.expires > engine_->clock.now()
                ? 1
                : 0;
  }
  if (!lease.decision.admitted) {
    ++totals.lease_denials;
    return nullptr;
  }
  ++totals.leases;
  if (ambiguous(call, 0)) return nullptr;
  uint64_t most = 0;
  for (uint32_t v = 0; v <= begun_[ask.policy]; ++v) {
    most = std::max(most, effective(ask.policy, v, 0, Priority::kNormal).capacity);
  }
  if (live >= most && lease.expires_ns > engine_->clock.now()) {
    world.fail("lease: policy %u key %u has %u leases and one more, at most %llu", ask.policy,
               ask.key, live, static_cast<unsigned long long>(most));
  }
  LeaseRecord* const record = &leases_[lease_count_++];
  *record = {true, ask.policy, ask.key, lease.expires_ns};
  return record;
}

void LibraryGhost::collect_killed() {
  for (uint32_t c = 0; c < call_count_; ++c) {
    CallRecord& call = calls_[c];
    if (call.finished || call.was_killed) continue;
    call.was_killed = true;
    for (uint32_t i = 0; i < call.asks; ++i) {
      const AskPlan& ask = call.ask[i];
      if (call.kind == Kind::kAcquire) {
        killed_[ask.policy][ask.key] += ask.cost;
        if (ambiguous(call, i)) {
          for (uint32_t p = 0; p < plan_->policies; ++p) killed_[p][ask.key] += ask.cost;
        }
      }
      if (call.kind == Kind::kGiveBack) killed_back_[ask.policy][ask.key] += ask.cost;
    }
  }
}

}  // namespace brim::sim
