// SPDX-License-Identifier: MIT
// The overrides in force with their texts, for tools and for snapshots.
#ifndef BRIM_SRC_OVERRIDE_LIST_H_
#define BRIM_SRC_OVERRIDE_LIST_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "brim/address.h"
#include "brim/decision.h"
#include "shm/overrides.h"
#include "src/engine.h"

namespace brim {

struct ListedOverride {
  shm::OverrideHash hash;
  shm::Override what;
  std::string policy;  // "*": any
  std::string use;     // a policy, "unlimited", "deny" or "banned"
  bool ban = false;
  int64_t left_ns = kNever;
  std::string key;          // the stored text, if it verified
  uint64_t key_length = 0;  // of the whole key; 0: no text is known
};

// Those that have ended are left out, and those that name a policy that there is not.
std::vector<ListedOverride> list_overrides(const internal::Engine& engine);

// The check value of a stored text; see shm::OverrideText.
uint64_t override_check(const internal::Engine& engine, uint64_t low, uint64_t length,
                        std::string_view stored) noexcept;

// True for the text that cidr_text() gives a network: it is an override's key for all within.
bool is_network(std::string_view text, Cidr& cidr);
inline shm::NetworkKind network_kind(const Cidr& cidr) noexcept {
  return {cidr.address.v4 ? shm::Family::kV4 : shm::Family::kV6, cidr.prefix};
}

}  // namespace brim

#endif  // BRIM_SRC_OVERRIDE_LIST_H_
