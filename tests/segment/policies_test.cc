// SPDX-License-Identifier: MIT
// The policy table: full, defined by many at once, and by writers that are killed.
#include <signal.h>
#include <time.h>

#include <set>

#include "brim/inspect.h"
#include "shm/registry.h"
#include "tests/segment/exercise.h"
#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

std::string text_of(int i) { return cat(i % 1000 + 1, "/m burst ", i % 77 + 1); }

void wait_us(uint64_t us) {
  const timespec time{static_cast<time_t>(us / 1000000), static_cast<long>(us % 1000000 * 1000)};
  nanosleep(&time, nullptr);
}

// Goal: a full table is policy_table_full; what is defined stays, an equal one is still found.
// Method: four policies in a table of four, then a fifth.
TEST(PolicyTable, Full) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  Options options = small_options();
  options.policies.clear();
  const auto limiter = Limiter::create(path, options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  for (int i = 0; i < 4; ++i) {
    const auto policy = limiter->define(cat("p", i), text_of(i));
    ASSERT_TRUE(policy.ok()) << policy.status();
    EXPECT_EQ(policy->number(), i);
  }
  const auto fifth = limiter->define("p4", "1/s");
  EXPECT_TRUE(named(fifth, "policy_table_full"));
  EXPECT_TRUE(mentions(fifth.status(), "max_policies"));
  EXPECT_TRUE(named(limiter->policy("p4"), "policy_not_found"));
  EXPECT_TRUE(mentions(limiter->policy("p4").status(), "p0, p1, p2, p3"));
  EXPECT_EQ(limiter->define("p2", text_of(2))->number(), 2);
}

// Goal: 4096 policies can be defined, found and used, each with its own limit.
// Method: define all, look all up from another attach, take one permit with each for one key.
TEST(PolicyTable, FourThousandAndNinetySix) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  Options options;
  options.capacity = 20000;
  options.max_policies = 4096;
  const auto limiter = Limiter::create(path, options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  std::vector<PolicyHandle> handles;
  for (int i = 0; i < 4096; ++i) {
    const auto policy = limiter->define(cat("policy-", i), text_of(i));
    ASSERT_TRUE(policy.ok()) << policy.status();
    ASSERT_EQ(policy->number(), i);
    handles.push_back(*policy);
  }
  EXPECT_TRUE(named(limiter->define("one-more", "1/s"), "policy_table_full"));
  for (int i = 0; i < 4096; ++i) {
    const auto& policy = handles[static_cast<size_t>(i)];
    const Decision decision = policy.try_acquire("key");
    ASSERT_TRUE(decision.allowed());
    ASSERT_EQ(decision.remaining, static_cast<uint32_t>(i % 77)) << i;
    ASSERT_EQ(policy.policy(), *parse_policy(text_of(i)));
  }
  const auto inspector = Inspector::attach(path);
  EXPECT_EQ(inspector->policies().size(), 4096u);
  EXPECT_EQ(inspector->policies().back().name, "policy-4095");
}

// Goal: many definers of one name get one number, of different names one number each, none lost.
// Method: 8 processes define 40 common and 20 own names, in different orders.
TEST(PolicyTable, DefinedByEightProcessesAtOnce) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  Options options;
  options.capacity = 64;
  options.max_policies = 4096;
  ASSERT_TRUE(Limiter::create(path, options).ok());
  struct Numbers {
    uint16_t common[8][40];
    uint16_t own[8][20];
  };
  SharedWithChildren<Numbers> numbers;
  std::vector<pid_t> children;
  for (int me = 0; me < 8; ++me) {
    children.push_back(start_child([&, me] {
      const auto limiter = Limiter::attach(path);
      CHILD_CHECK(limiter.ok());
      for (int n = 0; n < 40; ++n) {
        const int i = (n * 7 + me * 5) % 40;
        const auto policy = limiter->define(cat("common-", i), text_of(i));
        CHILD_CHECK(policy.ok());
        numbers->common[me][i] = policy->number();
        if (n % 2 != 0) continue;
        const auto own = limiter->define(cat("own-", me, "-", n / 2), text_of(n));
        CHILD_CHECK(own.ok());
        numbers->own[me][n / 2] = own->number();
      }
      return 0;
    }));
  }
  for (const pid_t child : children) EXPECT_EQ(wait_for(child), 0);
  std::set<uint16_t> distinct;
  for (int i = 0; i < 40; ++i) {
    distinct.insert(numbers->common[0][i]);
    for (int me = 1; me < 8; ++me) EXPECT_EQ(numbers->common[me][i], numbers->common[0][i]);
  }
  for (const auto& row : numbers->own) distinct.insert(std::begin(row), std::end(row));
  EXPECT_EQ(distinct.size(), 40u + 8 * 20);
  EXPECT_EQ(*distinct.rbegin(), 40 + 8 * 20 - 1) << "a number was skipped";
}

