// SPDX-License-Identifier: MIT
// The observer's own models: for one key, was ever more admitted than its policy allows, and was
// ever a call refused that should have passed? Written from the definitions of the algorithms;
// nothing of the library is included. Why each check is sound: docs/design/0006.
//
// A call's own time is only known to lie in [b, a]. "Surely in a window" means that all of [b, a]
// is, "maybe in it" that some of it is. Too much: what was surely admitted in a window exceeds the
// bound. Too little: not even all that was maybe charged before the refusal explains it.
#ifndef BRIM_TESTS_SOAK_CHECKS_H_
#define BRIM_TESTS_SOAK_CHECKS_H_

#include <cstdint>
#include <vector>

#include "tests/soak/plan.h"

namespace brim::soak {

struct Call {
  int64_t b = 0;
  int64_t a = 0;
  int64_t cost = 1;
};

// One lease: taken by the call [b, a]; surely held until, and maybe held until.
struct LeaseSpan {
  int64_t b = 0;
  int64_t a = 0;
  int64_t sure_end = 0;
  int64_t maybe_end = 0;
};

// What is known of one key.
struct History {
  std::vector<Call> admitted;
  std::vector<Call> unknown;  // asked by a process that was killed before it noted the answer
  std::vector<Call> refunds;
  std::vector<Call> denied;
  std::vector<Call> barred;
  std::vector<Call> denied_before;  // in rounds before, already judged; bans count them
  std::vector<Call> asked;  // all calls, for policies whose calls may be in each other's way
  std::vector<LeaseSpan> leases;
};

// A bucket's state between two rounds: bounds of the reading of its clock at which all is paid,
// times the limit, in 1/period permits.
struct Paid {
  int64_t least = kNothing;
  int64_t most = kNothing;
  static constexpr int64_t kNothing = -(int64_t{1} << 61);
};

struct Finding {
  int64_t excess = 0;  // permits above the bound, in the worst window
  uint64_t windows = 0;
};

// Sums of costs by time, for "maybe" questions.
class Sums {
 public:
  void add(const std::vector<Call>& calls);
  void add(int64_t b, int64_t a, int64_t cost);
  void seal();
  // Of all calls with a >= from and b <= to. REQUIRES: from <= to.
  int64_t overlapping(int64_t from, int64_t to) const;

 private:
  struct At {
    int64_t time;
    int64_t sum;
  };
  static int64_t until(const std::vector<At>& list, int64_t time, bool including);
  std::vector<At> begins_;
  std::vector<At> ends_;
};

// The wall clock less the monotonic one lay between these two when the policies were defined.
struct WallOffset {
  int64_t least = 0;
  int64_t most = 0;
};

// Too much admitted under one rate? Not for leases.
Finding check_admitted(const Part& part, const History& history, const Paid& paid,
                       const WallOffset& wall, int64_t cost_max);

// Marks the refusals that this rate explains. in_the_way[i]: permits that calls in flight beside
// refusal i may have taken and given back.
void explain(const Part& part, const History& history, const Paid& paid, const WallOffset& wall,
             const std::vector<int64_t>& in_the_way, std::vector<char>& explained);

// Where the bucket stands after this history; there must be no call in flight.
Paid settle(const Part& part, const History& history, const Paid& paid);

// Most leases surely held at one moment, less the limit; windows: moments looked at.
Finding check_leases(const Part& part, const History& history);
void explain_leases(const Part& part, const History& history, std::vector<char>& explained);

// Refusals by a ban with too few refusals before them that could have caused it.
uint64_t unexplained_bans(const Plan& plan, const History& history);

// What a key asked for without pause got, and what flowed back meanwhile: over all chains of
// refusals in which the bucket can not have run over.
struct Saturation {
  int64_t admitted = 0;
  int64_t expected = 0;
};
Saturation saturation(const Part& part, const History& history);

}  // namespace brim::soak

#endif  // BRIM_TESTS_SOAK_CHECKS_H_
