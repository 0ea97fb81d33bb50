// SPDX-License-Identifier: MIT
// Goal: the bytes of a segment are an interface; a change of any offset breaks attached processes
// of another version. Method: every offset that layout.h does not pin itself is written down here.
#include "shm/layout.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>

#include "brim/decision.h"
#include "src/algo/step.h"
#include "src/base/word.h"
#include "src/policy_words.h"

namespace brim::shm {
namespace {

static_assert(offsetof(HeaderFields, magic) == 0);
static_assert(offsetof(HeaderFields, layout_version) == 8);
static_assert(offsetof(HeaderFields, endian_tag) == 12);
static_assert(offsetof(HeaderFields, features_required) == 16);
static_assert(offsetof(HeaderFields, features_optional) == 24);
static_assert(offsetof(HeaderFields, header_size) == 40);
static_assert(offsetof(HeaderFields, section_count) == 44);
static_assert(offsetof(HeaderFields, created_wall_ns) == 48);
static_assert(offsetof(HeaderFields, created_monotonic_ns) == 56);
static_assert(offsetof(HeaderFields, uuid) == 80);
static_assert(offsetof(HeaderFields, time_namespace) == 96);
static_assert(offsetof(HeaderFields, creator_pid) == 104);
static_assert(offsetof(HeaderFields, creator_uid) == 108);
static_assert(offsetof(HeaderFields, mode) == 112);
static_assert(offsetof(HeaderFields, hash_kind) == 116);
static_assert(offsetof(HeaderFields, on_full) == 120);
static_assert(offsetof(HeaderFields, probe_limit) == 124);
static_assert(offsetof(HeaderFields, group_count) == 136);
static_assert(offsetof(HeaderFields, max_policies) == 144);
static_assert(offsetof(HeaderFields, name_bytes) == 148);
static_assert(offsetof(HeaderFields, stripe_count) == 152);
static_assert(offsetof(HeaderFields, cells_per_key) == 156);
static_assert(offsetof(HeaderFields, hash_secret) == 176);
static_assert(offsetof(HeaderFields, pid_namespace) == 752);
static_assert(offsetof(HeaderFields, reserved1) == 784);
static_assert(offsetof(SegmentHeader, next_attach_id) == 1088);
static_assert(offsetof(SegmentHeader, flags) == 1152);
static_assert(offsetof(Section, offset) == 8 && offsetof(Section, count) == 16);
static_assert(offsetof(PolicyCopy, text) == 1728);
static_assert(offsetof(Attachment, pid_namespace) == 16 && offsetof(Attachment, attached_ns) == 24);
static_assert(offsetof(NameEntry, length) == 8);
static_assert(offsetof(AuditCell, who) == 24 && offsetof(AuditCell, text) == 40);
static_assert(offsetof(OverrideText, text) == 16 && offsetof(HotCell, what) == 8);
static_assert(alignof(PolicyRecord) == 64 && alignof(Attachment) == 64);

// The numbers that a stored segment holds; never to be renumbered.
static_assert(static_cast<int>(SectionType::kPolicies) == 1);
static_assert(static_cast<int>(SectionType::kAttachments) == 2);
static_assert(static_cast<int>(SectionType::kCounters) == 3);
static_assert(static_cast<int>(SectionType::kSlots) == 4);
static_assert(static_cast<int>(SectionType::kNames) == 5);
static_assert(static_cast<int>(SectionType::kCells) == 6);
static_assert(static_cast<int>(SectionType::kOverrides) == 8);
static_assert(static_cast<int>(SectionType::kAudit) == 9);
static_assert(static_cast<int>(SectionType::kHotKeys) == 10);
static_assert(static_cast<int>(SectionType::kOverrideTexts) == 11);
static_assert(kHashSipHash == 1 && kHashXxh3 == 2);
static_assert(kOnFullEvict == 1 && kOnFullAllow == 2 && kOnFullDeny == 3);
static_assert(static_cast<int>(Event::kProbeLength0) == 16 && kEvents == 64);
static_assert(static_cast<int>(PolicyCounter::kRefunded) == 4 && kPolicyCounters == 16);
static_assert(static_cast<int>(PolicyCounter::kShadowDenied) == 5 &&
              static_cast<int>(PolicyCounter::kBarred) == 6 &&
              static_cast<int>(PolicyCounter::kExempt) == 7);
static_assert(kWordKind == 0 && kWordT0 == 1 && kWordV0 == 2 && kWordWhole == 3 && kWordPart == 4 &&
              kWordDenominator == 5 && kWordReciprocal == 6 && kWordCapacity == 7 &&
              kWordCapacityMax == 8);
static_assert(kWordInverseWhole == 9 && kWordInversePart == 10 && kWordInverseDenominator == 11 &&
              kWordInverseReciprocal == 12 && kWordLimit == 13 && kWordPeriod == 14 &&
              kWordExtra == 15 && kWordRamp == 16 && kWordWarp == 17 && kWordWarpStart == 18);
static_assert(kPartWords == 24 && kMaxParts == 8 && kPolicyWords == 216);
static_assert(kBanPart == 7 && kOptionWords == 192 && kWordFactor == 193);
static_assert(kExtended == 1 && kDenyIfUnavailable == 2 && kCountDenied == 4 && kInclusive == 8 &&
              kFloorWeight == 16 && kFirstHit == 32 && kMonths == 64 && kByDebtBefore == 128 &&
              kWarped == 256 && kScaled == 512);
static_assert(kBanAlgorithm == 0xff);

// A Decision is copied by programs that were compiled with other versions.
static_assert(sizeof(Decision) == 32 && offsetof(Decision, retry_after_ns) == 0);
static_assert(offsetof(Decision, reset_after_ns) == 8 && offsetof(Decision, delay_ns) == 16);
static_assert(offsetof(Decision, remaining) == 24 && offsetof(Decision, verdict) == 28);
static_assert(offsetof(Decision, reason) == 29 && offsetof(Decision, admitted) == 30);
static_assert(offsetof(Decision, part) == 31);

TEST(Layout, MagicReadsAsText) {
  char text[8];
  std::memcpy(text, &kMagic, sizeof(text));
  EXPECT_EQ(std::string_view(text, sizeof(text)), "BRIMSEG1");
}

TEST(Layout, IdsPackPolicyPartAndFingerprint) {
  static_assert(make_id(0, 2) == 2);
  static_assert(make_id(4095, kFingerprintMask, 7) == ~uint64_t{0});
  static_assert(make_id(1, 0) == uint64_t{1} << 52 && make_id(0, 0, 1) == uint64_t{1} << 49);
  static_assert(id_policy(make_id(4095, 2)) == 4095 && id_policy(kFingerprintMask) == 0);
  static_assert(id_policy(make_id(0, kFingerprintMask, 7)) == 0);
  static_assert(id_part(make_id(4095, kFingerprintMask, 5)) == 5);
  static_assert(id_part(make_id(4095, kFingerprintMask)) == 0);
  static_assert(kMaxPolicies == 1u << (64 - kPolicyShift));
  static_assert(kMaxParts == 1u << (kPolicyShift - kFingerprintBits));
  SUCCEED();
}

TEST(Layout, StripesAreWholeLines) {
  for (const uint32_t policies : {1u, 2u, 64u, kMaxPolicies}) {
    EXPECT_EQ(stripe_bytes(policies) % 64, 0u);
    EXPECT_EQ(stripe_bytes(policies), 8 * (64 + 16 * size_t{policies}));
  }
}

// Goal: all-zero memory is a valid empty part, which is why creating needs no initialisation.
TEST(Layout, ZeroMeansNothingThere) {
  static_assert(kVirginId == 0 && kEmptyWord == 0 && !is_tentative(0));
  const auto record = std::make_unique<PolicyRecord>();
  std::memset(static_cast<void*>(record.get()), 0, sizeof(*record));
  EXPECT_EQ(record->version.load(), 0u);
  Quota quota;
  const Registry registry(record.get(), 1, -1);
  for (uint32_t part = 0; part < kMaxParts; ++part) {
    EXPECT_FALSE(read_quota(registry, 0, part, quota)) << "version 0: not defined";
    EXPECT_FALSE(read_quota(registry, 1, part, quota)) << "beyond the table";
  }
  EXPECT_EQ(registry.find(""), -1);
}

}  // namespace
}  // namespace brim::shm
