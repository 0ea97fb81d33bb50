// SPDX-License-Identifier: MIT
// Goal: lines come whole and numbered whatever the reads cut, and no line can fill the memory.
// Method: files with awkward ends and sizes, and pipes that give a few bytes at a time.
#include "replay_input.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace brim::replay {
namespace {

class LogInputTest : public testing::Test {
 protected:
  std::string write(const std::string& content) {
    const std::string name = testing::TempDir() + "replay_input_" + std::to_string(getpid()) + "_" +
                             std::to_string(names_.size());
    std::ofstream(name, std::ios::binary) << content;
    names_.push_back(name);
    return name;
  }
  void TearDown() override {
    for (const std::string& name : names_) std::remove(name.c_str());
  }
  std::vector<std::string> names_;
};

struct Line {
  std::string text;
  uint64_t number;
  bool too_long;
  bool operator==(const Line&) const = default;
};

std::vector<Line> lines_of(const std::vector<std::string>& names, absl::Status* status = nullptr) {
  absl::StatusOr<LogInput> input = LogInput::open(names);
  EXPECT_TRUE(input.ok()) << input.status();
  std::vector<Line> lines;
  std::string_view text;
  while (input->next(text)) {
    lines.push_back(
        {input->too_long() ? "" : std::string(text), input->line_number(), input->too_long()});
  }
  if (status != nullptr) {
    *status = input->status();
  } else {
    EXPECT_TRUE(input->status().ok()) << input->status();
  }
  return lines;
}

TEST_F(LogInputTest, LineEndsAndSeveralFiles) {
  const std::string nul("x\0y", 3);
  const std::string first = write("one\ntwo\r\n\n\r\n" + nul + "\nlast");
  const std::string second = write("");
  const std::string third = write("again\n");
  EXPECT_EQ(lines_of({first, second, third}), (std::vector<Line>{{"one", 1, false},
                                                                 {"two", 2, false},
                                                                 {"", 3, false},
                                                                 {"", 4, false},
                                                                 {nul, 5, false},
                                                                 {"last", 6, false},
                                                                 {"again", 1, false}}));
}

TEST_F(LogInputTest, LongLinesAreCutAndCounted) {
  for (const size_t size : {kMaxLine - 1, kMaxLine, kMaxLine + 1, 2 * kMaxLine, 2 * kMaxLine + 1,
                            4 * kMaxLine - 1, 4 * kMaxLine, 4 * kMaxLine + 1, 50 * kMaxLine}) {
    const std::string name =
        write("before\n" + std::string(size, 'x') + "\nafter\n" + std::string(size, 'y'));
    const bool too_long = size > kMaxLine;
    const std::string x = too_long ? "" : std::string(size, 'x');
    const std::string y = too_long ? "" : std::string(size, 'y');
    EXPECT_EQ(lines_of({name}),
              (std::vector<Line>{
                  {"before", 1, false}, {x, 2, too_long}, {"after", 3, false}, {y, 4, too_long}}))
        << size;
  }
}

TEST_F(LogInputTest, ManyLinesOfEverySize) {
  std::string content;
  std::vector<Line> expected;
  for (size_t i = 1; i <= 3000; ++i) {
    const std::string text(i * 7919 % 2000, static_cast<char>('a' + i % 26));
    expected.push_back({text, i, false});
    content += text + "\n";
  }
  EXPECT_EQ(lines_of({write(content)}), expected);
}

TEST_F(LogInputTest, PipesGiveAFewBytesAtATime) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const std::string path = "/dev/fd/" + std::to_string(ends[0]);
  std::string content;
  for (int i = 0; i < 300; ++i) content += "line " + std::to_string(i) + "\n";
  std::thread writer([&] {
    for (size_t at = 0; at < content.size(); at += 3) {
      const std::string piece = content.substr(at, 3);
      EXPECT_EQ(::write(ends[1], piece.data(), piece.size()), static_cast<ssize_t>(piece.size()));
    }
    close(ends[1]);
  });
  const std::vector<Line> lines = lines_of({path});
  writer.join();
  close(ends[0]);
  ASSERT_EQ(lines.size(), 300u);
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i].text, "line " + std::to_string(i));
  }
}

TEST_F(LogInputTest, ErrorsNameTheFile) {
  const auto missing = LogInput::open({"/no/such/file"});
  EXPECT_NE(missing.status().ToString().find("/no/such/file"), std::string::npos);
  absl::Status status;
  EXPECT_TRUE(lines_of({"/"}, &status).empty());
  EXPECT_NE(status.ToString().find("directory"), std::string::npos);
  EXPECT_TRUE(lines_of({write("\x1f\x8b\x08zzzz\nzz\n")}, &status).empty());
  EXPECT_NE(status.ToString().find("zcat"), std::string::npos);
}

}  // namespace
}  // namespace brim::replay
