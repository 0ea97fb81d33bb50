// SPDX-License-Identifier: MIT
#include "src/base/clock.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace brim {
namespace internal {

constinit thread_local ClockAnchors clock_anchors;

}  // namespace internal

namespace {

int64_t read_clock(clockid_t id) noexcept {
  timespec ts;
  clock_gettime(id, &ts);
  return int64_t{ts.tv_sec} * 1000000000 + ts.tv_nsec;
}

#if defined(__x86_64__)
constexpr int64_t kAnchorLifeNs = 4000000;        // renewal interval
constexpr int64_t kShortestBaseNs = 1000000;      // least distance of two samples for a rate
constexpr uint64_t kSampleTicks = 20000;          // a sample torn further apart is not used
constexpr uint64_t kTrust = 1000;                 // rates may differ by one part in this
constexpr uint64_t kSlowest = uint64_t{1} << 26;  // 64 GHz, in 2^-32 ns per tick
constexpr uint64_t kFastest = uint64_t{1} << 36;  // 62 MHz

// The last rate any thread measured; lets a new thread start without a calibration.
// Relaxed: one word, and any value ever stored is good enough.
std::atomic<uint64_t> shared_rate{0};

bool kernel_trusts_tsc() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || (d & (1u << 8)) == 0) return false;
  const int fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
                      O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char text[16] = {};
  const ssize_t n = read(fd, text, sizeof(text) - 1);
  close(fd);
  return n >= 3 && std::strncmp(text, "tsc", 3) == 0 && (text[3] == '\n' || text[3] == '\0');
}

bool plausible(uint64_t rate) noexcept { return rate > kSlowest && rate < kFastest; }

bool close_to(uint64_t rate, uint64_t other) noexcept {
  const uint64_t difference = rate > other ? rate - other : other - rate;
  return difference < other / kTrust;
}

// The rate between two samples, or 0 if they are too near, too far apart or tell nonsense.
uint64_t measured_rate(const internal::ClockAnchor& from,
                       const internal::ClockAnchor& to) noexcept {
  const int64_t ns = to.ns - from.ns;
  if (from.tsc == 0 || ns < kShortestBaseNs || ns > (int64_t{1} << 31) || to.tsc <= from.tsc)
    return 0;
  const uint64_t rate = (static_cast<uint64_t>(ns) << 32) / (to.tsc - from.tsc);
  return plausible(rate) ? rate : 0;
}
#endif

}  // namespace

int64_t monotonic_now_ns() noexcept { return read_clock(CLOCK_MONOTONIC); }
int64_t wall_now_ns() noexcept { return read_clock(CLOCK_REALTIME); }

#if defined(__x86_64__)

bool tsc_usable() noexcept {
  static const bool usable = kernel_trusts_tsc();
  return usable;
}

namespace {

int64_t renew(internal::ClockAnchors& anchors) noexcept {
  using internal::ClockAnchor;
  const ClockAnchor& old = anchors.copy[anchors.current & 1];
  const uint64_t before = __rdtsc();
  ClockAnchor fresh;
  fresh.ns = monotonic_now_ns();
  fresh.tsc = __rdtsc();
  if (fresh.tsc - before > kSampleTicks) return fresh.ns;  // interrupted in between: no anchor

  const uint64_t known = shared_rate.load(std::memory_order_relaxed);
  const uint64_t measured = measured_rate(old, fresh);
  uint64_t rate = known;
  if (measured != 0) {
    // Two readings of the rate must agree before one is used: a machine that was suspended or
    // moved in between shows up here and costs one interval of system-clock readings.
    rate = known == 0 || close_to(measured, known) ? measured : 0;
    shared_rate.store(measured, std::memory_order_relaxed);
  } else if (old.tsc != 0 && old.life_ticks == 0 && fresh.ns - old.ns < kShortestBaseNs &&
             fresh.ns >= old.ns) {
    return fresh.ns;  // keep the older sample as the base until the distance is long enough
  }
  fresh.ns_per_tick = rate;
  fresh.life_ticks = rate == 0 ? 0 : (static_cast<uint64_t>(kAnchorLifeNs) << 32) / rate;
  anchors.copy[(anchors.current + 1) & 1] = fresh;
  std::atomic_signal_fence(std::memory_order_release);
  ++anchors.current;
  return fresh.ns;
}

}  // namespace

int64_t internal::renew_clock_anchor() noexcept {
  ClockAnchors& anchors = clock_anchors;
  if (anchors.renewing != 0) return monotonic_now_ns();  // in a handler that interrupted a renewal
  anchors.renewing = 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  const int64_t now = renew(anchors);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  anchors.renewing = 0;
  return now;
}

#else

bool tsc_usable() noexcept { return false; }
int64_t internal::renew_clock_anchor() noexcept { return monotonic_now_ns(); }

#endif

}  // namespace brim
