// SPDX-License-Identifier: MIT
// What the segment tests share: private directories on tmpfs, children with a hang guard, views of
// /proc, and the raw bytes of a segment file. Every name a test uses lies in a directory of its
// own, so that tests of several sessions can run side by side and nothing outlives them.
#ifndef BRIM_TESTS_SEGMENT_UTIL_H_
#define BRIM_TESTS_SEGMENT_UTIL_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "brim/limiter.h"
#include "shm/layout.h"
#include "shm/segment.h"
#include "src/base/text.h"
#include "tests/sanitizers.h"

namespace brim::segment_test {

// In a child, where gtest's assertions would not be seen: says what failed and ends the child.
#define CHILD_CHECK(condition)                                                            \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "child: %s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
      return 1;                                                                           \
    }                                                                                     \
  } while (false)

// A private directory, on tmpfs unless told otherwise. Removed with all it holds.
class TempDir {
 public:
  explicit TempDir(const std::string& parent = shm::kShmDirectory) {
    path_ = parent + "/brim-test-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) std::abort();
    owner_ = getpid();
    if (chmod(path_.c_str(), 0777) != 0) std::abort();  // for children of other users
  }
  ~TempDir() {
    if (getpid() != owner_) return;
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string file(std::string_view name) const { return cat(path_, "/", name); }
  std::vector<std::string> entries() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  std::string path_;
  pid_t owner_;
};

// A small segment: creation is cheap, every section exists.
inline Options small_options() {
  Options options;
  options.capacity = 64;
  options.max_policies = 4;
  options.policies = {{"p", "10/h"}};
  return options;
}

// The same with a policy of each kind, so that every section is there and in use.
inline Options all_options() {
  Options options = small_options();
  options.max_policies = 14;
  options.policies = {{"p", "10/h"},
                      {"queue", "queue 5/h burst 2 delay-after 1"},
                      {"window", "fixed-window 5/m count-denied"},
                      {"first", "fixed-window 5/7s first-hit"},
                      {"month", "calendar-window 5/month utc+02:00"},
                      {"counter", "sliding-counter 5/m floor"},
                      {"log", "sliding-log 4/m"},
                      {"lease", "concurrency 2"},
                      {"several", "7/h; sliding-log 3/d ban 3 in 1h for 1h times 2"},
                      {"warm", "fixed-window 9/m warm-up 10% over 1h classes 50 80 100"},
                      {"cluster", "9/h; token-bucket 20/d scope cluster"},
                      {"strict", "8/h scope cluster strict"}};
  return options;
}

// True if the status is an error whose message begins with this stable name.
inline ::testing::AssertionResult named(const absl::Status& status, std::string_view name) {
  const std::string text(status.message().data(), status.message().size());
  if (!status.ok() && text.starts_with(cat(name, ": "))) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "wanted " << name << ", got " << status.ToString();
}
template <class T>
::testing::AssertionResult named(const absl::StatusOr<T>& result, std::string_view name) {
  return named(result.status(), name);
}

inline bool mentions(const absl::Status& status, std::string_view text) {
  return std::string_view(status.message().data(), status.message().size()).find(text) !=
         std::string_view::npos;
}

// Starts a child that runs `body` and exits with its value. A child that hangs dies of SIGALRM.
inline pid_t start_child(const std::function<int()>& body, unsigned seconds = 120) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child != 0) return child;
  alarm(seconds);
  _exit(body());
}

inline int wait_for(pid_t child) {
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

// Runs `body` in a child and tells how it ended: "exit 0", "signal 11".
inline std::string in_child(const std::function<int()>& body, unsigned seconds = 120) {
  const int status = wait_for(start_child(body, seconds));
  return WIFSIGNALED(status) ? cat("signal ", WTERMSIG(status)) : cat("exit ", WEXITSTATUS(status));
}

// Memory shared with children made later. T must be valid as zero bytes.
template <class T>
class SharedWithChildren {
 public:
  SharedWithChildren()
      : memory_(static_cast<T*>(
            mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    if (memory_ == MAP_FAILED) std::abort();
  }
  ~SharedWithChildren() { munmap(memory_, sizeof(T)); }
  SharedWithChildren(const SharedWithChildren&) = delete;
  SharedWithChildren& operator=(const SharedWithChildren&) = delete;
  T* operator->() const { return memory_; }
  T& operator*() const { return *memory_; }

 private:
  T* memory_;
};

inline size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

// The lines of /proc/self/maps that name `path`; all of them if it is empty.
inline std::vector<std::string> mappings(std::string_view path = {}) {
  std::ifstream file("/proc/self/maps");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (line.find(path) != std::string::npos) lines.push_back(line);
  }
  return lines;
}

inline std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Overwrites the file's bytes in place: same inode, owner and mode.
inline void write_bytes(const std::string& path, std::string_view bytes, off_t at = 0) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0) << path;
  ASSERT_EQ(pwrite(fd, bytes.data(), bytes.size(), at), static_cast<ssize_t>(bytes.size()));
  close(fd);
}

inline shm::HeaderFields read_header(const std::string& path) {
  shm::HeaderFields header{};
  const std::string bytes = read_bytes(path);
  if (bytes.size() >= sizeof(header)) std::memcpy(&header, bytes.data(), sizeof(header));
  return header;
}

inline void write_header(const std::string& path, const shm::HeaderFields& header) {
  write_bytes(path, {reinterpret_cast<const char*>(&header), sizeof(header)});
}

inline std::string uuid_of(const std::string& path) {
  const shm::HeaderFields header = read_header(path);
  return std::string(reinterpret_cast<const char*>(header.uuid), sizeof(header.uuid));
}

// A whole number from the environment; how the slow suite asks for more rounds.
inline int from_environment(const char* name, int otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoi(text);
}

// A program built next to this test.
inline std::string sibling(std::string_view program) {
  return cat(std::filesystem::read_symlink("/proc/self/exe").parent_path().string(), "/", program);
}

}  // namespace brim::segment_test

#endif  // BRIM_TESTS_SEGMENT_UTIL_H_
