// SPDX-License-Identifier: MIT
// export and import: a segment's policies, overrides and keys as lines of JSON, the format of
// docs/reference/export.md.
#ifndef BRIM_TOOLS_EXPORT_H_
#define BRIM_TOOLS_EXPORT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "absl/status/statusor.h"
#include "brim/state.h"

namespace brim::tools {

class Command;

inline constexpr uint32_t kExportVersion = 1;
inline constexpr size_t kMostExportLine = size_t{1} << 20;
inline constexpr size_t kMostExportPolicies = 4096;

// The first line.
struct ExportHead {
  uint32_t version = 0;
  std::string uuid;
  std::string hash_key;  // bytes; empty if it was not asked for
  int64_t wall_ns = 0;
};
// The last one: how many lines of each kind were before it.
struct ExportEnd {
  uint64_t policies = 0;
  uint64_t overrides = 0;
  uint64_t keys = 0;
};
// `number` of the policy and of its rates is the reader's to give.
struct ExportPolicy {
  PolicyState state;
};
struct ExportOverride {
  OverrideState state;
  int64_t after_ns = 0;
};
// state.as_of_ns: after the head's wall_ns.
struct ExportKey {
  std::string policy;
  KeyState state;
};
using ExportLine = std::variant<ExportHead, ExportPolicy, ExportOverride, ExportKey, ExportEnd>;

// One line, whoever wrote it. InvalidArgument says what is wrong with it. What is returned is in
// the ranges that StateWriter asks for.
absl::StatusOr<ExportLine> parse_export_line(std::string_view line);

const char* kind_name(StateKind kind);
std::optional<StateKind> kind_of(std::string_view name);
// The bytes; nothing if it is not RFC 4648 base64 with padding, in its one spelling.
std::optional<std::string> base64_bytes(std::string_view text);

void add_export_command(Command& brim);
void add_import_command(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_EXPORT_H_
