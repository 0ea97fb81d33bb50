// SPDX-License-Identifier: MIT
#include "shm/overrides.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/unit/support.h"

namespace brim::shm {
namespace {

using test::message;
using test::Random;

// A hash that no two numbers share.
OverrideHash hash_of(uint64_t n) { return {Random(n).bits(), Random(~n).bits()}; }

Override redirect(uint16_t to, uint16_t from = kAnyPolicy) { return {1, from, to}; }

// Pages shared with forked children; zero at first.
class Section {
 public:
  explicit Section(uint32_t most) : elements_(override_elements(most)) {
    bytes_ = mmap(nullptr, size() + 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (bytes_ == MAP_FAILED) std::abort();
  }
  ~Section() { munmap(bytes_, size() + 16); }
  Section(const Section&) = delete;
  Section& operator=(const Section&) = delete;

  Overrides table() const { return {bytes_, elements_}; }
  OverrideWriter writer() { return {bytes_, elements_}; }
  OverrideHeader& header() { return *static_cast<OverrideHeader*>(bytes_); }
  Pair* entries() { return static_cast<Pair*>(bytes_) + kOverrideHeaderElements; }
  uint64_t count() const { return elements_ - kOverrideHeaderElements; }
  size_t size() const { return elements_ * kOverrideElementSize; }
  void* bytes() const { return bytes_; }

  uint64_t with_low(uint64_t low) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < count(); ++i) n += entries()[i].low == low ? 1 : 0;
    return n;
  }
  uint64_t live() { return count() - with_low(kOverrideUnused) - with_low(kOverrideDeleted); }

  // What holds whenever no writer is at work or has died.
  void check() {
    EXPECT_EQ(table().size(), live());
    EXPECT_EQ(header().changing.load(), 0u);
    for (uint64_t i = 0; i < count(); ++i) {
      if (entries()[i].low != kOverrideDeleted) continue;
      EXPECT_NE(entries()[(i + 1) % count()].low, kOverrideUnused) << "a useless deletion mark";
    }
    if (live() != 0) return;
    EXPECT_EQ(with_low(kOverrideUnused), count());
    for (const auto& word : header().prefixes) EXPECT_EQ(word.load(), 0u);
  }

