// SPDX-License-Identifier: MIT
#include "src/tier/redis_link.h"

#include <algorithm>
#include <utility>

#include "src/base/text.h"
#include "src/tier/redis_slots.h"
#include "src/tier/wait.h"

namespace brim::tier {

namespace {

constexpr int kMostRounds = 24;
constexpr int kMostRedirects = 5;
constexpr int64_t kFirstPause = 4000000;
constexpr int kMostPauses = 7;  // 4, 8, ... 256 ms

void fail(Call& call, absl::Status status, Call::Again again) {
  call.status = std::move(status);
  call.again = again;
}

}  // namespace

RedisLink::RedisLink(RedisUrl url, TlsOptions tls, int64_t connect_timeout_ns)
    : url_(std::move(url)), connect_timeout_ns_(connect_timeout_ns) {
  dialer_.tls = url_.tls;
  dialer_.tls_options = std::move(tls);
  dialer_.counts = &counts_;
  if (url_.kind == RedisUrl::Kind::kCluster) return;
  servers_.push_back(std::make_unique<Server>());
  servers_[0]->endpoint = url_.endpoints[0];
}

void RedisLink::drop_all() {
  for (const auto& server : servers_) server->connection.reset();
  dialer_.resolver.forget();
}

void RedisLink::run(std::span<Call> calls, int64_t deadline_ns) {
  std::vector<Call*> left;
  for (Call& call : calls) left.push_back(&call);
  int pauses = 0;
  for (int round = 0; round < kMostRounds && !left.empty(); ++round) {
    left = deliver(left, deadline_ns);
    if (monotonic_ns() >= deadline_ns) return;
    if (std::any_of(left.begin(), left.end(),
                    [](const Call* call) { return call->again == Call::Again::kLater; })) {
      if (++pauses > kMostPauses) return;
      const int64_t end = monotonic_ns() + (kFirstPause << (pauses - 1));
      wait_for({}, std::min(end, deadline_ns));
      if (monotonic_ns() >= deadline_ns) return;
    }
    if (stale_ && !left.empty()) refresh(deadline_ns).IgnoreError();
  }
}

// One round; returns the calls that are to be made again.
std::vector<Call*> RedisLink::deliver(std::vector<Call*>& calls, int64_t deadline_ns) {
  absl::Status unknown_map;
  if (url_.kind == RedisUrl::Kind::kCluster && slots_.empty()) unknown_map = refresh(deadline_ns);
  std::vector<Batch> batches;
  for (Call* const call : calls) {
    call->again = Call::Again::kNo;
    Server* const server = route(*call);
    if (server == nullptr) {
      stale_ = true;
      const bool denied = absl::IsPermissionDenied(unknown_map);
      fail(*call,
           !unknown_map.ok() ? unknown_map
                             : absl::UnavailableError("tier_cluster_down: no node has the key's "
                                                      "slot; look at CLUSTER INFO of its nodes"),
           denied ? Call::Again::kNo : Call::Again::kLater);
      continue;
    }
    auto batch = std::find_if(batches.begin(), batches.end(),
                              [server](const Batch& one) { return one.server == server; });
    if (batch == batches.end()) batch = batches.insert(batches.end(), Batch{server, {}});
    batch->calls.push_back(call);
  }
  // First those that are connected: the others may take their time.
  for (Batch& batch : batches) {
    auto& connection = batch.server->connection;
    if (connection.has_value() && !connection->is_idle()) connection.reset();
    if (connection.has_value()) send(batch);
  }
  for (Batch& batch : batches) {
    if (batch.server->connection.has_value() || batch.answered == batch.calls.size()) continue;
    // Half of the time is left to those that were sent before.
    const int64_t now = monotonic_ns();
    const int64_t end = batches.size() == 1 ? deadline_ns : now + (deadline_ns - now) / 2;
    const absl::Status status = connect(*batch.server, end);
    if (status.ok()) {
      send(batch);
    } else {
      not_connected(batch, status);
    }
  }
  wait_for_answers(batches, deadline_ns);
  std::vector<Call*> again;
  for (Call* const call : calls) {
    if (call->again != Call::Again::kNo) again.push_back(call);
  }
  return again;
}

RedisLink::Server* RedisLink::route(const Call& call) {
  if (url_.kind != RedisUrl::Kind::kCluster) return servers_[0].get();
  if (call.ask.has_value()) return &server_at(*call.ask);
  return slots_.empty() ? nullptr : slots_[call.slot];
}

void RedisLink::send(Batch& batch) {
  Connection& connection = *batch.server->connection;
  const Script* loaded = nullptr;  // what goes before is done before: the source is sent once
  for (Call* const call : batch.calls) {
    std::string head;
    if (call->ask.has_value()) head = command({"ASKING"});
    if (call->script == nullptr) {
      append_head(head, call->words);
    } else {
      append_head(head, call->words + 2);
      const bool load = call->load && loaded != call->script;
      append_word(head, load ? "EVAL" : "EVALSHA");
      append_word(head, load ? std::string_view(call->script->source) : call->script->sha);
      if (load) {
        loaded = call->script;
        ++counts_.reloads;
      }
    }
    connection.queue(head);
    connection.queue(call->bytes);
    call->end = connection.queued();
  }
  batch.asking = batch.calls[0]->ask.has_value();
  ++counts_.calls;
  connection.pump().IgnoreError();  // written before the next server's; an error shows again
}

void RedisLink::wait_for_answers(std::vector<Batch>& batches, int64_t deadline_ns) {
  std::vector<pollfd> ready;
  for (bool late = false;; late = late || monotonic_ns() >= deadline_ns) {
    ready.clear();
    bool more = false;
    for (Batch& batch : batches) {
      if (!batch.server->connection.has_value() || batch.answered == batch.calls.size()) continue;
      Connection& connection = *batch.server->connection;
      const absl::Status status = connection.pump();
      if (!take_answers(batch)) continue;
      if (!status.ok()) {
        broken(batch, status);
      } else if (late) {
        broken(batch, absl::UnavailableError(
                          cat("tier_timeout: ", connection.name(), ": no answer in time")));
      } else {
        more = more || connection.more();
        ready.push_back({connection.fd(), connection.events(), 0});
      }
    }
    if (ready.empty()) return;
    late = !more && !wait_for(ready, deadline_ns);
  }
}

// False if nothing is missing any more, or the connection is gone.
bool RedisLink::take_answers(Batch& batch) {
  Connection& connection = *batch.server->connection;
  while (batch.answered < batch.calls.size()) {
    auto reply = connection.next();
    if (!reply.ok()) {
      broken(batch, connection.malformed(reply.status()));
      return false;
    }
    if (!reply->has_value()) return true;
    Call& call = *batch.calls[batch.answered];
    if (std::exchange(batch.asking, false)) continue;  // what it says of ASKING shows in the next
    take(*batch.server, call, **std::move(reply));
    ++batch.answered;
    batch.asking =
        batch.answered < batch.calls.size() && batch.calls[batch.answered]->ask.has_value();
  }
  // A server that is no master any more, say: whoever comes next looks for another.
  if (std::any_of(batch.calls.begin(), batch.calls.end(),
                  [](const Call* call) { return call->again == Call::Again::kLater; })) {
    if (url_.kind == RedisUrl::Kind::kSentinel) batch.server->connection.reset();
  }
  return false;
}

void RedisLink::take(Server& server, Call& call, Reply reply) {
  call.ask.reset();
  if (reply.is_error()) {
    refused(server, call, reply);
    return;
  }
  call.status = absl::OkStatus();
  call.reply = std::move(reply);
}

void RedisLink::refused(Server& server, Call& call, const Reply& error) {
  Refusal why = refusal(server.connection->name(), error);
  count(counts_, why.kind);
  using Kind = Refusal::Kind;
  Call::Again again = Call::Again::kNo;
  switch (why.kind) {
    case Kind::kMoved:
    case Kind::kAsk:
      if (url_.kind != RedisUrl::Kind::kCluster) break;
      redirected(server, call, error, why.kind == Kind::kMoved);
      return;
    case Kind::kNoScript:
      again = call.load ? Call::Again::kLater : Call::Again::kNow;
      call.load = true;
      break;
    case Kind::kReadonly:
      // Of one server only: there is no other to look for.
      if (url_.kind == RedisUrl::Kind::kSingle) break;
      stale_ = true;
      again = Call::Again::kLater;
      break;
    case Kind::kLoading:
    case Kind::kClusterDown:
    case Kind::kTryAgain:
      stale_ = true;
      again = Call::Again::kLater;
      break;
    default:
      break;
  }
  fail(call, std::move(why.status), again);
}

void RedisLink::redirected(Server& server, Call& call, const Reply& error, bool moved) {
  const auto to = parse_redirect(error.text, server.endpoint);
  if (!to.has_value() || ++call.redirects > kMostRedirects || servers_.size() >= kMostServers) {
    fail(call,
         absl::UnavailableError(cat("tier_redirects: ", server.endpoint.text(), ": sent elsewhere ",
                                    call.redirects, " times: ", printable(error.text, 64),
                                    "; is a slot on its way, or the cluster at odds?")),
         Call::Again::kNo);
    stale_ = true;
    return;
  }
  ++counts_.redirects;
  fail(call, refusal(server.endpoint.text(), error).status, Call::Again::kNow);
  if (!moved) {
    call.ask = to;
    return;
  }
  stale_ = true;
  if (!slots_.empty()) slots_[call.slot] = &server_at(*to);
}

// What was sent in whole may have been done; what was not can not have been.
void RedisLink::broken(Batch& batch, const absl::Status& why) {
  const uint64_t sent = batch.server->connection->sent();
  for (size_t i = batch.answered; i < batch.calls.size(); ++i) {
    Call& call = *batch.calls[i];
    call.ask.reset();
    if (sent < call.end) {
      fail(call, why, Call::Again::kNow);
    } else {
      fail(call,
           absl::UnknownError(cat("tier_unknown: ", text_of(why),
                                  "; sent before that: whether it was done is not known")),
           Call::Again::kNo);
    }
  }
  batch.answered = batch.calls.size();
  batch.server->connection.reset();
  stale_ = true;
}

void RedisLink::not_connected(Batch& batch, const absl::Status& why) {
  const bool only = url_.kind == RedisUrl::Kind::kSingle;
  const bool wait = absl::IsUnavailable(why) && (!only || text_of(why).starts_with("tier_loading"));
  for (Call* const call : batch.calls) {
    call->ask.reset();
    fail(*call, why, wait ? Call::Again::kLater : Call::Again::kNo);
  }
  batch.answered = batch.calls.size();
  stale_ = true;
}

}  // namespace brim::tier
