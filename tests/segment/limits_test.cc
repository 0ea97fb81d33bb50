// SPDX-License-Identifier: MIT
// F11 to F13: no room, no memory, no descriptors. An error with a name and figures, nothing left
// behind, and nothing leaked however often it happens. Also sizes from one key to ten million.
#include <sys/mount.h>
#include <sys/resource.h>

#include <cstring>
#include <tuple>

#include "brim/inspect.h"
#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

// A tmpfs of its own, unmounted with the object.
class SmallTmpfs {
 public:
  explicit SmallTmpfs(const char* options)
      : mounted_(mount("none", directory_.path().c_str(), "tmpfs", 0, options) == 0) {}
  ~SmallTmpfs() {
    if (mounted_) umount2(directory_.path().c_str(), MNT_DETACH);
  }
  SmallTmpfs(const SmallTmpfs&) = delete;
  SmallTmpfs& operator=(const SmallTmpfs&) = delete;
  bool mounted() const { return mounted_; }
  const TempDir& directory() const { return directory_; }

 private:
  TempDir directory_{"/tmp"};
  bool mounted_;
};

bool limit(int resource, rlim_t value) {
  rlimit now{};
  getrlimit(static_cast<__rlimit_resource>(resource), &now);
  now.rlim_cur = value;
  return setrlimit(static_cast<__rlimit_resource>(resource), &now) == 0;
}

