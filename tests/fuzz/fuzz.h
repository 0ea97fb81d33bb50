// SPDX-License-Identifier: MIT
// What the fuzz targets share: an input taken apart from its front, what a target asserts, and
// standard output caught in memory.
//
// A target is one file that defines LLVMFuzzerTestOneInput. It is built twice: with libFuzzer,
// which looks for inputs (run_fuzz.sh), and with replay_main.cc, which runs the inputs of the
// corpus with any compiler, as a test.
#ifndef BRIM_TESTS_FUZZ_FUZZ_H_
#define BRIM_TESTS_FUZZ_FUZZ_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
// Before the first input, once. Optional in libFuzzer; every target here defines it.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv);

namespace brim::fuzz {

// Ends the process where the property does not hold: what a fuzzer takes for a finding.
inline void require(bool holds, std::string_view what, std::string_view detail = {}) {
  if (holds) return;
  std::fprintf(stderr, "property violated: %.*s: %.*s\n", static_cast<int>(what.size()),
               what.data(), static_cast<int>(detail.size()), detail.data());
  __builtin_trap();
}

inline std::string_view as_text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// The bytes of one input; zero once they are used up.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(as_text(data, size)) {}

  bool empty() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }
  template <class Number>
  Number take() {
    Number number{};
    const std::string_view bytes = take_bytes(sizeof(number));
    std::memcpy(&number, bytes.data(), bytes.size());
    return number;
  }
  uint8_t byte() { return take<uint8_t>(); }
  // As many as there are, at most `most`.
  std::string_view take_bytes(size_t most) {
    const std::string_view bytes = rest_.substr(0, most);
    rest_.remove_prefix(bytes.size());
    return bytes;
  }
  // Up to the next `end`, which is dropped, or all.
  std::string_view take_until(char end) {
    const std::string_view bytes = rest_.substr(0, rest_.find(end));
    rest_.remove_prefix(std::min(rest_.size(), bytes.size() + 1));
    return bytes;
  }

 private:
  std::string_view rest_;
};

// Plain ASCII, and line ends: nothing that a terminal takes for a command.
inline bool printable_ascii(std::string_view text, std::string_view also = "\n") {
  return std::all_of(text.begin(), text.end(), [also](char c) {
    return (c >= 0x20 && c <= 0x7e) || also.find(c) != std::string_view::npos;
  });
}

// While it lives, what goes to stdout, stderr and std::cout is kept instead of shown.
class Captured {
 public:
  Captured() : saved_out_(stdout), saved_error_(stderr) {
    stdout = open_memstream(&text_, &size_);
    stderr = open_memstream(&error_text_, &error_size_);
    if (stdout == nullptr || stderr == nullptr) __builtin_trap();
    saved_cout_ = std::cout.rdbuf(cout_.rdbuf());
  }
  ~Captured() {
    std::fclose(stdout);
    std::fclose(stderr);
    stdout = saved_out_;
    stderr = saved_error_;
    std::cout.rdbuf(saved_cout_);
    std::free(text_);
    std::free(error_text_);
  }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;

  // What was written to stdout since the last take().
  std::string take() {
    std::string text = taken(stdout, text_, size_) + cout_.str();
    cout_.str("");
    return text;
  }
  std::string take_error() { return taken(stderr, error_text_, error_size_); }

 private:
  static std::string taken(std::FILE* file, char*& text, size_t& size) {
    std::fflush(file);
    std::string copy(text, size);
    std::rewind(file);
    std::fflush(file);
    return copy;
  }
  std::FILE* saved_out_;
  std::FILE* saved_error_;
  std::streambuf* saved_cout_ = nullptr;
  std::ostringstream cout_;
  char* text_ = nullptr;
  size_t size_ = 0;
  char* error_text_ = nullptr;
  size_t error_size_ = 0;
};

}  // namespace brim::fuzz

#endif  // BRIM_TESTS_FUZZ_FUZZ_H_
