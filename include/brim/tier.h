// SPDX-License-Identifier: MIT
// One limit across machines: policies `scope cluster` count what all nodes admit. Needs
// libbrim-sync and a Redis that the nodes share; requests never wait for it, but those of policies
// `scope cluster strict`.
//
//   brim::TierThread tier("api", {.url = "redis://10.0.0.5:6379"});
//
// That line, in any number of workers, is what `brim agent --tier URL` does as a process of its
// own. docs/concepts/cluster.md derives how far the nodes together may exceed a limit, and when.
#ifndef BRIM_TIER_H_
#define BRIM_TIER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brim/cluster.h"
#include "brim/limiter.h"

namespace brim {

struct TierOptions {
  // redis://[user:password@]host:port/db, rediss:// for TLS, unix:///path?db=N,
  // redis://s1:26379,s2/0?sentinel_master=NAME, redis://n1,n2,n3 (cluster) or ?cluster=1.
  std::string url = {};
  std::string user = {};
  std::string password = {};  // or file:PATH, or env:NAME; never shown
  std::string ca_file = {};
  std::string cert_file = {};
  std::string key_file = {};
  bool insecure = false;        // TLS without looking at the certificate
  std::string prefix = "brim";  // of all names in the store
  std::string secret = {};      // 32 hex digits; empty: the nodes agree on one
  bool texts = false;           // keys' texts are kept in the store beside the hashes, for people
  std::string node_name = {};   // for people; empty: host name and segment
  int64_t interval_ns = 200000000;  // longest time between two exchanges of a key that matters; a
                                    // key close to its limit is exchanged 8 times as often
  int64_t timeout_ns = 0;  // of one exchange, by default 500 ms; strict: of one request, 50 ms
  int64_t hold_ns = 10000000000;    // the store is away: so long the others are taken to go on as
                                    // they did; then this node takes `share_ppm` of each rate
  uint32_t share_ppm = 0;           // 0: one part of as many as there are nodes
  int64_t forget_ns = 30000000000;  // a node that is not heard of for so long is gone
  Options attach = {};              // owner, group, clock
  // Told what happened, in words: 3 an error, 4 a warning, 6 information.
  std::function<void(int level, const std::string& what)> say = {};
};

// Follows a segment by its name and exchanges what its keys use with the other nodes. Of all
// processes of a node that want to, one does (flock on a file beside the segment); another takes
// over when it dies. For one thread at a time; not across fork().
class TierLoop {
 public:
  // Errors: InvalidArgument (tier_url, invalid_option).
  static absl::StatusOr<TierLoop> open(std::string_view segment, TierOptions options);
  // One round, of timeout_ns at most, or four times that while the store is away; returns how many
  // ns to wait before the next.
  int64_t step();
  // Tells what is left to tell, and leaves the cluster: its share returns to the others.
  absl::Status finish();

  TierLoop(TierLoop&&) noexcept;
  TierLoop& operator=(TierLoop&&) noexcept;
  ~TierLoop();

 private:
  class Impl;
  explicit TierLoop(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A TierLoop in a thread with all signals blocked. After fork() the child has none.
class TierThread {
 public:
  static absl::StatusOr<TierThread> start(std::string_view segment, TierOptions options);
  TierThread(TierThread&&) noexcept;
  TierThread& operator=(TierThread&&) noexcept;
  ~TierThread();  // finishes

 private:
  class Impl;
  explicit TierThread(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// This process can decide policies `scope cluster strict` of the segment from now on, in all its
// threads and in children that it forks: one round trip for each request that this node would
// admit, at most options.timeout_ns. What the node refuses is refused without one. On
// errors the policy's on-unavailable answers; after several in a row the store is not asked for a
// while (a breaker), so that a dead store costs no time. Works without an
// agent.
absl::Status answer_strict(const Limiter& limiter, const TierOptions& options);

// For people: who is there. Removes a node that will not come back, at once.
struct TierNode {
  std::string uuid;
  std::string name;
  int64_t seen_ago_ns = 0;
  bool self = false;
};
absl::StatusOr<std::vector<TierNode>> tier_nodes(std::string_view segment,
                                                 const TierOptions& options);
absl::Status remove_tier_node(const TierOptions& options, std::string_view uuid);

}  // namespace brim

#endif  // BRIM_TIER_H_
