// SPDX-License-Identifier: MIT
// Goal: any file is read, or refused with a line and column of it; what was read, written down
// again, reads as the same. Method: parse; write the result as the plainest TOML; parse that.
// Input: the file.
#include <charconv>

#include "brim/policy_file.h"
#include "src/base/text.h"
#include "tests/fuzz/fuzz.h"

namespace brim::fuzz {
namespace {

// policy_file_invalid: f:LINE:COLUMN: what
void require_place(std::string_view message, std::string_view text) {
  constexpr std::string_view kPrefix = "policy_file_invalid: f:";
  require(message.starts_with(kPrefix), "another error", message);
  require(printable_ascii(message, "") && message.size() < 4000, "a message", message);
  size_t line = 0;
  size_t column = 0;
  const char* const end = message.data() + message.size();
  auto [at, first] = std::from_chars(message.data() + kPrefix.size(), end, line);
  require(first == std::errc() && at != end && *at == ':', "no line", message);
  auto [behind, second] = std::from_chars(at + 1, end, column);
  require(second == std::errc() && std::string_view(behind, 2) == ": ", "no column", message);
  const auto lines = static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  require(line >= 1 && line <= lines + 1, "a line that the file has not", message);
  require(column >= 1 && column <= text.size() + 1, "a column that no line has", message);
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += cat("\\", std::string_view(&c, 1));
    } else if ((c >= 0 && c < 0x20) || c == 0x7f) {
      out += cat("\\u", hex(static_cast<uint8_t>(c), 4));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string written(const PolicyFile& file) {
  const Options& segment = file.segment;
  std::string out = "[segment]\n";
  const auto number = [&out](std::string_view name, uint64_t value) {
    if (value != 0) out += cat(name, " = ", value, "\n");
  };
  number("capacity", segment.capacity);
  if (segment.name_bytes == Options::kNoNames) out += "name_bytes = 0\n";
  if (segment.name_bytes != Options::kNoNames) number("name_bytes", segment.name_bytes);
  number("max_policies", segment.max_policies);
  number("cells_per_key", segment.cells_per_key);
  number("overrides", segment.overrides);
  if (segment.hash == HashKind::kSipHash) out += "hash = \"siphash\"\n";
  if (segment.hash == HashKind::kXxh3) out += "hash = \"xxh3\"\n";
  constexpr const char* kOnFull[] = {"", "evict", "allow", "deny"};
  const auto on_full = static_cast<size_t>(segment.on_full);
  if (on_full != 0) out += cat("on_full = ", quoted(kOnFull[on_full]), "\n");
  out += "[policies]\n";
  for (const NamedPolicy& policy : file.policies) {
    out += cat(quoted(policy.name), " = ", quoted(policy.text), "\n");
  }
  for (const FileOverride& one : file.overrides) {
    out += "[[override]]\n";
    if (!one.policy.empty()) out += cat("policy = ", quoted(one.policy), "\n");
    out += cat(one.network ? "cidr = " : "key = ", quoted(one.match), "\nuse = ", quoted(one.use),
               "\n");
  }
  return out;
}

void require_same(const PolicyFile& a, const PolicyFile& b, std::string_view text) {
  require(a.parsed == b.parsed && a.policies.size() == b.policies.size(), "policies", text);
  for (size_t i = 0; i < a.policies.size(); ++i) {
    require(a.policies[i].name == b.policies[i].name && a.policies[i].text == b.policies[i].text,
            "a policy", text);
  }
  require(a.overrides.size() == b.overrides.size(), "overrides", text);
  for (size_t i = 0; i < a.overrides.size(); ++i) {
    const FileOverride& x = a.overrides[i];
    const FileOverride& y = b.overrides[i];
    require(x.policy == y.policy && x.match == y.match && x.network == y.network && x.use == y.use,
            "an override", text);
  }
  const Options& x = a.segment;
  const Options& y = b.segment;
  require(x.capacity == y.capacity && x.name_bytes == y.name_bytes &&
              x.max_policies == y.max_policies && x.cells_per_key == y.cells_per_key &&
              x.overrides == y.overrides && x.hash == y.hash && x.on_full == y.on_full,
          "[segment]", text);
}

}  // namespace
}  // namespace brim::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) { return 0; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brim;
  using namespace brim::fuzz;
  const std::string_view text = as_text(data, size);
  const absl::StatusOr<PolicyFile> file = parse_policy_file(text, "f");
  if (!file.ok()) {
    require_place({file.status().message().data(), file.status().message().size()}, text);
    return 0;
  }
  require(file->parsed.size() == file->policies.size(), "parsed");
  require(file->lines.size() == file->policies.size(), "lines");
  for (size_t i = 0; i < file->policies.size(); ++i) {
    require(valid_policy_name(file->policies[i].name), "a name", file->policies[i].name);
    require(policy_text(file->parsed[i]) == file->policies[i].text, "not canonical");
  }
  const std::string again = written(*file);
  const absl::StatusOr<PolicyFile> second = parse_policy_file(again, "f");
  require(second.ok(), "what was read can not be written down", again);
  require_same(*file, *second, again);
  return 0;
}
