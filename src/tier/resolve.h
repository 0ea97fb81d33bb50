// SPDX-License-Identifier: MIT
// Names to addresses, within a deadline: getaddrinfo() knows none, so it runs in a thread of its
// own, which is left alone when it takes too long and asked again next time.
#ifndef BRIM_SRC_TIER_RESOLVE_H_
#define BRIM_SRC_TIER_RESOLVE_H_

#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "src/tier/url.h"

namespace brim::tier {

struct SocketAddress {
  sockaddr_storage bytes{};
  socklen_t size = 0;
};

class Resolver {
 public:
  // At least one. Errors: Unavailable (tier_connect, tier_timeout).
  absl::StatusOr<std::vector<SocketAddress>> resolve(const Endpoint& endpoint, int64_t deadline_ns);
  // In a child of fork(): the threads are the parent's.
  void forget() { pending_.clear(); }

 private:
  struct Lookup;
  static void* look_up(void* raw);
  absl::StatusOr<std::shared_ptr<Lookup>> begin(const Endpoint& endpoint);

  std::vector<std::shared_ptr<Lookup>> pending_;  // at most one of each endpoint
};

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_RESOLVE_H_
