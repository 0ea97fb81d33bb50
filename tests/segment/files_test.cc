// SPDX-License-Identifier: MIT
// F08 to F10, F15: what may stand under a name, who may own it, with which mode, and which names
// there are. Also unlink and the list of segments.
#include <grp.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include <cstring>

#include "brim/inspect.h"
#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

constexpr uid_t kNobody = 65534;

bool root() { return geteuid() == 0; }

mode_t mode_of(const std::string& path) {
  struct stat st {};
  return stat(path.c_str(), &st) == 0 ? st.st_mode & 07777 : 0;
}

// Becomes another user, with this group and these further ones.
bool become(uid_t uid, gid_t gid, const std::vector<gid_t>& groups = {}) {
  return setgroups(groups.size(), groups.data()) == 0 && setgid(gid) == 0 && setuid(uid) == 0;
}

void expect_all_refuse(const std::string& path, std::string_view name) {
  EXPECT_TRUE(named(Limiter::open(path), name));
  EXPECT_TRUE(named(Limiter::attach(path), name));
  EXPECT_TRUE(named(Limiter::attach_read_only(path), name));
  EXPECT_TRUE(named(Inspector::attach(path), name));
}

// Goal: what is no regular file is refused by name at once: no hang on a fifo, no link followed,
// and neither replace nor unlink touches it.
// Method: each kind of file under the name, with an alarm around it.
TEST(F08, NotARegularFile) {
  const TempDir directory;
  const auto target = Limiter::create(directory.file("target"), small_options());
  ASSERT_TRUE(target.ok()) << target.status();
  ASSERT_EQ(symlink("target", directory.file("link").c_str()), 0);
  ASSERT_EQ(symlink("nowhere", directory.file("dangling").c_str()), 0);
  ASSERT_EQ(mkdir(directory.file("directory").c_str(), 0700), 0);
  ASSERT_EQ(mkfifo(directory.file("fifo").c_str(), 0600), 0);
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof(address.sun_path), "%s", directory.file("socket").c_str());
  ASSERT_EQ(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  std::vector<std::string> kinds = {"link", "dangling", "directory", "fifo", "socket"};
  if (mknod(directory.file("device").c_str(), S_IFCHR | 0600, makedev(1, 3)) == 0) {
    kinds.push_back("device");
  }
  alarm(60);
  Options replace = small_options();
  replace.replace = true;
  for (const std::string& kind : kinds) {
    SCOPED_TRACE(kind);
    const std::string path = directory.file(kind);
    expect_all_refuse(path, "segment_not_regular");
    EXPECT_TRUE(named(Limiter::create(path, small_options()), "segment_exists"));
    EXPECT_TRUE(named(Limiter::create(path, replace), "segment_not_regular"));
    EXPECT_TRUE(named(Limiter::unlink(path), "segment_not_regular"));
    struct stat st {};
    EXPECT_EQ(lstat(path.c_str(), &st), 0);
  }
  alarm(0);
  close(listener);
  EXPECT_TRUE(target->linked());
  for (const std::string& entry : directory.entries()) EXPECT_NE(entry.front(), '.');
}

// Goal: a segment of another user is not trusted, unless its owner is named.
// Method: root meets a file that belongs to uid 65534; read-only, root may look at anything.
TEST(F08, AnotherUsersSegment) {
  if (!root()) GTEST_SKIP() << "needs root to change owners";
  const TempDir directory;
  const std::string path = directory.file("seg");
  ASSERT_TRUE(Limiter::create(path, small_options()).ok());
  ASSERT_EQ(chown(path.c_str(), kNobody, kNobody), 0);
  for (const auto& result : {Limiter::open(path), Limiter::attach(path)}) {
    EXPECT_TRUE(named(result, "segment_foreign_owner"));
    EXPECT_TRUE(mentions(result.status(), "uid 65534"));
  }
  Options trusting;
  trusting.owner_uid = kNobody;
  EXPECT_TRUE(Limiter::attach(path, trusting).ok());
  EXPECT_TRUE(Inspector::attach(path).ok());
}

