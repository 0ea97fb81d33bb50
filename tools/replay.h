// SPDX-License-Identifier: MIT
// `brim replay`: an access log run through the limiter, to choose a limit before it is enforced.
#ifndef BRIM_TOOLS_REPLAY_H_
#define BRIM_TOOLS_REPLAY_H_

namespace brim::tools {
class Command;
}

// Adds the command. Its callback sets `exit_code`: 0 done, 1 nothing could be read, 2 wrong usage.
// `exit_code` must outlive `app`.
void add_replay_command(brim::tools::Command& brim);

#endif  // BRIM_TOOLS_REPLAY_H_
