// SPDX-License-Identifier: MIT
// Goal: a URL means one thing or is refused with what is wrong, and no refusal tells a part of it.
#include "src/tier/url.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace brim::tier {
namespace {

RedisUrl parsed(std::string_view text) {
  auto url = parse_url(text);
  EXPECT_TRUE(url.ok()) << text << ": " << url.status();
  return url.ok() ? *url : RedisUrl();
}

TEST(Url, Single) {
  const RedisUrl url = parsed("redis://us%65r:p%3a%2F%40%00w@h.example:17/3");
  EXPECT_EQ(url.kind, RedisUrl::Kind::kSingle);
  EXPECT_FALSE(url.tls);
  EXPECT_EQ(url.endpoints, (std::vector<Endpoint>{{"h.example", 17}}));
  EXPECT_EQ(url.user, "user");
  EXPECT_EQ(url.password.view(), std::string_view("p:/@\0w", 6));
  EXPECT_EQ(url.db, 3U);
  EXPECT_EQ(parsed("redis://h").endpoints[0], (Endpoint{"h", 6379}));
  EXPECT_EQ(parsed("redis://h/").db, 0U);
  EXPECT_EQ(parsed("redis://h?db=5").db, 5U);
  EXPECT_EQ(parsed("redis://[::1]:5").endpoints[0], (Endpoint{"::1", 5}));
  EXPECT_EQ(parsed("redis://[::1]").endpoints[0].text(), "[::1]:6379");
  EXPECT_TRUE(parsed("rediss://:a@b:c@h").tls);
  EXPECT_EQ(parsed("rediss://:a@b:c@h").password.view(), "a@b:c");
}

TEST(Url, Unix) {
  const RedisUrl url = parsed("unix://u:p@/run/a%20b.sock?db=2");
  EXPECT_EQ(url.endpoints, (std::vector<Endpoint>{{"/run/a b.sock", 0}}));
  EXPECT_EQ(url.db, 2U);
  EXPECT_EQ(url.password.view(), "p");
  EXPECT_EQ(url.endpoints[0].text(), "/run/a b.sock");
}

TEST(Url, Sentinel) {
  const RedisUrl url =
      parsed("rediss://:pw@s1:5,s2/4?sentinel_master=my%2dmaster&sentinel_password=x%26y");
  EXPECT_EQ(url.kind, RedisUrl::Kind::kSentinel);
  EXPECT_TRUE(url.tls);
  EXPECT_EQ(url.endpoints, (std::vector<Endpoint>{{"s1", 5}, {"s2", 26379}}));
  EXPECT_EQ(url.sentinel_master, "my-master");
  EXPECT_EQ(url.sentinel_password.view(), "x&y");
  EXPECT_EQ(url.db, 4U);
}

TEST(Url, Cluster) {
  EXPECT_EQ(parsed("redis://a,b:1").kind, RedisUrl::Kind::kCluster);
  EXPECT_EQ(parsed("redis://a,b:1").endpoints, (std::vector<Endpoint>{{"a", 6379}, {"b", 1}}));
  EXPECT_EQ(parsed("redis://a?cluster=1").kind, RedisUrl::Kind::kCluster);
  EXPECT_EQ(parsed("redis://a?cluster=0").kind, RedisUrl::Kind::kSingle);
}

TEST(Url, Refused) {
  std::string many = "redis://a";
  for (int i = 0; i < 64; ++i) many += ",a";
  const std::vector<std::pair<std::string, std::string>> all = {
      {"", "begins with none"},
      {"http://h", "begins with none"},
      {"redis:/h", "begins with none"},
      {"redis://", "no host"},
      {"redis://u:p@", "no host"},
      {"redis://,a", "host 1 is empty"},
      {"redis://a,,b", "host 2 is empty"},
      {"redis://a,", "with no host after it"},
      {"redis://:6379", "host 1 is empty"},
      {"redis://a b", "no name or address"},
      {"redis://a%41", "no name or address"},
      {"redis://::1", "in brackets"},
      {"redis://[::1", "'[' without ']'"},
      {"redis://[::1]x", "more after ']'"},
      {"redis://a:", "port"},
      {"redis://a:0", "port"},
      {"redis://a:65536", "port"},
      {"redis://a:-1", "port"},
      {"redis://a:6379x", "port"},
      {"redis://a/x", "database"},
      {"redis://a/1/2", "database"},
      {"redis://a?db=99999999999", "database"},
      {"redis://a?what=1", "not one of"},
      {"redis://a?cluster=yes", "not one of"},
      {"redis://a?sentinel_master=", "no name"},
      {"redis://a?sentinel_password=x", "needs sentinel_master"},
      {"redis://a?sentinel_master=m&cluster=1", "either"},
      {"redis://a,b/1", "only database 0"},
      {"redis://:%zz@a", "hex digits"},
      {"redis://:%4@a", "hex digits"},
      {"redis://:a/b@h", "'@' behind"},
      {"redis://:a?b@h", "'@' behind"},
      {"redis://:a#b@h", "'#'"},
      {"unix://host/p", "no host"},
      {"unix://", "no path"},
      {"unix:///", "no path"},
      {"unix:///a%0ab", "no path"},
      {"unix:///p?cluster=1", "one server"},
      {many, "more than 64"},
  };
  for (const auto& [text, says] : all) {
    const auto url = parse_url(text);
    ASSERT_FALSE(url.ok()) << text;
    const std::string message(url.status().message());
    EXPECT_TRUE(message.starts_with("tier_url: ")) << message;
    EXPECT_NE(message.find(says), std::string::npos) << text << " -> " << message;
  }
}

}  // namespace
}  // namespace brim::tier
