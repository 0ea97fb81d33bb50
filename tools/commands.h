// SPDX-License-Identifier: MIT
// The commands that create, try, list and remove segments. Each takes its command line as text,
// checks it itself, prints, and returns the exit code.
#ifndef BRIM_TOOLS_COMMANDS_H_
#define BRIM_TOOLS_COMMANDS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "brim/limiter.h"

namespace brim::tools {

struct CreateArgs {
  std::string name;
  std::optional<std::string> capacity;
  std::optional<std::string> name_bytes;
  std::optional<std::string> max_policies;
  std::optional<std::string> probe_limit;
  std::vector<std::string> policies;  // NAME=RATE
  std::optional<std::string> hash;
  std::optional<std::string> on_full;
  std::optional<std::string> mode;
  std::string group;
  std::string restore;  // a snapshot's file
  bool cluster = false;
  bool huge_pages = false;
  bool recreate = false;
  bool if_missing = false;
};
int run_create(const CreateArgs& args);

struct ListArgs {
  std::string format = "table";
};
int run_list(const ListArgs& args);

struct TryArgs {
  std::string name;
  std::optional<std::string> key;
  std::optional<std::string> key_file;  // "-" for standard input
  std::optional<std::string> policy;
  std::string cost = "1";
  std::string owner;
  std::string group;
  bool peek = false;
  std::string format = "table";
};
int run_try(const TryArgs& args);

struct UnlinkArgs {
  std::vector<std::string> names;
};
int run_unlink(const UnlinkArgs& args);

// All bytes of a file, "-" for standard input, as a key; InvalidArgument beyond 64 MiB.
absl::StatusOr<std::string> read_key(const std::string& path);

// The stable words of an answer.
std::string_view verdict_text(Verdict verdict);
std::string_view reason_text(Reason reason);

// Options that trust a segment of `owner`, a user's name or number, and one of `group`; of nobody
// else if empty.
absl::StatusOr<Options> trusting_options(const std::string& owner, const std::string& group);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_COMMANDS_H_
