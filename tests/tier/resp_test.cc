// SPDX-License-Identifier: MIT
// Goal: whole replies are read whatever pieces they come in, and none costs more than its bounds.
#include "src/tier/resp.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "src/tier/redis_script.h"
#include "src/tier/redis_slots.h"

namespace brim::tier {
namespace {

Reply only(std::string_view bytes) {
  ReplyReader reader;
  reader.feed(bytes);
  auto reply = reader.next();
  EXPECT_TRUE(reply.ok() && reply->has_value()) << bytes;
  return reply.ok() && reply->has_value() ? **reply : Reply();
}

// The error of a reader that was told all this, piece by piece; empty: none.
std::string error_of(std::string_view bytes) {
  ReplyReader reader;
  for (size_t at = 0; at < bytes.size(); at += 65536) {
    reader.feed(bytes.substr(at, 65536));
    while (true) {
      auto reply = reader.next();
      if (!reply.ok()) {
        EXPECT_FALSE(reader.next().ok()) << "an error that goes away";
        return std::string(reply.status().message());
      }
      if (!reply->has_value()) break;
    }
  }
  return {};
}

std::string repeated(std::string_view piece, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += piece;
  return out;
}

TEST(Resp, Commands) {
  EXPECT_EQ(command({"SET", "", std::string_view("a\r\n\0", 4)}),
            std::string("*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\r\n\0\r\n", 29));
}

TEST(Resp, Kinds) {
  EXPECT_TRUE(only("+OK\r\n").is_text("OK"));
  EXPECT_EQ(only(":-12\r\n").integer, -12);
  EXPECT_EQ(only("$-1\r\n").kind, Reply::Kind::kNil);
  EXPECT_EQ(only("*-1\r\n").kind, Reply::Kind::kNil);
  EXPECT_TRUE(only("-ERR x\r\n").is_error());
  EXPECT_EQ(only("-ERR x\r\n").text, "ERR x");
  EXPECT_TRUE(only("*0\r\n").items.empty());
}

TEST(Resp, InAnyPieces) {
  const std::string bytes =
      "*3\r\n*2\r\n:1\r\n$3\r\na\r\n\r\n*1\r\n*1\r\n-E\r\n+x\r\n:7\r\n*1\r\n$0\r\n\r\n";
  for (size_t size = 1; size <= bytes.size(); ++size) {
    ReplyReader reader;
    std::vector<Reply> replies;
    for (size_t at = 0; at < bytes.size(); at += size) {
      reader.feed(std::string_view(bytes).substr(at, size));
      while (true) {
        auto reply = reader.next();
        ASSERT_TRUE(reply.ok());
        if (!reply->has_value()) break;
        replies.push_back(**reply);
      }
    }
    ASSERT_EQ(replies.size(), 3U);
    ASSERT_EQ(replies[0].items.size(), 3U);
    EXPECT_EQ(replies[0].items[0].items[1].text, "a\r\n");
    EXPECT_TRUE(replies[0].items[1].items[0].items[0].is_error());
    EXPECT_TRUE(replies[0].items[2].is_text("x"));
    EXPECT_EQ(replies[1].integer, 7);
    EXPECT_TRUE(replies[2].items[0].is_text(""));
  }
}

TEST(Resp, Bounds) {
  const std::string megabyte(ReplyReader::kMostText, 'x');
  EXPECT_EQ(error_of("*4096\r\n" + repeated(":1\r\n", 4096)), "");
  EXPECT_NE(error_of("*4097\r\n"), "");
  EXPECT_NE(error_of("*2\r\n*4000\r\n" + repeated(":1\r\n", 4000) + "*100\r\n"), "");
  EXPECT_NE(error_of("*2147483647\r\n"), "");
  EXPECT_EQ(error_of("*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"), "");
  EXPECT_NE(error_of("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"), "");
  EXPECT_EQ(error_of("$1048576\r\n" + megabyte + "\r\n"), "");
  EXPECT_NE(error_of("$1048577\r\n" + megabyte + "x\r\n"), "");
  EXPECT_EQ(error_of("*3\r\n" + repeated("$1048576\r\n" + megabyte + "\r\n", 3)), "");
  EXPECT_NE(error_of("*5\r\n" + repeated("$1048576\r\n" + megabyte + "\r\n", 5)), "");
  EXPECT_NE(error_of("$536870912\r\n" + repeated(megabyte, 6)), "");
  EXPECT_NE(error_of("+" + repeated(megabyte, 6)), "");
  EXPECT_EQ(error_of(repeated("$1048576\r\n" + megabyte + "\r\n", 20)), "");  // one after another
  EXPECT_NE(error_of("%1\r\n"), "");
  EXPECT_NE(error_of("HTTP/1.1 200 OK\r\n"), "");
}

TEST(Resp, RandomBytes) {
  std::mt19937_64 random(58);
  const std::vector<std::string> pieces = {"*3\r\n",  ":0\r\n", "$5\r\n",  "-E\r\n", "*1\r\n",
                                           "$-1\r\n", "\r\n",   "$2\r\n",  "ab",     "+",
                                           "*-3\r\n", "*0\r\n", "$99\r\n", "\0"};
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    for (uint64_t count = random() % 40; count > 0; --count) {
      bytes += random() % 8 == 0 ? std::string(1, static_cast<char>(random()))
                                 : pieces[random() % pieces.size()];
    }
    ReplyReader reader;
    for (size_t at = 0; at < bytes.size();) {
      const size_t size = 1 + random() % 20;
      reader.feed(std::string_view(bytes).substr(at, size));
      at += size;
      while (true) {
        auto reply = reader.next();
        if (!reply.ok() || !reply->has_value()) break;
      }
    }
  }
}

TEST(Slots, Hash) {
  EXPECT_EQ(slot_of("123456789"), 0x31c3 & 16383);  // the specification's
  EXPECT_EQ(slot_of("foo"), 12182);
  EXPECT_EQ(slot_of("{user1000}.following"), slot_of("user1000"));
  EXPECT_EQ(slot_of("foo{}{bar}"), slot_of("foo{}{bar}"));
  EXPECT_NE(slot_of("foo{}{bar}"), slot_of("bar"));
  EXPECT_EQ(slot_of("foo{{bar}}zap"), slot_of("{bar"));
  EXPECT_EQ(slot_of("foo{bar}{zap}"), slot_of("bar"));
}

TEST(Slots, Redirects) {
  const Endpoint asked{"here", 1};
  EXPECT_EQ(parse_redirect("MOVED 3999 10.0.0.1:6381", asked), (Endpoint{"10.0.0.1", 6381}));
  EXPECT_EQ(parse_redirect("ASK 3999 ::1:6381", asked), (Endpoint{"::1", 6381}));
  EXPECT_EQ(parse_redirect("MOVED 3999 :6381", asked), (Endpoint{"here", 6381}));
  EXPECT_EQ(parse_redirect("MOVED 3999 ?:6381", asked), (Endpoint{"here", 6381}));
  for (const char* bad : {"", "MOVED", "MOVED 1", "MOVED 1 a", "MOVED 1 a:", "MOVED 1 a:0",
                          "MOVED 1 a:65536", "MOVED 1 a:1x", "a:1 b"}) {
    EXPECT_FALSE(parse_redirect(bad, asked).has_value()) << bad;
  }
}

TEST(Script, Names) {
  EXPECT_EQ(exchange_script().sha.size(), 40U);
  EXPECT_NE(exchange_script().sha, meet_script().sha);
}

}  // namespace
}  // namespace brim::tier
