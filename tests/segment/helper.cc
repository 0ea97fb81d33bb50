// SPDX-License-Identifier: MIT
// A small process for the tests that need one of its own: strace kills it, exec starts it.
//   segment_helper create|replace|open|attach PATH   0 if it worked, 3 and the message if not
//   segment_helper inherited PATH                    number of open descriptors of that file
// The work lies between two getppid() calls, which nothing else makes: marks in strace's log.
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>

#include "brim/limiter.h"

namespace {

int inherited(const std::string& path) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    count += std::filesystem::read_symlink(entry.path(), error) == path ? 1 : 0;
  }
  return count;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string_view action = argv[1];
  const std::string path = argv[2];
  if (action == "inherited") return inherited(path);
  brim::Options options;
  options.capacity = 64;
  options.max_policies = 4;
  options.replace = action == "replace";
  options.policies = {{"p", "10/h"}};
  syscall(SYS_getppid);
  const auto limiter = action == "open"     ? brim::Limiter::open(path, options)
                       : action == "attach" ? brim::Limiter::attach(path, options)
                                            : brim::Limiter::create(path, options);
  syscall(SYS_getppid);
  if (limiter.ok()) return 0;
  std::fprintf(stderr, "%s\n", limiter.status().ToString().c_str());
  return 3;
}
