// SPDX-License-Identifier: MIT
// change, factor, apply: policies of a live segment, for all attached processes at once. `brim
// policy set` and `load` are the same under other names.
#ifndef BRIM_TOOLS_CHANGE_H_
#define BRIM_TOOLS_CHANGE_H_

namespace brim::tools {

class Command;

void describe_change(Command& command, bool may_define, const char* footer);
void describe_apply(Command& command, const char* footer);
void describe_factor(Command& command);

void add_change_commands(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_CHANGE_H_
