// SPDX-License-Identifier: MIT
// Policy records and overrides.
#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "src/compile.h"
#include "src/make_rate.h"
#include "src/overrides.h"
#include "src/verify.h"

namespace brim {

namespace {

constexpr FindingKind kPolicyName = {
    Severity::kError, "policy_name_invalid",
    "no caller can ask for it by name; recreate the segment (brim create --recreate)"};
constexpr FindingKind kPolicyNameTwice = {
    Severity::kError, "policy_name_twice",
    "callers use the first of the two; recreate the segment (brim create --recreate)"};
constexpr FindingKind kPolicyText = {Severity::kError, "policy_text_invalid",
                                     "decisions do not depend on it; write it anew: brim change"};
constexpr FindingKind kPolicyWords = {
    Severity::kError, "policy_words_differ",
    "decisions do not follow the text; write it anew: brim change --reset, or recreate the "
    "segment"};
constexpr FindingKind kOverrideMalformed = {
    Severity::kError, "override_malformed",
    "no caller can follow it; clear the override and set it again"};
constexpr FindingKind kOverrideUnreachable = {Severity::kError, "override_unreachable",
                                              "callers do not find it; set the override again"};
constexpr FindingKind kOverrideTwice = {Severity::kError, "override_twice",
                                        "callers use one of the two; clear the override twice and "
                                        "set it again"};
constexpr FindingKind kOverrideCount = {
    Severity::kError, "override_count_low",
    "at 0 callers look no further; --repair counts again, as the next change does"};
constexpr FindingKind kOverrideUnseen = {
    Severity::kWarning, "override_unseen",
    "calls on this policy do not look at its overrides, as when the writer of the first one was "
    "killed; set one again"};
constexpr FindingKind kOverrideInterrupted = {
    Severity::kNote, "override_interrupted",
    "a writer was killed at it; the next change and --repair put it in order"};

constexpr FindingKind kOverridesNotChecked = {
    Severity::kWarning, "overrides_not_checked",
    "something may be wrong with them, or a change was under way; run it again when nobody holds "
    "the lock"};

// The flags that depend on the record's other words: not compared.
constexpr uint16_t kDerivedFlags = kExtended | kWarped | kScaled;

bool same_ratio(const Ratio& a, const Ratio& b) {
  return a.whole == b.whole && a.part == b.part && a.denominator == b.denominator &&
         a.reciprocal == b.reciprocal;
}

// What the text determines of one rate, whatever happened to the policy since it was defined. The
// clock, the width of the fields and the largest capacity are carried over by changes.
std::string differing_rate(const Rate& rate, const Quota& stored, uint16_t policy_flags) {
  Quota expected = make_rate(rate, {stored.t0, 0});
  if (family(expected) == Family::kBucket) {
    const uint16_t flags = expected.flags;
    const uint32_t shift = stored.shift & 63;
    if ((static_cast<uint128>(rate.limit) << shift) >> 63 != 0 ||
        (static_cast<uint128>(uint64_t{rate.burst} + rate.debt + 1) << shift) >> 62 != 0) {
      return "the unit of the clock";
    }
    make_bucket(rate, stored.t0, shift, expected);
    expected.algorithm = static_cast<uint8_t>(rate.algorithm);
    expected.flags |= flags;
    if (!same_ratio(expected.units_per_ns, stored.units_per_ns) ||
        !same_ratio(expected.ns_per_unit, stored.ns_per_unit)) {
      return "the slope of the clock";
    }
  }
  expected.flags |= policy_flags;
  if (expected.algorithm != stored.algorithm) return "the algorithm";
  if (expected.limit != stored.limit) return "the limit";
  if (expected.burst != stored.burst) return "the burst";
  if (expected.period_ns != stored.period_ns) return "the period";
  if (expected.capacity != stored.capacity) return "the capacity";
  if (expected.capacity_max > stored.capacity_max) return "the largest capacity";
  if (expected.extra != stored.extra) return "the extra word";
  if (((expected.flags ^ stored.flags) & ~kDerivedFlags) != 0) return "the flags";
  return {};
}

std::string differing_options(const Policy& policy, const PolicyOptions& stored) {
  if (stored.rates != policy.rates.size()) return "the number of rates";
  if (stored.bans != (policy.ban.after != 0)) return "the bans";
  if (stored.enforced_percent != policy.enforced_percent) return "the enforced share";
  if (!std::equal(stored.class_percent, stored.class_percent + 3, policy.class_percent)) {
    return "the classes";
  }
  if (stored.strict != (policy.scope == PolicyScope::kStrict)) return "the scope";
  const bool deny = policy.on_unavailable == OnUnavailable::kDeny;
  return stored.deny_if_unavailable == deny ? "" : "the answer when undecided";
}

}  // namespace

std::string Verifier::differing_word(const Policy& policy, const shm::PolicyWords& words) const {
  std::string what = differing_options(policy, options_from_word(words[kOptionWords]));
  if (!what.empty()) return what;
  if (words[kWordFactor] > kWholePpm) return "the factor";
  const bool shared = policy.scope == PolicyScope::kCluster;
  if (words[kWordShare] >= (shared ? kWholePpm : 1)) return "the share";
  const bool deny = policy.on_unavailable == OnUnavailable::kDeny;
  const auto flags =
      static_cast<uint16_t>((deny ? kDenyIfUnavailable : 0) | (shared ? kShared : 0));
  for (uint32_t i = 0; i < policy.rates.size(); ++i) {
    what = differing_rate(policy.rates[i], quota_from(words, i), flags);
    if (what.empty() && words[i * shm::kPartWords + kWordAhead] !=
                            static_cast<uint64_t>(policy.rates[i].ahead_ns)) {
      what = "how far ahead bookings go";
    }
    if (!what.empty()) return cat(what, " of rate ", i);
  }
  if (policy.ban.after == 0) return {};
  const Quota stored = quota_from(words, kBanPart);
  Quota expected{};
  make_ban(policy.ban, 0, expected);
  const bool same = stored.algorithm == expected.algorithm && stored.limit == expected.limit &&
                    stored.period_ns == expected.period_ns &&
                    stored.capacity == expected.capacity && stored.burst == expected.burst &&
                    stored.extra == expected.extra && stored.capacity_max >= expected.capacity_max;
  return same ? "" : "the bans";
}

// One read of a record is one version of it, words and text; its name never changes.
void Verifier::check_policies() {
  for (uint32_t i = 0; i < engine_.registry.size(); ++i) {
    const auto number = static_cast<uint16_t>(i);
    shm::PolicyWords words;
    std::string text;
    if (engine_.registry.read(number, words, text)) check_policy(number, words, text);
  }
}

void Verifier::check_policy(uint16_t number, const shm::PolicyWords& words,
                            const std::string& text) {
  const auto found = [&](const FindingKind& kind, std::string value) {
    Finding finding = make(kind, std::move(value));
    finding.policy = policy_label(number);
    report(finding);
  };
  const std::string name = engine_.registry.name(number);
  if (!valid_policy_name(name)) {
    found(kPolicyName, cat("policy number ", number, " is called '", printable(name), "'"));
  } else if (const int first = engine_.registry.find(name);
             first != number && !engine_.registry.removed(number)) {
    found(kPolicyNameTwice, cat("policies number ", first, " and ", number));
  }
  const absl::StatusOr<Policy> policy = parse_policy(text);
  if (!policy.ok()) {
    found(kPolicyText, cat("'", printable(text), "' does not parse"));
    return;
  }
  if (std::string what = differing_word(*policy, words); !what.empty()) {
    found(kPolicyWords, cat(what, " is not that of '", printable(text), "'"));
  }
}

std::vector<Finding> Verifier::override_faults(bool& count_low) const {
  const shm::Overrides& table = engine_.overrides;
  std::vector<Finding> faults;
  std::vector<std::tuple<uint64_t, uint64_t, uint16_t>> keys;
  std::vector<bool> named(size_t{engine_.registry.size()}, false);
  bool all = false;
  for (uint64_t i = 0; i < table.places(); ++i) {
    const shm::Pair entry = table.place(i);
    if (entry.low <= shm::kOverrideDeleted) continue;
    const shm::Override what = shm::unpack_override(entry.high);
    const auto found = [&](const FindingKind& kind, std::string value) {
      Finding finding = make(kind, cat("entry ", i, ": ", value));
      finding.policy = what.from == shm::kAnyPolicy ? "*" : policy_label(what.from);
      faults.push_back(std::move(finding));
    };
    const auto defined = [this](uint16_t number) { return engine_.registry.version(number) != 0; };
    const auto kind = static_cast<OverrideKind>(what.action);
    const bool ends = kind == OverrideKind::kBan;
    if (!ends && (kind == OverrideKind::kNone || kind > OverrideKind::kDeny)) {
      found(kOverrideMalformed, cat("action ", what.action));
    } else if (what.from != shm::kAnyPolicy && !defined(what.from)) {
      found(kOverrideMalformed, cat("for policy number ", what.from, ", which is not defined"));
    } else if (kind == OverrideKind::kPolicy && !defined(what.to)) {
      found(kOverrideMalformed, cat("uses policy number ", what.to, ", which is not defined"));
    } else if (!table.leads_to(i)) {
      found(kOverrideUnreachable, "not where its key is looked for");
    }
    all = all || what.from == shm::kAnyPolicy;
    if (what.from < named.size()) named[what.from] = true;
    // What ends has fewer bits of hash; the rest is its end.
    keys.emplace_back(entry.low, ends ? 0 : static_cast<uint32_t>(entry.high), what.from);
  }
  const size_t entries = keys.size();
  std::sort(keys.begin(), keys.end());
  for (auto at = keys.begin(); (at = std::adjacent_find(at, keys.end())) != keys.end(); ++at) {
    Finding finding = make(kOverrideTwice, cat("two entries of hash ", hex(std::get<0>(*at), 16)));
    const uint16_t from = std::get<2>(*at);
    finding.policy = from == shm::kAnyPolicy ? "*" : policy_label(from);
    faults.push_back(std::move(finding));
  }
  for (uint32_t i = 0; i < named.size(); ++i) {
    const auto number = static_cast<uint16_t>(i);
    shm::PolicyWords words;
    std::string text;
    if (!(named[i] || all) || !engine_.registry.read(number, words, text) ||
        options_from_word(words[kOptionWords]).overrides) {
      continue;
    }
    Finding finding = make(kOverrideUnseen, cat(named[i] ? "overrides of its own"
                                                         : "overrides of "
                                                           "all policies"));
    finding.policy = policy_label(number);
    faults.push_back(std::move(finding));
  }
  count_low = table.size() < entries;
  if (count_low) {
    faults.push_back(make(kOverrideCount, cat(entries, " entries, ", table.size(), " counted")));
  }
  if (table.changing()) faults.push_back(make(kOverrideInterrupted, "a change was begun"));
  return faults;
}

// Writers hold the lock for the whole of a change, so what is found under it is not one under way.
std::vector<Finding> Verifier::settled_override_faults() {
  const auto lock = engine_.registry.lock();
  if (!lock.held()) return {make(kOverridesNotChecked, "overrides not checked: lock held")};
  bool count_low = false;
  std::vector<Finding> faults = override_faults(count_low);
  const bool interrupted = engine_.overrides.changing();
  if (options_.repair && (count_low || interrupted)) {
    // Killed here: the mark stays, and the next writer counts again.
    override_writer(engine_).finish_interrupted();
  }
  for (Finding& finding : faults) {
    finding.repaired = options_.repair && (finding.name == kOverrideCount.name ||
                                           finding.name == kOverrideInterrupted.name);
  }
  return faults;
}

// Without a finding nobody waits for the lock. They are told without it: whoever is told may change
// the segment.
void Verifier::check_overrides() {
  bool count_low = false;
  if (engine_.overrides.places() == 0 || override_faults(count_low).empty()) return;
  for (const Finding& finding : settled_override_faults()) report(finding);
}

}  // namespace brim
