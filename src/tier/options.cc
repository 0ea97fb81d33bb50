// SPDX-License-Identifier: MIT
#include "src/tier/options.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "src/base/text.h"

namespace brim::tier {

namespace {

constexpr size_t kMostPassword = 4096;

absl::Status bad_time(const char* name, int64_t value, int64_t least, int64_t most) {
  return absl::InvalidArgumentError(
      cat("invalid_option: ", name, " is ", value, " ns; give from ", least, " to ", most));
}

absl::StatusOr<std::string> read_file(const std::string& path) {
  const auto failed = [&](const char* why) {
    return absl::PermissionDeniedError(cat("tier_password: ", shown_path(path), ": ", why,
                                           "; give a file that this user may read"));
  };
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return failed(strerror(errno));
  std::string text(kMostPassword + 1, '\0');
  const ssize_t size = read(fd, text.data(), text.size());
  close(fd);
  if (size < 0) return failed(strerror(errno));
  if (static_cast<size_t>(size) > kMostPassword) return failed("too large for a password");
  text.resize(static_cast<size_t>(size));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

absl::StatusOr<std::string> password_of(const std::string& given) {
  if (given.starts_with("file:")) return read_file(given.substr(5));
  if (!given.starts_with("env:")) return given;
  const char* const value = getenv(given.c_str() + 4);
  if (value != nullptr) return std::string(value);
  return absl::InvalidArgumentError(
      cat("tier_password: no environment variable '", printable(given.substr(4)), "'"));
}

}  // namespace

absl::Status check(const TierOptions& options) {
  constexpr int64_t kMs = 1000000;
  constexpr int64_t kHour = 3600000 * kMs;
  const struct {
    const char* name;
    int64_t value, least, most;
  } times[] = {{"interval_ns", options.interval_ns, kMs, 60000 * kMs},
               {"timeout_ns", options.timeout_ns, options.timeout_ns == 0 ? 0 : kMs, 60000 * kMs},
               {"hold_ns", options.hold_ns, 0, 24 * kHour},
               {"forget_ns", options.forget_ns, 1000 * kMs, 24 * kHour}};
  for (const auto& time : times) {
    if (time.value < time.least || time.value > time.most) {
      return bad_time(time.name, time.value, time.least, time.most);
    }
  }
  uint64_t secret[2];
  if (!options.secret.empty() && !parse_secret(options.secret, secret)) {
    return absl::InvalidArgumentError(
        "invalid_option: secret is not 32 hexadecimal digits; openssl rand -hex 16 makes one");
  }
  if (options.share_ppm > 1000000) {
    return absl::InvalidArgumentError(cat("invalid_option: share_ppm is ", options.share_ppm,
                                          "; give at most 1000000 parts per million"));
  }
  if (options.attach.clock == ClockKind::kManual) {
    return absl::InvalidArgumentError("invalid_option: a tier needs a clock that runs by itself");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Store>> open_store_of(const TierOptions& options,
                                                     std::string_view uuid) {
  auto password = password_of(options.password);
  if (!password.ok()) return password.status();
  StoreOptions store;
  store.url = options.url;
  store.prefix = options.prefix;
  store.node = uuid;
  store.user = options.user;
  store.password = *password;
  store.ca_file = options.ca_file;
  store.cert_file = options.cert_file;
  store.key_file = options.key_file;
  store.insecure = options.insecure;
  auto opened = open_store(store);
  explicit_bzero(password->data(), password->size());
  explicit_bzero(store.password.data(), store.password.size());
  return opened;
}

bool parse_secret(std::string_view digits, uint64_t secret[2]) {
  if (digits.size() != 32) return false;
  for (size_t i = 0; i < 2; ++i) {
    const char* const from = digits.data() + 16 * i;
    const auto [end, error] = std::from_chars(from, from + 16, secret[i], 16);
    if (error != std::errc() || end != from + 16) return false;
  }
  return true;
}

uint64_t random_seed() {
  uint64_t seed = static_cast<uint64_t>(getpid());
  fill_random(&seed, sizeof(seed));
  return seed;
}

std::string node_name(const TierOptions& options, std::string_view segment) {
  if (!options.node_name.empty()) return options.node_name;
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  return cat(host, ":", segment);
}

std::string shown_store(std::string_view url) {
  url = url.substr(0, url.find('?'));
  const size_t scheme = url.find("://");
  if (scheme == std::string_view::npos) return "?";
  const size_t at = url.rfind('@');
  const size_t host = at == std::string_view::npos ? scheme + 3 : at + 1;
  return cat(url.substr(0, scheme + 3), printable(url.substr(host), 160));
}

}  // namespace brim::tier
