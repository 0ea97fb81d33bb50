// SPDX-License-Identifier: MIT
// Who shares a store: for people.
#include <string>
#include <utility>

#include "brim/tier.h"
#include "src/base/text.h"
#include "src/tier/options.h"
#include "src/tier/store.h"
#include "src/tier/wait.h"

namespace brim {

namespace tier {

absl::StatusOr<Meeting> meet_as_guest(const ClusterView& view, Store& store,
                                      const TierOptions& options, int64_t deadline_ns) {
  uint64_t uuid[2];
  uint64_t secret[2];
  if (!fill_random(uuid, sizeof(uuid)) || !proposed_secret(options, view, secret)) {
    return absl::UnavailableError("tier_secret: getrandom(2) gave no bytes");
  }
  const Node guest{hex(uuid[0], 16) + hex(uuid[1], 16), "guest"};
  auto meeting = store.meet(guest, secret, options.forget_ns, true, deadline_ns);
  if (meeting.ok())
    std::erase_if(meeting->nodes, [&](const Node& node) { return node.uuid == guest.uuid; });
  return meeting;
}

}  // namespace tier

absl::StatusOr<std::vector<TierNode>> tier_nodes(std::string_view segment,
                                                 const TierOptions& options) {
  if (absl::Status status = tier::check(options); !status.ok()) return status;
  const auto view = ClusterView::attach(segment, options.attach);
  if (!view.ok()) return view.status();
  auto store = tier::open_store_of(options, {});
  if (!store.ok()) return store.status();
  const auto meeting = tier::meet_as_guest(
      *view, **store, options, tier::monotonic_ns() + tier::exchange_timeout_ns(options));
  if (!meeting.ok()) return meeting.status();
  std::vector<TierNode> nodes;
  const std::string own = view->node();
  for (const tier::Node& node : meeting->nodes) {
    nodes.push_back({node.uuid, node.name, node.seen_ago_ns, node.uuid == own});
  }
  return nodes;
}

absl::Status remove_tier_node(const TierOptions& options, std::string_view uuid) {
  if (absl::Status status = tier::check(options); !status.ok()) return status;
  auto store = tier::open_store_of(options, {});
  if (!store.ok()) return store.status();
  return (*store)->forget(uuid, tier::monotonic_ns() + tier::exchange_timeout_ns(options));
}

}  // namespace brim
