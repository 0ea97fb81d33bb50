// SPDX-License-Identifier: MIT
// Striped statistics. One stripe a CPU, changed by a single unlocked add inside a restartable
// sequence (rseq(2), registered by glibc since 2.35): exact, under 2 ns, no line ever bounces, no
// owner to die. Where rseq is missing, or the CPU has no stripe, the last stripe takes a locked
// add. Counts of dead processes stay. A reader's sum may lag by the adds in flight.
#ifndef BRIM_SHM_COUNTERS_H_
#define BRIM_SHM_COUNTERS_H_

#include <sys/rseq.h>

#include <cstdint>

#include "shm/layout.h"
#include "shm/schedule_point.h"

namespace brim::shm {

namespace internal {

inline struct rseq* thread_rseq() noexcept {
  return reinterpret_cast<struct rseq*>(static_cast<char*>(__builtin_thread_pointer()) +
                                        __rseq_offset);
}

// Adds to *counter if this thread is still on `cpu`; false if it was moved or interrupted.
// The add is the sequence's only store: the kernel restarts a thread it preempts before it.
inline bool add_on_cpu(uint64_t* counter, uint64_t amount, uint32_t cpu) noexcept {
  struct rseq* const area = thread_rseq();
  asm goto(
      ".pushsection __rseq_cs, \"aw?\"\n\t"
      ".balign 32\n\t"
      "3:\n\t"
      ".long 0x0, 0x0\n\t"
      ".quad 1f, (2f - 1f), 4f\n\t"
      ".popsection\n\t"
      "leaq 3b(%%rip), %%rax\n\t"
      "movq %%rax, %[descriptor]\n\t"
      "1:\n\t"
      "cmpl %[cpu], %[current]\n\t"
      "jnz 4f\n\t"
      "addq %[amount], %[counter]\n\t"
      "2:\n\t"
      "movq $0, %[descriptor]\n\t"  // the code may be unloaded before the next preemption
      ".pushsection __rseq_failure, \"ax?\"\n\t"
      ".byte 0x0f, 0xb9, 0x3d\n\t"
      ".long 0x53053053\n\t"  // RSEQ_SIG
      "4:\n\t"
      "movq $0, %[descriptor]\n\t"
      "jmp %l[moved]\n\t"
      ".popsection\n\t"
      : /* asm goto without outputs: memory is declared clobbered */
      : [descriptor] "m"(area->rseq_cs), [current] "m"(area->cpu_id), [cpu] "r"(cpu),
        [amount] "r"(amount), [counter] "m"(*counter)
      : "memory", "cc", "rax"
      : moved);
  return true;
moved:
  return false;
}

}  // namespace internal

// View over the counter stripes of a mapped segment. Safe from any thread, process, signal handler.
class Counters {
 public:
  Counters() = default;
  // REQUIRES: stripes >= 1.
  Counters(uint64_t* base, uint32_t stripes, uint32_t max_policies) noexcept
      : base_(base),
        words_(stripe_bytes(max_policies) / sizeof(uint64_t)),
        cpu_stripes_(__rseq_size == 0 ? 0 : stripes - 1),
        stripes_(stripes) {}

  void add(uint16_t policy, PolicyCounter counter, uint64_t amount = 1) const noexcept {
    add_at(kEvents + size_t{policy} * kPolicyCounters + static_cast<size_t>(counter), amount);
  }
  void add(Event event, uint64_t amount = 1) const noexcept {
    add_at(static_cast<size_t>(event), amount);
  }

  uint64_t sum(uint16_t policy, PolicyCounter counter) const noexcept {
    return sum_at(kEvents + size_t{policy} * kPolicyCounters + static_cast<size_t>(counter));
  }
  uint64_t sum(Event event) const noexcept { return sum_at(static_cast<size_t>(event)); }

 private:
  // Killed here: one event is missing. The add is one instruction in both forms.
  void add_at(size_t index, uint64_t amount) const noexcept {
    BRIM_STORE_POINT();
#if !defined(__SANITIZE_THREAD__)
    if (cpu_stripes_ != 0) [[likely]] {
      for (int tries = 0; tries < 4; ++tries) {
        const uint32_t cpu = internal::thread_rseq()->cpu_id;
        if (cpu >= cpu_stripes_) break;
        if (internal::add_on_cpu(base_ + cpu * words_ + index, amount, cpu)) [[likely]]
          return;
      }
    }
#endif
    // Relaxed: a count publishes nothing.
    __atomic_fetch_add(base_ + (stripes_ - 1) * words_ + index, amount, __ATOMIC_RELAXED);
  }

  uint64_t sum_at(size_t index) const noexcept {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < stripes_; ++i) {
      sum += __atomic_load_n(base_ + i * words_ + index, __ATOMIC_RELAXED);
    }
    return sum;
  }

  uint64_t* base_ = nullptr;
  size_t words_ = 0;
  uint32_t cpu_stripes_ = 0;
  uint32_t stripes_ = 0;
};

}  // namespace brim::shm

#endif  // BRIM_SHM_COUNTERS_H_
