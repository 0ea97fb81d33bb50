// SPDX-License-Identifier: MIT
// Fibers: a function with a stack of its own that runs until it switches away.
//
// The switch saves the six callee-saved registers and the stack pointer and nothing else: about
// 2 ns, no system call. A fiber may be abandoned at any switch ("killed"); its stack is then used
// again by the next start(), so nothing on it may own memory.
#ifndef BRIM_TESTS_SIM_FIBER_H_
#define BRIM_TESTS_SIM_FIBER_H_

#include <cstddef>

namespace brim::sim {

inline constexpr size_t kStackBytes = size_t{64} << 10;

// A suspended context is its stack pointer.
using Context = void*;

// Suspends the running context into *from and resumes `to`.
extern "C" void brim_sim_switch(Context* from, Context to);

// A context that will run entry(argument) on `stack` (kStackBytes, 16-byte aligned). entry must
// never return.
Context start_fiber(void* stack, void (*entry)(void*), void* argument);

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_FIBER_H_
