// SPDX-License-Identifier: MIT
// What the override table says about a key: its own entry, or that of the smallest network its
// address is in. A key that is an address or network as address_key() writes it, or an address as
// servers do, is looked up as one.
#ifndef BRIM_SRC_OVERRIDES_H_
#define BRIM_SRC_OVERRIDES_H_

#include <cstdint>
#include <string_view>

#include "brim/address.h"
#include "shm/overrides.h"
#include "src/engine.h"

namespace brim {

enum class OverrideKind : uint8_t { kNone = 0, kPolicy = 1, kUnlimited = 2, kDeny = 3 };

struct OverrideUse {
  OverrideKind kind = OverrideKind::kNone;
  uint16_t policy = 0;
};

OverrideUse find_override(const internal::Engine& engine, uint16_t policy, std::string_view key,
                          const Hash128& hash) noexcept;

// The caller holds the write lock.
inline shm::OverrideWriter override_writer(const internal::Engine& engine) {
  const shm::Section* const section = engine.segment->section(shm::SectionType::kOverrides);
  return shm::OverrideWriter(engine.segment->overrides(), section == nullptr ? 0 : section->count);
}

}  // namespace brim

#endif  // BRIM_SRC_OVERRIDES_H_
