// SPDX-License-Identifier: MIT
#include "terminal.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "output.h"
#include "repeat.h"

namespace brim::tools {

namespace {

constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[2J";  // another screen, no cursor
constexpr std::string_view kLeave = "\x1b[?25h\x1b[?1049l";

// What a signal handler needs to give the terminal back.
termios found;
volatile sig_atomic_t raw = 0;
volatile sig_atomic_t entered = 0;
volatile sig_atomic_t stop_wanted = 0;
volatile sig_atomic_t continued = 0;
struct sigaction old_bus;
struct sigaction old_tstp;
struct sigaction old_cont;
struct sigaction old_winch;

// False once the terminal is gone or the command is asked to stop.
bool write_all(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(STDOUT_FILENO, text.data(), text.size());
    if (n < 0 && (errno != EINTR || StopSignals::stopped())) return false;
    if (n > 0) text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

void enter() {
  if (isatty(STDIN_FILENO) != 0 && tcgetattr(STDIN_FILENO, &found) == 0) {
    termios mine = found;
    mine.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    mine.c_cc[VMIN] = 0;
    mine.c_cc[VTIME] = 0;
    raw = tcsetattr(STDIN_FILENO, TCSAFLUSH, &mine) == 0 ? 1 : 0;
  }
  entered = 1;
  write_all(kEnter);
}

// Safe in a signal handler.
void leave() {
  if (entered != 0) {
    const ssize_t ignored = write(STDOUT_FILENO, kLeave.data(), kLeave.size());
    static_cast<void>(ignored);
  }
  entered = 0;
  if (raw != 0) tcsetattr(STDIN_FILENO, TCSAFLUSH, &found);
  raw = 0;
}

// The segment was cut: what was there before says so and ends.
void on_bus(int signal) {
  leave();
  if (old_bus.sa_handler != SIG_DFL && old_bus.sa_handler != SIG_IGN) old_bus.sa_handler(signal);
  _exit(kExitNoSegment);
}

void on_stop_wanted(int) {
  stop_wanted = 1;
  StopSignals::wake();
}

void on_continued(int) {
  continued = 1;
  StopSignals::wake();
}

void on_new_size(int) { StopSignals::wake(); }

void handle(int signal, void (*handler)(int), struct sigaction* old) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigaction(signal, &action, old);
}

winsize size() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
    size.ws_col = 80;
    size.ws_row = 24;
  }
  return size;
}

}  // namespace

bool Screen::possible() {
  const char* const terminal = std::getenv("TERM");
  return isatty(STDOUT_FILENO) != 0 && terminal != nullptr && std::string_view(terminal) != "dumb";
}

Screen::Screen() {
  handle(SIGBUS, on_bus, &old_bus);
  handle(SIGTSTP, on_stop_wanted, &old_tstp);
  handle(SIGCONT, on_continued, &old_cont);
  handle(SIGWINCH, on_new_size, &old_winch);
  enter();
}

Screen::~Screen() {
  leave();
  sigaction(SIGBUS, &old_bus, nullptr);
  sigaction(SIGTSTP, &old_tstp, nullptr);
  sigaction(SIGCONT, &old_cont, nullptr);
  sigaction(SIGWINCH, &old_winch, nullptr);
}

size_t Screen::columns() { return size().ws_col; }
size_t Screen::rows() { return size().ws_row; }

bool Screen::draw(const std::vector<ScreenLine>& lines) {
  const winsize now = size();
  std::string frame = "\x1b[H";
  for (size_t i = 0; i < std::min<size_t>(lines.size(), now.ws_row); ++i) {
    if (i != 0) frame += "\r\n";
    // Erased first: behind a line as wide as the screen the cursor is still on its last letter.
    frame += "\x1b[K";
    const std::string text = lines[i].text.substr(0, now.ws_col);
    frame += lines[i].bold ? heading(text) : text;
  }
  if (lines.size() < now.ws_row) frame += lines.empty() ? "\x1b[J" : "\r\n\x1b[J";
  return write_all(frame);
}

void Screen::react() {
  if (stop_wanted != 0) {
    stop_wanted = 0;
    leave();
    handle(SIGTSTP, SIG_DFL, nullptr);
    raise(SIGTSTP);  // goes on here after SIGCONT
    handle(SIGTSTP, on_stop_wanted, nullptr);
    continued = 0;
    enter();
  } else if (continued != 0) {  // after SIGSTOP, which nobody sees coming
    continued = 0;
    leave();
    enter();
  }
}

int Screen::keys() { return raw != 0 ? STDIN_FILENO : -1; }

int Screen::key() {
  char bytes[64];
  const ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
  if (n < 0) return errno == EINTR || errno == EAGAIN ? 0 : -1;
  return n == 0 ? -1 : static_cast<unsigned char>(bytes[n - 1]);
}

}  // namespace brim::tools
