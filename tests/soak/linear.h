// SPDX-License-Identifier: MIT
// Is a history of calls on one key one that a sequential limiter could have given? Searches for an
// order of the calls that agrees with real time (a call that had returned comes before one that
// was made later) and in which the model gives each call the answer it got. The models are the
// definitions of the algorithms with exact integers; nothing of the library is included.
//
// Time is an input: a call's own time is one that the clock showed between its invocation and its
// return. While the clock is moved by another process that may be the old or the new one.
#ifndef BRIM_TESTS_SOAK_LINEAR_H_
#define BRIM_TESTS_SOAK_LINEAR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace brim::soak {

enum class Act : uint8_t { kAcquire, kRefund, kReset, kRelease, kMoveClock };

struct Step {
  uint8_t process = 0;
  Act act = Act::kAcquire;
  int64_t cost = 1;     // kRelease: the number of the lease; kMoveClock: the new time
  int64_t invoked = 0;  // places in one order of all events
  int64_t returned = 0;
  bool yes = false;       // admitted, given back, ended
  int64_t lease = 0;      // number of the lease that was got
  int64_t remaining = 0;  // of an acquire
  int64_t retry = 0;
  int64_t reset = 0;
};

// What a model remembers; equal states answer alike.
using State = std::vector<int64_t>;

class Sequential {
 public:
  virtual ~Sequential() = default;
  // Performs `step` at time `now`; false if the answer is not the model's. in_the_way: permits
  // that calls beside this one may have held for a moment; a refusal may be due to them.
  virtual bool perform(State& state, const Step& step, int64_t now, int64_t in_the_way) const = 0;
  // Which calls beside it may be in a refused call's way: none, but where the limiter's documents
  // say so.
  virtual bool may_hold(const Step&) const { return false; }
};

// 1 permit in 2^20 ns: then 1 ns is one unit of the limiter's token clock, and all is exact.
std::unique_ptr<Sequential> bucket_model(int64_t burst);
inline constexpr int64_t kPermitNs = 1 << 20;
// Windows of `period` that begin at a multiple of it after `origin`.
std::unique_ptr<Sequential> window_model(int64_t limit, int64_t period, int64_t origin);
std::unique_ptr<Sequential> counter_model(int64_t limit, int64_t period, int64_t origin);
std::unique_ptr<Sequential> log_model(int64_t limit, int64_t period);
std::unique_ptr<Sequential> lease_model(int64_t limit, int64_t life);
// A bucket and a window together.
std::unique_ptr<Sequential> rates_model(int64_t burst, int64_t limit, int64_t period,
                                        int64_t origin);

struct Checked {
  bool linearizable = false;
  uint64_t states = 0;  // looked at
};
// REQUIRES: the steps of each process are in its order; kMoveClock is of one process only.
Checked check_history(const Sequential& model, const std::vector<Step>& steps, int64_t start);

std::string history_text(const std::vector<Step>& steps);

}  // namespace brim::soak

#endif  // BRIM_TESTS_SOAK_LINEAR_H_
