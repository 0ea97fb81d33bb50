// SPDX-License-Identifier: MIT
// The one place where this layer waits, and the clock that it waits by.
#ifndef BRIM_SRC_TIER_WAIT_H_
#define BRIM_SRC_TIER_WAIT_H_

#include <poll.h>

#include <cstdint>
#include <span>

namespace brim::tier {

int64_t monotonic_ns() noexcept;

// Until one of them is ready (true), or the deadline (false). Of none: sleeps.
bool wait_for(std::span<pollfd> descriptors, int64_t deadline_ns) noexcept;

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_WAIT_H_
