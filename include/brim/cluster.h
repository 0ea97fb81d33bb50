// SPDX-License-Identifier: MIT
// What a segment shares with other nodes: what each key of a policy `scope cluster` has used, and
// what the cluster says the key owes. Agents are made of it (brim/tier.h); nobody else needs it.
//
//   auto view = brim::ClusterView::attach("api");
//   view->for_each_use(false, [&](const brim::KeyUse& use) { tell(use); return true; });
//   ...                                       // the others answer: the key owes `level` permits
//   view->acknowledge(use);                   // they know what is in `use`
//   view->raise(use, level_units, asked_ns);  // and the key owes at least that
//
// Each rate of a policy counts for itself: it has a slot, and beside it a cell.
#ifndef BRIM_CLUSTER_H_
#define BRIM_CLUSTER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brim/limiter.h"

namespace brim {

// A rate in the units that nodes exchange: integers that a double holds exactly, the same on every
// node that has the same policy text.
struct RateTerms {
  double units_per_us = 1;      // what flows back; a power of two, perhaps below 1
  uint64_t permit_units = 0;    // of one permit, rounded up: never more than the rate
  uint64_t capacity_units = 0;  // burst and debt
  bool by_debt_before = false;  // forward charge, queue: admits by what is owed before
};

// A policy with `scope cluster`.
struct ClusterPolicy {
  uint16_t number = 0;
  std::string name;
  bool strict = false;
  std::vector<RateTerms> rates;
  std::vector<uint32_t> bursts;  // permits, of each rate
  std::vector<uint32_t> limits;  // permits per period
  std::vector<int64_t> periods_ns;
};

// What one rate of one key has used.
struct KeyUse {
  uint64_t slot = 0;
  uint64_t id = 0;  // of the slot
  uint16_t policy = 0;
  uint32_t part = 0;
  uint64_t identity = 0;    // of the key: a hash whose key the cluster shares
  uint32_t nonce = 0;       // of the cell, 24 bits, never 0: another one, another count
  uint64_t total = 0;       // permits admitted since the cell began, modulo 2^40
  uint64_t acked = 0;       // of these, acknowledged
  uint64_t owed_units = 0;  // by this node's view, as of as_of_ns; in RateTerms' units
  uint64_t capacity_units = 0;
  int64_t as_of_ns = 0;  // CLOCK_MONOTONIC; no later than the reading of owed_units
  std::string key;       // its text, if the whole of it was kept; else empty
  // Permits used that nobody was told of. Negative: given back.
  int64_t untold() const noexcept {
    constexpr uint64_t kHalf = uint64_t{1} << 39;
    const uint64_t gone = (total - acked) & (2 * kHalf - 1);
    return gone < kHalf ? static_cast<int64_t>(gone)
                        : static_cast<int64_t>(gone) - static_cast<int64_t>(2 * kHalf);
  }
};

// What the agent leaves in the segment for people and tools. Counters only grow.
struct TierStatus {
  bool kept = false;             // the segment has room for it: it was made with `cluster`
  uint64_t agent_pid = 0;        // 0: there never was one
  int64_t alive_ns = 0;          // CLOCK_MONOTONIC: the agent was at work
  bool up = false;               // the last exchange was answered
  int64_t exchanged_ns = 0;      // the last exchange that was answered
  int64_t down_since_ns = 0;     // 0: up
  int64_t lag_ns = 0;            // from a use being counted to the answer about it: the longest of
                                 // the last exchange
  int64_t round_trip_ns = 0;     // of the last exchange
  uint64_t nodes = 0;            // that have met
  uint32_t share_ppm = 1000000;  // of the rates, while the store is away
  uint64_t calls = 0;            // round trips
  uint64_t pushes = 0;           // of keys
  uint64_t errors = 0;
  uint64_t unknown = 0;            // pushes of which nobody knows whether they were done
  uint64_t healed = 0;             // buckets that the store had lost
  uint64_t overshoot_permits = 0;  // the most by which any key was found over its burst
  uint64_t keys_near = 0;          // keys looked after now
  uint64_t strict_calls = 0;
  uint64_t strict_errors = 0;
  std::string store;  // where, without passwords
  std::string error;  // the last one; empty while up
};

// Safe beside traffic; for one thread at a time, and tell/acknowledge/raise for one process at a
// time (the agent that has the lease).
class ClusterView {
 public:
  // Errors: those of Limiter::attach; FailedPrecondition (cluster_not_kept): the segment was made
  // without `cluster`.
  static absl::StatusOr<ClusterView> attach(std::string_view name, const Options& options = {});
  // Only reads: status().
  static absl::StatusOr<TierStatus> status_of(std::string_view name, const Options& options = {});

