// SPDX-License-Identifier: MIT
#include "src/tier/agent.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "src/base/status.h"
#include "src/base/text.h"
#include "src/tier/options.h"

namespace brim::tier {

namespace {

constexpr int kError = 3;
constexpr int kWarning = 4;
constexpr int kInfo = 6;
constexpr int64_t kMs = 1000000;
constexpr int64_t kPoliciesAgain = 1000 * kMs;
constexpr int64_t kPublishAgain = 100 * kMs;
constexpr int64_t kLongestMeet = 10000 * kMs;
constexpr int64_t kFirstPause = 100 * kMs;
constexpr int64_t kLeastWait = kMs;
constexpr uint32_t kWhole = 1000000;

}  // namespace

Agent::Agent(View& view, Store& store, const TierOptions& options, Node self, uint64_t seed)
    : view_(view),
      store_(store),
      options_(options),
      self_(std::move(self)),
      keys_(view, options.interval_ns, options.texts),
      breaker_(1, kFirstPause, seed),
      before_(view.status()) {
  status_ = before_;
  status_.agent_pid = static_cast<uint64_t>(getpid());
  if (status_.share_ppm == 0) status_.share_ppm = kWhole;
  // Away until it has answered; since when, an earlier agent may know.
  const int64_t now = view.now_ns();
  const bool was_away = !before_.up && before_.down_since_ns > 0 && before_.down_since_ns < now;
  status_.down_since_ns = was_away ? before_.down_since_ns : now;
  status_.up = false;
  status_.store = shown_store(options.url);
  nodes_ = std::max<uint64_t>(before_.nodes, 1);
}

void Agent::say(int level, const std::string& what) const {
  if (options_.say) options_.say(level, what);
}

void Agent::refresh_policies(int64_t now_ns) {
  if (now_ns < policies_at_ns_) return;
  policies_at_ns_ = now_ns + kPoliciesAgain;
  keys_.set_terms(view_.policies(), nodes_);
}

absl::Status Agent::meet(bool leave, int64_t deadline_ns) {
  uint64_t mine[2];
  if (!proposed_secret(options_, view_, mine)) {
    return absl::UnavailableError("tier_secret: getrandom(2) gave no bytes for the nodes' secret");
  }
  const auto meeting = store_.meet(self_, mine, options_.forget_ns, leave, deadline_ns);
  if (!meeting.ok()) return meeting.status();
  if (leave) return absl::OkStatus();
  uint64_t known[2];
  const bool moved =
      view_.get_secret(known) && std::memcmp(known, meeting->secret, sizeof(known)) != 0;
  const bool refused =
      !met_ && !options_.secret.empty() && std::memcmp(mine, meeting->secret, sizeof(mine)) != 0;
  if (moved || refused) {
    say(kWarning,
        "tier_secret: the nodes have agreed on another secret than this one's; it is taken over, "
        "and keys are counted anew");
  }
  view_.set_secret(meeting->secret);
  status_.exchanged_ns = view_.now_ns();
  met_ = true;
  meet_at_ns_ = view_.now_ns() + std::min(options_.forget_ns / 3, kLongestMeet);
  const uint64_t nodes = std::max<size_t>(meeting->nodes.size(), 1);
  if (nodes != nodes_) say(kInfo, cat("tier: ", nodes, nodes == 1 ? " node" : " nodes"));
  if (std::exchange(nodes_, nodes) != nodes) policies_at_ns_ = 0;
  return absl::OkStatus();
}

// All that is due, batch by batch.
absl::Status Agent::exchange(int64_t deadline_ns) {
  std::vector<PushAnswer> answers;
  for (;;) {
    const int64_t sent = view_.now_ns();
    const std::span<const Push> pushes = keys_.begin(sent);
    if (pushes.empty()) return absl::OkStatus();
    const bool full = pushes.size() >= kMostPushes;
    answers.assign(pushes.size(),
                   PushAnswer{absl::UnavailableError("tier_unavailable"), {}, {}, {}});
    store_.exchange(pushes, answers, deadline_ns);
    const int64_t now = view_.now_ns();
    keys_.end(answers, now);
    const auto good = std::find_if(answers.begin(), answers.end(),
                                   [](const PushAnswer& one) { return one.status.ok(); });
    const auto bad = std::find_if(answers.begin(), answers.end(),
                                  [](const PushAnswer& one) { return !one.status.ok(); });
    status_.error = bad != answers.end() ? std::string(message_of(bad->status)) : "";
    if (good == answers.end()) return bad->status;
    status_.exchanged_ns = now;
    status_.round_trip_ns = now - sent;
    // No exchange begins that has too little time, to be cut off by it: on a slow line keys are due
    // again as soon as they are answered.
    if (!full || now + 2 * (now - sent) >= deadline_ns) return absl::OkStatus();
  }
}

void Agent::look_at_store(int64_t deadline_ns) {
  const uint64_t connects = store_.counts().connects;
  if (connects == connects_) return;
  connects_ = connects;
  std::string warning = store_.warning(deadline_ns);
  if (!warning.empty() && warning != warning_) say(kWarning, warning);
  warning_ = std::move(warning);
}

void Agent::failed(const absl::Status& why) {
  const int64_t now = view_.now_ns();
  breaker_.bad(now);
  std::string message(message_of(why));
  if (status_.up || status_.down_since_ns == 0) status_.down_since_ns = now;
  status_.up = false;
  // By its name: the rest may tell of a port or an attempt.
  const std::string name = message.substr(0, message.find(':'));
  if (name != trouble_) say(kError, message);
  trouble_ = name;
  status_.error = std::move(message);
  keys_.tell_all();  // the store may come back without what it was told
}

uint32_t Agent::own_share() const {
  if (options_.share_ppm != 0) return options_.share_ppm;
  return static_cast<uint32_t>(std::max<uint64_t>(kWhole / nodes_, 1));
}

bool Agent::set_shares(uint32_t parts_per_million) {
  status_.share_ppm = parts_per_million;
  publish(view_.now_ns(), true);  // before: who comes after this one must know
  bool all = true;
  for (const ClusterPolicy& policy : keys_.policies()) {
    if (policy.strict) continue;
    const absl::Status status = view_.set_share(policy.number, parts_per_million);
    all = all && status.ok();
  }
  return all;
}

// At first the others are taken to go on as they did; then a stated part of each rate is this
// node's.
int64_t Agent::stay_away(int64_t now_ns) {
  if (now_ns - status_.down_since_ns < options_.hold_ns) {
    keys_.charge_others(now_ns);
  } else if (now_ns >= shared_at_ns_ || status_.share_ppm != own_share()) {
    if (status_.share_ppm != own_share()) {
      say(kWarning, cat("tier: the store is away; this node takes ", own_share(),
                        " parts per million of each rate"));
    }
    sharing_ = true;
    set_shares(own_share());  // of policies that are new, too
    shared_at_ns_ = now_ns + kPoliciesAgain;
  }
  const int64_t probe = std::max(breaker_.next_ns() - now_ns, kLeastWait);
  return std::min(probe, std::max(options_.interval_ns, kLeastWait));
}

void Agent::came_back(int64_t now_ns) {
  breaker_.good();
  if (!status_.up && !trouble_.empty()) {
    say(kInfo, cat("tier: the store answers again, after ", (now_ns - status_.down_since_ns) / kMs,
                   " ms"));
  }
  status_.up = true;
  status_.down_since_ns = 0;
  trouble_.clear();
  // What others used meanwhile is in the words by now, so that whole rates are no burst.
  if (sharing_ && keys_.all_told()) sharing_ = !set_shares(kWhole);
}

void Agent::publish(int64_t now_ns, bool at_once) {
  if (!at_once && now_ns < published_ns_ + kPublishAgain) return;
  published_ns_ = now_ns;
  const StoreCounts counts = store_.counts();
  const KeysSeen& seen = keys_.seen();
  status_.alive_ns = now_ns;
  status_.nodes = nodes_;
  status_.calls = before_.calls + counts.calls;
  status_.pushes = before_.pushes + counts.pushes;
  status_.errors = before_.errors + counts.errors + meetings_failed_;
  status_.unknown = before_.unknown + counts.unknown;
  status_.healed = before_.healed + seen.healed;
  status_.overshoot_permits = std::max(before_.overshoot_permits, seen.overshoot_permits);
  status_.lag_ns = seen.lag_ns;
  status_.keys_near = keys_.size();
  view_.set_status(status_);
}

int64_t Agent::step() {
  const int64_t began = view_.now_ns();
  refresh_policies(began);
  if (!breaker_.may(began)) {
    const int64_t wait = stay_away(began);
    publish(began, false);
    return wait;
  }
  // A connection is made in several round trips more.
  constexpr int kToConnect = 4;
  const int64_t deadline = began + (status_.up ? 1 : kToConnect) * exchange_timeout_ns(options_);
  absl::Status status = absl::OkStatus();
  if (!met_ || !status_.up || began >= meet_at_ns_) {
    status = meet(false, deadline);
    meetings_failed_ += status.ok() ? 0 : 1;
  }
  if (status.ok()) {
    look_at_store(deadline);
    refresh_policies(view_.now_ns());
    status = exchange(deadline);
  }
  const int64_t now = view_.now_ns();
  if (status.ok()) {
    came_back(now);
  } else {
    failed(status);
  }
  publish(now, !status.ok());
  if (!status.ok()) return stay_away(now);
  return std::clamp(keys_.next_ns() - now, int64_t{0},
                    std::max(options_.interval_ns / 8, kLeastWait));
}

absl::Status Agent::finish(bool leave) {
  if (!met_ || !status_.up) return absl::OkStatus();  // what is not told is told by the next one
  const int64_t deadline = view_.now_ns() + exchange_timeout_ns(options_);
  keys_.tell_all();
  absl::Status status = absl::OkStatus();
  while (status.ok() && !keys_.all_told() && view_.now_ns() < deadline) {
    status = exchange(deadline);
  }
  const absl::Status left = leave ? meet(true, deadline) : absl::OkStatus();
  status_.up = false;  // nobody exchanges for the segment now, and nothing is wrong
  status_.down_since_ns = 0;
  publish(view_.now_ns(), true);
  return status.ok() ? left : status;
}

}  // namespace brim::tier
