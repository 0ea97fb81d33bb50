// SPDX-License-Identifier: MIT
// Concurrency leases: the key's slot first, then a place at its position (shm/leases.h). Unlike
// the calls on rates, a refused acquire_lease() may ask the kernel whether holders still live.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "shm/identity.h"
#include "shm/leases.h"
#include "src/cell_context.h"
#include "src/overrides.h"
#include "src/parts.h"
#include "src/route.h"

namespace brim {

namespace {

using Leases = shm::Leases<shm::HardwareCellAtomics, CellContext>;

constexpr int64_t kStartTimeCheckNs = 100000000;

// Who this process is, looked up once in each process; a forked child looks again.
struct Self {
  pid_t pid = 0;
  uint64_t start_time = 0;
  uint64_t pid_namespace = 0;
  int64_t checked_ns = 0;  // when the holders' start times were last looked at
};

Self& self() noexcept {
  thread_local Self known;
  const pid_t pid = getpid();
  if (known.pid != pid) {
    known = {pid, shm::process_start_time(pid), shm::machine_identity().pid_namespace, 0};
  }
  return known;
}

bool same_namespace(const Engine& engine, const Self& here) noexcept {
  return here.pid_namespace != 0 && here.pid_namespace == engine.segment->header().pid_namespace;
}

uint64_t new_holder(const Engine& engine) noexcept {
  static std::atomic<uint32_t> number{0};
  const Self& here = self();
  // Relaxed: only has to differ from this process's last 65535.
  return shm::make_holder(same_namespace(engine, here) && here.start_time != 0,
                          static_cast<uint32_t>(here.pid), here.start_time,
                          number.fetch_add(1, std::memory_order_relaxed));
}

// Ends the leases of processes that are gone. A pid that exists may be another process's by now;
// to tell costs a file read, so that is looked at now and then only.
uint32_t reap(const Engine& engine, Leases& leases, int64_t now) noexcept {
  Self& here = self();
  if (!same_namespace(engine, here)) return 0;
  const bool thorough = now - here.checked_ns >= kStartTimeCheckNs;
  if (thorough) here.checked_ns = now;
  const auto dead = [thorough](uint64_t holder) {
    const auto pid = static_cast<pid_t>(shm::holder_pid(holder));
    if (kill(pid, 0) != 0 && errno == ESRCH) return true;
    if (!thorough) return false;
    const uint64_t start = shm::process_start_time(pid);
    return start != 0 && (start & 0xffffff) != shm::holder_start(holder);
  };
  return leases.reap(static_cast<uint64_t>(kClockSkewNs), dead);
}

shm::LeaseRule rule_of(const Quota& quota) noexcept {
  shm::LeaseRule rule;
  rule.limit = static_cast<uint32_t>(std::min<uint64_t>(quota.capacity, shm::kMaxLeases));
  rule.horizon_ns = horizon_ns(quota);
  return rule;
}

uint64_t ttl_of(const Quota& quota, int64_t asked) noexcept {
  // A lease must outlive the difference between two clocks.
  constexpr uint64_t kLeast = 2 * static_cast<uint64_t>(kClockSkewNs) + 1;
  const uint64_t most = std::max(static_cast<uint64_t>(quota.period_ns), kLeast);
  return asked <= 0 ? most : std::clamp(static_cast<uint64_t>(asked), kLeast, most);
}

Decision answer(const shm::LeaseResult& result, const Quota& quota) noexcept {
  Decision decision;
  const uint64_t limit = std::min<uint64_t>(quota.capacity, shm::kMaxLeases);
  decision.remaining = static_cast<uint32_t>(limit - std::min<uint64_t>(limit, result.live));
  decision.reset_after_ns = static_cast<int64_t>(result.reset_at_ns - result.now_ns);
  decision.admitted = result.admitted;
  decision.verdict = result.admitted ? Verdict::kAllowed : Verdict::kDenied;
  if (!result.admitted) {
    decision.retry_after_ns =
        limit == 0 ? kNever : static_cast<int64_t>(result.retry_at_ns - result.now_ns);
  }
  return decision;
}

Lease only(const Decision& decision) noexcept {
  Lease lease;
  lease.decision = decision;
  return lease;
}

// One lease under the rate of `target`.
Lease take(const Engine& engine, const Target& target, std::string_view key, const Quota& quota,
           uint64_t ttl) noexcept {
  const bool admits = !has(quota, kDenyIfUnavailable);
  const uint64_t holder = new_holder(engine);
  bool reaped = false;
  for (int moves = 0; moves < kMaxMoves; ++moves) {
    shm::Slot slot;
    const uint64_t at = engine.table.find(target.probe, target.id, slot);
    if (at == engine.table.slot_count()) {
      Call<HoldSlot, Scope::kGeneral> call(engine, target, key, {ttl});
      if (!call.begin(engine.clock.now())) break;
      const Outcome outcome = engine.table.update(target.probe, target.id, call);
      if (outcome != Outcome::kDecided) return only(undecided(engine, outcome, call));
      continue;
    }
    CellContext context(engine, target, at);
    Leases leases(cells_at(engine, at), engine.cells_per_key, rule_of(quota), context);
    const shm::LeaseResult result = leases.acquire(ttl, holder);
    if (result.outcome == shm::CellOutcome::kContended) break;
    if (result.outcome == shm::CellOutcome::kMoved) continue;
    if (!result.admitted && !reaped) {
      reaped = true;
      if (reap(engine, leases, engine.clock.now()) != 0) continue;
    }
    Lease lease = only(answer(result, quota));
    if (!result.admitted) return lease;
    lease.expires_ns = static_cast<int64_t>(result.lease.expiry_ns);
    lease.fence = result.lease.fence;
    lease.holder = result.lease.holder;
    lease.id = target.id;
    lease.slot = at;
    lease.place = result.lease.index;
    return lease;
  }
  return only(unavailable(Reason::kContended, admits));
}

// The policy that the key follows, or the answer of an override.
bool follow(const Engine& engine, std::string_view key, const Hash128& hash, uint16_t& policy,
            PolicyOptions& options, Lease& decided) noexcept {
  if (!read_options(engine, policy, options)) {
    decided = only(unavailable(Reason::kNoPolicy, true));
    return false;
  }
  if (!options.overrides) return true;
  const OverrideUse use = find_override(engine, policy, key, hash);
  if (use.kind == OverrideKind::kNone) return true;
  if (use.kind == OverrideKind::kBan) {
    decided = only(refuse_barred(use.left_ns));
    count_decided(engine, policy, decided.decision);
    return false;
  }
  engine.count(policy, PolicyCounter::kExempt);
  if (use.kind == OverrideKind::kPolicy) {
    policy = use.policy;
    if (read_options(engine, policy, options)) return true;
    decided = only(unavailable(Reason::kNoPolicy, true));
    return false;
  }
  decided = only(use.kind == OverrideKind::kDeny ? refuse_always() : admit_uncounted());
  return false;
}

shm::Lease at_position(const Lease& lease) noexcept {
  return {lease.place, static_cast<uint64_t>(lease.expires_ns), lease.holder, lease.fence};
}

// False for a lease that can not be of this segment.
bool fits(const Engine& engine, const Lease& lease) noexcept {
  return engine.cells != nullptr && lease.slot < engine.table.slot_count() &&
         lease.place < engine.cells_per_key / 2 && lease.expires_ns > 0;
}

Lease acquire_at(const Engine& engine, uint16_t policy, std::string_view key,
                 int64_t ttl_ns) noexcept {
  const Hash128 hash = hash_key(engine.secret, key);
  uint16_t followed = policy;
  PolicyOptions options;
  Lease lease;
  if (!follow(engine, key, hash, followed, options, lease)) return lease;
  Quota quota;
  const bool known = read_quota(engine.registry, followed, 0, quota);
  if (!known || quota.algorithm != static_cast<uint8_t>(Algorithm::kConcurrency) ||
      engine.cells == nullptr) {
    return only(unavailable(Reason::kUnsupported, false));
  }
  if (engine.read_only) {
    return only(unavailable(Reason::kReadOnly, !has(quota, kDenyIfUnavailable)));
  }
  if (has(quota, kScaled)) scale_limit(quota, engine.clock.now());
  scale_class(quota, class_share(options, Priority::kNormal));
  // A refusal writes nothing: not even a slot for a key that can have no lease.
  lease = quota.capacity == 0
              ? only(refuse_always())
              : take(engine, locate(engine, followed, 0, hash), key, quota, ttl_of(quota, ttl_ns));
  const Verdict verdict = lease.decision.verdict;
  const bool enforced = is_enforced(options, hash);
  if (verdict == Verdict::kDenied && !enforced) {
    lease.decision.admitted = true;
    lease.decision.reason = Reason::kShadow;
  }
  engine.count(policy, verdict == Verdict::kAllowed       ? PolicyCounter::kAllowed
                       : verdict == Verdict::kUnavailable ? PolicyCounter::kUnavailable
                       : enforced                         ? PolicyCounter::kDenied
                                                          : PolicyCounter::kShadowDenied);
  return lease;
}

}  // namespace

// Of a segment with leases there is no resize, so no lease is in another table than its key.
Lease PolicyHandle::acquire_lease(std::string_view key, int64_t ttl_ns) const noexcept {
  if (engine_ == nullptr) return only(unavailable(Reason::kNoPolicy, true));
  Route route(*engine_, number_);
  if (!route.find()) return only(route.decided());
  return acquire_at(route.engine(), number_, key, ttl_ns);
}

bool PolicyHandle::renew(Lease& lease, int64_t ttl_ns) const noexcept {
  if (lease.place == Lease::kNoPlace) return lease.decision.admitted;
  Quota quota;
  if (engine_ == nullptr) return false;
  const Engine& engine = engine_->current();
  if (engine.read_only || !fits(engine, lease) ||
      !read_quota(engine.registry, shm::id_policy(lease.id), 0, quota)) {
    return false;
  }
  CellContext context(engine, lease.id, lease.slot);
  shm::Lease renewed = at_position(lease);
  const shm::CellOutcome outcome =
      Leases(cells_at(engine, lease.slot), engine.cells_per_key, rule_of(quota), context)
          .renew(renewed, ttl_of(quota, ttl_ns));
  if (outcome != shm::CellOutcome::kDecided) return false;
  lease.expires_ns = static_cast<int64_t>(renewed.expiry_ns);
  return true;
}

bool PolicyHandle::release(const Lease& lease) const noexcept {
  if (lease.place == Lease::kNoPlace) return lease.decision.admitted;
  if (engine_ == nullptr) return false;
  const Engine& engine = engine_->current();
  if (engine.read_only || !fits(engine, lease)) return false;
  const bool in_time = lease.expires_ns > engine.clock.now();
  return Leases::release(cells_at(engine, lease.slot), engine.cells_per_key, at_position(lease)) &&
         in_time;
}

}  // namespace brim
