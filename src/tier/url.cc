// SPDX-License-Identifier: MIT
#include "src/tier/url.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "src/base/text.h"

namespace brim::tier {

namespace {

constexpr size_t kMostHosts = 64;
constexpr uint16_t kPort = 6379;
constexpr uint16_t kSentinelPort = 26379;

absl::Status url_error(std::string_view what) {
  return absl::InvalidArgumentError(
      cat("tier_url: ", what,
          "; expected redis://[user:password@]host:port/db, rediss://, "
          "unix:///path?db=N, hosts with ?sentinel_master=NAME, or several hosts (cluster)"));
}

// The part before `end`, which is taken off with it; all if there is none.
std::string_view take_until(std::string_view& text, char end) {
  const size_t at = text.find(end);
  const std::string_view part = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return part;
}

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = digit_of(text[i + 1]);
    const int low = digit_of(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

std::optional<uint32_t> number(std::string_view text, uint32_t most) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > most) return {};
  return value;
}

bool is_host(std::string_view text) {
  return !text.empty() && text.size() <= 255 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' ||
           c == '-' || c == '_' || c == ':';
  });
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

// HOST, HOST:PORT, [V6] or [V6]:PORT; `index` counts from 1.
absl::Status add_host(RedisUrl& url, std::string_view text, size_t index) {
  std::string_view host = text;
  std::string_view port;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return url_error(cat("host ", index, ": '[' without ']'"));
    host = text.substr(1, end - 1);
    port = text.substr(end + 1);
    if (!port.empty() && port[0] != ':') {
      return url_error(cat("host ", index, ": more after ']' than a port"));
    }
  } else if (const size_t colon = text.find(':'); colon != std::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon);
    if (port.find(':', 1) != std::string_view::npos) {
      return url_error(cat("host ", index, ": several ':'; an IPv6 address is in brackets"));
    }
  }
  if (host.empty()) return url_error(cat("host ", index, " is empty"));
  if (!is_host(host)) return url_error(cat("host ", index, ": no name or address of a host"));
  Endpoint endpoint{std::string(host), kPort};
  if (url.kind == RedisUrl::Kind::kSentinel) endpoint.port = kSentinelPort;
  if (!port.empty()) {
    const auto value = number(port.substr(1), 65535);
    if (!value || *value == 0) {
      return url_error(cat("host ", index, ": the port is not a number from 1 to 65535"));
    }
    endpoint.port = static_cast<uint16_t>(*value);
  }
  url.endpoints.push_back(std::move(endpoint));
  return absl::OkStatus();
}

absl::Status add_login(RedisUrl& url, std::string_view text) {
  const auto user = decoded(take_until(text, ':'));
  auto password = decoded(text);
  if (!user || !password) return url_error("before '@': a '%' without two hex digits after it");
  url.user = *user;
  url.password = Secret(*password);
  wipe(*password);
  return absl::OkStatus();
}

absl::Status set_db(RedisUrl& url, std::string_view text) {
  const auto value = number(text, 65535);
  if (!value) return url_error("the database is not a number from 0 to 65535");
  url.db = *value;
  return absl::OkStatus();
}

absl::Status add_parameter(RedisUrl& url, std::string_view text, bool& cluster) {
  const std::string_view name = take_until(text, '=');
  auto value = decoded(text);
  if (!value) return url_error("after '?': a '%' without two hex digits after it");
  if (name == "db") return set_db(url, *value);
  if (name == "cluster" && (*value == "1" || *value == "0")) {
    cluster = *value == "1";
  } else if (name == "sentinel_master") {
    if (value->empty() || has_control(*value)) return url_error("sentinel_master is no name");
    url.sentinel_master = *value;
    url.kind = RedisUrl::Kind::kSentinel;
  } else if (name == "sentinel_password") {
    url.sentinel_password = Secret(*value);
    wipe(*value);
  } else {
    return url_error(
        "after '?': not one of db=N, cluster=1, sentinel_master=NAME, "
        "sentinel_password=PASSWORD");
  }
  return absl::OkStatus();
}

absl::Status add_path(RedisUrl& url, std::string_view path) {
  const auto name = decoded(path);
  if (!name || name->size() < 2 || has_control(*name)) return url_error("no path of a socket");
  url.endpoints.push_back({*name, 0});
  return absl::OkStatus();
}

absl::Status add_hosts(RedisUrl& url, std::string_view hosts) {
  if (hosts.empty()) return url_error("no host");
  if (hosts.ends_with(',')) return url_error("a ',' with no host after it");
  for (size_t index = 1; !hosts.empty(); ++index) {
    if (index > kMostHosts) return url_error(cat("more than ", kMostHosts, " hosts"));
    if (absl::Status status = add_host(url, take_until(hosts, ','), index); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string Endpoint::text() const {
  if (port == 0) return shown_path(host);
  const bool v6 = host.find(':') != std::string::npos;
  return cat(v6 ? "[" : "", printable(host, 255), v6 ? "]:" : ":", port);
}

absl::StatusOr<RedisUrl> parse_url(std::string_view text) {
  RedisUrl url;
  const size_t colon = text.find("://");
  const std::string_view scheme = text.substr(0, colon);
  const bool local = scheme == "unix";
  url.tls = scheme == "rediss";
  if (colon == std::string_view::npos || (!local && !url.tls && scheme != "redis")) {
    return url_error("begins with none of redis://, rediss:// and unix://");
  }
  text.remove_prefix(colon + 3);
  if (text.find('#') != std::string_view::npos) return url_error("a '#': write it as %23");

  const size_t question = text.find('?');
  std::string_view query = question == std::string_view::npos ? "" : text.substr(question + 1);
  std::string_view rest = text.substr(0, question);
  const size_t slash = rest.find('/');
  const std::string_view path = slash == std::string_view::npos ? "" : rest.substr(slash);
  std::string_view authority = rest.substr(0, slash);
  if (path.find('@') != std::string_view::npos || query.find('@') != std::string_view::npos) {
    return url_error("an '@' behind '/' or '?': in a password these are written %2F, %3F, %40");
  }
  if (const size_t at = authority.rfind('@'); at != std::string_view::npos) {
    if (absl::Status status = add_login(url, authority.substr(0, at)); !status.ok()) return status;
    authority.remove_prefix(at + 1);
  }
  bool cluster = false;
  while (!query.empty()) {
    const absl::Status status = add_parameter(url, take_until(query, '&'), cluster);
    if (!status.ok()) return status;
  }
  if (local) {
    if (!authority.empty()) return url_error("a unix socket has no host: unix:///path");
    if (url.kind != RedisUrl::Kind::kSingle || cluster) {
      return url_error("a unix socket leads to one server, not to Sentinel or Cluster");
    }
    if (absl::Status status = add_path(url, path); !status.ok()) return status;
    return url;
  }
  if (path.size() > 1) {
    if (absl::Status status = set_db(url, path.substr(1)); !status.ok()) return status;
  }
  if (absl::Status status = add_hosts(url, authority); !status.ok()) return status;
  if (url.kind == RedisUrl::Kind::kSentinel) {
    if (cluster) return url_error("either sentinel_master or cluster=1");
    return url;
  }
  if (!url.sentinel_password.empty()) return url_error("sentinel_password needs sentinel_master");
  if (cluster || url.endpoints.size() > 1) url.kind = RedisUrl::Kind::kCluster;
  if (url.kind == RedisUrl::Kind::kCluster && url.db != 0) {
    return url_error("a cluster has only database 0");
  }
  return url;
}

}  // namespace brim::tier
