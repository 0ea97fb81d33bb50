// SPDX-License-Identifier: MIT
// What a tier needs of a store that the nodes of a cluster share: three calls. Another store than
// Redis is one class with these, and a name in open_store().
//
// The store keeps of each rate of each key a bucket, and of each node how much of it that node has
// told. What a node tells is the total since its cell began, never a difference: telling it twice
// is telling it once, and after the store lost its last writes the next total heals them.
//
//     level   what the bucket owes, in units; drains by units_per_us each microsecond of the
//             store's own clock (one clock for all nodes); never below 0
//     told    of {node, nonce}: the last total; gone when the bucket is
//
// exchange() does for each Push, all its rates at one instant and atomically:
//   1  Of each rate: is the bucket there, its level drains to now. Is it not (the store is new, was
//      flushed, or the key's time was over), the level is `floor_units`, the node's own view, and
//      what the node has to tell is in that already.
//   2  What is told: total - told (or - acked_total, if the store knows of no total), modulo 2^40
//      as a signed number, times permit_units, is added; never below 0. If acked_total is not 0 and
//      the store has the bucket but no total of this cell, it lost some: the level is then at least
//      floor_units.
//   3  If cost is not 0: admitted if it fits all rates (level + cost * permit_units <=
//      capacity_units; with by_debt_before: level <= capacity_units), then added to all of them.
//   4  The store remembers the permit_units of a bucket. Are those of a push others (the policy was
//      changed, on some nodes before others), the level is first rescaled, rounded up, so that it
//      owes as many permits as before.
//   5  The store numbers the changes of a bucket. A node that finds the number that it left knows
//      that nobody else told anything, and that its own word, which was charged in time, is right.
//   6  The bucket lives until its level is 0 and at least keep_ms more.
#ifndef BRIM_SRC_TIER_STORE_H_
#define BRIM_SRC_TIER_STORE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brim/cluster.h"

namespace brim::tier {

inline constexpr uint64_t kTotalBits = 40;
inline constexpr uint64_t kMostLevel = uint64_t{1} << 52;  // all levels and sums: exact in a double

struct RateUse {
  uint32_t part = 0;  // which rate of the policy
  RateTerms terms = {};
  uint64_t total = 0;        // 40 bits
  uint64_t acked_total = 0;  // what an earlier answer confirmed; 0: nothing
  uint32_t nonce = 0;        // of the cell; 0: this node tells nothing of this rate
  uint64_t floor_units = 0;  // what the node believes that the bucket owes
};

struct Push {
  std::string_view policy;     // its name
  uint64_t identity = 0;       // of the key, the same on all nodes
  std::string_view text = {};  // of the key, any bytes; kept beside for people, if not empty
  std::span<const RateUse> rates;
  uint32_t cost = 0;
  int64_t keep_ms = 60000;
};

struct PushAnswer {
  // Ok: done. Unavailable: it surely was not done. Unknown: it may have been done (never send it
  // again with a cost; totals may be told again). Others: it was refused, and why.
  absl::Status status;
  bool admitted = false;         // of `cost`
  bool lost = false;             // the store had lost this bucket or what was told of it
  std::vector<uint64_t> levels;  // of each rate, after the push
  // Of the first rate's bucket: a number that is another one after each push, of whoever, that told
  // something new or was admitted; as it was before this push, and after.
  uint64_t changes_before = 0;
  uint64_t changes = 0;
};

struct Node {
  std::string uuid;
  std::string name;         // host and segment, for people
  int64_t seen_ago_ns = 0;  // by the store's clock
};

struct Meeting {
  uint64_t secret[2] = {};  // the key of the hash that names keys; the same for all who meet
  std::vector<Node> nodes;  // this one too
};

// For status and metrics; all but `state` only grow.
struct StoreCounts {
  uint64_t calls = 0;  // round trips
  uint64_t pushes = 0;
  uint64_t errors = 0;   // pushes that failed
  uint64_t unknown = 0;  // ... of which nobody knows whether they were done
  uint64_t connects = 0;
  uint64_t redirects = 0;  // MOVED and ASK followed
  uint64_t reloads = 0;    // a script that the server did not know was sent again
  uint64_t refusals[8] =
      {};  // READONLY, LOADING, CLUSTERDOWN, BUSY, OOM, NOAUTH or WRONGPASS, NOPERM, others
};

// For one thread at a time. After fork() the child must make its own; the parent's sockets are not
// used there.
class Store {
 public:
  virtual ~Store() = default;
  // All pushes, pipelined; answers[i] is that of pushes[i]. Returns by `deadline_ns`
  // (CLOCK_MONOTONIC) whatever the store does.
  virtual void exchange(std::span<const Push> pushes, std::span<PushAnswer> answers,
                        int64_t deadline_ns) = 0;
  // Tells that this node is there, forgets nodes not seen for forget_ns, and agrees on the secret:
  // `mine` is taken if there was none. `leave`: this node is forgotten at once.
  virtual absl::StatusOr<Meeting> meet(const Node& self, const uint64_t mine[2], int64_t forget_ns,
                                       bool leave, int64_t deadline_ns) = 0;
  virtual absl::Status forget(std::string_view uuid, int64_t deadline_ns) = 0;
  // What a person should know about how the store is set up (an eviction policy that drops keys,
  // say); empty if all is well. Asked once after each connect.
  virtual std::string warning(int64_t deadline_ns) = 0;
  virtual StoreCounts counts() const = 0;
};

// The store that a URL names: see src/tier/url.h. Does not connect yet.
struct StoreOptions {
  std::string url;
  std::string prefix = "brim";  // of all keys' names; [A-Za-z0-9._-]{1,64}
  std::string node = {};  // who tells: the segment's uuid, 32 hex digits; empty: tells nothing
  std::string user = {};  // beside or instead of those in the URL
  std::string password = {};
  std::string ca_file = {};  // of TLS; empty: the system's
  std::string cert_file = {};
  std::string key_file = {};
  bool insecure = false;  // TLS without looking at the certificate
  int64_t connect_timeout_ns = 1000000000;
};
absl::StatusOr<std::unique_ptr<Store>> open_store(const StoreOptions& options);

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_STORE_H_
