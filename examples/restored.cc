// SPDX-License-Identifier: MIT
// A worker whose limits survive it: run it, remove the segment, run it again.
#include <cstdio>

#include "brim/limiter.h"
#include "brim/snapshot.h"

int main(int argc, char** argv) {
  const char* const name = argc > 1 ? argv[1] : "restored";
  const char* const file = argc > 2 ? argv[2] : "restored.db";
  auto limiter = brim::open_restored(name, {.policies = {{"per_ip", "100/h burst 20"}}}, file);
  if (!limiter.ok()) {
    std::fprintf(stderr, "%s\n", limiter.status().ToString().c_str());
    return 1;
  }
  // In any number of workers: one of them writes, another takes over when that one ends.
  brim::SnapshotThread writer(name, {.snapshot = {.file = file}, .interval_ns = 1000000000});

  auto per_ip = limiter->policy("per_ip");
  for (int i = 1; i <= 5; ++i) {
    const brim::Decision decision = per_ip->try_acquire("203.0.113.7");
    std::printf("%d %s, %u left\n", i, decision ? "allowed" : "denied", decision.remaining);
  }
  return 0;  // no request is left: `writer` takes the last snapshot
}
