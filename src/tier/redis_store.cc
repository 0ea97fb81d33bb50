// SPDX-License-Identifier: MIT
#include "src/tier/redis_store.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "src/base/text.h"
#include "src/tier/options.h"
#include "src/tier/redis_script.h"
#include "src/tier/redis_slots.h"
#include "src/tier/wait.h"

namespace brim::tier {

namespace {

constexpr size_t kMostName = 255;  // bytes of a node's name

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool is_prefix(std::string_view text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' ||
           c == '_' || c == '-';
  });
}

void add(Call& call, std::string_view word) {
  append_word(call.bytes, word);
  ++call.words;
}

void add(Call& call, uint64_t number) { add(call, std::to_string(number)); }

// Exact, and read by Lua as it is: a power of two.
void add_power(Call& call, double value) {
  char text[64];
  const auto [end, error] = std::to_chars(text, text + sizeof(text), value);
  add(call, std::string_view(text, static_cast<size_t>(end - text)));
}

absl::Status unexpected() {
  return absl::UnknownError(
      "tier_unknown: tier_protocol: not an answer of the script that was sent; is it a Redis?");
}

bool is_level(const Reply& reply) {
  return reply.kind == Reply::Kind::kInteger && reply.integer >= 0 &&
         static_cast<uint64_t>(reply.integer) <= kMostLevel;
}

void take_answer(const Push& push, Call& call, PushAnswer& answer) {
  answer = PushAnswer();
  answer.status = std::move(call.status);
  if (!answer.status.ok()) return;
  const std::vector<Reply>& items = call.reply.items;
  const size_t rates = push.rates.size();
  if (rates == 0 || items.size() != rates + 4 ||
      !std::all_of(items.begin(), items.end(), is_level)) {
    answer.status = unexpected();
    return;
  }
  answer.admitted = items[0].integer == 1;
  answer.lost = items[1].integer == 1;
  answer.changes_before = static_cast<uint64_t>(items[rates + 2].integer);
  answer.changes = static_cast<uint64_t>(items[rates + 3].integer);
  answer.levels.reserve(rates);
  for (size_t i = 2; i < rates + 2; ++i) {
    answer.levels.push_back(static_cast<uint64_t>(items[i].integer));
  }
}

std::vector<Node> nodes_of(const Reply& reply) {
  std::vector<Node> nodes;
  for (size_t i = 0; i + 2 < reply.items.size(); i += 3) {
    const int64_t ago_us = reply.items[i + 2].integer;
    if (!is_hex(reply.items[i].text, 32) || ago_us < 0 || ago_us > INT64_MAX / 1000) continue;
    nodes.push_back(
        {reply.items[i].text, reply.items[i + 1].text.substr(0, kMostName), ago_us * 1000});
  }
  return nodes;
}

// The value in the lines of INFO; empty if it is not there.
std::string_view info_value(std::string_view info, std::string_view name) {
  const size_t at = info.find(cat("\n", name, ":"));
  if (at == std::string_view::npos) return {};
  const std::string_view rest = info.substr(at + name.size() + 2);
  return rest.substr(0, rest.find_first_of("\r\n"));
}

}  // namespace

RedisStore::RedisStore(const StoreOptions& options, RedisUrl url)
    : prefix_(options.prefix + ":"),
      node_(options.node),
      link_(std::move(url),
            {options.ca_file, options.cert_file, options.key_file, options.insecure},
            options.connect_timeout_ns),
      pid_(getpid()) {}

void RedisStore::after_fork() {
  if (std::exchange(pid_, getpid()) != pid_) link_.drop_all();
}

Call RedisStore::call_of(const Push& push) const {
  Call call;
  const std::string tag = cat("{", hex(push.identity, 16), "}");
  call.slot = slot_of(tag);
  call.script = &exchange_script();
  call.bytes.reserve(64 + 256 * push.rates.size());
  add(call, push.rates.size());
  for (const RateUse& rate : push.rates) {
    // No policy's name has a colon.
    const std::string part = rate.part == 0 ? "" : cat(":", rate.part);
    add(call, cat(prefix_, push.policy, part, ":", tag));
  }
  add(call, uint64_t{push.cost});
  add(call, static_cast<uint64_t>(std::max<int64_t>(push.keep_ms, 1)));
  add(call, push.text);
  for (const RateUse& rate : push.rates) {
    const bool tells = rate.nonce != 0 && !node_.empty();
    add(call, tells ? cat(node_, ".", hex(rate.nonce)) : "");
    add(call, std::min(rate.floor_units, kMostLevel));
    add(call, std::min(rate.terms.permit_units, kMostLevel));
    add(call, std::min(rate.terms.capacity_units, kMostLevel));
    add(call, uint64_t{rate.terms.by_debt_before});
    add_power(call, rate.terms.units_per_us);
    constexpr uint64_t kTotal = (uint64_t{1} << kTotalBits) - 1;
    add(call, rate.total & kTotal);
    add(call, rate.acked_total & kTotal);
  }
  return call;
}

