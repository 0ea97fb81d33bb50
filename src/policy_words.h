// SPDX-License-Identifier: MIT
// What the words of a policy record mean. The first eight, one cache line, are all a refusal on a
// known key needs; the rest serve the answer's times and later algorithms (words 15 to 31 are 0).
#ifndef BRIM_SRC_POLICY_WORDS_H_
#define BRIM_SRC_POLICY_WORDS_H_

#include <cstdint>

#include "brim/policy.h"
#include "shm/registry.h"
#include "src/algo/quota.h"

namespace brim {

enum PolicyWord : size_t {
  kWordKind = 0,  // {burst 32 | shift 8 | on_unavailable 8 | algorithm 8} from the top
  kWordT0 = 1,
  kWordV0 = 2,
  kWordWhole = 3,
  kWordPart = 4,
  kWordDenominator = 5,
  kWordReciprocal = 6,
  kWordCapacity = 7,
  kWordCapacityMax = 8,
  kWordInverseWhole = 9,
  kWordInversePart = 10,
  kWordInverseDenominator = 11,
  kWordInverseReciprocal = 12,
  kWordLimit = 13,
  kWordPeriod = 14,
};

inline shm::PolicyWords policy_words(const Quota& quota) {
  shm::PolicyWords words{};
  words[kWordKind] = uint64_t{quota.burst} << 32 | uint64_t{quota.shift} << 16 |
                     uint64_t{quota.on_unavailable} << 8 | quota.algorithm;
  words[kWordT0] = static_cast<uint64_t>(quota.t0);
  words[kWordV0] = quota.v0;
  words[kWordWhole] = quota.units_per_ns.whole;
  words[kWordPart] = quota.units_per_ns.part;
  words[kWordDenominator] = quota.units_per_ns.denominator;
  words[kWordReciprocal] = quota.units_per_ns.reciprocal;
  words[kWordCapacity] = quota.capacity;
  words[kWordCapacityMax] = quota.capacity_max;
  words[kWordInverseWhole] = quota.ns_per_unit.whole;
  words[kWordInversePart] = quota.ns_per_unit.part;
  words[kWordInverseDenominator] = quota.ns_per_unit.denominator;
  words[kWordInverseReciprocal] = quota.ns_per_unit.reciprocal;
  words[kWordLimit] = quota.limit;
  words[kWordPeriod] = static_cast<uint64_t>(quota.period_ns);
  return words;
}

// `word(i)` reads word i. Any 64-bit values give a defined, if useless, quota.
template <class ReadWord>
[[gnu::always_inline]] inline Quota quota_from_words(ReadWord word) noexcept {
  Quota quota;
  const uint64_t kind = word(kWordKind);
  quota.algorithm = static_cast<uint8_t>(kind);
  quota.on_unavailable = static_cast<uint8_t>(kind >> 8);
  quota.shift = static_cast<uint8_t>(kind >> 16);
  quota.burst = static_cast<uint32_t>(kind >> 32);
  quota.t0 = static_cast<int64_t>(word(kWordT0));
  quota.v0 = word(kWordV0);
  quota.units_per_ns = {word(kWordWhole), word(kWordPart), word(kWordDenominator),
                        word(kWordReciprocal)};
  quota.capacity = word(kWordCapacity);
  quota.capacity_max = word(kWordCapacityMax);
  quota.ns_per_unit = {word(kWordInverseWhole), word(kWordInversePart),
                       word(kWordInverseDenominator), word(kWordInverseReciprocal)};
  quota.limit = static_cast<uint32_t>(word(kWordLimit));
  quota.period_ns = static_cast<int64_t>(word(kWordPeriod));
  return quota;
}

// The policy's quota as of one instant; false if it was never defined (or a hostile writer keeps
// replacing it). Bounded: an honest replacement takes at most one more look.
[[gnu::always_inline]] inline bool read_quota(const shm::Registry& registry, uint16_t number,
                                              Quota& quota) noexcept {
  for (int tries = 0; tries < 64; ++tries) {
    const uint64_t version = registry.version(number);
    if (version == 0) return false;
    quota = quota_from_words([&](size_t i) { return registry.word(number, version, i); });
    if (registry.still_at(number, version)) [[likely]]
      return true;
  }
  return false;
}

inline Quota compile(const Policy& policy, int64_t now_ns) {
  Quota quota = make_quota(policy.limit, policy.period_ns, policy.burst, now_ns);
  quota.algorithm = static_cast<uint8_t>(policy.algorithm);
  quota.on_unavailable = static_cast<uint8_t>(policy.on_unavailable);
  return quota;
}

inline Policy policy_of(const Quota& quota) {
  Policy policy;
  policy.algorithm = static_cast<Algorithm>(quota.algorithm);
  policy.limit = quota.limit;
  policy.period_ns = quota.period_ns;
  policy.burst = quota.burst;
  policy.on_unavailable = static_cast<OnUnavailable>(quota.on_unavailable);
  return policy;
}

}  // namespace brim

#endif  // BRIM_SRC_POLICY_WORDS_H_
