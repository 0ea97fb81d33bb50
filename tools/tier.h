// SPDX-License-Identifier: MIT
// The store that nodes share: where it is, as command lines say it, and the commands below `tier`.
#ifndef BRIM_TOOLS_TIER_H_
#define BRIM_TOOLS_TIER_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "brim/tier.h"

namespace brim::tools {

class Command;

// Where the store is. Nothing secret needs to be said here: every user of a machine sees the
// arguments of all its processes.
struct StoreArgs {
  std::string url;
  std::string url_file;
  std::string user;
  std::string password_file;
  std::string ca_file;
  std::string cert_file;
  std::string key_file;
  bool insecure = false;
  std::optional<std::string> prefix;
  std::optional<std::string> timeout;
};
// How an agent exchanges.
struct TierArgs : StoreArgs {
  std::optional<std::string> interval;
  std::optional<std::string> hold;
  std::optional<std::string> share;
  std::optional<std::string> forget;
  std::string node_name;
  bool texts = false;
};

void add_store_options(Command& command, StoreArgs& args);
void add_tier_options(Command& command, TierArgs& args);

// Whether a store is named: by an option or in the environment.
bool names_store(const StoreArgs& args);
absl::StatusOr<TierOptions> store_options(const StoreArgs& args);
absl::StatusOr<TierOptions> tier_options(const TierArgs& args);

void add_tier_command(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_TIER_H_
