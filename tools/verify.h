// SPDX-License-Identifier: MIT
// The command that checks the integrity of a live segment and repairs what is safe to repair.
#ifndef BRIM_TOOLS_VERIFY_H_
#define BRIM_TOOLS_VERIFY_H_

#include <optional>
#include <string>

namespace brim::tools {

class Command;

struct VerifyArgs {
  std::string name;
  bool repair = false;
  bool strict = false;
  std::optional<std::string> memory;
  std::string limit = "1000";
  std::string owner;
  std::string group;
  std::string format = "table";
};
int run_verify(const VerifyArgs& args);

void add_verify_command(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_VERIFY_H_
