// SPDX-License-Identifier: MIT
// One run: several fibers make several calls each; then a fresh process must get exact answers.
#ifndef BRIM_TESTS_SIM_CELLS_RUN_H_
#define BRIM_TESTS_SIM_CELLS_RUN_H_

#include <cstdint>

namespace brim::sim::cells {

// False if a violation was found; it is world.failure() then. `only`: see draw_config.
bool run_seed(uint64_t seed, uint32_t only);

}  // namespace brim::sim::cells

#endif  // BRIM_TESTS_SIM_CELLS_RUN_H_
