// SPDX-License-Identifier: MIT
// The commands that change a live segment: policies, factors, overrides, a whole file of them.
#ifndef BRIM_TOOLS_CHANGE_H_
#define BRIM_TOOLS_CHANGE_H_

#include <string>

namespace brim::tools {

class Command;

void add_change_commands(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_CHANGE_H_
