// SPDX-License-Identifier: MIT
#include "src/route.h"

#include <limits>

#include "src/carry.h"

namespace brim {

namespace {

Decision paused_answer() noexcept {
  Decision decision;
  decision.verdict = Verdict::kAllowed;
  decision.reason = Reason::kPaused;
  decision.admitted = true;
  decision.remaining = std::numeric_limits<uint32_t>::max();
  return decision;
}

}  // namespace

bool Route::fail(Reason why) noexcept {
  Quota quota;
  const bool known = read_quota(engine_->registry, policy_, 0, quota);
  decided_ = unavailable(why, !known || !has(quota, kDenyIfUnavailable));
  if (counts_) engine_->count(policy_, PolicyCounter::kUnavailable);
  return false;
}

bool Route::find() noexcept {
  engine_ = &start_.current();
  const uint64_t flags = engine_->flags();
  if ((flags & shm::kFlagSuperseded) != 0) return fail(Reason::kMoved);
  from_ = (flags & shm::kFlagFilling) != 0 ? engine_->predecessor() : nullptr;
  if ((flags & shm::kFlagPaused) == 0) return true;
  decided_ = paused_answer();
  if (counts_) engine_->count(policy_, PolicyCounter::kPaused);
  return false;
}

bool Route::carry(uint16_t policy, std::string_view key) noexcept {
  Reason why = Reason::kNone;
  if (from_ == nullptr || engine_->read_only) return true;
  return carry_key(*from_, *engine_, policy, key, why) || fail(why);
}

}  // namespace brim