// Goal: a user without rights gets permission_denied; a squatter's file is not trusted.
// Method: a child of uid 65534 meets root's 0600 segment and a third user's readable file.
TEST(F08, SeenByAnUnprivilegedUser) {
  if (!root()) GTEST_SKIP() << "needs root to change owners";
  const TempDir directory;
  const std::string own = directory.file("own");
  const std::string squatted = directory.file("squatted");
  ASSERT_TRUE(Limiter::create(own, small_options()).ok());
  ASSERT_TRUE(Limiter::create(squatted, small_options()).ok());
  ASSERT_EQ(chown(squatted.c_str(), 12345, 12345), 0);
  ASSERT_EQ(chmod(squatted.c_str(), 0666), 0);
  const std::string ended = in_child([&] {
    CHILD_CHECK(become(kNobody, kNobody));
    CHILD_CHECK(named(Limiter::open(own), "permission_denied"));
    CHILD_CHECK(named(Limiter::attach_read_only(own), "permission_denied"));
    CHILD_CHECK(named(Limiter::open(squatted), "segment_foreign_owner"));
    CHILD_CHECK(named(Limiter::attach_read_only(squatted), "segment_foreign_owner"));
    Options replace = small_options();
    replace.replace = true;
    CHILD_CHECK(named(Limiter::create(squatted, replace), "permission_denied"));
    // What it makes itself is its own.
    CHILD_CHECK(Limiter::create(directory.file("mine"), small_options()).ok());
    CHILD_CHECK(Limiter::attach(directory.file("mine")).ok());
    return 0;
  });
  EXPECT_EQ(ended, "exit 0");
  EXPECT_TRUE(named(Limiter::open(directory.file("mine")), "segment_foreign_owner"));
}

// Goal: a segment that others may read or write is refused, its mode shown.
// Method: chmod a good one.
TEST(F09, ModesThatLetOthersIn) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  ASSERT_TRUE(Limiter::create(path, small_options()).ok());
  for (const mode_t mode : {0666u, 0606u, 0604u, 0602u, 0601u, 0777u}) {
    SCOPED_TRACE(octal_mode(mode));
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
    expect_all_refuse(path, "segment_unsafe_mode");
    EXPECT_TRUE(mentions(Limiter::open(path).status(), octal_mode(mode)));
  }
  ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  EXPECT_TRUE(Limiter::open(path).ok());
}

// Goal: group bits need a group that the attacher names or is in by itself.
// Method: root's segment of mode 0660 and group 12321, met by uid 65534 with that group among its
// further ones only. Naming the group (as an Access, it needs no name) makes it trusted.
TEST(F09, GroupWritableByAGroupNobodyNamed) {
  if (!root()) GTEST_SKIP() << "needs root to change owners";
  const TempDir directory;
  const std::string path = directory.file("seg");
  ASSERT_TRUE(Limiter::create(path, small_options()).ok());
  ASSERT_EQ(chown(path.c_str(), 0, 12321), 0);
  ASSERT_EQ(chmod(path.c_str(), 0660), 0);
  const std::string ended = in_child([&] {
    CHILD_CHECK(become(kNobody, kNobody, {12321}));
    CHILD_CHECK(named(Limiter::attach(path), "segment_unsafe_mode"));
    CHILD_CHECK(mentions(Limiter::attach(path).status(), "0660"));
    shm::Access access;
    access.gid = 12321;
    CHILD_CHECK(shm::Segment::attach(path, access).ok());
    return 0;
  });
  EXPECT_EQ(ended, "exit 0");
}

