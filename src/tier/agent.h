// SPDX-License-Identifier: MIT
// One node: a segment and a store. Meets the others, exchanges what keys used, and sees to it that
// the segment goes on by itself while the store is away. For the one that has the lease.
#ifndef BRIM_SRC_TIER_AGENT_H_
#define BRIM_SRC_TIER_AGENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "brim/tier.h"
#include "src/tier/breaker.h"
#include "src/tier/keys.h"
#include "src/tier/store.h"
#include "src/tier/view.h"

namespace brim::tier {

class Agent {
 public:
  // Both outlive it.
  Agent(View& view, Store& store, const TierOptions& options, Node self, uint64_t seed);

  // One round; returns how many ns to wait before the next. See TierLoop::step().
  int64_t step();
  // What is left is told; `leave`: the node is gone. Within timeout_ns.
  absl::Status finish(bool leave);

 private:
  absl::Status meet(bool leave, int64_t deadline_ns);
  absl::Status exchange(int64_t deadline_ns);
  int64_t stay_away(int64_t now_ns);
  void came_back(int64_t now_ns);
  void failed(const absl::Status& why);
  void refresh_policies(int64_t now_ns);
  bool set_shares(uint32_t parts_per_million);
  uint32_t own_share() const;
  void look_at_store(int64_t deadline_ns);
  void publish(int64_t now_ns, bool at_once);
  void say(int level, const std::string& what) const;

  View& view_;
  Store& store_;
  const TierOptions& options_;
  Node self_;
  Keys keys_;
  Breaker breaker_;
  TierStatus before_;  // what an earlier agent left: counters go on from there
  TierStatus status_;
  uint64_t nodes_ = 1;
  uint64_t connects_ = 0;  // of which warnings were asked for
  int64_t meet_at_ns_ = 0;
  int64_t policies_at_ns_ = 0;
  int64_t published_ns_ = 0;
  int64_t shared_at_ns_ = 0;
  uint64_t meetings_failed_ = 0;
  bool sharing_ = true;  // rates may be shares: an earlier agent may have left them so
  bool met_ = false;
  std::string trouble_;  // told last
  std::string warning_;
};

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_AGENT_H_
