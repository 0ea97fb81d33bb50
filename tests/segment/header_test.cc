// SPDX-License-Identifier: MIT
// F03 to F07, F17: files that are no segment of ours, or no longer. Every number of the header is
// set to values no honest writer stores; the result is a named error or a segment that works.
#include <atomic>
#include <cstddef>
#include <cstring>
#include <thread>

#include "brim/inspect.h"
#include "tests/segment/exercise.h"
#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

using shm::HeaderFields;

// A fresh small segment in a private directory, and its bytes to go back to.
class HeaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto made = Limiter::create(path_, all_options());
    ASSERT_TRUE(made.ok()) << made.status();
    ASSERT_TRUE(made->set_override("p", "key-1", "deny").ok());
    ASSERT_TRUE(made->set_network_override("p", "10.0.0.0/8", "unlimited").ok());
    pristine_ = read_bytes(path_);
    header_ = read_header(path_);
  }
  // Writes the header after `change` and attaches in each way there is.
  void expect_refused(const std::function<void(HeaderFields&)>& change, std::string_view name) {
    HeaderFields altered = header_;
    change(altered);
    write_header(path_, altered);
    EXPECT_TRUE(named(Limiter::open(path_), name));
    EXPECT_TRUE(named(Limiter::attach(path_), name));
    EXPECT_TRUE(named(Limiter::attach_read_only(path_), name));
    EXPECT_TRUE(named(Inspector::attach(path_), name));
    EXPECT_TRUE(mappings(path_).empty()) << "mapped although refused";
    write_bytes(path_, pristine_);
  }

  TempDir directory_;
  std::string path_ = directory_.file("seg");
  std::string pristine_;
  HeaderFields header_{};
};

class F03 : public HeaderTest {};
class F04 : public HeaderTest {};
class F05 : public HeaderTest {};
class F06 : public HeaderTest {};
class F07 : public HeaderTest {};
class F17 : public HeaderTest {};

// Goal: a zero-length leftover is named, refused by open and create, and replaced on request,
// while whoever has the file's old mapping goes on.
// Method: replace an empty file, then the live segment itself.
TEST_F(F03, ZeroLengthIsNamedAndReplacedOnRequest) {
  ASSERT_EQ(truncate(path_.c_str(), 0), 0);
  for (const auto& result : {Limiter::open(path_), Limiter::attach(path_)}) {
    EXPECT_TRUE(named(result, "segment_truncated"));
  }
  EXPECT_TRUE(named(Limiter::create(path_), "segment_exists"));
  Options options = small_options();
  options.replace = true;
  const auto first = Limiter::create(path_, options);
  ASSERT_TRUE(first.ok()) << first.status();
  const auto policy = first->policy("p");
  EXPECT_EQ(policy->try_acquire("key", 4).remaining, 6u);
  const auto second = Limiter::create(path_, options);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_FALSE(first->linked());
  EXPECT_TRUE(second->linked());
  EXPECT_EQ(policy->try_acquire("key", 1).remaining, 5u);
  EXPECT_EQ(second->policy("p")->try_acquire("key", 1).remaining, 9u);
  EXPECT_EQ(directory_.entries(), std::vector<std::string>{"seg"});
}

// Goal: a file shorter than any header is segment_truncated and says what is there.
// Method: every interesting length below the header's size.
TEST_F(F03, ShorterThanAHeaderIsTruncated) {
  for (const off_t size : {1, 7, 8, 1023, 1024, 1407}) {
    ASSERT_EQ(truncate(path_.c_str(), size), 0);
    const auto result = Limiter::open(path_);
    EXPECT_TRUE(named(result, "segment_truncated"));
    EXPECT_TRUE(mentions(result.status(), cat(size, " bytes")));
  }
}

// Goal: a file longer or shorter than its header says is refused with both sizes.
// Method: truncate by one byte, by half, to the bare header, and extend by one.
TEST_F(F04, OtherSizeThanTheHeaderSays) {
  const auto size = static_cast<off_t>(pristine_.size());
  for (const off_t other :
       {size - 1, size / 2, off_t{sizeof(shm::SegmentHeader)}, size + 1, size + 4096}) {
    ASSERT_EQ(truncate(path_.c_str(), other), 0);
    const auto result = Limiter::open(path_);
    EXPECT_TRUE(named(result, "segment_size_mismatch"));
    EXPECT_TRUE(mentions(result.status(), std::to_string(other)));
    EXPECT_TRUE(mentions(result.status(), std::to_string(size)));
    EXPECT_TRUE(mappings(path_).empty());
    ASSERT_EQ(truncate(path_.c_str(), size), 0);
    write_bytes(path_, pristine_);
  }
  EXPECT_TRUE(Limiter::open(path_).ok());
}

