// SPDX-License-Identifier: MIT
// The only 16-byte compare-and-swap and the only 16-byte load.
//
// The compare-and-swap is lock cmpxchg16b. The load is a plain aligned vector load, which Intel
// (SDM vol. 3, 8.1.1) and AMD (APM vol. 2, 7.3.2) guarantee to be atomic on CPUs with AVX. Every
// portable 16-byte "atomic load" (std::atomic, __atomic, Boost 1.81) runs cmpxchg16b instead:
// that is a write, takes the line exclusive on every refusal and faults on a read-only mapping.
//
// Mixing 16-byte and 8-byte access to one location is outside the C++ memory model. We rely on
// the x86-64 architecture: an aligned 8-byte load sees either half of some 16-byte store whole,
// and locked instructions are totally ordered. Other CPUs are refused at build time.
#ifndef BRIM_SHM_ATOMIC128_H_
#define BRIM_SHM_ATOMIC128_H_

#include <atomic>
#include <cstdint>

#if !defined(__x86_64__) || !defined(__GCC_HAVE_SYNC_COMPARE_AND_SWAP_16)
#error "brim needs a 16-byte compare-and-swap: x86-64 built with -mcx16"
#endif

#include <cpuid.h>
#include <emmintrin.h>

#include "shm/schedule_point.h"
#include "src/base/uint128.h"

#if defined(__SANITIZE_THREAD__)
#define BRIM_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BRIM_TSAN 1
#endif
#endif

namespace brim::shm {

struct alignas(16) Pair {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const Pair&, const Pair&) = default;
};
static_assert(sizeof(Pair) == 16);

// True where a 16-byte vector load is atomic. Checked when a segment is attached; elsewhere
// attaching fails with a clear error.
inline bool cpu_supported() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_AVX) != 0 && (c & bit_CMPXCHG16B) != 0;
}

#if defined(BRIM_TSAN)

// The sanitizer understands the builtins and is blind to assembly. Its load writes: tests that
// read a PROT_READ mapping skip themselves in this build. What it checks is thus the protocol on
// sequentially consistent accesses; that movdqa may stand for its load is not seen by it, but by
// the process tests (P16: no load is torn) and argued in docs/design/0001-slot-protocol.md.
inline Pair load128(const Pair* pair) noexcept {
  BRIM_SCHEDULE_POINT();
  const uint128 v = __atomic_load_n(reinterpret_cast<const uint128*>(pair), __ATOMIC_SEQ_CST);
  return {static_cast<uint64_t>(v), static_cast<uint64_t>(v >> 64)};
}

inline bool cas128(Pair* pair, Pair& expected, Pair desired) noexcept {
  BRIM_CHANGE_POINT();
  uint128 e = static_cast<uint128>(expected.high) << 64 | expected.low;
  const uint128 d = static_cast<uint128>(desired.high) << 64 | desired.low;
  const bool done = __atomic_compare_exchange_n(reinterpret_cast<uint128*>(pair), &e, d, false,
                                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  expected = {static_cast<uint64_t>(e), static_cast<uint64_t>(e >> 64)};
  return done;
}

#else

// Acquire, as every x86 load; pairs with cas128 [E2]. Carries: the slot, nothing else.
inline Pair load128(const Pair* pair) noexcept {
  BRIM_SCHEDULE_POINT();
  __m128i v;
  asm volatile("movdqa %1, %0" : "=x"(v) : "m"(*pair) : "memory");
  Pair result;
  _mm_store_si128(reinterpret_cast<__m128i*>(&result), v);
  return result;
}

// Sequentially consistent [E2]. On failure `expected` holds what was found.
inline bool cas128(Pair* pair, Pair& expected, Pair desired) noexcept {
  BRIM_CHANGE_POINT();
  bool done;
  asm volatile("lock cmpxchg16b %0"
               : "+m"(*pair), "=@ccz"(done), "+a"(expected.low), "+d"(expected.high)
               : "b"(desired.low), "c"(desired.high)
               : "memory");
  return done;
}

#endif

// One half. Relaxed would do: what is decided on is loaded again by load128.
// Mixed size: the sanitizer sees two atomic accesses that overlap and rightly reports no race, but
// it can not tell whether the half belongs to the pair that a later load128 sees. It need not: the
// half only says where to look closer. An old one costs a look, or leads past a slot that was not
// this key's at that instant, as a load128 of that instant would have.
inline uint64_t load_low(const Pair* pair) noexcept {
  BRIM_SCHEDULE_POINT();
  return __atomic_load_n(&pair->low, __ATOMIC_ACQUIRE);
}

// Orders a claim before the looks that verify it.
inline void full_fence() noexcept {
#if !defined(BRIM_TSAN)  // every 16-byte access is sequentially consistent there
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

inline void cpu_pause() noexcept { _mm_pause(); }

}  // namespace brim::shm

#endif  // BRIM_SHM_ATOMIC128_H_
