// SPDX-License-Identifier: MIT
// The header's arithmetic: laying a new segment out, and checking one that somebody else wrote.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "shm/cells.h"
#include "shm/consumption.h"
#include "shm/identity.h"
#include "shm/overrides.h"
#include "shm/segment.h"
#include "shm/segment_file.h"
#include "shm/succession.h"
#include "src/base/clock.h"
#include "src/base/random.h"
#include "src/base/text.h"

namespace brim::shm {

namespace {

constexpr uint64_t kPage = 4096;

bool is_prime(uint64_t n) {
  if (n < 4) return n >= 2;
  if (n % 2 == 0) return false;
  for (uint64_t d = 3; d * d <= n; d += 2) {
    if (n % d == 0) return false;
  }
  return true;
}

// Least prime >= n; 1 stays 1 (a table of one group).
uint64_t next_prime(uint64_t n) {
  if (n <= 1) return 1;
  while (!is_prime(n)) ++n;
  return n;
}

absl::Status bad_option(std::string_view option, uint64_t value, std::string_view range) {
  return absl::InvalidArgumentError(
      cat("invalid_option: ", option, " is ", value, "; give ", range));
}

absl::Status check_spec(const SegmentSpec& spec) {
  if (spec.capacity == 0 || spec.capacity > kMaxSlots) {
    return bad_option("capacity", spec.capacity, "1 to 17179869184 keys");
  }
  if (spec.name_bytes > 65520 || spec.name_bytes % 8 != 0) {
    return bad_option("name_bytes", spec.name_bytes, "a multiple of 8, at most 65520");
  }
  if (spec.max_policies == 0 || spec.max_policies > kMaxPolicies) {
    return bad_option("max_policies", spec.max_policies, "1 to 4096");
  }
  if (spec.probe_limit == 0 || spec.probe_limit > kMaxProbeLimit) {
    return bad_option("probe_limit", spec.probe_limit, "1 to 255");
  }
  if (spec.hash_kind != kHashSipHash && spec.hash_kind != kHashXxh3) {
    return bad_option("hash", spec.hash_kind, "1 (SipHash) or 2 (XXH3)");
  }
  if (spec.on_full < kOnFullEvict || spec.on_full > kOnFullDeny) {
    return bad_option("on_full", spec.on_full, "1 (evict least), 2 (allow) or 3 (deny)");
  }
  if (spec.cells_per_key > kMaxCells || spec.cells_per_key % 2 != 0) {
    return bad_option("cells_per_key", spec.cells_per_key,
                      cat("an even number, at most ", kMaxCells));
  }
  if (spec.overrides > kMaxOverrides) {
    return bad_option("overrides", spec.overrides, cat("at most ", kMaxOverrides));
  }
  if (spec.mode != 0600 && spec.mode != 0660 && spec.mode != 0640) {
    return absl::InvalidArgumentError(
        cat("invalid_option: mode is ", octal_mode(spec.mode),
            "; give 0600, 0640 or 0660: others must not read the hash key"));
  }
  return absl::OkStatus();
}

class Layout {
 public:
  explicit Layout(HeaderFields& header) : header_(header), end_(sizeof(SegmentHeader)) {}
  void add(SectionType type, uint64_t element_size, uint64_t count, uint64_t alignment) {
    end_ = (end_ + alignment - 1) / alignment * alignment;
    header_.sections[header_.section_count++] = {static_cast<uint32_t>(type),
                                                 static_cast<uint32_t>(element_size), end_, count};
    end_ += element_size * count;
  }
  uint64_t end() const { return end_; }

