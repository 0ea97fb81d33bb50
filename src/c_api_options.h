// SPDX-License-Identifier: MIT
// C options as C++ ones; here for both libraries.
#ifndef BRIM_SRC_C_API_OPTIONS_H_
#define BRIM_SRC_C_API_OPTIONS_H_

#include <atomic>

#include "src/c_api.h"

namespace brim::c_api {

// `in` may be null. `read` is what was said, without its size: equal calls are equal.
inline int read_options(const brim_options* in, Options& out, brim_options& read) {
  if (in == nullptr) return 0;
  if (!read_struct(*in, read, offsetof(brim_options, cluster))) return fail(BRIM_E_STRUCT_SIZE);
  read.struct_size = 0;  // the same call, whatever it is
  if (read.hash > BRIM_HASH_XXH3 || read.on_full > BRIM_FULL_DENY ||
      read.clock > BRIM_CLOCK_MANUAL || (read.reserved[0] | read.reserved[1]) != 0 ||
      read.reserved2 != 0) {
    return fail(BRIM_E_INVALID, "invalid_option: hash, on_full, clock or a reserved byte");
  }
  out.capacity = read.capacity;
  out.name_bytes = read.name_bytes;
  out.max_policies = read.max_policies;
  out.cells_per_key = read.cells_per_key;
  out.overrides = read.overrides;
  out.cluster = read.cluster != 0;
  out.probe_limit = read.probe_limit;
  out.hash = static_cast<HashKind>(read.hash);
  out.on_full = static_cast<OnFull>(read.on_full);
  out.clock = static_cast<ClockKind>(read.clock);
  out.accept_stored = read.accept_stored != 0;
  out.replace = read.replace != 0;
  out.huge_pages = read.huge_pages != 0;
  if (read.mode != 0) out.mode = read.mode;
  if (read.owner_uid != 0) out.owner_uid = read.owner_uid;
  if (read.group != nullptr) out.group = read.group;
  static_assert(sizeof(std::atomic<int64_t>) == sizeof(int64_t));
  out.manual_clock_ns = reinterpret_cast<const std::atomic<int64_t>*>(read.manual_clock_ns);
  if (read.policy_count != 0 && read.policies == nullptr) return fail(BRIM_E_INVALID);
  for (size_t i = 0; i < read.policy_count; ++i) {
    const brim_named_policy& each = read.policies[i];
    if (each.name == nullptr || each.text == nullptr) return fail(BRIM_E_INVALID);
    out.policies.push_back({each.name, each.text});
  }
  return 0;
}

}  // namespace brim::c_api

#endif  // BRIM_SRC_C_API_OPTIONS_H_
