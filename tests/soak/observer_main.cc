// SPDX-License-Identifier: MIT
// The observer as a program of its own. `soak_observer PID BASE_NS WALL_LEAST WALL_MOST`: reads
// "round END FD..." from its input, where each FD is a worker's records in process PID, and after
// each round answers with one line; after "end" it prints the totals.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>

#include "tests/soak/observer.h"

namespace brim::soak {
namespace {

// One worker's records, read-only.
class Records {
 public:
  Records(const std::string& pid, int fd) {
    const std::string path = "/proc/" + pid + "/fd/" + std::to_string(fd);
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    bytes_ = mmap(nullptr, sizeof(RecordFile), PROT_READ, MAP_SHARED, file, 0);
    close(file);
  }
  ~Records() {
    if (bytes_ != MAP_FAILED) munmap(bytes_, sizeof(RecordFile));
  }
  Records(const Records&) = delete;
  Records& operator=(const Records&) = delete;
  const RecordFile* get() const {
    return bytes_ == MAP_FAILED ? nullptr : static_cast<const RecordFile*>(bytes_);
  }

 private:
  void* bytes_ = MAP_FAILED;
};

void print_totals(const Totals& totals) {
  std::printf("observer: calls %" PRIu64 ", admitted %" PRIu64 ", refused %" PRIu64
              ", unavailable %" PRIu64 ", unknown %" PRIu64 ", keys %" PRIu64 ", windows %" PRIu64
              "\n",
              totals.calls, totals.admitted, totals.refused, totals.unavailable, totals.unknown,
              totals.keys, totals.windows);
  for (size_t i = 0; i < kPlanCount; ++i) {
    std::printf("  %-14s admitted %8" PRIu64 ", refused %8" PRIu64 ", excess %" PRId64 "\n",
                kPlans[i].name, totals.taken[i], totals.denials[i], totals.excess[i]);
  }
  const Saturation& hot = totals.hot;
  std::printf("P2: the hot key got %" PRId64 " of %" PRId64 " permits that flowed back (%.3f %%)\n",
              hot.admitted, hot.expected,
              hot.expected == 0
                  ? 0.0
                  : 100.0 * static_cast<double>(hot.admitted) / static_cast<double>(hot.expected));
  std::printf("latency with no kill in the second before: p50 %" PRId64 " ns, p99.9 %" PRId64
              " ns; after a kill: p50 %" PRId64 " ns, p99.9 %" PRId64 " ns\n",
              totals.before.quantile(0.5), totals.before.quantile(0.999),
              totals.after.quantile(0.5), totals.after.quantile(0.999));
}

// One line for the supervisor: what it compares with the segments' counters.
void answer(const Observer& observer) {
  const Totals& totals = observer.totals();
  std::string line =
      "totals " + std::to_string(totals.calls) + ' ' + std::to_string(totals.unknown) + ' ' +
      std::to_string(totals.unknown_twice) + ' ' + std::to_string(totals.strange) + ' ' +
      std::to_string(totals.unexplained) + ' ' + std::to_string(totals.hot.admitted) + ' ' +
      std::to_string(totals.hot.expected);
  for (size_t i = 0; i < kPlanCount; ++i) {
    line += ' ' + std::to_string(totals.excess[i]) + ' ' + std::to_string(totals.contended[i]);
  }
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

int run(const std::string& pid, int64_t base, WallOffset wall) {
  Observer observer(base, wall);
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string what;
    words >> what;
    if (what == "end") break;
    int64_t end = 0;
    words >> end;
    for (int fd; words >> fd;) {
      const Records records(pid, fd);
      if (records.get() == nullptr) {
        std::fprintf(stderr, "soak_observer: can not map the records %d of %s\n", fd, pid.c_str());
        return 2;
      }
      observer.add(*records.get());
    }
    observer.check(end);
    answer(observer);
  }
  print_totals(observer.totals());
  std::printf("%s", observer.findings().c_str());
  return 0;
}

}  // namespace
}  // namespace brim::soak

int main(int argc, char** argv) {
  if (argc != 5) return 64;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  return brim::soak::run(argv[1], std::atoll(argv[2]), {std::atoll(argv[3]), std::atoll(argv[4])});
}
