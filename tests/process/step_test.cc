// SPDX-License-Identifier: MIT
// F22, F23 and P3 instruction by instruction: a child is single-stepped through one call, and at
// each point others use its key while it stands still, or it is killed there.
#include <sys/ptrace.h>

#include "tests/process/support.h"

namespace brim::test {
namespace {

constexpr uint32_t kBurst = 3;

struct Stepped {
  std::atomic<int64_t> clock_ns;
  std::atomic<uint32_t> admitted;
  std::atomic<uint32_t> done;
};

enum class Call { kInsert, kUpdate };
enum class Fate { kContinues, kKilled, kStallsWhileReclaimed };

class StepTest : public ::testing::TestWithParam<std::tuple<Call, Fate>> {
 protected:
  void SetUp() override {
    clock(kEpoch);
    const auto limiter = Limiter::create(
        name_.str(), manual(&state_->clock_ns, 4, "10/s burst 3 on-unavailable deny"));
    ASSERT_TRUE(limiter.ok()) << limiter.status();
    policy_ = *limiter->policy("p");
    raw_ = std::make_unique<Raw>(name_.str(), &state_->clock_ns);
  }
  void clock(int64_t now) { state_->clock_ns = now; }

  // The table before the call: empty, or with one permit taken.
  void prepare() {
    clock(kEpoch);
    raw_->clear();
    state_->admitted = 0;
    state_->done = 0;
    if (std::get<0>(GetParam()) == Call::kUpdate) {
      EXPECT_TRUE(policy_.try_acquire("key"));
    }
    before_ = verified_word();
  }
  // The word of the key's verified copy, 0 if it has none.
  Word verified_word() const {
    const uint64_t at = raw_->find(0, "key");
    return at == raw_->slots() ? 0 : raw_->get(at).word;
  }

  // Forks a child and lets it execute `steps` instructions of its call. 0 if that is impossible;
  // steps_ holds how many it made before it had finished.
  pid_t start(uint64_t steps) {
    const pid_t pid = fork();
    if (pid == 0) {
      bound_child(120);
      if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(3);
      raise(SIGSTOP);
      asm volatile("int3");
      const bool admitted = policy_.try_acquire("key").admitted;
      state_->admitted = admitted ? 1 : 0;
      state_->done = 1;
      _exit(0);
    }
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) return 0;
    if (ptrace(PTRACE_CONT, pid, nullptr, nullptr) != 0 || waitpid(pid, &status, 0) != pid ||
        !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) {
      kill_and_reap(pid);
      return 0;
    }
    for (steps_ = 0; steps_ < steps && state_->done == 0; ++steps_) {
      if (ptrace(PTRACE_SINGLESTEP, pid, nullptr, nullptr) != 0) break;
      if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) break;
    }
    return pid;
  }

  uint32_t resume(pid_t pid) {
    EXPECT_EQ(ptrace(PTRACE_DETACH, pid, nullptr, nullptr), 0);
    EXPECT_TRUE(succeeded(pid));
    return state_->admitted;
  }

  void check_point(pid_t pid) {
    const uint32_t used = before_ == 0 ? 0 : 1;
    const uint32_t charged = verified_word() != before_ ? 1 : 0;
    uint32_t others = 0;
    std::vector<PolicyKey> known = {{0, "key"}};
    switch (std::get<1>(GetParam())) {
      case Fate::kContinues:
        drain(policy_, "key", others, 9);
        EXPECT_EQ(used + others + resume(pid), kBurst);
        break;
      case Fate::kKilled:
        kill_and_reap(pid);
        drain(policy_, "key", others, 9);
        EXPECT_EQ(used + charged + others, kBurst) << "a kill costs what it had charged, no more";
        break;
      case Fate::kStallsWhileReclaimed: {
        clock(kEpoch + 10 * kSecond);
        drain(policy_, "key", others, 9);
        EXPECT_EQ(others, kBurst);
        clock(kEpoch + 12 * kSecond);
        for (int i = 0; i < 4; ++i) {
          known.push_back({0, "other" + std::to_string(i)});
          EXPECT_TRUE(policy_.try_acquire(known.back().key, kBurst));
        }
        EXPECT_EQ(verified_word(), 0u) << "reclaimed";
        clock(kEpoch + 14 * kSecond);
        const uint32_t own = resume(pid);
        EXPECT_EQ(own, 1u) << "an idle key is not refused";
        uint32_t after = 0;
        drain(policy_, "key", after, 9);
        EXPECT_EQ(after, charged != 0 ? kBurst : kBurst - 1) << "admitted at a stale time";
        break;
      }
    }
    EXPECT_TRUE(table_is_legal(*raw_, known));
    EXPECT_EQ(lingering(*raw_, state_->clock_ns + 2 * kSecond), 0u);
  }

  SegmentName name_;
  Shared<Stepped> state_;
  PolicyHandle policy_;
  std::unique_ptr<Raw> raw_;
  Word before_ = 0;
  uint64_t steps_ = 0;
};

// Goal: whatever the instruction at which a call stands still or dies, the key's count is exact
//   and the table legal.
// Method: PTRACE_SINGLESTEP; points evenly spread over the call (all of them in the slow run).
TEST_P(StepTest, EveryPoint) {
  prepare();
  const pid_t whole = start(1000000);
  if (whole == 0) GTEST_SKIP() << "ptrace does not work here";
  const uint64_t length = steps_;
  ASSERT_EQ(state_->done, 1u);
  EXPECT_EQ(resume(whole), 1u);
  const uint64_t points = std::min<uint64_t>(length, scaled(150, 100000));
  for (uint64_t point = 0; point < points; ++point) {
    const uint64_t at = point * length / points;
    SCOPED_TRACE("stopped after " + std::to_string(at) + " instructions");
    prepare();
    const pid_t pid = start(at);
    ASSERT_NE(pid, 0);
    check_point(pid);
    if (HasFailure()) return;
  }
  std::printf("step: %lu points of %lu instructions\n", points, length);
}

std::string step_name(const ::testing::TestParamInfo<std::tuple<Call, Fate>>& info) {
  const char* const fates[] = {"F22Continues", "P3Killed", "F23StallsWhileReclaimed"};
  return std::string(std::get<0>(info.param) == Call::kInsert ? "Insert" : "Update") +
         fates[static_cast<int>(std::get<1>(info.param))];
}

INSTANTIATE_TEST_SUITE_P(Process, StepTest,
                         ::testing::Combine(::testing::Values(Call::kInsert, Call::kUpdate),
                                            ::testing::Values(Fate::kContinues, Fate::kKilled,
                                                              Fate::kStallsWhileReclaimed)),
                         step_name);

}  // namespace
}  // namespace brim::test
