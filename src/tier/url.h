// SPDX-License-Identifier: MIT
// Where a store is, from one line of text:
//
//   redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]     one server; rediss:// for TLS
//   unix://[[USER]:PASSWORD@]/PATH[?db=N]          a unix socket
//   redis://HOST,HOST.../DB?sentinel_master=NAME   Sentinel; sentinel_password=PASSWORD
//   redis://HOST,HOST...                           Cluster; or one HOST with ?cluster=1
//
// An IPv6 address is in brackets. %XX is a byte: of a password, '/', '?', '#', '@' and '%' are
// written so. No error tells any part of the text, which may be part of a password.
#ifndef BRIM_SRC_TIER_URL_H_
#define BRIM_SRC_TIER_URL_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "src/tier/secret.h"

namespace brim::tier {

struct Endpoint {
  std::string host;   // a name or an address, or the path of a unix socket
  uint16_t port = 0;  // 0: a unix socket

  std::string text() const;  // for messages
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

struct RedisUrl {
  enum class Kind { kSingle, kSentinel, kCluster };
  Kind kind = Kind::kSingle;
  bool tls = false;
  std::vector<Endpoint> endpoints;  // at least one
  std::string user;
  Secret password;
  std::string sentinel_master;
  Secret sentinel_password;
  uint32_t db = 0;
};

// Errors: InvalidArgument (tier_url).
absl::StatusOr<RedisUrl> parse_url(std::string_view text);

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_URL_H_
