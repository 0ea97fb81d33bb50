// SPDX-License-Identifier: MIT
// watch: one key, a line each time its state changes.
#ifndef BRIM_TOOLS_WATCH_H_
#define BRIM_TOOLS_WATCH_H_

namespace brim::tools {

class Command;

void add_watch_command(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_WATCH_H_
