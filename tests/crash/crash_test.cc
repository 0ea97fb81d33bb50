// SPDX-License-Identifier: MIT
// P1, P3: a process is killed before and after each of its stores to shared memory, in turn, in
// every kind of call. All invariants hold then, and the next process works.
#include <cinttypes>
#include <cstdio>

#include "tests/crash/harness.h"

namespace brim::test {
namespace {

std::vector<Figures>& table() {
  static std::vector<Figures> all;
  return all;
}

class Report : public ::testing::Environment {
 public:
  void TearDown() override {
    std::printf("%-44s %8s %8s %10s %10s %10s\n", "operation", "points", "kills", "unchanged",
                "between", "done");
    uint64_t kills = 0;
    for (const Figures& one : table()) {
      kills += one.kills;
      std::printf("%-44s %8" PRIu64 " %8" PRIu64, one.name.c_str(), one.points, one.kills);
      if (one.permits) {
        std::printf(" %10" PRIu64 " %10" PRIu64 " %10" PRIu64 "\n", one.before, one.between,
                    one.after);
      } else {
        std::printf(" %10s %10s %10s\n", "-", "-", "-");
      }
    }
    std::printf("%" PRIu64 " kills\n", kills);
  }
};
const auto* const report = ::testing::AddGlobalTestEnvironment(new Report);

class CrashEverywhere : public ::testing::TestWithParam<Operation> {};

TEST_P(CrashEverywhere, LeavesALegalSegmentThatOthersUse) {
  const Figures figures = crash_everywhere(GetParam());
  EXPECT_EQ(figures.kills, figures.points);
  EXPECT_GE(figures.points, 2u);
  table().push_back(figures);
}

std::string title(const ::testing::TestParamInfo<Operation>& info) {
  std::string name = info.param.name;
  for (char& letter : name) {
    if (isalnum(static_cast<unsigned char>(letter)) == 0) letter = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Operations, CrashEverywhere, ::testing::ValuesIn(operations()), title);

}  // namespace
}  // namespace brim::test
