// SPDX-License-Identifier: MIT
// P7: a decision makes no system call and allocates nothing. P8: a refusal writes nothing to the
// slots.
#include <fcntl.h>

#include <fstream>

#include "tests/process/support.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define BRIM_TEST_COUNTS_MALLOC 1
#endif

#if defined(BRIM_TEST_COUNTS_MALLOC)
static std::atomic<uint64_t> allocations{0};

extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);

void* malloc(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(old, size);
}
}
#endif

namespace brim::test {
namespace {

// Goal: P7, 0 system calls in 10^6 calls.
// Method: strace over a helper that marks the calls by getppid(2) before and after.
TEST(HotPathTest, P7NoSystemCalls) {
  if (kSanitized) GTEST_SKIP() << "sanitizers make system calls of their own";
  if (std::system("strace -o /dev/null true 2>/dev/null") != 0) {
    GTEST_SKIP() << "strace is missing or may not trace here";
  }
  const SegmentName name;
  Options options;
  options.capacity = 100000;
  options.policies = {{"p", "10/s burst 5"}};
  const auto limiter = Limiter::create(name.str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const std::string log = "/tmp/" + name.str() + ".strace";
  const std::string command =
      "strace -f -o " + log + " " + sibling("process_worker") + " strace " + name.str();
  EXPECT_EQ(std::system(command.c_str()), 0);
  std::ifstream lines(log);
  uint32_t marks = 0;
  std::string between;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("getppid") != std::string::npos) {
      ++marks;
    } else if (marks == 1) {
      between += line + "\n";
    }
  }
  unlink(log.c_str());
  EXPECT_EQ(marks, 2u);
  EXPECT_EQ(between, "");
}

// Goal: P7, nothing is allocated.
// Method: counts malloc, calloc and realloc during calls of every kind.
TEST(HotPathTest, P7NoAllocation) {
#if defined(BRIM_TEST_COUNTS_MALLOC)
  const SegmentName name;
  Options options;
  options.capacity = 20000;
  options.policies = {{"p", "10/s burst 5"}, {"c", "10/s burst 5; 20/m scope cluster"}};
  const auto limiter = Limiter::create(name.str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const PolicyHandle policy = *limiter->policy("p");
  const PolicyHandle cluster = *limiter->policy("c");
  const std::string_view batch[4] = {"a", "b", "c", "d"};
  Decision decisions[4];
  char key[32] = "key";
  const uint64_t positive_control = allocations;
  { const auto some = std::make_unique<std::string>(100, 'x'); }
  ASSERT_GT(allocations, positive_control);
  const uint64_t before = allocations;
  for (uint32_t i = 0; i < 200000; ++i) {  // evictions included
    std::memcpy(key + 3, &i, sizeof(i));
    const std::string_view text(key, 7);
    (void)policy.try_acquire(text);
    (void)policy.try_acquire("hot");
    (void)cluster.try_acquire(text);
    (void)cluster.refund(text);
    (void)policy.try_acquire_at(monotonic_now_ns(), text, 2);
    policy.try_acquire_batch(batch, decisions);
    (void)policy.peek(text);
    (void)policy.refund(text);
    (void)policy.reset("hot");
  }
  EXPECT_EQ(allocations, before);
#else
  GTEST_SKIP() << "the sanitizer owns malloc";
#endif
}

class RefusalTest : public ::testing::Test {
 protected:
  static constexpr int kKeys = 100;
  void SetUp() override {
    clock_->store(kEpoch);
    const auto limiter = Limiter::create(name_.str(), manual(&*clock_, 4096, "1/h burst 5"));
    ASSERT_TRUE(limiter.ok()) << limiter.status();
    policy_ = *limiter->policy("p");
    raw_ = std::make_unique<Raw>(name_.str(), &*clock_);
    for (int i = 0; i < kKeys; ++i) {
      keys_.push_back("key" + std::to_string(i));
      ASSERT_TRUE(policy_.try_acquire(keys_.back(), 5));
    }
    const shm::Section& slots = *raw_->engine().segment->section(shm::SectionType::kSlots);
    start_ = reinterpret_cast<char*>(raw_->engine().segment->slots());
    size_ = slots.count * 16 / 4096 * 4096;
    ASSERT_EQ(reinterpret_cast<uintptr_t>(start_) % 4096, 0u);
  }
  // `calls` refusals of every kind that there is.
  void refuse(uint32_t calls) const {
    std::vector<std::string_view> views(keys_.begin(), keys_.end());
    std::vector<Decision> out(views.size());
    for (uint32_t i = 0; i < calls; ++i) {
      const std::string& key = keys_[i % kKeys];
      const Decision decision = i % 3 == 0   ? policy_.try_acquire(key, 2)
                                : i % 3 == 1 ? policy_.try_acquire_at(*clock_ - kSecond, key)
                                             : policy_.try_acquire(key, 6);
      ASSERT_EQ(decision.verdict, Verdict::kDenied);
      if (i % 1024 == 0) {
        policy_.try_acquire_batch(views, out);
        (void)policy_.peek("absent", 1);
        (void)policy_.try_acquire("absent", 0);
        (void)policy_.try_acquire("absent", 6);
        (void)policy_.refund("absent");
        (void)policy_.reset("absent");
      }
    }
  }

  SegmentName name_;
  Shared<std::atomic<int64_t>> clock_;
  PolicyHandle policy_;
  std::unique_ptr<Raw> raw_;
  std::vector<std::string> keys_;
  char* start_ = nullptr;
  size_t size_ = 0;
};

// Goal: P8 by content: 10^6 refusals leave every slot as it was.
TEST_F(RefusalTest, P8SlotsKeepTheirBytes) {
  const auto before = raw_->copy();
  refuse(1000000);
  EXPECT_EQ(raw_->copy(), before);
  EXPECT_EQ(raw_->sum(shm::Event::kCasRetry), 0u);
}

// Goal: P8 by access: refusals do not even try to write, not the same bytes either.
// Method: the slots' pages are made PROT_READ; a write would be a SIGSEGV. Control: an admission
//   dies of it.
TEST_F(RefusalTest, P8RefusalsOnReadOnlyPages) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer's 16-byte load writes";
#else
  const pid_t control = spawn(
      [&] {
        signal(SIGSEGV, [](int) { _exit(7); });
        if (mprotect(start_, size_, PROT_READ) != 0) return false;
        for (int i = 0; i < 100; ++i) (void)policy_.try_acquire("new" + std::to_string(i));
        return true;
      },
      60);
  int status = 0;
  ASSERT_EQ(waitpid(control, &status, 0), control);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 7) << "the control must fault";
  ASSERT_EQ(mprotect(start_, size_, PROT_READ), 0);
  refuse(1000000);
  ASSERT_EQ(mprotect(start_, size_, PROT_READ | PROT_WRITE), 0);
#endif
}

