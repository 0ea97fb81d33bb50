// SPDX-License-Identifier: MIT
#include "src/overrides.h"

#include <charconv>

namespace brim {

namespace {

OverrideUse use_of(const shm::OverrideMatch& match) noexcept {
  if (!match.found || match.what.action > static_cast<uint8_t>(OverrideKind::kDeny)) return {};
  return {static_cast<OverrideKind>(match.what.action), match.what.to};
}

// Out of line: gcc 12 takes XXH3's branches for long keys for reads beyond a short one.
[[gnu::noinline]] Hash128 hash_text(const HashSecret& secret, std::string_view text) noexcept {
  return hash_key(secret, text);
}

}  // namespace

OverrideUse find_override(const internal::Engine& engine, uint16_t policy, std::string_view key,
                          const Hash128& hash) noexcept {
  const shm::OverrideMatch own = engine.overrides.find(policy, {hash.low, hash.high});
  if (own.found || engine.overrides.empty()) return use_of(own);
  // "2001:db8::/64" is the key of a whole network: no longer prefix can be meant.
  const size_t slash = key.find('/');
  Address address;
  if (!parse_address(key.substr(0, slash), address)) return {};
  unsigned most = address.bits();
  if (slash != std::string_view::npos) {
    const char* const end = key.data() + key.size();
    if (std::from_chars(key.data() + slash + 1, end, most).ptr != end) return {};
  }
  const auto family = address.v4 ? shm::Family::kV4 : shm::Family::kV6;
  return use_of(engine.overrides.find_network(policy, family, [&](uint8_t prefix) {
    if (prefix > most) return Hash128{};
    return hash_text(engine.secret, network_key(address, prefix).view());
  }));
}

}  // namespace brim
