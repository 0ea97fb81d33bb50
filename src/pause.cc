// SPDX-License-Identifier: MIT
// The kill switch: one bit of the segment's flags.
#include "brim/limiter.h"
#include "src/engine.h"

namespace brim {

using internal::Engine;

namespace {

// Sets or clears the bit in every table from this one on to the last: while a resize is going on
// the one that is told last decides, and which of them newcomers attach is not known.
absl::Status switch_pause(const Engine* engine, bool on) {
  if (engine == nullptr) return absl::FailedPreconditionError("not_open: this Limiter is empty");
  if (absl::Status status = engine->check_writable(); !status.ok()) return status;
  for (;;) {
    shm::SegmentHeader& header = *engine->segment->shared();
    const uint64_t before =
        on ? shm::set_flag(header, shm::kFlagPaused) : shm::clear_flag(header, shm::kFlagPaused);
    if ((before & shm::kFlagSuperseded) == 0) return absl::OkStatus();
    const Engine* const next = engine->successor();
    if (next == nullptr) return engine->moved_error();
    engine = next;
  }
}

}  // namespace

absl::Status Limiter::pause() const { return switch_pause(engine_.get(), true); }
absl::Status Limiter::resume() const { return switch_pause(engine_.get(), false); }

bool Limiter::paused() const {
  return engine_ != nullptr && (engine_->current().flags() & shm::kFlagPaused) != 0;
}

}  // namespace brim
