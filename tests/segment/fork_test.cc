// SPDX-License-Identifier: MIT
// F24, F25: what a child has of its parent's segments, and what a new program has not. Also the
// list of the attached.
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <set>
#include <thread>

#include "brim/inspect.h"
#include "shm/registry.h"
#include "src/base/clock.h"
#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

constexpr Word kAttachIdMask = ((Word{1} << kAttachIdBits) - 1) << (kCounterBits + kMillisBits);

Word attach_id(Word tentative) { return tentative & kAttachIdMask; }

// Threads that never leave try_acquire.
class Hammer {
 public:
  Hammer(const PolicyHandle& policy, int threads) {
    for (int t = 0; t < threads; ++t) {
      threads_.emplace_back([this, policy, t] {
        for (uint32_t i = 0; !stop_; ++i) {
          const char key[16] = {static_cast<char>('a' + t), static_cast<char>(i)};
          policy.try_acquire({key, sizeof(key)});
        }
      });
    }
  }
  ~Hammer() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

struct ChildSaw {
  Word tentative;
  uint32_t pid;
};

// Goal: a child forked while eight threads decide can decide, attach and open at once; parent and
// children never share a tentative value.
// Method: 60 forks under load; each child acquires, opens by name, reports its tentative word.
TEST(F24, ForkFromAThreadedParent) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  Options options = small_options();
  options.capacity = 65536;  // room for all: nothing is evicted
  options.policies = {{"p", "1000000/s"}, {"shared", "100/d"}};
  const auto limiter = Limiter::create(path, options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const auto policy = limiter->policy("p");
  const auto shared = limiter->policy("shared");
  const auto segment = shm::Segment::attach(path, {});
  ASSERT_TRUE(segment.ok()) << segment.status();
  SharedWithChildren<ChildSaw[60]> saw;
  {
    const Hammer hammer(*policy, 8);
    for (int i = 0; i < 60; ++i) {
      const std::string ended = in_child(
          [&] {
            CHILD_CHECK(shared->try_acquire("key").allowed());
            for (int k = 0; k < 200; ++k) policy->try_acquire(cat("child", i, "-", k));
            const auto opened = Limiter::open(path);
            CHILD_CHECK(opened.ok() && mappings(path).size() == 1);
            CHILD_CHECK(opened->policy("shared")->peek("key").remaining ==
                        static_cast<uint32_t>(99 - i));
            CHILD_CHECK(opened->define("shared", "100/d").ok());
            (*saw)[i] = {(*segment)->next_tentative(monotonic_now_ns()),
                         static_cast<uint32_t>(getpid())};
            return 0;
          },
          60);
      ASSERT_EQ(ended, "exit 0") << "fork " << i;
    }
  }
  std::set<Word> ids{attach_id((*segment)->next_tentative(monotonic_now_ns()))};
  for (const ChildSaw& child : *saw) {
    EXPECT_TRUE(is_tentative(child.tentative));
    EXPECT_TRUE(ids.insert(attach_id(child.tentative)).second) << "an attach id came twice";
  }
  EXPECT_EQ(shared->peek("key").remaining, 40u);
}

// Goal: grandchildren too have ids of their own, and no value repeats within a process.
// Method: a chain of forks, each drawing 1000 values.
TEST(F24, TentativeValuesNeverRepeat) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  ASSERT_TRUE(Limiter::create(path, small_options()).ok());
  const auto segment = shm::Segment::attach(path, {});
  ASSERT_TRUE(segment.ok()) << segment.status();
  SharedWithChildren<Word[4][1000]> drawn;
  const std::function<int(int)> generation = [&](int depth) {
    for (int i = 0; i < 500; ++i) (*drawn)[depth][i] = (*segment)->next_tentative(1);
    if (depth < 3 && in_child([&] { return generation(depth + 1); }) != "exit 0") return 1;
    for (int i = 500; i < 1000; ++i) (*drawn)[depth][i] = (*segment)->next_tentative(1);
    return 0;
  };
  EXPECT_EQ(generation(0), 0);
  std::set<Word> all;
  for (const auto& row : *drawn) all.insert(std::begin(row), std::end(row));
  EXPECT_EQ(all.size(), 4000u);
}

// Goal: forking while other threads open and close segments leaves the child able to do the same.
// Method: threads open, use and drop two names; each child does so too.
TEST(F24, ForkWhileOthersOpenAndClose) {
  if (BRIM_TEST_ASAN) GTEST_SKIP() << "gcc 12's AddressSanitizer may itself hang in such a fork";
  const TempDir directory;
  const std::string names[] = {directory.file("a"), directory.file("b")};
  for (const std::string& name : names) {
    ASSERT_TRUE(Limiter::create(name, small_options()).ok());
  }
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      while (!stop) {
        const auto limiter = Limiter::open(names[t % 2], small_options());
        if (limiter.ok()) limiter->policy("p")->try_acquire("key");
      }
    });
  }
  for (int i = 0; i < 100; ++i) {
    const std::string ended = in_child(
        [&] {
          for (const std::string& name : names) {
            const auto limiter = Limiter::open(name, small_options());
            CHILD_CHECK(limiter.ok() && limiter->policy("p").ok());
          }
          return 0;
        },
        60);
    ASSERT_EQ(ended, "exit 0") << "fork " << i;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

// Goal: a child forked while a thread defines a policy does not keep the lock that thread holds.
// Method: a process holds the lock while it forks a child that lives on; definitions must go
// through once the holder has let go, or was killed.
TEST(F24, LockIsNotInherited) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  const auto limiter = Limiter::create(path, small_options());
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  for (const bool killed : {false, true}) {
    SharedWithChildren<std::atomic<pid_t>> grandchild;
    const std::string ended = in_child(
        [&] {
          const auto segment = shm::Segment::attach(path, {});
          CHILD_CHECK(segment.ok());
          const shm::Registry registry((*segment)->policies(), 4, (*segment)->fd());
          {
            const auto lock = registry.lock();
            CHILD_CHECK(lock.held());
            *grandchild = start_child([] { return pause(); }, 60);
            usleep(20000);  // the grandchild is past fork's handlers
            if (killed) kill(getpid(), SIGKILL);
          }
          CHILD_CHECK(limiter->define("first", "1/s").ok());
          return 0;
        },
        30);
    EXPECT_EQ(ended, killed ? "signal 9" : "exit 0");
    EXPECT_EQ(in_child([&] { return limiter->define("then", "2/s").ok() ? 0 : 1; }, 30), "exit 0");
    kill(*grandchild, SIGKILL);
  }
}

