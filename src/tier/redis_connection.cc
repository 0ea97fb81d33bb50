// SPDX-License-Identifier: MIT
#include "src/tier/redis_connection.h"

#include <algorithm>
#include <utility>

#include "src/base/text.h"
#include "src/tier/wait.h"

namespace brim::tier {

namespace {

struct Meaning {
  std::string_view word;
  Refusal::Kind kind;
  absl::StatusCode code;
  std::string_view name;
  std::string_view remedy;
};

using Why = Refusal::Kind;
constexpr auto kUnavailable = absl::StatusCode::kUnavailable;
constexpr auto kDenied = absl::StatusCode::kPermissionDenied;
constexpr std::string_view kPassword = "check the user and the password";

constexpr Meaning kMeanings[] = {
    {"MOVED", Why::kMoved, kUnavailable, "tier_redirects",
     "it is a node of a cluster: add ?cluster=1 to the URL"},
    {"ASK", Why::kAsk, kUnavailable, "tier_redirects",
     "it is a node of a cluster: add ?cluster=1 to the URL"},
    {"TRYAGAIN", Why::kTryAgain, kUnavailable, "tier_cluster_down", "a slot is on its way"},
    {"NOSCRIPT", Why::kNoScript, kUnavailable, "tier_refused", "a script did not stay loaded"},
    {"READONLY", Why::kReadonly, kUnavailable, "tier_readonly", "it is no master"},
    {"LOADING", Why::kLoading, kUnavailable, "tier_loading", "it starts: wait"},
    {"MASTERDOWN", Why::kLoading, kUnavailable, "tier_loading", "its master is away"},
    {"CLUSTERDOWN", Why::kClusterDown, kUnavailable, "tier_cluster_down",
     "look at CLUSTER INFO of its nodes"},
    {"BUSY", Why::kBusy, kUnavailable, "tier_busy", "another script runs for long: SCRIPT KILL"},
    {"OOM", Why::kOom, absl::StatusCode::kResourceExhausted, "tier_oom",
     "raise maxmemory, or give the tier a server of its own"},
    {"NOAUTH", Why::kAuth, kDenied, "tier_auth", kPassword},
    {"WRONGPASS", Why::kAuth, kDenied, "tier_auth", kPassword},
    {"NOPERM", Why::kNoPermission, kDenied, "tier_noperm",
     "the guide to Redis has the rights that the user needs"},
    {"", Why::kOther, kUnavailable, "tier_refused", "see what it says"},
};

// Redis before 7 puts the error of a command in a script behind its own words.
const Meaning& meaning_of(std::string_view text) {
  const std::string_view first = text.substr(0, text.find(' '));
  for (const Meaning& one : kMeanings) {
    if (first == one.word) return one;
  }
  for (const Meaning& one : kMeanings) {
    if (!one.word.empty() && text.find(cat("-", one.word, " ")) != std::string_view::npos) {
      return one;
    }
  }
  const auto has = [text](std::string_view part) {
    return text.find(part) != std::string_view::npos;
  };
  const std::string_view known = has("can't run this command") || has("can't access at least one")
                                     ? "NOPERM"
                                 : has("AUTH") ? "NOAUTH"
                                               : "";
  return *std::find_if(std::begin(kMeanings), std::end(kMeanings),
                       [known](const Meaning& one) { return one.word == known; });
}

}  // namespace

Refusal refusal(const std::string& server, const Reply& error) {
  const Meaning& meaning = meaning_of(error.text);
  return {meaning.kind,
          absl::Status(meaning.code, cat(meaning.name, ": ", server, ": ",
                                         printable(error.text, 160), "; ", meaning.remedy))};
}

void count(StoreCounts& counts, Refusal::Kind kind) {
  if (kind <= Why::kOther) ++counts.refusals[static_cast<size_t>(kind)];
}

absl::StatusOr<Connection> Connection::open(const Endpoint& endpoint, const Login& login,
                                            Dialer& dialer, int64_t deadline_ns) {
  if (dialer.tls && dialer.context == nullptr) {
    auto context = make_tls_context(dialer.tls_options);
    if (!context.ok()) return context.status();
    dialer.context = *std::move(context);
  }
  auto transport = Transport::connect(endpoint, dialer.resolver, dialer.context.get(), deadline_ns);
  absl::Status status = transport.status();
  if (status.ok()) {
    Connection connection(*std::move(transport));
    ++dialer.counts->connects;
    status = connection.log_in(login, dialer, deadline_ns);
    if (status.ok()) return connection;
    // With TLS 1.3 the server looks at the client's certificate after the client is done, and what
    // it says of it may be lost.
    if (dialer.tls && dialer.tls_options.cert_file.empty() && absl::IsUnavailable(status) &&
        text_of(status).starts_with("tier_connect")) {
      status = absl::UnavailableError(
          cat(text_of(status), "; does it demand a certificate of its clients?"));
    }
  }
  if (absl::IsPermissionDenied(status)) dialer.context.reset();
  return status;
}

// At least PING: that the server answers is known before anything is sent that counts.
absl::Status Connection::log_in(const Login& login, Dialer& dialer, int64_t deadline_ns) {
  size_t replies = 1;
  out_.reserve(256 + login.user.size() + login.password.view().size());
  if (!login.password.empty()) {
    append_head(out_, login.user.empty() ? 2 : 3);
    append_word(out_, "AUTH");
    if (!login.user.empty()) append_word(out_, login.user);
    append_word(out_, login.password.view());
    ++replies;
  }
  if (login.db != 0) {
    out_ += command({"SELECT", std::to_string(login.db)});
    ++replies;
  }
  out_ += login.master ? command({"ROLE"}) : command({"PING"});
  const std::string none;
  for (; replies > 0; --replies) {
    auto reply = ask(none, deadline_ns);
    if (!reply.ok()) return reply.status();
    if (reply->is_error()) {
      const Refusal why = refusal(name(), *reply);
      count(*dialer.counts, why.kind);
      return why.status;
    }
    if (replies == 1 && login.master &&
        (reply->items.empty() || !reply->items[0].is_text("master"))) {
      return absl::UnavailableError(
          cat("tier_readonly: ", name(), ": named by a sentinel, but no master (yet)"));
    }
  }
  return absl::OkStatus();
}

absl::Status Connection::pump() {
  absl::Status status;
  while (status.ok() && sent_in_out_ < out_.size()) {
    auto put = transport_.write(std::string_view(out_).substr(sent_in_out_));
    status = put.status();
    if (!put.ok() || *put == 0) break;
    sent_in_out_ += *put;
    sent_ += *put;
  }
  if (sent_in_out_ == out_.size()) {
    wipe(out_);
    sent_in_out_ = 0;
  }
  char bytes[16384];
  // Some at a time: what a server sends without end is looked at before more of it is taken. Also
  // if nothing can be written any more: the server may have said why.
  more_ = true;
  for (int i = 0; i < 16 && more_; ++i) {
    auto got = transport_.read(bytes, sizeof(bytes));
    if (!got.ok()) return status.ok() ? got.status() : status;
    more_ = *got != 0;
    reader_.feed({bytes, *got});
  }
  return status;
}

bool Connection::is_idle() {
  if (!pump().ok()) return false;
  const auto unasked = next();
  return unasked.ok() && !unasked->has_value();
}

absl::StatusOr<Reply> Connection::ask(std::string_view bytes, int64_t deadline_ns) {
  queue(bytes);
  while (true) {
    const absl::Status status = pump();
    auto reply = next();
    if (!reply.ok()) return malformed(reply.status());
    if (reply->has_value()) return **std::move(reply);
    if (!status.ok()) return status;
    if (!wait(deadline_ns)) {
      return absl::UnavailableError(cat("tier_timeout: ", name(), ": no answer in time"));
    }
  }
}

absl::Status Connection::malformed(const absl::Status& why) const {
  const std::string_view text = text_of(why);
  return absl::DataLossError(
      cat("tier_protocol: ", name(), ": ", text.substr(text.find(' ') + 1), "; is it a Redis?"));
}

bool Connection::wait(int64_t deadline_ns) const {
  pollfd ready{fd(), events(), 0};
  return more_ || wait_for({&ready, 1}, deadline_ns);
}

}  // namespace brim::tier