 private:
  uint64_t elements_;
  void* bytes_;
};

// To-policy of the key, or -1.
int target(const Overrides& table, OverrideHash hash, uint16_t from = 7) {
  const OverrideMatch match = table.find(from, hash);
  return match.found ? match.what.to : -1;
}

// In a table of 16 entries: the n-th key whose home is `home`.
OverrideHash at_home(uint64_t home, uint64_t n) { return {home << 60 | (n + 2), n}; }

TEST(OverridesTest, NoTable) {
  const Overrides none;
  EXPECT_FALSE(none.find(1, hash_of(1)).found);
  EXPECT_EQ(none.most(), 0u);
  Section section(8);
  EXPECT_FALSE(section.table().find(1, hash_of(1)).found) << "all-zero is an empty table";
  for (uint64_t elements = 0; elements <= kOverrideHeaderElements; ++elements) {
    OverrideWriter writer(section.bytes(), elements);
    EXPECT_EQ(writer.set(hash_of(1), redirect(1)).code(), absl::StatusCode::kResourceExhausted);
    EXPECT_FALSE(writer.remove(hash_of(1), kAnyPolicy));
    writer.rebuild();
    EXPECT_FALSE(writer.table().find(1, hash_of(1)).found);
  }
  EXPECT_EQ(override_elements(0), 0u);
  EXPECT_EQ(override_elements(100), 204u);
}

TEST(OverridesTest, SetReplaceRemove) {
  Section section(8);
  OverrideWriter writer = section.writer();
  ASSERT_TRUE(writer.set(hash_of(1), {3, kAnyPolicy, 40}).ok());
  EXPECT_EQ(section.table().find(7, hash_of(1)).what, (Override{3, kAnyPolicy, 40}));
  EXPECT_FALSE(section.table().find(7, hash_of(2)).found);
  ASSERT_TRUE(writer.set(hash_of(1), {4, kAnyPolicy, 41}).ok());
  EXPECT_EQ(section.table().find(7, hash_of(1)).what, (Override{4, kAnyPolicy, 41}));
  EXPECT_EQ(section.table().size(), 1u);
  EXPECT_FALSE(writer.remove(hash_of(1), 7)) << "that one is for any policy";
  EXPECT_TRUE(writer.remove(hash_of(1), kAnyPolicy));
  EXPECT_FALSE(writer.remove(hash_of(1), kAnyPolicy));
  section.check();
}

TEST(OverridesTest, OwnPolicyBeatsAny) {
  for (const bool any_first : {true, false}) {
    Section section(8);
    OverrideWriter writer = section.writer();
    ASSERT_TRUE(writer.set(hash_of(1), redirect(10, any_first ? kAnyPolicy : 7)).ok());
    ASSERT_TRUE(writer.set(hash_of(1), redirect(10, any_first ? 7 : kAnyPolicy)).ok());
    ASSERT_TRUE(writer.set(hash_of(1), redirect(20, 7)).ok());
    ASSERT_TRUE(writer.set(hash_of(1), redirect(30, 8)).ok());
    EXPECT_EQ(target(section.table(), hash_of(1), 7), 20);
    EXPECT_EQ(target(section.table(), hash_of(1), 8), 30);
    EXPECT_EQ(target(section.table(), hash_of(1), 9), 10);
    EXPECT_EQ(target(section.table(), hash_of(1), kAnyPolicy), 10);
    EXPECT_TRUE(writer.remove(hash_of(1), 7));
    EXPECT_EQ(target(section.table(), hash_of(1), 7), 10);
    EXPECT_TRUE(writer.remove(hash_of(1), kAnyPolicy));
    EXPECT_EQ(target(section.table(), hash_of(1), 7), -1);
    section.check();
  }
}

static_assert(unpack_override(pack_override({255, 0xfff, 0}, ~0ull)) == Override{255, 0xfff, 0});
static_assert(unpack_override(pack_override({0, 0, 0xfff}, ~0ull)) == Override{0, 0, 0xfff});

TEST(OverridesTest, ReservedHashesAndSharedHalves) {
  Section section(8);
  OverrideWriter writer = section.writer();
  const OverrideHash hashes[] = {{0, 5}, {1, 5}, {9, 5}, {9, 6}};
  for (uint16_t i = 0; i < 4; ++i) ASSERT_TRUE(writer.set(hashes[i], redirect(i)).ok());
  for (uint16_t i = 0; i < 4; ++i) EXPECT_EQ(target(section.table(), hashes[i]), i);
  EXPECT_EQ(section.live(), 4u);
}

TEST(OverridesTest, FullTable) {
  Section section(8);
  OverrideWriter writer = section.writer();
  for (uint16_t i = 0; i < 8; ++i) ASSERT_TRUE(writer.set(hash_of(i), redirect(i)).ok()) << i;
  const absl::Status full = writer.set(hash_of(100), redirect(1));
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(message(full).rfind("override_table_full: ", 0), 0u);
  EXPECT_NE(message(full).find("holds 8 of at most 8; remove some"), std::string::npos) << full;
  EXPECT_TRUE(writer.set(hash_of(3), redirect(33)).ok()) << "replacing needs no room";
  for (uint16_t i = 0; i < 8; ++i) EXPECT_EQ(target(section.table(), hash_of(i)), i == 3 ? 33 : i);
  EXPECT_TRUE(writer.remove(hash_of(3), kAnyPolicy));
  EXPECT_TRUE(writer.set(hash_of(100), redirect(1)).ok());
  section.check();
}

TEST(OverridesTest, ACountTooHighIsNotBelieved) {
  Section section(8);
  OverrideWriter writer = section.writer();
  ASSERT_TRUE(writer.set(hash_of(1), redirect(1)).ok());
  section.header().entries.store(99);
  EXPECT_TRUE(writer.set(hash_of(2), redirect(2)).ok());
  EXPECT_EQ(section.table().size(), 2u);
  section.header().entries.store(5);
  section.header().changing.store(1);  // as if its writer had died
  EXPECT_TRUE(writer.remove(hash_of(2), kAnyPolicy));
  section.check();
}

TEST(OverridesTest, DeletedEntriesAreTakenAgainOrDropped) {
  Section section(8);  // 16 entries
  OverrideWriter writer = section.writer();
  for (uint16_t i = 0; i < 4; ++i) ASSERT_TRUE(writer.set(at_home(14, i), redirect(i)).ok());
  EXPECT_EQ(section.entries()[1].low, at_home(14, 3).low) << "the walk goes round the end";
  EXPECT_TRUE(writer.remove(at_home(14, 1), kAnyPolicy));
  EXPECT_TRUE(writer.remove(at_home(14, 2), kAnyPolicy));
  EXPECT_EQ(section.with_low(kOverrideDeleted), 2u);
  EXPECT_EQ(target(section.table(), at_home(14, 3)), 3) << "found behind deleted entries";
  ASSERT_TRUE(writer.set(at_home(14, 9), redirect(9)).ok());
  EXPECT_EQ(section.entries()[15].low, at_home(14, 9).low) << "the first place is taken again";
  EXPECT_EQ(section.with_low(kOverrideDeleted), 1u);
  EXPECT_TRUE(writer.remove(at_home(14, 3), kAnyPolicy));
  EXPECT_EQ(section.with_low(kOverrideDeleted), 0u) << "nothing lies behind: both are dropped";
  EXPECT_EQ(target(section.table(), at_home(14, 0)), 0);
  EXPECT_EQ(target(section.table(), at_home(14, 9)), 9);
  section.check();
}

// Goal: the table is a map. Method: random calls against std::map, in tables of every small size.
TEST(OverridesTest, LikeAMap) {
  Random random(6);
  for (const uint32_t most : {1u, 2u, 3u, 8u, 50u, 700u}) {
    Section section(most);
    OverrideWriter writer = section.writer();
    std::map<std::pair<uint64_t, uint16_t>, Override> model;
    for (int i = 0; i < test::scaled(20000); ++i) {
      const uint64_t key = random.below(2 * most);
      const auto from = static_cast<uint16_t>(random.one_in(2) ? kAnyPolicy : random.below(3));
      // Grows and shrinks in turns, to nothing at times.
      const bool grow = random.below(10) < (i / 1000 % 2 == 0 ? 7u : 2u);
      if (grow) {
        const auto to = static_cast<uint16_t>(random.below(4096));
        const bool fits = model.size() < most || model.count({key, from}) != 0;
        ASSERT_EQ(writer.set(hash_of(key), redirect(to, from)).ok(), fits);
        if (fits) model[{key, from}] = redirect(to, from);
      } else {
        ASSERT_EQ(writer.remove(hash_of(key), from), model.erase({key, from}) == 1);
      }
      const uint64_t asked = random.below(2 * most);
      const auto policy = static_cast<uint16_t>(random.below(3));
      auto expected = model.find({asked, policy});
      if (expected == model.end()) expected = model.find({asked, kAnyPolicy});
      const OverrideMatch match = section.table().find(policy, hash_of(asked));
      ASSERT_EQ(match.found, expected != model.end());
      if (match.found) {
        ASSERT_EQ(match.what, expected->second);
      }
      if (i % 64 == 0) section.check();
      ASSERT_EQ(section.table().size(), model.size());
    }
    section.check();
  }
}

TEST(OverridesTest, ListedEntriesCanBeRemoved) {
  Section section(50);
  OverrideWriter writer = section.writer();
  for (uint16_t i = 0; i < 50; ++i) ASSERT_TRUE(writer.set(hash_of(i), redirect(i, i)).ok());
  std::vector<std::pair<OverrideHash, Override>> all;
  writer.table().for_each(
      [&](uint64_t, OverrideHash hash, const Override& what) { all.emplace_back(hash, what); });
  ASSERT_EQ(all.size(), 50u);
  for (const auto& [hash, what] : all) {
    EXPECT_EQ(what.from, what.to);
    EXPECT_EQ(section.table().find(what.from, hash).what, what);
    EXPECT_TRUE(writer.remove(hash, what.from));
  }
  EXPECT_TRUE(section.table().empty());
  section.check();
}

// A network's hash, as layer 3 makes it from text.
OverrideHash network(Family family, uint32_t prefix, uint64_t place = 0) {
  return hash_of(1000000 * place + 1000 * static_cast<uint64_t>(family) + prefix);
}

TEST(OverridesTest, SmallestNetworkWins) {
  Section section(200);
  OverrideWriter writer = section.writer();
  std::vector<int> asked;
  const auto find = [&](Family family, uint64_t place = 0) {
    asked.clear();
    const OverrideMatch match = section.table().find_network(7, family, [&](uint8_t prefix) {
      asked.push_back(prefix);
      return network(family, prefix, place);
    });
    return match.found ? match.what.to : -1;
  };
  const auto set = [&](Family family, int length) {
    const auto prefix = static_cast<uint8_t>(length);
    EXPECT_TRUE(writer.set(network(family, prefix), redirect(prefix), {family, prefix}).ok());
  };
  const auto remove = [&](Family family, int length) {
    return writer.remove(network(family, static_cast<uint8_t>(length)), kAnyPolicy);
  };
  EXPECT_EQ(find(Family::kV4), -1);
  EXPECT_TRUE(asked.empty()) << "an empty table costs no hash";
  for (const int prefix : {0, 8, 24, 32}) set(Family::kV4, prefix);
  EXPECT_EQ(find(Family::kV4), 32);
  EXPECT_EQ(find(Family::kV6), -1);
  EXPECT_TRUE(asked.empty());
  EXPECT_EQ(find(Family::kNone), -1);
  for (const int prefix : {0, 48, 63, 64, 127, 128}) set(Family::kV6, prefix);
  EXPECT_EQ(find(Family::kV6), 128);
  EXPECT_TRUE(remove(Family::kV6, 128));
  EXPECT_EQ(find(Family::kV6), 127);
  EXPECT_EQ(asked, (std::vector<int>{128, 127}));
  EXPECT_EQ(find(Family::kV6, 1), -1) << "another place";
  EXPECT_EQ(asked, (std::vector<int>{128, 127, 64, 63, 48, 0}));
  EXPECT_EQ(find(Family::kV4, 1), -1);
  EXPECT_EQ(asked, (std::vector<int>{32, 24, 8, 0}));
  for (int prefix = 0; prefix <= 128; ++prefix) {
    set(Family::kV6, prefix);
    if (prefix <= 32) set(Family::kV4, prefix);
  }
  for (int prefix = 128; prefix >= 0; --prefix) {
    EXPECT_EQ(find(Family::kV6), prefix);
    EXPECT_TRUE(remove(Family::kV6, prefix));
    if (prefix > 32) continue;
    EXPECT_EQ(find(Family::kV4), prefix);
    EXPECT_TRUE(remove(Family::kV4, prefix));
  }
  section.check();
}

// Goal: whatever the bytes are, every call ends, and no address outside the section is touched.
// Method: random and uniform bytes over the whole section, every small size; the next 16 bytes
//   stay as they are. The sanitizers watch too.
TEST(OverridesTest, HostileBytes) {
  Random random(7);
  for (int round = 0; round < test::scaled(3000); ++round) {
    Section section(static_cast<uint32_t>(1 + random.below(round % 50 == 0 ? 1000 : 20)));
    auto* const words = static_cast<uint64_t*>(section.bytes());
    const uint64_t kind = random.below(6);
    for (size_t i = 0; i < section.size() / 8; ++i) {
      words[i] = kind == 0   ? random.bits()
                 : kind == 1 ? random.below(3)
                 : kind == 2 ? ~uint64_t{0}
                 : kind == 3 ? kOverrideDeleted
                 : kind == 4 ? hash_of(3).low
                             : (random.one_in(2) ? random.bits() : random.below(2));
    }
    uint64_t* const behind = words + section.size() / 8;
    behind[0] = behind[1] = 0x5a5a5a5a5a5a5a5a;
    OverrideWriter writer = section.writer();
    for (uint64_t key = 0; key < 8; ++key) {
      const auto from = static_cast<uint16_t>(random.bits());
      (void)section.table().find(from, hash_of(key));
      for (const Family family : {Family::kV4, Family::kV6}) {
        uint32_t calls = 0;
        (void)section.table().find_network(from, family, [&](uint8_t prefix) {
          EXPECT_LE(prefix, family == Family::kV4 ? 32 : 128);
          ++calls;
          return hash_of(prefix);
        });
        EXPECT_LE(calls, family == Family::kV4 ? 33u : 129u);
      }
      if (writer.set(hash_of(key), redirect(5), {Family::kV6, 64}).ok()) {
        EXPECT_EQ(target(section.table(), hash_of(key)), 5);
      }
      EXPECT_EQ(section.header().changing.load(), 0u);
      writer.remove(hash_of(key + 1), kAnyPolicy);
    }
    section.table().for_each([](uint64_t, OverrideHash, const Override&) {});
    writer.rebuild();
    section.check();
    EXPECT_EQ(behind[0], 0x5a5a5a5a5a5a5a5a);
    EXPECT_EQ(behind[1], 0x5a5a5a5a5a5a5a5a);
  }
}

#if !defined(BRIM_TSAN)  // whose 16-byte load writes
TEST(OverridesTest, ReadsAReadOnlyMapping) {
  Section section(8);
  ASSERT_TRUE(section.writer().set(network(Family::kV4, 8), redirect(9), {Family::kV4, 8}).ok());
  ASSERT_EQ(mprotect(section.bytes(), section.size(), PROT_READ), 0);
  const auto hash = [](uint8_t prefix) { return network(Family::kV4, prefix); };
  EXPECT_EQ(section.table().find_network(7, Family::kV4, hash).what.to, 9);
}
#endif

// Goal: a reader sees the old or the new target of a key that is being replaced, and never misses
//   it, whatever happens to the entries around it. Method: all keys share one home.
TEST(OverridesTest, ReaderBesideAWriter) {
  Section section(8);
  OverrideWriter writer = section.writer();
  ASSERT_TRUE(writer.set(at_home(14, 0), redirect(0)).ok());
  ASSERT_TRUE(writer.set(at_home(14, 1), redirect(1)).ok());
  const OverrideHash key = at_home(14, 2);
  ASSERT_TRUE(writer.set(key, {1, kAnyPolicy, 100}, {Family::kV4, 24}).ok());
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> bad = 0;
  std::atomic<uint64_t> seen[2] = {};
  std::thread reader([&] {
    const Override one{1, kAnyPolicy, 100};
    const Override two{2, kAnyPolicy, 200};
    while (!stop.load()) {
      for (const OverrideMatch& match :
           {section.table().find(7, key),
            section.table().find_network(7, Family::kV4, [&](uint8_t) { return key; })}) {
        if (!match.found || (match.what != one && match.what != two)) ++bad;
        ++seen[match.what == two ? 1 : 0];
      }
    }
  });
  Random random(8);
  const int rounds = test::scaled(1000000);  // and on, until the reader had its turn
  for (int i = 0; i < rounds || ((seen[0] == 0 || seen[1] == 0) && i < 1000 * rounds); ++i) {
    EXPECT_TRUE(
        writer.set(key, i % 2 == 0 ? Override{2, kAnyPolicy, 200} : Override{1, kAnyPolicy, 100})
            .ok());
    const OverrideHash other =
        at_home(14, random.one_in(2) ? random.below(2) : 3 + random.below(3));
    if (random.one_in(2)) {
      EXPECT_TRUE(writer.set(other, redirect(static_cast<uint16_t>(random.below(4096)))).ok());
    } else {
      writer.remove(other, kAnyPolicy);
    }
  }
  stop = true;
  reader.join();
  EXPECT_EQ(bad.load(), 0u);
  EXPECT_TRUE(seen[0] != 0 && seen[1] != 0);
  section.check();
}

// What a writer was about to do when it was killed.
constexpr uint64_t kKeys = 40;

struct Journal {
  std::atomic<uint64_t> calls;
  std::atomic<uint32_t> active;  // 1: a call is under way, from `before` to `after`
  std::atomic<uint32_t> key;
  std::atomic<int> before, after;
  std::atomic<int> target[kKeys];  // -1: none
};

NetworkKind kind_of(uint64_t key) {
  if (key % 4 == 0) return {};
  return {key % 4 == 1 ? Family::kV4 : Family::kV6, static_cast<uint8_t>(key % 33)};
}

[[noreturn]] void write_for_ever(OverrideWriter writer, Journal& journal, uint64_t seed) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  alarm(60);
  for (Random random(seed);;) {
    const uint64_t key = random.below(kKeys);
    const int next = random.one_in(2) ? -1 : static_cast<int>(random.below(4096));
    journal.key = static_cast<uint32_t>(key);
    journal.before = journal.target[key].load();
    journal.after = next;
    journal.active = 1;
    const Override what = redirect(static_cast<uint16_t>(next));
    if (next < 0) writer.remove(hash_of(key), kAnyPolicy);
    if (next < 0 || writer.set(hash_of(key), what, kind_of(key)).ok()) journal.target[key] = next;
    journal.active = 0;
    ++journal.calls;
  }
}

