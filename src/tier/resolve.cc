// SPDX-License-Identifier: MIT
#include "src/tier/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "src/base/text.h"
#include "src/tier/wait.h"

namespace brim::tier {

namespace {

int find_addresses(const Endpoint& endpoint, int flags, std::vector<SocketAddress>& found) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const std::string port = std::to_string(endpoint.port);
  const int error = getaddrinfo(endpoint.host.c_str(), port.c_str(), &hints, &list);
  for (const addrinfo* one = list; error == 0 && one != nullptr; one = one->ai_next) {
    SocketAddress& address = found.emplace_back();
    address.size = std::min<socklen_t>(one->ai_addrlen, sizeof(address.bytes));
    memcpy(&address.bytes, one->ai_addr, address.size);
  }
  if (list != nullptr) freeaddrinfo(list);
  return error;
}

absl::StatusOr<SocketAddress> unix_address(const Endpoint& endpoint) {
  SocketAddress address;
  sockaddr_un unix_path{};
  if (endpoint.host.size() >= sizeof(unix_path.sun_path)) {
    return absl::InvalidArgumentError(cat("tier_connect: ", endpoint.text(),
                                          ": the path of a "
                                          "socket has at most ",
                                          sizeof(unix_path.sun_path) - 1, " bytes"));
  }
  unix_path.sun_family = AF_UNIX;
  memcpy(unix_path.sun_path, endpoint.host.data(), endpoint.host.size());
  memcpy(&address.bytes, &unix_path, sizeof(unix_path));
  address.size = sizeof(unix_path);
  return address;
}

}  // namespace

// The thread's and the caller's; the later one closes it.
struct Resolver::Lookup {
  explicit Lookup(Endpoint asked)
      : endpoint(std::move(asked)), finished(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  Lookup(const Lookup&) = delete;
  Lookup& operator=(const Lookup&) = delete;
  ~Lookup() {
    if (finished >= 0) close(finished);
  }

  const Endpoint endpoint;
  const int finished;  // readable from then on; what is below is the thread's until then
  int error = 0;
  std::vector<SocketAddress> found;
};

void* Resolver::look_up(void* raw) {
  const std::unique_ptr<std::shared_ptr<Lookup>> own(static_cast<std::shared_ptr<Lookup>*>(raw));
  Lookup& lookup = **own;
  lookup.error = find_addresses(lookup.endpoint, 0, lookup.found);
  const uint64_t one = 1;
  while (write(lookup.finished, &one, sizeof(one)) < 0 && errno == EINTR) continue;
  return nullptr;
}

absl::StatusOr<std::shared_ptr<Resolver::Lookup>> Resolver::begin(const Endpoint& endpoint) {
  for (const auto& one : pending_) {
    if (one->endpoint == endpoint) return one;
  }
  auto lookup = std::make_shared<Lookup>(endpoint);
  auto share = std::make_unique<std::shared_ptr<Lookup>>(lookup);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int error =
      lookup->finished < 0 ? errno : pthread_create(&thread, nullptr, look_up, share.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) {
    return absl::UnavailableError(cat("tier_connect: ", endpoint.text(),
                                      ": no thread to look the name up: ", strerror(error)));
  }
  static_cast<void>(share.release());
  pthread_detach(thread);
  pending_.push_back(lookup);
  return lookup;
}

absl::StatusOr<std::vector<SocketAddress>> Resolver::resolve(const Endpoint& endpoint,
                                                             int64_t deadline_ns) {
  std::vector<SocketAddress> found;
  if (endpoint.port == 0) {
    auto address = unix_address(endpoint);
    if (!address.ok()) return address.status();
    found.push_back(*address);
    return found;
  }
  if (find_addresses(endpoint, AI_NUMERICHOST, found) == 0 && !found.empty()) return found;
  auto lookup = begin(endpoint);
  if (!lookup.ok()) return lookup.status();
  pollfd ready{(*lookup)->finished, POLLIN, 0};
  uint64_t count = 0;
  if (!wait_for({&ready, 1}, deadline_ns) ||
      read(ready.fd, &count, sizeof(count)) != static_cast<ssize_t>(sizeof(count))) {
    return absl::UnavailableError(
        cat("tier_timeout: ", endpoint.text(), ": the name is not resolved yet; check the DNS"));
  }
  std::erase(pending_, *lookup);
  if ((*lookup)->error != 0 || (*lookup)->found.empty()) {
    return absl::UnavailableError(cat("tier_connect: ", endpoint.text(), ": ",
                                      gai_strerror((*lookup)->error), "; check the name"));
  }
  return std::move((*lookup)->found);
}

}  // namespace brim::tier
