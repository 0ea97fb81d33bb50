// SPDX-License-Identifier: MIT
// Scenarios of the whole request path. Their state lies in too many places to be hashed, so there
// is no merging: all schedules with at most so many preemptions are run.
#include "tests/sim/library_run.h"

namespace brim::sim {
namespace {

RatePlan rate(Form form, uint32_t limit) {
  RatePlan made;
  made.form = form;
  made.limit = made.burst = limit;
  return made;
}

PolicyPlan policy(std::initializer_list<RatePlan> rates) {
  PolicyPlan made;
  made.rate_count = 0;
  for (const RatePlan& one : rates) made.rates[made.rate_count++] = one;
  return made;
}

LibraryScript script(std::initializer_list<PolicyPlan> policies, std::vector<LibraryOp> a,
                     std::vector<LibraryOp> b) {
  LibraryScript made;
  made.plan.policies = 0;
  for (const PolicyPlan& one : policies) made.plan.policy[made.plan.policies++] = one;
  made.ops[0] = std::move(a);
  made.ops[1] = std::move(b);
  made.all[1] = {1, 0, 1};
  made.plan.refunds = true;
  return made;
}

LibraryScript changing(LibraryScript made, const PolicyPlan& next) {
  made.next = next;
  made.plan.changes = 1;
  return made;
}

struct Entry {
  const char* name;
  LibraryScript script;
  Bounds bounds;
  bool large = false;
};

Bounds preemptions(uint32_t most, uint32_t kills = 1) { return {kills, {}, most}; }

const LibraryOp kOne = {LibraryOp::kAcquire, {}};
const LibraryOp kTwo = {LibraryOp::kAcquire, {0, 0, 2}};
const LibraryOp kBoth = {LibraryOp::kAll, {}};
const LibraryOp kBack = {LibraryOp::kRefund, {}};
const LibraryOp kChange = {LibraryOp::kChange, {}};
const LibraryOp kRead = {LibraryOp::kRead, {}};

std::vector<Entry> entries() {
  const PolicyPlan plain = policy({rate(Form::kGcra, 2)});
  const PolicyPlan larger = policy({rate(Form::kGcra, 4)});
  // The first rate admits what the second one refuses: it must be undone.
  const PolicyPlan rates = policy({rate(Form::kGcra, 4), rate(Form::kFixedWindow, 2)});
  const PolicyPlan logs = policy({rate(Form::kLog, 4), rate(Form::kGcra, 2)});
  PolicyPlan banning = policy({rate(Form::kGcra, 1)});
  banning.ban_after = 2;
  return {
      {"two rates, with undo", script({rates}, {kTwo}, {kTwo}), preemptions(2, 0)},
      {"two rates, with undo, killed", script({rates}, {kTwo}, {kTwo}), preemptions(1)},
      {"two rates, with undo and refund", script({rates}, {kTwo, kBack}, {kTwo}),
       preemptions(2, 0)},
      {"a log and a bucket, with undo", script({logs}, {kTwo}, {kTwo}), preemptions(2, 0)},
      {"a log and a bucket, killed", script({logs}, {kTwo}, {kTwo}), preemptions(1)},
      {"two policies at once", script({plain, plain}, {kBoth, kBoth}, {kBoth}), preemptions(1)},
      {"change, call", changing(script({plain}, {kChange}, {kOne, kTwo}), larger), preemptions(2)},
      {"change, read", changing(script({plain}, {kChange}, {kRead}), larger), preemptions(1, 1)},
      {"ban, two refused", script({banning}, {kOne, kOne}, {kOne, kOne}), preemptions(1)},
      {"two rates, killed, 2 preemptions", script({rates}, {kTwo}, {kTwo}), preemptions(2), true},
      {"two rates, 3 preemptions", script({rates}, {kTwo}, {kTwo}), preemptions(3, 0), true},
      {"a log and a bucket, 3 preemptions", script({logs}, {kTwo}, {kTwo}), preemptions(3, 0),
       true},
      {"change of two rates, call",
       changing(script({rates}, {kChange}, {kTwo, kTwo}),
                policy({rate(Form::kGcra, 2), rate(Form::kFixedWindow, 3)})),
       preemptions(2), true},
  };
}

}  // namespace

std::vector<Scenario> library_scenarios() {
  std::vector<Scenario> all;
  for (const Entry& entry : entries()) {
    all.push_back(
        {entry.name,
         entry.bounds,
         [script = entry.script](Director& director) { return run_script(script, director); },
         {},
         entry.large});
  }
  return all;
}

}  // namespace brim::sim
