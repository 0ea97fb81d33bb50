// SPDX-License-Identifier: MIT
// The observer's program, with its input and output. For the supervisor of the soak.
#ifndef BRIM_TESTS_SOAK_OBSERVER_PROCESS_H_
#define BRIM_TESTS_SOAK_OBSERVER_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <cstdio>
#include <vector>

namespace brim::soak {

// A write to an observer that is gone must not end the supervisor: it ignores SIGPIPE.
class ObserverProcess {
 public:
  ObserverProcess(int64_t base, int64_t wall_least, int64_t wall_most);
  // Kills it if it was not asked to end.
  ~ObserverProcess();
  ObserverProcess(const ObserverProcess&) = delete;
  ObserverProcess& operator=(const ObserverProcess&) = delete;

  // The numbers of its answer; none if it is gone.
  std::vector<int64_t> round(int64_t end, const std::vector<int>& files);
  // Prints its totals; true if it ended well.
  bool end();

 private:
  pid_t pid_;  // 0: ended
  FILE* to_;
  FILE* from_;
};

}  // namespace brim::soak

#endif  // BRIM_TESTS_SOAK_OBSERVER_PROCESS_H_
