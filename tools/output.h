// SPDX-License-Identifier: MIT
// What the command prints and how it ends: exit codes, escaping, JSON, CSV, sizes, durations.
// Keys, names and paths are bytes of unknown origin: everything here that turns bytes into text
// gives plain ASCII without control characters.
#ifndef BRIM_TOOLS_OUTPUT_H_
#define BRIM_TOOLS_OUTPUT_H_

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace brim::tools {

enum ExitCode : int {
  kExitOk = 0,
  kExitFailure = 1,       // input, output, permission, memory
  kExitUsage = 2,         // a wrong command, option or value
  kExitNoSegment = 3,     // no such segment, or it went away while it was read
  kExitIncompatible = 4,  // there is one, but not for this brim, this boot or these options
  kExitRefused = 75,      // `try`: the policy refuses (EX_TEMPFAIL)
};

enum class Format { kTable, kJson, kCsv };

// "table", "json" or "csv"; InvalidArgument that names the value otherwise.
absl::StatusOr<Format> parse_format(const std::string& text);

// A whole number from `least` to `most`, with k, M or G for 1024, 1024^2, 1024^3.
absl::StatusOr<uint64_t> parse_count(const std::string& option, const std::string& text,
                                     uint64_t least, uint64_t most);

inline void append_piece(std::string& out, std::string_view text) { out += text; }
inline void append_piece(std::string& out, std::integral auto number) {
  out += std::to_string(number);
}
// One string of texts and integers.
template <class... Pieces>
std::string join(const Pieces&... pieces) {
  std::string out;
  (append_piece(out, pieces), ...);
  return out;
}

// A key's bytes: 0x21 to 0x7e but % " \ , stay, every other byte is %XX. No blank, no quote, no
// comma, nothing a terminal, a spreadsheet or a parser could take for its own.
std::string escape_key(std::string_view bytes);
// Text that may hold blanks, such as a message: only bytes outside 0x20 to 0x7e become %XX.
std::string escape_text(std::string_view bytes);
std::string base64(std::string_view bytes);
std::string hex_digits(uint64_t value, int digits);

// One field of RFC 4180, quoted where needed. A spreadsheet runs what starts with = + - @, so
// such a field gets a leading '; a leading ' of the text itself becomes %27.
std::string csv_field(std::string_view text);
// Fields joined and ended by CR LF.
std::string csv_row(std::initializer_list<std::string_view> fields);

std::string human_bytes(uint64_t bytes);
// Rounded up, like every duration of brim; "never" for kNever.
std::string human_duration(int64_t ns);
std::string human_mode(uint32_t mode);

// Writes JSON text piece by piece; commas are its own business.
class JsonWriter {
 public:
  JsonWriter& begin(char bracket);  // '{' or '['
  JsonWriter& end(char bracket);    // '}' or ']'
  JsonWriter& name(std::string_view name);
  JsonWriter& line();  // the next value starts on a line of its own

  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(bool truth) { return raw(truth ? "true" : "false"); }
  JsonWriter& value(std::integral auto number) { return raw(std::to_string(number)); }
  JsonWriter& null() { return raw("null"); }
  JsonWriter& literal(std::string_view json) { return raw(json); }  // is JSON already
  // A duration in ns; null if it never ends.
  JsonWriter& duration(int64_t ns);

  template <class Value>
  JsonWriter& field(std::string_view key, const Value& content) {
    return name(key).value(content);
  }

  // What was written since the last take().
  std::string take();

 private:
  JsonWriter& raw(std::string_view text);
  std::string out_;
  bool comma_ = false;
  bool line_ = false;
};

// Rows in columns as wide as their widest cell; the first row is the header. The last column is
// not padded. Columns listed in `right` are aligned to the right.
std::string table(const std::vector<std::vector<std::string>>& rows,
                  std::initializer_list<size_t> right = {});
// `text` in bold if standard output is a terminal and NO_COLOR is not set.
std::string heading(const std::string& text);

// Writes to standard output; false once that fails.
bool emit(std::string_view text);
// Flushes standard output. Returns `code`, or kExitFailure with a message if anything was lost.
int finish(int code = kExitOk);

// Writes "brim: <message>" to standard error.
void complain(std::string_view message);
// complain() and the exit code that fits the status.
int report(const absl::Status& status);
int exit_code_for(const absl::Status& status);
// The stable name a status message begins with: "segment_not_found".
std::string_view status_name(const absl::Status& status);

// Ends the program with a message when a segment is cut while it is read.
void guard_against_truncation();

}  // namespace brim::tools

#endif  // BRIM_TOOLS_OUTPUT_H_
