// SPDX-License-Identifier: MIT
// What the process tests share: memory that forked and exec'ed children see, children with bounded
// waits, segments that are always unlinked, and a raw view of a segment's slots.
#ifndef BRIM_TESTS_PROCESS_SUPPORT_H_
#define BRIM_TESTS_PROCESS_SUPPORT_H_

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "brim/inspect.h"
#include "brim/limiter.h"
#include "shm/segment.h"
#include "shm/slot.h"
#include "src/algo/step.h"
#include "src/base/clock.h"
#include "src/base/word.h"
#include "src/engine.h"
#include "src/hash.h"
#include "src/policy_words.h"
#include "tests/sanitizers.h"

namespace brim::test {

inline constexpr int64_t kMs = 1000000;
inline constexpr int64_t kSecond = 1000 * kMs;
inline constexpr int64_t kEpoch = 1000 * kSecond;  // where manual clocks begin

inline constexpr bool kSanitized = BRIM_TEST_ASAN || BRIM_TEST_TSAN;

// BRIM_TEST_SLOW=1 asks for the long variants.
inline bool slow() { return std::getenv("BRIM_TEST_SLOW") != nullptr; }
inline uint32_t scaled(uint32_t quick, uint32_t long_run) {
  return slow() ? long_run : kSanitized ? std::max(1u, quick / 4) : quick;
}

// Zeroed memory shared with every child; its descriptor survives exec.
class SharedBytes {
 public:
  explicit SharedBytes(size_t size) : fd_(memfd_create("brim-process-test", 0)), size_(size) {
    if (fd_ < 0 || ftruncate(fd_, static_cast<off_t>(size)) != 0) std::abort();
    map();
  }
  // Maps what another process made.
  static SharedBytes adopt(int fd) { return SharedBytes(fd, Adopt{}); }
  ~SharedBytes() {
    if (bytes_ != nullptr) munmap(bytes_, size_);
    if (fd_ >= 0) close(fd_);
  }
  SharedBytes(const SharedBytes&) = delete;
  SharedBytes& operator=(const SharedBytes&) = delete;

  template <class T>
  T* as(size_t offset = 0) const {
    return reinterpret_cast<T*>(static_cast<char*>(bytes_) + offset);
  }
  int fd() const { return fd_; }

 private:
  struct Adopt {};
  SharedBytes(int fd, Adopt) : fd_(fd), size_(0) {
    struct stat st {};
    if (fstat(fd, &st) != 0) std::abort();
    size_ = static_cast<size_t>(st.st_size);
    map();
  }
  void map() {
    bytes_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (bytes_ == MAP_FAILED) std::abort();
  }
  int fd_;
  size_t size_;
  void* bytes_ = nullptr;
};

// A T in shared memory. T is valid as zero bytes.
template <class T>
class Shared {
 public:
  Shared() : bytes_(sizeof(T)) {}
  T* operator->() const { return bytes_.template as<T>(); }
  T& operator*() const { return *bytes_.template as<T>(); }

 private:
  SharedBytes bytes_;
};

// Releases `count` parties together; reusable. A party that never comes is an alarm's business.
struct Barrier {
  std::atomic<uint32_t> arrived;
  std::atomic<uint32_t> generation;
  void wait(uint32_t count) {
    const uint32_t seen = generation.load();
    if (arrived.fetch_add(1) + 1 == count) {
      arrived.store(0);
      generation.fetch_add(1);
      return;
    }
    for (uint32_t spins = 0; generation.load() == seen; ++spins) {
      if (spins > 50) sched_yield();
    }
  }
};

// A segment name of this process and test, unlinked at the end by whoever made it.
class SegmentName {
 public:
  SegmentName() : owner_(getpid()) {
    static std::atomic<int> count{0};
    name_ = "brim-process-" + std::to_string(owner_) + "-" + std::to_string(count.fetch_add(1));
  }
  ~SegmentName() {
    if (getpid() == owner_) (void)Limiter::unlink(name_);
  }
  SegmentName(const SegmentName&) = delete;
  SegmentName& operator=(const SegmentName&) = delete;
  const std::string& str() const { return name_; }

 private:
  pid_t owner_;
  std::string name_;
};

// Options with a manual clock.
inline Options manual(const std::atomic<int64_t>* clock, uint64_t capacity, std::string policy) {
  Options options;
  options.capacity = capacity;
  options.name_bytes = Options::kNoNames;
  options.clock = ClockKind::kManual;
  options.manual_clock_ns = clock;
  options.policies = {{"p", std::move(policy)}};
  return options;
}

// A child that dies with its parent and after `seconds` at the latest.
inline void bound_child(unsigned seconds) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGALRM, SIG_DFL);
  alarm(seconds);
}

