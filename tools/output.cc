// SPDX-License-Identifier: MIT
#include "output.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "brim/decision.h"

namespace brim::tools {

namespace {

constexpr char kHex[] = "0123456789ABCDEF";

void append_percent(std::string& out, char c) {
  const auto byte = static_cast<unsigned char>(c);
  out += '%';
  out += kHex[byte >> 4];
  out += kHex[byte & 15];
}

// 12.3 with one decimal, rounded up.
std::string one_decimal(uint64_t value, uint64_t unit) {
  const uint64_t tenths = (value / unit) * 10 + ((value % unit) * 10 + unit - 1) / unit;
  if (tenths % 10 == 0) return std::to_string(tenths / 10);
  return join(tenths / 10, ".", tenths % 10);
}

// The factor of a suffix; 0 if there is no such suffix.
uint64_t suffix_factor(std::string_view suffix) {
  if (suffix.empty()) return 1;
  if (suffix == "k" || suffix == "K") return uint64_t{1} << 10;
  if (suffix == "m" || suffix == "M") return uint64_t{1} << 20;
  if (suffix == "g" || suffix == "G") return uint64_t{1} << 30;
  return 0;
}

// A mapped file that somebody cuts raises SIGBUS at the next read beyond its end. Nothing can be
// trusted then, so the guard says why and ends; it does not jump back over live objects.
void on_bus_error(int) {
  constexpr char kMessage[] =
      "brim: segment_truncated: the segment was cut while it was read; recreate it (brim create "
      "--recreate)\n";
  const ssize_t ignored = write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  static_cast<void>(ignored);
  _exit(kExitNoSegment);
}

}  // namespace

absl::StatusOr<Format> parse_format(const std::string& text) {
  if (text == "table") return Format::kTable;
  if (text == "json") return Format::kJson;
  if (text == "csv") return Format::kCsv;
  return absl::InvalidArgumentError(
      join("invalid_option: format is '", escape_text(text), "'; give table, json or csv"));
}

absl::StatusOr<uint64_t> parse_count(const std::string& option, const std::string& text,
                                     uint64_t least, uint64_t most) {
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  const uint64_t factor = suffix_factor(std::string_view(rest, static_cast<size_t>(end - rest)));
  const bool valid = error == std::errc() && factor != 0 && number <= UINT64_MAX / factor;
  if (valid && number * factor >= least && number * factor <= most) return number * factor;
  return absl::InvalidArgumentError(join("invalid_option: ", option, " is '", escape_text(text),
                                         "'; give a whole number from ", least, " to ", most,
                                         most >= 65536 ? ", such as 100 or 64k" : ", such as 100"));
}

std::string escape_key(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (const char c : bytes) {
    if (c >= 0x21 && c <= 0x7e && c != '%' && c != '"' && c != '\\' && c != ',') {
      out += c;
    } else {
      append_percent(out, c);
    }
  }
  return out;
}

std::string escape_text(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (const char c : bytes) {
    if (c >= 0x20 && c <= 0x7e) {
      out += c;
    } else {
      append_percent(out, c);
    }
  }
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t triple = 0;
    for (size_t j = 0; j < 3; ++j) {
      triple = triple << 8 | (j < n ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    }
    for (size_t j = 0; j < 4; ++j) {
      out += j <= n ? kDigits[triple >> (18 - 6 * j) & 63] : '=';
    }
  }
  return out;
}

std::string hex_digits(uint64_t value, int digits) {
  std::string out;
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) {
    out += "0123456789abcdef"[value >> shift & 15];
  }
  return out;
}

