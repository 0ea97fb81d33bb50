// SPDX-License-Identifier: MIT
// The soak: workers attach, work, are killed, stopped, resumed, ended and started anew,
// while another process changes policies; after each round the observer checks all that was noted
// and the tables are walked. Exit status 0 if nothing was found. `soak --help` tells the options.
#include <sys/resource.h>

#include <cinttypes>
#include <cmath>

#include "tests/process/support.h"
#include "tests/soak/plan.h"
#include "tests/soak/record.h"

namespace brim::soak {
namespace {

using test::Raw;
using test::SharedBytes;

constexpr const char* kUsage =
    "usage: soak [--seconds N | --minutes N] [--round-seconds N] [--workers N] [--kill-ms N]\n"
    "            [--stop-ms N] [--pace-us N] [--only POLICY] [--seed N] [--brim PROGRAM]\n"
    "  --kill-ms, --stop-ms  mean time between two kills, two stops; 0: none\n"
    "  --pace-us             longest pause of a worker between two runs of calls; 0: none\n"
    "  --only POLICY         calls of this policy alone\n"
    "  --brim PROGRAM        run its `info` and, if it has that, `verify` after each round\n";

struct Settings {
  int64_t seconds = 20;
  int64_t round_seconds = 5;
  int64_t workers = 4;
  int64_t kill_ms = 90;
  int64_t stop_ms = 90;
  int64_t pace_us = 3000;
  int64_t only = -1;
  int64_t seed = 1;
  std::string brim;
};

bool parse(int argc, char** argv, Settings& settings) {
  const struct {
    std::string_view name;
    int64_t* value;
  } numbers[] = {{"--seconds", &settings.seconds},
                 {"--minutes", &settings.seconds},
                 {"--round-seconds", &settings.round_seconds},
                 {"--workers", &settings.workers},
                 {"--kill-ms", &settings.kill_ms},
                 {"--stop-ms", &settings.stop_ms},
                 {"--pace-us", &settings.pace_us},
                 {"--seed", &settings.seed}};
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view word = argv[i];
    bool known = word == "--brim" || word == "--only";
    if (word == "--brim") settings.brim = argv[i + 1];
    for (size_t p = 0; word == "--only" && p < kPlanCount; ++p) {
      if (std::string_view(argv[i + 1]) == kPlans[p].name) {
        settings.only = static_cast<int64_t>(p);
      }
    }
    for (const auto& number : numbers) {
      if (word != number.name) continue;
      known = true;
      *number.value = std::atoll(argv[i + 1]) * (word == "--minutes" ? 60 : 1);
    }
    if (!known) return false;
  }
  return argc % 2 == 1 && settings.seconds > 0 && settings.round_seconds > 0 &&
         settings.workers > 0;
}

// The observer's program, with its input and output.
class ObserverProcess {
 public:
  ObserverProcess(int64_t base, int64_t wall_least, int64_t wall_most) {
    int in[2];
    int out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) std::abort();
    const std::string program = test::sibling("soak_observer");
    const std::string words[] = {std::to_string(getpid()), std::to_string(base),
                                 std::to_string(wall_least), std::to_string(wall_most)};
    pid_ = fork();
    if (pid_ == 0) {
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
  ~ObserverProcess() {
    fclose(to_);
    fclose(from_);
  }
  ObserverProcess(const ObserverProcess&) = delete;
  ObserverProcess& operator=(const ObserverProcess&) = delete;

  // The numbers of its answer; none if it is gone.
  std::vector<int64_t> round(int64_t end, const std::vector<int>& files) {
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
  bool end() {
    std::fprintf(to_, "end\n");
    std::fflush(to_);
    char line[4096];
    while (std::fgets(line, sizeof(line), from_) != nullptr) std::fputs(line, stdout);
    return test::succeeded(pid_);
  }

 private:
  pid_t pid_;
  FILE* to_;
  FILE* from_;
};

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
    setpriority(PRIO_PROCESS, 0, -10);  // the killer must get its turn
    ObserverProcess observer(base_, wall_least_, wall_most_);
    workers_.resize(static_cast<size_t>(settings_.workers));
    const int64_t end = monotonic_now_ns() + settings_.seconds * kSecond;
    bool good = true;
    while (good && monotonic_now_ns() < end) {
      good = round(std::min(end, monotonic_now_ns() + settings_.round_seconds * kSecond));
      good = verify() && good;
      good = observe(observer) && good;
    }
    good = observer.end() && good;
    report();
    return good;
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
    verifies_ = !settings_.brim.empty() && brim("verify --help");
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
    setpriority(PRIO_PROCESS, 0, 0);
    execl(program.c_str(), program.c_str(), control.c_str(), fd.c_str(), nullptr);
    _exit(127);
  }

  void kill_worker(WorkerProcess& worker) {
    records(worker).kill_ns = monotonic_now_ns();
    test::kill_and_reap(worker.pid);
    records(worker).ended_ns = monotonic_now_ns();
    ++kills_;
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
    ++stops_;
  }

