// SPDX-License-Identifier: MIT
// F01 and F03: who wins when many create, open or replace at once. Workers live through all
// rounds and meet at a barrier before and after each step.
#include <pthread.h>

#include <array>
#include <cstring>

#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

constexpr int kWorkers = 16;
constexpr int kSharedPolicies = 2;

enum class Act : int { kStop, kCreate, kOpen, kReplace };

struct Result {
  bool ok;
  bool exists;  // segment_exists
  bool linked;
  uint8_t uuid[16];
  ino_t inode;
  char message[256];
};

struct Board {
  pthread_barrier_t barrier;
  Act act;
  char path[256];
  std::array<Result, kWorkers> results;
};

// Sixteen processes that do one thing at the same moment, over and over.
class Crew {
 public:
  Crew() {
    pthread_barrierattr_t attributes;
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&board_->barrier, &attributes, kWorkers + 1);
    pthread_barrierattr_destroy(&attributes);
    for (int i = 0; i < kWorkers; ++i) {
      children_.push_back(start_child([this, i] { return work(static_cast<size_t>(i)); }, 2800));
    }
  }
  ~Crew() {
    board_->act = Act::kStop;
    pthread_barrier_wait(&board_->barrier);
    for (const pid_t child : children_) EXPECT_EQ(wait_for(child), 0);
    pthread_barrier_destroy(&board_->barrier);
  }

  // Lets all workers act on `path` at once; valid until the next call.
  const std::array<Result, kWorkers>& run(Act act, const std::string& path) {
    board_->act = act;
    std::snprintf(board_->path, sizeof(board_->path), "%s", path.c_str());
    pthread_barrier_wait(&board_->barrier);
    pthread_barrier_wait(&board_->barrier);
    return board_->results;
  }

 private:
  int work(size_t me) {
    for (;;) {
      pthread_barrier_wait(&board_->barrier);
      if (board_->act == Act::kStop) return 0;
      act(board_->results[me]);
      pthread_barrier_wait(&board_->barrier);
    }
  }

  void act(Result& result) {
    std::memset(static_cast<void*>(&result), 0, sizeof(result));
    const std::string path = board_->path;
    Options options = small_options();
    options.policies = {{"a", "10/h"}, {"b", "20/h"}};
    options.replace = board_->act == Act::kReplace;
    const auto limiter =
        board_->act == Act::kOpen ? Limiter::open(path, options) : Limiter::create(path, options);
    result.ok = limiter.ok();
    result.exists = absl::IsAlreadyExists(limiter.status());
    std::snprintf(result.message, sizeof(result.message), "%s",
                  limiter.status().ToString().c_str());
    if (!limiter.ok()) return;
    result.linked = limiter->linked();
    // The mapping a second attach of this process would share: what this worker truly holds.
    const auto segment = shm::Segment::attach(path, {});
    if (!segment.ok()) return;
    std::memcpy(result.uuid, (*segment)->header().uuid, sizeof(result.uuid));
    struct stat st {};
    if (fstat((*segment)->fd(), &st) == 0) result.inode = st.st_ino;
  }

  SharedWithChildren<Board> board_;
  std::vector<pid_t> children_;
};

int rounds() { return from_environment("BRIM_TEST_ROUNDS", 300); }

// Goal: of many creators exactly one wins, and the others are told so; nothing else is left.
// Method: sixteen processes call create() at once; one ok, fifteen segment_exists.
TEST(F01, ExactlyOneOfManyCreatorsWins) {
  const TempDir directory;
  Crew crew;
  for (int round = 0; round < rounds() && !HasFailure(); ++round) {
    const std::string path = directory.file(cat("s", round));
    int created = 0;
    for (const Result& result : crew.run(Act::kCreate, path)) {
      created += result.ok ? 1 : 0;
      EXPECT_TRUE(result.ok || result.exists) << result.message;
    }
    EXPECT_EQ(created, 1) << "round " << round;
    EXPECT_EQ(directory.entries(), std::vector<std::string>{cat("s", round)});
    EXPECT_TRUE(Limiter::unlink(path).ok());
  }
}

// Goal: open() by all gives all the same segment, whoever made it, with each policy defined once.
// Method: sixteen processes call open() at once; one uuid, one inode; two policies in the table.
TEST(F01, AllOpenersShareOneSegment) {
  const TempDir directory;
  Crew crew;
  for (int round = 0; round < rounds() && !HasFailure(); ++round) {
    const std::string path = directory.file(cat("s", round));
    const auto& results = crew.run(Act::kOpen, path);
    const std::string uuid = uuid_of(path);
    for (const Result& result : results) {
      EXPECT_TRUE(result.ok && result.linked) << result.message;
      EXPECT_EQ(std::memcmp(result.uuid, uuid.data(), uuid.size()), 0);
      EXPECT_EQ(result.inode, results[0].inode);
    }
    EXPECT_EQ(directory.entries(), std::vector<std::string>{cat("s", round)});
    const auto segment = shm::Segment::attach(path, {});
    ASSERT_TRUE(segment.ok()) << segment.status();
    int defined = 0;
    for (uint32_t i = 0; i < (*segment)->header().max_policies; ++i) {
      defined += (*segment)->policies()[i].version.load() != 0 ? 1 : 0;
    }
    EXPECT_EQ(defined, kSharedPolicies);
    EXPECT_TRUE(Limiter::unlink(path).ok());
  }
}

// Goal: replacers that race each other end with one whole segment under the name and no other
// file; a loser is told that somebody else just did it; whoever won last is linked.
// Method: a zero-length file and then live segments are replaced by sixteen processes at once.
TEST(F03, RacingReplacersLeaveOneWholeSegment) {
  const TempDir directory;
  Crew crew;
  const std::string path = directory.file("s");
  std::ofstream(path).close();
  ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  for (int round = 0; round < rounds() / 3 && !HasFailure(); ++round) {
    const std::string before = uuid_of(path);
    int replaced = 0;
    for (const Result& result : crew.run(Act::kReplace, path)) {
      replaced += result.ok ? 1 : 0;
      EXPECT_TRUE(result.ok || result.exists) << result.message;
    }
    EXPECT_GE(replaced, 1);
    EXPECT_NE(uuid_of(path), before);
    const auto survivor = Limiter::attach(path);
    EXPECT_TRUE(survivor.ok()) << survivor.status();
    EXPECT_EQ(directory.entries(), std::vector<std::string>{"s"});
  }
}

}  // namespace
}  // namespace brim::segment_test
