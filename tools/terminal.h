// SPDX-License-Identifier: MIT
// A terminal as a whole screen: plain ANSI, drawn line by line, left as it was found however the
// command ends.
#ifndef BRIM_TOOLS_TERMINAL_H_
#define BRIM_TOOLS_TERMINAL_H_

#include <cstddef>
#include <string>
#include <vector>

namespace brim::tools {

struct ScreenLine {
  std::string text;  // plain ASCII
  bool bold = false;
};

// One at a time, and while a StopSignals lives: a new size and SIGCONT end its wait. The process is
// stopped by SIGTSTP with the terminal given back, in react().
class Screen {
 public:
  // Standard output is a terminal that knows the escape sequences.
  static bool possible();

  Screen();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  // Columns and rows now; at least one of each.
  static size_t columns();
  static size_t rows();

  // What fits of these lines; the rest of the screen is empty. False if nobody sees it any more.
  bool draw(const std::vector<ScreenLine>& lines);
  // What the signals since the last call ask for.
  void react();
  // Where keys come from, or -1.
  static int keys();
  // The last key that was pressed; 0: ask again; -1: there is none, or the terminal is gone.
  static int key();
};

}  // namespace brim::tools

#endif  // BRIM_TOOLS_TERMINAL_H_
