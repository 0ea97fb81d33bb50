// SPDX-License-Identifier: MIT
// The time stamps of access logs. Pure functions.
#ifndef BRIM_TOOLS_REPLAY_STAMP_H_
#define BRIM_TOOLS_REPLAY_STAMP_H_

#include <cstdint>
#include <string_view>

namespace brim::replay {

// Parse a stamp to ns since 1970. False if it is none, or of a year outside 1990 to 2089: a replay
// that spans more than a century would leave the limiter's token clock.
bool parse_time_local(std::string_view input, int64_t& ns);    // 10/Oct/2000:13:55:36 -0700
bool parse_time_iso8601(std::string_view input, int64_t& ns);  // 2000-10-10T13:55:36-07:00, or Z
bool parse_msec(std::string_view input, int64_t& ns);          // 971211336.123

}  // namespace brim::replay

#endif  // BRIM_TOOLS_REPLAY_STAMP_H_
