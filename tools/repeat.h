// SPDX-License-Identifier: MIT
// Commands that repeat until they are told to stop: the wait between two looks, and a segment that
// may be replaced under its name meanwhile.
#ifndef BRIM_TOOLS_REPEAT_H_
#define BRIM_TOOLS_REPEAT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brim/inspect.h"

namespace brim::tools {

int64_t monotonic_ns();
int64_t wall_ns();  // since 1970

// --interval and --count as given; count 0: without end.
struct Repeat {
  int64_t interval_ns = 1000000000;
  uint64_t count = 0;
};
absl::StatusOr<Repeat> parse_repeat(const std::string& interval,
                                    const std::optional<std::string>& count);

// While one lives, SIGINT, SIGTERM and SIGHUP ask the command to stop instead of killing it: a
// write to a reader that is stuck is interrupted too. One at a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // True once one of them came.
  static bool stopped();
  // For other handlers: ends the wait below. Safe in a signal handler.
  static void wake();

  enum class Woken { kTime, kStop, kInput, kOther };
  // Waits until monotonic_ns() is `until`, a signal comes, or `fd` (if not -1) can be read.
  Woken wait_until(int64_t until, int fd = -1);
  // Waits for the next turn, `interval_ns` after the one at `next`; turns that were missed are left
  // out. False if it is time to stop.
  bool rest(int64_t& next, int64_t interval_ns);
};

// What was printed has reached its reader; false if nobody takes it.
bool delivered();
// finish() of a command that may have been stopped in the middle of a line.
int finish_repeat();

// The segment that a name leads to, followed when another takes its place.
class Followed {
 public:
  static absl::StatusOr<Followed> attach(const std::string& name, const std::string& owner,
                                         const std::string& group);

  const Inspector& operator*() const { return *inspector_; }
  const Inspector* operator->() const { return &*inspector_; }
  const Options& options() const { return options_; }

  // Looks where the name leads now. True if that is another segment, which is then attached. Says
  // once on standard error that the segment was replaced or that its name is gone; the one that is
  // attached stays until there is another. Set quiet, it says nothing.
  bool follow(bool quiet = false);
  bool gone() const { return gone_; }

 private:
  std::string name_;
  Options options_;
  std::optional<Inspector> inspector_;
  bool gone_ = false;
};

// Occupancy costs a walk over the whole table: one is used again until twenty times what it took
// has passed, so that who looks every second at a large table does not walk all the time.
class OccupancyReader {
 public:
  const Occupancy& read(const Inspector& inspector);
  void forget() { next_ = 0; }

 private:
  Occupancy last_;
  int64_t next_ = 0;
};

}  // namespace brim::tools

#endif  // BRIM_TOOLS_REPEAT_H_
