// SPDX-License-Identifier: MIT
// The text that a slot keeps of its key, for people and for other tables.
#ifndef BRIM_SRC_SLOT_NAME_H_
#define BRIM_SRC_SLOT_NAME_H_

#include <cstdint>
#include <string>

#include "shm/names.h"
#include "src/engine.h"
#include "src/hash.h"

namespace brim {

struct SlotName {
  uint64_t length = 0;  // of the whole key; the text may be its beginning only
  uint64_t place = 0;   // see shm::NameEntry
};

// False, and no text: none is kept, or what is kept is not `id`'s.
inline bool read_slot_name(const internal::Engine& engine, uint64_t slot, uint64_t id,
                           std::string& text, SlotName& name) {
  const shm::NameEntry* const entry = engine.segment->name_entry(slot);
  if (entry != nullptr) {
    const shm::NameEntry copy =
        shm::load_name(entry, engine.segment->header().name_bytes, text, name.place);
    name.length = copy.length;
    if (name_check(engine.secret, id, copy.length, name.place, text) == copy.check) return true;
  }
  text.clear();
  return false;
}

}  // namespace brim

#endif  // BRIM_SRC_SLOT_NAME_H_
