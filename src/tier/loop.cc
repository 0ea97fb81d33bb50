// SPDX-License-Identifier: MIT
// Follows a segment by its name, for as long as this process has the node's lease.
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "brim/tier.h"
#include "src/base/status.h"
#include "src/base/text.h"
#include "src/sync/leader.h"
#include "src/tier/agent.h"
#include "src/tier/options.h"
#include "src/tier/view.h"

namespace brim {

namespace {

constexpr int kError = 3;
constexpr int kInfo = 6;
constexpr int64_t kLookAgain = 1000000000;  // for a lease that is free, or a segment that is there

// Hidden, beside the segment: all processes that can share it find it there.
std::string lease_path(const std::string& segment) {
  const size_t slash = segment.rfind('/') + 1;
  return cat(segment.substr(0, slash), ".", segment.substr(slash), ".tier");
}

bool is_wait(std::string_view message) {
  return message.starts_with("tier_not_leader") || message.starts_with("segment_not_found");
}

}  // namespace

class TierLoop::Impl {
 public:
  Impl(std::string_view segment, TierOptions options)
      : segment_(segment), options_(std::move(options)), pid_(getpid()) {}

  int64_t step() {
    if (getpid() != pid_) return kLookAgain;
    if (view_ != nullptr && !view_->segment().linked()) leave_segment();
    if (const absl::Status status = prepare(); !status.ok()) {
      const std::string message(message_of(status));
      if (message != last_) say(is_wait(message) ? kInfo : kError, message);
      last_ = message;
      return kLookAgain;
    }
    last_.clear();
    return agent_->step();
  }

  absl::Status finish() {
    if (getpid() != pid_ || view_ == nullptr) return absl::OkStatus();
    const absl::Status status =
        agent_ == nullptr ? absl::OkStatus() : agent_->finish(!view_->segment().superseded());
    drop();
    return status;
  }

 private:
  void say(int level, const std::string& what) const {
    if (options_.say) options_.say(level, what);
  }

  absl::Status prepare() {
    if (view_ == nullptr) {
      auto view = ClusterView::attach(segment_, options_.attach);
      if (!view.ok()) return view.status();
      view_ = std::make_unique<tier::SegmentView>(*std::move(view));
      leader_ = std::make_unique<Leader>(
          lease_path(view_->segment().path()),
          Leader::Words{"tier", "exchanges for this segment",
                        "run the agent as the user of the segment's other agents"});
    }
    if (absl::Status status = leader_->become(); !status.ok()) {
      agent_.reset();
      return status;
    }
    if (agent_ != nullptr) return absl::OkStatus();
    const std::string node = view_->segment().node();
    auto store = tier::open_store_of(options_, node);
    if (!store.ok()) return store.status();
    store_ = *std::move(store);
    agent_ = std::make_unique<tier::Agent>(*view_, *store_, options_,
                                           tier::Node{node, tier::node_name(options_, segment_)},
                                           tier::random_seed());
    return absl::OkStatus();
  }

  // Resized: what its old table has not told is told by the same node, before the new one's.
  // Removed: the node is gone.
  void leave_segment() {
    const bool resized = view_->segment().superseded();
    say(kInfo, cat("segment ", segment_, resized ? " was resized" : " was removed or replaced"));
    if (agent_ != nullptr) agent_->finish(!resized).IgnoreError();
    drop();
  }

  void drop() {
    agent_.reset();
    store_.reset();
    if (leader_ != nullptr) leader_->resign_and_remove();
    leader_.reset();
    view_.reset();
  }

  std::string segment_;
  TierOptions options_;
  pid_t pid_;
  std::string last_;
  std::unique_ptr<tier::SegmentView> view_;
  std::unique_ptr<Leader> leader_;
  std::unique_ptr<tier::Store> store_;
  std::unique_ptr<tier::Agent> agent_;
};

TierLoop::TierLoop(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TierLoop::TierLoop(TierLoop&&) noexcept = default;
TierLoop& TierLoop::operator=(TierLoop&&) noexcept = default;
TierLoop::~TierLoop() = default;

absl::StatusOr<TierLoop> TierLoop::open(std::string_view segment, TierOptions options) {
  if (absl::Status status = tier::check(options); !status.ok()) return status;
  if (auto store = tier::open_store_of(options, {}); !store.ok()) return store.status();
  return TierLoop(std::make_unique<Impl>(segment, std::move(options)));
}

int64_t TierLoop::step() { return impl_->step(); }
absl::Status TierLoop::finish() { return impl_->finish(); }

}  // namespace brim
