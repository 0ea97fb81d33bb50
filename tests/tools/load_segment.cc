// SPDX-License-Identifier: MIT
// Helper of the tests of the brim command: traffic on a segment until standard input ends, or two
// minutes are over. Takes a permit for "KEY" with KEY from load0 to load<KEYS - 1>, in turn, and
// two thirds of all for HOT; attaches again when the segment is replaced. Prints a line
// once it runs, and at the end how many calls were admitted and refused by the last segment.
//   load_segment NAME POLICY KEYS HOT
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "brim/limiter.h"

namespace {

// A rest of a millisecond: others want the machine, too. False once it is time to end.
bool wanted(time_t end) {
  pollfd in = {STDIN_FILENO, POLLIN, 0};
  return poll(&in, 1, 1) == 0 && time(nullptr) < end;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  std::vector<std::string> keys;
  for (int i = 0; i < std::atoi(argv[3]); ++i) keys.push_back("load" + std::to_string(i));
  const time_t end = time(nullptr) + 120;
  bool told = false;
  uint64_t admitted = 0;
  uint64_t refused = 0;
  for (bool more = true; more;) {
    const absl::StatusOr<brim::Limiter> limiter = brim::Limiter::attach(argv[1]);
    if (!limiter.ok()) {  // between two segments of this name
      more = wanted(end);
      continue;
    }
    const absl::StatusOr<brim::PolicyHandle> policy = limiter->policy(argv[2]);
    if (!policy.ok()) return 1;
    admitted = refused = 0;
    for (uint64_t i = 0; more; ++i) {
      const bool hot = i % 3 != 0 || keys.empty();
      const bool passed = policy->try_acquire(hot ? argv[4] : keys[i / 3 % keys.size()]).allowed();
      ++(passed ? admitted : refused);
      if (i % 4096 != 0) continue;
      if (!told) std::printf("runs\n");
      if (!told) std::fflush(stdout);
      told = true;
      more = wanted(end);
      if (!limiter->linked()) break;
    }
  }
  std::printf("%llu %llu\n", static_cast<unsigned long long>(admitted),
              static_cast<unsigned long long>(refused));
  return 0;
}
