// SPDX-License-Identifier: MIT
// stats: every counter and gauge of a segment, once or again and again.
#ifndef BRIM_TOOLS_STATS_H_
#define BRIM_TOOLS_STATS_H_

namespace brim::tools {

class Command;

void add_stats_command(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_STATS_H_
