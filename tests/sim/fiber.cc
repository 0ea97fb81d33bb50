// SPDX-License-Identifier: MIT
#include "tests/sim/fiber.h"

#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define BRIM_SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BRIM_SIM_ASAN 1
#endif
#endif
#if defined(BRIM_SIM_ASAN)
#include <sanitizer/asan_interface.h>
#endif

asm(R"(
.text
.p2align 4
.globl brim_sim_switch
.type brim_sim_switch, @function
brim_sim_switch:
  endbr64
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size brim_sim_switch, .-brim_sim_switch

.p2align 4
.globl brim_sim_enter
.type brim_sim_enter, @function
brim_sim_enter:
  endbr64
  movq %r12, %rdi
  callq *%rbx
  ud2
.size brim_sim_enter, .-brim_sim_enter
)");

namespace brim::sim {

extern "C" void brim_sim_enter();

Context start_fiber(void* stack, void (*entry)(void*), void* argument) {
#if defined(BRIM_SIM_ASAN)
  // The frames of an abandoned fiber have left their red zones.
  __asan_unpoison_memory_region(stack, kStackBytes);
#endif
  // What brim_sim_switch pops: r15 r14 r13 r12 rbx rbp, then the return address. rsp is then
  // 16-byte aligned, as brim_sim_enter's call wants it.
  auto* const top = reinterpret_cast<uintptr_t*>(static_cast<char*>(stack) + kStackBytes);
  uintptr_t* const sp = top - 9;
  sp[0] = sp[1] = sp[2] = 0;
  sp[3] = reinterpret_cast<uintptr_t>(argument);
  sp[4] = reinterpret_cast<uintptr_t>(entry);
  sp[5] = 0;
  sp[6] = reinterpret_cast<uintptr_t>(&brim_sim_enter);
  sp[7] = sp[8] = 0;
  return sp;
}

}  // namespace brim::sim
