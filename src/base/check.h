// SPDX-License-Identifier: MIT
// Assertions for set-up code. Never used between a request and its decision: a worker must not
// die because of us.
#ifndef BRIM_SRC_BASE_CHECK_H_
#define BRIM_SRC_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

#define BRIM_CHECK(condition)                                                                  \
  do {                                                                                         \
    if (!(condition)) {                                                                        \
      std::fprintf(stderr, "brim: %s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                            \
    }                                                                                          \
  } while (false)

#endif  // BRIM_SRC_BASE_CHECK_H_