// Goal: each part of a segment's identity has an error of its own and nothing is mapped.
// Method: alter magic, version, endian tag, features, one at a time.
TEST_F(F05, EachIdentityFieldHasItsError) {
  expect_refused([](HeaderFields& h) { h.magic ^= 1; }, "segment_bad_magic");
  expect_refused([](HeaderFields& h) { h.magic = 0; }, "segment_bad_magic");
  expect_refused([](HeaderFields& h) { h.layout_version = shm::kLayoutVersion + 1; },
                 "segment_version_mismatch");
  expect_refused([](HeaderFields& h) { h.layout_version = 0; }, "segment_version_mismatch");
  expect_refused([](HeaderFields& h) { h.endian_tag = 0x04030201; }, "segment_endian_mismatch");
  expect_refused([](HeaderFields& h) { h.features_required = 1; }, "segment_unknown_feature");
  expect_refused([](HeaderFields& h) { h.features_required = uint64_t{1} << 63; },
                 "segment_unknown_feature");
  EXPECT_TRUE(Limiter::attach(path_).ok());
}

// Goal: the version error tells both versions.
// Method: store another version and read the message.
TEST_F(F05, VersionErrorTellsBoth) {
  HeaderFields other = header_;
  other.layout_version = 77;
  write_header(path_, other);
  const auto result = Limiter::open(path_);
  EXPECT_TRUE(mentions(result.status(), "layout version 77"));
  EXPECT_TRUE(mentions(result.status(), cat("reads ", shm::kLayoutVersion)));
}

// Goal: optional features do not hinder.
// Method: set them all.
TEST_F(F05, UnknownOptionalFeaturesAreFine) {
  HeaderFields other = header_;
  other.features_optional = ~uint64_t{0};
  write_header(path_, other);
  EXPECT_TRUE(Limiter::attach(path_).ok());
}

// Goal: a segment of before this boot is refused: its times mean nothing.
// Method: change one bit of the boot id at each end.
TEST_F(F17, OtherBoot) {
  expect_refused([](HeaderFields& h) { h.boot_id[0] ^= 0x80; }, "segment_other_boot");
  expect_refused([](HeaderFields& h) { h.boot_id[15] ^= 1; }, "segment_other_boot");
}

// Every number of the header, by place and width.
struct Field {
  std::string name;
  size_t offset;
  size_t size;
};

std::vector<Field> all_fields() {
#define FIELD(f) Field{#f, offsetof(HeaderFields, f), sizeof(HeaderFields::f)}
  std::vector<Field> fields = {FIELD(magic),
                               FIELD(layout_version),
                               FIELD(endian_tag),
                               FIELD(total_size),
                               FIELD(features_required),
                               FIELD(features_optional),
                               FIELD(header_size),
                               FIELD(section_count),
                               FIELD(created_wall_ns),
                               FIELD(time_namespace),
                               FIELD(created_monotonic_ns),
                               FIELD(creator_pid),
                               FIELD(creator_uid),
                               FIELD(mode),
                               FIELD(hash_kind),
                               FIELD(on_full),
                               FIELD(probe_limit),
                               FIELD(capacity),
                               FIELD(group_count),
                               FIELD(max_policies),
                               FIELD(name_bytes),
                               FIELD(stripe_count),
                               FIELD(cells_per_key),
                               FIELD(pid_namespace)};
#undef FIELD
  for (size_t i = 0; i < shm::kMaxSections; ++i) {
    const size_t at = offsetof(HeaderFields, sections) + i * sizeof(shm::Section);
    fields.push_back({cat("sections[", i, "].type"), at + offsetof(shm::Section, type), 4});
    fields.push_back(
        {cat("sections[", i, "].element_size"), at + offsetof(shm::Section, element_size), 4});
    fields.push_back({cat("sections[", i, "].offset"), at + offsetof(shm::Section, offset), 8});
    fields.push_back({cat("sections[", i, "].count"), at + offsetof(shm::Section, count), 8});
  }
  return fields;
}

