// SPDX-License-Identifier: MIT
#include "access_log.h"

#include <algorithm>
#include <array>
#include <utility>

#include "output.h"
#include "replay_stamp.h"
#include "replay_text.h"

namespace brim::replay {

using tools::escape_key;
using tools::escape_text;
using tools::join;

namespace {

// Lines that could be split in many ways are given up after this many tries.
constexpr int kMaxTries = 256;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_char(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

absl::Status bad_format(std::string_view format, size_t column, std::string_view what) {
  return absl::InvalidArgumentError(
      join("invalid_fields: '", escape_text(format), "', column ", column + 1, ": ", what));
}

}  // namespace

absl::StatusOr<LogFormat> LogFormat::parse(std::string_view format) {
  while (!format.empty() && format.back() == ' ') format.remove_suffix(1);
  LogFormat compiled;
  std::string literal;
  size_t at = 0;
  while (at < format.size()) {
    if (format[at] != '$') {
      literal += format[at++];
      continue;
    }
    const size_t start = at++;
    const bool braces = at < format.size() && format[at] == '{';
    if (braces) ++at;
    const size_t name_start = at;
    while (at < format.size() && is_name_char(format[at])) ++at;
    const std::string_view name = format.substr(name_start, at - name_start);
    if (name.empty()) return bad_format(format, start, "expected a name after '$'");
    if (braces && (at >= format.size() || format[at++] != '}')) {
      return bad_format(format, start, "expected '}' after the name");
    }
    if (literal.empty() && !compiled.fields_.empty()) {
      return bad_format(format, start, "text must separate two fields");
    }
    Field field;
    field.before = std::exchange(literal, "");
    field.quoted = field.before.ends_with('"') && at < format.size() && format[at] == '"';
    compiled.fields_.push_back(std::move(field));
    compiled.names_.emplace_back(name);
  }
  compiled.tail_ = literal;
  if (absl::Status status = compiled.choose_stamp(format); !status.ok()) return status;
  return compiled;
}

// The most precise of the stamps in the list.
absl::Status LogFormat::choose_stamp(std::string_view format) {
  const struct {
    const char* name;
    Stamp stamp;
    int64_t resolution_ns;
  } stamps[] = {{"msec", Stamp::kMsec, kMillisecondNs},
                {"time_iso8601", Stamp::kIso8601, kSecondNs},
                {"time_local", Stamp::kLocal, kSecondNs}};
  for (const auto& one : stamps) {
    const int index = find(one.name);
    if (index < 0) continue;
    fields_[static_cast<size_t>(index)].stamp = one.stamp;
    resolution_ns_ = one.resolution_ns;
    return absl::OkStatus();
  }
  return bad_format(format, 0, "no time; give $time_local, $time_iso8601 or $msec");
}

int LogFormat::find(std::string_view name) const {
  const auto found = std::find(names_.begin(), names_.end(), name);
  return found == names_.end() ? -1 : static_cast<int>(found - names_.begin());
}

struct LogFormat::Search {
  std::string_view line;
  Match& match;
  int tries = 0;
  size_t furthest = 0;    // the field that failed, of the attempt that came furthest
  bool bad_time = false;  // and whether it was there, but no time
};

// The end of `field` at or after `from`: where the text after it occurs; npos if nowhere.
size_t LogFormat::candidate_end(size_t field, std::string_view line, size_t from) const {
  const std::string& after = text_after(field);
  if (after.empty()) return std::min(line.find(' ', from), line.size());
  if (!fields_[field].quoted) return line.find(after, from);
  while (from < line.size() && line[from] != '"') from += line[from] == '\\' ? 2 : 1;
  return from < line.size() && line.substr(from).starts_with(after) ? from : std::string_view::npos;
}

bool LogFormat::match_from(size_t field, size_t at, Search& search) const {
  if (field == fields_.size()) return true;
  const auto fail = [&](bool bad_time) {
    // A stamp that is no time says more than the tries after it.
    if (field > search.furthest || (field == search.furthest && !search.bad_time)) {
      search.furthest = field;
      search.bad_time = bad_time;
    }
    return false;
  };
  for (size_t from = at; search.tries < kMaxTries;) {
    ++search.tries;
    const size_t end = candidate_end(field, search.line, from);
    if (end == std::string_view::npos) return fail(false);
    const std::string_view value = search.line.substr(at, end - at);
    search.match.values[field] = value;
    int64_t& ns = search.match.time_ns;
    bool good = true;
    switch (fields_[field].stamp) {
      case Stamp::kNone:
        break;
      case Stamp::kLocal:
        good = parse_time_local(value, ns);
        break;
      case Stamp::kIso8601:
        good = parse_time_iso8601(value, ns);
        break;
      case Stamp::kMsec:
        good = parse_msec(value, ns);
        break;
    }
    if (!good) fail(true);
    if (good && match_from(field + 1, end + text_after(field).size(), search)) return true;
    if (fields_[field].quoted || text_after(field).empty()) return false;
    from = end + 1;
  }
  return false;
}

bool LogFormat::match(std::string_view line, Match& match) const {
  match.values.assign(fields_.size(), {});
  Search search{line, match};
  if (!line.starts_with(fields_.front().before)) {
    match.reason = join("the line does not start with '", escape_text(fields_.front().before), "'");
    return false;
  }
  if (match_from(0, fields_.front().before.size(), search)) return true;
  const size_t field = search.furthest;
  match.reason = search.bad_time
                     ? join("$", names_[field], " is not a time of 1990 to 2089")
                     : join("no '", escape_text(text_after(field)), "' after $", names_[field]);
  return false;
}

namespace {

// A short name and the $names it may stand for, best first.
struct Alias {
  std::string_view name;
  std::array<std::string_view, 3> variables;
};
constexpr std::array<Alias, 9> kAliases = {{{"addr", {"remote_addr"}},
                                            {"user", {"remote_user"}},
                                            {"method", {"request_method", "request"}},
                                            {"path", {"request_uri", "uri", "request"}},
                                            {"host", {"host", "http_host", "server_name"}},
                                            {"status", {"status"}},
                                            {"request", {"request"}},
                                            {"referer", {"http_referer"}},
                                            {"agent", {"http_user_agent"}}}};

// "GET /path?query HTTP/1.1" -> "GET" or "/path?query"; "-" if the request is not of that form.
std::string_view request_word(std::string_view request, int index) {
  const size_t first = request.find(' ');
  if (first == std::string_view::npos || first == 0) return "-";
  if (index == 0) return request.substr(0, first);
  const std::string_view rest = request.substr(first + 1);
  const std::string_view path = rest.substr(0, rest.find(' '));
  return path.empty() ? "-" : path;
}

}  // namespace

absl::StatusOr<AccessLog::KeyField> AccessLog::find_field(const LogFormat& format,
                                                          std::string_view name) {
  KeyField field;
  field.name = name;
  if (name.starts_with('$')) name.remove_prefix(1);
  std::array<std::string_view, 3> variables = {name};
  const auto* const alias = std::find_if(kAliases.begin(), kAliases.end(),
                                         [&](const Alias& one) { return one.name == name; });
  if (alias != kAliases.end()) variables = alias->variables;
  for (const std::string_view variable : variables) {
    const int index = variable.empty() ? -1 : format.find(variable);
    if (index < 0) continue;
    field.value = static_cast<size_t>(index);
    const bool of_request = variable == "request";
    if (name == "method" && of_request) field.part = Part::kMethod;
    if (name == "path") field.part = of_request ? Part::kPathOfRequest : Part::kPath;
    return field;
  }
  std::string known;
  for (const std::string& one : format.names()) known += join(known.empty() ? "$" : " $", one);
  return absl::InvalidArgumentError(
      join("invalid_key: the format has no field '", escape_key(name), "'; it has ", known,
           ", and the short names addr user method path host status request referer agent for "
           "those of them"));
}

absl::Status AccessLog::add_source(std::string_view format, std::string_view key,
                                   std::vector<Source>& sources) {
  absl::StatusOr<LogFormat> compiled = LogFormat::parse(format);
  if (!compiled.ok()) return compiled.status();
  Source source{*std::move(compiled), {}};
  for (bool more = true; more;) {
    const size_t plus = key.find('+');
    absl::StatusOr<KeyField> field = find_field(source.format, key.substr(0, plus));
    if (!field.ok()) return field.status();
    source.key.push_back(*std::move(field));
    more = plus != std::string_view::npos;
    if (more) key.remove_prefix(plus + 1);
  }
  sources.push_back(std::move(source));
  return absl::OkStatus();
}

absl::StatusOr<AccessLog> AccessLog::create(std::string_view format, std::string_view fields,
                                            std::string_view key) {
  AccessLog log;
  absl::Status status;
  if (format == "fields" || (format == "auto" && !fields.empty())) {
    if (fields.empty()) return absl::InvalidArgumentError("invalid_fields: give --fields LIST");
    status = add_source(fields, key, log.sources_);
  } else if (!fields.empty()) {
    return absl::InvalidArgumentError("invalid_fields: --fields goes with --format fields");
  } else if (format == "common") {
    status = add_source(kCommonFormat, key, log.sources_);
  } else if (format == "combined" || format == "auto") {
    status = add_source(kCombinedFormat, key, log.sources_);
    // A key that needs referer or agent has no fallback.
    if (status.ok() && format == "auto") {
      add_source(kCommonFormat, key, log.sources_).IgnoreError();
    }
  } else {
    return absl::InvalidArgumentError("invalid_format: give auto, combined, common or fields");
  }
  if (!status.ok()) return status;
  return log;
}

int64_t AccessLog::resolution_ns() const { return sources_.front().format.resolution_ns(); }

bool AccessLog::take_key(const Source& source, const LogFormat::Match& match, LogLine& line) {
  line.key.clear();
  for (const KeyField& field : source.key) {
    if (&field != &source.key.front()) line.key += kKeySeparator;
    std::string_view value = match.values[field.value];
    if (field.part == Part::kMethod) value = request_word(value, 0);
    if (field.part == Part::kPathOfRequest) value = request_word(value, 1);
    if (field.part == Part::kPath || field.part == Part::kPathOfRequest) {
      value = value.substr(0, value.find('?'));
    }
    if (value.empty() && source.format.names()[field.value] == "remote_addr") {
      line.reason = "$remote_addr is empty";
      return false;
    }
    if (value.empty()) value = "-";  // as servers write what is not there
    line.key += value;
  }
  return true;
}

bool AccessLog::parse(std::string_view input, LogLine& line) {
  for (const Source& source : sources_) {
    if (!source.format.match(input, match_)) continue;
    line.time_ns = match_.time_ns;
    return take_key(source, match_, line);
  }
  line.reason = match_.reason;  // of the last format: the most lenient
  return false;
}

}  // namespace brim::replay
