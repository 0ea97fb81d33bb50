// SPDX-License-Identifier: MIT
#include "tests/sim/world.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace brim::sim {
namespace {

alignas(64) char stacks[kMaxFibers][kStackBytes];
constexpr size_t kCleanBytes = 16384;

}  // namespace

void World::reset(uint64_t seed, int64_t clock) {
  rng_ = Rng(seed);
  pace_ = Pace{};
  director_ = nullptr;
  stopped_ = false;
  clock_ = clock;
  running_ = kMain;
  ready_count_ = stalled_count_ = 0;
  next_wake_ = kNever;
  steps_ = kills_ = stalls_ = jumps_ = 0;
  op_steps_ = &no_op_steps_;
  std::fill(state_, state_ + kMaxFibers, State::kNone);
  std::fill(steps_of_, steps_of_ + kMaxFibers + 1, &no_op_steps_);
  std::fill(op_, op_ + kMaxFibers + 1, nullptr);
  failed_ = false;
  failure_[0] = 0;
}

void World::spawn(uint32_t fiber, void (*entry)(void*), void* argument, int64_t clock_offset) {
  // What earlier runs left must not tell two states apart.
  if (director_ != nullptr) {
    std::memset(stacks[fiber] + kStackBytes - kCleanBytes, 0, kCleanBytes);
  }
  context_[fiber] = start_fiber(stacks[fiber], entry, argument);
  state_[fiber] = State::kReady;
  offset_[fiber] = clock_offset;
  // Distinct random priorities.
  priority_[fiber] = static_cast<int32_t>(rng_.below(1 << 20) << 6 | fiber);
  ready_[ready_count_++] = fiber;
}

void World::run() {
  kills_left_ = pace_.kills;
  lowest_priority_ = 0;
  if (director_ != nullptr) return run_directed();
  if (ready_count_ != 0) switch_to(ready_[rng_.below(ready_count_)]);
}

void World::run_directed() {
  while (!failed_ && ready_count_ != 0) {
    uint32_t ready = 0;
    for (uint32_t i = 0; i < ready_count_; ++i) ready |= 1u << ready_[i];
    const Act act = director_->next(ready);
    switch (act.kind) {
      case Act::kRun:
        switch_to(act.fiber);
        break;
      case Act::kKill:
        remove_ready(act.fiber);
        state_[act.fiber] = State::kGone;
        ++kills_;
        if (tracing_) std::printf("%33s fiber %u is killed\n", "", act.fiber);
        break;
      case Act::kAdvance:
        clock_ += act.ns;
        if (tracing_) std::printf("%33s clock + %lld ns\n", "", static_cast<long long>(act.ns));
        break;
      case Act::kStop:
        stopped_ = true;
        return;
    }
  }
}

std::span<const char> World::frames(uint32_t fiber) const {
  if (state_[fiber] != State::kReady) return {};
  const char* const begin = static_cast<const char*>(context_[fiber]);
  return {begin, stacks[fiber] + kStackBytes};
}

void World::switch_to(uint32_t next) {
  const uint32_t from = running_;
  running_ = next;
  op_steps_ = steps_of_[next];
  brim_sim_switch(&context_[from], context_[next]);
}

void World::set_op(Op* op, uint64_t* steps) {
  op_[running_] = op;
  steps_of_[running_] = op_steps_ = steps;
}

void World::finish() {
  trace("is done");
  remove_ready(running_);
  state_[running_] = State::kGone;
  switch_to(director_ != nullptr ? kMain : choose());
  std::abort();  // a fiber that is gone was scheduled
}

void World::remove_ready(uint32_t fiber) {
  for (uint32_t i = 0; i < ready_count_; ++i) {
    if (ready_[i] == fiber) {
      ready_[i] = ready_[--ready_count_];
      return;
    }
  }
}

uint32_t World::choose_biased(uint32_t some, uint32_t pick) {
  const bool here = running_ != kMain && state_[running_] == State::kReady;
  if (pace_.schedule == Schedule::kSticky)
    return here && some < pace_.stay ? running_ : ready_[pick];
  if (here && some < pace_.change) priority_[running_] = --lowest_priority_;
  uint32_t best = ready_[0];
  for (uint32_t i = 1; i < ready_count_; ++i) {
    if (priority_[ready_[i]] > priority_[best]) best = ready_[i];
  }
  return best;
}

void World::advance_clock() {
  int64_t ns;
  const uint32_t kind = rng_.below(16);
  if (pace_.fine_clock) {
    ns = 1 + rng_.below(200);
  } else if (pace_.clock_kind >= 2 && kind == 0) {
    ns = 1001000000 + rng_.below(300000000);  // beyond the life of a tentative
    ++jumps_;
  } else if (pace_.clock_kind >= 1 && kind <= 2) {
    ns = 1000000 + rng_.below(20000000);
  } else if (kind < 7) {
    ns = 1 + rng_.below(100);
  } else if (kind < 13) {
    ns = 1 + rng_.below(1500);
  } else {
    ns = 1000 + rng_.below(5000);
  }
  clock_ += ns;
  if (tracing_) std::printf("%33s clock + %lld ns\n", "", static_cast<long long>(ns));
}

void World::strike_any() {
  if (ready_count_ != 0) strike(ready_[rng_.below(ready_count_)]);
}

// Kills or stalls.
void World::strike(uint32_t victim) {
  const bool kill = kills_left_ != 0 && rng_.one_in(3);
  remove_ready(victim);
  if (kill) {
    --kills_left_;
    ++kills_;
    state_[victim] = State::kGone;
    if (tracing_) std::printf("%33s fiber %u is killed\n", "", victim);
    return;
  }
  state_[victim] = State::kStalled;
  ++stalled_count_;
  ++stalls_;
  const bool for_long = rng_.one_in(3);  // until nobody else can run
  wake_at_[victim] = for_long ? kNever : steps_ + (uint64_t{1} << rng_.between(2, 9));
  next_wake_ = std::min(next_wake_, wake_at_[victim]);
  if (tracing_) std::printf("%33s fiber %u is stalled\n", "", victim);
}

// Wakes who has slept long enough; everybody, if nobody else can run. False: nobody is left.
bool World::wake() {
  const bool all = ready_count_ == 0;
  next_wake_ = kNever;
  for (uint32_t i = 0; i < kMaxFibers && stalled_count_ != 0; ++i) {
    if (state_[i] != State::kStalled) continue;
    if (all || steps_ >= wake_at_[i]) {
      state_[i] = State::kReady;
      --stalled_count_;
      ready_[ready_count_++] = i;
    } else {
      next_wake_ = std::min(next_wake_, wake_at_[i]);
    }
  }
  return ready_count_ != 0;
}

void World::fail(const char* format, ...) {
  if (!failed_) {
    failed_ = true;
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(failure_, sizeof(failure_), format, arguments);
    va_end(arguments);
  }
  if (running_ != kMain) switch_to(kMain);
}

void World::trace(const char* format, ...) {
  if (!tracing_) return;
  if (running_ == kMain) {
    std::printf("%6llu  after    %+12lld ns  ", static_cast<unsigned long long>(steps_),
                static_cast<long long>(clock_ % 100000000000));
  } else {
    std::printf("%6llu  fiber %u  %+12lld ns  ", static_cast<unsigned long long>(steps_), running_,
                static_cast<long long>(clock_ % 100000000000));
  }
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::putchar('\n');
}

}  // namespace brim::sim
