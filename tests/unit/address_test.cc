// SPDX-License-Identifier: MIT
#include "brim/address.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/text.h"
#include "tests/unit/support.h"

namespace brim {
namespace {

using test::message;
using test::Random;

std::string key(std::string_view text, AddressOptions options = {}) {
  return std::string(address_key(text, options).view());
}
// The whole address, whatever its family.
std::string whole(std::string_view text) { return key(text, {32, 128}); }

struct Row {
  const char* text;
  const char* canonical;  // nullptr: no address
};

void check(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    Address address;
    EXPECT_EQ(parse_address(row.text, address), row.canonical != nullptr) << row.text;
    EXPECT_EQ(whole(row.text), row.canonical == nullptr ? "" : row.canonical) << row.text;
    EXPECT_EQ(address_key(row.text).ok(), row.canonical != nullptr) << row.text;
  }
}

TEST(AddressTest, DottedQuad) {
  check({{"203.0.113.7", "203.0.113.7"},
         {"0.0.0.0", "0.0.0.0"},
         {"255.255.255.255", "255.255.255.255"},
         {"203.0.113.07", nullptr},
         {"203.0.113.00", nullptr},
         {"010.0.0.1", nullptr},
         {"203.0.113.256", nullptr},
         {"203.0.113.1000", nullptr},
         {"203.0.113.4294967303", nullptr},
         {"203.0.113", nullptr},
         {"203.0.113.", nullptr},
         {".203.0.113.7", nullptr},
         {"203..113.7", nullptr},
         {"203.0.113.7.8", nullptr},
         {"203.0.113.7.", nullptr},
         {"203.0.113.-7", nullptr},
         {"+203.0.113.7", nullptr},
         {" 203.0.113.7", nullptr},
         {"203.0.113.7 ", nullptr},
         {"203.0.113.7\n", nullptr},
         {"0x1.0.0.1", nullptr},
         {"1.2.3.a", nullptr},
         {"3405803783", nullptr},
         {"", nullptr}});
}

TEST(AddressTest, Groups) {
  check({{"::", "::"},
         {"::1", "::1"},
         {"1::", "1::"},
         {"2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"},
         {"1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"},
         {"::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"},
         {"1:2:3:4::6:7:8", "1:2:3:4:0:6:7:8"},
         {"1:2:3:4:5:6:7:8::", nullptr},
         {"::1:2:3:4:5:6:7:8", nullptr},
         {"1:2:3:4::5:6:7:8", nullptr},
         {"1:2:3:4:5:6:7", nullptr},
         {"1:2:3:4:5:6:7:8:9", nullptr},
         {"1::2::3", nullptr},
         {":::", nullptr},
         {"1:::2", nullptr},
         {":", nullptr},
         {":1", nullptr},
         {"1:", nullptr},
         {":1::", nullptr},
         {"1::2:", nullptr},
         {"12345::", nullptr},
         {"00001::", nullptr},
         {"g::", nullptr},
         {"1::-2", nullptr},
         {"0x1::", nullptr},
         {" ::1", nullptr},
         {"::1 ", nullptr}});
}

TEST(AddressTest, TailOfIPv4) {
  check({{"::ffff:203.0.113.7", "203.0.113.7"},
         {"::FFFF:cb00:7107", "203.0.113.7"},
         {"0:0:0:0:0:ffff:203.0.113.7", "203.0.113.7"},
         {"0000:0000:0000:0000:0000:ffff:cb00:7107", "203.0.113.7"},
         {"64:ff9b::203.0.113.7", "64:ff9b::cb00:7107"},
         {"1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"},
         {"::1.2.3.4", "::102:304"},
         {"::ffff:0:1.2.3.4", "::ffff:0:102:304"},
         {"::fffe:1.2.3.4", "::fffe:102:304"},
         {"1:2:3:4:5:6:7:1.2.3.4", nullptr},
         {"1:2:3:4:5:1.2.3.4", nullptr},
         {"::1.2.3.4:5::", nullptr},
         {"1.2.3.4::", nullptr},
         {"::ffff:1.2.3", nullptr},
         {"::ffff:1.2.3.04", nullptr},
         {"::ffff:1.2.3.256", nullptr},
         {"::a.2.3.4", nullptr}});
}

// RFC 5952, sections 4.1 to 4.3.
TEST(AddressTest, Rfc5952) {
  check({{"2001:0db8::0001", "2001:db8::1"},
         {"2001:db8:0:0:0:0:2:1", "2001:db8::2:1"},
         {"2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
         {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
         {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},
         {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
         {"2001:DB8::AbCd:eF", "2001:db8::abcd:ef"},
         {"0:0:1:0:0:0:0:0", "0:0:1::"},
         {"0:0:0:1:0:0:0:0", "0:0:0:1::"},
         {"0:0:0:0:1:0:0:0", "::1:0:0:0"},
         {"2001:db8:aaaa:bbbb:cccc:dddd:0:1", "2001:db8:aaaa:bbbb:cccc:dddd:0:1"},
         {"2001:db8:aaaa:bbbb:cccc:dddd:eeee:0000", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:0"},
         {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}});
}

TEST(AddressTest, ZonesBracketsPorts) {
  check({{"fe80::1%eth0", "fe80::1"},
         {"fe80::1%eth0.100", "fe80::1"},
         {"fe80::1%25eth0", "fe80::1"},
         {"[fe80::1%eth0.100]:443", "fe80::1"},
         {"::ffff:1.2.3.4%2", "1.2.3.4"},
         {"fe80::1%", nullptr},
         {"fe80::1%eth 0", nullptr},
         {"%eth0", nullptr},
         {"1.2.3.4%eth0", nullptr},
         {"1.2.3.4%eth0:80", nullptr},
         {"[::1]", "::1"},
         {"[::1]:80", "::1"},
         {"[::1]:0", "::1"},
         {"[::1]:65535", "::1"},
         {"[::ffff:1.2.3.4]:80", "1.2.3.4"},
         {"[1.2.3.4]", "1.2.3.4"},
         {"[1.2.3.4]:80", "1.2.3.4"},
         {"[1.2.3.4:80]", nullptr},
         {"[::1]:65536", nullptr},
         {"[::1]:080", nullptr},
         {"[::1]:", nullptr},
         {"[::1]80", nullptr},
         {"[::1]:80 ", nullptr},
         {"[::1]]", nullptr},
         {"[[::1]]", nullptr},
         {"[::1", nullptr},
         {"::1]", nullptr},
         {"[]", nullptr},
         {"[", nullptr},
         {"[%eth0]", nullptr},
         {"1.2.3.4:80", "1.2.3.4"},
         {"1.2.3.4:65535", "1.2.3.4"},
         {"1.2.3.4:65536", nullptr},
         {"1.2.3.4:", nullptr},
         {"1.2.3.4:http", nullptr},
         {"1.2.3.4:80:80", nullptr},
         {":80", nullptr},
         {"::ffff:1.2.3.4:80", "1.2.3.4"},
         {"::1:80", "::1:80"},  // no port: it may be a part of the address
         {"1:2:3:4:5:6:7:8:80", nullptr}});
}

TEST(AddressTest, OtherText) {
  for (const char* const text : {"unix:", "unix:/run/x.sock", "localhost", "-", "unknown", "_",
                                 "example.com", "example.com:80", "1.2.3.4, 5.6.7.8", "10.0.0.0/8",
                                 "for=1.2.3.4", "\"[::1]\"", "face", "1.2.3.4.in-addr.arpa"}) {
    EXPECT_FALSE(address_key(text).ok()) << text;
  }
  Address address;
  ASSERT_TRUE(parse_address("::1", address));
  const Address before = address;
  EXPECT_FALSE(parse_address("1::2::3", address));
  EXPECT_FALSE(parse_address(std::string_view("::1\0", 4), address));
  EXPECT_FALSE(parse_address(std::string_view(), address));
  EXPECT_EQ(address, before);
}

TEST(AddressTest, NetworksAsKeys) {
  EXPECT_EQ(key("203.0.113.7"), "203.0.113.7");
  EXPECT_EQ(key("203.0.113.7", {24, 64}), "203.0.113.0/24");
  EXPECT_EQ(key("203.0.113.7", {0, 64}), "0.0.0.0/0");
  EXPECT_EQ(key("203.0.113.7", {200, 64}), "203.0.113.7");
  EXPECT_EQ(key("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
  EXPECT_EQ(key("2001:db8:1:2:3:4:5:6", {32, 48}), "2001:db8:1::/48");
  EXPECT_EQ(key("2001:db8:1:2:3:4:5:6", {32, 0}), "::/0");
  EXPECT_EQ(key("2001:db8:1:2:3:4:5:6", {32, 127}), "2001:db8:1:2:3:4:5:6/127");
  EXPECT_EQ(key("2001:db8:1:2:3:4:5:6", {32, 255}), "2001:db8:1:2:3:4:5:6");
  EXPECT_EQ(key("[2001:db8:1:2::ffff]:80"), key("2001:DB8:1:2:3::"));
  EXPECT_EQ(key("::ffff:203.0.113.7", {24, 64}), "203.0.113.0/24");
  const std::string longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127";
  EXPECT_EQ(key("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", {32, 127}), longest);
}

// Many zeros and ones, so that runs of zero groups and mapped prefixes occur.
Address random_address(Random& random) {
  Address address;
  address.v4 = random.below(4) == 0;
  for (size_t i = 0; i < (address.v4 ? 4 : 16); i += 2) {
    const uint64_t kind = random.below(3);
    const uint64_t bits = kind == 0 ? 0 : kind == 1 ? random.below(300) : random.below(65536);
    address.bytes[i] = static_cast<uint8_t>(bits >> 8);
    address.bytes[i + 1] = static_cast<uint8_t>(bits);
  }
  return address;
}

// Goal: the system's functions and ours agree on every address. Method: text of either one is read
//   by the other. inet_ntop writes an IPv4 tail in ::/96, we never do: there only the value counts.
TEST(AddressTest, RoundTripWithTheSystem) {
  Random random(1);
  for (int i = 0; i < 100000; ++i) {
    const Address address = random_address(random);
    const int family = address.v4 ? AF_INET : AF_INET6;
    char theirs[INET6_ADDRSTRLEN];
    ASSERT_NE(inet_ntop(family, address.bytes, theirs, sizeof(theirs)), nullptr);
    Address read;
    ASSERT_TRUE(parse_address(theirs, read)) << theirs;
    ASSERT_EQ(read, address) << theirs;
    const std::string ours = whole(theirs);
    if (address.v4 || std::string_view(theirs).find('.') == std::string_view::npos) {
      ASSERT_EQ(ours, theirs);
    }
    uint8_t bytes[16] = {};
    ASSERT_EQ(inet_pton(family, ours.c_str(), bytes), 1) << ours;
    ASSERT_EQ(std::memcmp(bytes, address.bytes, sizeof(bytes)), 0) << ours;
    ASSERT_TRUE(parse_address(ours, read));
    ASSERT_EQ(read, address);
  }
}

bool system_reads(const std::string& text, Address& out) {
  out = {};
  if (inet_pton(AF_INET, text.c_str(), out.bytes) == 1) {
    out.v4 = true;
    return true;
  }
  return inet_pton(AF_INET6, text.c_str(), out.bytes) == 1;
}

// Goal: text without zone, brackets and port is an address exactly if inet_pton says so.
// Method: good text with some characters changed, cut out or put in.
TEST(AddressTest, SameGrammarAsTheSystem) {
  Random random(2);
  constexpr std::string_view kAlphabet = "0123456789abcdefABCDEFg:::::...";
  const std::vector<std::string> seeds = {"203.0.113.7",      "2001:db8::1:0:0:1",
                                          "::102:3.4.5.6",    "1:2:3:4:5:6:255.255.255.255",
                                          "1:2:3:4:5:6:7:8",  "::",
                                          "1:2:3:4:5:6:7:8:", ":1:2:3:4:5:6:7:8"};
  int good = 0;
  for (int i = 0; i < 300000; ++i) {
    std::string text = seeds[random.below(seeds.size())];
    for (uint64_t n = random.below(4); n > 0; --n) {
      const size_t at = random.below(text.size() + 1);
      const char c = kAlphabet[random.below(kAlphabet.size())];
      const uint64_t kind = random.below(3);
      if (kind == 0 && at < text.size()) text[at] = c;
      if (kind == 1) text.insert(at, 1, c);
      if (kind == 2 && at < text.size()) text.erase(at, 1);
    }
    const size_t dot = text.rfind('.');
    if (dot != std::string::npos && text.find(':', dot) != std::string::npos) continue;  // a port
    Address theirs;
    Address ours;
    const bool expected = system_reads(text, theirs);
    ASSERT_EQ(parse_address(text, ours), expected) << text;
    if (!expected) continue;
    ++good;
    const bool mapped = ours.v4 && !theirs.v4;
    if (mapped) {
      ASSERT_EQ(std::memcmp(ours.bytes, theirs.bytes + 12, 4), 0) << text;
    } else {
      ASSERT_EQ(ours, theirs) << text;
    }
  }
  EXPECT_GT(good, 30000);
}

// Goal: no text makes the parser read or write out of bounds, and what it takes is canonical.
// Method: every length to 70 on the heap (the sanitizers watch both ends), every byte at every
//   place, random bytes of an address's alphabet.
TEST(AddressTest, HostileText) {
  Random random(3);
  constexpr std::string_view kAlphabet = "0123456789abcdefF:.[]%/ \n\x7f\xff";
  const auto attempt = [](const std::vector<char>& bytes) {
    const std::string_view text(bytes.data(), bytes.size());
    const AddressKey once = address_key(text, {32, 128});
    if (!once.ok()) return;
    ASSERT_LE(once.view().size(), 39u);
    ASSERT_EQ(address_key(once.view(), {32, 128}).view(), once.view());
  };
  for (size_t size = 0; size <= 70; ++size) {
    for (int round = 0; round < 500; ++round) {
      std::vector<char> bytes(size);
      for (char& c : bytes) {
        c = round % 2 == 0 ? static_cast<char>(random.bits())
                           : kAlphabet[random.below(kAlphabet.size())];
      }
      attempt(bytes);
    }
    for (int value = 0; value < 256; ++value) {
      attempt(std::vector<char>(size, static_cast<char>(value)));
      (void)parse_cidr(std::string(size, static_cast<char>(value)));
    }
  }
  for (const std::string_view seed :
       {"203.0.113.7:80", "[2001:db8::1%eth0]:80", "::ffff:1.2.3.4"}) {
    for (size_t at = 0; at < seed.size(); ++at) {
      for (int value = 0; value < 256; ++value) {
        std::vector<char> bytes(seed.begin(), seed.end());
        bytes[at] = static_cast<char>(value);
        attempt(bytes);
      }
      attempt(std::vector<char>(seed.begin(), seed.begin() + static_cast<ptrdiff_t>(at)));
    }
  }
}

bool bit(const Address& address, size_t i) {
  return (address.bytes[i / 8] >> (7 - i % 8) & 1) != 0;
}

// Goal: masking, text and membership agree with the definition, bit by bit.
TEST(AddressTest, EveryPrefix) {
  Random random(4);
  for (int round = 0; round < 200; ++round) {
    const Address address = random_address(random);
    const Address near = [&] {
      Address other = address;
      const uint64_t flip = random.below(address.bits());
      other.bytes[flip / 8] ^= static_cast<uint8_t>(0x80 >> flip % 8);
      return other;
    }();
    for (uint32_t prefix = 0; prefix <= address.bits(); ++prefix) {
      const AddressKey network = network_key(address, static_cast<uint8_t>(prefix));
      const auto cidr = parse_cidr(network.view());
      ASSERT_TRUE(cidr.ok()) << cidr.status();
      ASSERT_EQ(cidr->prefix, prefix);
      ASSERT_EQ(cidr_text(*cidr).view(), network.view());
      bool together = true;
      for (size_t i = 0; i < address.bits(); ++i) {
        ASSERT_EQ(bit(cidr->address, i), i < prefix && bit(address, i));
        together = together && (i >= prefix || bit(near, i) == bit(address, i));
      }
      ASSERT_TRUE(contains(*cidr, address));
      ASSERT_EQ(contains(*cidr, near), together) << network.view();
      ASSERT_EQ(network_key(near, static_cast<uint8_t>(prefix)).view() == network.view(), together);
    }
  }
}

TEST(CidrTest, ReadsAndWrites) {
  const auto text = [](std::string_view from) {
    const auto cidr = parse_cidr(from);
    return cidr.ok() ? std::string(cidr_text(*cidr).view()) : std::string(message(cidr.status()));
  };
  EXPECT_EQ(text("10.0.0.0/8"), "10.0.0.0/8");
  EXPECT_EQ(text("0.0.0.0/0"), "0.0.0.0/0");
  EXPECT_EQ(text("203.0.113.7"), "203.0.113.7");
  EXPECT_EQ(text("203.0.113.7/32"), "203.0.113.7");
  EXPECT_EQ(text("2001:DB8:0::/32"), "2001:db8::/32");
  EXPECT_EQ(text("::/0"), "::/0");
  EXPECT_EQ(text("::1/128"), "::1");
  EXPECT_EQ(text("::ffff:10.0.0.0/104"), "10.0.0.0/8");
  EXPECT_EQ(text("::ffff:0:0/96"), "0.0.0.0/0");
  EXPECT_EQ(text("::ffff:10.1.2.3"), "10.1.2.3");
}

TEST(CidrTest, FamiliesDoNotMix) {
  Address v4;
  Address v6;
  ASSERT_TRUE(parse_address("10.1.2.3", v4));
  ASSERT_TRUE(parse_address("2001:db8::1", v6));
  EXPECT_TRUE(contains(*parse_cidr("0.0.0.0/0"), v4));
  EXPECT_FALSE(contains(*parse_cidr("0.0.0.0/0"), v6));
  EXPECT_TRUE(contains(*parse_cidr("::/0"), v6));
  EXPECT_FALSE(contains(*parse_cidr("::/0"), v4));
  Cidr beyond = *parse_cidr("10.1.2.3");
  beyond.prefix = 255;  // by hand: means the whole address
  EXPECT_TRUE(contains(beyond, v4));
  EXPECT_EQ(cidr_text(beyond).view(), "10.1.2.3");
}

TEST(CidrTest, ErrorsNameTheRemedy) {
  const struct {
    const char* text;
    const char* says;
  } kRows[] = {
      {"10.0.0.1/8", "write 10.0.0.0/8 for the network, or 10.0.0.1 for the one address"},
      {"2001:db8::1/32", "write 2001:db8::/32 for the network, or 2001:db8::1 for the one address"},
      {"::ffff:10.1.2.3/104", "write 10.0.0.0/8 for the network, or 10.1.2.3"},
      {"10.0.0.0/33", "prefix 33 is out of range; write a number from 0 to 32"},
      {"2001:db8::/129", "prefix 129 is out of range; write a number from 0 to 128"},
      {"::ffff:10.0.0.0/8", "needs a prefix of 96 to 128"},
      {"::ffff:10.0.0.0/129", "prefix 129 is out of range; write a number from 96 to 128"},
      {"10.0.0.0/", "no prefix length"},
      {"10.0.0.0/08", "no prefix length"},
      {"10.0.0.0/+8", "no prefix length"},
      {"10.0.0.0/8 ", "no prefix length"},
      {"10.0.0.0/8/8", "no prefix length"},
      {"10.0.0.0/255.0.0.0", "no prefix length"},
      {"10.0.0.0/99999999999999999999", "no prefix length"},
      {"10/8", "does not begin with an IP address"},
      {"/8", "does not begin with an IP address"},
      {"", "network ''"},
      {"[::1]/128", "without zone, brackets or port"},
      {"fe80::1%eth0/64", "without zone, brackets or port"},
      {"10.0.0.0:80/8", "without zone, brackets or port"},
      {"office\n", "network 'office%0a'"},
  };
  for (const auto& row : kRows) {
    const auto cidr = parse_cidr(row.text);
    ASSERT_FALSE(cidr.ok()) << row.text;
    EXPECT_EQ(cidr.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(message(cidr.status()).rfind("invalid_address: network '", 0), 0u);
    EXPECT_NE(message(cidr.status()).find(row.says), std::string::npos) << cidr.status();
  }
}

}  // namespace
}  // namespace brim
