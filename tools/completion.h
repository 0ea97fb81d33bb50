// SPDX-License-Identifier: MIT
// `brim completion`: a script that makes a shell complete brim's commands, options and segments.
#ifndef BRIM_TOOLS_COMPLETION_H_
#define BRIM_TOOLS_COMPLETION_H_

namespace brim::tools {

class Command;

void add_completion_command(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_COMPLETION_H_