  // The node's name to others: 32 hex digits, the same for all tables of a line of resized ones.
  std::string node() const;
  std::string path() const;
  std::vector<ClusterPolicy> policies() const;
  int64_t now_ns() const;
  bool linked() const;
  // The segment was resized: attach again once linked() is false.
  bool superseded() const;

  // Keys whose cell says that they matter (near their limit, or much was used that nobody was told
  // of), and forgets that it said so; `all`: every key with a cell. Without a secret: none. Stops
  // when `visit` returns false; the rest is then given again by the next call.
  void for_each_use(bool all, const std::function<bool(const KeyUse&)>& visit);
  // The cell again, for a key given before. False: it is another key's by now.
  bool look(KeyUse& use) const;
  // The key is given again by the next for_each_use.
  void mark(const KeyUse& use);

  // What use.total says was told. Idempotent.
  void acknowledge(const KeyUse& use);
  // The key owes at least `level_units` at `as_of_ns` plus what it has used beyond use.total, or
  // less what was given back since. Never lowers; cut at what a word holds: then the answer is
  // false, and the key must be raised again before long. Counts nothing as used.
  bool raise(const KeyUse& use, uint64_t level_units, int64_t as_of_ns);

  // The key of the hash that names keys. Another than before: all cells begin anew.
  void set_secret(const uint64_t secret[2]);
  bool get_secret(uint64_t secret[2]) const;
  // A key that has used less than so many permits since it was last told of, and owes less than
  // half its burst, is left alone.
  void set_hold_back(uint16_t policy, uint32_t part, uint32_t permits);
  // While others can not be heard: the policy's rates are so much slower here. 1000000: whole.
  // Beside Limiter::set_factor, which stays as it is.
  absl::Status set_share(uint16_t policy, uint32_t parts_per_million);

  void set_status(const TierStatus& status);
  TierStatus status() const;

 private:
  explicit ClusterView(std::shared_ptr<internal::Engine> engine) : engine_(std::move(engine)) {}
  std::shared_ptr<internal::Engine> engine_;
};

// Who decides for policies `scope cluster strict`: one round trip for each request that this node
// would admit. Called on the request path by any thread, after fork() too; must return by itself.
class StrictDecider {
 public:
  struct Ask {
    std::string_view policy;
    uint64_t identity = 0;
    std::string_view key;
    uint32_t cost = 1;        // 0: only `given_back`
    uint32_t given_back = 0;  // permits; cost is 0 then
    uint32_t charged = 0;     // permits used beyond what was asked for; cost is 0 then
    size_t rates = 0;
    const RateTerms* terms = nullptr;
    const uint64_t* owed_units = nullptr;  // by this node's view
  };
  struct Answer {
    bool known = false;  // false: it could not be asked, or not in time
    bool admitted = false;
    int64_t as_of_ns = 0;  // CLOCK_MONOTONIC before it was asked
    uint64_t level_units[kMaxRates] = {};
  };
  virtual ~StrictDecider() = default;
  virtual Answer ask(const Ask& ask) noexcept = 0;
  // The segment has no secret yet: agrees on one with the other nodes and sets it. False: it could
  // not.
  virtual bool agree() noexcept { return false; }
};
// Of this process, for this segment. Null: none (calls are then answered by on-unavailable).
absl::Status set_strict_decider(const Limiter& limiter, std::shared_ptr<StrictDecider> decider);

}  // namespace brim

#endif  // BRIM_CLUSTER_H_
