// SPDX-License-Identifier: MIT
// Goal: no bytes of a header crash the check, and a header that passes it leads nowhere outside its
// file. Method: check_layout() in memory, no file: as many inputs as can be had. What it lets pass
// is checked again, in 128-bit arithmetic that can not overflow.
// Input: mode 1; bit 0 set: the header itself follows; else {offset 2, length 1, bytes} each.
#include "shm/cells.h"
#include "shm/overrides.h"
#include "shm/segment.h"
#include "src/base/uint128.h"
#include "tests/fuzz/fuzz.h"

namespace brim::fuzz {
namespace {

using shm::HeaderFields;
using shm::Section;
using shm::SectionType;

HeaderFields valid;

// Of a small segment with every section; the same in every process and on every machine.
HeaderFields valid_header() {
  shm::SegmentSpec spec;
  spec.capacity = 40;
  spec.name_bytes = 16;
  spec.max_policies = 14;
  spec.overrides = 12;
  spec.probe_limit = 3;
  spec.cells_per_key = 4;
  spec.stripes = 3;
  HeaderFields header = *shm::plan(spec);
  header.created_wall_ns = header.created_monotonic_ns = 1'000'000'000'000'000;
  header.creator_pid = header.creator_uid = 1;
  std::memset(header.boot_id, 0x66, sizeof(header.boot_id));
  std::memset(header.uuid, 0x55, sizeof(header.uuid));
  std::memset(header.hash_key, 0x44, sizeof(header.hash_key));
  std::memset(header.hash_secret, 0x33, sizeof(header.hash_secret));
  header.time_namespace = header.pid_namespace = 4026531834;
  return header;
}

const Section* first_of(const HeaderFields& header, SectionType type) {
  for (uint32_t i = 0; i < header.section_count; ++i) {
    if (header.sections[i].type == static_cast<uint32_t>(type)) return &header.sections[i];
  }
  return nullptr;
}

// `count` elements of `bytes` each, as the code will index them, lie between header and end.
void require_inside(const HeaderFields& header, uint64_t file_size, SectionType type,
                    uint64_t bytes, uint64_t count) {
  const Section* const section = first_of(header, type);
  require(section != nullptr, "a section that is used is not there");
  require(section->offset >= sizeof(shm::SegmentHeader), "a section lies over the header");
  require(section->offset % 64 == 0, "a section is not aligned");
  require(uint128{section->offset} + uint128{bytes} * count <= file_size,
          "a section leaves the file");
}

void require_usable(const HeaderFields& header, uint64_t file_size) {
  require(header.section_count <= shm::kMaxSections, "section_count");
  require(header.group_count > 0 && header.probe_limit > 0 && header.stripe_count > 0,
          "a count is 0");
  require(header.max_policies > 0 && header.max_policies <= shm::kMaxPolicies, "max_policies");
  const uint64_t slots = header.group_count * shm::kSlotsPerGroup;
  const auto inside = [&](SectionType type, uint64_t bytes, uint64_t count) {
    require_inside(header, file_size, type, bytes, count);
  };
  inside(SectionType::kPolicies, sizeof(shm::PolicyRecord), header.max_policies);
  inside(SectionType::kCounters, shm::stripe_bytes(header.max_policies), header.stripe_count);
  inside(SectionType::kSlots, sizeof(shm::AtomicSlot), slots);
  if (header.name_bytes != 0) {
    inside(SectionType::kNames, sizeof(shm::NameEntry) + header.name_bytes, slots);
  }
  if (header.cells_per_key != 0) {
    inside(SectionType::kCells, sizeof(shm::AtomicCell) * header.cells_per_key, slots);
  }
  const Section* const attachments = first_of(header, SectionType::kAttachments);
  require(attachments != nullptr, "no attachments");
  inside(SectionType::kAttachments, sizeof(shm::Attachment), attachments->count);
  if (const Section* const overrides = first_of(header, SectionType::kOverrides)) {
    inside(SectionType::kOverrides, shm::kOverrideElementSize, overrides->count);
  }
}

}  // namespace
}  // namespace brim::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  brim::fuzz::valid = brim::fuzz::valid_header();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brim::fuzz;
  Input input(data, size);
  HeaderFields header = valid;
  auto* const bytes = reinterpret_cast<char*>(&header);
  const uint8_t mode = input.byte();
  if ((mode & 1) != 0) {
    const std::string_view raw = input.take_bytes(sizeof(header));
    std::memcpy(bytes, raw.data(), raw.size());
  }
  while ((mode & 1) == 0 && !input.empty()) {
    const size_t offset = input.take<uint16_t>() % sizeof(header);
    const std::string_view patch =
        input.take_bytes(std::min<size_t>(input.byte() % 16 + 1u, sizeof(header) - offset));
    std::memcpy(bytes + offset, patch.data(), patch.size());
  }
  // A lying size is a header that disagrees with the file; mostly it is not that that is asked.
  const uint64_t file_size = (mode & 2) != 0 ? valid.total_size : header.total_size;
  if (brim::shm::check_layout(header, file_size, "f").ok()) require_usable(header, file_size);
  return 0;
}
