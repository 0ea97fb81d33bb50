// SPDX-License-Identifier: MIT
// What SECURITY.md says of the hash key: it is in no core dump, and in nothing that is printed
// (that part is tests/security/secrets_test.py).
#include <cstring>

#include "brim/inspect.h"
#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

// Not the key, but what to compare with: (bytes ^ kMask). So the search does not find itself.
constexpr uint64_t kMask = 0x5a5aa5a53c3cc3c3;

struct Wanted {
  std::vector<uint64_t> masked;
};

// The key and the first words of the XXH3 secret of a segment file, masked.
Wanted secrets_of(const std::string& path) {
  volatile uint64_t words[5] = {};
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || pread(fd, const_cast<uint64_t*>(words), sizeof(words),
                      offsetof(shm::HeaderFields, hash_key)) != sizeof(words)) {
    std::abort();
  }
  close(fd);
  Wanted wanted;
  for (volatile uint64_t& word : words) {
    wanted.masked.push_back(word ^ kMask);
    word = 0;
  }
  return wanted;
}

struct Found {
  int dumped = 0;
  int left_out = 0;
  std::string where;
};

// Looks at every byte of this process's memory, apart by whether a core dump would hold it.
Found search(const Wanted& wanted) {
  struct Range {
    uintptr_t from;
    uintptr_t to;
    std::string line;
    bool left_out;
  };
  std::vector<Range> ranges;
  std::ifstream smaps("/proc/self/smaps");
  for (std::string line; std::getline(smaps, line);) {
    uintptr_t from = 0;
    uintptr_t to = 0;
    char flags[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &from, &to, flags) == 3) {
      const bool readable = flags[0] == 'r' && line.find("[v") == std::string::npos;
      ranges.push_back({from, readable ? to : from, line, false});
    } else if (line.starts_with("VmFlags:")) {
      ranges.back().left_out = line.find(" dd") != std::string::npos;
    }
  }
  Found found;
  for (const Range& range : ranges) {
    for (uintptr_t at = range.from; at + 8 <= range.to; ++at) {
      uint64_t word;
      std::memcpy(&word, reinterpret_cast<const void*>(at), sizeof(word));
      for (const uint64_t masked : wanted.masked) {
        if ((word ^ kMask) != masked) continue;
        ++(range.left_out ? found.left_out : found.dumped);
        if (!range.left_out) found.where = range.line;
      }
    }
  }
  return found;
}

class Secret : public ::testing::TestWithParam<HashKind> {};

// Goal: no memory that a core dump would hold has the hash key, in whoever creates, attaches, only
//   reads, forks or lists; after the segment is closed no memory at all has it.
// Method: a child does all of that and then looks for the key, word by word, in all its memory.
TEST_P(Secret, InNoCoreDump) {
  if (BRIM_TEST_ASAN || BRIM_TEST_TSAN) GTEST_SKIP() << "the sanitizer keeps copies of its own";
  const TempDir directory;
  const std::string path = directory.file("seg");
  const auto look = [&](bool create, bool writing) {
    {
      Options options = small_options();
      options.hash = GetParam();
      if (create) CHILD_CHECK(Limiter::create(path, options).ok());
      const auto limiter = writing ? Limiter::attach(path) : Limiter::attach_read_only(path);
      CHILD_CHECK(limiter.ok());
      for (int i = 0; i < 100; ++i) limiter->policy("p")->try_acquire(cat("key", i % 40));
      const auto inspector = Inspector::attach(path);
      CHILD_CHECK(inspector.ok());
      inspector->for_each_key([](const KeyInfo&) { return true; });
      list_segments();
      Wanted wanted = secrets_of(path);
      if (GetParam() != HashKind::kXxh3) wanted.masked.resize(2);  // the other words lie unused
      const Found found = search(wanted);
      CHILD_CHECK(found.left_out >= 4);  // the mappings and the copies; else the search is blind
      if (found.dumped != 0) std::fprintf(stderr, "%s\n", found.where.c_str());
      CHILD_CHECK(found.dumped == 0);
      // A forked child keeps it that way.
      CHILD_CHECK(in_child([&] { return search(wanted).dumped; }) == "exit 0");
    }
    const Found after = search(secrets_of(path));
    CHILD_CHECK(after.dumped == 0 && after.left_out == 0);
    return 0;
  };
  EXPECT_EQ(in_child([&] { return look(true, true); }), "exit 0");
  EXPECT_EQ(in_child([&] { return look(false, true); }), "exit 0");
  EXPECT_EQ(in_child([&] { return look(false, false); }), "exit 0");
}
INSTANTIATE_TEST_SUITE_P(Hash, Secret, ::testing::Values(HashKind::kSipHash, HashKind::kXxh3));

}  // namespace
}  // namespace brim::segment_test
