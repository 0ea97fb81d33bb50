// SPDX-License-Identifier: MIT
#include "dump_row.h"

#include <algorithm>
#include <utility>

namespace brim::tools {

namespace {

std::string fingerprint_text(const KeyInfo& key) { return hex_digits(key.fingerprint, 13); }

std::string padded_left(const std::string& text, size_t width) {
  return std::string(text.size() < width ? width - text.size() : 0, ' ') + text;
}

std::string padded(const std::string& text, size_t width) {
  return text + std::string(text.size() < width ? width - text.size() : 0, ' ');
}

bool one_log(const Policy& policy) {
  return policy.rates.size() == 1 && policy.rates.front().algorithm == Algorithm::kSlidingLog;
}

bool keeps_cells(Algorithm algorithm) {
  return algorithm == Algorithm::kSlidingLog || algorithm == Algorithm::kConcurrency;
}

bool is_bucket(Algorithm algorithm) {
  return algorithm == Algorithm::kGcra || algorithm == Algorithm::kTokenBucket ||
         algorithm == Algorithm::kLeakyBucket || algorithm == Algorithm::kQueue;
}

}  // namespace

std::string_view state_text(SlotState state) {
  return state == SlotState::kLive ? "live" : state == SlotState::kIdle ? "idle" : "tentative";
}

std::string key_label(bool has_name, std::string_view name, uint64_t fingerprint) {
  if (!has_name) return "#" + hex_digits(fingerprint, 13);
  std::string text = escape_key(name);
  if (!text.empty() && text.front() == '#') text.replace(0, 1, "%23");
  return text;
}

DumpPolicies dump_policies(const std::string& segment, const Options& options,
                           std::vector<PolicyInfo> policies) {
  DumpPolicies all;
  std::optional<Limiter> limiter;
  for (PolicyInfo& info : policies) {
    DumpPolicy& policy = all[info.number];
    policy.info = std::move(info);
    if (!one_log(policy.info.policy)) continue;
    if (!limiter.has_value()) {
      absl::StatusOr<Limiter> attached = Limiter::attach_read_only(segment, options);
      if (!attached.ok()) continue;  // the column then stays empty
      limiter = *std::move(attached);
    }
    absl::StatusOr<PolicyHandle> handle = limiter->policy(policy.info.name);
    if (handle.ok()) policy.handle = *std::move(handle);
  }
  return all;
}

Row::Row(const KeyInfo& key, const DumpPolicy* policy) : key_(key) {
  if (policy != nullptr) policy_ = &policy->info;
  if (policy_ != nullptr && key.part < policy_->policy.rates.size()) {
    rate_ = &policy_->policy.rates[key.part];
  }
  if (!has_reset()) return;
  const bool asks = rate_ != nullptr && keeps_cells(rate_->algorithm);
  if (!asks) {
    retry_ns_ = key.retry_after_ns;
    if (!ban()) remaining_ = key.decision.remaining;
    return;
  }
  if (!policy->handle.has_value() || !key.has_name || cut()) return;
  const Decision now = policy->handle->peek(key.name, 0);
  if (now.verdict == Verdict::kUnavailable || now.reason != Reason::kNone) return;
  remaining_ = now.remaining;
  retry_ns_ = now.remaining != 0 ? 0 : policy->handle->peek(key.name, 1).retry_after_ns;
}

std::string Row::policy_part() const {
  if (ban()) return policy() + "/ban";
  const bool several = policy_ == nullptr ? key_.part != 0 : policy_->policy.rates.size() > 1;
  return several ? join(policy(), "/", key_.part) : policy();
}

bool Row::near() const {
  if (!remaining_.has_value() || rate_ == nullptr) return false;
  const uint64_t most = is_bucket(rate_->algorithm) ? rate_->burst : rate_->limit;
  return uint64_t{*remaining_} * 10 <= most;
}

void RowPrinter::begin(const std::string& segment) {
  switch (format_) {
    case Format::kTable:
      emit(heading(join("POLICY            STATE       REMAINING       RESET",
                        retry_ ? "       RETRY" : "", "  KEY")) +
           "\n");
      break;
    case Format::kCsv:
      emit(csv_row({"policy", "key", "key_length", "key_cut", "fingerprint", "state", "remaining",
                    "reset_after_ns", "limit", "burst", "part", "retry_after_ns"}));
      break;
    case Format::kJson:
      json_.begin('{').field("version", 1).field("segment", segment).name("keys").begin('[');
      break;
  }
}

bool RowPrinter::print(const Row& row) {
  ++count_;
  switch (format_) {
    case Format::kTable:
      return emit(table_row(row));
    case Format::kCsv:
      return emit(csv(row));
    case Format::kJson:
      break;
  }
  write_row(json_.line(), row);
  return emit(json_.take());
}

void RowPrinter::end(std::optional<uint64_t> matched, bool more) {
  if (format_ != Format::kJson) return;
  json_.line().end(']').field("count", count_);
  if (matched.has_value()) json_.field("matched", *matched);
  emit(json_.field("more", more).end('}').take() + "\n");
}

std::string RowPrinter::table_row(const Row& row) const {
  const KeyInfo& key = row.key();
  const auto time = [](int64_t ns) { return padded_left(human_duration(ns), 11); };
  const std::string none = padded_left("-", 11);
  const std::string remaining =
      row.remaining().has_value() ? std::to_string(*row.remaining()) : "-";
  std::string line = padded(row.policy_part(), 16) + "  ";
  line += padded(std::string(state_text(key.state)), 9) + padded_left(remaining, 12);
  line += " " + (row.has_reset() ? time(row.reset_ns()) : none);
  if (retry_) line += " " + (row.retry_ns().has_value() ? time(*row.retry_ns()) : none);
  std::string text = key_label(key.has_name, key.name, key.fingerprint);
  if (text.empty()) text = "\"\"";
  if (row.cut()) text += join(" (first ", key.name.size(), " of ", key.name_length, " bytes)");
  return join(line, "  ", text, "\n");
}

std::string RowPrinter::csv(const Row& row) {
  const KeyInfo& key = row.key();
  const std::optional<int64_t>& retry = row.retry_ns();
  return csv_row({row.policy(), key_label(key.has_name, key.name, key.fingerprint),
                  key.has_name ? std::to_string(key.name_length) : "", row.cut() ? "true" : "false",
                  fingerprint_text(key), state_text(key.state),
                  row.remaining().has_value() ? std::to_string(*row.remaining()) : "",
                  row.has_reset() ? std::to_string(row.reset_ns()) : "",
                  row.rate() == nullptr ? "" : std::to_string(row.rate()->limit),
                  row.rate() == nullptr ? "" : std::to_string(row.rate()->burst),
                  std::to_string(key.part),
                  retry.has_value() && *retry != kNever ? std::to_string(*retry) : ""});
}

void write_row(JsonWriter& json, const Row& row) {
  const KeyInfo& key = row.key();
  json.begin('{').field("policy", row.policy()).field("part", key.part).name("key");
  key.has_name ? json.value(escape_key(key.name)) : json.null();
  json.name("key_base64");
  key.has_name ? json.value(base64(key.name)) : json.null();
  json.name("key_length");
  key.has_name ? json.value(key.name_length) : json.null();
  json.field("key_cut", row.cut()).field("fingerprint", fingerprint_text(key));
  json.field("state", state_text(key.state));
  if (row.remaining().has_value()) json.field("remaining", *row.remaining());
  if (row.has_reset()) json.name("reset_after_ns").duration(row.reset_ns());
  if (row.retry_ns().has_value()) json.name("retry_after_ns").duration(*row.retry_ns());
  if (row.rate() != nullptr) {
    json.field("limit", row.rate()->limit).field("burst", row.rate()->burst);
  }
  json.end('}');
}

}  // namespace brim::tools
