// SPDX-License-Identifier: MIT
// The compiler's 128-bit integer, which ISO C++ lacks.
#ifndef BRIM_SRC_BASE_UINT128_H_
#define BRIM_SRC_BASE_UINT128_H_

namespace brim {
__extension__ using uint128 = unsigned __int128;
}  // namespace brim

#endif  // BRIM_SRC_BASE_UINT128_H_
