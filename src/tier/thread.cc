// SPDX-License-Identifier: MIT
// A TierLoop for a process that has other things to do.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "brim/tier.h"
#include "src/base/text.h"

namespace brim {

class TierThread::Impl {
 public:
  absl::Status start(std::string_view segment, TierOptions options) {
    if (options.say) {
      // Whoever stopped it from its own thread may be gone with what `say` needs.
      options.say = [this, say = std::move(options.say)](int level, const std::string& what) {
        if (!alone_) say(level, what);
      };
    }
    auto loop = TierLoop::open(segment, std::move(options));
    if (!loop.ok()) return loop.status();
    loop_ = *std::move(loop);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    absl::Status status = absl::OkStatus();
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error& error) {
      status = absl::UnavailableError(
          cat("tier_no_thread: ", error.what(), "; raise the limit of threads"));
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return status;
  }

  // Ends it and frees this.
  static void stop(std::unique_ptr<Impl> self) {
    if (getpid() != self->pid_) {
      // The thread is not here, and its mutex may be locked for ever.
      static_cast<void>(self.release());
      return;
    }
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
    if (!self->thread_.joinable()) return;
    self->thread_.join();
    self->loop_->finish().IgnoreError();
  }

 private:
  void run() {
    std::unique_lock<std::mutex> hold(mutex_);
    while (!stopping_) {
      hold.unlock();
      const int64_t wait = loop_->step();
      hold.lock();
      wake_.wait_for(hold, std::chrono::nanoseconds(wait), [this] { return stopping_; });
    }
    hold.unlock();
    if (!alone_) return;
    const std::unique_ptr<Impl> own(this);
    loop_->finish().IgnoreError();
  }

  std::optional<TierLoop> loop_;
  pid_t pid_ = getpid();
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  bool alone_ = false;  // of its own thread only
  std::thread thread_;
};

absl::StatusOr<TierThread> TierThread::start(std::string_view segment, TierOptions options) {
  auto impl = std::make_unique<Impl>();
  if (absl::Status status = impl->start(segment, std::move(options)); !status.ok()) return status;
  return TierThread(std::move(impl));
}

TierThread::TierThread(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TierThread::TierThread(TierThread&&) noexcept = default;
TierThread& TierThread::operator=(TierThread&& other) noexcept {
  if (impl_ != nullptr) Impl::stop(std::move(impl_));
  impl_ = std::move(other.impl_);
  return *this;
}
TierThread::~TierThread() {
  if (impl_ != nullptr) Impl::stop(std::move(impl_));
}

}  // namespace brim
