// SPDX-License-Identifier: MIT
// brim agent: one process a machine that writes a segment's snapshots until it is told to stop.
// Says what it does on standard error, with the journal's priorities where systemd reads it.
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "snapshot.h"

namespace brim::tools {

namespace {

constexpr int kError = 3;

void say(int level, const std::string& message) {
  static const bool journal = std::getenv("JOURNAL_STREAM") != nullptr;
  const std::string prefix = journal ? join("<", level, ">") : std::string("brim agent: ");
  std::fprintf(stderr, "%s%s\n", prefix.c_str(), escape_text(message).c_str());
}

// One datagram to systemd, if it started us.
void notify(const std::string& state) {
  const char* const path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  if (path == nullptr || std::strlen(path) >= sizeof(address.sun_path) || path[0] == '\0') return;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path, std::strlen(path));
  if (path[0] == '@') address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address), size);
  close(fd);
}

class Agent {
 public:
  Agent(const AgentArgs& args, SnapshotLoopOptions options)
      : loop_(args.name, std::move(options)), sync_on_exit_(args.sync_on_exit) {}

  int run() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) sigaddset(&signals, signal);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    int64_t wait = 0;  // the first snapshot at once
    for (bool ready = false;; ready = true) {
      const int signal = wait_for(signals, wait);
      if (signal == SIGTERM || signal == SIGINT) break;
      wait = loop_.step();
      if (!ready) notify("READY=1");
    }
    notify("STOPPING=1");
    if (!sync_on_exit_) return kExitOk;
    const absl::Status status = loop_.finish();
    if (status.ok()) return kExitOk;
    say(kError, std::string(std::string_view(status.message().data(), status.message().size())));
    return kExitFailure;
  }

 private:
  // The signal that came, or -1 after `ns`.
  static int wait_for(const sigset_t& set, int64_t ns) {
    const timespec time = {ns / 1000000000, ns % 1000000000};
    for (;;) {
      const int signal = sigtimedwait(&set, nullptr, &time);
      if (signal > 0 || errno != EINTR) return signal;
    }
  }

  SnapshotLoop loop_;
  bool sync_on_exit_;
};

}  // namespace

int run_agent(const AgentArgs& args) {
  SnapshotLoopOptions loop;
  const absl::StatusOr<int64_t> interval = parse_duration("--interval", args.interval, 10000000);
  if (!interval.ok()) return report(interval.status());
  loop.interval_ns = *interval;
  const absl::StatusOr<int64_t> sweep = parse_duration("--sweep", args.sweep, 0);
  if (!sweep.ok()) return report(sweep.status());
  loop.sweep_idle_ns = *sweep;
  absl::StatusOr<SnapshotOptions> options = snapshot_options(args);
  if (!options.ok()) return report(options.status());
  loop.snapshot = *std::move(options);
  loop.restore = args.restore;
  loop.say = [](int level, const std::string& what) {
    say(level, what);
    notify(join("STATUS=", escape_text(what)));
  };
  return Agent(args, std::move(loop)).run();
}

}  // namespace brim::tools
