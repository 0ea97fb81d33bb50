// SPDX-License-Identifier: MIT
#include "tests/sim/library_plan.h"

#include <algorithm>

#include "shm/layout.h"
#include "src/base/text.h"

namespace brim::sim {
namespace {

constexpr const char* kPeriods[] = {"1h", "2us", "10us", "60us", "5ms", "1s"};
constexpr const char* kClasses[] = {"", " classes 30 60 100", " classes 50 50 50",
                                    " classes 1 100 100"};

uint32_t draw_period(Rng& rng, bool frozen) { return frozen ? 0 : rng.between(1, 5); }

void draw_numbers(RatePlan& rate, Rng& rng) {
  rate.limit = rng.between(1, 5);
  rate.burst = rng.between(rate.form == Form::kQueue ? 0 : 1, 5);
  rate.debt = rate.form == Form::kLeakyBucket ? rng.below(3) : 0;
}

RatePlan draw_rate(Rng& rng, bool frozen) {
  RatePlan rate;
  rate.form = static_cast<Form>(rng.below(kForms));
  if (rng.one_in(4)) rate.form = Form::kLog;
  rate.period = draw_period(rng, frozen);
  rate.loose = rng.one_in(4);
  draw_numbers(rate, rng);
  return rate;
}

std::string text_of(const RatePlan& rate) {
  const std::string per = cat(rate.limit, "/", kPeriods[rate.period]);
  const std::string bucket = cat(per, " burst ", rate.burst);
  switch (rate.form) {
    case Form::kGcra:
      return bucket;
    case Form::kTokenBucket:
      return cat("token-bucket ", bucket);
    case Form::kLeakyBucket:
      return cat("leaky-bucket ", bucket, rate.debt != 0 ? cat(" debt ", rate.debt) : "");
    case Form::kForward:
      return cat(bucket, " forward");
    case Form::kQueue:
      return cat("queue ", bucket);
    case Form::kFixedWindow:
      return cat("fixed-window ", per);
    case Form::kFirstHit:
      return cat("fixed-window ", per, " first-hit");
    case Form::kCalendar:
      return cat("calendar-window ", rate.limit, "/hour");
    case Form::kLog:
      return cat("sliding-log ", per, rate.loose ? " inclusive" : "");
    case Form::kCounter:
      return cat("sliding-counter ", per, rate.loose ? " floor" : "");
  }
  return {};
}

PolicyPlan draw_policy(Rng& rng, bool frozen, const Leave& leave) {
  PolicyPlan policy;
  if (rng.one_in(8)) {
    policy.leases = true;
    policy.rates[0].limit = rng.between(1, kCellsPerKey / 2);
    policy.rates[0].period = frozen ? 0 : rng.between(4, 5);  // a ttl above the skew
    return policy;
  }
  policy.rate_count = rng.one_in(2) ? 1 : rng.between(1, 3);
  for (uint32_t i = 0; i < policy.rate_count; ++i) {
    RatePlan& rate = policy.rates[i] = draw_rate(rng, frozen);
    if (leave.undo_log && policy.rate_count > 1 && rate.form == Form::kLog) rate.form = Form::kGcra;
  }
  if (rng.one_in(5)) {
    policy.ban_after = rng.between(1, 3);
    policy.ban_period = frozen ? 0 : rng.between(4, 5);
  }
  if (rng.one_in(4)) policy.classes = rng.between(1, 3);
  policy.deny_unavailable = rng.one_in(4);
  policy.shadow = rng.one_in(8);
  if (leave.shadow && policy.rate_count > 1) policy.shadow = false;
  const bool buckets = std::all_of(policy.rates, policy.rates + policy.rate_count,
                                   [](const RatePlan& one) { return one.form <= Form::kQueue; });
  policy.cluster = buckets && rng.one_in(3);
  return policy;
}

void draw_pace(Plan& plan, Rng& rng) {
  Pace& pace = plan.pace;
  pace.schedule = static_cast<Schedule>(rng.below(3));
  pace.stay = rng.between(128, 254);
  pace.change = rng.between(1, 40);
  if (!plan.frozen) {
    pace.clock_rate = rng.one_in(4) ? rng.between(400, 2000) : rng.between(20, 200);
    pace.clock_kind = rng.below(3);
  }
  pace.event_rate = rng.one_in(3) ? 0 : rng.between(4, 60);
  pace.kills = rng.one_in(2) ? 0 : rng.between(1, 2);
}

}  // namespace

Plan draw_plan(Rng& rng, const Leave& leave) {
  Plan plan;
  constexpr uint32_t kCapacities[] = {4, 8, 12, 16, 64, 64};
  plan.capacity = kCapacities[rng.below(6)];
  plan.on_full = rng.between(shm::kOnFullEvict, shm::kOnFullDeny);
  plan.frozen = rng.one_in(2);
  plan.policies = rng.between(1, kMostPolicies);
  plan.keys = rng.between(1, kMostKeys);
  plan.workers = rng.between(2, kMostWorkers);
  plan.ops = rng.between(2, kMostOps);
  for (uint32_t i = 0; i < plan.policies; ++i) {
    plan.policy[i] = draw_policy(rng, plan.frozen, leave);
  }
  if (leave.undo_time && !plan.frozen) {
    plan.policies = 1;
    plan.policy[0].rate_count = 1;
  }
  plan.writer = rng.one_in(2);
  plan.changes = plan.writer ? rng.between(1, 5) : 0;
  plan.overrides = plan.writer && rng.one_in(4);
  plan.refunds = rng.one_in(2) && !plan.overrides;
  plan.second_phase = rng.one_in(4);
  draw_pace(plan, rng);
  return plan;
}

PolicyPlan vary(const PolicyPlan& policy, Rng& rng, const Leave& leave) {
  PolicyPlan varied = policy;
  if (policy.leases) {
    varied.rates[0].limit = rng.between(1, kCellsPerKey / 2);
    return varied;
  }
  for (uint32_t i = 0; i < policy.rate_count; ++i) {
    if (!rng.one_in(4)) draw_numbers(varied.rates[i], rng);
  }
  if (!leave.hybrid && rng.one_in(3)) varied.classes = rng.below(4);
  return varied;
}

std::string text_of(const PolicyPlan& policy) {
  if (policy.leases) {
    return cat("concurrency ", policy.rates[0].limit, " ttl ", kPeriods[policy.rates[0].period]);
  }
  std::string text;
  for (uint32_t i = 0; i < policy.rate_count; ++i) {
    text += cat(i == 0 ? "" : "; ", text_of(policy.rates[i]));
  }
  text += kClasses[policy.classes];
  if (policy.cluster) text += " scope cluster";
  if (policy.shadow) text += " shadow";
  if (policy.deny_unavailable) text += " on-unavailable deny";
  if (policy.ban_after != 0) {
    const char* const time = kPeriods[policy.ban_period];
    text += cat(" ban ", policy.ban_after, " in ", time, " for ", time);
  }
  return text;
}

std::string describe(const Plan& plan) {
  std::string text =
      cat("capacity ", plan.capacity, " on_full ", plan.on_full,
          plan.frozen ? " frozen" : " moving", " keys ", plan.keys, " workers ", plan.workers,
          " ops ", plan.ops, " changes ", plan.changes, plan.overrides ? " overrides" : "",
          plan.refunds ? " refunds" : "", plan.second_phase ? " twice" : "");
  for (uint32_t i = 0; i < plan.policies; ++i) {
    text += cat(" | ", text_of(plan.policy[i]));
  }
  return text;
}

}  // namespace brim::sim
