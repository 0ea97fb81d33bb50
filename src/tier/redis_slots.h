// SPDX-License-Identifier: MIT
// Which server of a cluster has a key: CRC16 of its name, or of what is in its first {}.
#ifndef BRIM_SRC_TIER_REDIS_SLOTS_H_
#define BRIM_SRC_TIER_REDIS_SLOTS_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "src/tier/resp.h"
#include "src/tier/url.h"

namespace brim::tier {

inline constexpr int kSlots = 16384;

constexpr uint16_t slot_of(std::string_view key) noexcept {
  if (const size_t open = key.find('{'); open != std::string_view::npos) {
    const size_t close = key.find('}', open + 1);
    if (close != std::string_view::npos && close > open + 1) {
      key = key.substr(open + 1, close - open - 1);
    }
  }
  uint32_t crc = 0;  // polynomial 0x1021, from 0: the specification's
  for (const char c : key) {
    crc ^= static_cast<uint32_t>(static_cast<unsigned char>(c)) << 8;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 0x8000) != 0 ? (crc << 1) ^ 0x1021 : crc << 1;
  }
  return static_cast<uint16_t>(crc & (kSlots - 1));
}

struct SlotRange {
  uint16_t first = 0;
  uint16_t last = 0;
  Endpoint master;
};

// The answer to CLUSTER SLOTS. `asked` is meant where it names no host. Error: DataLoss
// (tier_protocol).
absl::StatusOr<std::vector<SlotRange>> parse_slots(const Reply& reply, const Endpoint& asked);

// Where "MOVED 3999 HOST:PORT" or "ASK ..." sends; nothing if it is malformed.
std::optional<Endpoint> parse_redirect(std::string_view text, const Endpoint& asked);

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_REDIS_SLOTS_H_