// Goal: whatever one number of the header says, attaching gives a named error, or a segment every
// call on which stays inside the file.
// Method: each field in turn gets extreme, near and unaligned values, and ones whose sum or
// product overflows; then everything is done with what still attaches.
TEST_F(F06, EveryNumberSetToWhatNobodyWrites) {
  const uint64_t size = pristine_.size();
  const uint64_t extremes[] = {0,
                               1,
                               2,
                               3,
                               4,
                               5,
                               7,
                               8,
                               63,
                               64,
                               65,
                               4096,
                               uint64_t{1} << 31,
                               uint64_t{1} << 32,
                               uint64_t{1} << 58,
                               uint64_t{1} << 60,
                               uint64_t{1} << 62,
                               uint64_t{1} << 63,
                               ~uint64_t{0},
                               ~uint64_t{63},
                               ~uint64_t{0} / 16,
                               ~uint64_t{0} / 24 + 1,
                               size - 64,
                               size / 64 * 64,
                               size,
                               size + 64,
                               0x7fffffff,
                               0xffffffff,
                               0xfffffff0};
  struct Progress {
    int refused;
    int harmless;
    uint64_t value;
    char error[512];
  };
  SharedWithChildren<Progress> progress;
  for (const Field& field : all_fields()) {
    uint64_t stored = 0;
    std::memcpy(&stored, pristine_.data() + field.offset, field.size);
    std::vector<uint64_t> values(std::begin(extremes), std::end(extremes));
    for (const uint64_t delta : {1u, 8u, 16u, 32u, 64u, 4096u}) {
      values.push_back(stored + delta);
      values.push_back(stored - delta);
    }
    const std::string ended = in_child([&] {
      for (const uint64_t value : values) {
        progress->value = value;
        write_bytes(path_, pristine_);
        write_bytes(path_, {reinterpret_cast<const char*>(&value), field.size},
                    static_cast<off_t>(field.offset));
        const absl::Status status = exercise(path_, /*writing=*/true);
        ++(status.ok() ? progress->harmless : progress->refused);
        if (status.ok() || known_error(status)) continue;
        std::snprintf(progress->error, sizeof(progress->error), "%s", status.ToString().c_str());
        return 1;
      }
      return 0;
    });
    EXPECT_EQ(ended, "exit 0") << field.name << " = " << progress->value << ": " << progress->error;
  }
  std::printf("%d refused by name, %d harmless\n", progress->refused, progress->harmless);
  EXPECT_GT(progress->refused, 1000);
}

// Goal: the sections a reader needs must be there, once, with the right shape.
// Method: drop each in turn; point each beyond the file, unaligned, into the header, with sums
// that overflow. Those that were added need not be there: overrides, and what is for people. What
// other nodes are told is there as a whole or not at all.
TEST_F(F06, SectionsMissingOrOutside) {
  ASSERT_EQ(header_.section_count, 13u);
  for (uint32_t i = 0; i < header_.section_count; ++i) {
    SCOPED_TRACE(cat("section ", i));
    const auto with = [this, i](auto change) {
      expect_refused([=](HeaderFields& h) { change(h.sections[i]); }, "segment_corrupt");
    };
    using shm::Section;
    const auto type = static_cast<shm::SectionType>(header_.sections[i].type);
    const bool for_nodes = type == shm::SectionType::kConsumption ||
                           type == shm::SectionType::kNear || type == shm::SectionType::kTier;
    if (type >= shm::SectionType::kOverrides && !for_nodes) {
      HeaderFields altered = header_;
      altered.sections[i].type = 0;
      write_header(path_, altered);
      EXPECT_TRUE(exercise(path_, /*writing=*/true).ok());
      write_bytes(path_, pristine_);
    } else {
      with([](Section& s) { s.type = 0; });
    }
    if (type == shm::SectionType::kAudit || type == shm::SectionType::kHotKeys) {
      with([](Section& s) { s.count = 0; });
    } else if (type == shm::SectionType::kOverrideTexts || for_nodes) {
      with([](Section& s) { --s.count; });
    }
    with([](Section& s) { s.element_size /= 2; });
    with([](Section& s) { s.offset += 1; });
    with([](Section& s) { s.offset = 0; });
    with([](Section& s) { s.offset = 1024; });
    with([](Section& s) { s.offset = ~uint64_t{63}; });
    with([this](Section& s) { s.offset = (header_.total_size / 64 + 1) * 64; });
    with([](Section& s) { s.count = ~uint64_t{0}; });
    with([](Section& s) { s.count = (uint64_t{1} << 63) / s.element_size + 1; });
    with([](Section& s) { s.element_size = 0; });
    with([](Section& s) { s.element_size = 0xffffffff; });
  }
}

