// SPDX-License-Identifier: MIT
// get, reset, set: one key of a live segment.
#ifndef BRIM_TOOLS_KEYS_H_
#define BRIM_TOOLS_KEYS_H_

namespace brim::tools {

class Command;

void add_key_commands(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_KEYS_H_
