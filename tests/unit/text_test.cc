// SPDX-License-Identifier: MIT
#include "src/base/text.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace brim {
namespace {

TEST(Text, CatJoinsStringsAndIntegers) {
  EXPECT_EQ(cat(), "");
  EXPECT_EQ(cat("a ", std::string("b"), std::string_view(" c "), 7), "a b c 7");
  EXPECT_EQ(cat(std::numeric_limits<int64_t>::min()), "-9223372036854775808");
  EXPECT_EQ(cat(std::numeric_limits<uint64_t>::max()), "18446744073709551615");
  EXPECT_EQ(cat(std::string("a\0b", 3)).size(), 3u);
}

TEST(Text, HexHasAtLeastTheDigitsAsked) {
  EXPECT_EQ(hex(0), "0");
  EXPECT_EQ(hex(0, 4), "0000");
  EXPECT_EQ(hex(0xbeef), "beef");
  EXPECT_EQ(hex(0xbeef, 6), "00beef");
  EXPECT_EQ(hex(~uint64_t{0}, 2), "ffffffffffffffff");
}

TEST(Text, OctalModeHasFourDigits) {
  EXPECT_EQ(octal_mode(0), "0000");
  EXPECT_EQ(octal_mode(0600), "0600");
  EXPECT_EQ(octal_mode(07777), "7777");
  EXPECT_EQ(octal_mode(0100644), "0644") << "the file type is not part of it";
}

// Goal (F44): bytes from a key or a file can not steer a terminal, break a log line or forge an
// escape. Method: every byte value; only plain ASCII but '%' comes through as itself.
TEST(Text, PrintableEscapesEverythingElse) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string shown = printable(std::string(1, static_cast<char>(byte)));
    if (byte >= 0x20 && byte < 0x7f && byte != '%') {
      EXPECT_EQ(shown, std::string(1, static_cast<char>(byte)));
    } else {
      EXPECT_EQ(shown, cat("%", hex(static_cast<uint64_t>(byte), 2)));
    }
  }
  EXPECT_EQ(printable("\x1b]0;x\x07"), "%1b]0;x%07");
  EXPECT_EQ(printable("100%41"), "100%2541") << "what was not escaped does not look as if";
  EXPECT_EQ(printable("\xe2\x80\xae"), "%e2%80%ae");
}

TEST(Text, PrintableCutsAtTheLimit) {
  EXPECT_EQ(printable("", 4), "");
  EXPECT_EQ(printable("abcd", 4), "abcd");
  EXPECT_EQ(printable("abcde", 4), "abcd...");
  EXPECT_EQ(printable(std::string(100000, '\n'), 2), "%0a%0a...");
}

}  // namespace
}  // namespace brim
