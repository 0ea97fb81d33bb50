// SPDX-License-Identifier: MIT
// Histories of real processes against the sequential models (linear.h). Three or four processes
// make a few calls on one key at the same time, and one of them moves a clock that all share; each
// call notes its place in one order of events before and after. The library is compiled with a
// scheduling point before each shared access, at which a process now and then gives its turn away,
// so that calls do meet (BRIM_SIM, shm/schedule_point.h).
#include "tests/process/support.h"
#include "tests/soak/linear.h"

namespace brim::soak {
namespace {

using test::Barrier;
using test::SharedBytes;

constexpr uint32_t kProcesses = 4;
constexpr uint32_t kMaxSteps = 10;
constexpr int64_t kHour = 3600 * test::kSecond;

struct Table {
  std::atomic<int64_t> clock_ns;
  std::atomic<int64_t> events;
  Barrier barrier;
  std::atomic<uint64_t> unavailable;
  struct History {
    int64_t start;
    uint32_t count[kProcesses];
    Step steps[kProcesses][kMaxSteps];
  };
  History histories[1];  // as many as there are
};

enum class What { kBucket, kWindow, kCounter, kLog, kLogCosts, kRates, kLeases };

struct Subject {
  const char* name;
  What what;
  const char* policy;
  int64_t move_ns;  // by which the clock moves: up to three times this
  int64_t cost_max;
};

// Windows of hours begin by the wall clock; the others have no such thing.
constexpr Subject kSubjects[] = {
    {"bucket", What::kBucket, "1024/1073741824ns burst 5", kPermitNs / 2, 3},
    {"window", What::kWindow, "fixed-window 5/h", kHour / 3, 3},
    {"counter", What::kCounter, "sliding-counter 5/h", kHour / 4, 3},
    {"log", What::kLog, "sliding-log 3/s", test::kSecond / 4, 1},
    {"log_costs", What::kLogCosts, "sliding-log 4/s", test::kSecond / 4, 3},
    {"rates", What::kRates, "1024/1073741824ns burst 6; fixed-window 5/h", kHour / 3, 3},
    {"leases", What::kLeases, "concurrency 2 ttl 1s", test::kSecond / 4, 1},
};

uint64_t yield_state = 0;
bool mutant_expected = false;

// BRIM_HISTORIES=N asks for N histories of each.
uint32_t history_count() {
  const char* const text = std::getenv("BRIM_HISTORIES");
  const long count = text == nullptr ? 0 : std::atol(text);
  return count > 0 ? static_cast<uint32_t>(std::min(count, 1000000l)) : test::scaled(300, 20000);
}

// Children that wait for each other at barriers: if one is gone the others would wait for long, so
// they are killed.
class Children {
 public:
  Children() = default;
  ~Children() {
    for (const pid_t pid : pids_) test::kill_and_reap(pid);
  }
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;

  void add(pid_t pid) { pids_.push_back(pid); }
  // True if all ended well; else some may be left, for the destructor.
  bool succeeded() {
    while (!pids_.empty()) {
      int status = 0;
      const pid_t pid = waitpid(-1, &status, 0);
      if (pid < 0 && errno == EINTR) continue;
      std::erase(pids_, pid);
      if (pid > 0 && status == 0) continue;
      std::fprintf(stderr, "child %d: status %x\n", pid, static_cast<unsigned>(status));
      return false;
    }
    return true;
  }

 private:
  std::vector<pid_t> pids_;
};

class HistoryTest : public ::testing::TestWithParam<Subject> {
 protected:
  HistoryTest()
      : count_(history_count()),
        bytes_(sizeof(Table) + count_ * sizeof(Table::History)),
        table_(bytes_.as<Table>()) {}

  void create() {
    table_->clock_ns = test::kEpoch;
    Options options;
    options.clock = ClockKind::kManual;
    options.manual_clock_ns = &table_->clock_ns;
    options.capacity = 64;  // so that keys of earlier histories are reclaimed
    options.on_full = OnFull::kDeny;
    options.policies = {{"p", std::string(GetParam().policy) + " on-unavailable deny"}};
    wall_least_ = wall_now_ns();
    const auto limiter = Limiter::create(name_.str(), options);
    wall_most_ = wall_now_ns();
    ASSERT_TRUE(limiter.ok()) << limiter.status();
    limiter_ = *limiter;
    policy_ = *limiter_.policy("p");
  }

