// SPDX-License-Identifier: MIT
#include "src/overrides.h"

#include <charconv>

namespace brim {

namespace {

OverrideUse use_of(const shm::OverrideMatch& match, int64_t now) noexcept {
  const auto kind = static_cast<OverrideKind>(match.what.action);
  if (!match.found) return {};
  if (kind == OverrideKind::kBan) {
    const int64_t left = override_left(match.what.end, now);
    return left == 0 ? OverrideUse{} : OverrideUse{kind, 0, left};
  }
  return kind > OverrideKind::kDeny ? OverrideUse{} : OverrideUse{kind, match.what.to, 0};
}

// Out of line: gcc 12 takes XXH3's branches for long keys for reads beyond a short one.
[[gnu::noinline]] Hash128 hash_text(const HashSecret& secret, std::string_view text) noexcept {
  return hash_key(secret, text);
}

}  // namespace

OverrideUse find_override(const internal::Engine& engine, uint16_t policy, std::string_view key,
                          const Hash128& hash, int64_t at) noexcept {
  // Read once, and only for an entry that ends: what is found has not ended by it.
  int64_t now = at;
  const auto clock = [&]() noexcept {
    if (now < 0) now = engine.clock.now();
    return shm::override_now(now);
  };
  const shm::OverrideMatch own = engine.overrides.find(policy, {hash.low, hash.high}, clock);
  if (own.found || engine.overrides.empty()) return use_of(own, now);
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
  const auto hash_of = [&](uint8_t prefix) {
    if (prefix > most) return Hash128{};
    return hash_text(engine.secret, network_key(address, prefix).view());
  };
  const shm::OverrideMatch around = engine.overrides.find_network(policy, family, hash_of, clock);
  return use_of(around, now);
}

std::string_view override_use(const shm::Override& what, std::string_view to_name) noexcept {
  switch (static_cast<OverrideKind>(what.action)) {
    case OverrideKind::kPolicy:
      return to_name;
    case OverrideKind::kUnlimited:
      return "unlimited";
    case OverrideKind::kDeny:
      return "deny";
    case OverrideKind::kBan:
      return "banned";
    case OverrideKind::kNone:
      break;
  }
  return {};
}

}  // namespace brim
