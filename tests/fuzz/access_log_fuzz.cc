// SPDX-License-Identifier: MIT
// Goal: any bytes are lines of a log; a line is a request with a key and a time, or is refused with
// a reason; time stamps mean what they say. Method: the bytes as a file through LogInput, whose
// lines must be those bytes again; each line through the format that the input names.
// Input: format 1, the list of fields up to a line end, the key up to a line end, the log.
#include <sys/mman.h>
#include <unistd.h>

#include "access_log.h"
#include "output.h"
#include "replay_input.h"
#include "replay_report.h"
#include "replay_stamp.h"
#include "replay_text.h"
#include "tests/fuzz/fuzz.h"

namespace brim::replay {
namespace {

using fuzz::Input;
using fuzz::printable_ascii;
using fuzz::require;

constexpr int64_t kFirstNs = int64_t{631152000} * kSecondNs;  // 1990
constexpr int64_t kEndNs = int64_t{3786912000} * kSecondNs;   // 2090

int log_file = -1;

void require_stamp(bool good, int64_t ns) {
  if (!good) return;
  require(ns >= kFirstNs && ns < kEndNs, "a time out of range");
  int64_t again = 0;
  const int64_t whole = ns - ns % kSecondNs;
  require(parse_time_iso8601(utc(whole), again) && again == whole, "a time that says another");
}

void stamps(std::string_view text) {
  int64_t ns = 0;
  require_stamp(parse_time_local(text, ns), ns);
  require_stamp(parse_time_iso8601(text, ns), ns);
  require_stamp(parse_msec(text, ns), ns);
}

// The file's lines, put together again.
std::vector<std::string> read_lines(std::string_view bytes) {
  require(ftruncate(log_file, 0) == 0 &&
              pwrite(log_file, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
          "write the log");
  std::vector<std::string> lines;
  absl::StatusOr<LogInput> input = LogInput::open({"/proc/self/fd/" + std::to_string(log_file)});
  require(input.ok(), "open the log");
  size_t at = 0;
  for (std::string_view line; input->next(line);) {
    const std::string_view rest = bytes.substr(at);
    const std::string_view whole = rest.substr(0, rest.find('\n'));
    const std::string_view wanted =
        whole.ends_with('\r') ? whole.substr(0, whole.size() - 1) : whole;
    require(input->too_long() ? whole.starts_with(line.substr(0, kMaxLine)) : line == wanted,
            "another line");
    require(input->too_long() == (wanted.size() > kMaxLine), "too long or not");
    lines.emplace_back(line);
    at += std::min(rest.size(), whole.size() + 1);
    require(input->line_number() == lines.size(), "another number");
  }
  const bool gzip = bytes.starts_with("\x1f\x8b");
  require(input->status().ok() != gzip, "another end", std::string(input->status().message()));
  require(gzip || at == bytes.size(), "bytes that are in no line");
  return lines;
}

}  // namespace
}  // namespace brim::replay

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  brim::replay::log_file = memfd_create("log", MFD_CLOEXEC);
  brim::fuzz::require(brim::replay::log_file >= 0, "memfd_create");
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brim::replay;
  constexpr std::string_view kFormats[] = {"auto", "combined", "common", "fields"};
  Input input(data, size);
  const std::string_view format = kFormats[input.byte() % 4];
  const std::string_view fields = input.take_until('\n');
  const std::string_view key = input.take_until('\n');
  stamps(fields);
  const std::vector<std::string> lines = read_lines(input.rest());
  absl::StatusOr<AccessLog> log = AccessLog::create(format, fields, key);
  if (!log.ok()) {
    const std::string message(log.status().message());
    require(printable_ascii(message, "") && message.find(": ") != std::string::npos, "a message",
            message);
    return 0;
  }
  for (const std::string& text : lines) {
    stamps(text);
    LogLine line;
    if (!log->parse(text, line)) {
      require(!line.reason.empty() && printable_ascii(line.reason, ""), "a reason", line.reason);
      continue;
    }
    require(line.time_ns >= kFirstNs && line.time_ns < kEndNs, "a time out of range");
    const auto parts = std::count(line.key.begin(), line.key.end(), kKeySeparator) + 1;
    require(parts == std::count(key.begin(), key.end(), '+') + 1, "another number of parts");
    require(!line.key.empty() && printable_ascii(shown_key(line.key), ""), "a key");
  }
  return 0;
}
