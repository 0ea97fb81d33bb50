// SPDX-License-Identifier: MIT
// One run: several fibers make several calls each; then a fresh process must get exact answers.
#ifndef BRIM_TESTS_SIM_CELLS_RUN_H_
#define BRIM_TESTS_SIM_CELLS_RUN_H_

#include <cstdint>
#include <vector>

#include "tests/sim/cells_ghost.h"
#include "tests/sim/explore.h"

namespace brim::sim::cells {

// False if a violation was found; it is world.failure() then. `only`: see draw_config.
bool run_seed(uint64_t seed, uint32_t only);

enum class Do : uint8_t {
  kCall,     // acquires as the key's kind does: `cost` permits, or a lease
  kRefund,   // `cost` permits
  kReset,    // all
  kRelease,  // the lease it holds
  kRenew,
  kReap,
  kChange,  // from now on the second limit holds
  kDie,     // its process is dead for those who reap
};
struct CellOp {
  Do what = Do::kCall;
  uint32_t key = 0;
  uint32_t cost = 1;
};

// A run without chance.
struct Script {
  Config config;               // of its slots the first open_slots are free
  std::vector<CellOp> ops[3];  // of each fiber
  std::vector<CellOp> before;  // of another process, before all others
  int64_t pause = 0;           // and then so much time
};
bool run_script(const Script& script, Director& director);
// What the run can still do depends on this and the fibers.
void add_run_to(Digest& digest);

std::vector<Scenario> scenarios();

}  // namespace brim::sim::cells

#endif  // BRIM_TESTS_SIM_CELLS_RUN_H_
