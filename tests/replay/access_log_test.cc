// SPDX-License-Identifier: MIT
// Goal: every line of a real log is either read as what it says or called broken, whatever bytes
// it holds. Method: lines as servers write them, then lines as attackers make servers write them.
#include "access_log.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "replay_stamp.h"
#include "replay_text.h"

namespace brim::replay {
namespace {

constexpr int64_t kApache = 971211336 * kSecondNs;  // date -d '10 Oct 2000 13:55:36 -0700' +%s

AccessLog make(const std::string& key, const std::string& format = "auto",
               const std::string& fields = "") {
  absl::StatusOr<AccessLog> log = AccessLog::create(format, fields, key);
  EXPECT_TRUE(log.ok()) << log.status();
  return *std::move(log);
}

// The key of a line, or "broken: " and the reason.
std::string key_of(AccessLog log, const std::string& text) {
  LogLine line;
  return log.parse(text, line) ? line.key : "broken: " + line.reason;
}

int64_t time_of(AccessLog log, const std::string& text) {
  LogLine line;
  EXPECT_TRUE(log.parse(text, line)) << line.reason;
  return line.time_ns;
}

const std::string kCommonLine =
    "192.0.2.1 - alice [10/Oct/2000:13:55:36 -0700] \"GET /a/b?c=d HTTP/1.0\" 200 2326";
const std::string kCombinedLine = kCommonLine + " \"http://example.com/\" \"Mozilla/5.0 (X11)\"";

TEST(Stamp, LocalTimeWithItsZone) {
  int64_t ns = 0;
  for (const char* text :
       {"10/Oct/2000:13:55:36 -0700", "10/Oct/2000:20:55:36 +0000", "11/Oct/2000:02:25:36 +0530"}) {
    EXPECT_TRUE(parse_time_local(text, ns)) << text;
    EXPECT_EQ(ns, kApache) << text;
  }
  EXPECT_TRUE(parse_time_local("29/Feb/2024:00:00:00 +0000", ns));
  EXPECT_EQ(ns, 1709164800 * kSecondNs);
  EXPECT_TRUE(parse_time_local("31/Dec/2016:23:59:60 +0000", ns));  // a leap second
  EXPECT_EQ(ns, 1483228800 * kSecondNs);
}

TEST(Stamp, RefusesWhatIsNoTime) {
  int64_t ns = 0;
  for (const char* text :
       {"", "-", "10/Oct/2000:13:55:36", "10/Oct/2000:13:55:36 -07:00",
        "10/oct/2000:13:55:36 -0700", "31/Feb/2000:13:55:36 -0700", "29/Feb/2023:13:55:36 -0700",
        "00/Oct/2000:13:55:36 -0700", "10/Oct/2000:24:55:36 -0700", "10/Oct/2000:13:60:36 -0700",
        "10/Oct/2000:13:55:61 -0700", "10/Oct/2000:13:55:36 -0760", "10/Oct/2000:13:55:36 -2400",
        "10/Oct/2000:13:55:36 -0700 ", " 10/Oct/2000:13:55:36 -0700", "10/Oct/1989:13:55:36 -0700",
        "10/Oct/2090:13:55:36 -0700", "10/Oct/2000:13:55:3", "-1/Oct/2000:13:55:36 -0700"}) {
    EXPECT_FALSE(parse_time_local(text, ns)) << text;
  }
}

TEST(Stamp, Iso8601AndMsec) {
  int64_t ns = 0;
  for (const char* text :
       {"2000-10-10T13:55:36-07:00", "2000-10-10T20:55:36+00:00", "2000-10-10T20:55:36Z"}) {
    EXPECT_TRUE(parse_time_iso8601(text, ns)) << text;
    EXPECT_EQ(ns, kApache) << text;
  }
  EXPECT_FALSE(parse_time_iso8601("2000-10-10 13:55:36-07:00", ns));
  EXPECT_FALSE(parse_time_iso8601("2000-10-10T13:55:36-0700", ns));
  EXPECT_FALSE(parse_time_iso8601("2000-13-10T13:55:36Z", ns));
  EXPECT_TRUE(parse_msec("971211336.123", ns));
  EXPECT_EQ(ns, kApache + 123 * kMillisecondNs);
  EXPECT_TRUE(parse_msec("971211336", ns));
  EXPECT_EQ(ns, kApache);
  EXPECT_TRUE(parse_msec("971211336.000000001", ns));
  EXPECT_EQ(ns, kApache + 1);
  for (const char* text : {"", ".", "1.", ".5", "-971211336.1", "971211336.1e3", "971211336.1 ",
                           "971211336.1234567890", "0.5", "99999999999999999999"}) {
    EXPECT_FALSE(parse_msec(text, ns)) << text;
  }
}

TEST(AccessLog, ReadsCommonAndCombined) {
  for (const std::string& line : {kCommonLine, kCombinedLine}) {
    EXPECT_EQ(time_of(make("addr"), line), kApache);
    EXPECT_EQ(key_of(make("addr"), line), "192.0.2.1");
    EXPECT_EQ(key_of(make("user"), line), "alice");
    EXPECT_EQ(key_of(make("method"), line), "GET");
    EXPECT_EQ(key_of(make("path"), line), "/a/b");
    EXPECT_EQ(key_of(make("status"), line), "200");
    EXPECT_EQ(key_of(make("request"), line), "GET /a/b?c=d HTTP/1.0");
    EXPECT_EQ(key_of(make("addr+path"), line), "192.0.2.1\n/a/b");
    EXPECT_EQ(key_of(make("$remote_addr+$status"), line), "192.0.2.1\n200");
    EXPECT_EQ(key_of(make("addr", "common"), line), "192.0.2.1");
  }
  EXPECT_EQ(key_of(make("agent+referer"), kCombinedLine), "Mozilla/5.0 (X11)\nhttp://example.com/");
  EXPECT_EQ(key_of(make("addr", "combined"), kCommonLine),
            "broken: no ' \"' after $body_bytes_sent");
  EXPECT_EQ(key_of(make("agent"), kCommonLine), "broken: no ' \"' after $body_bytes_sent");
}

TEST(AccessLog, AddressesStayAsTheyAre) {
  for (const std::string addr :
       {"2001:db8::1", "::ffff:192.0.2.1", "fe80::1%eth0", "unix:", "host.example.com"}) {
    const std::string line = addr + kCombinedLine.substr(9);
    EXPECT_EQ(key_of(make("addr"), line), addr);
  }
  EXPECT_EQ(key_of(make("addr"), kCombinedLine.substr(9)), "broken: $remote_addr is empty");
}

TEST(AccessLog, QuotesMayBeEscaped) {
  const std::string start = "192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] ";
  EXPECT_EQ(key_of(make("path+agent"), start + R"("GET /\"x\" HTTP/1.1" 200 5 "-" "a \"b\" c\\")"),
            "/\\\"x\\\"\na \\\"b\\\" c\\\\");
  EXPECT_EQ(key_of(make("agent"), start + R"("GET /\x22 HTTP/1.1" 200 5 "-" "\x22 200 5 \x22")"),
            R"(\x22 200 5 \x22)");
  EXPECT_EQ(key_of(make("agent"), start + R"("GET / HTTP/1.1" 200 5 "-" "no end)"),
            "broken: no '\"' after $http_user_agent");
  EXPECT_EQ(key_of(make("agent"), start + R"("GET / HTTP/1.1" 200 5 "-" "end escaped\")"),
            "broken: no '\"' after $http_user_agent");
}

TEST(AccessLog, RequestsThatAreNone) {
  for (const std::string request : {"", "-", "GET", R"(\x16\x03\x01)", " GET /"}) {
    const std::string line =
        "192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"" + request + "\" 400 0 \"-\" \"-\"";
    EXPECT_EQ(key_of(make("method+path"), line), "-\n-") << request;
  }
  const std::string start = "192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"";
  EXPECT_EQ(key_of(make("method+path"), start + "GET /old\" 200 1"), "GET\n/old");
  EXPECT_EQ(key_of(make("path"), start + "GET ?q HTTP/1.1\" 200 1"), "-");
}

// A user name is the client's to choose, and servers write blanks and brackets in it as they are.
TEST(AccessLog, UserNamesCanNotHideALine) {
  const std::string end = "[10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"";
  for (const std::string user :
       {"bob smith", "x [y", "x [y] z", "[10/Oct/2010:00:00:00 +0000] y",
        "x [10/Oct/2010:00:00:00 +0000]", "x [10/Oct/2010:00:00:00 +0000] y", " [", "- -"}) {
    AccessLog log = make("user");
    LogLine line;
    ASSERT_TRUE(log.parse("192.0.2.1 - " + user + " " + end, line)) << user << ": " << line.reason;
    EXPECT_EQ(line.key, user);
    EXPECT_EQ(line.time_ns, kApache);
  }
  std::string brackets;
  for (int i = 0; i < 30000; ++i) brackets += " [";
  EXPECT_EQ(key_of(make("addr"), "192.0.2.1 -" + brackets + " x").substr(0, 8), "broken: ");
}

TEST(AccessLog, AnyBytesSurvive) {
  std::string agent;
  for (int i = 1; i < 256; ++i) {
    const char c = static_cast<char>(i);
    if (c != '"' && c != '\\' && c != '\n') agent += c;
  }
  agent += std::string(3, '\0');
  const std::string start =
      "192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 1 \"-\"";
  EXPECT_EQ(key_of(make("agent"), start + " \"" + agent + "\""), agent);
}

TEST(AccessLog, FieldsAsInNginx) {
  const std::string fields =
      R"($host ${remote_addr}:$remote_port "$http_x_key" [$time_iso8601] $msec <$request_uri>  )";
  const std::string line =
      R"(example.com 2001:db8::1:4711 "k 1" [2000-10-10T13:55:36-07:00] 971211336.500 </p?q> tail)";
  EXPECT_EQ(time_of(make("addr", "fields", fields), line), kApache + 500 * kMillisecondNs);
  EXPECT_EQ(key_of(make("host+path+http_x_key", "auto", fields), line), "example.com\n/p\nk 1");
  EXPECT_EQ(make("addr", "fields", fields).resolution_ns(), kMillisecondNs);
  EXPECT_EQ(make("addr").resolution_ns(), kSecondNs);
  // The last field ends at a blank or at the end of the line.
  EXPECT_EQ(key_of(make("status", "fields", "$msec $status"), "971211336.5 404 x y"), "404");
  EXPECT_EQ(key_of(make("status", "fields", "$msec $status"), "971211336.5 404"), "404");
  EXPECT_EQ(key_of(make("status", "fields", "at $msec $status"), "971211336.5 404"),
            "broken: the line does not start with 'at '");
}

TEST(AccessLog, WrongFieldsAndKeysAreNamed) {
  const auto error = [](const char* format, const char* fields, const char* key) {
    return AccessLog::create(format, fields, key).status().ToString();
  };
  EXPECT_NE(error("fields", "$remote_addr $status", "addr").find("no time"), std::string::npos);
  EXPECT_NE(error("fields", "$msec$status", "addr").find("column 6"), std::string::npos);
  EXPECT_NE(error("fields", "$msec $ x", "addr").find("column 7"), std::string::npos);
  EXPECT_NE(error("fields", "$msec ${x", "addr").find("column 7"), std::string::npos);
  EXPECT_NE(error("fields", "", "addr").find("--fields"), std::string::npos);
  EXPECT_NE(error("common", "$msec", "addr").find("--format fields"), std::string::npos);
  EXPECT_NE(error("xml", "", "addr").find("invalid_format"), std::string::npos);
  EXPECT_NE(error("auto", "", "host").find("no field 'host'"), std::string::npos);
  EXPECT_NE(error("common", "", "agent").find("no field 'agent'"), std::string::npos);
  EXPECT_NE(error("auto", "", "addr+").find("invalid_key"), std::string::npos);
  EXPECT_NE(error("auto", "", "").find("invalid_key"), std::string::npos);
}

// Cut and changed lines are read or refused, never more than that.
TEST(AccessLog, DamagedLines) {
  AccessLog log = make("addr+agent+path");
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string text = kCombinedLine.substr(0, random() % (kCombinedLine.size() + 1));
    for (uint32_t changes = random() % 4; changes != 0 && !text.empty(); --changes) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    LogLine line;
    line.reason.clear();
    if (!log.parse(text, line)) {
      EXPECT_FALSE(line.reason.empty());
    }
  }
}

}  // namespace
}  // namespace brim::replay
