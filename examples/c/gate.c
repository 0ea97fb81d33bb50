// SPDX-License-Identifier: MIT
// A limiter for lines of text in plain C: reads client addresses from standard input and says of
// each whether its request may pass. Any number of them share the limits of one segment.
//
//   cc -std=c99 gate.c -o gate $(pkg-config --cflags --libs brim)
//   cut -d' ' -f1 access.log | ./gate api '100/m burst 20'
//
// Exits with 0 if all passed, 75 if some were refused, 1 after an error.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "brim/brim.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: gate SEGMENT POLICY < ADDRESSES\n");
    return 1;
  }
  const brim_named_policy policies[] = {{"per_client", argv[2]}};
  brim_options options = BRIM_OPTIONS_INIT;
  options.policies = policies;
  options.policy_count = 1;
  brim_limiter* limiter = NULL;
  const brim_policy* per_client = NULL;
  if (brim_open(argv[1], &options, &limiter) < 0 ||
      brim_policy_get(limiter, "per_client", &per_client) < 0) {
    fprintf(stderr, "gate: %s\n", brim_last_error());
    return 1;
  }
  char line[256];
  int refused = 0;
  while (fgets(line, sizeof(line), stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    // One customer's IPv6 network is one key; what is no address is its own key.
    char key[256];
    if (brim_address_key(line, strlen(line), 0, 0, key, sizeof(key), NULL) < 0) {
      memcpy(key, line, sizeof(key));
    }
    brim_decision decision = BRIM_DECISION_INIT;
    brim_try_acquire(per_client, key, strlen(key), 1, &decision);
    if (decision.admitted) {
      printf("%s passes, %" PRIu32 " left\n", key, decision.remaining);
    } else {
      ++refused;
      printf("%s is refused for %" PRId64 " ms\n", key, decision.retry_after_ns / 1000000 + 1);
    }
  }
  brim_close(limiter);
  return refused == 0 ? 0 : 75;
}
