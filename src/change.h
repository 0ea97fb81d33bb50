// SPDX-License-Identifier: MIT
// Writes to policies and overrides that the public calls do not offer. Set-up only.
#ifndef BRIM_SRC_CHANGE_H_
#define BRIM_SRC_CHANGE_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "shm/overrides.h"
#include "src/engine.h"

namespace brim {

// Lets a bucket's words be as far ahead as `permits` owed, if that is further than today: such a
// word is then no corrupt one. The caller holds the policies' write lock.
void raise_ceiling(const internal::Engine& engine, uint16_t policy, uint32_t part,
                   uint64_t permits) noexcept;

// REQUIRES: the segment can be written to. Sets the override of a key that is known by its hash.
// `prefixes`: lengths that networks among such keys may have; see shm::OverrideHeader.
absl::Status write_override_hash(const internal::Engine& engine, std::string_view policy,
                                 shm::OverrideHash hash, std::string_view use,
                                 const uint64_t (&prefixes)[4]);

}  // namespace brim

#endif  // BRIM_SRC_CHANGE_H_
