// SPDX-License-Identifier: MIT
#include "serve.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

#include "cli.h"
#include "output.h"

namespace brim::tools {

namespace {

constexpr char kProgram[] = "brim-serve";

bool is_numeric(const std::string& address) {
  in6_addr bytes{};
  return inet_pton(AF_INET, address.c_str(), &bytes) == 1 ||
         inet_pton(AF_INET6, address.c_str(), &bytes) == 1;
}

bool is_loopback(const std::string& address) {
  in_addr bytes{};
  if (inet_pton(AF_INET, address.c_str(), &bytes) == 1) return ntohl(bytes.s_addr) >> 24 == 127;
  return address == "::1";
}

// Names of hosts are the same in any case.
std::string lower(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  return name;
}

// "host:port", "[address]:port", or either without a port. False if it is neither.
bool split_host(std::string_view text, std::string& host, std::string& port) {
  const bool bracketed = text.starts_with('[');
  const size_t end = bracketed ? text.find(']') : text.find(':');
  if (bracketed && end == std::string_view::npos) return false;
  host = text.substr(bracketed ? 1 : 0, bracketed ? end - 1 : end);
  if (!bracketed && end == std::string_view::npos) {
    port.clear();
    return true;
  }
  const std::string_view rest = text.substr(bracketed ? end + 1 : end);
  if (!rest.empty() && rest.front() != ':') return false;
  port = rest.empty() ? "" : rest.substr(1);
  return true;
}

bool parse_port(const std::string& text, int& port) {
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, port);
  return error == std::errc() && rest == end && !text.empty() && port >= 0 && port <= 65535;
}

// Beside this program, where a build leaves it; else where it is installed.
std::vector<std::string> program_paths() {
  std::string self(4096, '\0');
  const ssize_t size = readlink("/proc/self/exe", self.data(), self.size());
  std::vector<std::string> paths;
  if (size > 0 && static_cast<size_t>(size) < self.size()) {
    self.resize(static_cast<size_t>(size));
    paths.push_back(join(self.substr(0, self.rfind('/') + 1), kProgram));
  }
  paths.push_back(join(BRIM_LIBEXEC, "/", kProgram));
  return paths;
}

}  // namespace

absl::StatusOr<Listen> parse_listen(const std::string& text) {
  Listen listen;
  std::string port;
  const bool split = split_host(text, listen.address, port);
  if (split && listen.address == "localhost") listen.address = "127.0.0.1";
  if (!split || !parse_port(port, listen.port) || !is_numeric(listen.address)) {
    return absl::InvalidArgumentError(
        join("invalid_option: --listen is '", escape_text(text),
             "'; give an address and a port, such as 127.0.0.1:9464 or [::1]:9464"));
  }
  listen.loopback = is_loopback(listen.address);
  return listen;
}

bool host_is_ours(const std::string& host, const ServeArgs& args) {
  std::string name;
  std::string port;
  int number = 0;
  if (!split_host(host, name, port) || (!port.empty() && !parse_port(port, number))) return false;
  name = lower(std::move(name));
  if (name == "localhost" || name == "127.0.0.1" || name == "::1") return true;
  const auto is_it = [&name](const std::string& each) { return lower(each) == name; };
  if (std::any_of(args.hosts.begin(), args.hosts.end(), is_it)) return true;
  // No name that somebody could make lead here: numbers.
  if (args.allow_remote && is_numeric(name)) return true;
  const absl::StatusOr<Listen> listen = parse_listen(args.listen);
  return listen.ok() && name == listen->address;
}

void add_serve_command(Command& brim, int (*run)(const ServeArgs& args)) {
  const auto args = std::make_shared<ServeArgs>();
  Command command = brim.add("serve", "Show segments on a page, as JSON and as metrics, over HTTP");
  command.option("NAME", args->names, "Segments, by name or absolute path").required();
  command.option("--listen", args->listen,
                 "Address and port; port 0 takes a free one (default 127.0.0.1:9464)");
  command.flag("--metrics-only", args->metrics_only, "Answer only /metrics and /healthz");
  command.option("--host", args->hosts, "Answer requests for this host name, too; may be repeated");
  command.flag("--allow-remote", args->allow_remote,
               "Listen on an address that others can reach; whoever does may read all keys");
  command.trust(*args);
  command.footer(
      "Nothing can be changed through it. Ends on SIGTERM or SIGINT.\n"
      "Examples:\n"
      "  brim serve api\n"
      "  brim serve api login --listen 127.0.0.1:9465 --metrics-only\n"
      "  curl http://127.0.0.1:9464/api/api/keys.json?state=refused");
  command.action([args, run] { return run(*args); });
}

int start_server(const ServeArgs& args) {
  const absl::StatusOr<Listen> listen = parse_listen(args.listen);
  if (!listen.ok()) return report(listen.status());
  if (!listen->loopback && !args.allow_remote) {
    return report(absl::InvalidArgumentError(join(
        "listen_remote: --listen ", args.listen,
        " can be reached from other machines, and whoever reaches it may read all keys; give a "
        "loopback address, or --allow-remote")));
  }
  std::vector<std::string> words = {kProgram, "serve"};
  const auto add = [&words](const char* option, const std::string& value) {
    if (!value.empty()) words.push_back(join(option, "=", value));
  };
  add("--listen", args.listen);
  add("--owner", args.owner);
  add("--group", args.group);
  for (const std::string& host : args.hosts) add("--host", host);
  if (args.allow_remote) words.emplace_back("--allow-remote");
  if (args.metrics_only) words.emplace_back("--metrics-only");
  words.emplace_back("--");
  words.insert(words.end(), args.names.begin(), args.names.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  for (const std::string& path : program_paths()) {
    execv(path.c_str(), argv.data());
    if (errno != ENOENT) {
      complain(join("serve_missing: ", path, ": ", std::strerror(errno)));
      return kExitFailure;
    }
  }
  complain(join("serve_missing: the program ", kProgram,
                " is neither beside brim nor in " BRIM_LIBEXEC
                "; build brim with -Dserve=enabled, or install it"));
  return kExitFailure;
}

}  // namespace brim::tools
