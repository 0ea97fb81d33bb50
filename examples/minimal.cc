// SPDX-License-Identifier: MIT
// Twenty requests of one client pass at once, after that one more every 0.6 s, counted over every
// process that opens the same segment: run it twice in a row.
#include <cstdio>

#include "brim/limiter.h"

int main(int argc, char** argv) {
  auto limiter = brim::Limiter::open(argc > 1 ? argv[1] : "minimal",
                                     {.policies = {{"per_ip", "100/m burst 20"}}});
  if (!limiter.ok()) {
    std::fprintf(stderr, "%s\n", limiter.status().ToString().c_str());
    return 1;
  }
  auto per_ip = limiter->policy("per_ip");
  for (int i = 1; i <= 25; ++i) {
    const brim::Decision decision = per_ip->try_acquire("203.0.113.7");
    std::printf("%2d %s, %u left\n", i, decision ? "allowed" : "denied", decision.remaining);
  }
}