// Goal: too small a tmpfs is an error that tells need and have; no file, no SIGBUS; what fits
// fits, and its every page is there.
// Method: a tmpfs of 1 MB; 8 MB wanted, then a segment that fits, filled with keys.
TEST(F11, TmpfsTooSmall) {
  const SmallTmpfs tmpfs("size=1m,mode=0777");
  if (!tmpfs.mounted()) GTEST_SKIP() << "mount(2) is not permitted here";
  const std::string path = tmpfs.directory().file("seg");
  Options big = small_options();
  big.capacity = 500000;
  big.name_bytes = Options::kNoNames;
  for (const auto& result : {Limiter::open(path, big), Limiter::create(path, big)}) {
    EXPECT_TRUE(named(result, "no_space"));
    EXPECT_EQ(result.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_TRUE(mentions(result.status(), "needs 81")) << result.status();
    EXPECT_TRUE(mentions(result.status(), " 1048576 are free")) << result.status();
  }
  EXPECT_TRUE(tmpfs.directory().entries().empty());
  Options fits = small_options();
  fits.capacity = 5000;
  const auto limiter = Limiter::open(path, fits);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const auto policy = limiter->policy("p");
  for (int i = 0; i < 5000; ++i) policy->try_acquire(cat("key", i));
  EXPECT_TRUE(named(Limiter::create(tmpfs.directory().file("two"), fits), "no_space"));
  EXPECT_EQ(tmpfs.directory().entries(), std::vector<std::string>{"seg"});
}

// Goal: a replacement that does not fit leaves what was there.
// Method: replace a segment in a tmpfs that can not hold two.
TEST(F11, ReplacementThatDoesNotFit) {
  const SmallTmpfs tmpfs("size=1m,mode=0777");
  if (!tmpfs.mounted()) GTEST_SKIP() << "mount(2) is not permitted here";
  const std::string path = tmpfs.directory().file("seg");
  Options options = small_options();
  options.capacity = 5000;
  const auto limiter = Limiter::create(path, options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  options.replace = true;
  EXPECT_TRUE(named(Limiter::create(path, options), "no_space"));
  EXPECT_TRUE(limiter->linked());
  EXPECT_EQ(tmpfs.directory().entries(), std::vector<std::string>{"seg"});
}

// Goal: no inode left is lack of space too, not an unknown error.
// Method: a tmpfs of two inodes, the root and one file.
TEST(F11, NoInodes) {
  const SmallTmpfs tmpfs("size=8m,nr_inodes=2,mode=0777");
  if (!tmpfs.mounted()) GTEST_SKIP() << "mount(2) is not permitted here";
  ASSERT_TRUE(Limiter::create(tmpfs.directory().file("one"), small_options()).ok());
  EXPECT_TRUE(named(Limiter::create(tmpfs.directory().file("two"), small_options()), "no_space"));
}

// A memory cgroup of this test's own: version 2, or version 1 where that is what is mounted.
class MemoryGroup {
 public:
  explicit MemoryGroup(uint64_t bytes) {
    for (const auto& [root, most, swap] :
         {std::tuple("/sys/fs/cgroup", "memory.max", "memory.swap.max"),
          std::tuple("/sys/fs/cgroup/unified", "memory.max", "memory.swap.max"),
          std::tuple("/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                     "memory.memsw.limit_in_bytes")}) {
      const std::string path = cat(root, "/brim-test-", getpid());
      if (mkdir(path.c_str(), 0755) != 0) continue;
      path_ = path;
      if (write(most, bytes)) {
        write(swap, std::string_view(swap) == "memory.swap.max" ? 0 : bytes);
        return;
      }
      rmdir(path.c_str());
      path_.clear();
    }
  }
  ~MemoryGroup() {
    // Empty once the kernel has let the dead child go.
    for (int tries = 0; !path_.empty() && rmdir(path_.c_str()) != 0 && tries < 200; ++tries) {
      usleep(10000);
    }
  }
  MemoryGroup(const MemoryGroup&) = delete;
  MemoryGroup& operator=(const MemoryGroup&) = delete;
  bool exists() const { return !path_.empty(); }
  bool enter() const { return write("cgroup.procs", static_cast<uint64_t>(getpid())); }

 private:
  // Never makes the file: where no cgroup is mounted this is a directory like any other.
  bool write(std::string_view file, uint64_t number) const {
    const int fd = open(cat(path_, "/", file).c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const std::string text = std::to_string(number);
    const ssize_t written = ::write(fd, text.data(), text.size());
    close(fd);
    return written == static_cast<ssize_t>(text.size());
  }
  std::string path_;
};

// Goal: a creator short of memory in its cgroup publishes nothing: creation fails, or the kernel
// kills the creator. The pages are charged to the creator's cgroup: within its limit it succeeds.
// Method: a cgroup of 8 MB, a segment of 64 MB, and one of a few pages.
TEST(F12, CgroupMemoryLimit) {
  const MemoryGroup group(8 << 20);
  if (!group.exists()) GTEST_SKIP() << "no memory cgroup that this user may make";
  const TempDir directory;
  const std::string path = directory.file("seg");
  const auto create = [&](uint64_t capacity) {
    return in_child([&] {
      if (!group.enter()) return 77;
      Options options = small_options();
      options.capacity = capacity;
      options.name_bytes = Options::kNoNames;
      return Limiter::create(path, options).ok() ? 0 : 3;
    });
  };
  const std::string ended = create(4000000);
  if (ended == "exit 77") GTEST_SKIP() << "the cgroup can not be entered";
  if (ended == "exit 0") {
    GTEST_SKIP() << "this kernel does not charge tmpfs pages to a cgroup";
  }
  EXPECT_TRUE(ended == "exit 3" || ended == "signal 9") << ended;
  EXPECT_TRUE(directory.entries().empty());
  EXPECT_EQ(create(64), "exit 0");
  EXPECT_TRUE(Limiter::attach(path).ok());
}

// Goal: a file-size limit is an error, not a SIGXFSZ.
// Method: RLIMIT_FSIZE below the size.
TEST(F13, FileSizeLimit) {
  const TempDir directory;
  const std::string ended = in_child([&] {
    CHILD_CHECK(limit(RLIMIT_FSIZE, 1 << 20));
    Options options = small_options();
    options.capacity = 100000;
    const auto result = Limiter::open(directory.file("seg"), options);
    CHILD_CHECK(named(result, "no_space") && mentions(result.status(), " 1048576 are free"));
    CHILD_CHECK(directory.entries().empty());
    CHILD_CHECK(Limiter::open(directory.file("small"), small_options()).ok());
    return 0;
  });
  EXPECT_EQ(ended, "exit 0");
}

// Goal: no address space is no_memory; nothing stays open or mapped.
// Method: RLIMIT_AS just above what the process has, a segment of 80 MB, 10 000 attempts.
TEST(F13, AddressSpaceLimit) {
  if (BRIM_TEST_ASAN || BRIM_TEST_TSAN)
    GTEST_SKIP() << "a sanitizer needs all of the address space";
  const TempDir directory;
  const std::string path = directory.file("seg");
  Options options = small_options();
  options.capacity = 5000000;
  options.name_bytes = Options::kNoNames;
  ASSERT_TRUE(Limiter::create(path, options).ok());
  const std::string ended = in_child([&] {
    CHILD_CHECK(limit(RLIMIT_AS, size_t{72} << 20));
    CHILD_CHECK(named(Limiter::attach(path), "no_memory"));
    const size_t descriptors = open_descriptors();
    const size_t maps = mappings().size();
    for (int i = 0; i < 10000; ++i) CHILD_CHECK(named(Limiter::attach(path), "no_memory"));
    CHILD_CHECK(open_descriptors() == descriptors);
    CHILD_CHECK(mappings().size() == maps);
    return 0;
  });
  EXPECT_EQ(ended, "exit 0");
}

// Goal: with no descriptors left every call says so; with a few, it works or says so, and never
// mistakes the segment for another boot's; nothing leaks.
// Method: RLIMIT_NOFILE at 0, 1, 2 ... free descriptors, 1 000 attempts each.
TEST(F13, DescriptorLimit) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  ASSERT_TRUE(Limiter::create(path, small_options()).ok());
  for (const bool create : {false, true}) {
    const std::string ended = in_child([&] {
      const std::string other = directory.file("other");
      const rlim_t used = open_descriptors() - 1;  // not the one that counts
      int works = 0;
      for (rlim_t spare = 0; spare < 6; ++spare) {
        CHILD_CHECK(limit(RLIMIT_NOFILE, used + spare));
        bool all = true;
        for (int i = 0; i < 1000 && all; ++i) {
          const auto result =
              create ? Limiter::create(other, small_options()) : Limiter::attach(path);
          all = result.ok() || named(result, "no_descriptors") || named(result, "lock_failed") ||
                named(result, "boot_id_unreadable");
          if (!all) std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
          works += result.ok() ? 1 : 0;
          unlink(other.c_str());
        }
        CHILD_CHECK(limit(RLIMIT_NOFILE, used + 100));
        CHILD_CHECK(all);
        CHILD_CHECK(open_descriptors() - 1 == used);
      }
      CHILD_CHECK(works > 0);
      return 0;
    });
    EXPECT_EQ(ended, "exit 0") << (create ? "create" : "attach");
  }
}

// Goal: errors and good cycles alike leak no descriptor and no mapping.
// Method: 10 000 open and close and as many failures, counted in /proc before and after.
TEST(F13, NothingLeaksInTenThousandCycles) {
  const TempDir directory;
  const std::string good = directory.file("good");
  const std::string cut = directory.file("cut");
  const std::string mismatch = directory.file("magic");
  for (const std::string& path : {good, cut, mismatch}) {
    ASSERT_TRUE(Limiter::create(path, small_options()).ok());
  }
  ASSERT_EQ(truncate(cut.c_str(), 4000), 0);
  write_bytes(mismatch, "X");
  Options other = small_options();
  other.capacity = 128;
  const std::function<void()> failures[] = {
      [&] { EXPECT_TRUE(Limiter::attach_read_only(good).ok()); },
      [&] { EXPECT_TRUE(named(Limiter::open(good, other), "config_mismatch")); },
      [&] { EXPECT_TRUE(named(Limiter::open(cut), "segment_size_mismatch")); },
      [&] { EXPECT_TRUE(named(Limiter::open(mismatch), "segment_bad_magic")); },
      [&] { EXPECT_TRUE(named(Limiter::create(good, small_options()), "segment_exists")); },
      [&] { EXPECT_TRUE(named(Limiter::attach(directory.file("none")), "segment_not_found")); },
  };
  const auto cycle = [&](size_t i) {
    EXPECT_TRUE(Limiter::open(good, small_options()).ok());
    failures[i % std::size(failures)]();
  };
  for (size_t i = 0; i < std::size(failures); ++i) cycle(i);
  const size_t descriptors = open_descriptors();
  const size_t maps = mappings().size();
  for (size_t i = 0; i < 10000 && !::testing::Test::HasFailure(); ++i) cycle(i);
  EXPECT_EQ(open_descriptors(), descriptors);
  EXPECT_TRUE(mappings(directory.path()).empty());
  if (!BRIM_TEST_ASAN && !BRIM_TEST_TSAN) {
    EXPECT_LE(mappings().size(), maps + 4);  // the heap's
  }
  EXPECT_EQ(directory.entries(), (std::vector<std::string>{"cut", "good", "magic"}));
}

// Goal: opening one name twice gives one mapping; another file under the name gives another; the
// last handle's end unmaps; a read-only handle has a mapping of its own.
// Method: count the lines of /proc/self/maps that name the file.
TEST(HandleCache, OneMappingForEachFile) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  {
    const auto one = Limiter::open(path, small_options());
    const auto two = Limiter::open(path);
    const auto copy = *one;
    ASSERT_TRUE(one.ok() && two.ok());
    EXPECT_EQ(mappings(path).size(), 1u);
    {
      const auto reader = Limiter::attach_read_only(path);
      EXPECT_EQ(mappings(path).size(), 2u);
    }
    EXPECT_EQ(mappings(path).size(), 1u);
    ASSERT_TRUE(Limiter::unlink(path).ok());
    const auto other = Limiter::open(path, small_options());
    ASSERT_TRUE(other.ok());
    EXPECT_EQ(mappings(path).size(), 2u);  // the removed one is shown as "path (deleted)"
    EXPECT_EQ(one->policy("p")->try_acquire("k", 10).remaining, 0u);
    EXPECT_FALSE(two->policy("p")->try_acquire("k").allowed());
    EXPECT_TRUE(other->policy("p")->try_acquire("k").allowed());
  }
  EXPECT_TRUE(mappings(path).empty());
}

// Goal: a policy handle keeps the segment mapped after its Limiter is gone.
// Method: drop the Limiter, use the handle, drop the handle.
TEST(HandleCache, PolicyHandleKeepsTheMapping) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  {
    PolicyHandle policy;
    {
      const auto limiter = Limiter::open(path, small_options());
      policy = *limiter->policy("p");
    }
    EXPECT_EQ(mappings(path).size(), 1u);
    EXPECT_TRUE(policy.try_acquire("key").allowed());
  }
  EXPECT_TRUE(mappings(path).empty());
}

class Sizes : public ::testing::TestWithParam<uint64_t> {};

// Goal: every capacity works, the smallest and ten million keys; at least as many slots as asked.
// Method: create, count the slots, fill with as many keys as a small table holds, remove.
TEST_P(Sizes, CreateUseRemove) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  Options options = small_options();
  options.capacity = GetParam();
  options.name_bytes = GetParam() > 1000000 ? Options::kNoNames : 0;
  const auto limiter = Limiter::create(path, options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const auto inspector = Inspector::attach(path);
  ASSERT_TRUE(inspector.ok()) << inspector.status();
  const SegmentInfo info = inspector->info();
  EXPECT_EQ(info.capacity, GetParam());
  EXPECT_GE(info.slots, GetParam());
  EXPECT_EQ(info.size_bytes, std::filesystem::file_size(path));
  EXPECT_EQ(info.mode, 0600u);
  const auto policy = limiter->policy("p");
  const uint64_t keys = std::min<uint64_t>(GetParam() / 2 + 1, 1000);
  for (uint64_t i = 0; i < keys; ++i) EXPECT_TRUE(policy->try_acquire(cat("k", i)).allowed());
  for (uint64_t i = 0; i < keys; ++i) EXPECT_EQ(policy->peek(cat("k", i)).remaining, 9u);
  if (GetParam() <= 100000) {
    const Occupancy used = inspector->occupancy();
    EXPECT_EQ(used.live, keys);
    EXPECT_EQ(used.virgin + used.free + used.live + used.idle + used.tentative, info.slots);
  }
  EXPECT_TRUE(Limiter::unlink(path).ok());
}
INSTANTIATE_TEST_SUITE_P(Capacity, Sizes,
                         ::testing::Values(1, 2, 3, 4, 5, 7, 8, 63, 64, 65536, 10000000));

}  // namespace
}  // namespace brim::segment_test
