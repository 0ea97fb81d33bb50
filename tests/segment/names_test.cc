// SPDX-License-Identifier: MIT
// F40 and the names array: keys of any bytes and any length, shown exactly, cut with a flag, and
// not shown at all if a single byte of the entry is not the writer's.
#include "shm/names.h"

#include <atomic>
#include <cstring>
#include <map>
#include <thread>

#include "brim/inspect.h"
#include "tests/segment/exercise.h"
#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

struct Shown {
  std::string name;
  uint64_t length;
  uint64_t slot;
  uint64_t fingerprint;
  bool has_name;
};

std::vector<Shown> dump(const std::string& path) {
  std::vector<Shown> all;
  const auto inspector = Inspector::attach(path);
  if (!inspector.ok()) return all;
  inspector->for_each_key([&all](const KeyInfo& key) {
    all.push_back(
        {std::string(key.name), key.name_length, key.slot, key.fingerprint, key.has_name});
    return true;
  });
  return all;
}

// Keys that other limiters trip over.
std::vector<std::string> odd_keys() {
  std::vector<std::string> keys = {"",
                                   std::string(1, '\0'),
                                   std::string(2, '\0'),
                                   "a",
                                   "A",
                                   std::string("a\0b", 3),
                                   std::string("a\0c", 3),
                                   "\xff\xfe\xc3\x28",
                                   "\x1b]0;x\x07",
                                   "=HYPERLINK(\"x\")",
                                   "a\n",
                                   "a\r\n",
                                   " a",
                                   "a "};
  for (int c = 0; c < 256; ++c) keys.push_back(std::string("byte ") + static_cast<char>(c));
  for (const size_t size :
       {7u, 8u, 9u, 15u, 16u, 17u, 47u, 48u, 49u, 255u, 4096u, 65535u, 65536u, 65537u, 16u << 20}) {
    keys.push_back(std::string(size, 'k'));
    keys.push_back(std::string(size - 1, 'k') + "l");
    keys.push_back("j" + std::string(size - 1, 'k'));
  }
  return keys;
}

class F40 : public ::testing::TestWithParam<HashKind> {};

