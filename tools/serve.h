// SPDX-License-Identifier: MIT
// serve: a read-only page, JSON and metrics over HTTP. The command checks its words and becomes the
// program brim-serve, so that only this one loads the HTTP library and what that needs.
#ifndef BRIM_TOOLS_SERVE_H_
#define BRIM_TOOLS_SERVE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace brim::tools {

class Command;

struct ServeArgs {
  std::vector<std::string> names;
  std::string listen = "127.0.0.1:9464";
  std::vector<std::string> hosts;
  bool allow_remote = false;
  bool metrics_only = false;
  std::string owner;
  std::string group;
};

// Where to listen: a numeric address and a port, 0 for any that is free.
struct Listen {
  std::string address;  // without brackets
  int port = 0;
  bool loopback = true;
};
absl::StatusOr<Listen> parse_listen(const std::string& text);

// May a request that names `host` in its Host header be answered? A page of another site can make
// a browser send requests here under that site's name (DNS rebinding), never under one of these.
bool host_is_ours(const std::string& host, const ServeArgs& args);

// Describes the command; `run` gets its options.
void add_serve_command(Command& brim, int (*run)(const ServeArgs& args));
// Becomes brim-serve.
int start_server(const ServeArgs& args);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_SERVE_H_
