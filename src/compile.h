// SPDX-License-Identifier: MIT
// Policy -> words of a policy record, for a new policy and for a change of one that is in use.
#ifndef BRIM_SRC_COMPILE_H_
#define BRIM_SRC_COMPILE_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brim/policy.h"
#include "shm/registry.h"

namespace brim {

// The instant at which a policy begins, on both clocks; windows are aligned to the wall clock as
// it is then and follow the monotonic clock from there on.
struct Beginning {
  int64_t now_ns = 0;
  int64_t wall_ns = 0;  // since 1970
};

// Cells that a key of this policy needs: an even number, 0 for most.
uint32_t cells_needed(const Policy& policy);

// FailedPrecondition (too_few_cells) if a segment with so many cells a key has no room for it.
absl::Status check_cells(const Policy& policy, uint32_t cells_per_key, std::string_view path);

// FailedPrecondition (cluster_not_kept) if the policy shares with other nodes and the segment,
// which has the room or not, keeps nothing for them.
absl::Status check_cluster(const Policy& policy, bool kept, std::string_view path);
// That error, for whoever needs the room; `path` is shown.
absl::Status cluster_not_kept(std::string_view path);

// Errors (invalid_policy): the state of this rate does not fit its word.
absl::Status check_fits(const Rate& rate);

// Words of a policy that begins now. REQUIRES: validate(policy) is ok.
absl::StatusOr<shm::PolicyWords> compile(const Policy& policy, const Beginning& at);

// Words that replace `old` so that every stored word keeps its meaning: each key's debt stays as it
// is, in permits, or with `reset` all keys are idle at once. FailedPrecondition
// (policy_change_unfit) if stored words can not be kept, with what to do instead.
absl::StatusOr<shm::PolicyWords> recompile(const Policy& policy, const Beginning& at,
                                           const shm::PolicyWords& old, bool reset);

// The same policy from now on with its rates scaled by factor_ppm / 10^6.
shm::PolicyWords with_factor(const shm::PolicyWords& old, int64_t now_ns, uint32_t factor_ppm);

// The same while other nodes can not be heard: this node takes so much of each rate, beside the
// factor.
shm::PolicyWords with_share(const shm::PolicyWords& old, int64_t now_ns, uint32_t share_ppm);

// The same policy, from now on looked up in the override table.
shm::PolicyWords with_overrides(const shm::PolicyWords& old);

}  // namespace brim

#endif  // BRIM_SRC_COMPILE_H_