// Goal: a group segment works for its members, workers and tools alike, whoever of them made it.
// Method: two users of one system group; the first creates, the second attaches and inspects.
TEST(F09, GroupMembersShareASegment) {
  if (!root()) GTEST_SKIP() << "needs root to change users";
  const group* const found = getgrnam("users");
  if (found == nullptr) GTEST_SKIP() << "this system has no group 'users'";
  const gid_t gid = found->gr_gid;
  const TempDir directory;
  const std::string path = directory.file("seg");
  Options options = small_options();
  options.mode = 0660;
  options.group = "users";
  EXPECT_EQ(in_child([&] {
              CHILD_CHECK(become(12345, 12345, {gid}));
              CHILD_CHECK(Limiter::create(path, options).ok());
              return 0;
            }),
            "exit 0");
  EXPECT_EQ(mode_of(path), 0660u);
  EXPECT_EQ(in_child([&] {
              CHILD_CHECK(become(kNobody, kNobody, {gid}));
              const auto limiter = Limiter::open(path, options);
              CHILD_CHECK(limiter.ok() && limiter->policy("p")->try_acquire("k").allowed());
              CHILD_CHECK(Limiter::attach_read_only(path, options).ok());
              CHILD_CHECK(Inspector::attach(path, options).ok());
              CHILD_CHECK(limiter->define("more", "1/s").ok());
              return 0;
            }),
            "exit 0");
}

// Goal: the file has exactly the mode asked for, whatever the umask, and the group.
// Method: each mode under umask 0 and 0777; modes outside the list are refused and make nothing.
TEST(F09, CreatedModeIsTheOneAskedFor) {
  const TempDir directory;
  const group* const found = getgrnam("users");
  for (const mode_t mask : {0u, 0777u, 0022u}) {
    for (const uint32_t mode : {0600u, 0640u, 0660u}) {
      SCOPED_TRACE(cat("umask ", octal_mode(mask), " mode ", octal_mode(mode)));
      const std::string path = directory.file(cat("s", mask, "-", mode));
      Options options = small_options();
      options.mode = mode;
      if (mode != 0600 && found != nullptr && root()) options.group = "users";
      const mode_t before = umask(mask);
      const auto limiter = Limiter::create(path, options);
      umask(before);
      ASSERT_TRUE(limiter.ok()) << limiter.status();
      struct stat st {};
      ASSERT_EQ(stat(path.c_str(), &st), 0);
      EXPECT_EQ(st.st_mode & 07777, mode);
      if (!options.group.empty()) {
        EXPECT_EQ(st.st_gid, found->gr_gid);
      }
      EXPECT_EQ(st.st_nlink, 1u);
    }
  }
  for (const uint32_t mode : {0u, 0400u, 0666u, 0606u, 0700u, 0644u, 04600u, 0200u}) {
    Options options = small_options();
    options.mode = mode;
    EXPECT_TRUE(named(Limiter::create(directory.file("bad"), options), "invalid_option"));
  }
  Options options = small_options();
  options.group = "no-such-group-here";
  EXPECT_TRUE(named(Limiter::create(directory.file("bad"), options), "invalid_option"));
  EXPECT_FALSE(std::filesystem::exists(directory.file("bad")));
}

std::vector<std::string> bad_names() {
  std::vector<std::string> names = {"",        "/",     ".",   "..",      "a/b",
                                    ".hidden", "/.x",   "a b", "a\nb",    "caf\xc3\xa9",
                                    "\x1b[2J", "a%b",   "-/x", "/dir/..", "/dir/../x",
                                    "/dir/.h", "/dir/", "//",  "a\\b",    "\xff\xfe"};
  names.push_back(std::string("a\0b", 3));
  names.push_back(std::string("/tmp/a\0b", 8));
  names.push_back(std::string(201, 'a'));
  names.push_back(std::string(300, 'a'));
  names.push_back("/tmp/" + std::string(201, 'a'));
  names.push_back("/" + std::string(5000, 'd') + "/x");
  return names;
}

