// SPDX-License-Identifier: MIT
// One run: several fibers make several calls each on a small table; then a fresh process must
// find nothing that the dead ones left in its way.
#ifndef BRIM_TESTS_SIM_RUN_H_
#define BRIM_TESTS_SIM_RUN_H_

#include <cstdint>

#include "tests/sim/config.h"
#include "tests/sim/sim_call.h"

namespace brim::sim {

// False if a violation was found; it is world.failure() then.
bool run_seed(uint64_t seed, const Weakness& weakness);

// The same of a script, scheduled by `director`.
bool run_script(const Script& script, const Weakness& weakness, Director& director);
// What the run can still do depends on this and the fibers.
void add_run_to(Digest& digest);

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_RUN_H_
