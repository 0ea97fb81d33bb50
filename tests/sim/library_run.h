// SPDX-License-Identifier: MIT
#ifndef BRIM_TESTS_SIM_LIBRARY_RUN_H_
#define BRIM_TESTS_SIM_LIBRARY_RUN_H_

#include <cstdint>
#include <vector>

#include "tests/sim/explore.h"
#include "tests/sim/library_ghost.h"
#include "tests/sim/library_plan.h"

namespace brim::sim {

// False: a violation; world.failure() says which. Everything follows from the seed.
bool run_seed(uint64_t seed, const Leave& leave);
const Plan& last_plan();

struct LibraryOp {
  enum What : uint8_t {
    kAcquire,
    kAll,     // `all` of the script
    kRefund,  // of what it was last given
    kChange,  // policy 0 becomes `next`
    kRead,    // reads the record of a policy
  } what = kAcquire;
  AskPlan ask;
};

// A run without chance; its first fibers do `ops`.
struct LibraryScript {
  Plan plan;
  std::vector<LibraryOp> ops[2];
  AskPlan all[2];
  PolicyPlan next;
};
// A script skips points between the words of a policy's record: all of them if nothing changes,
// else all but one in kThin.
inline constexpr uint32_t kThin = 16;
bool skip_record_point();
bool run_script(const LibraryScript& scripted, Director& director);

std::vector<Scenario> library_scenarios();

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_LIBRARY_RUN_H_
