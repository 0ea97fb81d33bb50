// SPDX-License-Identifier: MIT
// The shared store in Redis. Its keys, with what the options call the prefix:
//
//   PREFIX:POLICY:{IDENTITY}       the bucket of a key's first rate, a hash; POLICY.N of rate N
//   PREFIX:{nodes}                 uuid -> when it was seen (us) and its name, a hash
//   PREFIX:{secret}                32 hex digits
//
// IDENTITY is 16 hex digits and the hash tag: all rates of a key are in one slot of a cluster, so
// that one script sees them all. The smallest rights that suffice (for a cluster also
// +cluster|slots +asking, for Sentinel +role; +info lets warning() see the eviction policy):
//
//   user brim on >PASSWORD ~brim:* resetchannels -@all +ping +eval +evalsha +time +hmget +hset
//   +hlen
//     +hkeys +hdel +hgetall +pexpire +get +set
#ifndef BRIM_SRC_TIER_REDIS_STORE_H_
#define BRIM_SRC_TIER_REDIS_STORE_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "src/tier/redis_link.h"
#include "src/tier/store.h"

namespace brim::tier {

class RedisStore final : public Store {
 public:
  RedisStore(const StoreOptions& options, RedisUrl url);

  void exchange(std::span<const Push> pushes, std::span<PushAnswer> answers,
                int64_t deadline_ns) override;
  absl::StatusOr<Meeting> meet(const Node& self, const uint64_t mine[2], int64_t forget_ns,
                               bool leave, int64_t deadline_ns) override;
  absl::Status forget(std::string_view uuid, int64_t deadline_ns) override;
  std::string warning(int64_t deadline_ns) override;
  StoreCounts counts() const override { return link_.counts(); }

 private:
  Call call_of(const Push& push) const;
  void after_fork();

  std::string prefix_;  // with its ':'
  std::string node_;
  RedisLink link_;
  pid_t pid_;
};

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_REDIS_STORE_H_
