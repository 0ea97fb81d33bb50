// SPDX-License-Identifier: MIT
#include "serve_site.h"

#include <serve_page.h>

#include <algorithm>

#include "output.h"

namespace brim::tools {

namespace {

constexpr char kJson[] = "application/json";

WebAnswer fail(int status, std::string_view error, std::string_view message) {
  JsonWriter json;
  json.begin('{').field("version", 1).field("error", error).field("message", message);
  return {status, kJson, json.end('}').take() + "\n"};
}

WebAnswer fail(const absl::Status& status) {
  const absl::string_view message = status.message();
  return fail(status_name(status) == "segment_not_found" ? 404 : 503, status_name(status),
              std::string_view(message.data(), message.size()));
}

WebAnswer tell(const absl::StatusOr<std::string>& json) {
  return json.ok() ? WebAnswer{200, kJson, *json} : fail(json.status());
}

WebAnswer tell(const Shared<std::string>& json) {
  return json.ok() ? WebAnswer{200, kJson, **json} : fail(json.status());
}

std::optional<WebAnswer> page(const std::string& path) {
  if (path == "/favicon.ico") return WebAnswer{204, nullptr, ""};
  if (path == "/") return WebAnswer{200, "text/html; charset=utf-8", kPageHtml};
  if (path == "/page.js") return WebAnswer{200, "text/javascript; charset=utf-8", kPageScript};
  if (path == "/page.css") return WebAnswer{200, "text/css; charset=utf-8", kPageStyle};
  return std::nullopt;
}

WebAnswer keys(Served& served, bool hot, const WebRequest& request) {
  constexpr std::pair<std::string_view, KeyOrder> kStates[] = {
      {"refused", KeyOrder::kRefused}, {"near", KeyOrder::kNear}, {"live", KeyOrder::kLive}};
  const auto* const order =
      std::find_if(std::begin(kStates), std::end(kStates),
                   [&](const auto& each) { return each.first == request.state; });
  const absl::StatusOr<uint64_t> limit = parse_count("limit", request.limit, 1, Served::kMostKeys);
  if (!limit.ok() || order == std::end(kStates)) {
    return fail(400, "invalid_option",
                join("give state=refused, near or live, and limit=1 to ", Served::kMostKeys));
  }
  return tell(hot ? served.hot(*limit) : served.keys(order->second, *limit));
}

std::optional<WebAnswer> part(Served& served, const std::string& what, const WebRequest& request) {
  if (what == "info.json") return tell(served.info());
  if (what == "policies.json") return tell(served.policies());
  if (what == "attached.json") return tell(served.attached());
  if (what == "keys.json" || what == "hot.json") return keys(served, what == "hot.json", request);
  return std::nullopt;
}

}  // namespace

Site::Site(const ServeArgs& args, const Options& options) : args_(args) {
  for (const std::string& name : each_once(args.names)) {
    served_.push_back(std::make_unique<Served>(name, options));
  }
}

WebAnswer Site::answer(const WebRequest& request) {
  if (!request.get) {
    return fail(405, "method_unknown", "this server only tells: GET or HEAD");
  }
  if (!request.host.has_value() || !host_is_ours(*request.host, args_)) {
    return fail(421, "host_unknown", "not the name of this server; see --host");
  }
  // With a browser's help, but not with its user's.
  if (request.other_site && request.path != "/") {
    return fail(403, "cross_site", "not for pages of other sites");
  }
  if (request.path == "/metrics") return metrics();
  if (request.path == "/healthz") return {200, "text/plain; charset=utf-8", "ok\n"};
  std::optional<WebAnswer> answer;
  if (!args_.metrics_only) answer = page(request.path);
  if (!args_.metrics_only && !answer.has_value()) answer = api(request);
  return answer.has_value() ? *answer : fail(404, "not_found", "no such path");
}

WebAnswer Site::metrics() {
  std::vector<std::string> names;
  std::vector<Reading> readings;
  for (const std::unique_ptr<Served>& each : served_) {
    names.push_back(each->name());
    if (const Shared<Reading> reading = each->reading(); reading.ok()) {
      readings.push_back(**reading);
    }
  }
  return {200, "text/plain; version=0.0.4; charset=utf-8", metrics_text(names, readings)};
}

WebAnswer Site::segments() {
  JsonWriter json;
  json.begin('{').field("version", 1).field("brim", BRIM_VERSION).name("segments").begin('[');
  for (const std::unique_ptr<Served>& each : served_) {
    const absl::Status status = each->policies().status();
    json.line().begin('{').field("name", each->name());
    json.field("status", status.ok() ? "ok" : status_name(status)).end('}');
  }
  return {200, kJson, json.line().end(']').end('}').take() + "\n"};
}

// "/api/NAME/what.json"; the name may hold slashes.
std::optional<WebAnswer> Site::api(const WebRequest& request) {
  if (request.path == "/api/segments.json") return segments();
  for (const std::unique_ptr<Served>& each : served_) {
    for (const std::string& name : {each->name(), escape_text(each->name())}) {
      const std::string prefix = join("/api/", name, "/");
      if (!request.path.starts_with(prefix)) continue;
      std::optional<WebAnswer> answer = part(*each, request.path.substr(prefix.size()), request);
      if (answer.has_value()) return answer;
    }
  }
  return std::nullopt;
}

}  // namespace brim::tools
