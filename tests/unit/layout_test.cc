// SPDX-License-Identifier: MIT
// Goal: the bytes of a segment are an interface; a change of any offset breaks attached processes
// of another version. Method: every offset that layout.h does not pin itself is written down here.
#include "shm/layout.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>

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
static_assert(offsetof(HeaderFields, hash_secret) == 176);
static_assert(offsetof(HeaderFields, reserved1) == 752);
static_assert(offsetof(SegmentHeader, next_attach_id) == 1088);
static_assert(offsetof(SegmentHeader, flags) == 1152);
static_assert(offsetof(Section, offset) == 8 && offsetof(Section, count) == 16);
static_assert(offsetof(PolicyCopy, text) == 256);
static_assert(offsetof(Attachment, pid_namespace) == 16 && offsetof(Attachment, attached_ns) == 24);
static_assert(offsetof(NameEntry, length) == 8);
static_assert(alignof(PolicyRecord) == 64 && alignof(Attachment) == 64);

// The numbers that a stored segment holds; never to be renumbered.
static_assert(static_cast<int>(SectionType::kPolicies) == 1);
static_assert(static_cast<int>(SectionType::kAttachments) == 2);
static_assert(static_cast<int>(SectionType::kCounters) == 3);
static_assert(static_cast<int>(SectionType::kSlots) == 4);
static_assert(static_cast<int>(SectionType::kNames) == 5);
static_assert(kHashSipHash == 1 && kHashXxh3 == 2);
static_assert(kOnFullEvict == 1 && kOnFullAllow == 2 && kOnFullDeny == 3);
static_assert(static_cast<int>(Event::kProbeLength0) == 16 && kEvents == 64);
static_assert(static_cast<int>(PolicyCounter::kRefunded) == 4 && kPolicyCounters == 16);
static_assert(kWordKind == 0 && kWordT0 == 1 && kWordV0 == 2 && kWordCapacity == 7 &&
              kWordCapacityMax == 8 && kWordLimit == 13 && kWordPeriod == 14);

TEST(Layout, MagicReadsAsText) {
  char text[8];
  std::memcpy(text, &kMagic, sizeof(text));
  EXPECT_EQ(std::string_view(text, sizeof(text)), "BRIMSEG1");
}

TEST(Layout, IdsPackPolicyAndFingerprint) {
  static_assert(make_id(0, 2) == 2);
  static_assert(make_id(4095, kFingerprintMask) == ~uint64_t{0});
  static_assert(id_policy(make_id(4095, 2)) == 4095 && id_policy(kFingerprintMask) == 0);
  static_assert(kMaxPolicies == 1u << (64 - kFingerprintBits));
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
  EXPECT_FALSE(read_quota(registry, 0, quota)) << "version 0: not defined";
  EXPECT_FALSE(read_quota(registry, 1, quota)) << "beyond the table";
  EXPECT_EQ(registry.find(""), -1);
}

}  // namespace
}  // namespace brim::shm
