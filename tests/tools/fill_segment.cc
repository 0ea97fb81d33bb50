// SPDX-License-Identifier: MIT
// Helper of the tests of the brim command: takes one permit for each key of standard input, then
// holds the segment until standard input ends. A key is its length, four bytes little-endian, and
// its bytes; a length of 0xffffffff ends the keys.
//   fill_segment NAME POLICY
#include <cstdint>
#include <cstdio>
#include <string>

#include "brim/limiter.h"

namespace {

bool read_exactly(void* bytes, size_t size) { return std::fread(bytes, 1, size, stdin) == size; }

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const absl::StatusOr<brim::Limiter> limiter = brim::Limiter::attach(argv[1]);
  if (!limiter.ok()) return 1;
  const absl::StatusOr<brim::PolicyHandle> policy = limiter->policy(argv[2]);
  if (!policy.ok()) return 1;
  uint32_t length = 0;
  unsigned taken = 0;
  std::string key;
  while (read_exactly(&length, sizeof(length)) && length != 0xffffffff) {
    key.resize(length);
    if (length != 0 && !read_exactly(key.data(), length)) return 1;
    if (policy->try_acquire(key)) ++taken;
  }
  std::printf("%u\n", taken);
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  return 0;
}
