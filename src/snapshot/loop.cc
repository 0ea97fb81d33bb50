// SPDX-License-Identifier: MIT
// When to write, for as long as somebody asks.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "brim/snapshot.h"
#include "src/base/text.h"
#include "src/snapshot/restore.h"
#include "src/snapshot/sqlite.h"

namespace brim {

namespace {

constexpr int kError = 3;
constexpr int kWarning = 4;
constexpr int kInfo = 6;
constexpr int64_t kLeastInterval = 10000000;
constexpr int kMostLastTries = 6;
constexpr int64_t kLookAgain = 1000000000;  // for a leader that ended, or a segment that appeared

// Somebody has to end it, but it costs a look only to see whether it is over.
bool is_moving(const absl::Status& status) {
  return snapshot::message_of(status).starts_with("snapshot_moving");
}

// No trouble, but a state that somebody else ends.
bool is_wait(const absl::Status& status) {
  const std::string_view message = snapshot::message_of(status);
  return message.starts_with("snapshot_not_leader") || message.starts_with("segment_not_found");
}

}  // namespace

SnapshotLoop::SnapshotLoop(std::string_view segment, SnapshotLoopOptions options)
    : segment_(segment), options_(std::move(options)) {
  options_.interval_ns = std::max(options_.interval_ns, kLeastInterval);
}

int64_t SnapshotLoop::step() {
  const absl::Status status = take();
  if (status.ok()) {
    errors_ = 0;
    last_.clear();
    return options_.interval_ns;
  }
  const std::string message(snapshot::message_of(status));
  if (message != last_) say(is_wait(status) ? kInfo : kError, message);
  last_ = message;
  if (is_moving(status)) return options_.interval_ns;
  if (is_wait(status)) {
    return std::clamp(options_.interval_ns / 2, kLeastInterval, kLookAgain);
  }
  errors_ = std::min(errors_ + 1, 4);  // 2, 4, 8 intervals, then every 16
  return std::min(options_.interval_ns, int64_t{1} << 58) << errors_;
}

absl::Status SnapshotLoop::finish() {
  if (absl::Status status = leave_removed(); !status.ok()) return status;
  if (!snapshotter_.has_value()) {  // ended before the first round, or no segment was there yet
    if (absl::Status status = open(false); !status.ok()) {
      return is_wait(status) ? absl::OkStatus() : status;
    }
  }
  const auto report = snapshotter_->take();
  if (report.ok()) say_taken(*report);
  const bool other = !report.ok() && is_wait(report.status());
  return report.ok() || other ? absl::OkStatus() : report.status();
}

// What the last users of a removed segment did is kept; then the segment that has the name now is
// followed.
absl::Status SnapshotLoop::leave_removed() {
  if (!snapshotter_.has_value() || snapshotter_->linked()) return absl::OkStatus();
  if (snapshotter_->superseded()) {  // the table that has the name now has all of its keys
    say(kInfo, cat("segment ", segment_, " was resized"));
    leave();
    return absl::OkStatus();
  }
  const auto report = snapshotter_->take();
  if (report.ok()) {
    say_taken(*report);
  } else if (!is_wait(report.status()) && ++last_tries_ < kMostLastTries) {
    return report.status();  // a full disk, say: its state is still mapped
  } else {
    say(kError, cat("the last snapshot of a removed segment was not written: ",
                    snapshot::message_of(report.status())));
  }
  say(kWarning, cat("segment ", segment_, " was removed or replaced"));
  leave();
  return absl::OkStatus();
}

void SnapshotLoop::leave() {
  last_tries_ = 0;
  snapshotter_.reset();
  swept_.reset();
}

absl::Status SnapshotLoop::take() {
  if (absl::Status status = leave_removed(); !status.ok()) return status;
  if (!snapshotter_.has_value()) {
    if (absl::Status status = open(options_.restore); !status.ok()) return status;
  }
  const auto report = snapshotter_->take();
  if (snapshotter_->set_aside() != aside_) {
    aside_ = snapshotter_->set_aside();
    if (!aside_.empty()) say(kError, aside_);
  }
  if (!report.ok()) return report.status();
  if (snapshotter_->restored() != 0 && report->full) {
    say(kInfo,
        cat("took ", snapshotter_->restored(), " keys over from the file of an earlier segment"));
  }
  say_taken(*report);
  if (swept_.has_value()) {
    const uint64_t freed = swept_->sweep(options_.sweep_idle_ns);
    if (freed != 0) say(kInfo, cat("swept ", freed, " idle keys"));
  }
  return absl::OkStatus();
}

// Never an empty one: its sizes and policies are for those who know them to give.
absl::Status SnapshotLoop::make_from_file() {
  const SnapshotOptions& own = options_.snapshot;
  if (!absl::IsNotFound(Limiter::attach(segment_, own.attach).status())) return absl::OkStatus();
  const absl::Status status = create_restored(segment_, own.attach, own.file).status();
  if (snapshot::is_damage(status)) {
    const auto aside = snapshot::set_damaged_aside(own.file);
    if (!aside.ok()) return aside.status();
    if (aside->empty()) return status;  // somebody else sees to it: look again
    say(kError, cat(snapshot::message_of(status), "; it was renamed to ", *aside));
    return absl::OkStatus();
  }
  const bool no_file = snapshot::message_of(status).starts_with("snapshot_not_found");
  return no_file || absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
}

absl::Status SnapshotLoop::open(bool may_make) {
  const SnapshotOptions& own = options_.snapshot;
  if (may_make) {
    if (absl::Status status = make_from_file(); !status.ok()) return status;
  }
  auto opened = Snapshotter::open(segment_, own);
  if (!opened.ok()) return opened.status();
  if (options_.sweep_idle_ns > 0) {
    auto limiter = Limiter::attach(segment_, own.attach);
    if (!limiter.ok()) return limiter.status();
    swept_ = *std::move(limiter);
  }
  snapshotter_ = *std::move(opened);
  return absl::OkStatus();
}

void SnapshotLoop::say(int level, const std::string& what) const {
  if (options_.say) options_.say(level, what);
}

void SnapshotLoop::say_taken(const SnapshotReport& report) {
  if (!report.full && report.written == 0 && report.removed == 0) return;
  say(kInfo, cat("snapshot ", report.generation, report.full ? " (full)" : "", ": ", report.rows,
                 " keys, ", report.written, " written, ", report.removed, " removed, ",
                 report.duration_ns / 1000000, " ms"));
}

class SnapshotThread::Impl {
 public:
  Impl(std::string_view segment, SnapshotLoopOptions options)
      : loop_(segment, without_words_after_the_end(std::move(options))), pid_(getpid()) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error& error) {  // a limit of threads: the worker goes on without
      loop_.say(kError, cat("snapshot_no_thread: ", error.what(), "; raise the limit of threads"));
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  bool is_ours() const { return getpid() == pid_; }

  // Ends it and frees this.
  static void stop(std::unique_ptr<Impl> self) {
    {
      const std::lock_guard<std::mutex> hold(self->mutex_);
      self->stopping_ = true;
    }
    self->wake_.notify_one();
    if (self->thread_.get_id() == std::this_thread::get_id()) {
      // Called by what it says something to: it goes on until that has returned. See run().
      self->alone_ = true;
      self->thread_.detach();
      static_cast<void>(self.release());
      return;
    }
    if (self->thread_.joinable()) self->thread_.join();
    self->loop_.finish().IgnoreError();
  }

 private:
  // Whoever stopped it from its own thread may be gone with what `say` needs.
  SnapshotLoopOptions without_words_after_the_end(SnapshotLoopOptions options) {
    if (!options.say) return options;
    options.say = [this, say = std::move(options.say)](int level, const std::string& what) {
      if (!alone_) say(level, what);
    };
    return options;
  }

  void run() {
    std::unique_lock<std::mutex> hold(mutex_);
    while (!stopping_) {
      hold.unlock();
      const int64_t wait = loop_.step();
      hold.lock();
      wake_.wait_for(hold, std::chrono::nanoseconds(std::min(wait, int64_t{1} << 55)),
                     [this] { return stopping_; });
    }
    hold.unlock();
    if (!alone_) return;
    const std::unique_ptr<Impl> own(this);
    loop_.finish().IgnoreError();
  }

  SnapshotLoop loop_;
  pid_t pid_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  bool alone_ = false;  // of its own thread only
  std::thread thread_;
};

SnapshotThread::SnapshotThread(std::string_view segment, SnapshotLoopOptions options)
    : impl_(std::make_unique<Impl>(segment, std::move(options))) {}

SnapshotThread::~SnapshotThread() {
  // In a forked child the thread is not there, and its mutex may be locked for ever: left alone.
  if (impl_->is_ours()) {
    Impl::stop(std::move(impl_));
  } else {
    static_cast<void>(impl_.release());
  }
}

}  // namespace brim