// Goal: a writer killed at any moment leaves a table that every reader can use, each entry old or
//   new, and the next writer puts the counts right. Method: SIGKILL after random waits.
TEST(OverridesTest, KilledWriter) {
  Section section(32);
  void* const page =
      mmap(nullptr, sizeof(Journal), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  Journal& journal = *static_cast<Journal*>(page);
  for (auto& one : journal.target) one = -1;
  Random random(9);
  uint64_t in_call = 0;
  uint64_t marked = 0;
  for (uint64_t round = 0; round < 200; ++round) {
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) write_for_ever(section.writer(), journal, round);
    const uint64_t until = journal.calls + random.below(300);
    int status = 0;
    while (journal.calls < until && waitpid(pid, &status, WNOHANG) == 0) cpu_pause();
    for (uint64_t wait = random.below(500); wait > 0; --wait) cpu_pause();
    kill(pid, SIGKILL);
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    in_call += journal.active.load();
    marked += section.header().changing.load() != 0 ? 1 : 0;
    for (uint64_t key = 0; key < kKeys; ++key) {
      const int found = target(section.table(), hash_of(key));
      if (journal.active == 1 && journal.key == key) {
        ASSERT_TRUE(found == journal.before || found == journal.after) << found;
      } else {
        ASSERT_EQ(found, journal.target[key]);
      }
      journal.target[key] = found;
      const OverrideMatch match =
          section.table().find_network(7, kind_of(key).family, [&](uint8_t prefix) {
            return prefix == key % 33 ? hash_of(key) : OverrideHash{2, 2};
          });
      ASSERT_EQ(match.found, found >= 0 && key % 4 != 0) << "its prefix length is known";
    }
    ASSERT_GE(section.table().size(), section.live());
    journal.active = 0;
    section.writer().remove(hash_of(12345), kAnyPolicy);  // there is none; counts again
    section.check();
    if (HasFailure()) return;
  }
  std::printf("killed within a call: %lu of 200, with the mark set: %lu\n", in_call, marked);
  munmap(page, sizeof(Journal));
}

