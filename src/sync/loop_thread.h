// SPDX-License-Identifier: MIT
// A loop in a thread of its own, with all signals blocked. `Loop` provides
//     int64_t step()          one round; returns how many ns to wait before the next
//     absl::Status finish()   the last one
#ifndef BRIM_SRC_SYNC_LOOP_THREAD_H_
#define BRIM_SRC_SYNC_LOOP_THREAD_H_

#include <pthread.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "src/base/text.h"

namespace brim {

template <class Loop>
class LoopThread {
 public:
  virtual ~LoopThread() = default;
  using Say = std::function<void(int level, const std::string& what)>;

  // What the loop is given to say something to: whoever stopped it from its own thread may be gone
  // with what `say` needs.
  Say until_the_end(Say say) {
    if (!say) return say;
    return [this, say = std::move(say)](int level, const std::string& what) {
      if (!alone_) say(level, what);
    };
  }

  // Why there is no thread; empty if there is one. finish() is called at the end all the same.
  std::string start(Loop loop) {
    loop_.emplace(std::move(loop));
    std::string trouble;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error& error) {
      trouble = cat(error.what(), "; raise the limit of threads");
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return trouble;
  }

  // Ends it and frees `self`. In a forked child the thread is not there, and its mutex may be
  // locked for ever: left alone.
  static void stop(std::unique_ptr<LoopThread> self) {
    if (getpid() != self->pid_) {
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
    if (self->thread_.joinable()) self->thread_.join();
    self->loop_->finish().IgnoreError();
  }

 private:
  void run() {
    constexpr int64_t kLongest = int64_t{1} << 55;  // what a clock has room for
    std::unique_lock<std::mutex> hold(mutex_);
    while (!stopping_) {
      hold.unlock();
      const int64_t wait = loop_->step();
      hold.lock();
      wake_.wait_for(hold, std::chrono::nanoseconds(std::min(wait, kLongest)),
                     [this] { return stopping_; });
    }
    hold.unlock();
    if (!alone_) return;
    const std::unique_ptr<LoopThread> own(this);
    loop_->finish().IgnoreError();
  }

  std::optional<Loop> loop_;
  pid_t pid_ = getpid();
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  bool alone_ = false;  // of its own thread only
  std::thread thread_;
};

}  // namespace brim

#endif  // BRIM_SRC_SYNC_LOOP_THREAD_H_
