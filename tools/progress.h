// SPDX-License-Identifier: MIT
// One line on standard error that tells how far a long walk is, where a person watches.
#ifndef BRIM_TOOLS_PROGRESS_H_
#define BRIM_TOOLS_PROGRESS_H_

#include <cstdint>

namespace brim::tools {

// Shows nothing unless standard error is a terminal that can erase a line, and nothing in the first
// moments. The line is gone when the object is.
class Progress {
 public:
  // `wanted` false: shows nothing.
  Progress(uint64_t slots, bool wanted);
  ~Progress() { erase(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `slot` was read, with a key in it. Cheap: looks at the clock now and then.
  void at(uint64_t slot) {
    ++keys_;
    if (shown_wanted_ && (keys_ & 1023) == 0) tick(slot);
  }
  // Before anything else is written to the terminal.
  void erase();

 private:
  void tick(uint64_t slot);

  uint64_t slots_;
  bool shown_wanted_;
  bool shown_ = false;
  uint64_t keys_ = 0;
  int64_t began_ = 0;
  int64_t next_ = 0;
};

}  // namespace brim::tools

#endif  // BRIM_TOOLS_PROGRESS_H_