 private:
  HeaderFields& header_;
  uint64_t end_;
};

absl::Status corrupt(std::string_view path, std::string_view field, uint64_t value) {
  return absl::DataLossError(
      cat("segment_corrupt: ", path, ": header field ", field, " is ", value,
          ", which no brim segment has; remove the file or give another name"));
}

// Every section lies inside the file, aligned; multiplication can not overflow.
absl::Status check_sections(const HeaderFields& header, std::string_view path) {
  if (header.section_count > kMaxSections) {
    return corrupt(path, "section_count", header.section_count);
  }
  for (uint32_t i = 0; i < header.section_count; ++i) {
    const Section& section = header.sections[i];
    if (section.offset % 64 != 0 || section.offset < header.header_size ||
        section.offset > header.total_size) {
      return corrupt(path, cat("sections[", i, "].offset"), section.offset);
    }
    if (section.element_size == 0) {
      return corrupt(path, cat("sections[", i, "].element_size"), 0);
    }
    if (section.count > (header.total_size - section.offset) / section.element_size) {
      return corrupt(path, cat("sections[", i, "].count"), section.count);
    }
  }
  return absl::OkStatus();
}

const Section* find_section(const HeaderFields& header, SectionType type) {
  for (uint32_t i = 0; i < header.section_count && i < kMaxSections; ++i) {
    if (header.sections[i].type == static_cast<uint32_t>(type)) return &header.sections[i];
  }
  return nullptr;
}

absl::Status check_section(const HeaderFields& header, SectionType type, std::string_view what,
                           uint64_t element_size, uint64_t count, std::string_view path) {
  const Section* const section = find_section(header, type);
  if (section == nullptr) return corrupt(path, cat("section ", what), 0);
  if (section->element_size != element_size) {
    return corrupt(path, cat("section ", what, " element_size"), section->element_size);
  }
  if (section->count != count) {
    return corrupt(path, cat("section ", what, " count"), section->count);
  }
  return absl::OkStatus();
}

// What keys have used, for other nodes: all of it or nothing.
absl::Status check_tier_sections(const HeaderFields& header, uint64_t slots,
                                 std::string_view path) {
  const struct {
    SectionType type;
    std::string_view what;
    uint64_t element_size;
    uint64_t count;
  } wanted[] = {{SectionType::kConsumption, "consumption", sizeof(UseCell), slots},
                {SectionType::kNear, "near", sizeof(uint64_t), near_words(slots)},
                {SectionType::kTier, "tier", sizeof(TierBoard), 1}};
  const bool any = std::any_of(std::begin(wanted), std::end(wanted), [&](const auto& w) {
    return find_section(header, w.type) != nullptr;
  });
  for (const auto& w : wanted) {
    if (!any) break;
    absl::Status status = check_section(header, w.type, w.what, w.element_size, w.count, path);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// Sections that a segment may lack, whose bytes are for people.
absl::Status check_display_sections(const HeaderFields& header, const Section* overrides,
                                    std::string_view path) {
  const Section* const texts = find_section(header, SectionType::kOverrideTexts);
  // Without overrides nobody looks at them.
  if (texts != nullptr &&
      (texts->element_size != sizeof(OverrideText) ||
       (overrides != nullptr && texts->count + kOverrideHeaderElements != overrides->count))) {
    return corrupt(path, "section override_texts", texts->count);
  }
  const Section* const audit = find_section(header, SectionType::kAudit);
  if (audit != nullptr && (audit->element_size != sizeof(AuditCell) || audit->count == 0 ||
                           audit->count > kMaxAuditCells)) {
    return corrupt(path, "section audit", audit->count);
  }
  const Section* const hot = find_section(header, SectionType::kHotKeys);
  if (hot != nullptr && (hot->element_size != sizeof(HotCell) || hot->count <= kHotHeaderElements ||
                         hot->count > kHotHeaderElements + kMaxHotCells)) {
    return corrupt(path, "section hot_keys", hot->count);
  }
  return absl::OkStatus();
}

absl::Status check_identity(const HeaderFields& header, uint64_t file_size, std::string_view path) {
  if (header.magic != kMagic) {
    return absl::DataLossError(cat("segment_bad_magic: ", path, " is not a brim segment (magic ",
                                   hex(header.magic),
                                   "); give another name, or remove the file if nobody needs it"));
  }
  if (header.endian_tag != kEndianTag) {
    return absl::FailedPreconditionError(cat("segment_endian_mismatch: ", path,
                                             " was written with another byte order (",
                                             hex(header.endian_tag), ")"));
  }
  if (header.layout_version != kLayoutVersion) {
    return absl::FailedPreconditionError(cat(
        "segment_version_mismatch: ", path, " has layout version ", header.layout_version,
        ", this library reads ", kLayoutVersion, "; use the brim that made it, or recreate it"));
  }
  if (header.features_required != 0) {
    return absl::FailedPreconditionError(cat("segment_unknown_feature: ", path, " needs features ",
                                             hex(header.features_required),
                                             " that this library does not know"));
  }
  if (header.header_size != sizeof(SegmentHeader)) {
    return corrupt(path, "header_size", header.header_size);
  }
  if (header.total_size != file_size) {
    return absl::DataLossError(cat("segment_size_mismatch: ", path, " has ", file_size,
                                   " bytes, its header says ", header.total_size,
                                   "; it was cut or extended: recreate it"));
  }
  return absl::OkStatus();
}

// A boot that can not be told is not another boot.
absl::Status check_readable(const MachineIdentity& here) {
  if (here.error == 0) return absl::OkStatus();
  return absl::UnavailableError(
      cat("boot_id_unreadable: /proc/sys/kernel/random/boot_id: ", strerror(here.error),
          "; mount /proc, or raise the limit on open files"));
}

// CLOCK_MONOTONIC has another meaning after a reboot and in another time namespace.
absl::Status check_clock_domain(const HeaderFields& header, std::string_view path) {
  const MachineIdentity here = machine_identity();
  if (absl::Status status = check_readable(here); !status.ok()) return status;
  if (std::memcmp(header.boot_id, here.boot_id.data(), 16) != 0) {
    return absl::FailedPreconditionError(
        cat("segment_other_boot: ", path,
            " was made before this boot, so its times mean nothing now; recreate it"));
  }
  if (header.time_namespace != 0 && here.time_namespace != 0 &&
      header.time_namespace != here.time_namespace) {
    return absl::FailedPreconditionError(cat("segment_other_time_namespace: ", path,
                                             " was made in time namespace ", header.time_namespace,
                                             ", this process is in ", here.time_namespace,
                                             "; their clocks differ: use one segment for each"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string hash_seed(const HeaderFields& header) {
  std::string seed(1, static_cast<char>(header.hash_kind));
  seed.append(reinterpret_cast<const char*>(header.hash_key), sizeof(header.hash_key));
  return seed.append(reinterpret_cast<const char*>(header.hash_secret), sizeof(header.hash_secret));
}

bool set_hash_seed(std::string_view seed, HeaderFields& header) {
  if (seed.size() != 1 + sizeof(header.hash_key) + sizeof(header.hash_secret)) return false;
  const auto kind = static_cast<uint32_t>(seed.front());
  if (kind != kHashSipHash && kind != kHashXxh3) return false;
  header.hash_kind = kind;
  std::memcpy(header.hash_key, seed.data() + 1, sizeof(header.hash_key));
  std::memcpy(header.hash_secret, seed.data() + 1 + sizeof(header.hash_key),
              sizeof(header.hash_secret));
  return true;
}

absl::StatusOr<HeaderFields> plan(const SegmentSpec& spec) {
  if (absl::Status status = check_spec(spec); !status.ok()) return status;
  HeaderFields header{};
  header.magic = kMagic;
  header.layout_version = kLayoutVersion;
  header.endian_tag = kEndianTag;
  header.header_size = sizeof(SegmentHeader);
  header.created_wall_ns = static_cast<uint64_t>(wall_now_ns());
  header.created_monotonic_ns = static_cast<uint64_t>(monotonic_now_ns());
  const MachineIdentity here = machine_identity();
  if (absl::Status status = check_readable(here); !status.ok()) return status;
  std::memcpy(header.boot_id, here.boot_id.data(), 16);
  header.time_namespace = here.time_namespace;
  header.creator_pid = static_cast<uint32_t>(getpid());
  header.creator_uid = geteuid();
  header.mode = spec.mode;
  header.hash_kind = spec.hash_kind;
  header.on_full = spec.on_full;
  header.probe_limit = spec.probe_limit;
  header.capacity = spec.capacity;
  header.group_count = next_prime((spec.capacity + kSlotsPerGroup - 1) / kSlotsPerGroup);
  header.max_policies = spec.max_policies;
  header.name_bytes = spec.name_bytes;
  header.cells_per_key = spec.cells_per_key;
  header.pid_namespace = here.pid_namespace;
  const long cpus = sysconf(_SC_NPROCESSORS_CONF);
  header.stripe_count = spec.stripes != 0 ? spec.stripes
                                          : static_cast<uint32_t>(cpus < 1      ? 1
                                                                  : cpus > 1024 ? 1024
                                                                                : cpus) +
                                                1;
  if (!spec.hash_seed.empty()) {
    HeaderFields seed{};
    if (!set_hash_seed(spec.hash_seed, seed)) {
      return absl::InvalidArgumentError(
          cat("invalid_option: hash_seed has ", spec.hash_seed.size(),
              " bytes and is not one that a segment gave; leave it empty for a new one"));
    }
    header.hash_kind = seed.hash_kind;  // the rest is written to the file only
    explicit_bzero(&seed, sizeof(seed));
  }
  if (!fill_random(header.uuid, sizeof(header.uuid))) return no_entropy();
  if (spec.predecessor != nullptr) {  // the same segment to people and to counters
    header.created_wall_ns = spec.predecessor->created_wall_ns;
    std::memcpy(header.lineage, lineage_of(*spec.predecessor), sizeof(header.lineage));
    header.generation = spec.predecessor->generation + 1;
  }
  const uint64_t slots = header.group_count * kSlotsPerGroup;
  Layout layout(header);
  layout.add(SectionType::kPolicies, sizeof(PolicyRecord), spec.max_policies, 64);
  layout.add(SectionType::kAttachments, sizeof(Attachment), spec.attachments, 64);
  layout.add(SectionType::kCounters, stripe_bytes(spec.max_policies), header.stripe_count, 64);
  layout.add(SectionType::kSlots, sizeof(AtomicSlot), slots, slots > 256 ? kPage : 64);
  if (spec.name_bytes != 0) {
    layout.add(SectionType::kNames, sizeof(NameEntry) + spec.name_bytes, slots, 64);
  }
  if (spec.cells_per_key != 0) {
    layout.add(SectionType::kCells, sizeof(AtomicCell) * spec.cells_per_key, slots, 64);
  }
  if (spec.overrides != 0) {
    layout.add(SectionType::kOverrides, kOverrideElementSize, override_elements(spec.overrides),
               64);
    if (spec.name_bytes != 0) {
      layout.add(SectionType::kOverrideTexts, sizeof(OverrideText),
                 override_elements(spec.overrides) - kOverrideHeaderElements, 64);
    }
  }
  if (spec.cluster) {
    layout.add(SectionType::kConsumption, sizeof(UseCell), slots, 64);
    layout.add(SectionType::kNear, sizeof(uint64_t), near_words(slots), 64);
    layout.add(SectionType::kTier, sizeof(TierBoard), 1, 64);
  }
  layout.add(SectionType::kAudit, sizeof(AuditCell), kAuditCells, 64);
  layout.add(SectionType::kHotKeys, sizeof(HotCell), kHotHeaderElements + kHotCells, 64);
  header.total_size = layout.end();
  return header;
}

absl::Status check_layout(const HeaderFields& header, uint64_t file_size, std::string_view path) {
  if (absl::Status status = check_identity(header, file_size, path); !status.ok()) return status;
  if (absl::Status status = check_sections(header, path); !status.ok()) return status;
  if (header.group_count == 0 || header.group_count > kMaxSlots / kSlotsPerGroup + 4096) {
    return corrupt(path, "group_count", header.group_count);
  }
  if (header.probe_limit == 0 || header.probe_limit > kMaxProbeLimit) {
    return corrupt(path, "probe_limit", header.probe_limit);
  }
  if (header.max_policies == 0 || header.max_policies > kMaxPolicies) {
    return corrupt(path, "max_policies", header.max_policies);
  }
  if (header.stripe_count == 0 || header.stripe_count > 4096) {
    return corrupt(path, "stripe_count", header.stripe_count);
  }
  if (header.name_bytes > 65520 || header.name_bytes % 8 != 0) {
    return corrupt(path, "name_bytes", header.name_bytes);
  }
  if (header.cells_per_key > kMaxCells || header.cells_per_key % 2 != 0) {
    return corrupt(path, "cells_per_key", header.cells_per_key);
  }
  if (header.hash_kind != kHashSipHash && header.hash_kind != kHashXxh3) {
    return corrupt(path, "hash_kind", header.hash_kind);
  }
  if (header.on_full < kOnFullEvict || header.on_full > kOnFullDeny) {
    return corrupt(path, "on_full", header.on_full);
  }
  const uint64_t slots = header.group_count * kSlotsPerGroup;
  const struct {
    SectionType type;
    std::string_view what;
    uint64_t element_size;
    uint64_t count;
    bool wanted;
  } wanted[] = {
      {SectionType::kPolicies, "policies", sizeof(PolicyRecord), header.max_policies, true},
      {SectionType::kCounters, "counters", stripe_bytes(header.max_policies), header.stripe_count,
       true},
      {SectionType::kSlots, "slots", sizeof(AtomicSlot), slots, true},
      {SectionType::kNames, "names", sizeof(NameEntry) + header.name_bytes, slots,
       header.name_bytes != 0},
      {SectionType::kCells, "cells", sizeof(AtomicCell) * header.cells_per_key, slots,
       header.cells_per_key != 0},
  };
  for (const auto& w : wanted) {
    if (!w.wanted) continue;
    absl::Status status = check_section(header, w.type, w.what, w.element_size, w.count, path);
    if (!status.ok()) return status;
  }
  const Section* const attachments = find_section(header, SectionType::kAttachments);
  if (attachments == nullptr || attachments->element_size != sizeof(Attachment) ||
      attachments->count > kMaxAttachments) {
    return corrupt(path, "section attachments",
                   attachments == nullptr ? 0 : attachments->element_size);
  }
  const Section* const overrides = find_section(header, SectionType::kOverrides);
  if (overrides != nullptr && (overrides->element_size != kOverrideElementSize ||
                               overrides->count > override_elements(kMaxOverrides))) {
    return corrupt(path, "section overrides", overrides->count);
  }
  if (absl::Status status = check_tier_sections(header, slots, path); !status.ok()) return status;
  return check_display_sections(header, overrides, path);
}

absl::Status check_header(const HeaderFields& header, uint64_t file_size, std::string_view path) {
  if (absl::Status status = check_layout(header, file_size, path); !status.ok()) return status;
  return check_clock_domain(header, path);
}

}  // namespace brim::shm
