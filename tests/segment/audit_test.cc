// SPDX-License-Identifier: MIT
// The ring of changes: what was noted is told, what is not whole is left out, and a writer that was
// killed keeps nobody from writing on.
#include <signal.h>
#include <time.h>

#include "brim/inspect.h"
#include "src/base/clock.h"
#include "tests/segment/exercise.h"
#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

class AuditTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto made = Limiter::create(path_, small_options());
    ASSERT_TRUE(made.ok()) << made.status();
    limiter_ = *made;
    const auto seen = Inspector::attach(path_);
    ASSERT_TRUE(seen.ok()) << seen.status();
    inspector_.emplace_back(*seen);
    const shm::HeaderFields header = read_header(path_);
    for (const shm::Section& section : header.sections) {
      if (section.type == static_cast<uint32_t>(shm::SectionType::kAudit)) section_ = section;
    }
    ASSERT_EQ(section_.count, 256u);
  }
  std::vector<AuditEntry> audit() const { return inspector_[0].audit(); }
  off_t cell(uint64_t i) const {
    return static_cast<off_t>(section_.offset + i * section_.element_size);
  }

  TempDir directory_;
  std::string path_ = directory_.file("seg");
  Limiter limiter_;
  std::vector<Inspector> inspector_;
  shm::Section section_;
};

// Goal: who, when and what, oldest first, of any bytes; a long text is cut.
TEST_F(AuditTest, TellsWhoDidWhatWhen) {
  EXPECT_TRUE(audit().empty());
  const int64_t before = wall_now_ns();
  const std::string bytes("\0\x1b[31m\xff", 7);
  const std::string whole(Limiter::kMostAuditBytes, 'w');
  for (const std::string& what : {std::string("change p"), bytes, std::string(), whole}) {
    ASSERT_TRUE(limiter_.record(what).ok());
  }
  ASSERT_TRUE(limiter_.record(std::string(5000, 'w')).ok());
  const std::vector<AuditEntry> list = audit();
  ASSERT_EQ(list.size(), 5u);
  for (size_t i = 0; i < list.size(); ++i) {
    EXPECT_EQ(list[i].sequence, i + 1);
    EXPECT_EQ(list[i].pid, static_cast<uint32_t>(getpid()));
    EXPECT_EQ(list[i].uid, geteuid());
    EXPECT_GE(list[i].wall_ns, before);
    EXPECT_LE(list[i].wall_ns, wall_now_ns());
  }
  EXPECT_EQ(list[0].what, "change p");
  EXPECT_EQ(list[1].what, bytes);
  EXPECT_EQ(list[2].what, "");
  EXPECT_EQ(list[3].what, whole);
  EXPECT_EQ(list[4].what, whole);
}

// Goal: the newest 256 are kept.
TEST_F(AuditTest, TheOldestMakesRoom) {
  for (int i = 1; i <= 300; ++i) ASSERT_TRUE(limiter_.record(cat("note ", i)).ok());
  const std::vector<AuditEntry> list = audit();
  ASSERT_EQ(list.size(), 256u);
  for (size_t i = 0; i < list.size(); ++i) {
    EXPECT_EQ(list[i].sequence, i + 45);
    EXPECT_EQ(list[i].what, cat("note ", i + 45));
  }
}

// Goal: a cell that was altered in any word is left out, and a note in another's place; the ring
// goes on behind those that are whole.
// Method: flip a bit of each word of one cell in turn; copy a cell elsewhere.
TEST_F(AuditTest, DamagedCellsAreLeftOut) {
  for (int i = 1; i <= 3; ++i) ASSERT_TRUE(limiter_.record(cat("note ", i)).ok());
  const std::string good = read_bytes(path_);
  for (off_t word = 0; word < 31; ++word) {
    SCOPED_TRACE(cat("word ", word));
    const off_t at = cell(2) + 8 * word + word % 8;
    write_bytes(path_, std::string(1, static_cast<char>(good[static_cast<size_t>(at)] ^ 4)), at);
    const std::vector<AuditEntry> list = audit();
    ASSERT_EQ(list.size(), 2u);
    EXPECT_EQ(list[0].what + list[1].what, "note 1note 3");
    ASSERT_TRUE(limiter_.record("after").ok());
    EXPECT_EQ(audit().back().what, "after");
    EXPECT_EQ(audit().back().sequence, 4u);
    write_bytes(path_, good);
  }
  write_bytes(path_, good.substr(static_cast<size_t>(cell(2)), section_.element_size), cell(7));
  EXPECT_EQ(audit().size(), 3u);
}