// Bit 55 of the page's entry in /proc/self/pagemap.
bool soft_dirty(const char* page) {
  const int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  uint64_t entry = 0;
  const auto at = static_cast<off_t>(reinterpret_cast<uintptr_t>(page) / 4096 * sizeof(entry));
  const bool read = pread(fd, &entry, sizeof(entry), at) == sizeof(entry);
  close(fd);
  return read && (entry >> 55 & 1) != 0;
}

uint32_t dirty_pages(const char* start, size_t size) {
  uint32_t count = 0;
  for (size_t i = 0; i < size; i += 4096) count += soft_dirty(start + i) ? 1 : 0;
  return count;
}

// Goal: P8 by the kernel's account: 0 dirty slot pages over 10^6 refusals.
// Method: soft-dirty bits; skipped where the kernel keeps none.
TEST_F(RefusalTest, P8NoSoftDirtyPages) {
  const auto clear = [] {
    const int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    const bool done = write(fd, "4", 1) == 1;
    close(fd);
    return done;
  };
  if (!clear()) GTEST_SKIP() << "/proc/self/clear_refs can not be written";
  (void)policy_.try_acquire("control");
  if (dirty_pages(start_, size_) == 0) GTEST_SKIP() << "this kernel keeps no soft-dirty bits";
  ASSERT_TRUE(clear());
  if (dirty_pages(start_, size_) != 0) GTEST_SKIP() << "soft-dirty bits are not cleared here";
  refuse(1000000);
  EXPECT_EQ(dirty_pages(start_, size_), 0u);
}

}  // namespace
}  // namespace brim::test
