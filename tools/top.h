// SPDX-License-Identifier: MIT
// top: what happens in a segment, as it happens.
#ifndef BRIM_TOOLS_TOP_H_
#define BRIM_TOOLS_TOP_H_

namespace brim::tools {

class Command;

void add_top_command(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_TOP_H_
