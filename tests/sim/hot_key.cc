// SPDX-License-Identifier: MIT
// Goal: an update of one hot key is never given up because others win the race (P2).
// Method: 2 to 64 fibers call update() on one key in a closed loop, scheduled fairly at random,
// with the production table. The races that a call loses in a row beyond the back-off's growth
// are geometric: from their tail follows the chance of losing kMaxUpdateRounds of them.
#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "brim/policy.h"
#include "shm/table.h"
#include "tests/sim/ghost.h"
#include "tests/sim/sim_atomics.h"
#include "tests/sim/sim_call.h"
#include "tests/sim/world.h"

namespace brim::sim {
namespace {

using SimTable = shm::Table<SimAtomics>;

constexpr uint32_t kHistogram = shm::kMaxUpdateRounds + 1;
constexpr uint32_t kTail = 33;  // the pauses have stopped growing there
constexpr uint32_t kBurst = 1 << 20;

struct Loop {
  const SimTable* table = nullptr;
  uint64_t last_step = 0;
  uint64_t calls = 0;
  uint64_t lost[kHistogram] = {};  // calls by races lost in a row
  Quota quotas[kPolicies];
  Process processes[kMaxFibers];
  Weakness weakness;
};
Loop loop;

void fiber_main(void* argument) {
  const auto player = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(argument));
  while (world.steps() < loop.last_step) {
    Op op;
    ghost.begin(op, Rule::kAcquire, 0, 1, world.clock());
    world.set_op(&op, &op.steps);
    SimCall call(&op, &loop.processes[player], loop.quotas, &loop.weakness);
    call.refresh();
    const auto result = static_cast<Result>(loop.table->update({0, 1}, op.id, call));
    ghost.end(op, result);
    ++loop.calls;
    ++loop.lost[std::min(op.retries, kHistogram - 1)];
    world.advance(1000);  // one permit flows back: nobody is ever denied
  }
  world.finish();
}

struct Tail {
  uint32_t most = 0;
  uint64_t beyond = 0;  // calls that lost kTail races or more
  double ratio = 0;     // chance to lose once more, upper bound of three standard deviations
  double log10_give_up = 0;
};

Tail measure_tail() {
  Tail tail;
  double excess = 0;
  for (uint32_t n = 0; n < kHistogram; ++n) {
    if (loop.lost[n] == 0) continue;
    tail.most = n;
    if (n < kTail) continue;
    tail.beyond += loop.lost[n];
    excess += static_cast<double>(loop.lost[n]) * (n - kTail);
  }
  const double count = static_cast<double>(std::max<uint64_t>(tail.beyond, 1));
  // One call more than was seen, so that an empty tail is no proof of an empty tail.
  const double mean = (excess + 1) / count * (1 + 3 / std::sqrt(count));
  tail.ratio = mean / (1 + mean);
  tail.log10_give_up = std::log10(count / static_cast<double>(loop.calls)) +
                       (shm::kMaxUpdateRounds - kTail) * std::log10(tail.ratio);
  return tail;
}

void print_histogram() {
  uint64_t at_least = loop.calls;
  uint32_t next = 0;
  for (uint32_t n = 0; n < kHistogram && at_least != 0; ++n) {
    if (n == next) {
      std::printf("    >= %4u lost: %12" PRIu64 "\n", n, at_least);
      next = n == 0 ? 1 : n * 2;
    }
    at_least -= loop.lost[n];
  }
}

bool run(uint32_t fibers, uint64_t steps) {
  std::fill(loop.lost, loop.lost + kHistogram, 0);
  loop.calls = 0;
  loop.last_step = steps;
  world.reset(fibers, kT0 + 1000000000);
  ghost.reset(1, 1, false, 0);
  for (uint32_t p = 0; p < kPolicies; ++p) {
    ghost.set_rate(p, make_rate(1, 1000, kBurst));
    loop.quotas[p] = make_quota(1, 1000, kBurst, kT0, kV0);
    loop.quotas[p].algorithm = static_cast<uint8_t>(Algorithm::kGcra);
  }
  for (auto& slot : ghost.memory().slots) slot.pair = {};
  ghost.memory().reach.store(0, std::memory_order_relaxed);  // relaxed: one thread
  ghost.add_key(shm::make_id(1, kFirstFingerprint), {0, 1});
  const SimTable table(ghost.memory().slots, 1, 1, &ghost.memory().reach, false);
  loop.table = &table;
  for (uint32_t i = 0; i < fibers; ++i) {
    loop.processes[i] = {i + 1, 0};
    world.spawn(i, fiber_main, reinterpret_cast<void*>(uintptr_t{i}), 0);
  }
  world.run();
  if (world.failed()) {
    std::printf("violation: %s\n", world.failure());
    return false;
  }
  const Tail tail = measure_tail();
  std::printf("%2u processes: %" PRIu64
              " calls, most races lost in a row %u of %u, chance to lose "
              "once more < %.4f, P(unavailable) < 10^%.0f\n",
              fibers, loop.calls, tail.most, shm::kMaxUpdateRounds, tail.ratio, tail.log10_give_up);
  print_histogram();
  return tail.log10_give_up < -9;
}

}  // namespace
}  // namespace brim::sim

int main(int argc, char** argv) {
  uint64_t steps = 100000000;
  if (argc == 3 && std::strcmp(argv[1], "--steps") == 0) {
    steps = std::strtoull(argv[2], nullptr, 0);
  } else if (argc != 1) {
    std::fputs("usage: hot_key [--steps N]   (scheduler steps for each number of processes)\n",
               stderr);
    return 2;
  }
  bool good = true;
  for (const uint32_t fibers : {2u, 8u, 32u, 64u}) good = brim::sim::run(fibers, steps) && good;
  return good ? 0 : 1;
}
