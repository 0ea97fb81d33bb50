// SPDX-License-Identifier: MIT
// F18 to F20: other time, pid and user namespaces, and the read-only attach.
#include <sched.h>
#include <signal.h>

#include <cstring>

#include "brim/inspect.h"
#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

constexpr int kNotPermitted = 77;

// Runs `body` in a child of a child that first unshared these namespaces: a pid or time namespace
// begins with the next child.
std::string in_namespace(int flags, const std::function<int()>& body) {
  return in_child([&] {
    if (unshare(flags) != 0) return kNotPermitted;
    if ((flags & CLONE_NEWTIME) != 0) {
      std::ofstream offsets("/proc/self/timens_offsets");
      offsets << "monotonic 5000 0\n" << std::flush;
      if (!offsets) return kNotPermitted;
    }
    const int status = wait_for(start_child(body));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  });
}

// Goal: from a time namespace with another monotonic clock, the segment is refused, never used
// with times that are off; one made there is refused here; its own works there.
// Method: unshare(CLONE_NEWTIME) with an offset of 5000 s, then a child.
TEST(F18, OtherTimeNamespace) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  const std::string theirs = directory.file("theirs");
  ASSERT_TRUE(Limiter::create(path, small_options()).ok());
  const std::string ended = in_namespace(CLONE_NEWTIME, [&] {
    CHILD_CHECK(named(Limiter::open(path), "segment_other_time_namespace"));
    CHILD_CHECK(named(Limiter::attach_read_only(path), "segment_other_time_namespace"));
    CHILD_CHECK(named(Inspector::attach(path), "segment_other_time_namespace"));
    const auto own = Limiter::create(theirs, small_options());
    CHILD_CHECK(own.ok() && own->policy("p")->try_acquire("key").allowed());
    return 0;
  });
  if (ended == "exit 77") GTEST_SKIP() << "time namespaces are not permitted here";
  EXPECT_EQ(ended, "exit 0");
  EXPECT_TRUE(named(Limiter::attach(theirs), "segment_other_time_namespace"));
  EXPECT_TRUE(mappings(directory.path()).empty());
}

// Goal: another pid namespace changes nothing but what the list of the attached can tell.
// Method: a child that is pid 1 of its own namespace shares debts with this process and defines a
// policy; it is listed as of another namespace, and alive is not claimed.
TEST(F19, OtherPidNamespace) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  const auto limiter = Limiter::create(path, small_options());
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const auto policy = limiter->policy("p");
  ASSERT_TRUE(policy->try_acquire("key", 4).allowed());
  bool seen = false;
  const std::string ended = in_namespace(CLONE_NEWPID, [&] {
    CHILD_CHECK(getpid() == 1);
    const auto here = Limiter::open(path, small_options());
    CHILD_CHECK(here.ok());
    CHILD_CHECK(here->policy("p")->try_acquire("key", 4).remaining == 2);
    CHILD_CHECK(here->define("theirs", "7/s").ok());
    return 0;
  });
  if (ended == "exit 77") GTEST_SKIP() << "pid namespaces are not permitted here";
  EXPECT_EQ(ended, "exit 0");
  EXPECT_EQ(policy->peek("key").remaining, 2u);
  EXPECT_TRUE(limiter->policy("theirs").ok());
  for (const AttachedInfo& attached : Inspector::attach(path)->attached()) {
    if (attached.same_namespace) continue;
    seen = true;
    EXPECT_EQ(attached.pid, 1u);
    EXPECT_FALSE(attached.alive);
  }
  EXPECT_TRUE(seen);
}

// Goal: processes of one number in two pid namespaces do not remove each other from the list.
// Method: pid 1 of one namespace stays attached while pid 1 of another attaches and leaves.
TEST(F19, SameNumberInTwoNamespaces) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  ASSERT_TRUE(Limiter::create(path, small_options()).ok());
  int ready[2];
  int leave[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(leave), 0);
  const pid_t first = start_child([&] {
    close(leave[1]);
    const std::string inner = in_namespace(CLONE_NEWPID, [&] {
      const auto limiter = Limiter::attach(path);
      CHILD_CHECK(limiter.ok());
      CHILD_CHECK(write(ready[1], "x", 1) == 1);
      char byte = 0;
      return static_cast<int>(read(leave[0], &byte, 1));
    });
    if (inner == "exit 77") CHILD_CHECK(write(ready[1], "n", 1) == 1);
    return inner == "exit 0" ? 0 : 1;
  });
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  const auto foreign = [&path] {
    size_t count = 0;
    for (const AttachedInfo& attached : Inspector::attach(path)->attached()) {
      count += attached.same_namespace ? 0 : 1;
    }
    return count;
  };
  if (byte == 'x') {
    EXPECT_EQ(foreign(), 1u);
    const std::string second = in_namespace(CLONE_NEWPID, [&] {
      { CHILD_CHECK(Limiter::attach(path).ok()); }
      return 0;
    });
    EXPECT_EQ(second, "exit 0");
    EXPECT_EQ(foreign(), 1u);
  }
  close(leave[1]);
  const int status = wait_for(first);
  for (const int fd : {ready[0], ready[1], leave[0]}) close(fd);
  if (byte != 'x') GTEST_SKIP() << "pid namespaces are not permitted here";
  EXPECT_EQ(status, 0);
}

