// SPDX-License-Identifier: MIT
#include "replay_input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "output.h"

namespace brim::replay {

namespace {

using tools::escape_text;
using tools::join;

constexpr size_t kBufferSize = 4 * kMaxLine;

absl::Status input_error(const std::string& file, std::string_view what) {
  return absl::UnavailableError(join("log_unreadable: ", escape_text(file), ": ", what));
}

}  // namespace

LogInput::File::~File() {
  if (fd >= 0 && fd != STDIN_FILENO) close(fd);
}

LogInput::~LogInput() = default;

absl::StatusOr<LogInput> LogInput::open(const std::vector<std::string>& names) {
  LogInput input;
  input.buffer_.resize(kBufferSize);
  bool known = true;
  for (const std::string& name : names.empty() ? std::vector<std::string>{"-"} : names) {
    const int fd = name == "-" ? STDIN_FILENO : ::open(name.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return input_error(name, std::strerror(errno));
    input.files_.emplace_back(name, fd);
    struct stat st {};
    known = known && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    input.bytes_total_ += static_cast<uint64_t>(std::max<off_t>(0, st.st_size));
  }
  if (!known) input.bytes_total_ = 0;
  return input;
}

// Reads more behind what is left in the buffer. False at the end of the file, and on an error.
bool LogInput::fill() {
  if (begin_ != 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  ssize_t got = -1;
  do {
    got = read(files_[at_].fd, buffer_.data() + end_, buffer_.size() - end_);
  } while (got < 0 && errno == EINTR);
  if (got < 0) status_ = input_error(files_[at_].name, std::strerror(errno));
  if (got <= 0) return false;
  const bool at_start = line_number_ == 0 && end_ == 0;
  end_ += static_cast<size_t>(got);
  bytes_read_ += static_cast<uint64_t>(got);
  if (at_start && std::string_view(buffer_.data(), end_).starts_with("\x1f\x8b")) {
    status_ = input_error(files_[at_].name, "compressed; pipe it: zcat FILE | brim replay ...");
    return false;
  }
  return true;
}

bool LogInput::next(std::string_view& line) {
  too_long_ = false;
  size_t searched = 0;  // bytes behind begin_ that hold no line end
  while (status_.ok()) {
    const char* const start = buffer_.data() + begin_;
    const size_t held = end_ - begin_;
    const void* const found =
        held > searched ? std::memchr(start + searched, '\n', held - searched) : nullptr;
    if (found != nullptr || (file_ended_ && held > 0)) {
      const size_t size =
          found != nullptr ? static_cast<size_t>(static_cast<const char*>(found) - start) : held;
      line = std::string_view(start, size);
      begin_ += found != nullptr ? size + 1 : size;
      ++line_number_;
      if (line.ends_with('\r')) line.remove_suffix(1);
      too_long_ = too_long_ || line.size() > kMaxLine;
      return true;
    }
    if (file_ended_) {
      if (at_ + 1 == files_.size()) return false;
      ++at_;
      line_number_ = 0;
      file_ended_ = false;
      continue;
    }
    searched = held;
    // Of a line that is too long only its beginning is kept.
    if (held > 2 * kMaxLine) {
      too_long_ = true;
      end_ = begin_ + kMaxLine + 1;
      searched = end_ - begin_;
    }
    file_ended_ = !fill();
  }
  return false;
}

Progress::Progress() : wanted_(isatty(STDERR_FILENO) == 1) {}

void Progress::show(const LogInput& input, uint64_t lines) {
  if (!wanted_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return;
  next_ = now + std::chrono::milliseconds(200);
  std::string line = join("replay: ", lines, " lines, ", tools::human_bytes(input.bytes_read()));
  if (input.bytes_total() != 0) {
    line += join(" of ", tools::human_bytes(input.bytes_total()), ", ",
                 std::min<uint64_t>(100, input.bytes_read() * 100 / input.bytes_total()), " %");
  }
  const size_t width = line.size();
  if (width < width_) line.append(width_ - width, ' ');
  width_ = width;
  std::fprintf(stderr, "\r%s", line.c_str());
}

void Progress::clear() {
  if (width_ == 0) return;
  std::fprintf(stderr, "\r%s\r", std::string(width_, ' ').c_str());
  width_ = 0;
}

}  // namespace brim::replay
