// SPDX-License-Identifier: MIT
// What every contender of bench_decide runs: the same keys in the same order, in one or more
// processes, in interleaved rounds, so that a noisy machine disturbs all alike.
#ifndef BRIM_BENCHMARKS_WORKLOAD_H_
#define BRIM_BENCHMARKS_WORKLOAD_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/uint128.h"

namespace brim::bench {

inline constexpr size_t kKeyBytes = 24;
inline constexpr size_t kBatch = 64;

// `count` distinct keys of 24 bytes, one behind the other.
class Keys {
 public:
  explicit Keys(uint64_t count);
  uint64_t count() const { return count_; }
  std::string_view operator[](uint64_t i) const {
    return {text_.data() + i * kKeyBytes, kKeyBytes};
  }

 private:
  uint64_t count_;
  std::string text_;
};

// One way to decide. decide() must be given `n` decisions on keys that it picks with next_key().
struct Contender {
  std::string name;
  std::function<uint64_t(const Keys&, uint64_t n, uint64_t seed)> run;
};

// Uniform, cheap (xorshift and a multiplication), the same for all.
struct KeyPicker {
  uint64_t state;
  uint64_t count;
  uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<uint64_t>((static_cast<uint128>(state) * count) >> 64);
  }
};

// Median ns per decision and process of each contender, `processes` of them running at once,
// over `rounds` interleaved rounds of `n` decisions.
std::vector<double> measure(const std::vector<Contender>& contenders, const Keys& keys,
                            int processes, int rounds, uint64_t n);

}  // namespace brim::bench

#endif  // BRIM_BENCHMARKS_WORKLOAD_H_
