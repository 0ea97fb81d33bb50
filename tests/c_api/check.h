// SPDX-License-Identifier: MIT
// What the tests of the C interface share. Plain C99: it is a C program's view that is tested.
#ifndef BRIM_TESTS_C_API_CHECK_H_
#define BRIM_TESTS_C_API_CHECK_H_

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "brim/brim.h"

#define CHECK(condition)                                                                           \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: not so: %s (brim_last_error: %s)\n", __FILE__, __LINE__, #condition, \
              brim_last_error());                                                                  \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)
#define OK(call) CHECK((call) == 0)
#define FAILS(call, code, name) \
  CHECK((call) == (code) && strncmp(brim_last_error(), name ":", sizeof(name)) == 0)

// A segment name of this process; the buffer is static.
static inline const char* segment_name(const char* what) {
  static char name[128];
  snprintf(name, sizeof(name), "brim-c-%s-%ld", what, (long)getpid());
  return name;
}

static inline brim_limiter* must_open(const char* name, const brim_options* options) {
  brim_limiter* limiter = NULL;
  OK(brim_open(name, options, &limiter));
  return limiter;
}

static inline const brim_policy* must_define(brim_limiter* limiter, const char* name,
                                             const char* text) {
  const brim_policy* policy = NULL;
  OK(brim_define(limiter, name, text, &policy));
  return policy;
}

// One permit for a key that is text.
static inline brim_decision ask(const brim_policy* policy, const char* key) {
  brim_decision decision = BRIM_DECISION_INIT;
  OK(brim_try_acquire(policy, key, strlen(key), 1, &decision));
  return decision;
}

#endif  // BRIM_TESTS_C_API_CHECK_H_
