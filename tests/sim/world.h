// SPDX-License-Identifier: MIT
// The world of one run: fibers, their schedule, and the clock.
//
// Each access to shared memory calls point() first. There the world may advance the clock, kill a
// fiber (it is never scheduled again), stall one for a while or until all others are done, and
// picks who goes on: uniformly, mostly the same one, or by priorities that change at random (as
// in probabilistic concurrency testing). Everything is drawn from one seeded generator.
#ifndef BRIM_TESTS_SIM_WORLD_H_
#define BRIM_TESTS_SIM_WORLD_H_

#include <cstdint>
#include <span>

#include "tests/sim/fiber.h"
#include "tests/sim/rng.h"

namespace brim::sim {

inline constexpr uint32_t kMaxFibers = 64;

enum class Schedule : uint8_t { kUniform, kSticky, kPriority };

// How a run is scheduled. Rates are per step.
struct Pace {
  Schedule schedule = Schedule::kUniform;
  uint32_t stay = 0;        // kSticky: goes on with the same fiber, in 1/256
  uint32_t change = 0;      // kPriority: the running fiber becomes the last, in 1/256
  uint32_t clock_rate = 0;  // the clock advances, in 1/4096
  uint32_t clock_kind = 0;  // 0: small steps .. 2: also jumps beyond 1 s
  bool fine_clock = false;  // only steps below 200 ns
  uint32_t jitter = 0;      // each reading of the clock is ahead of true time by up to this, ns
  uint32_t event_rate = 0;  // a kill or a stall, in 1/4096
  uint32_t cas_rate = 0;    // the same to a fiber about to compare-and-swap, in 1/256
  uint32_t kills = 0;       // at most
};

struct Op;

// What happens next, if not chance decides but a director (tests/sim/explore.h).
struct Act {
  enum Kind : uint8_t { kRun, kKill, kAdvance, kStop } kind = kStop;
  uint32_t fiber = 0;  // kRun, kKill
  int64_t ns = 0;      // kAdvance
};

class Director {
 public:
  // Asked before each access of a fiber; bit i of `ready` is set if fiber i can run.
  virtual Act next(uint32_t ready) = 0;

 protected:
  ~Director() = default;
};

class World {
 public:
  static constexpr uint32_t kMain = kMaxFibers;

  void reset(uint64_t seed, int64_t clock);
  void set_pace(const Pace& pace) { pace_ = pace; }
  void spawn(uint32_t fiber, void (*entry)(void*), void* argument, int64_t clock_offset);
  // Runs the spawned fibers until each is done or killed, or fail() was called.
  void run();
  // Until the next reset() chance decides nothing.
  void set_director(Director* director) { director_ = director; }
  // The director ended the run before its fibers were done.
  bool stopped() const { return stopped_; }
  // What a suspended fiber will go on with: its stack in use, empty if it is gone.
  std::span<const char> frames(uint32_t fiber) const;
  // The running fiber is done. Does not return.
  void finish();

  // A scheduling point of the running fiber; nothing outside of fibers.
  void point() {
    if (running_ == kMain) return;
    ++steps_;
    ++*op_steps_;
    if (director_ != nullptr) return switch_to(kMain);
    const uint32_t next = choose();
    if (next != running_) switch_to(next);
  }

  // The same, right before a compare-and-swap: the moment at which a stall hurts most.
  void point_before_cas() {
    if (pace_.cas_rate != 0 && running_ != kMain && rng_.below(256) < pace_.cas_rate) {
      strike(running_);
    }
    point();
  }

  // The clock as the running fiber reads it.
  int64_t read_clock() {
    const int64_t jitter = pace_.jitter == 0 ? 0 : rng_.below(pace_.jitter + 1);
    return clock_ + offset_[running_] + jitter;
  }
  int64_t clock() const { return clock_; }
  void advance(int64_t ns) { clock_ += ns; }

  // What the running fiber is doing; `steps` counts its scheduling points.
  void set_op(Op* op, uint64_t* steps);
  Op* op() const { return op_[running_]; }
  uint32_t running() const { return running_; }
  Rng& rng() { return rng_; }

  // Records a violation. In a fiber it ends the run and does not return.
  [[gnu::format(printf, 2, 3)]] void fail(const char* format, ...);
  bool failed() const { return failed_; }
  const char* failure() const { return failure_; }

  [[gnu::format(printf, 2, 3)]] void trace(const char* format, ...);
  bool tracing() const { return tracing_; }
  void set_tracing(bool tracing) { tracing_ = tracing; }

  uint64_t steps() const { return steps_; }
  uint64_t kills() const { return kills_; }
  uint64_t stalls() const { return stalls_; }
  uint64_t jumps() const { return jumps_; }  // of the clock, beyond 1 s

 private:
  enum class State : uint8_t { kNone, kReady, kStalled, kGone };

  uint32_t choose() {
    const uint64_t r = rng_.next();
    if ((r & 0xfff) < pace_.clock_rate) [[unlikely]]
      advance_clock();
    if (((r >> 12) & 0xfff) < pace_.event_rate) [[unlikely]]
      strike_any();
    if (steps_ >= next_wake_ || ready_count_ == 0) [[unlikely]] {
      if (!wake()) return kMain;
    }
    const auto some = static_cast<uint32_t>((r >> 24) & 0xff);
    const auto pick = static_cast<uint32_t>(((r >> 32) * ready_count_) >> 32);
    if (pace_.schedule == Schedule::kUniform) return ready_[pick];
    return choose_biased(some, pick);
  }
  uint32_t choose_biased(uint32_t some, uint32_t pick);
  void switch_to(uint32_t next);
  void run_directed();
  void advance_clock();
  void strike_any();
  void strike(uint32_t victim);
  bool wake();
  void remove_ready(uint32_t fiber);

  static constexpr uint64_t kNever = ~uint64_t{0};

  Rng rng_;
  Pace pace_;
  Director* director_ = nullptr;
  bool stopped_ = false;
  int64_t clock_ = 0;
  uint32_t running_ = kMain;
  uint32_t ready_count_ = 0;
  uint32_t stalled_count_ = 0;
  uint32_t kills_left_ = 0;
  int32_t lowest_priority_ = 0;
  uint64_t next_wake_ = kNever;
  uint64_t steps_ = 0;
  uint64_t kills_ = 0;
  uint64_t stalls_ = 0;
  uint64_t jumps_ = 0;
  uint64_t no_op_steps_ = 0;
  uint64_t* op_steps_ = &no_op_steps_;
  uint32_t ready_[kMaxFibers] = {};
  State state_[kMaxFibers] = {};
  uint64_t wake_at_[kMaxFibers] = {};
  int32_t priority_[kMaxFibers] = {};
  int64_t offset_[kMaxFibers + 1] = {};
  Op* op_[kMaxFibers + 1] = {};
  uint64_t* steps_of_[kMaxFibers + 1] = {};
  Context context_[kMaxFibers + 1] = {};
  bool failed_ = false;
  bool tracing_ = false;
  char failure_[400] = {};
};

inline World world;

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_WORLD_H_
