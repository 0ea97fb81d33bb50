// SPDX-License-Identifier: MIT
// A connected socket, perhaps with TLS, that never waits by itself and never raises SIGPIPE.
#ifndef BRIM_SRC_TIER_TRANSPORT_H_
#define BRIM_SRC_TIER_TRANSPORT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/tier/resolve.h"
#include "src/tier/tls.h"
#include "src/tier/url.h"

namespace brim::tier {

class Transport {
 public:
  // Tries all addresses of a name. `context`: TLS; nullptr: none. Errors: Unavailable
  // (tier_connect, tier_timeout), PermissionDenied (tier_tls).
  static absl::StatusOr<Transport> connect(const Endpoint& endpoint, Resolver& resolver,
                                           SSL_CTX* context, int64_t deadline_ns);
  Transport(Transport&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        tls_(std::move(other.tls_)),
        name_(std::move(other.name_)) {}
  Transport& operator=(Transport&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(tls_, other.tls_);
    std::swap(name_, other.name_);
    return *this;
  }
  ~Transport();  // says nothing to the server: in a child of fork() the connection is the parent's

  int fd() const { return fd_; }
  const std::string& name() const { return name_; }
  // How many bytes moved; 0: none without waiting. An end of the connection is an error.
  absl::StatusOr<size_t> read(char* bytes, size_t size);
  absl::StatusOr<size_t> write(std::string_view bytes);
  // What to poll for. `more`: there is something to write.
  short events(bool more) const;

 private:
  Transport(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
  static absl::StatusOr<Transport> try_one(const SocketAddress& address, const Endpoint& endpoint,
                                           int64_t deadline_ns);
  absl::Status secure(SSL_CTX* context, const std::string& host, int64_t deadline_ns);
  absl::StatusOr<size_t> tls_moved(int result);

  int fd_;
  Tls tls_;
  std::string name_;  // of the endpoint, for messages
  bool tls_wants_write_ = false;
};

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_TRANSPORT_H_