// Goal: after attaching, the header's bytes in the file mean nothing: bounds come from the
// private copy, whatever a hostile peer writes and whenever.
// Method: a thread writes random bytes over the first 1024 bytes, and wild values over the words
// that may change (reach, attach ids, the attachment list), while every call runs, then attaches.
TEST_F(F07, HostileWriterOverTheHeader) {
  const std::string ended = in_child([this] {
    const auto limiter = Limiter::attach(path_, all_options());
    const auto inspector = Inspector::attach(path_);
    CHILD_CHECK(limiter.ok() && inspector.ok());
    const auto policy = limiter->policy("p");
    CHILD_CHECK(policy.ok());
    const int fd = open(path_.c_str(), O_RDWR | O_CLOEXEC);
    auto* const bytes = static_cast<char*>(
        mmap(nullptr, pristine_.size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    CHILD_CHECK(bytes != MAP_FAILED);
    std::atomic<bool> stop{false};
    std::thread writer([&] { scribble(bytes, header_, stop); });
    bool honest = true;
    for (int round = 0; round < 3000; ++round) {
      honest = honest && exercise_policy(*policy, 20) && exercise_inspector(*inspector).ok();
      limiter->linked();
      const auto again = Limiter::attach_read_only(path_);
      honest = honest && (again.ok() || known_error(again.status()));
      if (round % 100 == 99) {  // let an attach succeed now and then
        stop = true;
        writer.join();
        write_header(path_, header_);
        const absl::Status whole = exercise(path_, /*writing=*/false);
        honest = honest && whole.ok();
        stop = false;
        writer = std::thread([&] { scribble(bytes, header_, stop); });
      }
    }
    stop = true;
    writer.join();
    CHILD_CHECK(honest);
    return 0;
  });
  EXPECT_EQ(ended, "exit 0");
}

// Goal: the same with every byte of the segment in an enemy's hands.
// Method: a thread writes random words everywhere while acquire, peek, dump and define run.
TEST_F(F07, HostileWriterOverEverything) {
  const std::string ended = in_child([this] {
    const auto limiter = Limiter::attach(path_, all_options());
    const auto inspector = Inspector::attach(path_);
    CHILD_CHECK(limiter.ok() && inspector.ok());
    const auto policy = limiter->policy("p");
    const auto shared = limiter->policy("cluster");
    absl::StatusOr<ClusterView> view = ClusterView::attach(path_);
    CHILD_CHECK(policy.ok() && shared.ok() && view.ok());
    const int fd = open(path_.c_str(), O_RDWR | O_CLOEXEC);
    auto* const words = static_cast<uint64_t*>(
        mmap(nullptr, pristine_.size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    CHILD_CHECK(words != MAP_FAILED);
    std::atomic<bool> stop{false};
    std::thread writer([&] {
      Random random(11);
      while (!stop) {
        __atomic_store_n(words + random() % (pristine_.size() / 8), random.wild(),
                         __ATOMIC_RELAXED);
      }
    });
    for (int round = 0; round < 1000; ++round) {
      exercise_policy(*policy, 20);
      exercise_policy(*shared, 3);
      exercise_view(*view);
      exercise_inspector(*inspector).IgnoreError();
      const auto defined = limiter->define(cat("q", round % 8), "5/s");
      const auto found = limiter->policy("nobody");
      if (defined.ok()) exercise_policy(*defined, 2);
      if (!found.ok() && !mentions(found.status(), "policy_not_found")) break;
    }
    stop = true;
    writer.join();
    return 0;
  });
  EXPECT_EQ(ended, "exit 0");
}

}  // namespace
}  // namespace brim::segment_test
