// SPDX-License-Identifier: MIT
// The parent of a prefork server: starts the workers, replaces those that die, ends them all.
#ifndef BRIM_EXAMPLES_PREFORK_SERVER_SUPERVISOR_H_
#define BRIM_EXAMPLES_PREFORK_SERVER_SUPERVISOR_H_

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <vector>

namespace example {

// Not thread-safe: forks, and takes SIGCHLD, SIGTERM and SIGINT of the process for itself.
class Supervisor {
 public:
  // What a worker process does; it calls its argument once, when it serves. Returns the exit code.
  using Body = std::function<int(const std::function<void()>& ready)>;

  Supervisor(size_t workers, Body body) : body_(std::move(body)), places_(workers) {}
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;
  ~Supervisor();

  // Runs until SIGTERM or SIGINT, then ends every worker by its pid. Calls all_ready() once, when
  // all workers serve. Returns 0; or 1 if a worker fails by itself before that, for then the next
  // one would fail as well. A worker that dies later is replaced: at once if it was killed, after
  // a second if it failed, and never more than ten times a second in its place.
  int run(const std::function<void()>& all_ready);

 private:
  using Clock = std::chrono::steady_clock;
  struct Place {
    pid_t pid = 0;       // 0: vacant
    pid_t previous = 0;  // who was here before
    Clock::time_point start_at;
  };

  bool open_channels();
  bool start_due();
  bool start(Place& place);
  [[noreturn]] void be_worker();
  int wait_ms() const;
  void read_signals();
  void read_ready();
  void reap();
  void on_end(Place& place, int status);
  void end_all();

  Body body_;
  std::vector<Place> places_;
  size_t ready_count_ = 0;
  bool announced_ = false;
  bool stop_ = false;
  int exit_code_ = 0;
  int signal_fd_ = -1;
  int ready_read_ = -1;
  int ready_write_ = -1;
};

}  // namespace example

#endif  // BRIM_EXAMPLES_PREFORK_SERVER_SUPERVISOR_H_
