// SPDX-License-Identifier: MIT
// The soak: workers attach, work, are killed, stopped, resumed, ended and started anew,
// while another process changes policies; after each round the observer checks all that was noted
// and the tables are walked. Exit status 0 if nothing was found. `soak --help` tells the options.
#include <sys/resource.h>

#include <cinttypes>

#include "tests/process/support.h"
#include "tests/soak/changer.h"
#include "tests/soak/counts.h"
#include "tests/soak/observer_process.h"
#include "tests/soak/plan.h"
#include "tests/soak/record.h"
#include "tests/soak/soak_options.h"

namespace brim::soak {
namespace {

using test::Raw;
using test::SharedBytes;

struct WorkerProcess {
  pid_t pid = 0;
  size_t file = 0;        // index of its records
  int64_t resume_at = 0;  // it is stopped until then
};

class Soak {
 public:
  explicit Soak(const Settings& settings)
      : settings_(settings), random_(static_cast<uint64_t>(settings.seed)) {}

  bool run() {
    if (!create()) return false;
    ObserverProcess observer(base_, wall_least_, wall_most_);
    workers_.resize(static_cast<size_t>(settings_.workers));
    const int64_t end = monotonic_now_ns() + settings_.seconds * kSecond;
    bool good = true;
    while (good && monotonic_now_ns() < end) {
      good = judged_round(observer,
                          std::min(end, monotonic_now_ns() + settings_.round_seconds * kSecond));
    }
    good = good && saturate(observer);
    good = observer.end() && good;
    counts_.changes = control_->changes;
    counts_.failed_changes = control_->failed_changes;
    report();
    return enough(settings_, counts_) && good;
  }

 private:
  bool create() {
    const int64_t mono = monotonic_now_ns();
    const int64_t wall = wall_now_ns();
    base_ = monotonic_now_ns();
    for (uint8_t i = 0; i < 3; ++i) {
      Options options;
      options.capacity = i == kMain ? 65536 : 128;
      options.on_full = i == kDeny ? OnFull::kDeny : OnFull::kEvictLeast;
      for (const Plan& plan : kPlans) {
        if (plan.segment != i) continue;
        options.policies.push_back({plan.name, std::string(plan.text) + " on-unavailable deny"});
      }
      auto limiter = Limiter::create(names_[i].str(), options);
      if (!limiter.ok()) {
        std::fprintf(stderr, "%s\n", limiter.status().ToString().c_str());
        return false;
      }
      limiters_[i] = *limiter;
      std::snprintf(control_->segments[i], sizeof(control_->segments[i]), "%s",
                    names_[i].str().c_str());
      raw_.push_back(std::make_unique<Raw>(names_[i].str(), nullptr));
    }
    // The policies' windows begin by a pair of readings made in between.
    const int64_t after = monotonic_now_ns();
    wall_least_ = wall - (mono + (base_ - mono));
    wall_most_ = wall - mono + (after - mono);
    control_->only = static_cast<int32_t>(settings_.only);
    control_->pace_us = static_cast<uint32_t>(settings_.pace_us);
    for (const Plan& plan : kPlans) {
      const PolicyHandle handle = *limiters_[plan.segment].policy(plan.name);
      numbers_.push_back(handle.number());
      for (uint32_t key = 0; key <= plan.warm + plan.tail; ++key) {
        const std::string text = "k" + std::to_string(key);
        for (uint32_t part = 0; part < 3; ++part) {
          if (plan.parts[part].kind != Kind::kNone) {
            known_[plan.segment].push_back({handle.number(), text, part});
          }
        }
        if (plan.ban_after != 0) known_[plan.segment].push_back({handle.number(), text, kBanPart});
      }
    }
    return true;
  }

  RecordFile& records(const WorkerProcess& worker) {
    return *files_[worker.file]->as<RecordFile>();
  }

  void start(WorkerProcess& worker) {
    files_.push_back(std::make_unique<SharedBytes>(sizeof(RecordFile)));
    worker.file = files_.size() - 1;
    worker.resume_at = 0;
    RecordFile& file = records(worker);
    file.seed = static_cast<uint32_t>(random_());
    file.exact_clock = random_() % 2;
    const std::string program = test::sibling("soak_worker");
    const std::string control = std::to_string(control_bytes_.fd());
    const std::string fd = std::to_string(files_.back()->fd());
    worker.pid = fork();
    if (worker.pid != 0) return;
    signal(SIGPIPE, SIG_DFL);
    execl(program.c_str(), program.c_str(), control.c_str(), fd.c_str(), nullptr);
    _exit(127);
  }

  void kill_worker(WorkerProcess& worker) {
    records(worker).kill_ns = monotonic_now_ns();
    test::kill_and_reap(worker.pid);
    records(worker).ended_ns = monotonic_now_ns();
    ++counts_.kills;
  }

  // Waits until it has ended by itself.
  bool bury(WorkerProcess& worker) {
    const bool good = test::succeeded(worker.pid);
    records(worker).ended_ns = monotonic_now_ns();
    return good;
  }