// Goal: whatever the bytes of the ring are, reading and writing return.
TEST_F(AuditTest, HostileRing) {
  Random random(7);
  for (int round = 0; round < 50; ++round) {
    std::string bytes(section_.element_size * section_.count, '\0');
    for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
      const uint64_t word = random.wild();
      std::memcpy(bytes.data() + i, &word, 8);
    }
    write_bytes(path_, bytes, cell(0));
    EXPECT_TRUE(audit().empty());
    ASSERT_TRUE(limiter_.record("mine").ok());
    ASSERT_EQ(audit().size(), 1u);
    EXPECT_EQ(audit()[0].what, "mine");
  }
}

// Goal: a segment of a version without the ring is used as before.
TEST_F(AuditTest, SegmentsWithoutARing) {
  shm::HeaderFields header = read_header(path_);
  for (shm::Section& section : header.sections) {
    if (section.type == static_cast<uint32_t>(shm::SectionType::kAudit)) section.type = 99;
  }
  const std::string other = directory_.file("old");
  const std::string bytes = read_bytes(path_);
  const int fd = open(other.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  close(fd);
  write_bytes(other, bytes);
  write_header(other, header);
  const auto old = Limiter::attach(other);
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_TRUE(named(old->record("x"), "audit_unsupported"));
  EXPECT_TRUE(Inspector::attach(other)->audit().empty());
  EXPECT_TRUE(old->policy("p")->try_acquire("k").admitted);
}

TEST_F(AuditTest, NotReadOnlyNorEmpty) {
  const auto reader = Limiter::attach_read_only(path_);
  ASSERT_TRUE(reader.ok());
  EXPECT_TRUE(named(reader->record("x"), "read_only"));
  EXPECT_TRUE(named(Limiter().record("x"), "not_open"));
  EXPECT_TRUE(audit().empty());
}

// What every reader must find at any time: notes that are whole, in order, none twice.
::testing::AssertionResult whole(const std::vector<AuditEntry>& list) {
  uint64_t last = 0;
  for (const AuditEntry& entry : list) {
    if (entry.sequence <= last) return ::testing::AssertionFailure() << "out of order";
    last = entry.sequence;
    const bool uniform = entry.what.find_first_not_of(entry.what.substr(0, 1)) == std::string::npos;
    if (!uniform || entry.what.empty()) return ::testing::AssertionFailure() << entry.what;
  }
  return ::testing::AssertionSuccess();
}

// Goal: writers that are killed anywhere, while others write and read, leave whole notes only; the
// next writer goes on, and no note of a living writer is lost.
// Method: each round a child writes notes of one letter until it is killed; a second one writes
// ten.
TEST_F(AuditTest, KilledWriters) {
  const int rounds = from_environment("BRIM_TEST_ROUNDS", 40);
  for (int round = 0; round < rounds; ++round) {
    const auto writes = [&](int count, char letter) {
      const auto own = Limiter::attach(path_);
      CHILD_CHECK(own.ok());
      for (int i = 0; count == 0 || i < count; ++i) {
        const std::string text(1 + static_cast<size_t>(i * 37 % 208), letter);
        CHILD_CHECK(own->record(text).ok());
      }
      return 0;
    };
    const char letter = static_cast<char>('a' + round % 20);
    const pid_t killed = start_child([&] { return writes(0, letter); });
    const pid_t living = start_child([&] { return writes(10, 'z'); });
    const timespec pause = {0, 1000000 + round * 37000};
    nanosleep(&pause, nullptr);
    ASSERT_TRUE(whole(audit()));
    kill(killed, SIGKILL);
    wait_for(killed);
    ASSERT_EQ(wait_for(living), 0);
    const std::vector<AuditEntry> left = audit();
    ASSERT_TRUE(whole(left));
    ASSERT_TRUE(limiter_.record("y").ok());
    const std::vector<AuditEntry> list = audit();
    ASSERT_TRUE(whole(list));
    EXPECT_EQ(list.back().what, "y");
    EXPECT_EQ(list.back().sequence, left.back().sequence + 1);
    // One writer after the other: the newest notes leave no gap.
    for (size_t i = 1; i < list.size(); ++i) {
      EXPECT_EQ(list[i].sequence, list[i - 1].sequence + 1);
    }
  }
}

}  // namespace
}  // namespace brim::segment_test