void RedisStore::exchange(std::span<const Push> pushes, std::span<PushAnswer> answers,
                          int64_t deadline_ns) {
  after_fork();
  std::vector<Call> calls;
  calls.reserve(pushes.size());
  for (const Push& push : pushes) calls.push_back(call_of(push));
  link_.run(calls, deadline_ns);
  StoreCounts& counts = link_.counts();
  counts.pushes += pushes.size();
  for (size_t i = 0; i < pushes.size(); ++i) {
    take_answer(pushes[i], calls[i], answers[i]);
    counts.errors += !answers[i].status.ok();
    counts.unknown += absl::IsUnknown(answers[i].status);
  }
}

absl::StatusOr<Meeting> RedisStore::meet(const Node& self, const uint64_t mine[2],
                                         int64_t forget_ns, bool leave, int64_t deadline_ns) {
  after_fork();
  if (!is_hex(self.uuid, 32)) {
    return absl::InvalidArgumentError("invalid_option: a node's uuid has 32 hex digits");
  }
  link_.look_for_another_master(deadline_ns);
  Call calls[2];
  const std::string nodes = cat(prefix_, "{nodes}");
  calls[0].script = &meet_script();
  calls[0].slot = slot_of(nodes);
  add(calls[0], uint64_t{1});
  add(calls[0], nodes);
  add(calls[0], self.uuid);
  add(calls[0], std::string_view(self.name).substr(0, kMostName));
  add(calls[0], static_cast<uint64_t>(std::max<int64_t>(forget_ns / 1000, 0)));
  add(calls[0], uint64_t{leave});
  const std::string secret = cat(prefix_, "{secret}");
  calls[1].script = &secret_script();
  calls[1].slot = slot_of(secret);
  add(calls[1], uint64_t{1});
  add(calls[1], secret);
  add(calls[1], cat(hex(mine[0], 16), hex(mine[1], 16)));
  link_.run(calls, deadline_ns);
  for (const Call& call : calls) {
    if (!call.status.ok()) return call.status;
  }
  Meeting meeting;
  meeting.nodes = nodes_of(calls[0].reply);
  const std::string& agreed = calls[1].reply.text;
  if (!is_hex(agreed, 32) || !parse_secret(agreed, meeting.secret)) return unexpected();
  return meeting;
}

absl::Status RedisStore::forget(std::string_view uuid, int64_t deadline_ns) {
  after_fork();
  Call call;
  const std::string nodes = cat(prefix_, "{nodes}");
  call.slot = slot_of(nodes);
  for (const std::string_view word : {std::string_view("HDEL"), std::string_view(nodes), uuid}) {
    add(call, word);
  }
  link_.run({&call, 1}, deadline_ns);
  return call.status;
}

std::string RedisStore::warning(int64_t deadline_ns) {
  after_fork();
  for (const auto& answer : link_.ask_all(command({"INFO", "memory"}), deadline_ns)) {
    if (!answer.ok() || answer->is_error()) continue;
    const std::string_view policy = info_value(answer->text, "maxmemory_policy");
    const std::string_view most = info_value(answer->text, "maxmemory");
    if (policy.empty() || policy == "noeviction" || most.empty() || most == "0") continue;
    return cat("the store drops keys when its memory is full (maxmemory-policy ", printable(policy),
               "), and with them what was used: set noeviction, or give the "
               "tier a server of its own");
  }
  return {};
}

absl::StatusOr<std::unique_ptr<Store>> open_store(const StoreOptions& options) {
  auto url = parse_url(options.url);
  if (!url.ok()) return url.status();
  if (!is_prefix(options.prefix)) {
    return absl::InvalidArgumentError(
        "invalid_option: the prefix has 1 to 64 characters of A-Z a-z 0-9 . _ -");
  }
  if (!options.node.empty() && !is_hex(options.node, 32)) {
    return absl::InvalidArgumentError("invalid_option: a node's uuid has 32 hex digits");
  }
  if (!options.user.empty()) url->user = options.user;
  if (!options.password.empty()) url->password = Secret(options.password);
  if (url->password.empty() && !url->user.empty()) {
    return absl::InvalidArgumentError(
        cat("tier_url: a user without a password; give both, or neither"));
  }
  if (url->tls) {  // a file that can not be used is told now
    auto context =
        make_tls_context({options.ca_file, options.cert_file, options.key_file, options.insecure});
    if (!context.ok()) return context.status();
  }
  return std::make_unique<RedisStore>(options, *std::move(url));
}

}  // namespace brim::tier
