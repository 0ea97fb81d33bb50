// SPDX-License-Identifier: MIT
#include "worker.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string_view>

#include "brim/limiter.h"
#include "fields.h"

namespace example {

namespace {

constexpr int kTooManyRequests = 429;
constexpr int kIdleSeconds = 30;
constexpr int kMaxHeaderBytes = 16384;
constexpr int kMaxBodyBytes = 4096;

template <auto kFree>
struct Deleter {
  template <class T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using EventBase = std::unique_ptr<event_base, Deleter<event_base_free>>;
using Event = std::unique_ptr<event, Deleter<event_free>>;
using Http = std::unique_ptr<evhttp, Deleter<evhttp_free>>;

int fail(const char* what) {
  std::fprintf(stderr, "worker %d: %s failed\n", getpid(), what);
  return 1;
}

struct Server {
  const WorkerConfig& config;
  brim::PolicyHandle policy;
  std::string policy_field;
};

void add_field(evhttp_request* request, const char* name, const std::string& value) {
  evhttp_add_header(evhttp_request_get_output_headers(request), name, value.c_str());
}

void reply(evhttp_request* request, int code, const char* reason, const char* type,
           const std::string& body) {
  add_field(request, "Content-Type", type);
  if (evhttp_request_get_command(request) == EVHTTP_REQ_HEAD) {  // evhttp would send the body
    add_field(request, "Content-Length", std::to_string(body.size()));
  } else {
    evbuffer_add(evhttp_request_get_output_buffer(request), body.data(), body.size());
  }
  evhttp_send_reply(request, code, reason, nullptr);
}

void reply_problem(evhttp_request* request, int code, const char* title, const char* type,
                   const std::string& members) {
  reply(request, code, title, "application/problem+json",
        std::string("{\"type\":\"") + type + "\",\"title\":\"" + title +
            "\",\"status\":" + std::to_string(code) + members + "}\n");
}

// The name that this request is counted under. Behind a proxy an address must come from a header
// that the proxy sets; an API key should be checked before it is counted.
std::optional<std::string_view> client_key(evhttp_request* request, const WorkerConfig& config) {
  const char* key = nullptr;
  if (config.key_header.empty()) {
    char* address = nullptr;
    uint16_t port = 0;
    evhttp_connection_get_peer(evhttp_request_get_connection(request), &address, &port);
    key = address;
  } else {
    key = evhttp_find_header(evhttp_request_get_input_headers(request), config.key_header.c_str());
  }
  if (key == nullptr || *key == '\0') return std::nullopt;
  return key;
}

void answer_limited(evhttp_request* request, const Server& server) {
  const std::optional<std::string_view> key = client_key(request, server.config);
  if (!key) {
    reply_problem(request, HTTP_BADREQUEST, "Missing Key", "about:blank",
                  ",\"detail\":\"send the header " + server.config.key_header + "\"");
    return;
  }
  // All of it: one call decides, and every field below comes from its answer.
  const brim::Decision decision = server.policy.try_acquire(*key);

  const std::string& name = server.config.policy_name;
  add_field(request, "RateLimit-Policy", server.policy_field);
  if (const auto field = limit_field(name, decision)) add_field(request, "RateLimit", *field);
  if (decision.allowed()) {
    reply(request, HTTP_OK, "OK", "text/plain", "ok\n");
    return;
  }
  if (decision.verdict == brim::Verdict::kUnavailable) {  // the policy says on-unavailable deny
    reply_problem(request, HTTP_SERVUNAVAIL, "Service Unavailable", "about:blank", "");
    return;
  }
  if (const auto seconds = retry_after_seconds(decision)) {
    add_field(request, "Retry-After", std::to_string(*seconds));
  }
  reply_problem(request, kTooManyRequests, "Too Many Requests",
                "https://iana.org/assignments/http-problem-types#quota-exceeded",
                ",\"violated-policies\":[\"" + name + "\"]");
}

void on_request(evhttp_request* request, void* context) {
  const Server& server = *static_cast<const Server*>(context);
  const evhttp_uri* const uri = evhttp_request_get_evhttp_uri(request);
  const char* const raw = uri == nullptr ? nullptr : evhttp_uri_get_path(uri);
  const std::string_view path = raw == nullptr ? "" : raw;
  if (path == "/") {
    answer_limited(request, server);
  } else if (path == "/pid") {  // not limited
    reply(request, HTTP_OK, "OK", "text/plain", std::to_string(getpid()) + "\n");
  } else {
    reply_problem(request, HTTP_NOTFOUND, "Not Found", "about:blank", "");
  }
}

// Lets replies that are on their way leave, then ends the loop.
void on_stop(evutil_socket_t, short, void* context) {
  const timeval grace = {0, 100000};
  event_base_loopexit(static_cast<event_base*>(context), &grace);
}

}  // namespace

int run_worker(const WorkerConfig& config, const std::function<void()>& ready) {
  // Attach the segment that all workers share; the first one to come creates it.
  brim::Options options{.policies = {{config.policy_name, config.policy_text}}};
  options.group = config.group;
  if (!config.group.empty()) options.mode = 0660;
  auto limiter = brim::Limiter::open(config.segment, options);
  if (!limiter.ok()) {
    std::fprintf(stderr, "worker %d: can not open the limiter: %s\n", getpid(),
                 limiter.status().ToString().c_str());
    return 1;
  }
  auto policy = limiter->policy(config.policy_name);
  if (!policy.ok()) {
    std::fprintf(stderr, "worker %d: %s\n", getpid(), policy.status().ToString().c_str());
    return 1;
  }

  const EventBase base(event_base_new());
  if (base == nullptr) return fail("event_base_new");
  const Event stop(evsignal_new(base.get(), SIGTERM, on_stop, base.get()));
  if (stop == nullptr || event_add(stop.get(), nullptr) != 0) return fail("evsignal_new");

  const Http http(evhttp_new(base.get()));
  if (http == nullptr) return fail("evhttp_new");
  Server server{config, *policy, policy_field(config.policy_name, policy->policy())};
  evhttp_set_allowed_methods(http.get(), EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
  evhttp_set_timeout(http.get(), kIdleSeconds);
  evhttp_set_max_headers_size(http.get(), kMaxHeaderBytes);
  evhttp_set_max_body_size(http.get(), kMaxBodyBytes);
  evhttp_set_gencb(http.get(), on_request, &server);
  if (evhttp_accept_socket(http.get(), config.listen_fd) != 0) return fail("evhttp_accept_socket");

  ready();
  return event_base_dispatch(base.get()) < 0 ? fail("event_base_dispatch") : 0;
}

}  // namespace example
