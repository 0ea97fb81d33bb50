// SPDX-License-Identifier: MIT
// A segment that shares with other nodes, and what an agent sees of it.
#ifndef BRIM_TESTS_POLICIES_CLUSTER_H_
#define BRIM_TESTS_POLICIES_CLUSTER_H_

#include <optional>
#include <utility>
#include <vector>

#include "brim/cluster.h"
#include "tests/policies/support.h"

namespace brim::test {

inline constexpr uint64_t kSecret[2] = {0x0123456789abcdef, 0xfedcba9876543210};

class ClusterTest : public Policies {
 protected:
  void start(std::vector<NamedPolicy> policies, uint64_t capacity = 256) {
    open(std::move(policies), capacity);
    Options attach;
    attach.clock = ClockKind::kManual;
    attach.manual_clock_ns = &*clock_;
    absl::StatusOr<ClusterView> view = ClusterView::attach(name_->str(), attach);
    ASSERT_TRUE(view.ok()) << view.status();
    view_.emplace(*std::move(view));
    view_->set_secret(kSecret);
  }
  std::vector<KeyUse> uses(bool all = true) {
    std::vector<KeyUse> list;
    view_->for_each_use(all, [&](const KeyUse& use) {
      list.push_back(use);
      return true;
    });
    return list;
  }
  // Of the only key that has one.
  KeyUse use() {
    const std::vector<KeyUse> list = uses();
    EXPECT_EQ(list.size(), 1u);
    return list.empty() ? KeyUse{} : list.front();
  }
  uint64_t level(const KeyUse& use, uint32_t permits) const {
    for (const ClusterPolicy& policy : view_->policies()) {
      if (policy.number == use.policy) return policy.rates[use.part].permit_units * permits;
    }
    return 0;
  }
  std::optional<ClusterView> view_;
};

}  // namespace brim::test

#endif  // BRIM_TESTS_POLICIES_CLUSTER_H_
