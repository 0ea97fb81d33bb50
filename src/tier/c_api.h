// SPDX-License-Identifier: MIT
// What else is made of the tier's options for C: Python's modules have a core each, and one makes
// the decider that the other asks.
#ifndef BRIM_SRC_TIER_C_API_H_
#define BRIM_SRC_TIER_C_API_H_

#include <memory>

#include "absl/status/statusor.h"
#include "brim/brim_tier.h"
#include "brim/cluster.h"
#include "brim/tier.h"
#include "src/c_api.h"

namespace brim {

// What answer_strict() lets the limiter's segment be decided by.
absl::StatusOr<std::shared_ptr<StrictDecider>> make_strict_decider(const Limiter& limiter,
                                                                   const TierOptions& options);

namespace c_api {

// The options of a call that decides: another timeout than an exchange's if none is given.
int read_strict_options(const brim_tier_options* in, TierOptions& out);

}  // namespace c_api
}  // namespace brim

#endif  // BRIM_SRC_TIER_C_API_H_
