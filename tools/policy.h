// SPDX-License-Identifier: MIT
// policy list, show, set, load, check, diff, rm: the policies of a live segment.
#ifndef BRIM_TOOLS_POLICY_H_
#define BRIM_TOOLS_POLICY_H_

namespace brim::tools {

class Command;

void add_policy_commands(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_POLICY_H_
