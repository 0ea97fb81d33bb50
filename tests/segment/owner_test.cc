// SPDX-License-Identifier: MIT
// F08, F09: who may have made the file under a name, who else has rights to it, and how many names
// it has. What kinds of files there are, and modes for others, is in files_test.cc.
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <atomic>
#include <cstring>

#include "brim/inspect.h"
#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

constexpr uid_t kNobody = 65534;
constexpr uid_t kMallory = 12345;

bool root() { return geteuid() == 0; }

bool become(uid_t uid, gid_t gid, const std::vector<gid_t>& groups = {}) {
  return setgroups(groups.size(), groups.data()) == 0 && setgid(gid) == 0 && setuid(uid) == 0;
}

// A directory as /dev/shm is: everybody may make files, only the owner may remove them.
class StickyDir : public TempDir {
 public:
  StickyDir() {
    if (chmod(path().c_str(), 01777) != 0) std::abort();
  }
};

// Goal: a file with a second name is refused by whoever attaches, for reading too, and served again
//   once the other name is gone; who has it attached goes on.
// Method: link(2) beside an attached segment; then the same under the name of another segment.
TEST(F08, HardLinked) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  const std::string second = directory.file("second");
  const auto held = Limiter::create(path, small_options());
  ASSERT_TRUE(held.ok()) << held.status();
  ASSERT_EQ(link(path.c_str(), second.c_str()), 0);
  for (const std::string& name : {path, second}) {
    EXPECT_TRUE(named(Limiter::open(name), "segment_hard_linked"));
    EXPECT_TRUE(named(Limiter::attach(name), "segment_hard_linked"));
    EXPECT_TRUE(named(Limiter::attach_read_only(name), "segment_hard_linked"));
    EXPECT_TRUE(named(Inspector::attach(name), "segment_hard_linked"));
    EXPECT_TRUE(named(Limiter::create(name, small_options()), "segment_exists"));
  }
  EXPECT_TRUE(mentions(Limiter::open(path).status(), "one of 2 names"));
  EXPECT_TRUE(held->policy("p")->try_acquire("key").allowed());
  EXPECT_TRUE(held->linked());
  // unlink removes the one name it was given.
  EXPECT_TRUE(Limiter::unlink(second).ok());
  EXPECT_TRUE(Limiter::attach(path).ok());
  ASSERT_EQ(link(path.c_str(), second.c_str()), 0);
  Options replace = small_options();
  replace.replace = true;
  EXPECT_TRUE(Limiter::create(second, replace).ok());
  EXPECT_TRUE(Limiter::attach(path).ok());
  EXPECT_EQ(directory.entries(), (std::vector<std::string>{"second", "seg"}));
}

