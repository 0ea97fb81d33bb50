// SPDX-License-Identifier: MIT
#include "supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <thread>

namespace example {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kBetweenStarts{100};
constexpr milliseconds kAfterFailure{1000};
constexpr milliseconds kGrace{2000};

sigset_t taken_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

void close_if_open(int& fd) {
  if (fd >= 0) close(fd);
  fd = -1;
}

}  // namespace

Supervisor::~Supervisor() {
  close_if_open(signal_fd_);
  close_if_open(ready_read_);
  close_if_open(ready_write_);
}

int Supervisor::run(const std::function<void()>& all_ready) {
  if (!open_channels()) return 1;
  while (!stop_) {
    if (!start_due()) {
      exit_code_ = 1;
      break;
    }
    pollfd fds[] = {{signal_fd_, POLLIN, 0}, {ready_read_, POLLIN, 0}};
    if (poll(fds, 2, wait_ms()) < 0 && errno != EINTR) {
      std::perror("poll");
      exit_code_ = 1;
      break;
    }
    read_ready();
    read_signals();
    if (!announced_ && ready_count_ >= places_.size()) {
      announced_ = true;
      all_ready();
    }
  }
  end_all();
  return exit_code_;
}

bool Supervisor::open_channels() {
  const sigset_t set = taken_signals();
  int ready[2];
  if (pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0 ||
      (signal_fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0 ||
      pipe2(ready, O_CLOEXEC | O_NONBLOCK) != 0) {
    std::perror("signalfd or pipe");
    return false;
  }
  ready_read_ = ready[0];
  ready_write_ = ready[1];
  return true;
}

bool Supervisor::start_due() {
  const Clock::time_point now = Clock::now();
  return std::all_of(places_.begin(), places_.end(), [&](Place& place) {
    return place.pid != 0 || place.start_at > now || start(place);
  });
}

bool Supervisor::start(Place& place) {
  std::fflush(nullptr);  // or the child would write the parent's buffers again
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    std::perror("fork");
    place.start_at = Clock::now() + kAfterFailure;
    return announced_;  // while it serves it goes on with the workers it has
  }
  if (pid == 0) {
    // A parent that is killed itself takes its workers along.
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1);
    be_worker();
  }
  place.pid = pid;
  place.start_at = Clock::now() + kBetweenStarts;
  if (place.previous != 0) {
    std::fprintf(stderr, "worker %d replaced by %d\n", place.previous, pid);
  }
  std::fprintf(stderr, "worker %d started\n", pid);
  return true;
}

void Supervisor::be_worker() {
  close_if_open(signal_fd_);
  close_if_open(ready_read_);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGINT, SIG_IGN);  // a terminal sends ^C to all; the parent decides
  const sigset_t set = taken_signals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  const int code = body_([this] {
    const char byte = 1;
    if (write(ready_write_, &byte, 1) != 1) std::perror("ready");
    close_if_open(ready_write_);
  });
  std::fflush(nullptr);
  _exit(code);
}

int Supervisor::wait_ms() const {
  const Clock::time_point now = Clock::now();
  int64_t least = -1;
  for (const Place& place : places_) {
    if (place.pid != 0) continue;
    const int64_t wait =
        std::max<int64_t>(0, std::chrono::ceil<milliseconds>(place.start_at - now).count());
    least = least < 0 ? wait : std::min(least, wait);
  }
  return static_cast<int>(least);
}

void Supervisor::read_ready() {
  char bytes[64];
  for (ssize_t got = 0; (got = read(ready_read_, bytes, sizeof bytes)) > 0;) {
    ready_count_ += static_cast<size_t>(got);
  }
}

void Supervisor::read_signals() {
  signalfd_siginfo info;
  while (read(signal_fd_, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo != SIGCHLD) stop_ = true;
  }
  reap();
}

void Supervisor::reap() {
  int status = 0;
  for (pid_t pid = 0; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    for (Place& place : places_) {
      if (place.pid == pid) on_end(place, status);
    }
  }
}

void Supervisor::on_end(Place& place, int status) {
  const bool killed = WIFSIGNALED(status);
  const bool failed = WIFEXITED(status) && WEXITSTATUS(status) != 0;
  std::fprintf(stderr, "worker %d ended (%s %d)\n", place.pid, killed ? "signal" : "exit code",
               killed ? WTERMSIG(status) : WEXITSTATUS(status));
  place.previous = place.pid;
  place.pid = 0;
  if (failed) place.start_at = Clock::now() + kAfterFailure;
  if (failed && !announced_ && !stop_) {
    std::fprintf(stderr, "giving up: a worker can not start\n");
    exit_code_ = 1;
    stop_ = true;
  }
}

void Supervisor::end_all() {
  stop_ = true;
  for (const Place& place : places_) {
    if (place.pid != 0) kill(place.pid, SIGTERM);
  }
  const auto any_left = [this] {
    return std::any_of(places_.begin(), places_.end(), [](const Place& p) { return p.pid != 0; });
  };
  const Clock::time_point deadline = Clock::now() + kGrace;
  while (any_left() && Clock::now() < deadline) {
    reap();
    std::this_thread::sleep_for(milliseconds(10));
  }
  for (Place& place : places_) {
    if (place.pid == 0) continue;
    kill(place.pid, SIGKILL);
    waitpid(place.pid, nullptr, 0);
    place.pid = 0;
  }
}

}  // namespace example