// Forks; the child runs `body` and exits with 0 if it returned true. No destructor of the parent's
// objects runs there.
template <class Body>
pid_t spawn(Body body, unsigned seconds = 300) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  bound_child(seconds);
  _exit(body() ? 0 : 1);
}

// Waits for one child by id. True if it exited with 0. A hang ends by the child's own alarm.
inline bool succeeded(pid_t pid) {
  int status = 0;
  pid_t got;
  do {
    got = waitpid(pid, &status, 0);
  } while (got < 0 && errno == EINTR);
  if (got == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
  std::fprintf(stderr, "child %d: wait %d, status %x\n", pid, got, static_cast<unsigned>(status));
  return false;
}

// True while the child has not ended. It is still to be waited for.
inline bool running(pid_t pid) {
  siginfo_t info{};
  return waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == 0;
}

inline void kill_and_reap(pid_t pid) {
  if (pid <= 0) return;  // fork() failed: this would reach others
  int status = 0;
  kill(pid, SIGKILL);
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
}

// Children that do not outlive the test, however it ends: at the latest the destructor kills and
// reaps them, by id.
class Children {
 public:
  Children() = default;
  ~Children() { kill_all(); }
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;

  void add(pid_t pid) { pids_.push_back(pid); }
  size_t size() const { return pids_.size(); }
  pid_t operator[](size_t i) const { return pids_[i]; }
  // Kills and reaps one; the pid that `start` returns takes its place.
  template <class Start>
  void restart(size_t i, Start start) {
    kill_and_reap(std::exchange(pids_[i], -1));
    pids_[i] = start();
  }
  bool all_running() const { return std::all_of(pids_.begin(), pids_.end(), running); }
  // Waits for all. True if each exited with 0.
  bool all_succeeded() {
    bool all = true;
    for (; !pids_.empty(); pids_.pop_back()) all = succeeded(pids_.back()) && all;
    return all;
  }
  void kill_all() {
    for (; !pids_.empty(); pids_.pop_back()) kill_and_reap(pids_.back());
  }

 private:
  std::vector<pid_t> pids_;
};

// The path of a program built beside this one.
inline std::string sibling(const char* program) {
  char path[4096];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
  std::string self(path, n > 0 ? static_cast<size_t>(n) : 0);
  return self.substr(0, self.rfind('/') + 1) + program;
}

inline uint64_t event(const internal::Engine& engine, shm::Event which) {
  return engine.counters.sum(which);
}

// The slots of a live segment as they are, and as a test wants them to be.
class Raw {
 public:
  Raw(const std::string& name, const std::atomic<int64_t>* clock)
      : engine_(*shm::Segment::attach(name, {}),
                clock == nullptr ? Clock::monotonic() : Clock::manual(clock)) {}

  const internal::Engine& engine() const { return engine_; }
  uint64_t slots() const { return engine_.table.slot_count(); }
  shm::Slot get(uint64_t i) const { return engine_.table.at(i); }
  void set(uint64_t i, shm::Slot slot) const {
    shm::Slot old = get(i);
    while (!shm::HardwareAtomics::cas(engine_.segment->slots() + i, old, slot)) old = get(i);
  }
  void clear() const {
    for (uint64_t i = 0; i < slots(); ++i) set(i, {});
  }
  uint64_t sum(shm::Event which) const { return engine_.counters.sum(which); }
  uint64_t sum(uint16_t policy, shm::PolicyCounter which) const {
    return engine_.counters.sum(policy, which);
  }

  uint64_t id(uint16_t policy, std::string_view key, uint32_t part = 0) const {
    return shm::make_id(policy, fingerprint(hash_key(engine_.secret, key)), part);
  }
  shm::Probe probe(std::string_view key) const {
    return engine_.table.probe(hash_key(engine_.secret, key).low);
  }
  Quota quota(uint16_t policy) const {
    Quota quota{};
    (void)read_quota(engine_.registry, policy, 0, quota);
    return quota;
  }
  // The token clock's reading of a policy at `now`.
  uint64_t reading(uint16_t policy, int64_t now) const { return token_clock(quota(policy), now); }

  // Slot positions of a key's whole window, in probe order.
  std::vector<uint64_t> window(std::string_view key) const {
    const shm::HeaderFields& header = engine_.segment->header();
    const uint64_t groups = std::min<uint64_t>(header.probe_limit, header.group_count);
    const shm::Probe at = probe(key);
    std::vector<uint64_t> list;
    uint64_t group = at.home;
    for (uint64_t n = 0; n < groups; ++n, group = (group + at.stride) % header.group_count) {
      for (uint64_t i = 0; i < shm::kSlotsPerGroup; ++i) {
        list.push_back(group * shm::kSlotsPerGroup + i);
      }
    }
    return list;
  }
  // Position of the key's verified copy, or slots().
  uint64_t find(uint16_t policy, std::string_view key) const {
    shm::Slot slot;
    return engine_.table.find(probe(key), id(policy, key), slot);
  }
  // Every slot's bytes.
  std::vector<shm::Slot> copy() const {
    std::vector<shm::Slot> list;
    for (uint64_t i = 0; i < slots(); ++i) list.push_back(get(i));
    return list;
  }

 private:
  internal::Engine engine_;
};

struct PolicyKey {
  uint16_t policy;
  std::string key;
  uint32_t part = 0;
};

// Walks all slots: every id is a known key's, at most one verified copy of it exists (I1), it lies
// in its window within reach, and no virgin slot precedes it there (I2).
inline ::testing::AssertionResult table_is_legal(const Raw& raw,
                                                 const std::vector<PolicyKey>& keys) {
  std::unordered_map<uint64_t, const PolicyKey*> known;
  for (const PolicyKey& key : keys) known[raw.id(key.policy, key.key, key.part)] = &key;
  std::unordered_map<uint64_t, uint64_t> verified;
  const uint64_t in_use = raw.engine().table.groups_in_use() * shm::kSlotsPerGroup;
  for (uint64_t i = 0; i < raw.slots(); ++i) {
    const shm::Slot slot = raw.get(i);
    if (slot.id == shm::kVirginId || slot.id == shm::kFreeId) continue;
    const auto found = known.find(slot.id);
    if (found == known.end()) {
      return ::testing::AssertionFailure() << "slot " << i << " holds unknown id " << slot.id;
    }
    if (!is_tentative(slot.word) && !verified.emplace(slot.id, i).second) {
      return ::testing::AssertionFailure() << "two verified copies of " << found->second->key
                                           << ": slots " << verified[slot.id] << " and " << i;
    }
    const std::vector<uint64_t> window = raw.window(found->second->key);
    const auto end = window.begin() + static_cast<ptrdiff_t>(std::min(in_use, window.size()));
    const auto place = std::find(window.begin(), end, i);
    if (place == end) {
      return ::testing::AssertionFailure()
             << "slot " << i << " lies outside the window of " << found->second->key;
    }
    for (auto before = window.begin(); before != place; ++before) {
      if (raw.get(*before).id == shm::kVirginId) {
        return ::testing::AssertionFailure()
               << "virgin slot " << *before << " before " << i << ", " << found->second->key;
      }
    }
  }
  return ::testing::AssertionSuccess();
}

// Tentatives older than 1 s at `now` whose key has no verified copy: what nobody finished.
inline uint64_t lingering(const Raw& raw, int64_t now, uint64_t* beside_verified = nullptr) {
  std::map<uint64_t, bool> has_verified;
  std::vector<uint64_t> old;
  for (uint64_t i = 0; i < raw.slots(); ++i) {
    const shm::Slot slot = raw.get(i);
    if (slot.id == shm::kVirginId || slot.id == shm::kFreeId) continue;
    if (!is_tentative(slot.word)) {
      has_verified[slot.id] = true;
    } else if (tentative_age_ms(slot.word, now) > kTentativeLifeMs) {
      old.push_back(slot.id);
    }
  }
  uint64_t alone = 0;
  for (const uint64_t id : old) alone += has_verified.count(id) == 0 ? 1 : 0;
  if (beside_verified != nullptr) *beside_verified = old.size() - alone;
  return alone;
}

// Permits that flow back in `elapsed`, at `limit` a second, rounded down.
inline uint64_t refill(uint64_t limit, int64_t elapsed) {
  if (elapsed <= 0) return 0;
  return static_cast<uint64_t>(static_cast<uint128>(elapsed) * limit / kSecond);
}

inline void drain(const PolicyHandle& policy, std::string_view key, uint32_t& admitted,
                  uint32_t most) {
  for (uint32_t i = 0; i < most && policy.try_acquire(key).admitted; ++i) ++admitted;
}

}  // namespace brim::test

#endif  // BRIM_TESTS_PROCESS_SUPPORT_H_