// Goal: a bad name is invalid_name, with the rule, in every call; it is shown escaped.
// Method: a list of them.
TEST(F10, BadNames) {
  for (const std::string& name : bad_names()) {
    SCOPED_TRACE(printable(name));
    expect_all_refuse(name, "invalid_name");
    EXPECT_TRUE(named(Limiter::create(name), "invalid_name"));
    EXPECT_TRUE(named(Limiter::unlink(name), "invalid_name"));
    const absl::Status status = Limiter::open(name).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    for (const char c : status.message()) EXPECT_TRUE(c >= 0x20 && c < 0x7f);
  }
}

// Goal: a bad name is refused before any system call.
// Method: a child under strict seccomp, which kills at any call but read, write and exit.
TEST(F10, BadNamesMakeNoSystemCall) {
  if (BRIM_TEST_ASAN || BRIM_TEST_TSAN) GTEST_SKIP() << "the sanitizer makes calls of its own";
  const std::vector<std::string> names = bad_names();
  const std::string ended = in_child([&] {
    std::free(std::malloc(size_t{1} << 16));  // the heap grows before, not after
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) return 77;
    bool all = true;
    for (const std::string& name : names) {
      all = all && absl::IsInvalidArgument(Limiter::open(name).status()) &&
            absl::IsInvalidArgument(Limiter::create(name).status()) &&
            absl::IsInvalidArgument(Limiter::attach(name).status());
    }
    syscall(SYS_exit, all ? 0 : 1);  // exit_group is not among the three
    return 1;
  });
  if (ended == "exit 77") GTEST_SKIP() << "no seccomp here";
  EXPECT_EQ(ended, "exit 0");
}

// Goal: good names work, and `name`, `/name` and its path are one segment.
// Method: 1 character, 200 characters, all characters allowed; a path on disk.
TEST(F10, GoodNames) {
  const std::string unique = cat("brim-test-", getpid());
  const std::string longest = unique + std::string(200 - unique.size(), 'x');
  for (const std::string& name : {unique + "-AZaz09._-", longest}) {
    const auto bare = Limiter::create(name, small_options());
    ASSERT_TRUE(bare.ok()) << bare.status();
    EXPECT_TRUE(named(Limiter::create("/" + name), "segment_exists"));
    EXPECT_TRUE(named(Limiter::create("/dev/shm/" + name), "segment_exists"));
    EXPECT_EQ(mode_of("/dev/shm/" + name), 0600u);
    EXPECT_TRUE(Limiter::unlink("/" + name).ok());
    EXPECT_TRUE(named(Limiter::attach(name), "segment_not_found"));
  }
  const TempDir directory;
  EXPECT_TRUE(Limiter::create(directory.file("x"), small_options()).ok());
  EXPECT_TRUE(Limiter::attach(directory.file("x")).ok());
  EXPECT_TRUE(named(Limiter::open(directory.file("absent/x")), "no_directory"));
  EXPECT_TRUE(named(Limiter::open(directory.file("x/y")), "segment_not_regular"));
  const TempDir disk("/var/tmp");
  const auto limiter = Limiter::create(disk.file("seg"), small_options());
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  EXPECT_TRUE(limiter->policy("p")->try_acquire("key").allowed());
  EXPECT_EQ(disk.entries(), std::vector<std::string>{"seg"});
}

// Goal: removed in use: linked() tells, the old mapping goes on, a new open makes another.
// Method: unlink; remove by hand; put another file under the name.
TEST(F15, UnlinkedWhileInUse) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  const auto old = Limiter::open(path, small_options());
  ASSERT_TRUE(old.ok()) << old.status();
  const auto policy = old->policy("p");
  EXPECT_TRUE(old->linked());
  EXPECT_EQ(policy->try_acquire("key", 3).remaining, 7u);
  ASSERT_TRUE(Limiter::unlink(path).ok());
  EXPECT_FALSE(old->linked());
  EXPECT_EQ(policy->try_acquire("key", 3).remaining, 4u);
  EXPECT_TRUE(named(Limiter::unlink(path), "segment_not_found"));
  const auto fresh = Limiter::open(path, small_options());
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  EXPECT_TRUE(fresh->linked());
  EXPECT_FALSE(old->linked());
  EXPECT_EQ(fresh->policy("p")->try_acquire("key", 1).remaining, 9u);
  EXPECT_EQ(policy->try_acquire("key", 1).remaining, 3u);
  ASSERT_EQ(rename(path.c_str(), directory.file("moved").c_str()), 0);
  std::ofstream(path).close();
  EXPECT_FALSE(fresh->linked());
}

