// SPDX-License-Identifier: MIT
#include "src/hash.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/support.h"

namespace brim {
namespace {

using test::Random;

// SipHash-c-d-128 once more, a byte at a time, from the paper and the reference's description.
struct Reference {
  static uint64_t left(uint64_t x, unsigned n) { return (x << n) | (x >> (64 - n)); }

  static Hash128 hash(int c, int d, uint64_t k0, uint64_t k1, const std::string& bytes) {
    uint64_t v[4] = {0x736f6d6570736575 ^ k0, 0x646f72616e646f6d ^ k1, 0x6c7967656e657261 ^ k0,
                     0x7465646279746573 ^ k1};
    v[1] ^= 0xee;
    const auto rounds = [&v](int n) {
      while (n-- > 0) {
        v[0] += v[1], v[1] = left(v[1], 13), v[1] ^= v[0], v[0] = left(v[0], 32);
        v[2] += v[3], v[3] = left(v[3], 16), v[3] ^= v[2];
        v[0] += v[3], v[3] = left(v[3], 21), v[3] ^= v[0];
        v[2] += v[1], v[1] = left(v[1], 17), v[1] ^= v[2], v[2] = left(v[2], 32);
      }
    };
    // The padded message: zeros to 7 mod 8, then the length.
    std::string padded = bytes;
    while (padded.size() % 8 != 7) padded += '\0';
    padded += static_cast<char>(bytes.size() & 0xff);
    for (size_t at = 0; at < padded.size(); at += 8) {
      uint64_t word = 0;
      for (size_t i = 0; i < 8; ++i) {
        word |= uint64_t{static_cast<uint8_t>(padded[at + i])} << (8 * i);
      }
      v[3] ^= word;
      rounds(c);
      v[0] ^= word;
    }
    v[2] ^= 0xee;
    rounds(d);
    const uint64_t low = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    rounds(d);
    return {low, v[0] ^ v[1] ^ v[2] ^ v[3]};
  }
};

// 00 01 02 ... as little-endian words: the key of every published vector.
constexpr uint64_t kKey0 = 0x0706050403020100;
constexpr uint64_t kKey1 = 0x0f0e0d0c0b0a0908;

std::string counting(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i);
  return bytes;
}

std::string hex_of(const Hash128& hash) {
  std::string text;
  for (const uint64_t half : {hash.low, hash.high}) {
    for (int i = 0; i < 8; ++i) {
      const auto byte = static_cast<uint8_t>(half >> (8 * i));
      text += "0123456789abcdef"[byte >> 4];
      text += "0123456789abcdef"[byte & 15];
    }
  }
  return text;
}

bool operator==(const Hash128& a, const Hash128& b) { return a.low == b.low && a.high == b.high; }

// Goal: it is SipHash and not something like it. Method: the published SipHash-2-4-128 vectors for
// inputs of 0 to 15 bytes (github.com/veorq/SipHash, vectors.h).
TEST(Hash, EqualsThePublishedVectors) {
  static constexpr const char* kVectors[] = {
      "a3817f04ba25a8e66df67214c7550293", "da87c1d86b99af44347659119b22fc45",
      "8177228da4a45dc7fca38bdef60affe4", "9c70b60c5267a94e5f33b6b02985ed51",
      "f88164c12d9c8faf7d0f6e7c7bcd5579", "1368875980776f8854527a07690e9627",
      "14eeca338b208613485ea0308fd7a15e", "a1f1ebbed8dbc153c0b84aa61ff08239",
      "3b62a9ba6258f5610f83e264f31497b4", "264499060ad9baabc47f8b02bb6d71ed",
      "00110dc378146956c95447d3f3d0fbba", "0151c568386b6677a2b4dc6f81e5dc18",
      "d626b266905ef35882634df68532c125", "9869e247e9c08b10d029934fc4b952f7",
      "31fcefac66d7de9c7ec7485fe4494902", "5493e99933b0a8117e08ec0f97cfc3d9"};
  for (size_t size = 0; size < std::size(kVectors); ++size) {
    EXPECT_EQ(hex_of(siphash128<2, 4>(kKey0, kKey1, counting(size))), kVectors[size]) << size;
    EXPECT_EQ(hex_of(Reference::hash(2, 4, kKey0, kKey1, counting(size))), kVectors[size]);
  }
}

// Goal: the overlapping load of the tail reads the right bytes for every length and alignment.
// Method: both variants against the byte-wise one: lengths 0 to 64 at 8 alignments, then random
// contents up to 1000 bytes under random keys.
TEST(Hash, EqualsAByteWiseReferenceAtEveryLength) {
  const std::string bytes = counting(80);
  for (size_t size = 0; size <= 64; ++size) {
    for (size_t start = 0; start < 8; ++start) {
      const std::string part = bytes.substr(start, size);
      const std::string_view in_place = std::string_view(bytes).substr(start, size);
      const Hash128 fast = siphash128<1, 3>(kKey0, kKey1, in_place);
      EXPECT_TRUE(fast == Reference::hash(1, 3, kKey0, kKey1, part)) << size << " " << start;
      const Hash128 slow = siphash128<2, 4>(kKey0, kKey1, in_place);
      EXPECT_TRUE(slow == Reference::hash(2, 4, kKey0, kKey1, part)) << size << " " << start;
    }
  }
  Random random(50);
  for (int i = 0; i < test::scaled(20000); ++i) {
    std::string part(random.below(1000), '\0');
    for (char& c : part) c = static_cast<char>(random.bits());
    const uint64_t key0 = random.bits();
    const uint64_t key1 = random.bits();
    const Hash128 hash = siphash128<1, 3>(key0, key1, part);
    ASSERT_TRUE(hash == Reference::hash(1, 3, key0, key1, part)) << part.size();
  }
}

// The two kinds of hash, with fixed secrets.
std::vector<HashSecret> secrets() {
  static const std::array<uint8_t, 192> bytes = [] {
    std::array<uint8_t, 192> made{};
    Random random(51);
    for (uint8_t& byte : made) byte = static_cast<uint8_t>(random.bits());
    return made;
  }();
  return {{1, 2, false, nullptr}, {1, 2, true, bytes.data()}};
}

// Goal (F40): keys that differ anywhere are different keys: empty, one byte of each value, NUL
// inside and at the end, invalid UTF-8, 64 KiB and 16 MiB that differ in one bit at the start, the
// middle or the end. Method: all hashes of such a set are distinct and stable.
TEST(Hash, DistinguishesEveryKindOfKey) {
  for (const HashSecret& secret : secrets()) {
    std::vector<std::string> keys = {"",
                                     std::string(2, '\0'),
                                     std::string(3, '\0'),
                                     std::string("a\0b", 3),
                                     std::string("a\0c", 3),
                                     "a",
                                     std::string("a\0", 2),
                                     "\xff\xfe",
                                     "\xc3\x28",
                                     "\xed\xa0\x80"};
    for (int byte = 0; byte < 256; ++byte) {
      if (byte != 'a') keys.emplace_back(1, static_cast<char>(byte));
    }
    for (const size_t size : {size_t{65536}, size_t{16} << 20}) {
      std::string key(size, 'x');
      keys.push_back(key);
      keys.push_back(key + '\0');
      keys.push_back(key.substr(1));
      for (const size_t at : {size_t{0}, size / 2, size - 1}) {
        key[at] = static_cast<char>(key[at] ^ 1);
        keys.push_back(key);
        key[at] = 'x';
      }
    }
    std::set<std::pair<uint64_t, uint64_t>> seen;
    std::set<uint64_t> prints;
    for (const std::string& key : keys) {
      const Hash128 hash = hash_key(secret, key);
      EXPECT_TRUE(hash == hash_key(secret, std::string(key)));
      EXPECT_TRUE(seen.emplace(hash.low, hash.high).second) << "a key of " << key.size();
      EXPECT_TRUE(prints.insert(fingerprint(hash)).second) << "a key of " << key.size();
    }
    const std::string_view no_bytes;  // data() is null
    EXPECT_TRUE(hash_key(secret, no_bytes) == hash_key(secret, ""));
  }
}

// Goal: which half chooses what is independent, and one flipped bit of a key changes about half of
// the hash. Method: counts flips over random keys of 1 to 40 bytes; binomial, six sigma.
TEST(Hash, OneBitOfTheKeyChangesHalfTheHash) {
  Random random(52);
  for (const HashSecret& secret : secrets()) {
    const int tries = test::scaled(20000);
    int64_t low = 0;
    int64_t high = 0;
    for (int i = 0; i < tries; ++i) {
      std::string key(1 + random.below(40), '\0');
      for (char& c : key) c = static_cast<char>(random.bits());
      const Hash128 before = hash_key(secret, key);
      const size_t bit = random.below(key.size() * 8);
      key[bit / 8] = static_cast<char>(key[bit / 8] ^ (1 << bit % 8));
      const Hash128 after = hash_key(secret, key);
      low += std::popcount(before.low ^ after.low);
      high += std::popcount(before.high ^ after.high);
    }
    const double sigma = 4.0 * std::sqrt(static_cast<double>(tries));
    EXPECT_NEAR(static_cast<double>(low), 32.0 * tries, 6 * sigma);
    EXPECT_NEAR(static_cast<double>(high), 32.0 * tries, 6 * sigma);
  }
}

// Goal: nobody who does not know the secret can predict a hash. Method: another secret, in the key
// words or in a single byte of XXH3's, gives another hash for every key tried.
TEST(Hash, DependsOnTheSecret) {
  for (const char* key : {"", "a", "203.0.113.9", "a key of more than thirty-two bytes, like a URL",
                          "0123456789012345678901234567890123456789012345678901234567890123456789"
                          "0123456789012345678901234567890123456789012345678901234567890123456789"
                          "0123456789012345678901234567890123456789012345678901234567890123456789"
                          "0123456789012345678901234567890123456789"}) {
    EXPECT_FALSE(hash_key({1, 2, false, nullptr}, key) == hash_key({1, 3, false, nullptr}, key));
    EXPECT_FALSE(hash_key({1, 2, false, nullptr}, key) == hash_key({3, 2, false, nullptr}, key));
    std::array<uint8_t, 192> one{};
    std::array<uint8_t, 192> two{};
    Random random(53);
    for (uint8_t& byte : one) byte = static_cast<uint8_t>(random.bits());
    for (uint8_t& byte : two) byte = static_cast<uint8_t>(random.bits());
    EXPECT_FALSE(hash_key({0, 0, true, one.data()}, key) ==
                 hash_key({0, 0, true, two.data()}, key));
  }
}

// Goal: a fingerprint is never one of the two numbers that mean an empty slot, and fits its bits.
// Method: the edge hashes and random ones.
TEST(Hash, FingerprintIsNeverVirginOrFree) {
  EXPECT_EQ(fingerprint({0, 0}), 2u);
  EXPECT_EQ(fingerprint({0, 1}), 3u);
  EXPECT_EQ(fingerprint({0, 2}), 2u);
  EXPECT_EQ(fingerprint({0, shm::kFingerprintMask + 1}), 2u) << "the upper 12 bits do not enter";
  EXPECT_EQ(fingerprint({~uint64_t{0}, 0}), 2u) << "nor does the half that picks the window";
  EXPECT_EQ(fingerprint({0, ~uint64_t{0}}), shm::kFingerprintMask);
  Random random(54);
  for (int i = 0; i < test::scaled(100000); ++i) {
    const uint64_t print = fingerprint({random.bits(), random.bits() >> random.below(64)});
    ASSERT_GT(print, shm::kFreeId);
    ASSERT_LE(print, shm::kFingerprintMask);
    for (const uint16_t policy : {uint16_t{0}, uint16_t{1}, uint16_t{4095}}) {
      const uint64_t id = shm::make_id(policy, print);
      ASSERT_NE(id, shm::kVirginId);
      ASSERT_NE(id, shm::kFreeId);
      ASSERT_EQ(shm::id_policy(id), policy);
      ASSERT_EQ(id & shm::kFingerprintMask, print);
    }
    ASSERT_NE(shm::make_id(1, print), shm::make_id(2, print));
  }
}

// Goal: a name is shown only with the key it was stored for. Method: the check value changes with
// the text, the id, the full length and the secret.
TEST(Hash, NameCheckCoversEverything) {
  const HashSecret secret{7, 8, false, nullptr};
  const uint64_t check = name_check(secret, 100, 11, 0, "203.0.113.9");
  EXPECT_EQ(check, name_check(secret, 100, 11, 0, "203.0.113.9"));
  EXPECT_NE(check, name_check(secret, 101, 11, 0, "203.0.113.9"));
  EXPECT_NE(check, name_check(secret, 100, 12, 0, "203.0.113.9"));
  EXPECT_NE(check, name_check(secret, 100, 11, 1, "203.0.113.9"));
  EXPECT_NE(check, name_check(secret, 100, 11, 0, "203.0.113.8"));
  EXPECT_NE(check, name_check({7, 9, false, nullptr}, 100, 11, 0, "203.0.113.9"));
  EXPECT_NE(name_check(secret, 100, 0, 0, ""), 0u) << "a zeroed entry has no valid name";
}

}  // namespace
}  // namespace brim
