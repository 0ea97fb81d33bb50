// SPDX-License-Identifier: MIT
// get, reset, set: one key of a live segment.
#ifndef BRIM_TOOLS_KEYS_H_
#define BRIM_TOOLS_KEYS_H_

namespace CLI {
class App;
}

namespace brim::tools {

void add_key_commands(CLI::App& app, int& exit_code);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_KEYS_H_
