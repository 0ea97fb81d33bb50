// SPDX-License-Identifier: MIT
#include "src/engine.h"

namespace brim::internal {

absl::StatusOr<Clock> clock_for(const Options& options) {
  switch (options.clock) {
    case ClockKind::kAuto:
      return Clock::automatic();
    case ClockKind::kMonotonic:
      return Clock::monotonic();
    case ClockKind::kManual:
      break;
  }
  if (options.manual_clock_ns == nullptr) {
    return absl::InvalidArgumentError(
        "invalid_option: clock is kManual but manual_clock_ns is null; point it at your clock");
  }
  return Clock::manual(options.manual_clock_ns);
}

absl::StatusOr<shm::Access> access_for(const Options& options, bool read_only) {
  shm::Access access;
  access.read_only = read_only;
  access.huge_pages = options.huge_pages;
  access.owner_uid = options.owner_uid;
  const absl::StatusOr<int64_t> gid = shm::group_id(options.group);
  if (!gid.ok()) return gid.status();
  access.gid = *gid;
  access.group_bits = (options.mode & 0070) != 0;
  return access;
}

absl::StatusOr<std::shared_ptr<Engine>> attach_engine(std::string_view name, const Options& options,
                                                      bool read_only) {
  const absl::StatusOr<Clock> clock = clock_for(options);
  if (!clock.ok()) return clock.status();
  const absl::StatusOr<shm::Access> access = access_for(options, read_only);
  if (!access.ok()) return access.status();
  auto segment = shm::Segment::attach(name, *access);
  if (!segment.ok()) return segment.status();
  return std::allocate_shared<Engine>(shm::UndumpedAllocator<Engine>(), *std::move(segment),
                                      *clock);
}

}  // namespace brim::internal
