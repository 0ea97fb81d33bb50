// SPDX-License-Identifier: MIT
// What nearly every test program includes, compiled once: most of the compiler's time on a test
// goes into these headers. Each test still includes what it uses.
#ifndef BRIM_TESTS_PCH_TESTS_H_
#define BRIM_TESTS_PCH_TESTS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "brim/limiter.h"

#endif  // BRIM_TESTS_PCH_TESTS_H_
