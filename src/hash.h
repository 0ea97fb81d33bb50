// SPDX-License-Identifier: MIT
// Key bytes + the segment's secret -> 128 bits: one half picks the window, 49 bits of the other
// are the fingerprint, so the two are independent. The policy number does not enter: several
// policies of one key start in the same group, and one hash serves them all.
//
// SipHash-1-3 (Aumasson, Bernstein, 2012) with a random key of the segment: nobody who does not
// know the key can choose colliding keys. XXH3 with a random secret is faster and promises that
// only for keys no adversary chooses. std::hash and absl::Hash differ between processes.
#ifndef BRIM_SRC_HASH_H_
#define BRIM_SRC_HASH_H_

#include <cstdint>
#include <cstring>
#include <string_view>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "shm/layout.h"

namespace brim {

struct Hash128 {
  uint64_t low = 0;
  uint64_t high = 0;
};

struct HashSecret {
  uint64_t key0 = 0;
  uint64_t key1 = 0;
  bool xxh3 = false;
  const uint8_t* secret = nullptr;  // 192 bytes, for XXH3
};

namespace internal {

struct SipState {
  uint64_t v0, v1, v2, v3;

  static constexpr uint64_t rotl(uint64_t x, int b) noexcept { return x << b | x >> (64 - b); }
  constexpr void round() noexcept {
    v0 += v1;
    v2 += v3;
    v1 = rotl(v1, 13) ^ v0;
    v3 = rotl(v3, 16) ^ v2;
    v0 = rotl(v0, 32) + v3;
    v2 += v1;
    v1 = rotl(v1, 17) ^ v2;
    v3 = rotl(v3, 21) ^ v0;
    v2 = rotl(v2, 32);
  }
};

inline uint64_t load_word(const char* bytes) noexcept {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

// The last 0..7 bytes with the length's low byte on top.
inline uint64_t last_word(const char* bytes, size_t size) noexcept {
  const size_t tail = size & 7;
  uint64_t word = uint64_t{size} << 56;
  if (size >= 8 && tail != 0) {  // one overlapping load instead of a loop
    return word | load_word(bytes + tail - 8) >> (64 - 8 * tail);
  }
  for (size_t i = 0; i < tail; ++i) {
    word |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return word;
}

}  // namespace internal

// SipHash-c-d with 128 bits of output. Any size; two calls with equal bytes agree.
template <int kCompression, int kFinalization>
inline Hash128 siphash128(uint64_t key0, uint64_t key1, std::string_view bytes) noexcept {
  internal::SipState s{key0 ^ 0x736f6d6570736575, key1 ^ 0x646f72616e646f6d ^ 0xee,
                       key0 ^ 0x6c7967656e657261, key1 ^ 0x7465646279746573};
  const auto absorb = [&s](uint64_t word) {
    s.v3 ^= word;
    for (int i = 0; i < kCompression; ++i) s.round();
    s.v0 ^= word;
  };
  const char* at = bytes.data();
  for (size_t n = bytes.size() / 8; n != 0; --n, at += 8) absorb(internal::load_word(at));
  absorb(internal::last_word(at, bytes.size()));
  const auto finish = [&s] {
    for (int i = 0; i < kFinalization; ++i) s.round();
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
  };
  s.v2 ^= 0xee;
  const uint64_t low = finish();
  s.v1 ^= 0xdd;
  return {low, finish()};
}

inline Hash128 hash_key(const HashSecret& secret, std::string_view key) noexcept {
  if (secret.xxh3) {
    const XXH128_hash_t hash = XXH3_128bits_withSecret(key.data(), key.size(), secret.secret, 192);
    return {hash.low64, hash.high64};
  }
  return siphash128<1, 3>(secret.key0, secret.key1, key);
}

// 49 bits, mapped away from the values that mean virgin and free.
inline uint64_t fingerprint(const Hash128& hash) noexcept {
  const uint64_t bits = hash.high & shm::kFingerprintMask;
  return bits > shm::kFreeId ? bits : bits + 2;
}

// The check value of a stored name; see shm::NameEntry.
inline uint64_t name_check(const HashSecret& secret, uint64_t id, uint64_t length, uint64_t place,
                           std::string_view stored) noexcept {
  const Hash128 text = siphash128<1, 3>(secret.key0, secret.key1, stored);
  const uint64_t words[5] = {text.low, text.high, id, length, place};
  // A whole name, which has no place, is a round cheaper.
  const size_t size = sizeof(words) - (place == 0 ? sizeof(place) : 0);
  const std::string_view bytes(reinterpret_cast<const char*>(words), size);
  return siphash128<1, 3>(secret.key0, secret.key1, bytes).low;
}

}  // namespace brim

#endif  // BRIM_SRC_HASH_H_
