// SPDX-License-Identifier: MIT
// What every call returns. A Decision is 32 bytes, trivially copyable, and computed
// from the very word that was decided on, so its fields always agree with each other.
#ifndef BRIM_DECISION_H_
#define BRIM_DECISION_H_

#include <cstdint>
#include <limits>

namespace brim {

// A duration that never ends: the request can not succeed however long the caller waits.
inline constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// What the limiter found out.
enum class Verdict : uint8_t {
  kDenied = 0,       // the policy refuses; nothing was written
  kAllowed = 1,      // the policy admits; the permits are taken
  kUnavailable = 2,  // brim could not decide; `admitted` holds the policy's on_unavailable
};

// Why, where the verdict alone does not say it.
enum class Reason : uint8_t {
  kNone = 0,            // a plain answer of the policy
  kCostAboveBurst = 1,  // no wait will help: retry_after_ns is kNever
  kFull = 2,       // every slot of the key's window holds a live key, and on_full forbids eviction
  kContended = 3,  // the bound on retries was reached
  kReadOnly = 4,   // the segment is attached read-only
  kNoPolicy = 5,   // the handle's policy does not exist in the segment
  kBarred = 6,     // the key is banned until retry_after_ns is over
  kShadow = 7,     // the policy refuses but does not enforce this key: admitted, nothing charged
  kExempt = 8,     // an override or the policy `unlimited` admits the key without counting it
  kBlocked = 9,    // an override or the policy `deny` refuses the key: retry_after_ns is kNever
  kUnsupported = 10,  // the policy's algorithm has no such call (a lease of a rate, say)
  kTooLate = 11,      // the booking would begin after the time that the caller or policy allows
  kPaused = 12,  // the segment is paused (Limiter::pause): admitted and counted, nothing charged
  kMoved = 13,   // the segment was resized, and this process can not attach the new one
  kTierUnavailable = 14,  // scope cluster strict: the store could not be asked
};

struct Decision {
  // 0 if admitted; else the least wait after which this request would pass if nothing else happens
  // (for windows and logs in a warm-up or under a factor: by the limit of this instant).
  int64_t retry_after_ns = 0;
  int64_t reset_after_ns = 0;  // until the key is idle, that is as if never seen
  int64_t delay_ns = 0;        // if admitted: wait this long before you start (queue, reserve)
  uint32_t remaining = 0;      // largest cost that would pass right after this call
  Verdict verdict = Verdict::kDenied;
  Reason reason = Reason::kNone;
  bool admitted = false;  // let the request pass: the verdict with on_unavailable applied
  uint8_t part = 0;       // which rate of the policy, or key of the call, this answer is about

  constexpr bool allowed() const noexcept { return admitted; }
  explicit constexpr operator bool() const noexcept { return admitted; }
  friend constexpr bool operator==(const Decision&, const Decision&) = default;
};
static_assert(sizeof(Decision) == 32);

}  // namespace brim

#endif  // BRIM_DECISION_H_