// Goal: distinct keys have distinct limits, whatever their bytes and length; none is skipped.
// Method: take a different cost for each key, then look at what each has left.
TEST_P(F40, AnyBytesAreAKey) {
  const TempDir directory;
  Options options = small_options();
  options.capacity = 2048;
  options.hash = GetParam();
  options.policies = {{"p", "1000/h"}};
  const auto limiter = Limiter::create(directory.file("seg"), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const auto policy = limiter->policy("p");
  const std::vector<std::string> keys = odd_keys();
  for (size_t i = 0; i < keys.size(); ++i) {
    const Decision decision = policy->try_acquire(keys[i], static_cast<uint32_t>(i + 1));
    ASSERT_TRUE(decision.allowed());
    ASSERT_EQ(decision.remaining, 999 - i) << "key " << i << " was met before";
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(policy->peek(keys[i]).remaining, 999 - i);
    EXPECT_TRUE(policy->reset(keys[i]));
    EXPECT_EQ(policy->peek(keys[i]).remaining, 1000u);
  }
}
INSTANTIATE_TEST_SUITE_P(Hashes, F40, ::testing::Values(HashKind::kSipHash, HashKind::kXxh3));

// Goal: the dump shows each key's bytes exactly; a longer one is cut, and its true length told.
// Method: all the odd keys, at several widths of the name.
TEST(Names, ShownExactlyOrCutWithAFlag) {
  for (const uint32_t width : {8u, 48u, 256u}) {
    const TempDir directory;
    Options options = small_options();
    options.capacity = 2048;
    options.name_bytes = width;
    const std::string path = directory.file("seg");
    const auto limiter = Limiter::create(path, options);
    ASSERT_TRUE(limiter.ok()) << limiter.status();
    const auto policy = limiter->policy("p");
    std::multimap<std::string, uint64_t> wanted;
    for (const std::string& key : odd_keys()) {
      policy->try_acquire(key);
      // A name that is cut keeps 8 bytes for the place of its window.
      wanted.emplace(key.substr(0, shm::kept_bytes(key.size(), width)), key.size());
    }
    std::multimap<std::string, uint64_t> shown;
    for (const Shown& one : dump(path)) {
      EXPECT_TRUE(one.has_name);
      EXPECT_EQ(one.length > one.name.size(), one.length > width);
      shown.emplace(one.name, one.length);
    }
    ASSERT_EQ(shown.size(), wanted.size());
    for (const auto& [name, length] : wanted) {
      const auto [first, last] = shown.equal_range(name);
      EXPECT_TRUE(std::any_of(first, last, [wanted_length = length](const auto& s) {
        return s.second == wanted_length;
      }));
    }
  }
}

// Goal: without a names section only fingerprints are shown, and no key is lost.
// Method: kNoNames.
TEST(Names, NoneKept) {
  const TempDir directory;
  Options options = small_options();
  options.name_bytes = Options::kNoNames;
  const std::string path = directory.file("seg");
  const auto limiter = Limiter::create(path, options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  limiter->policy("p")->try_acquire("key");
  const std::vector<Shown> all = dump(path);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_FALSE(all[0].has_name);
  EXPECT_EQ(all[0].name, "");
  EXPECT_NE(all[0].fingerprint, 0u);
  EXPECT_EQ(limiter->policy("p")->peek("key").remaining, 9u);
}

// Goal: an entry with any bit changed, a length of another, or another slot's entry is not taken
// for the key's name; the key and its state are shown all the same.
// Method: flip each bit of the used part of the entry, then set wild lengths, then copy entries.
TEST(Names, HostileOrTornEntryShowsTheFingerprintOnly) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  const auto limiter = Limiter::create(path, small_options());
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  limiter->policy("p")->try_acquire("victim");
  limiter->policy("p")->try_acquire("other");
  std::vector<Shown> all = dump(path);
  ASSERT_EQ(all.size(), 2u);
  if (all[0].name != "victim") std::swap(all[0], all[1]);
  ASSERT_EQ(all[0].name, "victim");
  const auto segment = shm::Segment::attach(path, {});
  auto* const entry = reinterpret_cast<char*>((*segment)->name_entry(all[0].slot));
  const auto hidden = [&] {
    for (const Shown& one : dump(path)) {
      if (one.slot == all[0].slot)
        return !one.has_name && one.name.empty() && one.fingerprint == all[0].fingerprint;
    }
    return false;
  };
  const size_t used = sizeof(shm::NameEntry) + 6;
  const std::string good(entry, used);
  for (size_t bit = 0; bit < used * 8; ++bit) {
    entry[bit / 8] = static_cast<char>(entry[bit / 8] ^ (1 << bit % 8));
    EXPECT_TRUE(hidden()) << "bit " << bit;
    std::memcpy(entry, good.data(), used);
  }
  for (const uint64_t length : {uint64_t{0}, uint64_t{5}, uint64_t{48}, uint64_t{49},
                                uint64_t{1} << 32, uint64_t{1} << 63, ~uint64_t{0}}) {
    std::memcpy(entry + 8, &length, 8);
    EXPECT_TRUE(hidden()) << "length " << length;
  }
  std::memcpy(entry, (*segment)->name_entry(all[1].slot), used);
  EXPECT_TRUE(hidden()) << "another key's entry";
  std::memcpy(entry, good.data(), used);
  EXPECT_FALSE(hidden());
}

// Goal: while names are written a reader sees a key's own bytes or none.
// Method: a process puts keys of one repeated letter in and out of a tiny table; each name dumped
// meanwhile is one letter repeated, as long as that key is.
TEST(Names, NeverAMixUnderTraffic) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  Options options = small_options();
  options.capacity = 4;
  ASSERT_TRUE(Limiter::create(path, options).ok());
  const pid_t writer = start_child([&] {
    const auto policy = Limiter::attach(path)->policy("p");
    for (uint32_t i = 0;; ++i) {
      const char letter = static_cast<char>('a' + i % 26);
      policy->try_acquire(std::string(10 + 3 * (i % 26), letter));
    }
    return 0;
  });
  const auto inspector = Inspector::attach(path);
  ASSERT_TRUE(inspector.ok()) << inspector.status();
  size_t shown = 0;
  size_t torn = 0;
  // The writer may take a while to start.
  for (int round = 0; round < 20000 || (shown < 1000 && round < 50000000); ++round) {
    inspector->for_each_key([&](const KeyInfo& key) {
      if (!key.has_name) return true;
      ++shown;
      const auto letter = static_cast<size_t>(key.name.empty() ? 0 : key.name[0] - 'a');
      const std::string whole(10 + 3 * letter, key.name.empty() ? '?' : key.name[0]);
      torn += key.name == whole.substr(0, shm::kept_bytes(whole.size(), 48)) &&
                      key.name_length == whole.size()
                  ? 0
                  : 1;
      return true;
    });
  }
  kill(writer, SIGKILL);
  wait_for(writer);
  EXPECT_GT(shown, 0u);
  EXPECT_EQ(torn, 0u);
}

}  // namespace
}  // namespace brim::segment_test
