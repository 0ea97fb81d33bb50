// SPDX-License-Identifier: MIT
// One attached segment with everything a decision needs, laid out for reading only.
#ifndef BRIM_SRC_ENGINE_H_
#define BRIM_SRC_ENGINE_H_

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "brim/limiter.h"
#include "shm/cells.h"
#include "shm/consumption.h"
#include "shm/counters.h"
#include "shm/overrides.h"
#include "shm/registry.h"
#include "shm/segment.h"
#include "shm/succession.h"
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
        flags_(&segment->shared()->flags),
        clock(source),
        table(segment->slots(), segment->header().group_count, segment->header().probe_limit,
              &segment->shared()->reach, segment->header().on_full == shm::kOnFullEvict),
        counters(segment->counters(), segment->header().stripe_count,
                 segment->header().max_policies),
        registry(segment->policies(), segment->header().max_policies, segment->fd()),
        overrides(overrides_of(*segment)),
        consumption(segment->slots(), segment->use_cells(), segment->near_marks(),
                    segment->tier_board()),
        cells(segment->cells()),
        cells_per_key(segment->header().cells_per_key),
        secret(make_secret(segment->header())) {}
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Not zero: the segment is paused, superseded or being filled, and src/route.h says what to do.
  // Acquire; pairs with clear_flag [E6]: once a successor is filled, all keys are there. Whoever
  // sees a flag too late is found by superseded().
  uint64_t flags() const noexcept { return flags_->load(std::memory_order_acquire); }
  // After a call has charged something: whether it must be decided again, in the successor.
  // Sequentially consistent, and after a compare-and-swap that is, too [E6]: x86 makes no later
  // load before a locked instruction, so this is a plain load.
  bool superseded() const noexcept {
    return (flags_->load(std::memory_order_seq_cst) & shm::kFlagSuperseded) != 0;
  }
  // The engine of the table that took the place of this one, attached by the first call that asks;
  // null if that can not be done (tried again after a while). Allocates and makes system calls.
  // REQUIRES: superseded(). Lives as long as this.
  const Engine* successor() const noexcept;
  // The last of the line that is known to be there; this one if none is.
  const Engine* furthest() const noexcept {
    const Engine* const known = furthest_.load(std::memory_order_acquire);
    return known == nullptr ? this : known;
  }
  void note_furthest(const Engine* engine) const noexcept {
    if (engine != this) furthest_.store(engine, std::memory_order_release);
  }
  // The table whose keys this one takes over, if it was reached as a successor.
  const Engine* predecessor() const noexcept { return predecessor_; }
  // The end of the line, or as far as it can be followed.
  const Engine& current() const noexcept;

  // Counts, unless the mapping can not be written to.
  void count(uint16_t policy, shm::PolicyCounter counter, uint64_t amount = 1) const noexcept {
    if (!read_only) counters.add(policy, counter, amount);
  }

  std::shared_ptr<shm::Segment> segment;
  bool read_only;

 private:
  const std::atomic<uint64_t>* flags_;  // beside what every call reads

 public:
  Clock clock;
  Table table;
  shm::Counters counters;
  shm::Registry registry;
  shm::Overrides overrides;
  shm::Consumption consumption;
  shm::AtomicCell* cells;  // null: none
  uint32_t cells_per_key;
  HashSecret secret;

  // Errors of set-up calls that write policies.
  absl::Status check_writable() const {
    if (!read_only) return absl::OkStatus();
    return absl::FailedPreconditionError(
        cat("read_only: segment ", shown_path(segment->path()), " is attached read-only"));
  }
  absl::Status moved_error() const {
    return absl::UnavailableError(
        cat("segment_moved: segment ", shown_path(segment->path()),
            " was resized, and the new table can not be attached; look whether its name and its "
            "permissions are as they were (brim info)"));
  }
  // Of calls that change policies or overrides, with the write lock held.
  absl::Status check_settled() const {
    if ((flags() & (shm::kFlagFilling | shm::kFlagSuperseded)) == 0) return absl::OkStatus();
    return absl::FailedPreconditionError(
        cat("segment_moving: segment ", shown_path(segment->path()),
            " is being resized; try again when that is done. If it was killed, brim resize "
            "finishes it"));
  }
  absl::Status lock_error() const {
    return absl::UnavailableError(
        cat("lock_failed: flock on ", shown_path(segment->path()), ": ", strerror(errno)));
  }

 private:
  std::shared_ptr<const Engine> attach_successor() const;

  const Engine* predecessor_ = nullptr;
  mutable std::atomic<const Engine*> successor_{nullptr};
  mutable std::atomic<const Engine*> furthest_{nullptr};
  mutable std::atomic<int64_t> next_try_ns_{0};
  mutable std::shared_ptr<const Engine> kept_;  // owns *successor_

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

// What a Limiter keeps for itself.
struct EngineOf {
  static const Engine& of(const Limiter& limiter) noexcept { return *limiter.engine_; }
  static bool has(const Limiter& limiter) noexcept { return limiter.engine_ != nullptr; }
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
