// SPDX-License-Identifier: MIT
// One attached segment with everything a decision needs, laid out for reading only.
#ifndef BRIM_SRC_ENGINE_H_
#define BRIM_SRC_ENGINE_H_

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "brim/limiter.h"
#include "shm/cells.h"
#include "shm/counters.h"
#include "shm/overrides.h"
#include "shm/registry.h"
#include "shm/segment.h"
#include "shm/table.h"
#include "src/base/clock.h"
#include "src/base/text.h"
#include "src/hash.h"

namespace brim::internal {

using Table = shm::Table<shm::HardwareAtomics>;

class Engine {
 public:
  Engine(std::shared_ptr<shm::Segment> attached, Clock source)
      : segment(std::move(attached)),
        read_only(segment->read_only()),
        clock(source),
        table(segment->slots(), segment->header().group_count, segment->header().probe_limit,
              &segment->shared()->reach, segment->header().on_full == shm::kOnFullEvict),
        counters(segment->counters(), segment->header().stripe_count,
                 segment->header().max_policies),
        registry(segment->policies(), segment->header().max_policies, segment->fd()),
        overrides(overrides_of(*segment)),
        cells(segment->cells()),
        cells_per_key(segment->header().cells_per_key),
        secret(make_secret(segment->header())) {}

  // Counts, unless the mapping can not be written to.
  void count(uint16_t policy, shm::PolicyCounter counter, uint64_t amount = 1) const noexcept {
    if (!read_only) counters.add(policy, counter, amount);
  }

  std::shared_ptr<shm::Segment> segment;
  bool read_only;
  Clock clock;
  Table table;
  shm::Counters counters;
  shm::Registry registry;
  shm::Overrides overrides;
  shm::AtomicCell* cells;  // null: none
  uint32_t cells_per_key;
  HashSecret secret;

  // Errors of set-up calls that write policies.
  absl::Status check_writable() const {
    if (!read_only) return absl::OkStatus();
    return absl::FailedPreconditionError(
        cat("read_only: segment ", shown_path(segment->path()), " is attached read-only"));
  }
  absl::Status lock_error() const {
    return absl::UnavailableError(
        cat("lock_failed: flock on ", shown_path(segment->path()), ": ", strerror(errno)));
  }

 private:
  static shm::Overrides overrides_of(const shm::Segment& segment) noexcept {
    const shm::Section* const section = segment.section(shm::SectionType::kOverrides);
    return section == nullptr ? shm::Overrides()
                              : shm::Overrides(segment.overrides(), section->count);
  }
  static HashSecret make_secret(const shm::HeaderFields& header) noexcept {
    HashSecret made;
    std::memcpy(&made.key0, header.hash_key, 8);
    std::memcpy(&made.key1, header.hash_key + 8, 8);
    made.xxh3 = header.hash_kind == shm::kHashXxh3;
    made.secret = header.hash_secret;
    return made;
  }
};

// The clock and the rights that options ask for, the same for all who attach.
// Errors: InvalidArgument (invalid_option).
absl::StatusOr<Clock> clock_for(const Options& options);
absl::StatusOr<shm::Access> access_for(const Options& options, bool read_only);

// The engine over a segment that is there. It is in no core dump: it holds the hash key.
// Errors: those of both, and of Segment::attach.
absl::StatusOr<std::shared_ptr<Engine>> attach_engine(std::string_view name, const Options& options,
                                                      bool read_only);

}  // namespace brim::internal

#endif  // BRIM_SRC_ENGINE_H_
