// SPDX-License-Identifier: MIT
// What agents see of a segment; see brim/cluster.h.
#include "brim/cluster.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "shm/succession.h"
#include "src/base/text.h"
#include "src/change.h"
#include "src/compile.h"
#include "src/engine.h"
#include "src/policy_words.h"
#include "src/slot_name.h"
#include "src/terms.h"
#include "src/use.h"

namespace brim {

using internal::Engine;

namespace {

// The whole text of the key in slot i, if it was kept.
std::string whole_key(const Engine& engine, uint64_t i, uint64_t id) {
  std::string text;
  SlotName name;
  const bool whole = read_slot_name(engine, i, id, text, name) && text.size() == name.length;
  return whole ? text : std::string();
}

// The cell and the word of slot i, if they are of one key.
bool see(const Engine& engine, uint64_t i, KeyUse& use) {
  if (i >= engine.table.slot_count()) return false;
  const shm::UseSeen seen = engine.consumption.look(i);  // before the word: counts in it are owed
  if (seen.id <= shm::kFreeId || seen.nonce == 0 || seen.identity == 0) return false;
  const uint16_t policy = shm::id_policy(seen.id);
  const uint32_t part = shm::id_part(seen.id);
  use.as_of_ns = engine.clock.now();  // before the policy: no old slope is applied to a later time
  Quota quota;
  uint64_t options = 0;
  if (!read_quota(engine.registry, policy, part, quota, &options) || !has(quota, kShared) ||
      family(quota) != Family::kBucket || part >= options_from_word(options).rates) {
    return false;
  }
  use.slot = i;
  use.id = seen.id;
  use.policy = policy;
  use.part = part;
  use.identity = seen.identity;
  use.nonce = static_cast<uint32_t>(seen.nonce);
  use.total = seen.total;
  use.acked = seen.acked;
  const RateTerms terms = terms_of(quota);
  use.capacity_units = terms.capacity_units;
  use.owed_units = 0;
  const shm::Slot slot = engine.table.at(i);
  if (slot.id == seen.id && !is_tentative(slot.word)) {
    const uint64_t debt = gcra::debt_units(slot.word, token_clock(quota, use.as_of_ns));
    use.owed_units = to_exchanged(std::min(debt, quota.capacity_max), quota, terms);
  }
  return true;
}

enum BoardNumber : size_t {
  kAgentPid,
  kAlive,
  kUp,
  kExchanged,
  kDownSince,
  kLag,
  kRoundTrip,
  kNodes,
  kShare,
  kCalls,
  kPushes,
  kErrors,
  kUnknown,
  kHealed,
  kOvershoot,
  kKeysNear,
};

TierStatus status_from(const Engine& engine) {
  TierStatus status;
  status.kept = engine.consumption.kept();
  if (!status.kept) return status;
  const shm::TierBoard& board = *engine.consumption.board();
  const auto number = [&](BoardNumber which) {
    return board.numbers[which].load(std::memory_order_relaxed);
  };
  const auto time = [&](BoardNumber which) { return static_cast<int64_t>(number(which)); };
  status.agent_pid = number(kAgentPid);
  status.alive_ns = time(kAlive);
  status.up = number(kUp) != 0;
  status.exchanged_ns = time(kExchanged);
  status.down_since_ns = time(kDownSince);
  status.lag_ns = time(kLag);
  status.round_trip_ns = time(kRoundTrip);
  status.nodes = number(kNodes);
  const uint64_t share = number(kShare);  // 0: no agent has said
  status.share_ppm = share == 0 ? kWholePpm : static_cast<uint32_t>(share);
  status.calls = number(kCalls);
  status.pushes = number(kPushes);
  status.errors = number(kErrors);
  status.unknown = number(kUnknown);
  status.healed = number(kHealed);
  status.overshoot_permits = number(kOvershoot);
  status.keys_near = number(kKeysNear);
  status.strict_calls = board.strict_calls.load(std::memory_order_relaxed);
  status.strict_errors = board.strict_errors.load(std::memory_order_relaxed);
  status.store = shm::load_text(board.store, shm::TierBoard::kTextWords);
  status.error = shm::load_text(board.error, shm::TierBoard::kTextWords);
  return status;
}

}  // namespace

absl::StatusOr<ClusterView> ClusterView::attach(std::string_view name, const Options& options) {
  auto engine = internal::attach_engine(name, options, false);
  if (!engine.ok()) return engine.status();
  if (!(*engine)->consumption.kept()) {
    return cluster_not_kept(shown_path((*engine)->segment->path()));
  }
  return ClusterView(*std::move(engine));
}

absl::StatusOr<TierStatus> ClusterView::status_of(std::string_view name, const Options& options) {
  const auto engine = internal::attach_engine(name, options, true);
  if (!engine.ok()) return engine.status();
  return status_from(**engine);
}

std::string ClusterView::node() const {
  return hex_bytes(shm::lineage_of(engine_->segment->header()), 16);
}
std::string ClusterView::path() const { return engine_->segment->path(); }
int64_t ClusterView::now_ns() const { return engine_->clock.now(); }
bool ClusterView::linked() const { return engine_->segment->linked(); }
bool ClusterView::superseded() const { return engine_->superseded(); }

std::vector<ClusterPolicy> ClusterView::policies() const {
  std::vector<ClusterPolicy> list;
  for (uint32_t i = 0; i < engine_->registry.size(); ++i) {
    const auto number = static_cast<uint16_t>(i);
    shm::PolicyWords words;
    std::string text;
    if (!engine_->registry.read(number, words, text)) continue;
    const PolicyOptions options = options_from_word(words[kOptionWords]);
    ClusterPolicy policy{number, engine_->registry.name(number), options.strict, {}, {}, {}, {}};
    for (uint32_t part = 0; part < options.rates; ++part) {
      const Quota quota = quota_from(words, part);
      if (family(quota) != Family::kBucket || !(options.strict || has(quota, kShared))) continue;
      policy.rates.push_back(terms_of(quota));
      policy.bursts.push_back(quota.burst);
      policy.limits.push_back(quota.limit);
      policy.periods_ns.push_back(quota.period_ns);
    }
    if (!policy.rates.empty()) list.push_back(std::move(policy));
  }
  return list;
}

void ClusterView::for_each_use(bool all, const std::function<bool(const KeyUse&)>& visit) {
  uint64_t secret[2];
  if (!engine_->consumption.secret(secret)) return;
  const uint64_t slots = engine_->table.slot_count();
  bool stopped = false;
  const auto give = [&](uint64_t i) {
    KeyUse use;
    if (!stopped && see(*engine_, i, use)) {
      use.key = whole_key(*engine_, i, use.id);
      stopped = !visit(use);
      return;
    }
    if (stopped) engine_->consumption.mark(i);
  };
  for (uint64_t w = 0; w < shm::near_words(slots) && !stopped; ++w) {
    uint64_t marks = engine_->consumption.take_marks(w);
    if (all) marks = ~uint64_t{0};
    for (; marks != 0; marks &= marks - 1) {
      const uint64_t i = w * 64 + static_cast<uint64_t>(__builtin_ctzll(marks));
      if (i < slots) give(i);
    }
  }
}

bool ClusterView::look(KeyUse& use) const {
  KeyUse now;
  if (!see(*engine_, use.slot, now) || now.id != use.id || now.nonce != use.nonce ||
      now.identity != use.identity) {
    return false;
  }
  now.key = std::move(use.key);
  use = std::move(now);
  return true;
}

void ClusterView::mark(const KeyUse& use) {
  if (use.slot < engine_->table.slot_count()) engine_->consumption.mark(use.slot);
}

void ClusterView::acknowledge(const KeyUse& use) {
  if (use.slot >= engine_->table.slot_count()) return;
  engine_->consumption.acknowledge(use.slot, use.identity, use.nonce, use.total);
}

bool ClusterView::raise(const KeyUse& use, uint64_t level_units, int64_t as_of_ns) {
  if (use.slot >= engine_->table.slot_count()) return true;
  shm::AtomicSlot* const at = engine_->segment->slots() + use.slot;
  constexpr int kMostTries = 4096;
  for (int tries = 0; tries < kMostTries; ++tries) {
    const shm::Slot seen = shm::HardwareAtomics::load(at);
    const int64_t now = engine_->clock.now();  // before the policy
    Quota quota;
    if (seen.id != use.id || is_tentative(seen.word) ||
        !read_quota(engine_->registry, use.policy, use.part, quota)) {
      return true;  // another key's by now: nothing to be raised
    }
    // What was used since then comes on top, and what was given back since then is not owed. Both
    // are counted a little after the word was changed: what is missing here is told the next time.
    const RateTerms terms = terms_of(quota);
    KeyUse since{};
    since.acked = use.total;
    const shm::UseSeen cell = engine_->consumption.look(use.slot);
    since.total = cell.id == use.id && cell.nonce == use.nonce ? cell.total : use.total;
    const int64_t since_then = since.untold();
    const uint128 change = static_cast<uint128>(std::abs(since_then)) * terms.permit_units;
    const uint128 level = since_then >= 0        ? level_units + change
                          : change < level_units ? level_units - change
                                                 : 0;
    constexpr uint64_t kMost = uint64_t{1} << 60;
    const uint64_t units =
        from_exchanged(static_cast<uint64_t>(std::min<uint128>(level, kMost)), quota, terms);
    RaiseTo rule{units, as_of_ns};
    const Step step = rule(seen.word, instant(quota, now), quota);
    // Killed here: the next agent asks again and raises it.
    if (step.next == seen.word || shm::HardwareAtomics::cas(at, seen, {seen.id, step.next})) {
      return !rule.overflows;
    }
    shm::HardwareAtomics::pause();
  }
  return false;
}

void ClusterView::set_secret(const uint64_t secret[2]) {
  uint64_t known[2];
  if (engine_->consumption.secret(known) && std::memcmp(known, secret, sizeof(known)) == 0) return;
  engine_->consumption.set_secret(secret);
  for (uint64_t i = 0; i < engine_->table.slot_count(); ++i)
    engine_->consumption.forget_identity(i);
}

bool ClusterView::get_secret(uint64_t secret[2]) const {
  return engine_->consumption.secret(secret);
}

void ClusterView::set_hold_back(uint16_t policy, uint32_t part, uint32_t permits) {
  shm::Registry registry = engine_->registry;
  if (registry.hold_back(policy, part) != permits) registry.set_hold_back(policy, part, permits);
}

absl::Status ClusterView::set_share(uint16_t policy, uint32_t parts_per_million) {
  if (parts_per_million == 0 || parts_per_million > kWholePpm) {
    return absl::InvalidArgumentError(
        cat("invalid_share: ", parts_per_million, " parts per million; give 1 to 1000000"));
  }
  const auto lock = engine_->registry.lock();
  if (!lock.held()) return engine_->lock_error();
  if (absl::Status status = engine_->check_settled(); !status.ok()) return status;
  shm::PolicyWords words;
  std::string text;
  if (!engine_->registry.read(policy, words, text)) return absl::OkStatus();
  if (!has(quota_from(words, 0), kShared)) return absl::OkStatus();  // it was changed meanwhile
  const uint64_t wanted = parts_per_million == kWholePpm ? 0 : parts_per_million;
  if (words[kWordShare] == wanted) return absl::OkStatus();
  shm::Registry registry = engine_->registry;
  registry.replace(policy, with_share(words, engine_->clock.now(), static_cast<uint32_t>(wanted)),
                   text);
  return absl::OkStatus();
}

void ClusterView::set_status(const TierStatus& status) {
  shm::TierBoard& board = *engine_->consumption.board();
  const auto put = [&](BoardNumber which, uint64_t value) {
    // Killed here: people read some of the old status.
    BRIM_STORE_POINT();
    board.numbers[which].store(value, std::memory_order_relaxed);
  };
  put(kAgentPid, status.agent_pid);
  put(kAlive, static_cast<uint64_t>(status.alive_ns));
  put(kUp, status.up ? 1 : 0);
  put(kExchanged, static_cast<uint64_t>(status.exchanged_ns));
  put(kDownSince, static_cast<uint64_t>(status.down_since_ns));
  put(kLag, static_cast<uint64_t>(status.lag_ns));
  put(kRoundTrip, static_cast<uint64_t>(status.round_trip_ns));
  put(kNodes, status.nodes);
  put(kShare, status.share_ppm);
  put(kCalls, status.calls);
  put(kPushes, status.pushes);
  put(kErrors, status.errors);
  put(kUnknown, status.unknown);
  put(kHealed, status.healed);
  put(kOvershoot, status.overshoot_permits);
  put(kKeysNear, status.keys_near);
  shm::store_text(board.store, shm::TierBoard::kTextWords, status.store);
  shm::store_text(board.error, shm::TierBoard::kTextWords, status.error);
}

TierStatus ClusterView::status() const { return status_from(*engine_); }

absl::Status set_strict_decider(const Limiter& limiter, std::shared_ptr<StrictDecider> decider) {
  if (!internal::EngineOf::has(limiter)) {
    return absl::FailedPreconditionError("not_open: this Limiter is empty");
  }
  const Engine& engine = internal::EngineOf::of(limiter).current();
  if (absl::Status status = engine.check_writable(); !status.ok()) return status;
  if (!engine.consumption.kept()) {
    return cluster_not_kept(shown_path(engine.segment->path()));
  }
  // Calls may be in an earlier one at any time: none is freed.
  static std::mutex mutex;
  static std::vector<std::shared_ptr<StrictDecider>>& kept =
      *new std::vector<std::shared_ptr<StrictDecider>>();
  const std::lock_guard<std::mutex> hold(mutex);
  engine.segment->companion.store(decider.get(), std::memory_order_release);
  if (decider != nullptr) kept.push_back(std::move(decider));
  return absl::OkStatus();
}

}  // namespace brim
