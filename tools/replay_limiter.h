// SPDX-License-Identifier: MIT
// The real limiter, on a log's own time, in a segment of its own that leaves nothing behind.
#ifndef BRIM_TOOLS_REPLAY_LIMITER_H_
#define BRIM_TOOLS_REPLAY_LIMITER_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brim/inspect.h"
#include "brim/limiter.h"

namespace brim::replay {

// The clients seen, numbered from 0 in the order in which they appear.
class Clients {
 public:
  // Adds the client if it is new.
  uint32_t number(std::string_view key);
  const std::string& key(uint32_t number) const { return keys_[number]; }
  size_t size() const { return keys_.size(); }

 private:
  std::deque<std::string> keys_;  // never moves, so the map can refer to it
  std::unordered_map<std::string_view, uint32_t> numbers_;
};

// What one policy did.
struct PolicyRun {
  std::string name;
  PolicyHandle handle;
  uint64_t admitted = 0;
  uint64_t refused = 0;
  uint64_t undecided = 0;
  uint64_t shadow = 0;  // of the admitted: refused if the policy were enforced
  std::vector<uint64_t> refused_by_client;
  int64_t first_refusal_ns = 0;
  uint32_t first_refused_client = 0;
};

class ReplayLimiter {
 public:
  // Makes the segment and removes its name at once.
  // Errors: those of Limiter::create; InvalidArgument for a policy.
  static absl::StatusOr<std::unique_ptr<ReplayLimiter>> create(
      const std::vector<NamedPolicy>& policies, uint64_t capacity);

  // One request, decided by every policy. REQUIRES: times do not step back.
  void take(int64_t time_ns, uint32_t client, std::string_view key);

  const std::vector<PolicyRun>& runs() const { return runs_; }
  // Live keys of a policy that had to make room: the replay was too lenient.
  uint64_t evicted(const std::string& policy) const;

 private:
  ReplayLimiter() = default;

  // The segment's clock counts from a second before the first request, so that a log of any year
  // fits.
  std::atomic<int64_t> clock_ns_{0};
  int64_t first_ns_ = 0;
  bool started_ = false;
  Limiter limiter_;
  std::vector<Inspector> inspector_;  // one, once it is there
  std::vector<PolicyRun> runs_;
};

}  // namespace brim::replay

#endif  // BRIM_TOOLS_REPLAY_LIMITER_H_
