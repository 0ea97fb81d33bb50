// SPDX-License-Identifier: MIT
// A larger or smaller table for a segment in use. Attached processes move to it with their next
// call, without restart; no debt is forgiven and no policy exceeded on the way.
//
//   auto report = brim::resize("api", {.capacity = 1 << 20});
#ifndef BRIM_RESIZE_H_
#define BRIM_RESIZE_H_

#include <cstdint>
#include <functional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brim/limiter.h"

namespace brim {

struct ResizeProgress {
  uint64_t slots_done = 0;  // of the old table
  uint64_t slots_total = 0;
  uint64_t keys = 0;  // carried over so far; a key has one for each rate of its policy
};

// Zero: as it is. With nothing set a resize that was killed is finished, and no other is begun.
struct ResizeOptions {
  uint64_t capacity = 0;
  uint32_t name_bytes = 0;
  uint32_t max_policies = 0;
  uint32_t cells_per_key = 0;
  bool cluster = false;  // room for policies `scope cluster`, if there was none
  uint32_t overrides = 0;
  uint32_t probe_limit = 0;
  // Called now and then while keys are carried over; null: not.
  std::function<void(const ResizeProgress&)> progress = {};
};

struct ResizeReport {
  uint64_t keys = 0;          // states carried over
  uint64_t slots_before = 0;  // as made
  uint64_t slots_after = 0;
  uint64_t generation = 0;        // resizes that the segment has seen
  uint64_t evicted = 0;           // live keys that had to make room meanwhile, in the new table
  int64_t moving_ns = 0;          // while calls had to look at both tables
  bool finished_earlier = false;  // a resize that was killed has been finished first
};

// Makes a new table, carries policies, overrides, factors, bans and debts over, and gives it the
// name. Runs for as long as it takes to copy the keys; calls go on meanwhile, each looking at both
// tables. Killed at any moment it leaves the old table in use, or both; a later call finishes what
// was begun. Changes of policies and overrides meanwhile: FailedPrecondition (segment_moving).
// A process's first call after the switch attaches the new table: it makes system calls and
// allocates, and must not be made in a signal handler.
// `attach`: whom to trust (owner_uid, group, mode), as for Limiter::attach.
// Errors: those of Limiter::attach and create; FailedPrecondition (resize_too_small,
// resize_unnamed, resize_leases, resize_unfit), Unavailable (resize_unfinished, lock_failed),
// PermissionDenied (resize_foreign).
absl::StatusOr<ResizeReport> resize(std::string_view name, const ResizeOptions& options,
                                    const Options& attach = {});

}  // namespace brim

#endif  // BRIM_RESIZE_H_
