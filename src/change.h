// SPDX-License-Identifier: MIT
// Writes to policies and overrides that the public calls do not offer. Set-up only.
#ifndef BRIM_SRC_CHANGE_H_
#define BRIM_SRC_CHANGE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "shm/overrides.h"
#include "src/engine.h"

namespace brim {

// Lets a bucket's words be as far ahead as `permits` owed, if that is further than today: such a
// word is then no corrupt one. The caller holds the policies' write lock.
void raise_ceiling(const internal::Engine& engine, uint16_t policy, uint32_t part,
                   uint64_t permits) noexcept;

// A policy found for writing, with the lock held.
struct Held {
  shm::Registry::WriteLock lock;
  uint16_t number = 0;
  shm::PolicyWords words = {};
  std::string text = {};
};

// Errors: FailedPrecondition (not_open, read_only).
absl::Status not_writable(const internal::Engine* engine);
// Reads the policy under the lock. Errors: NotFound (policy_not_found), Unavailable (lock_failed).
absl::Status find_for_change(const internal::Engine& engine, std::string_view name, Held& held);

// An override as another segment or a file had it.
struct SavedOverride {
  std::string_view policy;
  std::string_view use;  // unless it is a ban
  bool ban = false;
  int64_t left_ns = kNever;  // of a ban
  shm::OverrideHash hash = {};
  std::string_view text = {};  // of the key, or its beginning
  uint64_t length = 0;         // of the whole key; 0: no text is known
  // Lengths that networks among such keys may have; see shm::OverrideHeader. Null: none.
  const uint64_t* prefixes = nullptr;
};
// REQUIRES: the segment can be written to.
absl::Status write_saved_override(const internal::Engine& engine, const SavedOverride& saved);

}  // namespace brim

#endif  // BRIM_SRC_CHANGE_H_