// Goal: a process that has its uid from a user namespace may use what that uid owns.
// Method: unshare(CLONE_NEWUSER) with uid 0 mapped to itself.
TEST(F19, OtherUserNamespace) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  ASSERT_TRUE(Limiter::create(path, small_options()).ok());
  const uid_t uid = geteuid();
  const std::string ended = in_child([&] {
    if (unshare(CLONE_NEWUSER) != 0) return kNotPermitted;
    std::ofstream("/proc/self/uid_map") << cat(uid, " ", uid, " 1\n") << std::flush;
    const auto limiter = Limiter::open(path, small_options());
    CHILD_CHECK(limiter.ok());
    CHILD_CHECK(limiter->policy("p")->try_acquire("key").allowed());
    return 0;
  });
  if (ended == "exit 77") GTEST_SKIP() << "user namespaces are not permitted here";
  EXPECT_EQ(ended, "exit 0");
}

// Goal: a read-only attach reads everything and changes nothing, whatever is called.
// Method: the mapping is r--s; every call is made; the file's bytes before and after are equal.
TEST(F20, ReadOnlyAttachWritesNothing) {
  if (BRIM_TEST_TSAN) GTEST_SKIP() << "the sanitizer's 16-byte load writes";
  const TempDir directory;
  const std::string path = directory.file("seg");
  {
    Options options = small_options();
    options.policies = {{"p", "10/h"}, {"strict", "10/h on-unavailable deny"}};
    const auto limiter = Limiter::create(path, options);
    ASSERT_TRUE(limiter.ok()) << limiter.status();
    ASSERT_TRUE(limiter->policy("p")->try_acquire("key", 4).allowed());
    ASSERT_TRUE(limiter->policy("strict")->try_acquire("key", 10).allowed());
  }
  const std::string before = read_bytes(path);
  const auto reader = Limiter::attach_read_only(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  const auto inspector = Inspector::attach(path);
  ASSERT_TRUE(inspector.ok()) << inspector.status();
  ASSERT_FALSE(mappings(path).empty());
  for (const std::string& line : mappings(path)) {
    EXPECT_NE(line.find(" r--s "), std::string::npos) << line;
  }
  const auto policy = reader->policy("p");
  const auto strict = reader->policy("strict");
  ASSERT_TRUE(policy.ok() && strict.ok());
  EXPECT_EQ(policy->peek("key").remaining, 6u);
  EXPECT_EQ(policy->peek("other").remaining, 10u);
  EXPECT_EQ(policy->peek("key", 7).verdict, Verdict::kDenied);
  for (const uint32_t cost : {0u, 1u, 10u, 11u}) {
    const Decision allowed = policy->try_acquire("key", cost);
    EXPECT_EQ(allowed.reason, Reason::kReadOnly);
    EXPECT_EQ(allowed.verdict, Verdict::kUnavailable);
    EXPECT_TRUE(allowed.admitted);
    EXPECT_FALSE(strict->try_acquire("key", cost).admitted);
    EXPECT_EQ(strict->try_acquire_at(1, "new", cost).reason, Reason::kReadOnly);
  }
  const std::string_view keys[] = {"a", "b", "key"};
  Decision out[3];
  policy->try_acquire_batch(keys, out);
  for (const Decision& decision : out) EXPECT_EQ(decision.reason, Reason::kReadOnly);
  EXPECT_FALSE(policy->refund("key"));
  EXPECT_FALSE(policy->reset("key"));
  EXPECT_TRUE(named(reader->define("p", "10/h"), "read_only"));
  EXPECT_TRUE(named(reader->define("new", "10/h"), "read_only"));
  inspector->info();
  inspector->policies();
  inspector->counters();
  inspector->attached();
  EXPECT_EQ(inspector->occupancy().live, 2u);
  size_t shown = 0;
  inspector->for_each_key([&](const KeyInfo&) { return ++shown != 0; });
  EXPECT_EQ(shown, 2u);
  EXPECT_TRUE(reader->linked());
  EXPECT_EQ(read_bytes(path), before);
}

// Goal: a reader that may not write the file can attach it read-only.
// Method: mode 0640, met by a member of the group, who fails to attach for writing.
TEST(F20, GroupMayOnlyRead) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to change users";
  const TempDir directory;
  const std::string path = directory.file("seg");
  Options options = small_options();
  options.mode = 0640;
  ASSERT_TRUE(Limiter::create(path, options).ok());
  ASSERT_EQ(chown(path.c_str(), 0, 65534), 0);
  const std::string ended = in_child([&] {
    CHILD_CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    CHILD_CHECK(named(Limiter::attach(path), "permission_denied"));
    const auto reader = Limiter::attach_read_only(path);
    CHILD_CHECK(reader.ok());
    CHILD_CHECK(reader->policy("p")->peek("key").remaining == 10);
    CHILD_CHECK(Inspector::attach(path).ok());
    return 0;
  });
  EXPECT_EQ(ended, "exit 0");
}

}  // namespace
}  // namespace brim::segment_test
