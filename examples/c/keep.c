// SPDX-License-Identifier: MIT
// A quota that survives a reboot, in plain C: takes one of ten a day from a segment that is kept in
// a file.
//
//   cc -std=c99 keep.c -o keep $(pkg-config --cflags --libs brim-sync)
//   ./keep SEGMENT FILE
#include <inttypes.h>
#include <stdio.h>

#include "brim/brim_snapshot.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: keep SEGMENT FILE\n");
    return 1;
  }
  brim_snapshot_options snapshots = BRIM_INIT(brim_snapshot_options);
  snapshots.file = argv[2];
  brim_limiter* limiter = NULL;
  const brim_policy* daily = NULL;
  brim_decision decision = BRIM_DECISION_INIT;
  if (brim_open_restored(argv[1], NULL, argv[2], NULL, NULL, &limiter) < 0 ||
      brim_define(limiter, "daily", "10/d", &daily) < 0 ||
      brim_try_acquire(daily, "me", 2, 1, &decision) < 0 ||
      brim_snapshot_once(argv[1], &snapshots, NULL) < 0) {
    fprintf(stderr, "keep: %s\n", brim_last_error());
    brim_close(limiter);
    return 1;
  }
  printf("%s, %" PRIu32 " left\n", decision.admitted ? "taken" : "refused", decision.remaining);
  brim_close(limiter);
  return 0;
}