using Step = std::function<void(OverrideWriter&)>;

// One call of a writer, and what its key's target is before and after.
struct Change {
  const char* name;
  Step prepare, call;
  int before, after;
};

const OverrideHash kOwn = at_home(14, 50);
const OverrideHash kOther = at_home(14, 51);

Step set_step(OverrideHash hash, uint16_t to) {
  return [=](OverrideWriter& w) { (void)w.set(hash, redirect(to), {Family::kV6, 64}); };
}
Step remove_step(OverrideHash hash) {
  return [=](OverrideWriter& w) { w.remove(hash, kAnyPolicy); };
}
Step steps(std::vector<Step> all) {
  return [=](OverrideWriter& w) {
    for (const Step& one : all) one(w);
  };
}

std::vector<Change> changes() {
  const Step own = set_step(kOwn, 1);
  const Step other = set_step(kOther, 9);
  const OverrideHash gone = at_home(14, 1);
  const OverrideHash gone2 = at_home(14, 2);
  return {
      {"the first", steps({}), own, -1, 1},
      {"insert behind another", other, own, -1, 1},
      {"insert at a deleted entry", steps({set_step(gone, 3), other, remove_step(gone)}), own, -1,
       1},
      {"replace", own, set_step(kOwn, 2), 1, 2},
      {"remove the last", own, remove_step(kOwn), 1, -1},
      {"remove before another", steps({own, other}), remove_step(kOwn), 1, -1},
      {"remove and drop deleted entries",
       steps({other, set_step(gone, 3), set_step(gone2, 3), own, remove_step(gone2),
              remove_step(gone)}),
       remove_step(kOwn), 1, -1},
  };
}

