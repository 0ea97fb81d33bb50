// SPDX-License-Identifier: MIT
// brim agent: one process a machine that writes a segment's snapshots, and exchanges with other
// nodes, until it is told to stop. Says what it does on standard error, with the journal's
// priorities where systemd reads it.
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
#include <optional>

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

// Both loops of a node in one process. The tier has a thread of its own, so that a store that does
// not answer delays no snapshot.
class Agent {
 public:
  explicit Agent(const AgentArgs& args) : sync_on_exit_(args.sync_on_exit) {}

  absl::Status start_tier(const std::string& name, TierOptions options) {
    options.say = [](int level, const std::string& what) { say(level, what); };
    absl::StatusOr<TierThread> thread = TierThread::start(name, std::move(options));
    if (thread.ok()) tier_.emplace(*std::move(thread));
    return thread.status();
  }
  void start_snapshots(const std::string& name, SnapshotLoopOptions options) {
    options.say = [](int level, const std::string& what) {
      say(level, what);
      notify(join("STATUS=", escape_text(what)));
    };
    snapshots_.emplace(name, std::move(options));
  }

  int run() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) sigaddset(&signals, signal);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    int64_t wait = 0;  // the first snapshot at once
    for (bool ready = false;; ready = true) {
      const int signal = wait_for(signals, wait);
      if (signal == SIGTERM || signal == SIGINT) break;
      wait = snapshots_.has_value() ? snapshots_->step() : kLongNs;
      if (!ready) notify("READY=1");
    }
    notify("STOPPING=1");
    const absl::Status status =
        snapshots_.has_value() && sync_on_exit_ ? snapshots_->finish() : absl::OkStatus();
    tier_.reset();  // tells what is left to tell
    if (status.ok()) return kExitOk;
    say(kError, std::string(std::string_view(status.message().data(), status.message().size())));
    return kExitFailure;
  }

 private:
  static constexpr int64_t kLongNs = int64_t{3600} * 1000000000;

  // The signal that came, or -1 after `ns`.
  static int wait_for(const sigset_t& set, int64_t ns) {
    const timespec time = {ns / 1000000000, ns % 1000000000};
    for (;;) {
      const int signal = sigtimedwait(&set, nullptr, &time);
      if (signal > 0 || errno != EINTR) return signal;
    }
  }

  std::optional<SnapshotLoop> snapshots_;
  std::optional<TierThread> tier_;
  bool sync_on_exit_;
};

absl::StatusOr<SnapshotLoopOptions> loop_options(const AgentArgs& args) {
  SnapshotLoopOptions loop;
  const absl::StatusOr<int64_t> interval = parse_duration("--interval", args.interval, 10000000);
  if (!interval.ok()) return interval.status();
  loop.interval_ns = *interval;
  const absl::StatusOr<int64_t> sweep = parse_duration("--sweep", args.sweep, 0);
  if (!sweep.ok()) return sweep.status();
  loop.sweep_idle_ns = *sweep;
  absl::StatusOr<SnapshotOptions> options = snapshot_options(args);
  if (!options.ok()) return options.status();
  loop.snapshot = *std::move(options);
  loop.restore = args.restore;
  return loop;
}

}  // namespace

int run_agent(const AgentArgs& args) {
  const bool shares = names_store(args.tier);
  if (args.file.empty() && (!shares || args.restore)) {
    return report(absl::InvalidArgumentError(
        args.restore ? "invalid_option: --restore needs the snapshot's file; give --file FILE"
                     : "invalid_option: nothing to do; give --file FILE, --tier URL or both"));
  }
  Agent agent(args);
  // Both are read before either begins.
  absl::StatusOr<SnapshotLoopOptions> loop = loop_options(args);
  if (!loop.ok()) return report(loop.status());
  if (shares) {
    absl::StatusOr<TierOptions> tier = tier_options(args.tier);
    if (!tier.ok()) return report(tier.status());
    tier->attach = loop->snapshot.attach;
    const absl::Status started = agent.start_tier(args.name, *std::move(tier));
    if (!started.ok()) return report(started);
  }
  if (!args.file.empty()) agent.start_snapshots(args.name, *std::move(loop));
  return agent.run();
}

}  // namespace brim::tools
