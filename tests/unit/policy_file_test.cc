// SPDX-License-Identifier: MIT
#include "brim/policy_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <string_view>

#include "src/base/text.h"
#include "tests/unit/support.h"

namespace brim {
namespace {

using test::message;

constexpr std::string_view kWhole = R"([segment]
capacity = "64k"
name_bytes = 0
max-policies = 8
hash = "xxh3"
on_full = "deny"

[policies]
zebra = "10/s burst 20; 1000/h"
api = '5/m on-unavailable deny'
inline = { rate = "5/m", burst = 3 }

[policies.login]
rates = ["5/m", "20/h"]
algorithm = "sliding-log"
ban = {after=20, within="1m", for="10m", factor=2}
on_unavailable="deny"
shadow = true
[policies.jobs]
concurrency = 8
ttl = "30s"
[policies.all]
rate = "100/m"
algorithm = "token-bucket"
burst = 20
debt = 5
forward = false
ahead = "2m"
classes = [50, 80, 100]
enforce = 30
warm_up = {from = "12.5%", over = "5m"}
[policies.wait]
rate = "queue 5/s"
delay-after = 2
[policies.day]
rate = "calendar-window 5/d"
utc = "+05:30"

[[override]]
policy = "api"
key = "alice"
use = "zebra"
[[override]]
cidr = "::ffff:10.0.0.0/104"
use = "unlimited"
)";

// Goal: everything a file may say arrives, in the file's order.
TEST(PolicyFile, ReadsAll) {
  const auto file = parse_policy_file(kWhole, "x.toml");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->segment.capacity, 65536u);
  EXPECT_EQ(file->segment.name_bytes, Options::kNoNames);
  EXPECT_EQ(file->segment.max_policies, 8u);
  EXPECT_EQ(file->segment.hash, HashKind::kXxh3);
  EXPECT_EQ(file->segment.on_full, OnFull::kDeny);
  EXPECT_TRUE(file->segment.policies.empty());
  const NamedPolicy kExpected[] = {
      {"zebra", "10/s burst 20; 1000/h"},
      {"api", "5/m on-unavailable deny"},
      {"inline", "5/m burst 3"},
      {"login",
       "sliding-log 5/m; sliding-log 20/h on-unavailable deny shadow ban 20 in 1m for 10m times 2"},
      {"jobs", "concurrency 8 ttl 30s"},
      {"all",
       "token-bucket 100/m burst 20 debt 5 ahead 2m classes 50 80 100 enforce 30% "
       "warm-up 12.5% over 5m"},
      {"wait", "queue 5/s delay-after 2"},
      {"day", "calendar-window 5/d utc+05:30"},
  };
  ASSERT_EQ(file->policies.size(), std::size(kExpected));
  for (size_t i = 0; i < std::size(kExpected); ++i) {
    EXPECT_EQ(file->policies[i].name, kExpected[i].name);
    EXPECT_EQ(file->policies[i].text, kExpected[i].text);
    EXPECT_EQ(policy_text(file->parsed[i]), kExpected[i].text);
  }
  EXPECT_EQ(file->lines, (std::vector<uint32_t>{9, 10, 11, 13, 19, 22, 32, 35}));
  ASSERT_EQ(file->overrides.size(), 2u);
  EXPECT_EQ(file->overrides[0].policy, "api");
  EXPECT_EQ(file->overrides[0].match, "alice");
  EXPECT_FALSE(file->overrides[0].network);
  EXPECT_EQ(file->overrides[0].use, "zebra");
  EXPECT_EQ(file->overrides[0].line, 39u);
  EXPECT_EQ(file->overrides[1].policy, "");
  EXPECT_EQ(file->overrides[1].match, "10.0.0.0/8");
  EXPECT_TRUE(file->overrides[1].network);
}

struct Bad {
  std::string_view text;
  std::string_view says;
};