// From now on this process finds no file system that knows unnamed files, and can give no file a
// second name.
bool refuse_unnamed_files_and_links() {
  constexpr uint32_t kUnnamed = O_TMPFILE & ~O_DIRECTORY;
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_linkat, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kUnnamed, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {std::size(filter), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

class Creation : public ::testing::TestWithParam<bool> {};

// Goal: creation and replacement never show a file with two names, or who attaches meanwhile would
//   be refused; on a file system without unnamed files too. Nothing else is left behind.
// Method: creations and replacements while a child attaches without a pause.
TEST_P(Creation, F08NeverHasTwoNames) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  const SharedWithChildren<std::atomic<int>> stop;
  const SharedWithChildren<std::atomic<int>> attached;
  const pid_t watcher = start_child([&] {
    while (*stop == 0) {
      const absl::Status status = Limiter::attach(path).status();
      CHILD_CHECK(status.ok() || named(status, "segment_not_found"));
      if (status.ok()) attached->store(1);
    }
    return 0;
  });
  const std::string ended = in_child([&] {
    if (GetParam() && !refuse_unnamed_files_and_links()) return 77;
    // Longer where the watcher hardly gets a turn; both have an alarm. Every third unlinks.
    for (int i = 0; i < 600 || i % 3 != 0 || *attached == 0; ++i) {
      Options options = small_options();
      options.replace = i % 3 != 0;
      CHILD_CHECK(Limiter::create(path, options).ok());
      CHILD_CHECK(named(Limiter::create(path, small_options()), "segment_exists"));
      CHILD_CHECK(i % 3 != 2 || Limiter::unlink(path).ok());
    }
    return 0;
  });
  *stop = 1;
  EXPECT_EQ(wait_for(watcher), 0);
  if (ended == "exit 77") GTEST_SKIP() << "no seccomp filters here";
  EXPECT_EQ(ended, "exit 0");
  EXPECT_EQ(*attached, 1) << "nobody ever attached";
  EXPECT_TRUE(directory.entries().empty());
}
INSTANTIATE_TEST_SUITE_P(UnnamedFilesRefused, Creation, ::testing::Bool());

// Goal: in a directory like /dev/shm nobody is led to use a file that another user put under the
//   name first; root may clear it away, others are told.
// Method: Mallory squats with a perfect segment of her own, with modes that let others in or not,
//   with a link to a segment of root's, with a fifo and with a directory.
TEST(F08, SquattedName) {
  if (!root()) GTEST_SKIP() << "needs root to act as other users";
  const StickyDir directory;
  const std::string path = directory.file("seg");
  const std::string roots = directory.file("roots");
  ASSERT_TRUE(Limiter::create(roots, small_options()).ok());
  struct Squat {
    const char* what;
    std::function<int()> make;
    const char* told_root;
    const char* told_user;
  };
  const auto segment = [&](mode_t mode) {
    return [&path, mode] {
      CHILD_CHECK(Limiter::create(path, small_options()).ok());
      CHILD_CHECK(chmod(path.c_str(), mode) == 0);
      return 0;
    };
  };
  const Squat squats[] = {
      {"0600", segment(0600), "segment_foreign_owner", "permission_denied"},
      {"0666", segment(0666), "segment_foreign_owner", "segment_foreign_owner"},
      {"symlink", [&] { return symlink("roots", path.c_str()); }, "segment_not_regular",
       "segment_not_regular"},
      {"fifo", [&] { return mkfifo(path.c_str(), 0666); }, "segment_not_regular",
       "segment_not_regular"},
      {"directory", [&] { return mkdir(path.c_str(), 0777); }, "segment_not_regular",
       "segment_not_regular"},
  };
  for (const Squat& squat : squats) {
    SCOPED_TRACE(squat.what);
    EXPECT_EQ(in_child([&] {
                umask(0);
                CHILD_CHECK(become(kMallory, kMallory));
                return squat.make();
              }),
              "exit 0");
    EXPECT_TRUE(named(Limiter::open(path, small_options()), squat.told_root));
    EXPECT_EQ(in_child([&] {
                CHILD_CHECK(become(kNobody, kNobody));
                CHILD_CHECK(named(Limiter::open(path, small_options()), squat.told_user));
                Options replace = small_options();
                replace.replace = true;
                CHILD_CHECK(!Limiter::create(path, replace).ok());
                CHILD_CHECK(!Limiter::unlink(path).ok());
                return 0;
              }),
              "exit 0");
    struct stat st {};
    EXPECT_EQ(lstat(path.c_str(), &st), 0);
    EXPECT_EQ(st.st_uid, kMallory);
    std::filesystem::remove(path);
  }
  EXPECT_TRUE(Limiter::attach(roots).ok());
}

// Goal: permission for a group is accepted by whoever asked for it: named the group, or asks for
//   such a mode himself. Nobody else writes there, not the owner and not root; to look is free.
// Method: root's segment of mode 0660 and group 12321; root, its member by primary group and its
//   member by a further group attach with and without naming it.
TEST(F09, GroupBitsMustBeAskedFor) {
  if (!root()) GTEST_SKIP() << "needs root to act as other users";
  const TempDir directory;
  const std::string path = directory.file("seg");
  ASSERT_TRUE(Limiter::create(path, small_options()).ok());
  ASSERT_EQ(chown(path.c_str(), 0, 12321), 0);
  for (const mode_t mode : {0660u, 0640u, 0620u, 0610u}) {
    SCOPED_TRACE(octal_mode(mode));
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
    EXPECT_TRUE(named(Limiter::attach(path), "segment_unsafe_mode"));
    EXPECT_TRUE(named(Limiter::open(path), "segment_unsafe_mode"));
    EXPECT_TRUE(mentions(Limiter::open(path).status(), octal_mode(mode)));
    EXPECT_TRUE(mentions(Limiter::open(path).status(), "gid 12321"));
    EXPECT_TRUE(Limiter::attach_read_only(path).ok());
    EXPECT_TRUE(Inspector::attach(path).ok());
    shm::Access access;
    access.gid = 12321;
    EXPECT_TRUE(shm::Segment::attach(path, access).ok());
    access.gid = 12322;
    EXPECT_TRUE(named(shm::Segment::attach(path, access), "segment_unsafe_mode"));
    Options asking;
    asking.mode = 0660;
    EXPECT_TRUE(Limiter::attach(path, asking).ok());
  }
  ASSERT_EQ(chmod(path.c_str(), 0660), 0);
  EXPECT_EQ(in_child([&] {
              CHILD_CHECK(become(kNobody, 12321));  // as primary group
              CHILD_CHECK(named(Limiter::attach(path), "segment_unsafe_mode"));
              Options asking;
              asking.mode = 0660;
              CHILD_CHECK(Limiter::attach(path, asking).ok());
              return 0;
            }),
            "exit 0");
}

// Goal: whoever asks for a group mode without naming a group can open again what he made.
// Method: open twice, as root and as nobody, under umask 0 and 0777.
TEST(F09, OpenAgainWithTheSameOptions) {
  const TempDir directory;
  for (const mode_t mask : {0u, 0777u}) {
    for (const uint32_t mode : {0600u, 0640u, 0660u}) {
      const auto twice = [&] {
        umask(mask);
        Options options = small_options();
        options.mode = mode;
        const std::string path = directory.file(cat("s", getpid(), "-", mode));
        CHILD_CHECK(Limiter::open(path, options).ok());
        CHILD_CHECK(Limiter::open(path, options).ok());
        struct stat st {};
        CHILD_CHECK(stat(path.c_str(), &st) == 0 && (st.st_mode & 07777) == mode);
        return 0;
      };
      EXPECT_EQ(in_child(twice), "exit 0") << octal_mode(mode);
      if (!root()) continue;
      EXPECT_EQ(in_child([&] {
                  CHILD_CHECK(become(kNobody, kNobody));
                  return twice();
                }),
                "exit 0")
          << octal_mode(mode);
    }
  }
}

// Goal: who may open a segment can hold its lock; a replacement then gives up, and says what to do.
// Method: a user locks a file of his own; root, who was asked to replace it, is back in time.
TEST(F08, SquatterHoldsTheLock) {
  if (!root()) GTEST_SKIP() << "needs root to act as other users";
  const StickyDir directory;
  const std::string path = directory.file("seg");
  const SharedWithChildren<std::atomic<int>> held;
  const pid_t squatter = start_child([&] {
    CHILD_CHECK(become(kMallory, kMallory));
    CHILD_CHECK(Limiter::create(path, small_options()).ok());
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    CHILD_CHECK(flock(fd, LOCK_EX) == 0);
    *held = 1;
    while (*held == 1) usleep(1000);
    return 0;
  });
  int status = 0;
  while (*held == 0 && waitpid(squatter, &status, WNOHANG) == 0) usleep(1000);
  ASSERT_EQ(*held, 1) << "the squatter ended with status " << status;
  EXPECT_EQ(in_child([&] {
              Options replace = small_options();
              replace.replace = true;
              CHILD_CHECK(named(Limiter::create(path, replace), "lock_failed"));
              CHILD_CHECK(Limiter::unlink(path).ok());
              CHILD_CHECK(Limiter::create(path, replace).ok());
              return 0;
            }),
            "exit 0");
  *held = 2;
  EXPECT_EQ(wait_for(squatter), 0);
  EXPECT_EQ(directory.entries(), (std::vector<std::string>{"seg"}));
}

// Goal: root's tools look at a user's segment without trusting it; root's workers do not use it
//   unless its owner is named, and then the user can do no more than spoil the counts.
// Method: nobody makes a segment; root inspects it, attaches it with and without the owner's uid.
TEST(F08, RootMeetsAUsersSegment) {
  if (!root()) GTEST_SKIP() << "needs root to act as other users";
  const StickyDir directory;
  const std::string path = directory.file("seg");
  EXPECT_EQ(in_child([&] {
              CHILD_CHECK(become(kNobody, kNobody));
              const auto limiter = Limiter::create(path, small_options());
              CHILD_CHECK(limiter.ok() && limiter->policy("p")->try_acquire("key").allowed());
              return 0;
            }),
            "exit 0");
  const auto inspector = Inspector::attach(path);
  ASSERT_TRUE(inspector.ok()) << inspector.status();
  EXPECT_EQ(inspector->info().owner_uid, kNobody);
  EXPECT_EQ(inspector->occupancy().live, 1u);
  const auto reader = Limiter::attach_read_only(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->policy("p")->peek("key").remaining, 9u);
  EXPECT_EQ(reader->policy("p")->try_acquire("key").reason, Reason::kReadOnly);
  EXPECT_TRUE(named(Limiter::attach(path), "segment_foreign_owner"));
  Options trusting;
  trusting.owner_uid = kMallory;
  EXPECT_TRUE(named(Limiter::attach(path, trusting), "segment_foreign_owner"));
  trusting.owner_uid = kNobody;
  EXPECT_TRUE(Limiter::attach(path, trusting).ok());
}

}  // namespace
}  // namespace brim::segment_test
