// SPDX-License-Identifier: MIT
#include "src/sync/leader.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "src/base/lock_descriptors.h"
#include "src/base/text.h"

namespace brim {

namespace {

std::string read_holder(int fd) {
  char text[32] = {};
  const ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
  std::string holder;
  for (ssize_t i = 0; i < n && text[i] >= '0' && text[i] <= '9'; ++i) holder += text[i];
  return holder.empty() ? "unknown" : holder;
}

}  // namespace

bool Leader::still_named() const {
  struct stat own {};
  struct stat named {};
  return fstat(fd_, &own) == 0 && stat(path_.c_str(), &named) == 0 && own.st_dev == named.st_dev &&
         own.st_ino == named.st_ino;
}

absl::Status Leader::become() {
  if (fd_ >= 0 && pid_ == getpid()) {
    if (still_named()) return absl::OkStatus();
    resign();  // somebody removed the lock file: start over with the one that has the name now
  }
  for (int tries = 0; tries < 8; ++tries) {
    fd_ = LockDescriptors::instance().open_one(path_.c_str(),
                                               O_RDWR | O_CREAT | O_NOFOLLOW | O_NOCTTY, 0600);
    pid_ = getpid();
    if (fd_ < 0) {
      return absl::PermissionDeniedError(
          cat(words_.prefix, "_unwritable: ", path_, ": ", strerror(errno), "; ", words_.where));
    }
    if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      const std::string holder = read_holder(fd_);
      resign();
      if (error == EINTR) continue;
      if (error != EWOULDBLOCK) {
        return absl::InternalError(
            cat(words_.prefix, "_io: flock on ", path_, ": ", strerror(error)));
      }
      return absl::UnavailableError(cat(words_.prefix, "_not_leader: process ", holder, " ",
                                        words_.work, " (", path_,
                                        "); if it is stopped, continue or end it"));
    }
    // Between the open and the lock another may have removed the file, and a third made a new one.
    if (!still_named()) {
      resign();
      continue;
    }
    const std::string pid = cat(getpid(), "\n");
    if (ftruncate(fd_, 0) != 0 || pwrite(fd_, pid.data(), pid.size(), 0) < 0) {
      // For people only: a full disk does not keep a leader from its work.
    }
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      cat(words_.prefix, "_not_leader: ", path_, " is removed over and over by somebody"));
}

void Leader::resign() {
  // In a forked child the descriptor was closed; its number may be another file's by now.
  if (fd_ >= 0 && pid_ == getpid()) LockDescriptors::instance().close_one(fd_);
  fd_ = -1;
}

void Leader::resign_and_remove() {
  // Whoever waits for the lock looks whether the name is still there.
  if (fd_ >= 0 && pid_ == getpid() && still_named()) unlink(path_.c_str());
  resign();
}

}  // namespace brim
