// SPDX-License-Identifier: MIT
// What brim serve answers to a request: from its path and two parameters, and no file.
#ifndef BRIM_TOOLS_SERVE_SITE_H_
#define BRIM_TOOLS_SERVE_SITE_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "serve.h"
#include "serve_data.h"

namespace brim::tools {

struct WebRequest {
  bool get = false;  // or HEAD
  std::string path;  // decoded
  std::optional<std::string> host;
  bool other_site = false;  // a browser says that another site's page asks
  std::string state = "refused";
  std::string limit = "50";
};

struct WebAnswer {
  int status = 200;
  const char* type = nullptr;
  std::string body;
};

// Of every answer: no script and no style but the page's own, no frame, nothing kept.
inline constexpr std::pair<const char*, const char*> kGuardHeaders[] = {
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
     "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
    {"X-Content-Type-Options", "nosniff"},
    {"Cache-Control", "no-store"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Resource-Policy", "same-origin"}};

// For any thread.
class Site {
 public:
  Site(const ServeArgs& args, const Options& options);
  WebAnswer answer(const WebRequest& request);

 private:
  WebAnswer metrics();
  WebAnswer segments();
  std::optional<WebAnswer> api(const WebRequest& request);

  const ServeArgs& args_;
  std::vector<std::unique_ptr<Served>> served_;
};

}  // namespace brim::tools

#endif  // BRIM_TOOLS_SERVE_SITE_H_
