// SPDX-License-Identifier: MIT
// Of RedisLink: which servers there are, and how to reach them.
#include <algorithm>
#include <utility>

#include "src/base/text.h"
#include "src/tier/redis_link.h"
#include "src/tier/redis_slots.h"
#include "src/tier/wait.h"

namespace brim::tier {

namespace {

constexpr int64_t kLeftAloneNs = 500000000;
constexpr int64_t kLeastBetweenMaps = 20000000;

}  // namespace

absl::Status RedisLink::connect_to(Server& server, const Endpoint& endpoint, const Login& login,
                                   int64_t deadline_ns) {
  const int64_t now = monotonic_ns();
  auto made =
      Connection::open(endpoint, login, dialer_, std::min(deadline_ns, now + connect_timeout_ns_));
  if (!made.ok()) return made.status();
  server.connection.emplace(*std::move(made));
  return absl::OkStatus();
}

absl::Status RedisLink::connect(Server& server, int64_t deadline_ns) {
  const int64_t now = monotonic_ns();
  if (now >= deadline_ns) {
    return absl::UnavailableError(
        cat("tier_timeout: ", server.endpoint.text(), ": no time is left to connect"));
  }
  if (url_.kind == RedisUrl::Kind::kSentinel) return connect_master(server, deadline_ns);
  if (now < server.not_before_ns) {
    return absl::UnavailableError(cat("tier_connect: ", server.endpoint.text(),
                                      ": did not answer a moment ago, and is left alone"));
  }
  const absl::Status status =
      connect_to(server, server.endpoint, {url_.user, url_.password, url_.db, false}, deadline_ns);
  // Of a cluster: the other nodes' calls shall not wait for this one each time.
  if (!status.ok() && url_.kind == RedisUrl::Kind::kCluster && absl::IsUnavailable(status)) {
    server.not_before_ns = monotonic_ns() + kLeftAloneNs;
  }
  return status;
}

absl::StatusOr<Endpoint> RedisLink::ask_sentinel(const Endpoint& sentinel, int64_t deadline_ns) {
  Server asked;
  absl::Status status =
      connect_to(asked, sentinel, {{}, url_.sentinel_password, 0, false}, deadline_ns);
  if (!status.ok()) return status;
  auto reply = asked.connection->ask(
      command({"SENTINEL", "get-master-addr-by-name", url_.sentinel_master}), deadline_ns);
  if (!reply.ok()) return reply.status();
  if (reply->is_error()) return refusal(sentinel.text(), *reply).status;
  if (reply->items.size() == 2) {
    const auto named =
        parse_redirect(cat(" ", reply->items[0].text, ":", reply->items[1].text), sentinel);
    if (named.has_value()) return *named;
  }
  return absl::UnavailableError(cat("tier_connect: ", sentinel.text(),
                                    ": the sentinel knows no master of that name; check "
                                    "sentinel_master"));
}

// Each sentinel is asked until one names a server that says that it is a master.
absl::Status RedisLink::connect_master(Server& server, int64_t deadline_ns) {
  absl::Status last;
  const size_t count = url_.endpoints.size();
  for (size_t i = 0; i < count; ++i) {
    const size_t index = (first_ + i) % count;
    // A share of the time, so that a silent one leaves some to the others.
    const int64_t now = monotonic_ns();
    const int64_t end = now + (deadline_ns - now) / static_cast<int64_t>(count - i);
    const auto named = ask_sentinel(url_.endpoints[index], end);
    last = named.status();
    if (!last.ok()) continue;
    last = connect_to(server, *named, {url_.user, url_.password, url_.db, true}, deadline_ns);
    if (last.ok()) {
      server.endpoint = *named;
      first_ = index;
      return last;
    }
  }
  return last;
}

void RedisLink::look_for_another_master(int64_t deadline_ns) {
  if (url_.kind != RedisUrl::Kind::kSentinel || !servers_[0]->connection.has_value()) return;
  const int64_t now = monotonic_ns();
  const auto named = ask_sentinel(url_.endpoints[first_], now + (deadline_ns - now) / 2);
  if (!named.ok()) {
    first_ = (first_ + 1) % url_.endpoints.size();
  } else if (*named != servers_[0]->endpoint) {
    servers_[0]->connection.reset();
  }
}

RedisLink::Server& RedisLink::server_at(const Endpoint& endpoint) {
  for (const auto& server : servers_) {
    if (server->endpoint == endpoint) return *server;
  }
  servers_.push_back(std::make_unique<Server>());
  servers_.back()->endpoint = endpoint;
  return *servers_.back();
}

// Asks those that are connected first, and not the same one each time: it may be of the minority.
absl::Status RedisLink::refresh(int64_t deadline_ns) {
  if (url_.kind != RedisUrl::Kind::kCluster) {
    stale_ = false;
    return absl::OkStatus();
  }
  const int64_t now = monotonic_ns();
  if (!slots_.empty() && now - refreshed_ns_ < kLeastBetweenMaps) return absl::OkStatus();
  refreshed_ns_ = now;
  for (const Endpoint& seed : url_.endpoints) server_at(seed);
  absl::Status last = absl::UnavailableError("tier_connect: no node of the cluster answers");
  ++first_;
  for (const bool connected : {true, false}) {
    for (size_t i = 0; i < servers_.size(); ++i) {
      Server& server = *servers_[(first_ + i) % servers_.size()];
      if (server.connection.has_value() != connected) continue;
      const int64_t begin = monotonic_ns();
      const int64_t end = begin + (deadline_ns - begin) / 2;
      if (!connected) {
        if (absl::Status status = connect(server, end); !status.ok()) {
          last = status;
          if (absl::IsPermissionDenied(status)) return status;
          continue;
        }
      }
      auto reply = server.connection->ask(command({"CLUSTER", "SLOTS"}), end);
      if (!reply.ok()) {
        server.connection.reset();
        last = reply.status();
        continue;
      }
      if (reply->is_error()) {
        last = refusal(server.endpoint.text(), *reply).status;
        continue;
      }
      auto ranges = parse_slots(*reply, server.endpoint);
      if (!ranges.ok() || ranges->empty()) {
        if (!ranges.ok()) last = ranges.status();
        continue;
      }
      learn(*ranges);
      return absl::OkStatus();
    }
  }
  return last;
}

void RedisLink::learn(const std::vector<SlotRange>& ranges) {
  slots_.assign(kSlots, nullptr);
  for (const SlotRange& range : ranges) {
    if (servers_.size() >= kMostServers) break;
    Server& server = server_at(range.master);
    for (int slot = range.first; slot <= range.last; ++slot) {
      slots_[static_cast<size_t>(slot)] = &server;
    }
  }
  // Those without a slot are forgotten, unless the URL names them.
  std::erase_if(servers_, [this](const std::unique_ptr<Server>& server) {
    const auto& seeds = url_.endpoints;
    return std::find(slots_.begin(), slots_.end(), server.get()) == slots_.end() &&
           std::find(seeds.begin(), seeds.end(), server->endpoint) == seeds.end();
  });
  stale_ = false;
}

std::vector<absl::StatusOr<Reply>> RedisLink::ask_all(std::string_view bytes, int64_t deadline_ns) {
  std::vector<absl::StatusOr<Reply>> answers;
  if (url_.kind == RedisUrl::Kind::kCluster && slots_.empty()) {
    if (absl::Status status = refresh(deadline_ns); !status.ok()) return {status};
  }
  for (const auto& server : servers_) {
    const bool master =
        slots_.empty() || std::find(slots_.begin(), slots_.end(), server.get()) != slots_.end();
    if (!master) continue;
    absl::Status status;
    if (!server->connection.has_value()) status = connect(*server, deadline_ns);
    if (!status.ok()) {
      answers.push_back(status);
      continue;
    }
    answers.push_back(server->connection->ask(bytes, deadline_ns));
    if (!answers.back().ok()) server->connection.reset();
  }
  return answers;
}

}  // namespace brim::tier