  // Which windows the policy under test has is settled by its own first answer. They must be those
  // of the wall clock as it was read while the segment was made.
  void find_origin() {
    const What what = GetParam().what;
    if (what != What::kWindow && what != What::kCounter && what != What::kRates) return;
    const Decision first = policy_.try_acquire("origin");
    // The bucket beside a window says the same as long as it is the window that is longest.
    origin_ = test::kEpoch + first.reset_after_ns;
    if (what == What::kCounter) origin_ -= kHour;  // until the window after it is over
    const int64_t later = (test::kEpoch - origin_ - wall_least_) % kHour;
    EXPECT_LE((later + kHour) % kHour, wall_most_ - wall_least_);
  }

  std::unique_ptr<Sequential> model() const {
    switch (GetParam().what) {
      case What::kBucket:
        return bucket_model(5);
      case What::kWindow:
        return window_model(5, kHour, origin_);
      case What::kCounter:
        return counter_model(5, kHour, origin_);
      case What::kLog:
        return log_model(3, test::kSecond);
      case What::kLogCosts:
        return log_model(4, test::kSecond);
      case What::kRates:
        return rates_model(6, 5, kHour, origin_);
      case What::kLeases:
        return lease_model(2, test::kSecond);
    }
    return nullptr;
  }

  // Where calls are decided part by part, time must not move under them.
  bool moves_meanwhile() const { return GetParam().what != What::kRates; }

  void perform(Step& step, const std::string& key, std::vector<Lease>& leases,
               std::vector<int64_t>& numbers, std::mt19937_64& random) {
    Table& table = *table_;
    step.invoked = table.events.fetch_add(1);
    switch (step.act) {
      case Act::kMoveClock:
        step.cost = table.clock_ns + static_cast<int64_t>(random() % 4) * GetParam().move_ns;
        table.clock_ns = step.cost;
        break;
      case Act::kAcquire: {
        Decision decision;
        if (GetParam().what == What::kLeases) {
          const Lease lease = policy_.acquire_lease(key);
          decision = lease.decision;
          step.lease = step.invoked + 1;
          if (lease) leases.push_back(lease), numbers.push_back(step.lease);
        } else {
          decision = policy_.try_acquire(key, static_cast<uint32_t>(step.cost));
        }
        step.yes = decision.admitted;
        step.remaining = decision.remaining;
        step.retry = decision.retry_after_ns;
        step.reset = decision.reset_after_ns;
        if (decision.verdict == Verdict::kUnavailable) table.unavailable.fetch_add(1);
        break;
      }
      case Act::kRefund:
        step.yes = policy_.refund(key, static_cast<uint32_t>(step.cost));
        break;
      case Act::kReset:
        step.yes = policy_.reset(key);
        break;
      case Act::kRelease: {
        const size_t which = random() % leases.size();
        step.cost = numbers[which];
        step.yes = policy_.release(leases[which]);
        if (random() % 4 != 0) {  // else it is given back twice
          leases.erase(leases.begin() + static_cast<ptrdiff_t>(which));
          numbers.erase(numbers.begin() + static_cast<ptrdiff_t>(which));
        }
        break;
      }
    }
    step.returned = table.events.fetch_add(1);
  }

  Act draw(uint32_t process, const std::vector<Lease>& leases, std::mt19937_64& random) const {
    const uint64_t dice = random() % 16;
    const What what = GetParam().what;
    if (process == 0 && dice < 3 && moves_meanwhile()) return Act::kMoveClock;
    if (what == What::kLeases)
      return dice % 2 == 0 && !leases.empty() ? Act::kRelease : Act::kAcquire;
    if (what == What::kRates || what == What::kLogCosts) return Act::kAcquire;
    if (dice == 15 && what != What::kLog) return Act::kReset;
    return dice >= 12 ? Act::kRefund : Act::kAcquire;
  }

