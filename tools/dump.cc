// SPDX-License-Identifier: MIT
#include "dump.h"

#include <map>
#include <vector>

#include "brim/inspect.h"
#include "commands.h"
#include "output.h"

namespace brim::tools {

namespace {

std::string_view state_text(SlotState state) {
  return state == SlotState::kLive ? "live" : state == SlotState::kIdle ? "idle" : "tentative";
}

// What a row shows: the key as one rate of its policy, or the policy's bans, sees it.
class Row {
 public:
  Row(const KeyInfo& key, const PolicyInfo* policy) : key_(key), policy_(policy) {
    if (policy != nullptr && key.part < policy->policy.rates.size()) {
      rate_ = &policy->policy.rates[key.part];
    }
  }

  const KeyInfo& key() const { return key_; }
  const Rate* rate() const { return rate_; }
  std::string policy() const {
    return policy_ == nullptr ? join("#", key_.policy) : escape_key(policy_->name);
  }
  // With the part, unless the policy has only this one: "api/0", "api/ban".
  std::string policy_part() const {
    if (key_.part == KeyInfo::kBanPart) return policy() + "/ban";
    const bool several = policy_ == nullptr ? key_.part != 0 : policy_->policy.rates.size() > 1;
    return several ? join(policy(), "/", key_.part) : policy();
  }
  // Logs and leases do not tell from outside what is left, bans have nothing to be left.
  bool has_remaining() const {
    return has_reset() && key_.part != KeyInfo::kBanPart &&
           (rate_ == nullptr || (rate_->algorithm != Algorithm::kSlidingLog &&
                                 rate_->algorithm != Algorithm::kConcurrency));
  }
  bool has_reset() const { return key_.state != SlotState::kTentative; }
  // Of bans: until the key is no more barred.
  int64_t reset_ns() const {
    return key_.part == KeyInfo::kBanPart ? key_.decision.retry_after_ns
                                          : key_.decision.reset_after_ns;
  }

 private:
  const KeyInfo& key_;
  const PolicyInfo* policy_;
  const Rate* rate_ = nullptr;
};

struct DumpFilter {
  std::optional<uint16_t> policy;
  std::optional<SlotState> state;
  uint64_t limit = UINT64_MAX;
};

class Dumper {
 public:
  Dumper(Format format, DumpFilter filter, const std::vector<PolicyInfo>& policies)
      : format_(format), filter_(filter) {
    for (const PolicyInfo& info : policies) policies_[info.number] = info;
  }

  void begin(const std::string& segment) {
    switch (format_) {
      case Format::kTable:
        emit(heading("POLICY            STATE       REMAINING       RESET  KEY") + "\n");
        break;
      case Format::kCsv:
        emit(csv_row({"policy", "key", "key_length", "key_cut", "fingerprint", "state", "remaining",
                      "reset_after_ns", "limit", "burst", "part"}));
        break;
      case Format::kJson:
        json_.begin('{').field("version", 1).field("segment", segment).name("keys").begin('[');
        break;
    }
  }

  // False once no more keys are wanted.
  bool visit(const KeyInfo& key) {
    if (filter_.state.has_value() && key.state != *filter_.state) return true;
    if (filter_.policy.has_value() && key.policy != *filter_.policy) return true;
    if (count_ == filter_.limit) {
      more_ = true;
      return false;
    }
    ++count_;
    const auto found = policies_.find(key.policy);
    const Row row(key, found == policies_.end() ? nullptr : &found->second);
    switch (format_) {
      case Format::kTable:
        return emit(table_row(row));
      case Format::kCsv:
        return emit(csv(row));
      case Format::kJson:
        break;
    }
    return emit(json(row));
  }

  int end() {
    if (format_ == Format::kJson) {
      json_.line().end(']').field("count", count_).field("more", more_);
      emit(json_.end('}').take() + "\n");
    }
    const int code = finish();
    if (more_) complain(join("stopped at --limit ", count_, "; there are more keys"));
    return code;
  }

 private:
  static std::string fingerprint(const KeyInfo& key) { return hex_digits(key.fingerprint, 13); }
  static bool cut(const KeyInfo& key) { return key.has_name && key.name_length > key.name.size(); }

  // A key that itself begins with # must not pass for a fingerprint.
  static std::string key_text(const KeyInfo& key) {
    if (!key.has_name) return "#" + fingerprint(key);
    std::string text = escape_key(key.name);
    if (!text.empty() && text.front() == '#') text.replace(0, 1, "%23");
    return text;
  }

