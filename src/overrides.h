// SPDX-License-Identifier: MIT
// What the override table says about a key: its own entry, or that of the smallest network its
// address is in. A key that is an address or network as address_key() writes it, or an address as
// servers do, is looked up as one.
#ifndef BRIM_SRC_OVERRIDES_H_
#define BRIM_SRC_OVERRIDES_H_

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "brim/address.h"
#include "shm/overrides.h"
#include "src/engine.h"

namespace brim {

enum class OverrideKind : uint8_t {
  kNone = 0,
  kPolicy = 1,
  kUnlimited = 2,
  kDeny = 3,
  kBan = shm::kOverrideEnds | 3,  // as kDeny, until it ends
};

struct OverrideUse {
  OverrideKind kind = OverrideKind::kNone;
  uint16_t policy = 0;
  int64_t left_ns = 0;  // kBan: until it ends, or kNever
};

// ns from now_ns to the end of an override; 0: it has come.
inline int64_t override_left(uint64_t end, int64_t now_ns) noexcept {
  if (end >= shm::kOverrideEndless) return kNever;
  const uint64_t now = static_cast<uint64_t>(std::max<int64_t>(now_ns, 0));
  const uint64_t ends = end << shm::kOverrideEndShift;
  return ends <= now ? 0 : static_cast<int64_t>(std::min<uint64_t>(ends - now, kNever - 1));
}

// What an entry does, "" for one that does nothing. `to_name`: of the policy that it uses.
std::string_view override_use(const shm::Override& what, std::string_view to_name) noexcept;

// `at`: by which time overrides have ended; negative: now.
OverrideUse find_override(const internal::Engine& engine, uint16_t policy, std::string_view key,
                          const Hash128& hash, int64_t at = -1) noexcept;

// The caller holds the write lock.
inline shm::OverrideWriter override_writer(const internal::Engine& engine) {
  const shm::Section* const section = engine.segment->section(shm::SectionType::kOverrides);
  return shm::OverrideWriter(engine.segment->overrides(), section == nullptr ? 0 : section->count,
                             engine.segment->override_texts(),
                             shm::override_now(engine.clock.now()));
}

}  // namespace brim

#endif  // BRIM_SRC_OVERRIDES_H_
