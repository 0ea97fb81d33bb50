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

// Text bytes of a key that an entry with room for `room` keeps: all of them, or those before the
// place.
constexpr size_t kept_bytes(uint64_t length, size_t room) noexcept {
  return length <= room ? length : room - sizeof(uint64_t);
}

// REQUIRES: text.size() == kept_bytes(length, room); room is a multiple of 8, at least 8. `place`
// is kept if the name is cut.
inline void store_name(NameEntry* entry, size_t room, std::string_view text, uint64_t length,
                       uint64_t place, uint64_t check) noexcept {
  auto* const words = reinterpret_cast<uint64_t*>(entry + 1);
  // Relaxed: the check value makes up for any order. Killed here: a name that is not shown.
  for (size_t at = 0; at < text.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, text.data() + at, std::min(sizeof(word), text.size() - at));
    BRIM_STORE_POINT();
    __atomic_store_n(words + at / sizeof(word), word, __ATOMIC_RELAXED);
  }
  if (length > room) {
    BRIM_STORE_POINT();
    __atomic_store_n(words + text.size() / sizeof(uint64_t), place, __ATOMIC_RELAXED);
  }
  BRIM_STORE_POINT();
  __atomic_store_n(&entry->length, length, __ATOMIC_RELAXED);
  BRIM_STORE_POINT();
  __atomic_store_n(&entry->check, check, __ATOMIC_RELAXED);
}

// Copies the entry out, at most `room` bytes of text; the copy can not change under the check.
// `place` is 0 if the name is not cut.
inline NameEntry load_name(const NameEntry* entry, size_t room, std::string& text,
                           uint64_t& place) {
  NameEntry copy;
  copy.check = __atomic_load_n(&entry->check, __ATOMIC_RELAXED);
  copy.length = __atomic_load_n(&entry->length, __ATOMIC_RELAXED);
  text.resize(kept_bytes(copy.length, room));
  const auto* const words = reinterpret_cast<const uint64_t*>(entry + 1);
  for (size_t at = 0; at < text.size(); at += sizeof(uint64_t)) {
    const uint64_t word = __atomic_load_n(words + at / sizeof(word), __ATOMIC_RELAXED);
    std::memcpy(text.data() + at, &word, std::min(sizeof(word), text.size() - at));
  }
  place = copy.length > room
              ? __atomic_load_n(words + text.size() / sizeof(uint64_t), __ATOMIC_RELAXED)
              : 0;
  return copy;
}

}  // namespace brim::shm

#endif  // BRIM_SHM_NAMES_H_
