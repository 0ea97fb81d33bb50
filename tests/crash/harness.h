// SPDX-License-Identifier: MIT
// A child process that stops itself with SIGKILL at its n-th store (or load) of shared memory, and
// what the others must find after it.
#ifndef BRIM_TESTS_CRASH_HARNESS_H_
#define BRIM_TESTS_CRASH_HARNESS_H_

#include <functional>
#include <string>
#include <vector>

#include "tests/process/support.h"

namespace brim::test {

// Keys that a test uses besides the usual ones.
extern std::vector<std::string> more_names;

// Where this process stands. Nothing happens at a point unless it is armed.
struct Points {
  bool armed = false;
  uint64_t passed = 0;        // stores
  uint64_t record_words = 0;  // of a policy's record; not each is a point of its own
  uint64_t all = 0;           // loads too
  uint64_t kill_at = 0;       // dies at this store; 0: never
  uint64_t meet_at = 0;       // of all: here `meets` runs, as another process would
  const std::function<void()>* meets = nullptr;
};
extern Points points;

// A segment, as the process sees it that goes on.
struct Place {
  SegmentName name;
  Shared<std::atomic<int64_t>> clock;
  Options options;
  Limiter limiter;

  PolicyHandle policy(std::string_view name) const;
  PolicyHandle p() const { return policy("p"); }
  void advance(int64_t ns) const { clock->fetch_add(ns); }
};

// What is killed at each of its points, and what it may have changed.
struct Operation {
  const char* name;
  std::vector<NamedPolicy> policies;
  std::function<void(Place&)> call;         // in the child
  std::function<void(Place&)> before = {};  // in the parent, once for each kill
  std::function<void(Place&)> meets = {};   // runs in the middle of the call, unharmed
  uint32_t takes = 0;                       // permits of key "k" that the call may take
  uint32_t gives = 0;                       // ... or give back
  std::string other_text = {};              // "p" is the old policy or this one, whole
  std::function<void(Place&)> after = {};   // further checks
  uint64_t capacity = 64;
  bool exact = true;    // afterwards all that is left can be had
  bool permits = true;  // what the key has is permits; else (leases) `after` alone judges
};

struct Figures {
  std::string name;
  uint64_t points = 0;
  uint64_t kills = 0;
  bool permits = true;  // else the rest is not known
  uint64_t before = 0;  // the call had no effect on "k"
  uint64_t after = 0;   // ... or its whole effect
  uint64_t between = 0;
};

// Kills at every point in turn. Reports failures through gtest.
Figures crash_everywhere(const Operation& operation);

std::vector<Operation> operations();

}  // namespace brim::test

#endif  // BRIM_TESTS_CRASH_HARNESS_H_