// Every defined policy is whole: text and words say what its name promises.
void expect_whole_policies(const std::string& path, const std::string& prefix, size_t least) {
  const auto inspector = Inspector::attach(path);
  ASSERT_TRUE(inspector.ok()) << inspector.status();
  const std::vector<PolicyInfo> policies = inspector->policies();
  EXPECT_GE(policies.size(), least);
  for (const PolicyInfo& info : policies) {
    ASSERT_TRUE(info.name.starts_with(prefix)) << info.name;
    const Policy wanted = *parse_policy(text_of(std::stoi(info.name.substr(prefix.size()))));
    ASSERT_EQ(info.policy, wanted) << info.name;
    ASSERT_EQ(*parse_policy(info.text), wanted) << info.text;
  }
}

// Goal: a definer killed at any moment leaves no policy or a whole one, and no lock.
// Method: a child defines one policy after the other and is killed after a random time; what the
// table holds is checked; the next child goes on in the same table.
TEST(PolicyTable, DefinerKilledAtRandom) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  Options options;
  options.capacity = 64;
  options.max_policies = 4096;
  ASSERT_TRUE(Limiter::create(path, options).ok());
  Random random(5);
  size_t count = 0;
  int kills = 0;
  for (; kills < from_environment("BRIM_TEST_KILLS", 200) && count < 3900 && !HasFailure();
       ++kills) {
    const pid_t child = start_child([&path, count] {
      const auto limiter = Limiter::attach(path);
      CHILD_CHECK(limiter.ok());
      for (int i = static_cast<int>(count); i < 4096; ++i) {
        CHILD_CHECK(limiter->define(cat("p", i), text_of(i)).ok());
      }
      pause();
      return 1;
    });
    // A slow machine or a sanitizer needs longer to get as far as the first definition.
    const auto patience = static_cast<uint64_t>(count == 0 ? kills * 5000 : 0);
    wait_us(300 + random() % (1500 + patience));
    kill(child, SIGKILL);
    EXPECT_EQ(wait_for(child), SIGKILL);
    expect_whole_policies(path, "p", count);
    count = Inspector::attach(path)->policies().size();
  }
  std::printf("%d kills, %zu policies\n", kills, count);
  EXPECT_GT(count, 0u);
  const auto limiter = Limiter::attach(path);
  EXPECT_TRUE(limiter->define("last", "1/s").ok());
}

// Goal: a definer stopped for good in the middle hinders no reader and no decision.
// Method: a child takes the write lock and sleeps; policy() and try_acquire go on here.
TEST(PolicyTable, LockHolderHindersOnlyDefiners) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  const auto limiter = Limiter::create(path, small_options());
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t holder = start_child([&] {
    const auto segment = shm::Segment::attach(path, {});
    shm::Registry registry((*segment)->policies(), 4, (*segment)->fd());
    const auto lock = registry.lock();
    CHILD_CHECK(lock.held());
    CHILD_CHECK(write(ready[1], "x", 1) == 1);
    pause();
    return 0;
  });
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  const auto policy = limiter->policy("p");
  ASSERT_TRUE(policy.ok());
  EXPECT_TRUE(policy->try_acquire("key").allowed());
  EXPECT_TRUE(Inspector::attach(path).ok());
  kill(holder, SIGKILL);
  wait_for(holder);
  EXPECT_TRUE(limiter->define("q", "1/s").ok());
  close(ready[0]);
  close(ready[1]);
}

// Goal: names in the table are another process's bytes: an error message shows them escaped.
// Method: write an escape sequence over a policy's name.
TEST(PolicyTable, HostileNamesAreEscaped) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  const auto limiter = Limiter::create(path, small_options());
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const auto segment = shm::Segment::attach(path, {});
  std::fill_n((*segment)->policies()[0].name, shm::kPolicyNameBytes, '\x1b');
  const absl::Status status = limiter->policy("x").status();
  EXPECT_TRUE(named(status, "policy_not_found"));
  for (const char c : status.message()) EXPECT_TRUE(c >= 0x20 && c < 0x7f);
}

}  // namespace
}  // namespace brim::segment_test
