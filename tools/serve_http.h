// SPDX-License-Identifier: MIT
// The HTTP side of brim serve. Only serve_http.cc knows the HTTP library.
#ifndef BRIM_TOOLS_SERVE_HTTP_H_
#define BRIM_TOOLS_SERVE_HTTP_H_

#include "serve.h"

namespace brim::tools {

// Serves until SIGTERM or SIGINT.
int run_server(const ServeArgs& args);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_SERVE_HTTP_H_
