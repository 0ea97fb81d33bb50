// SPDX-License-Identifier: MIT
#include "doctor.h"
#include "output.h"

namespace brim::tools {

namespace {

std::string shared_policies(const std::vector<PolicyInfo>& policies) {
  std::string names;
  for (const PolicyInfo& each : policies) {
    if (each.policy.scope == PolicyScope::kNode) continue;
    names += join(names.empty() ? "" : ", ", escape_text(each.name));
  }
  return names;
}

}  // namespace

void examine_tier(const TierLook& tier, const std::vector<PolicyInfo>& policies,
                  const std::string& name, Findings& findings) {
  if (!tier.told(policies)) return;
  const TierStatus& status = tier.status();
  const std::string shared = shared_policies(policies);
  const TierState state = tier.state();
  const bool alive = state == TierState::kUp || state == TierState::kDown;
  if (!alive && !shared.empty()) {
    findings.push_back({Level::kError, name, "tier_agent",
                        join(tier.words(), ", so that this node counts policies of scope cluster (",
                             shared, ") by itself"),
                        join("brim agent ", name, " --tier URL")});
  }
  if (state == TierState::kDown) {
    findings.push_back(
        {Level::kError, name, "tier_store",
         join(escape_text(status.store), ": ", tier.words_and_error()),
         "is it running, and can it be reached from here? brim tier status tells more"});
  }
  if (state == TierState::kUp) {
    findings.push_back({Level::kOk, name, "tier_store",
                        join("up, ", status.nodes, " nodes, lag ", human_duration(status.lag_ns)),
                        ""});
  }
  if (status.share_ppm < 1000000) {
    findings.push_back({Level::kWarning, name, "tier_share",
                        join("this node admits ", tier.share_words(), " of the cluster"),
                        alive ? "it is whole again once the store answers"
                              : join("it is whole again once an agent reaches the store: brim "
                                     "agent ",
                                     name, " --tier URL")});
  }
  if (alive && shared.empty()) {
    findings.push_back({Level::kNote, name, "tier_policies",
                        "an agent is at work, but no policy has scope cluster",
                        "end the agent, or add 'scope cluster' to a policy's text"});
  }
  if (status.overshoot_permits != 0) {
    findings.push_back(
        {Level::kNote, name, "tier_overshoot",
         join("a key was found ", status.overshoot_permits,
              " permits over its burst, used on several nodes at once"),
         "the excess is paid back; docs/concepts/cluster.md tells how large it may be, and "
         "--tier-interval makes it smaller"});
  }
}

}  // namespace brim::tools
