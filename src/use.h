// SPDX-License-Identifier: MIT
// Policies `scope cluster`: what a key uses is counted beside its slot, for other nodes. Counted
// after the charge and before the answer; see shm/consumption.h.
#ifndef BRIM_SRC_USE_H_
#define BRIM_SRC_USE_H_

#include <cstdint>
#include <string_view>

#include "shm/slot.h"
#include "src/algo/step.h"

namespace brim {

namespace internal {
class Engine;
}  // namespace internal

struct Target;

inline constexpr uint64_t kNoSlot = ~uint64_t{0};

// Where a charge went, until it is known whether the request is admitted.
struct Use {
  uint64_t slot = kNoSlot;  // kNoSlot: nothing to count
  bool near = false;        // the key owes more than half of what it may
};

// `permits` were admitted (negative: given back) for the key of `target`.
void count_use(const internal::Engine& engine, const Target& target, std::string_view key,
               const Use& use, int64_t permits) noexcept;

// A key that has been idle for so many times as its burst takes to refill is as if never seen,
// whatever others have not been told of it.
inline constexpr uint64_t kForgottenAfter = 16;

// The slot's key is idle and used something that others may still have to hear of.
bool awaits_telling(const internal::Engine& engine, const shm::Slot& slot, uint64_t position,
                    const Instant& at, const Quota& quota) noexcept;

// The key's name to other nodes; never 0.
uint64_t shared_identity(const uint64_t secret[2], std::string_view key) noexcept;

}  // namespace brim

#endif  // BRIM_SRC_USE_H_
