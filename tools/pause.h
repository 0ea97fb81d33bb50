// SPDX-License-Identifier: MIT
// pause, resume, resize: what is done to a whole segment while it is in use.
#ifndef BRIM_TOOLS_PAUSE_H_
#define BRIM_TOOLS_PAUSE_H_

namespace brim::tools {

class Command;

void add_pause_commands(Command& brim);
void add_resize_command(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_PAUSE_H_
