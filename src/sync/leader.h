// SPDX-License-Identifier: MIT
// Of all processes that want to do a work, one may: the holder of flock(2) on a lock file. The
// kernel gives it free at once when the holder dies, in any pid namespace; a stopped holder keeps
// it. The pid in the lock file is for people only.
#ifndef BRIM_SRC_SYNC_LEADER_H_
#define BRIM_SRC_SYNC_LEADER_H_

#include <sys/types.h>

#include <string>
#include <utility>

#include "absl/status/status.h"

namespace brim {

class Leader {
 public:
  // Of messages: `prefix`_not_leader, and what the leader does ("writes the snapshots").
  struct Words {
    const char* prefix;
    const char* work;
    const char* where;  // a lock file can be made
  };
  Leader(std::string path, const Words& words) : path_(std::move(path)), words_(words) {}
  ~Leader() { resign(); }
  Leader(const Leader&) = delete;
  Leader& operator=(const Leader&) = delete;

  // Ok if this process is the leader now. Unavailable (PREFIX_not_leader), PermissionDenied
  // (PREFIX_unwritable). Never waits.
  absl::Status become();
  void resign();
  // The same, and no file is left. For a leader that was the last.
  void resign_and_remove();

 private:
  // False once another file has the name: whoever locks that one is the leader.
  bool still_named() const;
  std::string path_;
  Words words_;
  int fd_ = -1;
  pid_t pid_ = 0;  // whose descriptor it is
};

}  // namespace brim

#endif  // BRIM_SRC_SYNC_LEADER_H_