// Goal: unlink removes segments, also damaged ones, and nothing else.
// Method: a short text, a long one, a segment cut in half, an empty leftover.
TEST(Unlink, RemovesOnlySegments) {
  const TempDir directory;
  const std::string path = directory.file("f");
  for (const char* text : {"x", "notes\n", "BRIMSEG", "some other program's file, rather long"}) {
    std::ofstream(path, std::ios::trunc) << text;
    const bool ours = std::string_view(text) == "BRIMSEG";  // a segment cut very short
    EXPECT_EQ(Limiter::unlink(path).ok(), ours) << text;
    EXPECT_EQ(std::filesystem::exists(path), !ours) << text;
  }
  std::ofstream(path, std::ios::trunc).close();
  EXPECT_TRUE(Limiter::unlink(path).ok()) << "an empty leftover";
  ASSERT_TRUE(Limiter::create(path, small_options()).ok());
  ASSERT_EQ(truncate(path.c_str(), 700), 0);
  EXPECT_TRUE(Limiter::unlink(path).ok()) << "a damaged segment";
  EXPECT_TRUE(directory.entries().empty());
}

// Goal: the list shows this machine's segments, broken ones with their error, and no other files.
// Method: a good one, one with a wrong mode, one cut short, and a file of somebody else.
TEST(ListSegments, ShowsGoodAndBroken) {
  const std::string stem = cat("brim-test-list-", getpid(), "-");
  const auto path = [&](const char* tag) { return cat("/dev/shm/", stem, tag); };
  for (const char* tag : {"good", "mode", "short"}) {
    ASSERT_TRUE(Limiter::create(stem + tag, small_options()).ok());
  }
  const auto held = Limiter::attach(stem + "good");
  ASSERT_EQ(chmod(path("mode").c_str(), 0666), 0);
  ASSERT_EQ(truncate(path("short").c_str(), 2000), 0);
  std::ofstream(path("other")) << "not a segment";
  std::vector<std::string> shown;
  for (const ListedSegment& segment : list_segments()) {
    if (!segment.name.starts_with(stem)) continue;
    const std::string tag = segment.name.substr(stem.size());
    shown.push_back(tag);
    EXPECT_EQ(segment.owner_uid, geteuid());
    if (tag == "good") {
      EXPECT_TRUE(segment.status.ok()) << segment.status;
      EXPECT_EQ(segment.attached + segment.attached_elsewhere, 1u);  // this process
      EXPECT_GT(segment.created_wall_ns, 0);
    } else {
      EXPECT_EQ(segment.attached + segment.attached_elsewhere, 0u);
    }
    if (tag == "mode") {
      EXPECT_TRUE(named(segment.status, "segment_unsafe_mode"));
    }
    if (tag == "mode") {
      EXPECT_EQ(segment.mode, 0666u);
    }
    if (tag == "short") {
      EXPECT_TRUE(named(segment.status, "segment_size_mismatch"));
    }
    if (tag == "short") {
      EXPECT_EQ(segment.size_bytes, 2000u);
    }
  }
  EXPECT_EQ(shown, (std::vector<std::string>{"good", "mode", "short"}));
  for (const char* tag : {"good", "mode", "short", "other"}) unlink(path(tag).c_str());
}

}  // namespace
}  // namespace brim::segment_test