// Goal: a child that outlives its parent goes on, and one that ends takes nothing from the parent.
// Method: the parent of a grandchild ends first; then children exit normally, running destructors.
TEST(F24, EitherMayEndFirst) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  int done[2];
  ASSERT_EQ(pipe(done), 0);
  EXPECT_EQ(in_child([&] {
              const auto limiter = Limiter::create(path, small_options());
              const auto policy = limiter->policy("p");
              CHILD_CHECK(policy->try_acquire("key", 2).allowed());
              const pid_t parent = getpid();
              start_child(
                  [&] {
                    while (getppid() == parent) usleep(1000);
                    CHILD_CHECK(policy->try_acquire("key", 3).remaining == 5);
                    CHILD_CHECK(write(done[1], "x", 1) == 1);
                    return 0;
                  },
                  10);
              return 0;
            }),
            "exit 0");
  close(done[1]);
  char byte = 0;
  EXPECT_EQ(read(done[0], &byte, 1), 1);
  close(done[0]);
  auto limiter = Limiter::attach(path);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  EXPECT_EQ(in_child([&] {
              limiter = absl::UnknownError("dropped");  // unmaps here only
              return mappings(path).empty() ? 0 : 1;
            }),
            "exit 0");
  EXPECT_EQ(limiter->policy("p")->peek("key").remaining, 5u);
}

// Goal: a new program inherits no descriptor of a segment.
// Method: all descriptors of the file are close-on-exec; a program started here finds none.
TEST(F25, NothingIsInheritedThroughExec) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  const auto limiter = Limiter::create(path, small_options());
  const auto reader = Limiter::attach_read_only(path);
  ASSERT_TRUE(limiter.ok() && reader.ok());
  ASSERT_TRUE(limiter->define("q", "1/s").ok());
  int found = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    if (std::filesystem::read_symlink(entry.path(), error) != path) continue;
    ++found;
    const int fd = std::stoi(entry.path().filename().string());
    EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0) << "descriptor " << fd;
  }
  EXPECT_GE(found, 2);
  const std::string helper = sibling("segment_helper");
  EXPECT_EQ(in_child([&] {
              execl(helper.c_str(), helper.c_str(), "inherited", path.c_str(), nullptr);
              return 127;
            }),
            "exit 0");
}

std::vector<uint32_t> alive(const std::string& path) {
  std::vector<uint32_t> pids;
  for (const AttachedInfo& attached : Inspector::attach(path)->attached()) {
    if (attached.same_namespace && attached.alive) pids.push_back(attached.pid);
  }
  std::sort(pids.begin(), pids.end());
  return pids;
}

// Goal: the list shows each attached process once, a forked child too, and the dead as dead; their
// entries are used again.
// Method: fork, look; kill, look; then more short-lived children than the list has entries.
TEST(Attachments, ShowTheLivingAndForgetTheDead) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  const auto limiter = Limiter::create(path, small_options());
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const auto second = Limiter::attach(path);
  const auto me = static_cast<uint32_t>(getpid());
  EXPECT_EQ(alive(path), std::vector<uint32_t>{me});
  const pid_t child = start_child([] { return pause(); });
  std::vector<uint32_t> both = {me, static_cast<uint32_t>(child)};
  std::sort(both.begin(), both.end());
  for (int i = 0; i < 5000 && alive(path).size() != 2; ++i) usleep(1000);
  EXPECT_EQ(alive(path), both);
  kill(child, SIGKILL);
  wait_for(child);
  EXPECT_EQ(alive(path), std::vector<uint32_t>{me});
  for (int i = 0; i < 300; ++i) EXPECT_EQ(in_child([] { return 0; }), "exit 0");
  EXPECT_EQ(alive(path), std::vector<uint32_t>{me});
  EXPECT_LT(Inspector::attach(path)->attached().size(), 10u);
  EXPECT_EQ(in_child([&] { return alive(path).size() == 2 ? 0 : 1; }), "exit 0");
}

// Goal: a process that cannot look at others takes nobody for dead.
// Method: a child forked with no descriptor left to read /proc; the parent's entry stays.
TEST(Attachments, NotKnowingIsNotDeath) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  const auto limiter = Limiter::create(path, small_options());
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const auto me = static_cast<uint32_t>(getpid());
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const pid_t child = start_child([] { return 0; });
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(wait_for(child), 0);
  EXPECT_EQ(alive(path), std::vector<uint32_t>{me});
}

}  // namespace
}  // namespace brim::segment_test
