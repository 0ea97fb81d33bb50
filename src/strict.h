// SPDX-License-Identifier: MIT
// Policies `scope cluster strict`: what this node would admit is asked of the store that all nodes
// share, by the process's StrictDecider. What this node refuses needs no asking: its word holds
// what it admitted and what the store has told it, so it never owes more than the cluster's bucket.
#ifndef BRIM_SRC_STRICT_H_
#define BRIM_SRC_STRICT_H_

#include <cstdint>
#include <string_view>

#include "src/parts.h"

namespace brim {

// Tells the store what was given back, or used beyond what was asked for, if the policy is strict.
// False if it is and that could not be told.
bool tell_cluster(const Engine& engine, Parts& parts, std::string_view key, uint32_t given_back,
                  uint32_t charged) noexcept;

}  // namespace brim

#endif  // BRIM_SRC_STRICT_H_
