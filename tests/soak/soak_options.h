// SPDX-License-Identifier: MIT
// What `soak` can be told.
#ifndef BRIM_TESTS_SOAK_SOAK_OPTIONS_H_
#define BRIM_TESTS_SOAK_SOAK_OPTIONS_H_

#include <cstdint>
#include <string>

namespace brim::soak {

struct Settings {
  int64_t seconds = 20;
  int64_t round_seconds = 5;
  int64_t workers = 4;
  int64_t kill_ms = 90;
  int64_t stop_ms = 90;
  int64_t pace_us = 3000;
  int64_t only = -1;  // index into kPlans; -1: all
  int64_t seed = 1;
  std::string brim;
};

extern const char* const kUsage;

// False if there is a word too many, an unknown option or policy, or a number that is none.
bool parse(int argc, char** argv, Settings& settings);

}  // namespace brim::soak

#endif  // BRIM_TESTS_SOAK_SOAK_OPTIONS_H_
