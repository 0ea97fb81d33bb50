// SPDX-License-Identifier: MIT
// Policies in a file (TOML 1.0), so that they can be reviewed, checked and shared:
//
//   [segment]                     # optional: how a segment for them is made
//   capacity = "1M"
//   [policies]
//   api = "10/s burst 20; 1000/h" # the text of brim/policy.h
//   [policies.login]              # or its parts as keys
//   rates = ["5/m", "20/h"]
//   algorithm = "sliding-log"
//   ban = {after = 20, within = "1m", for = "10m", factor = 2}
//   [[override]]                  # of one policy, or of all without `policy`
//   policy = "api"
//   cidr = "10.0.0.0/8"           # or key = "..."
//   use = "unlimited"             # or "deny", or another policy of the file
//
// Reads the file and nothing else: no environment, no other files. Plain values, any thread.
#ifndef BRIM_POLICY_FILE_H_
#define BRIM_POLICY_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "brim/limiter.h"
#include "brim/policy.h"

namespace brim {

inline constexpr size_t kMaxPolicyFileBytes = size_t{1} << 20;

// Requests of some keys are decided otherwise.
struct FileOverride {
  std::string policy;  // whose requests; empty: those of every policy
  std::string match;   // the key's bytes, or the network in canonical form, "10.0.0.0/8"
  bool network = false;
  std::string use;  // "unlimited", "deny" or the name of a policy of the file
  uint32_t line = 0;
};

struct PolicyFile {
  Options segment = {};                    // what [segment] says; its `policies` are empty
  std::vector<NamedPolicy> policies = {};  // in the file's order, in canonical form
  std::vector<Policy> parsed = {};         // the same, in the same order
  std::vector<uint32_t> lines = {};        // where each begins
  std::vector<FileOverride> overrides = {};
};

// Reads `text`; `name` stands for it in messages.
// Errors: InvalidArgument "policy_file_invalid: NAME:LINE:COLUMN: what", the first one. In a
// policy's text the column is that of the word that is wrong.
absl::StatusOr<PolicyFile> parse_policy_file(std::string_view text, std::string_view name);

// Reads the file, at most kMaxPolicyFileBytes of it.
// Errors: as above, and policy_file_not_found, policy_file_unreadable.
absl::StatusOr<PolicyFile> read_policy_file(const std::string& path);

}  // namespace brim

#endif  // BRIM_POLICY_FILE_H_
