// SPDX-License-Identifier: MIT
// Set-up calls from many threads of one process, for ThreadSanitizer: the handle cache and the
// policy table.
#include <atomic>
#include <set>
#include <thread>

#include "brim/inspect.h"
#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

constexpr int kThreads = 8;

void on_threads(const std::function<void(int)>& body) {
  std::atomic<int> waiting{kThreads};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (--waiting; waiting > 0;) std::this_thread::yield();
      body(t);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Goal: threads that open one name at once share one mapping.
// Method: eight threads attach, many rounds; all get the same object and one line in maps.
TEST(F13, ThreadsShareOneMapping) {
  const TempDir directory;
  for (int round = 0; round < 200 && !HasFailure(); ++round) {
    const std::string path = directory.file(cat("s", round));
    std::shared_ptr<shm::Segment> held[kThreads];
    on_threads([&](int t) {
      ASSERT_TRUE(Limiter::open(path, small_options()).ok());
      const auto segment = shm::Segment::attach(path, {});
      ASSERT_TRUE(segment.ok()) << segment.status();
      held[t] = *segment;
    });
    EXPECT_EQ(mappings(path).size(), 1u);
    for (const auto& one : held) EXPECT_EQ(one, held[0]);
    const auto attached = Inspector::attach(path)->attached();
    EXPECT_EQ(attached.size(), 1u);
  }
}

// Goal: opening, deciding and dropping by threads, with unlinks between, is free of races.
// Method: eight threads do so over two names; one removes them now and then.
TEST(F13, ThreadsOpenUseAndDrop) {
  const TempDir directory;
  on_threads([&](int t) {
    for (int i = 0; i < 300; ++i) {
      const std::string path = directory.file(i % 2 == 0 ? "a" : "b");
      const auto limiter = Limiter::open(path, small_options());
      if (!limiter.ok()) {  // removed between creating and attaching, eight times running
        EXPECT_TRUE(named(limiter, "segment_not_found"));
        continue;
      }
      const auto policy = limiter->policy("p");
      ASSERT_TRUE(policy.ok()) << policy.status();
      EXPECT_NE(policy->try_acquire(cat("key", t)).verdict, Verdict::kUnavailable);
      limiter->linked();
      if (t == 0 && i % 10 == 0) Limiter::unlink(path).IgnoreError();
    }
  });
  EXPECT_TRUE(mappings(directory.path()).empty());
}

// Goal: threads that define one name get one number; different names, different numbers; readers
// see a policy whole or not at all.
// Method: eight threads define common and own names while looking others' up.
TEST(PolicyTable, ThreadsDefineAndLookUp) {
  const TempDir directory;
  Options options;
  options.capacity = 64;
  options.max_policies = 1024;
  const auto limiter = Limiter::create(directory.file("seg"), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  uint16_t common[kThreads][50];
  uint16_t own[kThreads][50];
  on_threads([&](int t) {
    for (int n = 0; n < 50; ++n) {
      const int i = (n * 3 + t * 7) % 50;
      const auto policy = limiter->define(cat("c", i), cat(i + 1, "/m"));
      ASSERT_TRUE(policy.ok()) << policy.status();
      common[t][i] = policy->number();
      const auto mine = limiter->define(cat("o", t, "-", n), "5/s");
      ASSERT_TRUE(mine.ok()) << mine.status();
      own[t][n] = mine->number();
      const auto other = limiter->policy(cat("c", (i + 25) % 50));
      if (other.ok()) {
        EXPECT_EQ(other->policy(), *parse_policy(cat((i + 25) % 50 + 1, "/m")));
      }
    }
  });
  std::set<uint16_t> distinct;
  for (int t = 0; t < kThreads; ++t) {
    for (int i = 0; i < 50; ++i) EXPECT_EQ(common[t][i], common[0][i]);
    distinct.insert(std::begin(common[t]), std::end(common[t]));
    distinct.insert(std::begin(own[t]), std::end(own[t]));
  }
  EXPECT_EQ(distinct.size(), 50u + kThreads * 50u);
}

}  // namespace
}  // namespace brim::segment_test
