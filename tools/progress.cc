// SPDX-License-Identifier: MIT
#include "progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "output.h"
#include "repeat.h"

namespace brim::tools {

namespace {

constexpr int64_t kFirstNs = 300000000;
constexpr int64_t kEveryNs = 200000000;

bool can_erase() {
  const char* const terminal = std::getenv("TERM");
  return isatty(STDERR_FILENO) != 0 && terminal != nullptr && std::string_view(terminal) != "dumb";
}

size_t columns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

uint64_t percent(uint64_t part, uint64_t whole) {
  return static_cast<uint64_t>(static_cast<double>(part) * 100 / static_cast<double>(whole));
}

}  // namespace

Progress::Progress(uint64_t slots, bool wanted)
    : slots_(std::max<uint64_t>(slots, 1)), shown_wanted_(wanted && can_erase()) {
  if (!shown_wanted_) return;
  began_ = monotonic_ns();
  next_ = began_ + kFirstNs;
}

void Progress::tick(uint64_t slot) {
  const int64_t now = monotonic_ns();
  if (now < next_) return;
  next_ = now + kEveryNs;
  const auto seconds = static_cast<double>(now - began_) / 1e9;
  std::string line =
      join("brim: ", slot + 1, " of ", slots_, " slots read, ", percent(slot + 1, slots_), " %, ",
           static_cast<uint64_t>(static_cast<double>(keys_) / seconds), " keys/s");
  line.resize(std::min(line.size(), columns() - 1));  // a line that wraps can not be erased
  std::fprintf(stderr, "\r\x1b[K%s", line.c_str());
  std::fflush(stderr);
  shown_ = true;
}

void Progress::erase() {
  if (!shown_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace brim::tools
