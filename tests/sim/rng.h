// SPDX-License-Identifier: MIT
// A small seeded generator (splitmix64): the only source of chance in the simulator, so that a
// seed replays a run exactly.
#ifndef BRIM_TESTS_SIM_RNG_H_
#define BRIM_TESTS_SIM_RNG_H_

#include <cstdint>

namespace brim::sim {

class Rng {
 public:
  explicit Rng(uint64_t seed = 0) : state_(mix(seed + 0x632be59bd9b4e019)) {}

  uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15); }
  // 0 .. n - 1
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(((next() >> 32) * n) >> 32); }
  uint32_t between(uint32_t low, uint32_t high) { return low + below(high - low + 1); }
  bool one_in(uint32_t n) { return below(n) == 0; }

 private:
  static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint64_t state_;
};

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_RNG_H_
