// SPDX-License-Identifier: MIT
// When to write, for as long as somebody asks.
#include <algorithm>
#include <memory>
#include <utility>

#include "brim/snapshot.h"
#include "src/base/status.h"
#include "src/base/text.h"
#include "src/snapshot/restore.h"
#include "src/snapshot/sqlite.h"
#include "src/sync/loop_thread.h"

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
  return message_of(status).starts_with("snapshot_moving");
}

// No trouble, but a state that somebody else ends.
bool is_wait(const absl::Status& status) {
  const std::string_view message = message_of(status);
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
  const std::string message(message_of(status));
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
                    message_of(report.status())));
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
    say(kError, cat(message_of(status), "; it was renamed to ", *aside));
    return absl::OkStatus();
  }
  const bool no_file = message_of(status).starts_with("snapshot_not_found");
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

class SnapshotThread::Impl : public LoopThread<SnapshotLoop> {};

SnapshotThread::SnapshotThread(std::string_view segment, SnapshotLoopOptions options)
    : impl_(std::make_unique<Impl>()) {
  const auto say = impl_->until_the_end(options.say);
  options.say = say;
  const std::string trouble = impl_->start(SnapshotLoop(segment, std::move(options)));
  if (trouble.empty() || !say) return;
  say(kError, cat("snapshot_no_thread: ", trouble));  // the worker goes on without
}

SnapshotThread::~SnapshotThread() { Impl::stop(std::move(impl_)); }

}  // namespace brim