  void stop_worker(WorkerProcess& worker) {
    if (worker.resume_at != 0) return;
    kill(worker.pid, SIGSTOP);
    // One in eight for so long that what it has begun to insert is anybody's (1 s).
    const int64_t length = random_() % 8 == 0 ? 1200 * kMs + draw(600 * kMs) : draw(80 * kMs);
    worker.resume_at = monotonic_now_ns() + length;
    ++counts_.stops;
  }

  int64_t draw(int64_t below) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(below));
  }

  // Time to the next event of a kind that comes every mean_ms.
  int64_t next(int64_t mean_ms) {
    if (mean_ms == 0) return int64_t{1} << 62;
    return monotonic_now_ns() + kMs / 2 + draw(2 * mean_ms * kMs);
  }

  pid_t start_changer() {
    return test::spawn([&]() -> bool { keep_changing(limiters_[kMain], *control_); }, 600);
  }

  void kill_changer(pid_t changer) {
    test::kill_and_reap(changer);
    ++counts_.changers_killed;
  }

  bool judged_round(ObserverProcess& observer, int64_t until) {
    bool good = round(until);
    good = verify() && good;
    return observe(observer) && good;
  }

  // On a busy machine the calls of all policies may be too few to exhaust the hot key or to fill
  // the table that evicts. Then these get rounds of their own, for as long as it takes, but not
  // forever.
  bool saturate(ObserverProcess& observer) {
    bool good = true;
    for (size_t p = 0; p < kPlanCount; ++p) {
      const bool hot = is_hot(kPlans[p]);
      const int64_t& seen = hot ? counts_.hot_expected : counts_.evictions;
      if (!runs(settings_, p) || !(hot || kPlans[p].segment == kEvict)) continue;
      control_->only = static_cast<int32_t>(p);
      control_->pace_us = 0;
      for (int i = 0; good && seen == 0 && i < 20; ++i) {
        good = judged_round(observer, monotonic_now_ns() + 2 * kSecond);
      }
    }
    return good;
  }

  bool round(int64_t until) {
    bool good = true;
    files_.clear();
    control_->stop = 0;
    for (WorkerProcess& worker : workers_) start(worker);
    pid_t changer = start_changer();
    int64_t next_kill = next(settings_.kill_ms);
    int64_t next_stop = next(settings_.stop_ms);
    int64_t next_end = next(700);
    while (monotonic_now_ns() < until && good) {
      usleep(1000);
      const int64_t now = monotonic_now_ns();
      for (WorkerProcess& worker : workers_) {
        if (worker.resume_at != 0 && worker.resume_at <= now) {
          kill(worker.pid, SIGCONT);
          worker.resume_at = 0;
        }
        siginfo_t ended{};
        if (waitid(P_PID, static_cast<id_t>(worker.pid), &ended, WEXITED | WNOHANG | WNOWAIT) ==
                0 &&
            ended.si_pid == worker.pid) {
          good = bury(worker) && good;
          ++counts_.restarts;
          start(worker);
        }
      }
      WorkerProcess& victim = workers_[random_() % workers_.size()];
      if (now >= next_kill) {
        kill_worker(victim);
        start(victim);
        next_kill = next(settings_.kill_ms);
      } else if (now >= next_stop) {
        stop_worker(victim);
        next_stop = next(settings_.stop_ms);
      } else if (now >= next_end) {
        records(victim).stop = 1;  // found ended above
        next_end = next(700);
        kill_changer(changer);
        changer = start_changer();
      }
    }
    control_->stop = 1;
    for (WorkerProcess& worker : workers_) {
      if (worker.resume_at != 0) kill(worker.pid, SIGCONT);
      good = bury(worker) && good;
    }
    kill_changer(changer);
    ++counts_.rounds;
    return good;
  }

  // Runs it; what it says is shown if it fails. Adds up the lines that begin with "warning,".
  bool brim(const std::string& words) {
    FILE* const from = popen(("'" + settings_.brim + "' " + words + " 2>&1").c_str(), "r");
    if (from == nullptr) return false;
    std::string said;
    char line[1024];
    while (std::fgets(line, sizeof(line), from) != nullptr) {
      warnings_ += std::string_view(line).starts_with("warning,") ? 1 : 0;
      said += line;
    }
    if (pclose(from) == 0) return true;
    std::fprintf(stderr, "FOUND: brim %s fails:\n%s", words.c_str(), said.c_str());
    return false;
  }

  // Nobody is at work: the tables are as the last compare-and-swaps left them.
  bool verify() {
    bool good = true;
    for (size_t i = 0; i < 3; ++i) {
      const auto legal = test::table_is_legal(*raw_[i], known_[i]);
      if (!legal) std::fprintf(stderr, "FOUND: segment %zu: %s\n", i, legal.message());
      good = good && legal;
      if (settings_.brim.empty()) continue;
      good = brim("info " + names_[i].str()) && good;
      // Not --strict: a killed writer of overrides may leave the warning override_unseen.
      good = brim("verify --format csv " + names_[i].str()) && good;
      ++verifications_;
    }
    return good;
  }

