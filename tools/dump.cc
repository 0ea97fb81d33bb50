// SPDX-License-Identifier: MIT
#include "dump.h"

#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "brim/inspect.h"
#include "commands.h"
#include "dump_row.h"
#include "glob.h"
#include "output.h"
#include "progress.h"

namespace brim::tools {

namespace {

constexpr uint64_t kSortedLimit = 1000;  // if --limit does not say

enum class Wanted { kLive, kIdle, kAll, kRefused, kNear };
enum class Sort { kNone, kRemaining, kRetry, kKey };

struct DumpFilter {
  std::optional<uint16_t> policy;
  Wanted state = Wanted::kLive;
  std::optional<std::string> prefix;
  std::optional<std::string> match;
  std::optional<uint64_t> remaining_under;

  // What can be told before the row is worked out.
  bool takes(const KeyInfo& key) const {
    if (policy.has_value() && key.policy != *policy) return false;
    if (state == Wanted::kLive && key.state != SlotState::kLive) return false;
    if (state == Wanted::kIdle && key.state != SlotState::kIdle) return false;
    if (!prefix.has_value() && !match.has_value()) return true;
    if (!key.has_name) return false;
    if (prefix.has_value() && !key.name.starts_with(*prefix)) return false;
    return !match.has_value() || glob_match(*match, key.name);
  }
  bool takes(const Row& row) const {
    if (state == Wanted::kRefused && !row.refused()) return false;
    if (state == Wanted::kNear && !row.near()) return false;
    if (!remaining_under.has_value()) return true;
    return row.remaining().has_value() && *row.remaining() < *remaining_under;
  }
};

// A row that outlives the visit.
struct Kept {
  Row row;
  std::string name;
};

// Whether a comes before b; every two rows differ at least in their slot.
bool comes_before(Sort sort, const Kept& a, const Kept& b) {
  const auto left = [](const Row& row) {
    return row.remaining().has_value() ? uint64_t{*row.remaining()} : UINT64_MAX;
  };
  const auto wait = [](const Row& row) { return row.retry_ns().value_or(-1); };
  const bool by_left = sort == Sort::kRemaining;
  if (sort != Sort::kKey) {
    if (by_left && left(a.row) != left(b.row)) return left(a.row) < left(b.row);
    if (wait(a.row) != wait(b.row)) return wait(a.row) > wait(b.row);
    if (left(a.row) != left(b.row)) return left(a.row) < left(b.row);
  }
  const KeyInfo& first = a.row.key();
  const KeyInfo& second = b.row.key();
  if (first.has_name != second.has_name) return first.has_name;
  if (a.name != b.name) return a.name < b.name;
  if (first.fingerprint != second.fingerprint) return first.fingerprint < second.fingerprint;
  if (first.policy != second.policy) return first.policy < second.policy;
  return first.slot < second.slot;
}

// Keeps the best rows: a heap whose top is the worst of them.
class Best {
 public:
  Best(Sort sort, uint64_t limit) : sort_(sort), limit_(limit) {}

  void add(const Row& row) {
    ++seen_;
    if (limit_ == 0) return;
    const auto before = [this](const Kept& a, const Kept& b) { return comes_before(sort_, a, b); };
    Kept kept{row, std::string(row.key().name)};
    if (rows_.size() == limit_) {
      if (!before(kept, rows_.front())) return;
      std::pop_heap(rows_.begin(), rows_.end(), before);
      rows_.pop_back();
    }
    rows_.push_back(std::move(kept));
    std::push_heap(rows_.begin(), rows_.end(), before);
  }

  const std::vector<Kept>& sorted() {
    std::sort(rows_.begin(), rows_.end(),
              [this](const Kept& a, const Kept& b) { return comes_before(sort_, a, b); });
    return rows_;
  }
  uint64_t seen() const { return seen_; }