std::string csv_field(std::string_view text) {
  std::string out;
  if (!text.empty()) {
    const char first = text.front();
    if (std::strchr("=+-@\t\r", first) != nullptr) out += '\'';
    if (first == '\'') {
      append_percent(out, first);
      text.remove_prefix(1);
    }
  }
  out += text;
  if (out.find_first_of(",\"\r\n") == std::string::npos) return out;
  std::string quoted = "\"";
  for (const char c : out) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string csv_row(std::initializer_list<std::string_view> fields) {
  std::string out;
  bool first = true;
  for (const std::string_view field : fields) {
    if (!first) out += ',';
    first = false;
    out += csv_field(field);
  }
  return out + "\r\n";
}

std::string human_bytes(uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (unit + 1 < kUnits.size() && bytes >> (10 * (unit + 1)) != 0) ++unit;
  return join(one_decimal(bytes, uint64_t{1} << (10 * unit)), " ", kUnits[unit]);
}

std::string human_duration(int64_t ns) {
  if (ns == kNever) return "never";
  if (ns <= 0) return "0s";
  const auto span = static_cast<uint64_t>(ns);
  if (span < 1'000) return join(span, "ns");
  if (span < 1'000'000) return join(one_decimal(span, 1'000), "us");
  if (span < 1'000'000'000) return join(one_decimal(span, 1'000'000), "ms");
  if (span < 60'000'000'000) return join(one_decimal(span, 1'000'000'000), "s");
  const uint64_t seconds = (span + 999'999'999) / 1'000'000'000;
  if (seconds < 3600) return join(seconds / 60, "m", seconds % 60, "s");
  const uint64_t minutes = (seconds + 59) / 60;
  if (minutes < 1440) return join(minutes / 60, "h", minutes % 60, "m");
  const uint64_t hours = (minutes + 59) / 60;
  return join(hours / 24, "d", hours % 24, "h");
}

std::string human_mode(uint32_t mode) {
  std::string out;
  for (int shift = 9; shift >= 0; shift -= 3) out += static_cast<char>('0' + (mode >> shift & 7));
  return out;
}

JsonWriter& JsonWriter::raw(std::string_view text) {
  if (comma_) out_ += line_ ? "," : ", ";
  if (line_) out_ += '\n';
  out_ += text;
  comma_ = true;
  line_ = false;
  return *this;
}

JsonWriter& JsonWriter::begin(char bracket) {
  raw(std::string_view(&bracket, 1));
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::end(char bracket) {
  if (line_) out_ += '\n';
  out_ += bracket;
  comma_ = true;
  line_ = false;
  return *this;
}

JsonWriter& JsonWriter::name(std::string_view name) {
  value(name);
  out_ += ": ";
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::line() {
  line_ = true;
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : escape_text(text)) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return raw(quoted += '"');
}

JsonWriter& JsonWriter::duration(int64_t ns) { return ns == kNever ? null() : value(ns); }

std::string JsonWriter::take() {
  std::string text;
  text.swap(out_);
  return text;
}

std::string table(const std::vector<std::vector<std::string>>& rows,
                  std::initializer_list<size_t> right) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string pad(widths[i] - row[i].size(), ' ');
      const bool to_right = std::find(right.begin(), right.end(), i) != right.end();
      if (i != 0) line += "  ";
      line += to_right ? pad + row[i] : row[i] + (i + 1 < row.size() ? pad : "");
    }
    out += &row == rows.data() ? heading(line) : line;
    out += '\n';
  }
  return out;
}

std::string heading(const std::string& text) {
  static const bool coloured = [] {
    const char* const no_color = std::getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) != 0 && (no_color == nullptr || *no_color == '\0');
  }();
  return coloured ? "\x1b[1m" + text + "\x1b[0m" : text;
}

bool emit(std::string_view text) {
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
}

int finish(int code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  complain(join("write_failed: standard output: ", std::strerror(errno)));
  return kExitFailure;
}

void complain(std::string_view message) {
  const std::string line = join("brim: ", escape_text(message), "\n");
  std::fwrite(line.data(), 1, line.size(), stderr);
}

std::string_view status_name(const absl::Status& status) {
  const std::string_view text(status.message().data(), status.message().size());
  return text.substr(0, text.find(':'));
}

int exit_code_for(const absl::Status& status) {
  // Names whose canonical code says less than they do.
  constexpr std::array<std::pair<std::string_view, ExitCode>, 8> kByName = {{
      {"segment_not_found", kExitNoSegment},
      {"policy_not_found", kExitUsage},
      {"override_not_found", kExitUsage},
      {"ban_not_found", kExitUsage},
      {"policy_mismatch", kExitIncompatible},
      {"read_only_file_system", kExitFailure},
      {"no_policy", kExitFailure},
      {"no_directory", kExitFailure},
  }};
  if (status.ok()) return kExitOk;
  for (const auto& [name, code] : kByName) {
    if (status_name(status) == name) return code;
  }
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kUnimplemented:
      return kExitIncompatible;
    default:
      return kExitFailure;
  }
}

int report(const absl::Status& status) {
  complain(std::string_view(status.message().data(), status.message().size()));
  return exit_code_for(status);
}

void guard_against_truncation() {
  struct sigaction action {};
  action.sa_handler = on_bus_error;
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace brim::tools
