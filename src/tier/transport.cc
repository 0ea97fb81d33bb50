// SPDX-License-Identifier: MIT
#include "src/tier/transport.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

#include "src/base/text.h"
#include "src/tier/wait.h"

namespace brim::tier {

namespace {

absl::Status connect_error(const std::string& name, std::string_view why) {
  return absl::UnavailableError(
      cat("tier_connect: ", name, ": ", why, "; is the server up, and the address right?"));
}

absl::Status lost(const std::string& name, int error) {
  return absl::UnavailableError(
      cat("tier_connect: ", name, ": ",
          error == 0 ? "the server closed the connection" : strerror(error)));
}

bool would_wait(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

Transport::~Transport() {
  tls_.reset();
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<Transport> Transport::try_one(const SocketAddress& address, const Endpoint& endpoint,
                                             int64_t deadline_ns) {
  const int family = address.bytes.ss_family;
  Transport made(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), endpoint.text());
  if (made.fd_ < 0) return connect_error(made.name_, strerror(errno));
  const int on = 1;
  if (family != AF_UNIX) {
    setsockopt(made.fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(made.fd_, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  }
  if (::connect(made.fd_, reinterpret_cast<const sockaddr*>(&address.bytes), address.size) == 0) {
    return made;
  }
  if (errno != EINPROGRESS && errno != EINTR) return connect_error(made.name_, strerror(errno));
  pollfd ready{made.fd_, POLLOUT, 0};
  if (!wait_for({&ready, 1}, deadline_ns)) {
    return absl::UnavailableError(
        cat("tier_timeout: ", made.name_, ": no connection in time; is the address right?"));
  }
  int error = 0;
  socklen_t size = sizeof(error);
  if (getsockopt(made.fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error != 0) return connect_error(made.name_, strerror(error));
  return made;
}

absl::StatusOr<Transport> Transport::connect(const Endpoint& endpoint, Resolver& resolver,
                                             SSL_CTX* context, int64_t deadline_ns) {
  auto addresses = resolver.resolve(endpoint, deadline_ns);
  if (!addresses.ok()) return addresses.status();
  absl::Status last;
  for (size_t i = 0; i < addresses->size(); ++i) {
    // A share of the time each, so that one which swallows everything leaves some to the others.
    const int64_t now = monotonic_ns();
    const int64_t shares = static_cast<int64_t>(addresses->size() - i);
    const int64_t end = now + std::max<int64_t>(0, deadline_ns - now) / shares;
    auto made = try_one((*addresses)[i], endpoint, end);
    if (made.ok() && context != nullptr) {
      absl::Status status = made->secure(context, endpoint.host, end);
      if (!status.ok()) made = std::move(status);
    }
    if (made.ok()) return made;
    last = made.status();
  }
  return last;
}

absl::Status Transport::secure(SSL_CTX* context, const std::string& host, int64_t deadline_ns) {
  auto tls = make_tls(context, fd_, host);
  if (!tls.ok()) return tls.status();
  tls_ = *std::move(tls);
  while (true) {
    ERR_clear_error();
    errno = 0;
    const int result = SSL_connect(tls_.get());
    if (result == 1) return absl::OkStatus();
    const int what = SSL_get_error(tls_.get(), result);
    if (what == SSL_ERROR_SYSCALL) return lost(name_, errno);
    if (what != SSL_ERROR_WANT_READ && what != SSL_ERROR_WANT_WRITE) {
      return absl::PermissionDeniedError(
          cat("tier_tls: ", name_, ": ", tls_trouble(tls_.get()),
              "; check its certificate, the name in the URL and the authority's file"));
    }
    pollfd ready{fd_, static_cast<short>(what == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT), 0};
    if (!wait_for({&ready, 1}, deadline_ns)) {
      return absl::UnavailableError(cat("tier_timeout: ", name_, ": no TLS handshake in time"));
    }
  }
}

absl::StatusOr<size_t> Transport::tls_moved(int result) {
  if (result > 0) return static_cast<size_t>(result);
  switch (SSL_get_error(tls_.get(), result)) {
    case SSL_ERROR_WANT_WRITE:
      tls_wants_write_ = true;
      return size_t{0};
    case SSL_ERROR_WANT_READ:
      return size_t{0};
    case SSL_ERROR_SYSCALL:
      return lost(name_, errno);
    case SSL_ERROR_ZERO_RETURN:
      return lost(name_, 0);
    default:
      break;
  }
  if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
    ERR_clear_error();
    return lost(name_, 0);
  }
  return absl::PermissionDeniedError(cat("tier_tls: ", name_, ": ", tls_trouble(tls_.get())));
}

absl::StatusOr<size_t> Transport::read(char* bytes, size_t size) {
  if (tls_ != nullptr) {
    tls_wants_write_ = false;
    ERR_clear_error();
    errno = 0;
    return tls_moved(SSL_read(tls_.get(), bytes, static_cast<int>(size)));
  }
  const ssize_t got = recv(fd_, bytes, size, 0);
  if (got > 0) return static_cast<size_t>(got);
  if (got < 0 && would_wait(errno)) return size_t{0};
  return lost(name_, got == 0 ? 0 : errno);
}

absl::StatusOr<size_t> Transport::write(std::string_view bytes) {
  if (bytes.empty()) return size_t{0};
  if (tls_ != nullptr) {
    tls_wants_write_ = false;
    ERR_clear_error();
    errno = 0;
    return tls_moved(SSL_write(tls_.get(), bytes.data(),
                               static_cast<int>(std::min<size_t>(bytes.size(), INT_MAX))));
  }
  const ssize_t put = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (put >= 0) return static_cast<size_t>(put);
  if (would_wait(errno)) return size_t{0};
  return lost(name_, errno);
}

short Transport::events(bool more) const {
  return static_cast<short>(POLLIN | ((more || tls_wants_write_) ? POLLOUT : 0));
}

}  // namespace brim::tier
