// SPDX-License-Identifier: MIT
// The one clock: nanoseconds of CLOCK_MONOTONIC, the same for every process of the machine.
//
// clock_gettime is the largest part of a decision, and its fences keep cache misses from
// overlapping. Where the kernel's own clocksource is the CPU's invariant time-stamp counter, now()
// extrapolates from a per-thread anchor (clock, tsc) that is renewed every 4 ms. Readings of two
// threads then differ by well under kClockSkewNs; the table's reclaim rule leaves that margin.
// Readings may step back by less than that; every user takes max() with what it already knows.
#ifndef BRIM_SRC_BASE_CLOCK_H_
#define BRIM_SRC_BASE_CLOCK_H_

#include <atomic>
#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace brim {

// Bound on the difference between two processes' readings of the same instant.
inline constexpr int64_t kClockSkewNs = 1000000;

namespace internal {

struct ClockAnchor {
  uint64_t tsc = 0;
  int64_t ns = 0;
  uint64_t ns_per_tick = 0;  // in units of 2^-32 ns
  uint64_t life_ticks = 0;   // 0: not usable, read the system clock
};

// Two copies, so that a signal handler that interrupts a renewal finds a whole anchor. `current`
// counts renewals, so that a reading that was interrupted by two of them notices; `renewing` keeps
// a handler from writing the copy that the renewal it interrupted is writing.
struct ClockAnchors {
  ClockAnchor copy[2];
  uint32_t current = 0;
  uint32_t renewing = 0;
};

// initial-exec: one instruction to reach, no allocation, safe in a signal handler.
extern constinit thread_local ClockAnchors clock_anchors __attribute__((tls_model("initial-exec")));

int64_t renew_clock_anchor() noexcept;

}  // namespace internal

int64_t monotonic_now_ns() noexcept;
// True where the time-stamp counter may stand in for CLOCK_MONOTONIC on this machine.
bool tsc_usable() noexcept;
// Wall-clock ns since 1970. For tools and snapshots; decisions never use it.
int64_t wall_now_ns() noexcept;

inline int64_t tsc_now_ns() noexcept {
#if defined(__x86_64__)
  // Volatile: each field is loaded once, in this order, whatever a handler does in between.
  const volatile internal::ClockAnchors& anchors = internal::clock_anchors;
  const uint32_t current = anchors.current;
  const volatile internal::ClockAnchor& anchor = anchors.copy[current & 1];
  const uint64_t elapsed = __rdtsc() - anchor.tsc;
  if (elapsed < anchor.life_ticks) [[likely]] {
    const int64_t now = anchor.ns + static_cast<int64_t>((elapsed * anchor.ns_per_tick) >> 32);
    if (anchors.current == current) [[likely]]
      return now;
  }
  return internal::renew_clock_anchor();
#else
  return monotonic_now_ns();
#endif
}

// Which clock a limiter reads. Copyable; the manual source must outlive it.
class Clock {
 public:
  static Clock automatic() noexcept { return Clock(tsc_usable() ? kTsc : kMonotonic, nullptr); }
  static Clock monotonic() noexcept { return Clock(kMonotonic, nullptr); }
  static Clock manual(const std::atomic<int64_t>* ns) noexcept { return Clock(kManual, ns); }

  [[gnu::always_inline]] int64_t now() const noexcept {
    if (kind_ == kTsc) [[likely]]
      return tsc_now_ns();
    // Relaxed: the reading is the whole message.
    return kind_ == kMonotonic ? monotonic_now_ns() : manual_->load(std::memory_order_relaxed);
  }
  bool is_manual() const noexcept { return kind_ == kManual; }
  const char* name() const noexcept {
    return kind_ == kTsc ? "tsc" : kind_ == kMonotonic ? "monotonic" : "manual";
  }
  friend bool operator==(const Clock&, const Clock&) = default;

 private:
  enum Kind : uint8_t { kTsc, kMonotonic, kManual };
  Clock(Kind kind, const std::atomic<int64_t>* manual) noexcept : kind_(kind), manual_(manual) {}
  Kind kind_;
  const std::atomic<int64_t>* manual_;
};

}  // namespace brim

#endif  // BRIM_SRC_BASE_CLOCK_H_
