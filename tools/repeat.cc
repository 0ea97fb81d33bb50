// SPDX-License-Identifier: MIT
#include "repeat.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "commands.h"
#include "output.h"
#include "snapshot.h"

namespace brim::tools {

namespace {

constexpr std::array<int, 4> kSignals = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

volatile sig_atomic_t stop_asked = 0;
int pipe_ends[2] = {-1, -1};  // a byte in it ends the wait
std::array<struct sigaction, kSignals.size()> earlier;

int64_t clock_ns(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
}

void on_stop(int) {
  const int kept = errno;
  stop_asked = 1;
  StopSignals::wake();
  errno = kept;
}

}  // namespace

int64_t monotonic_ns() { return clock_ns(CLOCK_MONOTONIC); }
int64_t wall_ns() { return clock_ns(CLOCK_REALTIME); }

absl::StatusOr<Repeat> parse_repeat(const std::string& interval,
                                    const std::optional<std::string>& count) {
  Repeat repeat;
  const absl::StatusOr<int64_t> parsed = parse_duration("--interval", interval, 10000000);
  if (!parsed.ok()) return parsed.status();
  repeat.interval_ns = *parsed;
  if (!count.has_value()) return repeat;
  const absl::StatusOr<uint64_t> times = parse_count("--count", *count, 1, UINT64_MAX - 1);
  if (!times.ok()) return times.status();
  repeat.count = *times;
  return repeat;
}

StopSignals::StopSignals() {
  stop_asked = 0;
  // Without a pipe a signal still ends the wait, but for one that comes just before it.
  if (pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) != 0) pipe_ends[0] = pipe_ends[1] = -1;
  struct sigaction action {};
  action.sa_handler = on_stop;  // no SA_RESTART: what blocks shall end
  for (size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &earlier[i]);
    // nohup: a signal that was ignored stays so.
    if (earlier[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
  }
}

StopSignals::~StopSignals() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &earlier[i], nullptr);
  for (int& end : pipe_ends) {
    if (end >= 0) close(end);
    end = -1;
  }
}

bool StopSignals::stopped() { return stop_asked != 0; }

void StopSignals::wake() {
  const ssize_t ignored = write(pipe_ends[1], "", 1);
  static_cast<void>(ignored);
}

StopSignals::Woken StopSignals::wait_until(int64_t until, int fd) {
  for (;;) {
    if (stopped()) return Woken::kStop;
    const int64_t left = std::max<int64_t>(until - monotonic_ns(), 0);
    const timespec time = {left / 1000000000, left % 1000000000};
    std::array<pollfd, 2> ends = {{{pipe_ends[0], POLLIN, 0}, {fd, POLLIN, 0}}};
    const int ready = ppoll(ends.data(), ends.size(), &time, nullptr);
    if (stopped()) return Woken::kStop;
    if (ready == 0) return Woken::kTime;
    if (ready < 0) continue;
    if (ends[0].revents != 0) {
      char bytes[64];
      while (read(pipe_ends[0], bytes, sizeof(bytes)) > 0) {
      }
      return Woken::kOther;
    }
    return Woken::kInput;
  }
}

bool StopSignals::rest(int64_t& next, int64_t interval_ns) {
  next = std::max(next + interval_ns, monotonic_ns());
  while (wait_until(next) == Woken::kOther) {
  }
  return !stopped();
}

bool delivered() { return std::fflush(stdout) == 0 && std::ferror(stdout) == 0; }

int finish_repeat() {
  if (!StopSignals::stopped()) return finish();
  std::fflush(stdout);
  return kExitOk;
}

absl::StatusOr<Followed> Followed::attach(const std::string& name, const std::string& owner,
                                          const std::string& group) {
  Followed followed;
  const absl::StatusOr<Options> options = trusting_options(owner, group);
  if (!options.ok()) return options.status();
  absl::StatusOr<Inspector> inspector = Inspector::attach(name, *options);
  if (!inspector.ok()) return inspector.status();
  followed.name_ = name;
  followed.options_ = *options;
  followed.inspector_ = *std::move(inspector);
  return followed;
}

bool Followed::follow(bool quiet) {
  if (inspector_->info().linked) {
    gone_ = false;
    return false;
  }
  absl::StatusOr<Inspector> next = Inspector::attach(name_, options_);
  if (!next.ok()) {
    if (!gone_ && !quiet) {
      complain(join("segment_unlinked: the name ", escape_text(name_),
                    " does not lead to the segment any more (", status_name(next.status()),
                    "); its users keep it, and it is shown until the name leads to another"));
    }
    gone_ = true;
    return false;
  }
  gone_ = false;
  if (!quiet) {
    complain(join("segment_replaced: the name ", escape_text(name_), " leads to another segment, ",
                  next->info().uuid, "; following it"));
  }
  inspector_ = *std::move(next);
  return true;
}

const Occupancy& OccupancyReader::read(const Inspector& inspector) {
  const int64_t now = monotonic_ns();
  if (now < next_) return last_;
  last_ = inspector.occupancy();
  const int64_t after = monotonic_ns();
  next_ = after + 20 * (after - now);
  return last_;
}

}  // namespace brim::tools
