// SPDX-License-Identifier: MIT
// Reads the lines of an access log: which client asked, and when.
//
// A line's format is given as nginx's log_format is: $names with literal text between them. Bytes
// have no meaning beyond that: NUL, broken UTF-8 and control characters survive. Not thread-safe:
// one AccessLog per thread.
#ifndef BRIM_TOOLS_ACCESS_LOG_H_
#define BRIM_TOOLS_ACCESS_LOG_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace brim::replay {

inline constexpr std::string_view kCommonFormat =
    "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent";
inline constexpr std::string_view kCombinedFormat =
    "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent "
    "\"$http_referer\" \"$http_user_agent\"";

// Between the parts of a key such as addr+path. No line holds one, so keys can not be confused.
inline constexpr char kKeySeparator = '\n';

// One compiled format.
class LogFormat {
 public:
  // Errors: InvalidArgument that names the column.
  static absl::StatusOr<LogFormat> parse(std::string_view format);

  const std::vector<std::string>& names() const { return names_; }
  // Index into names(), or -1.
  int find(std::string_view name) const;
  // How far apart two stamps are at least: 1 s, or 1 ms for $msec.
  int64_t resolution_ns() const { return resolution_ns_; }

  struct Match {
    int64_t time_ns = 0;
    std::vector<std::string_view> values;  // one for each of names(); views into the line
    std::string reason;                    // why the line does not match
  };
  // What follows the last field is ignored. A field ends where the text after it first occurs, or
  // at a later occurrence if the rest does not match otherwise (a user name may hold " [").
  // Inside quotes a backslash protects the byte after it.
  bool match(std::string_view line, Match& match) const;

 private:
  enum class Stamp : uint8_t { kNone, kLocal, kIso8601, kMsec };
  // One $name, with the literal text in front of it.
  struct Field {
    std::string before;
    bool quoted = false;
    Stamp stamp = Stamp::kNone;
  };
  struct Search;

  absl::Status choose_stamp(std::string_view format);
  const std::string& text_after(size_t field) const {
    return field + 1 < fields_.size() ? fields_[field + 1].before : tail_;
  }
  size_t candidate_end(size_t field, std::string_view line, size_t from) const;
  bool match_from(size_t field, size_t at, Search& search) const;

  std::vector<Field> fields_;
  std::vector<std::string> names_;
  std::string tail_;
  int64_t resolution_ns_ = 0;
};

// What one line says.
struct LogLine {
  int64_t time_ns = 0;
  std::string key;
  std::string reason;  // why the line is broken
};

// A format with the key that is to be limited.
class AccessLog {
 public:
  // `format` is "auto" (combined, or common where a line is not), "combined", "common" or
  // "fields", which takes `fields`. `key` is one or more of addr user method path host status
  // request referer agent, or a $name of the format, joined by '+'.
  static absl::StatusOr<AccessLog> create(std::string_view format, std::string_view fields,
                                          std::string_view key);

  // False if the line is broken; then line.reason says why.
  bool parse(std::string_view text, LogLine& line);

  int64_t resolution_ns() const;

 private:
  enum class Part : uint8_t { kWhole, kMethod, kPathOfRequest, kPath };
  struct KeyField {
    std::string name;  // as the user wrote it
    size_t value = 0;  // index into the match's values
    Part part = Part::kWhole;
  };
  struct Source {
    LogFormat format;
    std::vector<KeyField> key;
  };

  static absl::StatusOr<KeyField> find_field(const LogFormat& format, std::string_view name);
  static absl::Status add_source(std::string_view format, std::string_view key,
                                 std::vector<Source>& sources);
  static bool take_key(const Source& source, const LogFormat::Match& match, LogLine& line);

  std::vector<Source> sources_;
  LogFormat::Match match_;
};

}  // namespace brim::replay

#endif  // BRIM_TOOLS_ACCESS_LOG_H_