// The table as it would be found if the writer died now; false: give up.
bool legal_if_killed_here(Section& section, const Change& change, bool& changed) {
  const int found = target(section.table(), kOwn);
  EXPECT_EQ(found, found == change.after ? change.after : change.before);
  EXPECT_FALSE(changed && found != change.after) << "new, then old again";
  changed = found == change.after;
  const auto hash = [](uint8_t) { return kOwn; };
  EXPECT_EQ(section.table().find_network(7, Family::kV6, hash).found, found >= 0);
  EXPECT_GE(section.table().size(), section.live());
  Section left(8);
  std::memcpy(left.bytes(), section.bytes(), section.size());
  OverrideWriter next = left.writer();
  EXPECT_TRUE(next.set(at_home(14, 7), redirect(77)).ok());
  EXPECT_EQ(target(left.table(), kOwn), found);
  EXPECT_EQ(target(left.table(), kOther), target(section.table(), kOther));
  EXPECT_EQ(target(left.table(), at_home(14, 7)), 77);
  left.check();
  return !::testing::Test::HasFailure();
}

// Goal: the same, at every instruction of every kind of change. Method: PTRACE_SINGLESTEP; at each
//   step the section is read as others see it, and a copy of it is used by the next writer.
TEST(OverridesTest, EveryInstruction) {
#if defined(BRIM_TSAN)
  GTEST_SKIP() << "the sanitizer's runtime is not worth stepping through";
#endif
  for (const Change& change : changes()) {
    SCOPED_TRACE(change.name);
    Section section(8);
    Section done(8);
    OverrideWriter writer = section.writer();
    change.prepare(writer);
    ASSERT_EQ(target(section.table(), kOwn), change.before);
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(3);
      raise(SIGSTOP);
      change.call(writer);
      done.header().entries = 1;
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    if (!WIFSTOPPED(status)) GTEST_SKIP() << "ptrace does not work here";
    uint64_t steps = 0;
    bool changed = false;
    for (; done.header().entries == 0 && steps < 1000000; ++steps) {
      if (ptrace(PTRACE_SINGLESTEP, pid, nullptr, nullptr) != 0) break;
      if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) break;
      if (!legal_if_killed_here(section, change, changed)) break;
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    ASSERT_FALSE(HasFailure()) << "after " << steps << " instructions";
    EXPECT_EQ(done.header().entries, 1u);
    EXPECT_TRUE(changed);
    section.check();
    std::printf("%s: %lu instructions\n", change.name, steps);
  }
}

}  // namespace
}  // namespace brim::shm
