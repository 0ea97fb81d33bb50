// SPDX-License-Identifier: MIT
// Patterns as a shell has them, on bytes: a key may hold any, zeros too, and knows no locale.
#ifndef BRIM_TOOLS_GLOB_H_
#define BRIM_TOOLS_GLOB_H_

#include <string_view>

namespace brim::tools {

// * any bytes, ? one byte, [a-z] one of these, [!a-z] none of these, \ takes the next as it is.
// A [ without its ] stands for itself. Takes time by pattern times text at worst.
bool glob_match(std::string_view pattern, std::string_view text);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_GLOB_H_
