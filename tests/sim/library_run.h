// SPDX-License-Identifier: MIT
#ifndef BRIM_TESTS_SIM_LIBRARY_RUN_H_
#define BRIM_TESTS_SIM_LIBRARY_RUN_H_

#include <cstdint>

#include "tests/sim/library_plan.h"

namespace brim::sim {

// False: a violation; world.failure() says which. Everything follows from the seed.
bool run_seed(uint64_t seed, const Leave& leave);
const Plan& last_plan();

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_LIBRARY_RUN_H_