const Bad kBad[] = {
    {"", "1:1: there are no policies; give [policies]"},
    {"[policies]\n", "1:1: there are no policies"},
    {"policies = 5\n", "1:12: there are no policies"},
    {"[policies]\na = \n", "2:"},
    {"[policies]\na = '1/s'\na = '2/s'\n", "3:"},
    {"[polices]\na = '1/s'\n", "1:2: unknown key 'polices' of the file; did you mean 'policies'?"},
    // A policy's text: the column of the word.
    {"[policies]\na = '10/s bursts 5'\n",
     "2:11: policy 'a': expected ';' and another rate, or a clause such as 'burst N'; did you mean "
     "'burst'?"},
    {"[policies]\na = '''10/s bursts 5'''\n", "2:5: policy 'a': expected ';'"},
    {"[policies]\na = \"10/s \\u0062ursts 5\"\n", "2:5: policy 'a': expected ';'"},
    {"[policies]\na = '1000000001/s'\n", "2:5: policy 'a': the rate is 1000000001 in 1000000000"},
    {"[policies]\n'a b' = '1/s'\n", "2:1: the policy's name is 'a b'; give 1 to 47"},
    {"[policies]\ndeny = '1/s'\n", "2:1: 'deny' is a word of [[override]]"},
    {"[policies]\na = 5\n", "2:5: a policy is a string or a table"},
    // The long form.
    {"[policies.a]\nburst = 5\n", "1:1: a policy needs a rate"},
    {"[policies.a]\nrate = '1/s'\nrates = ['1/s']\n", "give one of rate, rates and concurrency"},
    {"[policies.a]\nrate = '1/s'\nbrust = 5\n",
     "3:1: unknown key 'brust' of a policy; did you mean 'burst'?"},
    {"[policies.a]\nrate = '1/s'\n'burst debt' = 5\n", "3:1: unknown key 'burst debt'"},
    {"[policies.a]\nrate = '1/s'\nburst = -5\n", "3:9: policy 'a': expected the burst, a whole"},
    {"[policies.a]\nrate = '1/s'\nburst = '5'\n", "3:9: 'burst' needs a whole number"},
    {"[policies.a]\nrate = '1/s'\nburst = 0\n", "3:9: policy 'a': the burst must be at least 1"},
    {"[policies.a]\nrate = '1/s burst 5'\nburst = 6\n", "3:9: policy 'a': 'burst' is given twice"},
    {"[policies.a]\nrate = '1/s; 2/m'\nburst = 6\n", "2:8: expected one rate; give several as"},
    {"[policies.a]\nrates = ['1/s', '2/m']\nburst = 6\n", "2:9: with several rates write clauses"},
    {"[policies.a]\nrates = ['1/s', '2/x']\n", "2:20: policy 'a': expected a unit of time"},
    {"[policies.a]\nrates = []\n", "2:9: rates are strings in brackets"},
    {"[policies.a]\nrates = [5]\n", "2:10: a rate is a string"},
    {"[policies.a]\nrate = '1/s'\nalgorithm = 'sliding-lgo'\n",
     "3:14: policy 'a': expected a rate such as 100/m, 5/10s or 10r/s; did you mean "
     "'sliding-log'?"},
    {"[policies.a]\nrate = '1/s'\nalgorithm = 'fixed-window'\nburst = 4\n",
     "4:9: policy 'a': 'burst' does not fit fixed-window"},
    {"[policies.a]\nrate = '1/s'\nahead = '1s; 5/m'\n", "3:9: '1s; 5/m' is no value of 'ahead'"},
    {"[policies.a]\nrate = '1/s'\nshadow = 'yes'\n", "3:10: 'shadow' needs true or false"},
    {"[policies.a]\nrate = '1/s'\nclasses = [1, 'x']\n", "3:11: 'classes' needs whole numbers"},
    {"[policies.a]\nrate = '1/s'\nclasses = [1]\n", "policy 'a': expected each class"},
    {"[policies.a]\nrate = '1/s'\nban = {after = 3, within = '1m'}\n", "3:7: 'for' is missing"},
    {"[policies.a]\nrate = '1/s'\nban = {after = 3, witin = '1m'}\n",
     "3:19: unknown key 'witin' of a policy; did you mean 'within'?"},
    {"[policies.a]\nrate = '1/s'\nban = {after = 3, within = '1x', for = '1m'}\n",
     "3:30: policy 'a': expected a unit of time"},
    {"[policies.a]\nrate = '1/s'\nno_delay = true\nno-delay = true\n", "is given twice"},
    // [segment]
    {"segment = 3\n[policies]\na='1/s'\n", "1:11: segment is a table"},
    {"[segment]\ncapcity = 3\n",
     "2:1: unknown key 'capcity' of [segment]; did you mean 'capacity'"},
    {"[segment]\ncapacity = 0\n", "2:12: 'capacity' needs a whole number from 1 to 17179869184"},
    {"[segment]\ncapacity = '99999G'\n", "2:12: 'capacity' needs"},
    {"[segment]\ncapacity = 'k'\n", "2:12: 'capacity' needs"},
    {"[segment]\ncapacity = 1.5\n", "2:12: 'capacity' needs"},
    {"[segment]\nhash = 'xxh33'\n",
     "2:8: 'hash' needs a string, siphash|xxh3; did you mean 'xxh3'"},
    {"[segment]\nmode = 0o600\n", "2:1: 'mode' is for who creates the segment to say"},
    {"[segment]\nmax_policies = 1\n[policies]\na='1/s'\nb='2/s'\n",
     "give max_policies = 2 or more"},
    // [[override]]
    {"[policies]\na='1/s'\n[override]\nkey='x'\n", "3:1: overrides are tables in double brackets"},
    {"[policies]\na='1/s'\n[[override]]\nuse='deny'\n",
     "3:1: an override needs either key or cidr"},
    {"[policies]\na='1/s'\n[[override]]\nkey='x'\ncidr='::/0'\nuse='deny'\n", "either key or cidr"},
    {"[policies]\na='1/s'\n[[override]]\nkey='x'\n", "3:1: an override needs use"},
    {"[policies]\napi='1/s'\n[[override]]\nkey='x'\nuse='apj'\n",
     "5:5: there is no policy 'apj' in the file; did you mean 'api'?"},
    {"[policies]\na='1/s'\n[[override]]\npolicy='b'\nkey='x'\nuse='a'\n",
     "4:8: there is no policy"},
    {"[policies]\na='1/s'\n[[override]]\npolicy='a'\nkey='x'\nuse='a'\n", "the policy it is for"},
    {"[policies]\na='1/s'\n[[override]]\nkye='x'\n", "4:1: unknown key 'kye' of [[override]]; did"},
    {"[policies]\na='1/s'\n[[override]]\nkey=5\n", "4:5: 'key' needs a string"},
    {"[policies]\na='1/s'\n[[override]]\ncidr='10.0.0.1/8'\nuse='deny'\n", "4:6: invalid_address"},
    {"[policies]\na='1/s'\n[[override]]\nkey='x'\nuse='deny'\n[[override]]\nkey='x'\nuse='deny'\n",
     "6:1: the override of line 3 is for the same key"},
};

