// SPDX-License-Identifier: MIT
// The scenarios of the table whose schedules are all explored.
#ifndef BRIM_TESTS_SIM_SCRIPTS_H_
#define BRIM_TESTS_SIM_SCRIPTS_H_

#include <vector>

#include "tests/sim/explore.h"
#include "tests/sim/sim_call.h"

namespace brim::sim {

std::vector<Scenario> table_scenarios(const Weakness& weakness);

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_SCRIPTS_H_
