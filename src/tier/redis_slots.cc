// SPDX-License-Identifier: MIT
#include "src/tier/redis_slots.h"

#include <charconv>
#include <string>

#include "src/base/text.h"

namespace brim::tier {

namespace {

constexpr size_t kMostRanges = 4096;

std::string host_or(std::string_view host, const Endpoint& asked) {
  return host.empty() || host == "?" ? asked.host : std::string(host);
}

bool is_slot(const Reply& reply) {
  return reply.kind == Reply::Kind::kInteger && reply.integer >= 0 && reply.integer < kSlots;
}

}  // namespace

absl::StatusOr<std::vector<SlotRange>> parse_slots(const Reply& reply, const Endpoint& asked) {
  std::vector<SlotRange> ranges;
  const absl::Status malformed =
      absl::DataLossError(cat("tier_protocol: ", asked.text(), ": not an answer to CLUSTER SLOTS"));
  if (reply.kind != Reply::Kind::kArray || reply.items.size() > kMostRanges) return malformed;
  for (const Reply& item : reply.items) {
    if (item.items.size() < 3 || !is_slot(item.items[0]) || !is_slot(item.items[1])) {
      return malformed;
    }
    const Reply& master = item.items[2];
    if (master.items.size() < 2 || master.items[0].text.size() > 255) return malformed;
    const int64_t port = master.items[1].integer;
    if (port < 1 || port > 65535) return malformed;
    ranges.push_back({static_cast<uint16_t>(item.items[0].integer),
                      static_cast<uint16_t>(item.items[1].integer),
                      {host_or(master.items[0].text, asked), static_cast<uint16_t>(port)}});
  }
  return ranges;
}

std::optional<Endpoint> parse_redirect(std::string_view text, const Endpoint& asked) {
  const size_t blank = text.rfind(' ');
  const size_t colon = text.rfind(':');
  if (blank == std::string_view::npos || colon == std::string_view::npos || colon < blank ||
      colon - blank > 256) {
    return std::nullopt;
  }
  const std::string_view digits = text.substr(colon + 1);
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port == 0) return {};
  return Endpoint{host_or(text.substr(blank + 1, colon - blank - 1), asked), port};
}

}  // namespace brim::tier
