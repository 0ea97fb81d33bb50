// SPDX-License-Identifier: MIT
// Decides calls at given times, on a clock that this program turns, and prints every decision. The
// pictures of docs/concepts/algorithms.md are drawn from its output (docs/tools/timeline.py).
//
//   timeline [-u NS] [-w NS] POLICY [TIME[xN][*COST]]...
//
// N calls at TIME, each of COST permits; cost 0 only looks. Of a policy `concurrency` COST is how
// long a lease is held before it is released. TIME and COST of a lease count in units of -u ns
// (default 1000000). If the policy is one rate of windows of the clock, time 0 is where a window
// begins, and with -w one that lasts so many ns. One line for each call, with times in ns:
//   WHAT TIME COST ADMITTED DELAY REMAINING RETRY RESET
// WHAT is call, look, lease (its RESET is when it ends by itself) or release.
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "brim/limiter.h"

namespace {

struct Arrival {
  int64_t time = 0;
  int64_t calls = 1;
  int64_t cost = 1;
};

// Reads the number at the front of `text` and cuts it off.
bool take(std::string_view& text, int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return error == std::errc() && value >= 0 && value <= 1000000000;
}

bool parse(std::string_view text, Arrival& arrival) {
  bool good = take(text, arrival.time);
  for (const auto& [mark, field] : {std::pair{'x', &arrival.calls}, {'*', &arrival.cost}}) {
    if (!good || text.empty() || text[0] != mark) continue;
    text.remove_prefix(1);
    good = take(text, *field);
  }
  return good && text.empty();
}

class Timeline {
 public:
  Timeline(brim::PolicyHandle policy, std::atomic<int64_t>& clock)
      : policy_(policy), clock_(clock) {
    const std::vector<brim::Rate> rates = policy.policy().rates;
    const brim::Algorithm algorithm = rates.front().algorithm;
    leases_ = algorithm == brim::Algorithm::kConcurrency;
    windows_ = rates.size() == 1 && !rates.front().first_hit &&
               (algorithm == brim::Algorithm::kFixedWindow ||
                algorithm == brim::Algorithm::kCalendarWindow ||
                algorithm == brim::Algorithm::kSlidingCounter);
  }

  // Goes to where a window begins. False: none is `first_ns` long.
  bool begin(int64_t first_ns) {
    bool found = !windows_;
    for (int windows = 0; !found && windows < 200; ++windows) {
      policy_.try_acquire("nobody");
      const int64_t left = policy_.peek("nobody").reset_after_ns;
      found = windows > 0 && (first_ns == 0 || first_ns == left);
      if (!found) clock_ += left;
    }
    zero_ = clock_;
    return found;
  }

  void run(const Arrival& arrival, int64_t unit_ns) {
    release_until(zero_ + arrival.time * unit_ns);
    clock_ = zero_ + arrival.time * unit_ns;
    for (int64_t i = 0; i < arrival.calls; ++i) {
      if (leases_) {
        const brim::Lease lease = policy_.acquire_lease("key");
        print("lease", arrival.cost * unit_ns, lease.decision, lease.expires_ns - clock_);
        if (lease) held_.emplace(clock_ + arrival.cost * unit_ns, lease);
      } else {
        const auto cost = static_cast<uint32_t>(arrival.cost);
        const brim::Decision decision = policy_.try_acquire("key", cost);
        print(cost == 0 ? "look" : "call", cost, decision, decision.reset_after_ns);
      }
    }
  }

  void release_until(int64_t time) {
    while (!held_.empty() && held_.begin()->first <= time) {
      clock_ = held_.begin()->first;
      std::printf("release %" PRId64 " 0 %d 0 0 0 0\n", clock_ - zero_,
                  policy_.release(held_.begin()->second) ? 1 : 0);
      held_.erase(held_.begin());
    }
  }

 private:
  void print(const char* what, int64_t cost, const brim::Decision& decision, int64_t reset) const {
    std::printf("%s %" PRId64 " %" PRId64 " %d %" PRId64 " %u %" PRId64 " %" PRId64 "\n", what,
                clock_ - zero_, cost, decision.admitted ? 1 : 0, decision.delay_ns,
                decision.remaining,
                decision.retry_after_ns == brim::kNever ? -1 : decision.retry_after_ns, reset);
  }

  brim::PolicyHandle policy_;
  std::atomic<int64_t>& clock_;
  int64_t zero_ = 0;
  bool leases_ = false;
  bool windows_ = false;                      // of the clock
  std::multimap<int64_t, brim::Lease> held_;  // by when they are released
};

int usage() {
  std::fputs("usage: timeline [-u NS] [-w NS] POLICY [TIME[xN][*COST]]...\n", stderr);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  int64_t unit_ns = 1000000;
  int64_t first_ns = 0;
  for (int option; (option = getopt(argc, argv, "u:w:")) != -1;) {
    if (option != 'u' && option != 'w') return usage();
    (option == 'u' ? unit_ns : first_ns) = std::atoll(optarg);
  }
  if (optind == argc) return usage();
  std::vector<Arrival> arrivals;
  for (int i = optind + 1; i < argc; ++i) {
    if (!parse(argv[i], arrivals.emplace_back())) return usage();
  }
  std::atomic<int64_t> clock = 1000000000;
  brim::Options options;
  options.capacity = 64;
  options.policies = {{"policy", argv[optind]}};
  options.clock = brim::ClockKind::kManual;
  options.manual_clock_ns = &clock;
  const std::string name = "timeline-" + std::to_string(getpid());
  const auto limiter = brim::Limiter::create(name, options);
  if (!limiter.ok()) {
    std::fprintf(stderr, "%s\n", limiter.status().ToString().c_str());
    return 1;
  }
  brim::Limiter::unlink(name).IgnoreError();  // this process alone goes on with it
  Timeline timeline(*limiter->policy("policy"), clock);
  if (!timeline.begin(first_ns)) {
    std::fprintf(stderr, "no window of %s lasts %" PRId64 " ns\n", argv[optind], first_ns);
    return 1;
  }
  for (const Arrival& arrival : arrivals) timeline.run(arrival, unit_ns);
  timeline.release_until(int64_t{1} << 58);
}
