// SPDX-License-Identifier: MIT
// Of all processes that want to write a file's snapshots, one may: the holder of flock(2) on
// FILE.lock. The kernel gives it free at once when the holder dies, in any pid namespace; a stopped
// holder keeps it. The pid in the lock file is for people only.
#ifndef BRIM_SRC_SNAPSHOT_LEADER_H_
#define BRIM_SRC_SNAPSHOT_LEADER_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"

namespace brim::snapshot {

class Leader {
 public:
  explicit Leader(const std::string& file) : path_(file + ".lock") {}
  ~Leader() { resign(); }
  Leader(const Leader&) = delete;
  Leader& operator=(const Leader&) = delete;

  // Ok if this process is the leader now. Unavailable (snapshot_not_leader), PermissionDenied
  // (snapshot_unwritable). Never waits.
  absl::Status become();
  void resign();

 private:
  // False once another file has the name: whoever locks that one is the leader.
  bool still_named() const;
  std::string path_;
  int fd_ = -1;
  pid_t pid_ = 0;  // whose descriptor it is
};

}  // namespace brim::snapshot

#endif  // BRIM_SRC_SNAPSHOT_LEADER_H_
