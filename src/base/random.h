// SPDX-License-Identifier: MIT
#ifndef BRIM_SRC_BASE_RANDOM_H_
#define BRIM_SRC_BASE_RANDOM_H_

#include <sys/random.h>
#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace brim {

// Bytes of getrandom(2), which waits only at boot. False: there are none.
inline bool fill_random(void* bytes, size_t size) noexcept {
  auto* at = static_cast<uint8_t*>(bytes);
  while (size != 0) {
    const ssize_t n = getrandom(at, size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

}  // namespace brim

#endif  // BRIM_SRC_BASE_RANDOM_H_
