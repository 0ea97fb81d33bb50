// SPDX-License-Identifier: MIT
// A plug-in that contains brim; see unload_test.cc. Calls what each decision calls.
#include <cstdint>

#include "shm/counters.h"
#include "src/base/clock.h"

namespace {
alignas(64) uint64_t words[1 << 16];
}  // namespace

extern "C" uint64_t unit_use_brim() {
  const brim::shm::Counters counters(words, 65, 4);
  counters.add(brim::shm::Event::kInserted);
  return static_cast<uint64_t>(brim::Clock::automatic().now());
}
