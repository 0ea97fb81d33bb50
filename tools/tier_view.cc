// SPDX-License-Identifier: MIT
#include "tier_view.h"

#include <algorithm>

#include "repeat.h"

namespace brim::tools {

namespace {

std::string_view state_text(TierState state) {
  switch (state) {
    case TierState::kNone:
      return "none";
    case TierState::kDead:
      return "dead";
    case TierState::kDown:
      return "down";
    case TierState::kUp:
      return "up";
  }
  return "";
}

}  // namespace

absl::StatusOr<TierLook> TierLook::at(const std::string& name, const Options& options) {
  absl::StatusOr<TierStatus> status = ClusterView::status_of(name, options);
  if (!status.ok()) return status.status();
  return TierLook(*std::move(status), monotonic_ns());
}

bool TierLook::told(const std::vector<PolicyInfo>& policies) const {
  if (!status_.kept) return false;
  return state() != TierState::kNone ||
         std::any_of(policies.begin(), policies.end(), [](const PolicyInfo& each) {
           return each.policy.scope != PolicyScope::kNode;
         });
}

TierState TierLook::state() const {
  const std::optional<int64_t> age = agent_age_ns();
  if (!age.has_value()) return TierState::kNone;
  if (*age > kAgentDeadNs) return TierState::kDead;
  return status_.up ? TierState::kUp : TierState::kDown;
}

// Whoever may write to the segment may have written any number.
std::optional<int64_t> TierLook::age(int64_t since_ns) const {
  if (since_ns <= 0) return std::nullopt;
  return std::max<int64_t>(0, now_ns_ - since_ns);
}

std::string TierLook::words() const {
  switch (state()) {
    case TierState::kNone:
      return "no agent was ever at work";
    case TierState::kDead:
      return join("no agent has been at work for ", human_duration(*agent_age_ns()));
    case TierState::kUp:
      return "up";
    case TierState::kDown:
      break;
  }
  const std::optional<int64_t> down = down_for_ns();
  return join("down", down.has_value() ? join(" for ", human_duration(*down)) : "");
}

std::string TierLook::words_and_error() const {
  return join(words(), status_.error.empty() ? "" : join(": ", escape_text(status_.error)));
}

std::string TierLook::share_words() const {
  return status_.share_ppm >= 1000000 ? "whole rates"
                                      : join(percent_text(status_.share_ppm), " of each rate");
}

std::string_view scope_text(PolicyScope scope) {
  return scope == PolicyScope::kNode     ? "node"
         : scope == PolicyScope::kStrict ? "strict"
                                         : "cluster";
}

std::string percent_text(uint32_t ppm) {
  std::string decimals = std::to_string(10000 + ppm % 10000).substr(1);
  while (!decimals.empty() && decimals.back() == '0') decimals.pop_back();
  return join(ppm / 10000, decimals.empty() ? "" : ".", decimals, " %");
}

std::vector<TierFact> tier_facts(const TierLook& look) {
  const TierStatus& status = look.status();
  const auto number = [](const char* name, const char* label, uint64_t value) {
    return TierFact{name, label, join(value), join(value)};
  };
  const auto age = [](const char* name, const char* label, std::optional<int64_t> ns,
                      std::string_view after) {
    return TierFact{name, label, ns.has_value() ? join(human_duration(*ns), after) : "never",
                    ns.has_value() ? join(*ns) : "null"};
  };
  const auto span = [](const char* name, const char* label, int64_t ns) {
    ns = std::max<int64_t>(ns, 0);
    return TierFact{name, label, human_duration(ns), join(ns)};
  };
  const auto text = [](const char* name, const char* label, const std::string& value) {
    return TierFact{name, label, value.empty() ? "none" : escape_text(value), value, true};
  };
  return {
      {"state", "state", look.words(), std::string(state_text(look.state())), true},
      text("store", "store", status.store),
      number("agent_pid", "agent's pid", status.agent_pid),
      age("agent_age_ns", "agent at work", look.agent_age_ns(), " ago"),
      age("exchange_age_ns", "last exchange", look.exchange_age_ns(), " ago"),
      age("down_for_ns", nullptr, look.down_for_ns(), ""),
      span("lag_ns", "lag", status.lag_ns),
      span("round_trip_ns", "round trip", status.round_trip_ns),
      number("nodes", "nodes", status.nodes),
      {"share_ppm", "share", look.share_words(), join(status.share_ppm)},
      number("keys_near", "keys near a limit", status.keys_near),
      number("calls", "calls", status.calls),
      number("pushes", "keys pushed", status.pushes),
      number("errors", "errors", status.errors),
      number("unknown", "pushes unknown", status.unknown),
      number("healed", "buckets healed", status.healed),
      {"overshoot_permits", "most over a burst", join(status.overshoot_permits, " permits"),
       join(status.overshoot_permits)},
      number("strict_calls", "strict calls", status.strict_calls),
      number("strict_errors", "strict errors", status.strict_errors),
      text("error", "last error", status.error),
  };
}

void write_tier(JsonWriter& json, const TierLook& look) {
  json.begin('{').field("kept", look.status().kept);
  if (look.status().kept) {
    for (const TierFact& fact : tier_facts(look)) {
      json.name(fact.name);
      fact.quoted ? json.value(fact.raw) : json.literal(fact.raw);
    }
  }
  json.end('}');
}

}  // namespace brim::tools