  bool observe(ObserverProcess& observer) {
    std::vector<int> fds;
    for (const auto& file : files_) fds.push_back(file->fd());
    const std::vector<int64_t> seen = observer.round(monotonic_now_ns(), fds);
    constexpr size_t kFirst = 7;
    if (seen.size() != kFirst + 2 * kPlanCount) {
      std::fprintf(stderr, "no answer from the observer\n");
      return false;
    }
    counts_.calls = seen[0];
    counts_.unknown = seen[1];
    bool good = none("workers with two unanswered calls", seen[2]);
    good = none("answers that the policy does not have", seen[3]) && good;
    good = none("refusals without cause", seen[4]) && good;
    good = none("unanswered calls beyond the kills",
                std::max<int64_t>(counts_.unknown - counts_.kills, 0)) &&
           good;
    // 99 %, and one permit for each call whose answer is unknown.
    const bool starved = (seen[5] + counts_.unknown) * 100 < seen[6] * 99;
    good = none("permits that the hot key did not get", starved ? seen[6] - seen[5] : 0) && good;
    counts_.hot_expected = seen[6];
    counts_.excess = 0;
    counts_.evictions = 0;
    for (size_t i = 0; i < kPlanCount; ++i) {
      const Plan& plan = kPlans[i];
      const auto evicted =
          static_cast<int64_t>(raw_[plan.segment]->sum(numbers_[i], shm::PolicyCounter::kEvicted));
      // Each eviction of a live key forgives at most one burst.
      const int64_t allowed = evicted * plan.parts[0].capacity;
      good = none(plan.name, std::max<int64_t>(seen[kFirst + 2 * i] - allowed, 0)) && good;
      good = none("calls that gave up", seen[kFirst + 2 * i + 1]) && good;
      if (plan.segment != kEvict) {
        good = none("evictions where there is room or none are allowed", evicted) && good;
        counts_.excess += seen[kFirst + 2 * i];
      } else {
        counts_.forgiven = seen[kFirst + 2 * i];
        counts_.evictions += evicted;
      }
    }
    return good;
  }

  void report() {
    const auto sum = [&](shm::Event event) {
      uint64_t total = 0;
      for (const auto& raw : raw_) total += raw->sum(event);
      return total;
    };
    std::printf("soak: %" PRId64 " rounds, %" PRId64 " calls, %" PRId64 " kills, %" PRId64
                " stops, %" PRId64 " restarts, %" PRId64 " policy changes (%" PRId64
                " failed, %" PRId64 " changers killed), %" PRId64 " unknown calls, excess %" PRId64
                "\n",
                counts_.rounds, counts_.calls, counts_.kills, counts_.stops, counts_.restarts,
                counts_.changes, counts_.failed_changes, counts_.changers_killed, counts_.unknown,
                counts_.excess);
    std::printf(
        "table: inserted %lu, reclaimed %lu, adopted %lu, expired %lu, dropped %lu, "
        "retries %lu, full %lu; evictions %" PRId64 ", permits they forgave %" PRId64 "\n",
        sum(shm::Event::kInserted), sum(shm::Event::kReclaimed), sum(shm::Event::kAdopted),
        sum(shm::Event::kExpired), sum(shm::Event::kDropped), sum(shm::Event::kCasRetry),
        sum(shm::Event::kFull), counts_.evictions, counts_.forgiven);
    if (!settings_.brim.empty()) {
      std::printf("brim verify: run %" PRId64 " times, %" PRId64 " warnings\n", verifications_,
                  warnings_);
    }
    rusage own{};
    rusage children{};
    getrusage(RUSAGE_SELF, &own);
    getrusage(RUSAGE_CHILDREN, &children);
    const auto seconds = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    std::printf("CPU: supervisor %.1f s, workers and observer %.1f s\n",
                seconds(own.ru_utime) + seconds(own.ru_stime),
                seconds(children.ru_utime) + seconds(children.ru_stime));
  }

  Settings settings_;
  std::mt19937_64 random_;
  std::array<test::SegmentName, 3> names_;
  std::array<Limiter, 3> limiters_;
  std::vector<std::unique_ptr<Raw>> raw_;
  SharedBytes control_bytes_{sizeof(Control)};
  Control* control_ = control_bytes_.as<Control>();
  std::vector<uint16_t> numbers_;
  std::array<std::vector<test::PolicyKey>, 3> known_;
  std::vector<std::unique_ptr<SharedBytes>> files_;  // of this round
  std::vector<WorkerProcess> workers_;
  int64_t base_ = 0;
  int64_t wall_least_ = 0;
  int64_t wall_most_ = 0;
  Counts counts_;
  int64_t verifications_ = 0;
  int64_t warnings_ = 0;
};

}  // namespace
}  // namespace brim::soak

int main(int argc, char** argv) {
  brim::soak::Settings settings;
  if (!brim::soak::parse(argc, argv, settings)) {
    std::fputs(brim::soak::kUsage, stderr);
    return 64;
  }
  signal(SIGPIPE, SIG_IGN);  // the observer may be gone: then there is no answer
  brim::soak::Soak soak(settings);
  return soak.run() ? 0 : 1;
}
