// SPDX-License-Identifier: MIT
// The bytes of a name entry. Two verifiers of one adopted slot may write the same name at once,
// and a stalled one may write another key's: every word is stored and loaded whole, and the check
// value tells whether what was read belongs together.
#ifndef BRIM_SHM_NAMES_H_
#define BRIM_SHM_NAMES_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "shm/layout.h"
#include "shm/schedule_point.h"

namespace brim::shm {

// REQUIRES: stored.size() <= the segment's name_bytes, which is a multiple of 8.
inline void store_name(NameEntry* entry, std::string_view stored, uint64_t length,
                       uint64_t check) noexcept {
  auto* const text = reinterpret_cast<uint64_t*>(entry + 1);
  // Relaxed: the check value makes up for any order. Killed here: a name that is not shown.
  for (size_t at = 0; at < stored.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, stored.data() + at, std::min(sizeof(word), stored.size() - at));
    BRIM_STORE_POINT();
    __atomic_store_n(text + at / sizeof(word), word, __ATOMIC_RELAXED);
  }
  BRIM_STORE_POINT();
  __atomic_store_n(&entry->length, length, __ATOMIC_RELAXED);
  BRIM_STORE_POINT();
  __atomic_store_n(&entry->check, check, __ATOMIC_RELAXED);
}

// Copies the entry out, at most `room` bytes of text; the copy can not change under the check.
inline NameEntry load_name(const NameEntry* entry, size_t room, std::string& stored) {
  NameEntry copy;
  copy.check = __atomic_load_n(&entry->check, __ATOMIC_RELAXED);
  copy.length = __atomic_load_n(&entry->length, __ATOMIC_RELAXED);
  stored.resize(std::min<uint64_t>(copy.length, room));
  const auto* const text = reinterpret_cast<const uint64_t*>(entry + 1);
  for (size_t at = 0; at < stored.size(); at += sizeof(uint64_t)) {
    const uint64_t word = __atomic_load_n(text + at / sizeof(word), __ATOMIC_RELAXED);
    std::memcpy(stored.data() + at, &word, std::min(sizeof(word), stored.size() - at));
  }
  return copy;
}

}  // namespace brim::shm

#endif  // BRIM_SHM_NAMES_H_
