// SPDX-License-Identifier: MIT
// File descriptors that hold a flock(2), or wait for one. The lock belongs to the open file
// description, which fork() shares: a child made meanwhile would hold the lock for as long as it
// lives, so it closes its copies at once.
#ifndef BRIM_SRC_BASE_LOCK_DESCRIPTORS_H_
#define BRIM_SRC_BASE_LOCK_DESCRIPTORS_H_

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <vector>

namespace brim {

// Any thread. A descriptor is good in the process that opened it only.
class LockDescriptors {
 public:
  static LockDescriptors& instance() {
    static LockDescriptors* const all = new LockDescriptors;  // lives as long as the process
    return *all;
  }

  int open_one(const char* path, int flags, mode_t mode = 0) noexcept {
    const std::lock_guard<std::mutex> hold(mutex_);
    const int fd = open(path, flags | O_CLOEXEC, mode);
    if (fd >= 0) descriptors_.push_back(fd);
    return fd;
  }

  void close_one(int fd) noexcept {
    const std::lock_guard<std::mutex> hold(mutex_);
    if (std::erase(descriptors_, fd) == 0) return;  // a child's: closed by then
    flock(fd, LOCK_UN);
    close(fd);
  }

 private:
  LockDescriptors() {
    pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                   [] {
                     for (const int fd : instance().descriptors_) close(fd);
                     instance().descriptors_.clear();
                     instance().mutex_.unlock();
                   });
  }

  std::mutex mutex_;
  std::vector<int> descriptors_;
};

}  // namespace brim

#endif  // BRIM_SRC_BASE_LOCK_DESCRIPTORS_H_
