// SPDX-License-Identifier: MIT
// What the words of a policy record mean: kPartWords words for each rate, the last part for bans,
// then the options. The first eight words of a part, one cache line, are all a refusal on a known
// key needs; the rest serve the answer's times.
#ifndef BRIM_SRC_POLICY_WORDS_H_
#define BRIM_SRC_POLICY_WORDS_H_

#include <cstdint>

#include "brim/policy.h"
#include "shm/registry.h"
#include "src/algo/quota.h"

namespace brim {

enum PartWord : size_t {
  kWordKind = 0,  // {burst 32 | flags 16 | shift 8 | algorithm 8} from the top
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
  kWordExtra = 15,
  kWordRamp = 16,  // ns
  kWordWarp = 17,  // {from_ppm 32 | factor_ppm 32}
  kWordWarpStart = 18,
  kWordAhead = 19,  // ns; how far ahead bookings go
};

inline constexpr uint32_t kBanPart = shm::kMaxParts - 1;
static_assert(kMaxRates == kBanPart);
inline constexpr size_t kOptionWords = shm::kMaxParts * shm::kPartWords;  // where they begin
inline constexpr size_t kWordFactor = kOptionWords + 1;  // adaptive factor, parts per million
// What this node takes of a rate of the cluster while it can not hear the others; 0: all.
inline constexpr size_t kWordShare = kOptionWords + 2;  // parts per million

// What holds for all rates of a policy.
struct PolicyOptions {
  uint8_t rates = 0;
  bool bans = false;
  uint8_t enforced_percent = 100;
  uint8_t class_percent[3] = {100, 100, 100};
  bool overrides = false;  // the override table may name this policy
  bool deny_if_unavailable = false;
  bool strict = false;  // scope cluster strict
};

// True if a call on the policy's only rate needs none of this.
inline bool is_plain(const PolicyOptions& options) noexcept {
  return options.rates == 1 && !options.bans && !options.overrides && !options.strict &&
         options.enforced_percent == 100 && options.class_percent[0] == 100 &&
         options.class_percent[1] == 100 && options.class_percent[2] == 100;
}

inline uint64_t options_word(const PolicyOptions& options) noexcept {
  return uint64_t{options.rates} | uint64_t{options.bans} << 8 |
         uint64_t{options.enforced_percent} << 16 | uint64_t{options.class_percent[0]} << 24 |
         uint64_t{options.class_percent[1]} << 32 | uint64_t{options.class_percent[2]} << 40 |
         uint64_t{options.overrides} << 48 | uint64_t{options.strict} << 49 |
         uint64_t{options.deny_if_unavailable} << 56;
}

inline PolicyOptions options_from_word(uint64_t word) noexcept {
  PolicyOptions options;
  options.rates = static_cast<uint8_t>(word) <= kMaxRates ? static_cast<uint8_t>(word) : kMaxRates;
  options.bans = (word >> 8 & 1) != 0;
  options.enforced_percent = static_cast<uint8_t>(word >> 16);
  for (int i = 0; i < 3; ++i) {
    options.class_percent[i] = static_cast<uint8_t>(word >> (24 + 8 * i));
  }
  options.overrides = (word >> 48 & 1) != 0;
  options.strict = (word >> 49 & 1) != 0;
  options.deny_if_unavailable = (word >> 56 & 1) != 0;
  return options;
}

// Per cent of the burst or limit that a class of requests may use.
inline uint32_t class_share(const PolicyOptions& options, Priority priority) noexcept {
  const auto index = static_cast<uint8_t>(priority);
  return index < 3 ? options.class_percent[index] : 100;
}

inline void store_quota(const Quota& quota, uint32_t part, shm::PolicyWords& words) noexcept {
  uint64_t* const out = words.data() + part * shm::kPartWords;
  out[kWordKind] = uint64_t{quota.burst} << 32 | uint64_t{quota.flags} << 16 |
                   uint64_t{quota.shift & 0xff} << 8 | quota.algorithm;
  out[kWordT0] = static_cast<uint64_t>(quota.t0);
  out[kWordV0] = quota.v0;
  out[kWordWhole] = quota.units_per_ns.whole;
  out[kWordPart] = quota.units_per_ns.part;
  out[kWordDenominator] = quota.units_per_ns.denominator;
  out[kWordReciprocal] = quota.units_per_ns.reciprocal;
  out[kWordCapacity] = quota.capacity;
  out[kWordCapacityMax] = quota.capacity_max;
  out[kWordInverseWhole] = quota.ns_per_unit.whole;
  out[kWordInversePart] = quota.ns_per_unit.part;
  out[kWordInverseDenominator] = quota.ns_per_unit.denominator;
  out[kWordInverseReciprocal] = quota.ns_per_unit.reciprocal;
  out[kWordLimit] = quota.limit;
  out[kWordPeriod] = static_cast<uint64_t>(quota.period_ns);
  out[kWordExtra] = quota.extra;
  out[kWordWarpStart] = static_cast<uint64_t>(quota.warp.start_ns);
  out[kWordRamp] = quota.warp.ramp_ns;
  out[kWordWarp] = uint64_t{quota.warp.from_ppm} << 32 | quota.warp.factor_ppm;
}

// `word(i)` reads word i of the part. Any 64-bit values give a defined, if useless, quota. kPlain:
// without what a bucket without flags has no use for.
template <bool kPlain = false, class ReadWord>
[[gnu::always_inline]] inline Quota quota_from_words(ReadWord word) noexcept {
  Quota quota;
  const uint64_t kind = word(kWordKind);
  quota.algorithm = static_cast<uint8_t>(kind);
  quota.shift = static_cast<uint8_t>(kind >> 8);
  quota.flags = static_cast<uint16_t>(kind >> 16);
  quota.burst = static_cast<uint32_t>(kind >> 32);
  quota.t0 = static_cast<int64_t>(word(kWordT0));
  quota.v0 = word(kWordV0);
  quota.units_per_ns = {word(kWordWhole), word(kWordPart), word(kWordDenominator),
                        word(kWordReciprocal)};
  quota.capacity = word(kWordCapacity);
  quota.capacity_max = word(kWordCapacityMax);
  quota.ns_per_unit = {word(kWordInverseWhole), word(kWordInversePart),
                       word(kWordInverseDenominator), word(kWordInverseReciprocal)};
  if constexpr (kPlain) return quota;
  quota.limit = static_cast<uint32_t>(word(kWordLimit));
  quota.period_ns = static_cast<int64_t>(word(kWordPeriod) & kMaxPeriodMask);
  quota.extra = word(kWordExtra);
  if (has(quota, kWarped | kScaled)) [[unlikely]] {
    const uint64_t warp = word(kWordWarp);
    quota.warp = {static_cast<int64_t>(word(kWordWarpStart)), word(kWordRamp),
                  static_cast<uint32_t>(warp >> 32), static_cast<uint32_t>(warp)};
  }
  return quota;
}

inline Quota quota_from(const shm::PolicyWords& words, uint32_t part) noexcept {
  return quota_from_words([&](size_t i) { return words[part * shm::kPartWords + i]; });
}

// The quota of one part as of one instant; false if the policy was never defined (or a hostile
// writer keeps replacing it). Bounded: an honest replacement takes at most one more look.
template <bool kPlain = false>
[[gnu::always_inline]] inline bool read_quota(const shm::Registry& registry, uint16_t number,
                                              uint32_t part, Quota& quota,
                                              uint64_t* options = nullptr) noexcept {
  for (int tries = 0; tries < 64; ++tries) {
    const uint64_t version = registry.version(number);
    if (version == 0) return false;
    quota = quota_from_words<kPlain>([&](size_t i) __attribute__((always_inline)) {
      return registry.word(number, version, part * shm::kPartWords + i);
    });
    if (options != nullptr) *options = registry.word(number, version, kOptionWords);
    if (registry.still_at(number, version)) [[likely]]
      return true;
  }
  return false;
}

}  // namespace brim

#endif  // BRIM_SRC_POLICY_WORDS_H_
