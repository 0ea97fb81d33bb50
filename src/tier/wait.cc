// SPDX-License-Identifier: MIT
#include "src/tier/wait.h"

#include <errno.h>
#include <time.h>

#include <algorithm>

namespace brim::tier {

int64_t monotonic_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

bool wait_for(std::span<pollfd> descriptors, int64_t deadline_ns) noexcept {
  while (true) {
    // In whole milliseconds upwards: never back before the deadline only to look again.
    const int64_t left = deadline_ns - monotonic_ns();
    const int64_t ms = std::clamp<int64_t>((left + 999999) / 1000000, 0, 60000);
    const int ready = poll(descriptors.data(), descriptors.size(), static_cast<int>(ms));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return true;  // the caller's next system call says what it is
    if (monotonic_ns() >= deadline_ns) return false;
  }
}

}  // namespace brim::tier
