// SPDX-License-Identifier: MIT
#include "replay_limiter.h"

#include <unistd.h>

#include <random>
#include <utility>

#include "output.h"
#include "replay_text.h"

namespace brim::replay {

uint32_t Clients::number(std::string_view key) {
  const auto found = numbers_.find(key);
  if (found != numbers_.end()) return found->second;
  const auto number = static_cast<uint32_t>(keys_.size());
  keys_.emplace_back(key);
  numbers_.emplace(keys_.back(), number);
  return number;
}

absl::StatusOr<std::unique_ptr<ReplayLimiter>> ReplayLimiter::create(
    const std::vector<NamedPolicy>& policies, uint64_t capacity) {
  std::unique_ptr<ReplayLimiter> replay(new ReplayLimiter);
  Options options;
  options.capacity = capacity;
  options.name_bytes = Options::kNoNames;
  options.max_policies = static_cast<uint32_t>(policies.size());
  options.policies = policies;
  options.clock = ClockKind::kManual;
  options.manual_clock_ns = &replay->clock_ns_;
  std::random_device random;
  const std::string name = tools::join("brim-replay-", getpid(), "-",
                                       tools::hex_digits(uint64_t{random()} << 32 | random(), 16));
  absl::StatusOr<Limiter> limiter = Limiter::create(name, options);
  if (!limiter.ok()) {
    // A policy that create() refuses leaves the segment it was to be defined in.
    if (!absl::IsAlreadyExists(limiter.status())) Limiter::unlink(name).IgnoreError();
    return limiter.status();
  }
  absl::StatusOr<Inspector> inspector = Inspector::attach(name);
  if (absl::Status status = Limiter::unlink(name); !status.ok()) return status;
  if (!inspector.ok()) return inspector.status();
  replay->limiter_ = *std::move(limiter);
  replay->inspector_.push_back(*std::move(inspector));
  for (const NamedPolicy& policy : policies) {
    absl::StatusOr<PolicyHandle> handle = replay->limiter_.policy(policy.name);
    if (!handle.ok()) return handle.status();
    PolicyRun run;
    run.name = policy.name;
    run.handle = *std::move(handle);
    replay->runs_.push_back(std::move(run));
  }
  return replay;
}

void ReplayLimiter::take(int64_t time_ns, uint32_t client, std::string_view key) {
  if (!started_) first_ns_ = time_ns - kSecondNs;
  started_ = true;
  // Relaxed: this thread is the only one that reads it.
  clock_ns_.store(time_ns - first_ns_, std::memory_order_relaxed);
  for (PolicyRun& run : runs_) {
    if (run.refused_by_client.size() <= client) run.refused_by_client.resize(client + size_t{1});
    const Decision decision = run.handle.try_acquire(key);
    if (decision.verdict == Verdict::kUnavailable) ++run.undecided;
    if (decision.reason == Reason::kShadow) ++run.shadow;
    if (decision.admitted) {
      ++run.admitted;
      continue;
    }
    if (run.refused++ == 0) {
      run.first_refusal_ns = time_ns;
      run.first_refused_client = client;
    }
    ++run.refused_by_client[client];
  }
}

uint64_t ReplayLimiter::evicted(const std::string& policy) const {
  for (const PolicyInfo& info : inspector_.front().policies()) {
    if (info.name != policy) continue;
    for (const Counter& counter : info.counters) {
      if (counter.name == "evicted") return counter.value;
    }
  }
  return 0;
}

}  // namespace brim::replay
