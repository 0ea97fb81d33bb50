// SPDX-License-Identifier: MIT
// Every schedule of a small scenario, depth first.
//
// Before each access of a fiber the explorer decides: who goes on, or that one is killed, or that
// the clock moves. It notes what else was possible. When the run is over it begins again, repeats
// all decisions but the last that has an alternative, and takes that. Nothing of a run is kept, so
// a list of decisions replays it.
//
// Merging: what a run can still do depends on the state alone: the stacks of the suspended fibers,
// the shared memory, the clock, what the ghost knows, and the kills and steps of the clock that are
// left. A run that comes to a state seen before (by a 64-bit hash of all these bytes) ends there,
// since all that follows was or will be seen. Bytes that matter to nobody may make two states of
// one; never one of two. How many schedules that stands for is counted. Where the state can not be
// gathered (the whole library, with its heap) there is no merging, but a bound on preemptions.
#ifndef BRIM_TESTS_SIM_EXPLORE_H_
#define BRIM_TESTS_SIM_EXPLORE_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tests/sim/digest.h"
#include "tests/sim/world.h"

namespace brim::sim {

inline constexpr uint32_t kAnyNumber = ~0u;

struct Bounds {
  uint32_t kills = 1;
  std::vector<int64_t> clock = {};    // it may move by these, in this order, at any point
  uint32_t preemptions = kAnyNumber;  // switches away from a fiber that could go on
};

struct Scenario {
  std::string name;
  Bounds bounds;
  std::function<bool(Director&)> run;  // false: a violation; world.failure() then
  std::function<void(Digest&)> state;  // empty: no merging
  bool large = false;                  // not by default
};

struct Explored {
  uint64_t runs = 0;      // from the start to the end or to a state seen before
  uint64_t complete = 0;  // of those, to the end
  uint64_t states = 0;
  double schedules = 0;  // that those runs stand for
  uint64_t kills = 0;
  uint64_t deepest = 0;
  uint64_t errors = 0;
};

class Explorer final : public Director {
 public:
  explicit Explorer(const Scenario& scenario) : scenario_(scenario) {}

  // Explores until the first violation, or `most` runs. True if nothing is left to explore.
  bool explore(uint64_t most);
  // Makes these decisions, then the first possible ones.
  bool replay(std::string_view schedule);

  Act next(uint32_t ready) override;
  const Explored& explored() const { return explored_; }
  // The decisions of the last run: a, b: that fiber goes on, with a count; A, B: it is killed;
  // t: the clock moves.
  std::string schedule() const;

 private:
  struct Node {
    Act act[8];
    uint32_t count = 0;
    uint32_t taken = 0;
    uint32_t ready = 0;
    uint64_t state = 0;
    double schedules = 0;
  };

  void begin();
  bool extend(uint32_t ready);
  void offer(Node& node, uint32_t ready) const;
  uint64_t state();
  bool backtrack(double leaf);
  char letter(const Act& act) const;
  void obey(Node& node);

  const Scenario& scenario_;
  Explored explored_;
  std::vector<Node> path_;
  size_t depth_ = 0;
  std::unordered_map<uint64_t, double> seen_;
  double merged_ = 0;  // what the state that ended the run stands for
  Digest digest_;
  std::string orders_;
  bool obeys_ = false;
  // Of this run so far.
  uint32_t last_ = kMaxFibers;
  uint32_t kills_ = 0;
  uint32_t clock_steps_ = 0;
  uint32_t preemptions_ = 0;
};

struct ExploreOptions {
  std::string only;                   // a scenario; empty: all
  std::string replay;                 // NAME:SCHEDULE
  uint64_t most_runs = ~uint64_t{0};  // of a scenario; then it need not be whole
  bool large = false;
  bool mutant_expected = false;
};

// Reads argv[i] and what belongs to it, if it is one of --explore, --large, --only NAME,
// --most-runs N, --replay NAME:SCHEDULE.
bool parse_exploring(int argc, char** argv, int& i, bool& explores, ExploreOptions& options);

// Prints a table of what was explored, or the steps of one schedule. The exit code: 0 if all was
// as expected.
int explore(std::span<const Scenario> scenarios, const ExploreOptions& options);

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_EXPLORE_H_
