// SPDX-License-Identifier: MIT
// F02: a creator killed at each of its system calls, by strace's fault injection, over a helper
// program. What is under the name afterwards is nothing or all of a segment.
#include <map>
#include <sstream>

#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

// One system call of the helper's work: the nth of its kind since the program began.
struct Call {
  std::string name;
  int nth = 0;
};

// Runs a program with arguments and returns how it ended; output to /dev/null.
int run(const std::vector<std::string>& command) {
  const pid_t child = start_child([&command] {
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1);  // which ptrace forbids
    const int null = open("/dev/null", O_RDWR);
    dup2(null, 1);
    dup2(null, 2);
    std::vector<char*> arguments;
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    execvp(arguments[0], arguments.data());
    return 127;
  });
  return wait_for(child);
}

bool strace_works() { return run({"strace", "-o", "/dev/null", "true"}) == 0; }

// The calls between the two marks (getppid) of the helper, and the one after the last.
std::vector<Call> calls_of(const std::string& action, const std::string& path,
                           const std::string& log) {
  run({"strace", "-f", "-qq", "-o", log, sibling("segment_helper"), action, path});
  std::vector<Call> calls;
  std::map<std::string, int> seen;
  int marks = 0;
  std::ifstream file(log);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string pid, name;
    words >> pid >> name;
    const size_t bracket = name.find('(');
    if (bracket == std::string::npos) continue;
    name.resize(bracket);
    const int nth = ++seen[name];
    marks += name == "getppid" ? 1 : 0;
    if (marks >= 1) calls.push_back({name, nth});
    if (marks == 2) break;
  }
  return marks == 2 ? calls : std::vector<Call>{};
}

// Runs the helper and kills it as it enters this call. True if it was killed there.
bool killed_at(const Call& call, const std::string& action, const std::string& path) {
  const int status = run({"strace", "-f", "-qq", "-o", "/dev/null", "-e",
                          cat("inject=", call.name, ":signal=SIGKILL:when=", call.nth),
                          sibling("segment_helper"), action, path});
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

void expect_usable(const std::string& path) {
  const auto limiter = Limiter::open(path, small_options());
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const auto policy = limiter->policy("p");
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_TRUE(policy->try_acquire("key").allowed());
}

class F02 : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!strace_works()) GTEST_SKIP() << "strace is missing or may not trace here";
  }
};

// Goal: a creator killed before or after any of its system calls leaves no name or a whole
// segment, nothing else, and the next opener works.
// Method: list the calls, then one run for each, killed there. `open` also defines a policy.
TEST_P(F02, CreatorKilledAtEachCallLeavesNothingHalfMade) {
  const TempDir logs("/tmp");
  const TempDir directory;
  const std::string path = directory.file("seg");
  const std::vector<Call> calls = calls_of(GetParam(), path, logs.file("log"));
  ASSERT_GE(calls.size(), 10u);
  ASSERT_TRUE(Limiter::unlink(path).ok());
  int absent = 0;
  int present = 0;
  for (const Call& call : calls) {
    SCOPED_TRACE(cat(call.name, " #", call.nth));
    EXPECT_TRUE(killed_at(call, GetParam(), path));
    const std::vector<std::string> entries = directory.entries();
    if (entries.empty()) {
      ++absent;
    } else {
      ++present;
      ASSERT_EQ(entries, std::vector<std::string>{"seg"});
      EXPECT_TRUE(Limiter::attach(path).ok());
    }
    expect_usable(path);
    ASSERT_TRUE(Limiter::unlink(path).ok());
    if (HasFailure()) return;
  }
  EXPECT_GT(absent, 0);
  EXPECT_GT(present, 0);
  RecordProperty("calls", static_cast<int>(calls.size()));
  std::printf("%zu calls: %d killed before the name, %d after\n", calls.size(), absent, present);
}
INSTANTIATE_TEST_SUITE_P(Creation, F02, ::testing::Values("create", "open"));

// Goal: a replacer killed anywhere leaves the old file or the new segment under the name; a
// temporary name it may leave is cleared away by the next replacer.
// Method: as above, over a name held by a zero-length file.
TEST_F(F02, ReplacerKilledAtEachCallLeavesOldOrNew) {
  const TempDir logs("/tmp");
  const TempDir directory;
  const std::string path = directory.file("seg");
  const auto leftover = [&path] {
    unlink(path.c_str());
    std::ofstream(path).close();
    return chmod(path.c_str(), 0600);
  };
  ASSERT_EQ(leftover(), 0);
  const std::vector<Call> calls = calls_of("replace", path, logs.file("log"));
  ASSERT_GE(calls.size(), 10u);
  int old = 0;
  for (const Call& call : calls) {
    SCOPED_TRACE(cat(call.name, " #", call.nth));
    ASSERT_EQ(leftover(), 0);
    EXPECT_TRUE(killed_at(call, "replace", path));
    for (const std::string& entry : directory.entries()) {
      EXPECT_TRUE(entry == "seg" || entry.starts_with(".brim-new-")) << entry;
    }
    const auto found = Limiter::attach(path);
    EXPECT_TRUE(found.ok() || named(found, "segment_truncated")) << found.status();
    old += found.ok() ? 0 : 1;
    Options options = small_options();
    options.replace = true;
    const auto replaced = Limiter::create(path, options);
    EXPECT_TRUE(replaced.ok()) << replaced.status();
    EXPECT_EQ(directory.entries(), std::vector<std::string>{"seg"});
    expect_usable(path);
    if (HasFailure()) return;
  }
  EXPECT_GT(old, 0);
  EXPECT_LT(old, static_cast<int>(calls.size()));
}

// Goal: an attacher killed anywhere changes nothing for others.
// Method: as above, over a live segment; it must stay the same one and keep its state.
TEST_F(F02, AttacherKilledAtEachCallHarmsNobody) {
  const TempDir logs("/tmp");
  const TempDir directory;
  const std::string path = directory.file("seg");
  expect_usable(path);
  const std::string uuid = uuid_of(path);
  for (const Call& call : calls_of("attach", path, logs.file("log"))) {
    SCOPED_TRACE(cat(call.name, " #", call.nth));
    EXPECT_TRUE(killed_at(call, "attach", path));
    EXPECT_EQ(uuid_of(path), uuid);
    EXPECT_EQ(directory.entries(), std::vector<std::string>{"seg"});
    expect_usable(path);
    ASSERT_TRUE(Limiter::attach(path)->policy("p")->reset("key"));
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace brim::segment_test
