// SPDX-License-Identifier: MIT
// Who decides policies `scope cluster strict`. brim._tier makes one, and brim._brim, which has a
// core of its own, asks it: they are built together, and so may share C++.
#ifndef BRIM_PYTHON_SRC_DECIDER_H_
#define BRIM_PYTHON_SRC_DECIDER_H_

#include "brim/brim_tier.h"

#ifdef __cplusplus
extern "C" {
#endif

// tier_decider.cc. Of the segment that the limiter is of. A code of brim.h.
int new_decider(brim_limiter* limiter, const brim_tier_options* options, void** decider);
void free_decider(void* decider);

// decider.cc. The limiter's calls ask it from now on; the decider stays the caller's.
int use_decider(brim_limiter* limiter, const void* decider);
// strict.c: one is about to be asked, in this thread.
void give_up_gil(void);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // BRIM_PYTHON_SRC_DECIDER_H_