  int64_t draw(int64_t below) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(below));
  }

  // Time to the next event of a kind that comes every mean_ms.
  int64_t next(int64_t mean_ms) {
    if (mean_ms == 0) return int64_t{1} << 62;
    return monotonic_now_ns() + kMs / 2 + draw(2 * mean_ms * kMs);
  }

  // Changes the policies that are there for it, until it is killed.
  pid_t start_changer() {
    return test::spawn(
        [&] {
          const Limiter& main = limiters_[kMain];
          for (uint32_t i = 0;; ++i) {
            absl::Status status;
            const std::string key = "k" + std::to_string(i / 8 % 4);
            const std::string deny = " on-unavailable deny";
            switch (i % 8) {
              case 0:
              case 4:
                status = main.change("changed_bucket", kChangedBucket[i / 4 % 2] + deny);
                break;
              case 1:
                status = main.set_factor("changed_bucket",
                                         kLeastFactor + i * 7919 % (1000001 - kLeastFactor));
                break;
              case 2:
              case 6:
                status = main.change("changed_log", kChangedLog[i / 4 % 2] + deny);
                break;
              case 3:
                status = main.set_override("overridden", key, "deny");
                break;
              case 5:
                status = main.set_override("overridden", key, "unlimited");
                break;
              default:
                status = main.clear_override("overridden", key);
                if (absl::IsNotFound(status)) status = absl::OkStatus();  // killed before
            }
            status.ok() ? ++control_->changes : ++control_->failed_changes;
            usleep(2000);
          }
          return true;
        },
        600);
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
          ++restarts_;
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
        test::kill_and_reap(changer);
        ++changers_killed_;
        changer = start_changer();
      }
    }
    control_->stop = 1;
    for (WorkerProcess& worker : workers_) {
      if (worker.resume_at != 0) kill(worker.pid, SIGCONT);
      good = bury(worker) && good;
    }
    test::kill_and_reap(changer);
    ++rounds_;
    return good;
  }

  bool brim(const std::string& words) {
    return std::system(("'" + settings_.brim + "' " + words + " >/dev/null 2>&1").c_str()) == 0;
  }

  // Nobody is at work: the tables are as the last compare-and-swaps left them.
  bool verify() {
    bool good = true;
    for (size_t i = 0; i < 3; ++i) {
      const auto legal = test::table_is_legal(*raw_[i], known_[i]);
      if (!legal) std::fprintf(stderr, "segment %zu: %s\n", i, legal.message());
      good = good && legal;
      if (settings_.brim.empty()) continue;
      if (!brim("info " + names_[i].str())) {
        std::fprintf(stderr, "brim info fails on segment %zu\n", i);
        good = false;
      }
      if (verifies_ && !brim("verify " + names_[i].str())) {
        std::fprintf(stderr, "brim verify finds something in segment %zu\n", i);
        good = false;
      }
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
    calls_ = seen[0];
    unknown_ = seen[1];
    bool good = none("workers with two unanswered calls", seen[2]);
    good = none("answers that the policy does not have", seen[3]) && good;
    good = none("refusals without cause", seen[4]) && good;
    good =
        none("unanswered calls beyond the kills", std::max<int64_t>(unknown_ - kills_, 0)) && good;
    // 99 %, and one permit for each call whose answer is unknown.
    const bool starved = (seen[5] + unknown_) * 100 < seen[6] * 99;
    good = none("permits that the hot key did not get", starved ? seen[6] - seen[5] : 0) && good;
    excess_ = 0;
    evictions_ = 0;
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
        excess_ += seen[kFirst + 2 * i];
      } else {
        forgiven_ = seen[kFirst + 2 * i];
        evictions_ += evicted;
      }
    }
    return good;
  }

  static bool none(const char* what, int64_t count) {
    if (count != 0) std::fprintf(stderr, "FOUND: %s: %" PRId64 "\n", what, count);
    return count == 0;
  }

  void report() {
    const auto sum = [&](shm::Event event) {
      uint64_t total = 0;
      for (const auto& raw : raw_) total += raw->sum(event);
      return total;
    };
    std::printf("soak: %" PRId64 " rounds, %" PRId64 " calls, %" PRId64 " kills, %" PRId64
                " stops, %" PRId64 " restarts, %u policy changes (%u failed, %" PRId64
                " changers killed), %" PRId64 " unknown calls, excess %" PRId64 "\n",
                rounds_, calls_, kills_, stops_, restarts_, control_->changes.load(),
                control_->failed_changes.load(), changers_killed_, unknown_, excess_);
    std::printf(
        "table: inserted %lu, reclaimed %lu, adopted %lu, expired %lu, dropped %lu, "
        "retries %lu, full %lu; evictions %" PRId64 ", permits they forgave %" PRId64 "%s\n",
        sum(shm::Event::kInserted), sum(shm::Event::kReclaimed), sum(shm::Event::kAdopted),
        sum(shm::Event::kExpired), sum(shm::Event::kDropped), sum(shm::Event::kCasRetry),
        sum(shm::Event::kFull), evictions_, forgiven_, verifies_ ? "; brim verify clean" : "");
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
  bool verifies_ = false;
  int64_t base_ = 0;
  int64_t wall_least_ = 0;
  int64_t wall_most_ = 0;
  int64_t rounds_ = 0;
  int64_t calls_ = 0;
  int64_t kills_ = 0;
  int64_t stops_ = 0;
  int64_t restarts_ = 0;
  int64_t changers_killed_ = 0;
  int64_t unknown_ = 0;
  int64_t excess_ = 0;
  int64_t evictions_ = 0;
  int64_t forgiven_ = 0;
};

}  // namespace
}  // namespace brim::soak

int main(int argc, char** argv) {
  brim::soak::Settings settings;
  if (!brim::soak::parse(argc, argv, settings)) {
    std::fputs(brim::soak::kUsage, stderr);
    return 64;
  }
  brim::soak::Soak soak(settings);
  return soak.run() ? 0 : 1;
}
