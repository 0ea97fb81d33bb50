// SPDX-License-Identifier: MIT
// The keys of a policy in a file, put together to the text that the one parser reads.
#ifndef BRIM_SRC_POLICY_FILE_TEXT_H_
#define BRIM_SRC_POLICY_FILE_TEXT_H_

#include <string>
#include <string_view>
#include <vector>

#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_ENABLE_WINDOWS_COMPAT 0
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wcast-align"
// toml++ 3.3 asserts, and with NDEBUG lets clang assume, what a wrong file makes false: "[a.]=".
// The code behind each assertion reports an error; tests/unit/policy_file_test.cc tries that.
#include <toml++/impl/preprocessor.h>
#undef TOML_ASSERT
#undef TOML_ASSERT_ASSUME
#define TOML_ASSERT(expr) static_assert(true)
#define TOML_ASSERT_ASSUME(expr) static_assert(true)
// In a namespace of its own: an application's toml++, with assertions, must not be linked for it.
#define toml brim_toml
#include <toml++/toml.h>
#undef toml
#pragma GCC diagnostic pop

namespace brim {

namespace toml = ::brim_toml;

struct FileError {
  toml::source_position at;
  std::string what;
};

// A policy's text, and which part of the file each part of it comes from.
class ComposedText {
 public:
  // Text that the file does not have, such as the blank between two parts.
  void add(std::string_view text) { text_ += text; }
  // Text that stands for `node`, or is its string.
  void add(std::string_view text, const toml::node& node);
  const std::string& text() const { return text_; }
  // Where in the file the character `at` of the text comes from; the first part if from nowhere.
  toml::source_position position(size_t at) const;

 private:
  struct Part {
    size_t from;
    toml::source_position at;
    bool exact;  // each character of the text is a column of the file
  };
  std::string text_;
  std::vector<Part> parts_;
};

// False and an error if `value`, a string or a table, is not a policy as far as TOML goes.
bool compose_policy(const toml::node& value, ComposedText& text, FileError& error);

// With '-' for '_': both may be written.
std::string folded_key(std::string_view key);

}  // namespace brim

#endif  // BRIM_SRC_POLICY_FILE_TEXT_H_