  bool work(uint32_t process) {
    yield_state = 88172645463325252u + process * 7919;
    std::mt19937_64 random(process + 1);
    Table& table = *table_;
    for (uint32_t h = 0; h < count_; ++h) {
      Table::History& history = table.histories[h];
      table.barrier.wait(kProcesses);
      if (process == 0) {
        // Everything of before is idle by now.
        table.clock_ns =
            table.clock_ns + 3 * kHour + static_cast<int64_t>(random() % 8) * GetParam().move_ns;
        history.start = table.clock_ns;
        table.events = 0;
      }
      table.barrier.wait(kProcesses);
      const std::string key = "h" + std::to_string(h);
      std::vector<Lease> leases;
      std::vector<int64_t> numbers;
      const uint64_t steps = h % 8 == 7 ? 3 : 6 + random() % (kMaxSteps - 6);
      const bool idle = process == 3 && h % 2 == 0;  // three processes in every other history
      for (uint32_t i = 0; i < steps && !idle; ++i) {
        Step& step = history.steps[process][i];
        step.process = static_cast<uint8_t>(process);
        step.act = draw(process, leases, random);
        step.cost = 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(GetParam().cost_max));
        perform(step, key, leases, numbers, random);
        history.count[process] = i + 1;
      }
      table.barrier.wait(kProcesses);
    }
    return true;
  }

  test::SegmentName name_;
  uint32_t count_;
  SharedBytes bytes_;
  Table* table_;
  Limiter limiter_;
  PolicyHandle policy_;
  int64_t wall_least_ = 0;  // around the making of the segment
  int64_t wall_most_ = 0;
  int64_t origin_ = 0;
};

// Goal: P1 and P2 to the call: each history is one that the sequential limiter can have given.
// Method: see above; then a search for an order, for each history.
TEST_P(HistoryTest, EachHasASequentialOrder) {
  create();
  find_origin();
  Children children;
  for (uint32_t p = 0; p < kProcesses; ++p) {
    const pid_t pid = test::spawn([&, p] { return work(p); }, test::slow() ? 3000 : 300);
    ASSERT_GT(pid, 0);
    children.add(pid);
  }
  ASSERT_TRUE(children.succeeded());
  EXPECT_EQ(table_->unavailable, 0u);
  const auto sequential = model();
  uint64_t calls = 0;
  uint64_t admitted = 0;
  uint64_t meetings = 0;
  uint64_t states = 0;
  uint64_t wrong = 0;
  for (uint32_t h = 0; h < count_; ++h) {
    const Table::History& history = table_->histories[h];
    std::vector<Step> steps;
    for (uint32_t p = 0; p < kProcesses; ++p) {
      steps.insert(steps.end(), history.steps[p], history.steps[p] + history.count[p]);
    }
    for (const Step& step : steps) {
      ++calls;
      admitted += step.act == Act::kAcquire && step.yes ? 1 : 0;
      for (const Step& other : steps) {
        meetings += other.process < step.process && other.invoked < step.returned &&
                            step.invoked < other.returned
                        ? 1
                        : 0;
      }
    }
    const Checked verdict = check_history(*sequential, steps, history.start);
    states += verdict.states;
    if (verdict.linearizable) continue;
    if (++wrong <= 3 && !mutant_expected) {
      ADD_FAILURE() << "history " << h << " at " << history.start << " of " << GetParam().policy
                    << " has no sequential order\n"
                    << history_text(steps);
    }
  }
  EXPECT_EQ(wrong != 0, mutant_expected) << wrong << " histories without an order";
  std::printf(
      "%s: %u histories, %lu without an order, %lu calls, %lu admitted, %lu pairs of calls that "
      "met, %lu states\n",
      GetParam().name, count_, wrong, calls, admitted, meetings, states);
}

INSTANTIATE_TEST_SUITE_P(Policies, HistoryTest, ::testing::ValuesIn(kSubjects),
                         [](const auto& subject) { return std::string(subject.param.name); });

}  // namespace

// A process gives its turn away at one in sixteen points. Nobody changes policies here, and for the
// words of kStore nobody races.
void schedule_point(BrimPoint point) noexcept {
  if (point != BrimPoint::kLoad && point != BrimPoint::kChange) return;
  yield_state ^= yield_state << 13;
  yield_state ^= yield_state >> 7;
  yield_state ^= yield_state << 17;
  if (yield_state % 16 == 0) sched_yield();
}

}  // namespace brim::soak

extern "C" void brim_schedule_point(BrimPoint point) noexcept { brim::soak::schedule_point(point); }

// --mutant-expected: the library is a weakened one, so each test must find a history that has no
// order, and nothing else may go wrong.
int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) != "--mutant-expected") return 64;
    brim::soak::mutant_expected = true;
  }
  const int failed = RUN_ALL_TESTS();
  // A filter that fits no test has shown nothing.
  return failed != 0 || ::testing::UnitTest::GetInstance()->test_to_run_count() == 0 ? 1 : 0;
}
