// SPDX-License-Identifier: MIT
// Lines from files and pipes in bounded memory, and the progress shown meanwhile.
#ifndef BRIM_TOOLS_REPLAY_INPUT_H_
#define BRIM_TOOLS_REPLAY_INPUT_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace brim::replay {

inline constexpr size_t kMaxLine = 65536;

// The lines of several files, one after the other.
class LogInput {
 public:
  // Opens all of them; "-", or no name at all, is standard input.
  static absl::StatusOr<LogInput> open(const std::vector<std::string>& names);
  LogInput(LogInput&& other) noexcept = default;
  LogInput& operator=(LogInput&&) = delete;
  ~LogInput();

  // False at the end of the last file, or on an error; see status(). The line comes without its
  // end (LF or CR LF) and lives until the next call. One longer than kMaxLine comes cut, with
  // too_long() set. A line that the end of a file cuts short is a line.
  bool next(std::string_view& line);
  bool too_long() const { return too_long_; }

  const absl::Status& status() const { return status_; }
  const std::string& file() const { return files_[at_].name; }
  uint64_t line_number() const { return line_number_; }  // within the file, from 1
  uint64_t bytes_read() const { return bytes_read_; }
  uint64_t bytes_total() const { return bytes_total_; }  // 0: not known

 private:
  struct File {
    std::string name;
    int fd = -1;
    // A move leaves the source without a descriptor to close.
    File(std::string file_name, int descriptor) : name(std::move(file_name)), fd(descriptor) {}
    File(File&& other) noexcept : name(std::move(other.name)), fd(std::exchange(other.fd, -1)) {}
    File& operator=(File&&) = delete;
    ~File();
  };
  LogInput() = default;
  bool fill();

  std::vector<File> files_;
  size_t at_ = 0;
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  bool too_long_ = false;
  bool file_ended_ = false;
  uint64_t line_number_ = 0;
  uint64_t bytes_read_ = 0;
  uint64_t bytes_total_ = 0;
  absl::Status status_;
};

// A line on standard error, at most five times a second, if that is a terminal.
class Progress {
 public:
  Progress();
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void show(const LogInput& input, uint64_t lines);
  void clear();

 private:
  bool wanted_;
  size_t width_ = 0;  // of what is on the screen now
  std::chrono::steady_clock::time_point next_;
};

}  // namespace brim::replay

#endif  // BRIM_TOOLS_REPLAY_INPUT_H_
