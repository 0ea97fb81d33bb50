// SPDX-License-Identifier: MIT
// `brim check`: a file of policies read, its worst cases worked out and its traps pointed at,
// before any of it is in force.
#ifndef BRIM_TOOLS_CHECK_H_
#define BRIM_TOOLS_CHECK_H_

#include <string>

namespace brim::tools {

struct CheckArgs {
  std::string file;
  std::string format = "text";  // or json
  bool strict = false;          // warnings are failures
};
// Exit code: 0; 1 if there are warnings and `strict`, or the file can not be read; 2 if it is
// wrong.
int run_check(const CheckArgs& args);

class Command;
void describe_check(Command& command);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_CHECK_H_
