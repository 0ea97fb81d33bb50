// SPDX-License-Identifier: MIT
// A prefork HTTP server with one rate limit over all of its workers.
//
//   prefork_server --segment api --policy 'per_key=100/m burst 20' --workers 4 --port 8080
//                  --key header:X-API-Key
//
// The parent binds a socket on loopback and forks the workers, which share it. Each worker opens
// the segment by its name and answers GET / with 200, or 429 with Retry-After; GET /pid tells
// which worker answers. A worker that dies, even by SIGKILL in the middle of a request, is
// replaced, and the counts go on: they live in the segment, not in a process.
#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "supervisor.h"
#include "worker.h"

namespace {

constexpr int kUsageError = 2;
constexpr unsigned kMaxWorkers = 256;
constexpr int kBacklog = 512;

constexpr char kUsage[] =
    "usage: prefork_server --segment NAME --policy NAME=TEXT [options]\n"
    "  --segment NAME      the shared segment; created if there is none\n"
    "  --policy NAME=TEXT  for example 'per_key=100/m burst 20'\n"
    "  --workers N         worker processes, 1 to 256 (4)\n"
    "  --port P            on 127.0.0.1; 0 takes a free one (0)\n"
    "  --key addr          count by client address (this is the default)\n"
    "  --key header:NAME   count by a request header, for example header:X-API-Key\n"
    "  --group GROUP       the group that the segment was made for (brim create --group)\n"
    "Prints 'listening on 127.0.0.1:PORT' when all workers serve. SIGTERM or SIGINT ends it.\n";

struct Settings {
  example::WorkerConfig worker;
  unsigned workers = 4;
  uint16_t port = 0;
  bool help = false;
};

template <class T>
bool read_number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

bool read_policy(std::string_view text, example::WorkerConfig& worker) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) return false;
  worker.policy_name = text.substr(0, equals);
  worker.policy_text = text.substr(equals + 1);
  return true;
}

bool read_key(std::string_view text, example::WorkerConfig& worker) {
  constexpr std::string_view kHeader = "header:";
  worker.key_header.clear();
  if (text == "addr") return true;
  if (!text.starts_with(kHeader) || text.size() == kHeader.size()) return false;
  worker.key_header = text.substr(kHeader.size());
  return true;
}

bool read_option(int option, std::string_view value, Settings& settings) {
  switch (option) {
    case 's':
      settings.worker.segment = value;
      return !value.empty();
    case 'p':
      return read_policy(value, settings.worker);
    case 'w':
      return read_number(value, settings.workers) && settings.workers >= 1 &&
             settings.workers <= kMaxWorkers;
    case 'P':
      return read_number(value, settings.port);
    case 'k':
      return read_key(value, settings.worker);
    case 'g':
      settings.worker.group = value;
      return !value.empty();
    default:
      return false;
  }
}

std::optional<Settings> read_options(int argc, char** argv) {
  const option options[] = {
      {"segment", required_argument, nullptr, 's'}, {"policy", required_argument, nullptr, 'p'},
      {"workers", required_argument, nullptr, 'w'}, {"port", required_argument, nullptr, 'P'},
      {"key", required_argument, nullptr, 'k'},     {"group", required_argument, nullptr, 'g'},
      {"help", no_argument, nullptr, 'h'},          {nullptr, 0, nullptr, 0}};
  Settings settings;
  int index = 0;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread
  for (int c = 0; (c = getopt_long(argc, argv, "h", options, &index)) != -1;) {
    if (c == 'h') {
      settings.help = true;
      return settings;
    }
    if (c == '?') return std::nullopt;  // getopt_long has said why
    if (!read_option(c, optarg, settings)) {
      std::fprintf(stderr, "prefork_server: --%s: can not use '%s'\n", options[index].name, optarg);
      return std::nullopt;
    }
  }
  if (optind == argc && !settings.worker.segment.empty() && !settings.worker.policy_name.empty()) {
    return settings;
  }
  std::fprintf(stderr, "prefork_server: give --segment and --policy, and nothing but options\n");
  return std::nullopt;
}

// A listening socket on 127.0.0.1; sets `port` to the one it got. -1 after saying what failed.
int listen_on_loopback(uint16_t& port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(fd, generic, size) != 0 || listen(fd, kBacklog) != 0 ||
      getsockname(fd, generic, &size) != 0) {
    std::fprintf(stderr, "prefork_server: 127.0.0.1:%u: ", port);
    std::perror(nullptr);
    if (fd >= 0) close(fd);
    return -1;
  }
  port = ntohs(address.sin_port);
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  std::optional<Settings> settings = read_options(argc, argv);
  if (!settings) {
    std::fputs(kUsage, stderr);
    return kUsageError;
  }
  if (settings->help) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  example::WorkerConfig& worker = settings->worker;
  worker.listen_fd = listen_on_loopback(settings->port);
  if (worker.listen_fd < 0) return 1;
  example::Supervisor supervisor(
      settings->workers, [&](const auto& ready) { return example::run_worker(worker, ready); });
  return supervisor.run([&] {
    std::printf("listening on 127.0.0.1:%u\n", settings->port);
    std::fflush(stdout);
  });
}