 private:
  Sort sort_;
  uint64_t limit_;
  uint64_t seen_ = 0;
  std::vector<Kept> rows_;
};

struct Plan {
  Format format = Format::kTable;
  DumpFilter filter;
  Sort sort = Sort::kNone;
  std::optional<uint64_t> limit;
};

absl::Status bad_choice(const char* option, const std::string& value, const char* choices) {
  return absl::InvalidArgumentError(
      join("invalid_option: ", option, " is '", escape_text(value), "'; give ", choices));
}

absl::Status take_words(const DumpArgs& args, Plan& plan) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return format.status();
  plan.format = *format;
  constexpr std::pair<const char*, Wanted> kStates[] = {{"live", Wanted::kLive},
                                                        {"idle", Wanted::kIdle},
                                                        {"all", Wanted::kAll},
                                                        {"refused", Wanted::kRefused},
                                                        {"near", Wanted::kNear}};
  const auto* const state =
      std::find_if(std::begin(kStates), std::end(kStates),
                   [&args](const auto& each) { return args.state == each.first; });
  if (state == std::end(kStates)) {
    return bad_choice("--state", args.state, "live, idle or all, or refused or near");
  }
  plan.filter.state = state->second;
  if (args.sort == "remaining") {
    plan.sort = Sort::kRemaining;
  } else if (args.sort == "retry") {
    plan.sort = Sort::kRetry;
  } else if (args.sort == "key") {
    plan.sort = Sort::kKey;
  } else if (!args.sort.empty()) {
    return bad_choice("--sort", args.sort, "remaining, retry or key");
  }
  return absl::OkStatus();
}

absl::StatusOr<Plan> dump_plan(const DumpArgs& args) {
  Plan plan;
  if (absl::Status status = take_words(args, plan); !status.ok()) return status;
  plan.filter.prefix = args.prefix;
  plan.filter.match = args.match;
  const auto count = [](const char* option, const std::optional<std::string>& text,
                        std::optional<uint64_t>& number) {
    if (!text.has_value()) return absl::OkStatus();
    const absl::StatusOr<uint64_t> parsed = parse_count(option, *text, 0, UINT64_MAX - 1);
    if (parsed.ok()) number = *parsed;
    return parsed.status();
  };
  absl::Status status = count("--limit", args.limit, plan.limit);
  if (status.ok()) {
    status = count("--remaining-under", args.remaining_under, plan.filter.remaining_under);
  }
  if (!status.ok()) return status;
  return plan;
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

class Dumper {
 public:
  Dumper(const Plan& plan, const Inspector& inspector, DumpPolicies policies)
      : plan_(plan),
        policies_(std::move(policies)),
        printer_(plan.format, plan.sort == Sort::kRetry || plan.filter.state == Wanted::kRefused),
        best_(plan.sort, plan.limit.value_or(kSortedLimit)),
        // Where rows of JSON go to the same terminal, the line can not be told from theirs.
        progress_(inspector.info().slots,
                  isatty(STDOUT_FILENO) == 0 || sorted() || plan.format != Format::kJson) {}

  int run(const std::string& segment, const Inspector& inspector) {
    printer_.begin(segment);
    inspector.for_each_key([this](const KeyInfo& key) { return visit(key); });
    progress_.erase();
    return end();
  }

 private:
  bool sorted() const { return plan_.sort != Sort::kNone; }

  // False once no more keys are wanted.
  bool visit(const KeyInfo& key) {
    progress_.at(key.slot);
    if (!plan_.filter.takes(key)) return true;
    const auto found = policies_.find(key.policy);
    const Row row(key, found == policies_.end() ? nullptr : &found->second);
    if (!plan_.filter.takes(row)) return true;
    if (sorted()) {
      best_.add(row);
      return true;
    }
    if (printer_.count() == plan_.limit) {
      more_ = true;
      return false;
    }
    progress_.erase();
    return printer_.print(row);
  }

  int end() {
    if (!sorted()) {
      printer_.end({}, more_);
      const int code = finish();
      if (more_) complain(join("stopped at --limit ", printer_.count(), "; there are more keys"));
      return code;
    }
    for (const Kept& kept : best_.sorted()) {
      if (!printer_.print(kept.row.with_name(kept.name))) break;
    }
    const uint64_t count = printer_.count();
    printer_.end(best_.seen(), best_.seen() > count);
    const int code = finish();
    if (best_.seen() > count) {
      complain(join("the first ", count, " of ", best_.seen(), " keys",
                    plan_.limit.has_value() ? "" : "; give --limit for more"));
    }
    return code;
  }

  const Plan& plan_;
  DumpPolicies policies_;
  RowPrinter printer_;
  Best best_;
  Progress progress_;
  bool more_ = false;
};

}  // namespace

int run_dump(const DumpArgs& args) {
  absl::StatusOr<Plan> plan = dump_plan(args);
  if (!plan.ok()) return report(plan.status());
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return report(options.status());
  const absl::StatusOr<Inspector> inspector = Inspector::attach(args.name, *options);
  if (!inspector.ok()) return report(inspector.status());
  const std::vector<PolicyInfo> policies = inspector->policies();
  if (args.policy.has_value()) {
    const absl::StatusOr<uint16_t> number = policy_number(*args.policy, policies);
    if (!number.ok()) return report(number.status());
    plan->filter.policy = *number;
  }
  Dumper dumper(*plan, *inspector, dump_policies(args.name, *options, policies));
  return dumper.run(args.name, *inspector);
}

}  // namespace brim::tools
