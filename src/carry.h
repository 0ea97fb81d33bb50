// SPDX-License-Identifier: MIT
// What one table remembers of a key is put into the table that takes its place. Both have the same
// policies word for word, the same hash key and the same clock, so words and times mean the same in
// both and are carried as they are; the stricter of two wins, so carrying twice is carrying once.
#ifndef BRIM_SRC_CARRY_H_
#define BRIM_SRC_CARRY_H_

#include <cstdint>
#include <string_view>

#include "src/call.h"

namespace brim {

// A key as far as it is known: of a long one a scan finds only the beginning.
struct CarriedKey {
  std::string_view text;
  CutKey cut = {};
  uint64_t place = 0;  // where its window begins
};

enum class Carried : uint8_t {
  kNothing,  // there was nothing that matters
  kDone,     // the new table is at least as strict now
  kFull,     // it has no slot for the key
  kContended,
};

// Carries what the slot at `position` of `from` holds under `id` to `to`.
Carried carry_slot(const Engine& from, uint64_t position, uint64_t id, const Engine& to,
                   const CarriedKey& key) noexcept;

// All that a call on `key` under `policy` may look at: its rates and bans, and those of the policy
// that an override makes it follow. False if some of it found no room in `to`.
bool carry_key(const Engine& from, const Engine& to, uint16_t policy, std::string_view key,
               Reason& why) noexcept;

}  // namespace brim

#endif  // BRIM_SRC_CARRY_H_
