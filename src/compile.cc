// SPDX-License-Identifier: MIT
#include "src/compile.h"

#include <algorithm>
#include <string_view>

#include "src/algo/step.h"
#include "src/base/clock.h"
#include "src/base/text.h"
#include "src/make_rate.h"
#include "src/policy_words.h"

namespace brim {

namespace {

using shm::PolicyWords;

// The share of the rate that holds: the operator's factor, and the share while others are away.
uint32_t whole_factor(const PolicyWords& words) {
  const auto factor = static_cast<uint32_t>(words[kWordFactor]);
  const uint64_t share = words[kWordShare];
  if (share == 0 || share >= kWholePpm || factor == 0) return factor;
  return static_cast<uint32_t>(std::max<uint64_t>(factor * share / kWholePpm, 1));
}

// What a part has to know of the options and of the warp.
void mark(const PolicyOptions& options, const Warp& warp, Quota& quota) {
  const Family kind = family(quota);
  const bool warps =
      (warp.ramp_ns != 0 && warp.from_ppm != kWholePpm) || warp.factor_ppm != kWholePpm;
  quota.warp = warp;
  quota.flags &= static_cast<uint16_t>(~(kExtended | kDenyIfUnavailable | kWarped | kScaled));
  if (!is_plain(options) || kind == Family::kCells || kind == Family::kNone ||
      (warps && (kind != Family::kBucket || warp.factor_ppm == 0))) {
    quota.flags |= kExtended;
  }
  if (options.deny_if_unavailable) quota.flags |= kDenyIfUnavailable;
  if (warps) quota.flags |= kind == Family::kBucket ? kWarped : kScaled;
}

// Stores the options, and tells every part.
void finish(const Policy& policy, int64_t now, bool overrides, PolicyWords& words) {
  PolicyOptions options;
  options.rates = static_cast<uint8_t>(policy.rates.size());
  options.bans = policy.ban.after != 0;
  options.enforced_percent = policy.enforced_percent;
  std::copy_n(policy.class_percent, 3, options.class_percent);
  options.overrides = overrides;
  options.deny_if_unavailable = policy.on_unavailable == OnUnavailable::kDeny;
  options.strict = policy.scope == PolicyScope::kStrict;
  words[kOptionWords] = options_word(options);
  // Its agent looks after no other ones: a share would stay for ever.
  if (policy.scope != PolicyScope::kCluster) words[kWordShare] = 0;
  const Warp warp{now, static_cast<uint64_t>(policy.warm_up_ns), policy.warm_up_from_ppm,
                  whole_factor(words)};
  for (uint32_t i = 0; i < options.rates; ++i) {
    Quota quota = quota_from(words, i);
    mark(options, warp, quota);
    quota.flags &= static_cast<uint16_t>(~kShared);
    if (policy.scope == PolicyScope::kCluster) quota.flags |= kShared;
    store_quota(quota, i, words);
  }
  // Keys of rates that are gone have nothing to tell.
  for (uint32_t i = options.rates; i < kBanPart; ++i) {
    words[i * shm::kPartWords + kWordKind] &= ~(uint64_t{kShared} << 16);
  }
}

absl::Status unfit(std::string_view what) {
  return absl::FailedPreconditionError(cat("policy_change_unfit: ", what));
}

// The largest word that anyone may have stored under `quota`; kValueMax if that is unknown.
Word highest_stored(const Quota& quota, int64_t now) {
  const Instant at = instant(quota, now + 2 * kClockSkewNs);
  switch (family(quota)) {
    case Family::kBucket:
      return at.v + quota.capacity_max;
    case Family::kWindow:
      return window::highest_word(at.v, at.now_ns, quota);
    case Family::kCounter:
      return at.v + 2 > counter::window_mask(quota)
                 ? kValueMax
                 : counter::pack({at.v + 2, 0, 0, 0, false}, quota) - 1;
    default:
      return kValueMax;
  }
}

absl::Status constant() {
  return unfit(
      "a policy in use can not become unlimited or deny, which keep no clock; set its factor to 0, "
      "use overrides, or define a new policy");
}

// Sets the new part's clock beyond every stored word, so that all of them are idle.
absl::Status jump(const Quota& old, int64_t now, Quota& quota) {
  if (family(old) == Family::kNone) return absl::OkStatus();
  if (family(quota) == Family::kNone) return constant();
  if (family(old) == Family::kCells || family(quota) == Family::kCells) {
    return unfit(
        "window logs and leases can not be reset at once; reset their keys one by one, or define "
        "a new policy");
  }
  if (family(old) == Family::kBan && family(quota) == Family::kBan) {
    const uint64_t last = ban::highest_end(now + 2 * kClockSkewNs, old) << ban::kTickShift;
    if (last + old.extra > kLifeNs / 2) {
      return unfit("the clock of the bans has been set on too often; define a new policy");
    }
    quota.t0 = now - static_cast<int64_t>(last + old.extra);
    return absl::OkStatus();
  }
  const Word top = highest_stored(old, now);
  const uint64_t clock = token_clock(quota, now);
  uint64_t wanted = 0;
  switch (family(quota)) {
    case Family::kBucket:
      wanted = top + 1;
      break;
    case Family::kWindow:
      wanted = (top >> window::count_bits(quota)) + 2;
      break;
    case Family::kCounter:
      wanted = (top >> (2 * counter::count_bits(quota))) + 3;
      break;
    default:
      wanted = ~uint64_t{0};
  }
  // Half of what a word holds is left for the years to come.
  const uint32_t used = family(quota) == Family::kWindow    ? window::count_bits(quota)
                        : family(quota) == Family::kCounter ? 2 * counter::count_bits(quota)
                                                            : 0;
  if (top == kValueMax || used > 60 || wanted >> (61 - used) != 0) {
    return unfit(
        "the words stored under the old algorithm can not be told from new ones; define the policy "
        "under a new name");
  }
  if (wanted > clock) quota.v0 += wanted - clock;
  return absl::OkStatus();
}

// A reset reaches rates and bans that the policy has no more: they may come back.
absl::Status jump_unused(const Policy& policy, int64_t now, PolicyWords& words) {
  for (uint32_t i = static_cast<uint32_t>(policy.rates.size()); i < shm::kMaxParts; ++i) {
    const Quota old = quota_from(words, i);
    const bool used = i == kBanPart && policy.ban.after != 0;
    if (used || old.algorithm == 0 || family(old) == Family::kCells ||
        family(old) == Family::kNone) {
      continue;
    }
    Quota quota = old;
    if (absl::Status moved = jump(old, now, quota); !moved.ok()) return moved;
    store_quota(quota, i, words);
  }
  return absl::OkStatus();
}

// Goes on from `old`: a stored word means under the new quota what it meant under the old one.
absl::Status carry_bucket(const Rate& rate, const Quota& old, int64_t now, Quota& quota) {
  const uint32_t shift = old.shift & 63;
  const uint128 units = static_cast<uint128>(rate.limit) << shift;
  const uint128 capacity = static_cast<uint128>(uint64_t{rate.burst} + rate.debt) << shift;
  if (units > static_cast<uint128>(64) * static_cast<uint64_t>(rate.period_ns) ||
      capacity + (uint128{1} << shift) > uint64_t{1} << 61) {
    return unfit(cat("a rate of ", rate.limit, " in ", rate.period_ns, " ns with burst ",
                     rate.burst,
                     " is too far from the old rate to keep each key's debt; change it "
                     "with reset"));
  }
  const uint8_t algorithm = quota.algorithm;
  const uint16_t flags = quota.flags;
  make_bucket(rate, now, shift, quota);
  quota.algorithm = algorithm;
  quota.flags |= flags;
  quota.v0 = token_clock(old, now);
  quota.capacity_max = std::max(quota.capacity_max, old.capacity_max);
  return absl::OkStatus();
}

absl::Status carry_window(const Quota& old, int64_t now, Quota& quota) {
  const bool counts = family(quota) == Family::kCounter;
  if (has(old, kMonths | kFirstHit) != has(quota, kMonths | kFirstHit) ||
      (has(quota, kMonths) && old.extra != quota.extra)) {
    return unfit("windows of another kind can not take the counts over; change it with reset");
  }
  const uint32_t bits = counts ? counter::count_bits(old) : window::count_bits(old);
  if (uint64_t{quota.limit} >> bits != 0) {
    return unfit(cat("a limit of ", quota.limit, " does not fit the ", bits,
                     " bits in which counts are stored; change it with reset"));
  }
  quota.shift = old.shift;
  if (has(quota, kMonths)) {  // months are numbered from 1970 whatever the offset
    quota.v0 = old.v0;
    return absl::OkStatus();
  }
  quota.v0 = token_clock(old, now);
  if (has(quota, kFirstHit)) {
    quota.units_per_ns = old.units_per_ns;
    quota.ns_per_unit = old.ns_per_unit;
    quota.capacity_max = std::max(quota.capacity_max, old.capacity_max);
    const uint64_t tick = std::max<uint64_t>(old.ns_per_unit.whole, 1);
    quota.t0 = now - static_cast<int64_t>(elapsed_ns(old, now) % tick);
    return absl::OkStatus();
  }
  const uint64_t windows = kLifeNs / static_cast<uint64_t>(quota.period_ns);
  if (!counts && bits_of(quota.v0 + windows) + bits > 63) {
    return unfit("the new period is too short for the numbers stored; change it with reset");
  }
  return absl::OkStatus();
}

absl::Status carry(const Rate& rate, const Quota& old, int64_t now, Quota& quota) {
  if (old.algorithm == 0 || family(old) == Family::kNone) return absl::OkStatus();
  if (family(quota) == Family::kNone) return constant();
  if (family(old) != family(quota) ||
      (family(quota) == Family::kCells && old.algorithm != quota.algorithm)) {
    return unfit(
        "another algorithm can not read what the old one stored; change it with reset, "
        "which forgets every key, or define a new policy");
  }
  switch (family(quota)) {
    case Family::kBucket:
      return carry_bucket(rate, old, now, quota);
    case Family::kWindow:
    case Family::kCounter:
      return carry_window(old, now, quota);
    case Family::kCells:
      quota.capacity_max = std::max(quota.capacity_max, old.capacity_max);
      break;
    case Family::kBan:
    case Family::kNone:
      break;
  }
  return absl::OkStatus();
}

}  // namespace

uint32_t cells_needed(const Policy& policy) {
  uint32_t most = 0;
  for (const Rate& rate : policy.rates) {
    if (rate.algorithm == Algorithm::kSlidingLog) most = std::max(most, (rate.limit + 1) / 2 * 2);
    if (rate.algorithm == Algorithm::kConcurrency) most = std::max(most, rate.limit * 2);
  }
  return most;
}

absl::Status check_cells(const Policy& policy, uint32_t cells_per_key, std::string_view path) {
  const uint32_t needed = cells_needed(policy);
  if (needed <= cells_per_key) return absl::OkStatus();
  return absl::FailedPreconditionError(
      cat("too_few_cells: the policy's log or leases need ", needed, " cells a key, segment ", path,
          " has ", cells_per_key,
          "; create it with this policy or with cells_per_key, or give it more: "
          "brim resize NAME --cells-per-key ",
          needed));
}

absl::Status cluster_not_kept(std::string_view path) {
  return absl::FailedPreconditionError(
      cat("cluster_not_kept: segment ", path,
          " has no room for what nodes share, which 'scope cluster' needs; create it with such a "
          "policy or with the option cluster, or give it room: brim resize NAME --cluster"));
}

absl::Status check_cluster(const Policy& policy, bool kept, std::string_view path) {
  return policy.scope == PolicyScope::kNode || kept ? absl::OkStatus() : cluster_not_kept(path);
}

absl::Status check_fits(const Rate& rate) {
  Quota quota{};
  quota.algorithm = static_cast<uint8_t>(rate.algorithm);
  const auto bad = [](std::string_view what) {
    return absl::InvalidArgumentError(cat("invalid_policy: ", what));
  };
  switch (family(quota)) {
    case Family::kBucket: {
      const uint64_t most = uint64_t{rate.burst} + rate.debt;
      const uint64_t by_debt = rate.forward || rate.algorithm == Algorithm::kQueue ? 1 : 0;
      if (most > kMaxBurst || !quota_fits(rate.limit, rate.period_ns, 1) ||
          most + by_debt > (uint64_t{1} << 61) >> token_shift(rate.limit, rate.period_ns)) {
        return bad(cat("a burst of ", most, " at ", rate.limit, " in ", rate.period_ns,
                       " ns takes over 36 years to refill; give a smaller burst or a higher rate"));
      }
      break;
    }
    case Family::kWindow:
      quota = make_rate(rate, {0, 0});
      if (rate.first_hit && static_cast<uint64_t>(rate.period_ns) > kLifeNs / 2) {
        return bad(cat("a first-hit window of ", rate.period_ns, " ns is longer than 9 years"));
      }
      if (uint64_t{rate.limit} >> window::count_bits(quota) != 0) {
        return bad(cat("a limit of ", rate.limit, " in windows of ", rate.period_ns,
                       " ns does not fit a slot's word; give a limit below ",
                       uint64_t{1} << window::count_bits(quota), " or a longer period"));
      }
      break;
    case Family::kCounter:
      if (rate.limit >> 21 != 0) {
        return bad(cat("the limit of a sliding counter is ", rate.limit,
                       "; give at most 2097151, or use gcra or fixed-window"));
      }
      // Half a turn of the window's number must be long, or keys come back before it is over.
      quota = make_rate(rate, {0, 0});
      if (static_cast<uint128>(counter::window_mask(quota) / 2) *
              static_cast<uint64_t>(rate.period_ns) <
          static_cast<uint64_t>(kHour)) {
        return bad(cat("a sliding counter of ", rate.limit, " in ", rate.period_ns,
                       " ns does not fit a slot's word; give a longer period"));
      }
      break;
    default:
      break;
  }
  return absl::OkStatus();
}

absl::StatusOr<PolicyWords> compile(const Policy& policy, const Beginning& at) {
  return recompile(policy, at, PolicyWords{}, false);
}

absl::StatusOr<PolicyWords> recompile(const Policy& policy, const Beginning& at,
                                      const PolicyWords& old, bool reset) {
  PolicyWords words = old;  // parts that are not used any more keep their clocks
  const bool is_new = old[kOptionWords] == 0;
  for (uint32_t i = 0; i < policy.rates.size(); ++i) {
    Quota quota = make_rate(policy.rates[i], at);
    const Quota before = quota_from(old, i);
    const absl::Status kept = before.algorithm == 0 ? absl::OkStatus()
                              : reset               ? jump(before, at.now_ns, quota)
                                      : carry(policy.rates[i], before, at.now_ns, quota);
    if (!kept.ok()) return kept;
    store_quota(quota, i, words);
    words[i * shm::kPartWords + kWordAhead] = static_cast<uint64_t>(policy.rates[i].ahead_ns);
  }
  if (policy.ban.after != 0) {
    Quota quota{};
    make_ban(policy.ban, at.now_ns, quota);
    const Quota before = quota_from(old, kBanPart);
    if (before.algorithm != 0 && reset) {
      if (absl::Status moved = jump(before, at.now_ns, quota); !moved.ok()) return moved;
    } else if (before.algorithm != 0) {
      quota.t0 = before.t0;
      quota.capacity_max = std::max(quota.capacity_max, before.capacity_max);
    }
    store_quota(quota, kBanPart, words);
  }
  if (absl::Status status = reset ? jump_unused(policy, at.now_ns, words) : absl::OkStatus();
      !status.ok()) {
    return status;
  }
  if (is_new) words[kWordFactor] = kWholePpm;
  finish(policy, at.now_ns, !is_new && options_from_word(old[kOptionWords]).overrides, words);
  return words;
}

namespace {

// `words` with every rate running at whole_factor() from now on.
PolicyWords with_whole_factor(PolicyWords words, const PolicyWords& old, int64_t now_ns) {
  const PolicyOptions options = options_from_word(old[kOptionWords]);
  for (uint32_t i = 0; i < options.rates; ++i) {
    Quota quota = quota_from(old, i);
    Warp warp{now_ns, 0, kWholePpm, kWholePpm};
    if (has(quota, kWarped | kScaled)) warp = quota.warp;
    // What is left of a warm-up goes on from where it is.
    const uint64_t gone = ns_since(warp.start_ns, now_ns);
    warp.from_ppm = rate_ppm(gone, {0, warp.ramp_ns, warp.from_ppm, kWholePpm});
    warp.ramp_ns -= std::min(gone, warp.ramp_ns);
    warp.start_ns = now_ns;
    warp.factor_ppm = whole_factor(words);
    if (family(quota) == Family::kBucket) {
      quota.v0 = token_clock(quota, now_ns);
      quota.t0 = now_ns;
    }
    mark(options, warp, quota);
    store_quota(quota, i, words);
  }
  return words;
}

}  // namespace

PolicyWords with_factor(const PolicyWords& old, int64_t now_ns, uint32_t factor_ppm) {
  PolicyWords words = old;
  words[kWordFactor] = factor_ppm;
  return with_whole_factor(words, old, now_ns);
}

PolicyWords with_share(const PolicyWords& old, int64_t now_ns, uint32_t share_ppm) {
  PolicyWords words = old;
  words[kWordShare] = share_ppm;
  return with_whole_factor(words, old, now_ns);
}

PolicyWords with_overrides(const PolicyWords& old) {
  PolicyWords words = old;
  PolicyOptions options = options_from_word(old[kOptionWords]);
  options.overrides = true;
  words[kOptionWords] = options_word(options);
  for (uint32_t i = 0; i < options.rates; ++i) {
    words[i * shm::kPartWords + kWordKind] |= uint64_t{kExtended} << 16;
  }
  return words;
}

}  // namespace brim