  static std::string table_row(const Row& row) {
    const auto pad = [](const std::string& text, size_t width) {
      return std::string(text.size() < width ? width - text.size() : 0, ' ');
    };
    const KeyInfo& key = row.key();
    const std::string name = row.policy_part();
    const std::string state(state_text(key.state));
    const std::string remaining =
        row.has_remaining() ? std::to_string(key.decision.remaining) : "-";
    const std::string reset = row.has_reset() ? human_duration(row.reset_ns()) : "-";
    std::string text = key_text(key);
    if (text.empty()) text = "\"\"";
    if (cut(key)) text += join(" (first ", key.name.size(), " of ", key.name_length, " bytes)");
    return join(name, pad(name, 16), "  ", state, pad(state, 9), pad(remaining, 11), " ", remaining,
                pad(reset, 11), " ", reset, "  ", text, "\n");
  }

  static std::string csv(const Row& row) {
    const KeyInfo& key = row.key();
    return csv_row(
        {row.policy(), key_text(key), key.has_name ? std::to_string(key.name_length) : "",
         cut(key) ? "true" : "false", fingerprint(key), state_text(key.state),
         row.has_remaining() ? std::to_string(key.decision.remaining) : "",
         row.has_reset() ? std::to_string(row.reset_ns()) : "",
         row.rate() == nullptr ? "" : std::to_string(row.rate()->limit),
         row.rate() == nullptr ? "" : std::to_string(row.rate()->burst), std::to_string(key.part)});
  }

  std::string json(const Row& row) {
    const KeyInfo& key = row.key();
    json_.line().begin('{').field("policy", row.policy()).field("part", key.part).name("key");
    key.has_name ? json_.value(escape_key(key.name)) : json_.null();
    json_.name("key_base64");
    key.has_name ? json_.value(base64(key.name)) : json_.null();
    json_.name("key_length");
    key.has_name ? json_.value(key.name_length) : json_.null();
    json_.field("key_cut", cut(key)).field("fingerprint", fingerprint(key));
    json_.field("state", state_text(key.state));
    if (row.has_remaining()) json_.field("remaining", key.decision.remaining);
    if (row.has_reset()) json_.name("reset_after_ns").duration(row.reset_ns());
    if (row.rate() != nullptr) {
      json_.field("limit", row.rate()->limit).field("burst", row.rate()->burst);
    }
    return json_.end('}').take();
  }

  Format format_;
  DumpFilter filter_;
  std::map<uint16_t, PolicyInfo> policies_;
  JsonWriter json_;
  uint64_t count_ = 0;
  bool more_ = false;
};

absl::StatusOr<DumpFilter> dump_filter(const DumpArgs& args) {
  DumpFilter filter;
  if (args.state == "live") {
    filter.state = SlotState::kLive;
  } else if (args.state == "idle") {
    filter.state = SlotState::kIdle;
  } else if (args.state != "all") {
    return absl::InvalidArgumentError(
        join("invalid_option: --state is '", escape_text(args.state), "'; give live, idle or all"));
  }
  if (args.limit.has_value()) {
    const absl::StatusOr<uint64_t> limit = parse_count("--limit", *args.limit, 0, UINT64_MAX - 1);
    if (!limit.ok()) return limit.status();
    filter.limit = *limit;
  }
  return filter;
}

absl::StatusOr<uint16_t> policy_number(const std::string& name,
                                       const std::vector<PolicyInfo>& policies) {
  std::string known;
  for (const PolicyInfo& info : policies) {
    if (info.name == name) return info.number;
    known += join(known.empty() ? "" : ", ", info.name);
  }
  return absl::NotFoundError(join("policy_not_found: there is no policy '", escape_text(name),
                                  "'; the segment has: ", known.empty() ? "none" : known));
}

}  // namespace

int run_dump(const DumpArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  absl::StatusOr<DumpFilter> filter = dump_filter(args);
  if (!filter.ok()) return report(filter.status());
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return report(options.status());
  const absl::StatusOr<Inspector> inspector = Inspector::attach(args.name, *options);
  if (!inspector.ok()) return report(inspector.status());
  const std::vector<PolicyInfo> policies = inspector->policies();
  if (args.policy.has_value()) {
    const absl::StatusOr<uint16_t> number = policy_number(*args.policy, policies);
    if (!number.ok()) return report(number.status());
    filter->policy = *number;
  }
  Dumper dumper(*format, *filter, policies);
  dumper.begin(args.name);
  inspector->for_each_key([&dumper](const KeyInfo& key) { return dumper.visit(key); });
  return dumper.end();
}

}  // namespace brim::tools