// Goal: every error has file, line, column, what and remedy; nothing of the file reaches a terminal
// as it is.
TEST(PolicyFile, RefusesWithPlaceAndRemedy) {
  for (const Bad& bad : kBad) {
    const auto file = parse_policy_file(bad.text, "dir/x.toml");
    ASSERT_FALSE(file.ok()) << bad.text;
    EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument);
    const std::string_view said = message(file.status());
    EXPECT_EQ(said.substr(0, 32), "policy_file_invalid: dir/x.toml:") << said;
    EXPECT_NE(said.find(bad.says), std::string_view::npos) << bad.text << " -> " << said;
    for (const char c : said) ASSERT_TRUE(c >= 0x20 && c < 0x7f) << bad.text;
  }
}

// Goal: no file crashes the reader or hangs it. Method: the whole file with bytes changed, cut and
// doubled; deep nesting; any bytes; more than a megabyte.
TEST(PolicyFile, HostileFiles) {
  test::Random random(80);
  int good = 0;
  for (int i = 0; i < test::scaled(20000); ++i) {
    std::string text(kWhole);
    for (uint64_t k = 1 + random.below(3); k > 0; --k) {
      const size_t at = random.below(text.size());
      switch (random.below(4)) {
        case 0:
          text[at] = static_cast<char>(random.bits());
          break;
        case 1:
          text.erase(at, random.below(20));
          break;
        case 2:
          text.insert(at, text.substr(random.below(text.size()), random.below(40)));
          break;
        default:
          text[at] = "\"'[]{}=,.\n"[random.below(10)];
      }
    }
    const auto file = parse_policy_file(text, "x");
    good += file.ok() ? 1 : 0;
    if (file.ok()) {
      for (const NamedPolicy& policy : file->policies) {
        ASSERT_TRUE(parse_policy(policy.text).ok()) << policy.text;
      }
    } else {
      for (const char c : message(file.status())) ASSERT_TRUE(c >= 0x20 && c < 0x7f);
      ASSERT_LT(message(file.status()).size(), 800u);
    }
  }
  EXPECT_GT(good, test::scaled(100));
  for (const char c : {'[', '{', '"', 'a', '\n', '\0'}) {
    EXPECT_FALSE(parse_policy_file(std::string(100000, c), "x").ok());
  }
  EXPECT_FALSE(parse_policy_file("a = " + std::string(100000, '['), "x").ok());
  const auto big = parse_policy_file(std::string(kMaxPolicyFileBytes + 1, '\n'), "x");
  EXPECT_NE(message(big.status()).find("more than 1048576 bytes"), std::string_view::npos);
}

// Goal: a file of the file system, and the reasons why one can not be read.
TEST(PolicyFile, Files) {
  const std::string path = testing::TempDir() + "/brim_policy_file_test.toml";
  std::ofstream(path) << "[policies]\na = '5/s'\n";
  const auto file = read_policy_file(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->policies[0].text, "5/s");
  std::ofstream(path) << std::string(kMaxPolicyFileBytes + 100, '#');
  EXPECT_NE(message(read_policy_file(path).status()).find("bytes; split it"),
            std::string_view::npos);
  const auto missing = read_policy_file(path + ".none");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(message(missing.status()).find("policy_file_not_found: "), 0u);
  const auto folder = read_policy_file(testing::TempDir());
  EXPECT_EQ(message(folder.status()).find("policy_file_unreadable: "), 0u) << folder.status();
}

}  // namespace
}  // namespace brim
