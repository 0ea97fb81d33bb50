// SPDX-License-Identifier: MIT
#include "tests/soak/observer_process.h"

#include <fcntl.h>

#include <cinttypes>
#include <string>

#include "tests/process/support.h"

namespace brim::soak {

ObserverProcess::ObserverProcess(int64_t base, int64_t wall_least, int64_t wall_most) {
  int in[2];
  int out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) std::abort();
  const std::string program = test::sibling("soak_observer");
  const std::string words[] = {std::to_string(getpid()), std::to_string(base),
                               std::to_string(wall_least), std::to_string(wall_most)};
  pid_ = fork();
  if (pid_ < 0) std::abort();
  if (pid_ == 0) {
    signal(SIGPIPE, SIG_DFL);
    dup2(in[0], 0);
    dup2(out[1], 1);
    execl(program.c_str(), program.c_str(), words[0].c_str(), words[1].c_str(), words[2].c_str(),
          words[3].c_str(), nullptr);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  to_ = fdopen(in[1], "w");
  from_ = fdopen(out[0], "r");
}

ObserverProcess::~ObserverProcess() {
  if (pid_ != 0) test::kill_and_reap(pid_);
  fclose(to_);
  fclose(from_);
}

std::vector<int64_t> ObserverProcess::round(int64_t end, const std::vector<int>& files) {
  std::fprintf(to_, "round %" PRId64, end);
  for (const int fd : files) std::fprintf(to_, " %d", fd);
  std::fprintf(to_, "\n");
  std::fflush(to_);
  char line[4096];
  std::vector<int64_t> numbers;
  if (std::fgets(line, sizeof(line), from_) == nullptr) return numbers;
  char* at = line + std::strlen("totals");
  for (char* next = at;; at = next) {
    const int64_t number = std::strtoll(at, &next, 10);
    if (next == at) return numbers;
    numbers.push_back(number);
  }
}

bool ObserverProcess::end() {
  std::fprintf(to_, "end\n");
  std::fflush(to_);
  char line[4096];
  while (std::fgets(line, sizeof(line), from_) != nullptr) std::fputs(line, stdout);
  const pid_t pid = pid_;
  pid_ = 0;
  return test::succeeded(pid);
}

}  // namespace brim::soak
