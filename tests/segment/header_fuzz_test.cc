// SPDX-License-Identifier: MIT
// P5: random damage to a valid segment. A campaign with a fixed seed, so a failure comes back.
#include <cstring>
#include <map>

#include "tests/segment/exercise.h"
#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

int mutations() {
  return from_environment("BRIM_TEST_MUTATIONS", BRIM_TEST_ASAN != 0 ? 5000 : 20000);
}

struct Progress {
  uint64_t done;
  uint64_t usable;
  uint64_t refused;
  char error[512];
};

// Damages one to four places: bits, bytes, words near borders; header or anything behind it.
void damage(std::string& bytes, Random& random, size_t reach) {
  for (uint64_t n = random() % 4 + 1; n != 0; --n) {
    const uint64_t r = random();
    switch (r % 4) {
      case 0:
        bytes[r / 4 % reach] = static_cast<char>(bytes[r / 4 % reach] ^ (1 << (r >> 40) % 8));
        break;
      case 1:
        bytes[r / 4 % reach] = static_cast<char>(r >> 40);
        break;
      case 2: {
        const uint64_t value = random.wild();
        std::memcpy(bytes.data() + r / 4 % (reach / 8) * 8, &value, 8);
        break;
      }
      default: {
        const auto value = static_cast<uint32_t>(random.wild());
        std::memcpy(bytes.data() + r / 4 % (reach / 4) * 4, &value, 4);
        break;
      }
    }
  }
}

absl::Status read_all(const std::string& path) {
  const absl::StatusOr<Inspector> inspector = Inspector::attach(path);
  return inspector.ok() ? exercise_inspector(*inspector) : inspector.status();
}

// Runs a campaign in a child and expects each damaged file to be refused by name or to be usable.
void campaign(uint64_t seed, int rounds, bool whole_file, bool writing) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  {
    const auto limiter = Limiter::create(path, all_options());
    ASSERT_TRUE(limiter.ok()) << limiter.status();
    const auto policy = limiter->policy("p");
    for (int i = 0; i < 20; ++i) policy->try_acquire(cat("key-", i));
    for (const std::string& name : limiter->policy_names()) {
      for (int i = 0; i < 4; ++i) limiter->policy(name)->try_acquire(cat("key-", i % 2));
    }
    ASSERT_TRUE(limiter->set_override("p", "key-1", "deny").ok());
    ASSERT_TRUE(limiter->set_network_override("p", "10.0.0.0/8", "unlimited").ok());
  }
  const std::string pristine = read_bytes(path);
  SharedWithChildren<Progress> progress;
  const std::string ended = in_child(
      [&] {
        Random random(seed);
        const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
        for (int i = 0; i < rounds; ++i) {
          std::string bytes = pristine;
          damage(bytes, random, whole_file ? bytes.size() : sizeof(shm::SegmentHeader));
          const size_t written = whole_file || writing ? bytes.size() : sizeof(shm::SegmentHeader);
          CHILD_CHECK(pwrite(fd, bytes.data(), written, 0) == static_cast<ssize_t>(written));
          progress->done = static_cast<uint64_t>(i);
          const absl::Status status =
              writing || i % 8 == 0 ? exercise(path, writing) : read_all(path);
          if (status.ok() || known_error(status)) {
            ++(status.ok() ? progress->usable : progress->refused);
            continue;
          }
          std::snprintf(progress->error, sizeof(progress->error), "%s", status.ToString().c_str());
          return 1;
        }
        return 0;
      },
      5000);
  EXPECT_EQ(ended, "exit 0") << "seed " << seed << ", mutation " << progress->done << ": "
                             << progress->error;
  std::printf("%d mutations: %lu refused by name, %lu usable\n", rounds,
              static_cast<unsigned long>(progress->refused),
              static_cast<unsigned long>(progress->usable));
  EXPECT_GT(progress->refused, 0u);
  EXPECT_GT(progress->usable, 0u);
}

// Goal: a damaged header is refused by name or harmless to a reader.
// Method: random damage to the first 1408 bytes; attach read-only, dump all; every eighth time
// also peek, and check each pointer against the mapping.
TEST(F06, RandomDamageToTheHeader) { campaign(1, mutations(), false, false); }

// Goal: the same for a worker that goes on to write.
// Method: the same, then acquire, refund, reset and define on what attaches.
TEST(F06, RandomDamageToTheHeaderThenWriting) { campaign(2, mutations() / 20, false, true); }

// Goal: bytes behind the header are never trusted either.
// Method: damage anywhere in the file, then reading and writing.
TEST(F06, RandomDamageAnywhere) { campaign(3, mutations() / 20, true, true); }

}  // namespace
}  // namespace brim::segment_test
