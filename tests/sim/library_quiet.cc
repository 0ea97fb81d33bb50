// SPDX-License-Identifier: MIT
// What the ghost checks when nobody is in the middle of a call.
#include <algorithm>

#include "src/parts.h"
#include "tests/sim/library_ghost.h"

namespace brim::sim {

uint64_t LibraryGhost::used(uint32_t policy, uint32_t key, uint32_t part) const {
  const Hash128 hash = hash_key(engine_->secret, kKeyNames[key]);
  const Target target = locate(*engine_, number_[policy], part, hash);
  Quota quota;
  shm::Slot slot;
  const uint64_t at = engine_->table.find(target.probe, target.id, slot);
  if (at == engine_->table.slot_count() ||
      !read_quota(engine_->registry, number_[policy], part, quota)) {
    return 0;
  }
  const int64_t now = engine_->clock.now();
  if (family(quota) != Family::kCells) {
    return (debt(slot.word, instant(quota, now), quota) + (1u << 20) - 1) >> 20;
  }
  uint64_t live = 0;
  for (uint32_t i = 0; i < engine_->cells_per_key; ++i) {
    const uint64_t value = engine_->cells[at * engine_->cells_per_key + i].value;
    live += value > static_cast<uint64_t>(now) && value <= kValueMax ? 1 : 0;
  }
  return live;
}

// Empties the key with calls of one permit: each answer is known.
void LibraryGhost::drain(uint32_t policy, uint32_t key) {
  if (use_begun_[policy][key] != 0 || (may_fill_ && plan_->on_full == shm::kOnFullEvict)) return;
  const PolicyHandle handle = handle_of(number_[policy]);
  uint64_t taken[3];
  for (uint32_t i = 0; i < rates(policy); ++i) taken[i] = used(policy, key, i);
  ++totals.drained;
  for (int n = 0; n < 64; ++n) {
    const auto cost = static_cast<uint32_t>(1 + n % 2);
    bool expected = true;
    uint64_t left = ~uint64_t{0};
    const uint32_t version = held_version(policy);
    for (uint32_t i = 0; i < rates(policy); ++i) {
      const Quota quota = effective(policy, version, i, Priority::kNormal);
      expected = expected && admits(quota, taken[i], cost);
      if (by_debt(quota)) {
        left = 0;
      } else {
        const uint64_t most = capacity_of(quota);
        left = std::min(left, most > taken[i] ? most - taken[i] : 0);
      }
    }
    const Decision decision = handle.try_acquire(kKeyNames[key], cost);
    if (decision.verdict == Verdict::kUnavailable) {
      if (!may_fill_) world.fail("quiet: unavailable");
      return;
    }
    if (decision.reason == Reason::kBarred || decision.reason == Reason::kShadow) return;
    if ((decision.verdict == Verdict::kAllowed) != expected) {
      world.fail("quiet: policy %u key %u cost %u is %s with %llu used of part 0, %llu left",
                 policy, key, cost, expected ? "refused" : "admitted",
                 static_cast<unsigned long long>(taken[0]), static_cast<unsigned long long>(left));
      return;
    }
    if (!expected && cost == 1) return;
    if (!expected) continue;
    for (uint32_t i = 0; i < rates(policy); ++i) taken[i] += cost;
  }
}

// A refusal names the very nanosecond from which the call passes.
void LibraryGhost::check_retry(uint32_t policy, uint32_t key) {
  const shm::PolicyWords& words = versions_[policy][held_version(policy)];
  if (use_begun_[policy][key] != 0 || may_fill_ || plan_->policy[policy].ban_after != 0 ||
      plan_->policy[policy].shadow || words[kWordFactor] != kWholePpm) {
    return;
  }
  const PolicyHandle handle = handle_of(number_[policy]);
  const Decision refused = handle.try_acquire(kKeyNames[key]);
  if (refused.verdict != Verdict::kDenied || refused.retry_after_ns == kNever) return;
  advance_clock(refused.retry_after_ns - 1);
  if (handle.peek(kKeyNames[key], 1).verdict != Verdict::kDenied) {
    return world.fail("quiet: policy %u key %u passes before its retry_after", policy, key);
  }
  advance_clock(1);
  if (handle.try_acquire(kKeyNames[key]).verdict != Verdict::kAllowed) {
    return world.fail("quiet: policy %u key %u is refused after its retry_after", policy, key);
  }
}

uint32_t LibraryGhost::held_version(uint32_t policy) const {
  shm::PolicyWords words;
  std::string text;
  engine_->registry.read(number_[policy], words, text);
  const shm::PolicyWords* const held = any_version(policy, words, 0);
  return held == nullptr ? 0 : static_cast<uint32_t>(held - versions_[policy]);
}

void LibraryGhost::check_quiet() {
  if (engine_->counters.sum(shm::Event::kHealed) != 0) world.fail("quiet: a true word was healed");
  const uint64_t evicted = engine_->counters.sum(shm::Event::kEvictedLive);
  totals.evictions += evicted;
  for (uint32_t p = 0; p < plan_->policies; ++p) {
    shm::PolicyWords words;
    std::string text;
    if (!engine_->registry.read(number_[p], words, text) ||
        any_version(p, words, done_[p]) == nullptr) {
      world.fail("quiet: the record of policy %u is none that was written", p);
      return;
    }
    if (plan_->policy[p].leases || evicted != 0) continue;
    for (uint32_t k = 0; k < plan_->keys; ++k) {
      for (uint32_t i = 0; i < rates(p) && plan_->frozen; ++i) {
        ++totals.checked_parts;
        const auto found = static_cast<int64_t>(used(p, k, i));
        const int64_t most = charged_[p][k] + killed_[p][k] + over_[p][k] + slack(p, k, i);
        const int64_t least = charged_[p][k] - killed_back_[p][k] - slack(p, k, i);
        if (found <= most && found >= std::max<int64_t>(least, 0)) continue;
        world.fail(
            "quiet: policy %u key %u part %u has %lld used, admitted %lld (killed %lld, "
            "killed refunds %lld, charged more %lld)",
            p, k, i, static_cast<long long>(found), static_cast<long long>(charged_[p][k]),
            static_cast<long long>(killed_[p][k]), static_cast<long long>(killed_back_[p][k]),
            static_cast<long long>(over_[p][k]));
        return;
      }
    }
    for (uint32_t k = 0; k < plan_->keys && plan_->frozen && !world.failed(); ++k) drain(p, k);
  }
  if (world.failed() || evicted != 0) return;
  if (!plan_->frozen) advance_clock(int64_t{3} * 3600 * 1000000000);
  for (uint32_t p = 0; p < plan_->policies; ++p) {
    const uint64_t factor = versions_[p][held_version(p)][kWordFactor];
    if (plan_->policy[p].leases || factor == 0) continue;
    for (uint32_t k = 0; k < plan_->keys && !plan_->frozen && !world.failed(); ++k) {
      for (uint32_t i = 0; i < rates(p); ++i) {
        if (used(p, k, i) != 0) {
          return world.fail("quiet: policy %u key %u part %u is not idle in the end", p, k, i);
        }
      }
      drain(p, k);
    }
  }
  for (uint32_t p = 0; p < plan_->policies; ++p) {
    if (plan_->policy[p].leases) continue;
    for (uint32_t k = 0; k < plan_->keys && !world.failed(); ++k) check_retry(p, k);
  }
}

// The clock moved: each part's bound, by the calls whose instants surely lie in a span.
void LibraryGhost::check_window(uint32_t policy, uint32_t key, uint32_t part) {
  const Quota first = quota_from(versions_[policy][0], part);
  const auto cap = static_cast<int64_t>(most_permits(policy, part)) + refunded_[policy][key];
  const auto period = static_cast<int64_t>(first.period_ns);
  double shared = 0;
  for (uint32_t v = 0; v <= begun_[policy]; ++v) {
    const PolicyOptions options = options_from_word(versions_[policy][v][kOptionWords]);
    if (options.class_percent[0] != 100) shared = 1;
  }
  double slope = 0;
  for (uint32_t v = 0; v <= begun_[policy]; ++v) {
    const Quota quota = quota_from(versions_[policy][v], part);
    slope = std::max(slope, static_cast<double>(quota.limit) / static_cast<double>(period));
  }
  const auto sum = [&](auto within) {
    int64_t total = 0;
    for (uint32_t i = 0; i < admission_count_; ++i) {
      const Admission& one = admission_[i];
      if (one.policy == policy && one.key == key && within(one)) total += one.cost;
    }
    return total;
  };
  const auto fail = [&](const char* what, int64_t total, double most) {
    world.fail("over: policy %u key %u part %u: %s %lld admitted, at most %.3f", policy, key, part,
               what, static_cast<long long>(total), most);
  };
  for (uint32_t i = 0; i < admission_count_; ++i) {
    const Admission& from = admission_[i];
    if (from.policy != policy || from.key != key) continue;
    switch (family(first)) {
      case Family::kBucket:
        for (uint32_t j = 0; j < admission_count_; ++j) {
          const int64_t until = admission_[j].end;
          if (until < from.begin) continue;
          const int64_t total = sum(
              [&](const Admission& one) { return one.begin >= from.begin && one.end <= until; });
          const auto span = static_cast<double>(until - from.begin + 2 + begun_[policy]);
          // A class may have a share that is no whole number of permits.
          const double most = static_cast<double>(cap) + shared + span * slope + 1e-6;
          if (static_cast<double>(total) > most) return fail("bucket", total, most);
        }
        break;
      case Family::kWindow: {
        if (has(first, kFirstHit)) {
          const int64_t total = sum([&](const Admission& one) {
            return one.begin >= from.begin && one.end < from.begin + period;
          });
          if (total > 2 * cap) return fail("first hit", total, static_cast<double>(2 * cap));
          break;
        }
        const uint64_t window = token_clock(first, from.begin);
        const int64_t total = sum([&](const Admission& one) {
          return token_clock(first, one.begin) == window && token_clock(first, one.end) == window;
        });
        if (total > cap) return fail("window", total, static_cast<double>(cap));
        break;
      }
      case Family::kCounter: {
        const uint64_t window = token_clock(first, from.begin);
        int64_t last = 0;
        const int64_t now = sum([&](const Admission& one) {
          const bool in =
              token_clock(first, one.begin) == window && token_clock(first, one.end) == window;
          if (in) last = std::max(last, one.end);
          return in;
        });
        const int64_t before = sum([&](const Admission& one) {
          return token_clock(first, one.begin) == window - 1 &&
                 token_clock(first, one.end) == window - 1;
        });
        if (now > cap) return fail("counter", now, static_cast<double>(cap));
        if (now == 0 || refunded_[policy][key] != 0) break;
        const uint64_t gone =
            elapsed_ns(first, last) - (window - first.v0) * static_cast<uint64_t>(first.period_ns);
        double weight = static_cast<double>(before) *
                        static_cast<double>(static_cast<uint64_t>(period) - gone) /
                        static_cast<double>(period);
        if (has(first, kFloorWeight)) weight = static_cast<double>(static_cast<int64_t>(weight));
        const double most = static_cast<double>(cap) - weight + 1e-6;
        if (static_cast<double>(now) > most) return fail("sliding counter", now, most);
        break;
      }
      case Family::kCells: {
        const int64_t span = period + (has(first, kInclusive) ? 1 : 0);
        const int64_t total = sum([&](const Admission& one) {
          return one.begin >= from.begin && one.end < from.begin + span;
        });
        if (total > cap) return fail("log", total, static_cast<double>(cap));
        break;
      }
      default:
        break;
    }
  }
}

void LibraryGhost::check_bounds() {
  if (plan_->frozen || engine_->counters.sum(shm::Event::kEvictedLive) != 0) return;
  for (uint32_t p = 0; p < plan_->policies && !world.failed(); ++p) {
    if (plan_->policy[p].leases) continue;
    for (uint32_t k = 0; k < plan_->keys; ++k) {
      if (booked_[p][k]) continue;
      for (uint32_t i = 0; i < rates(p); ++i) check_window(p, k, i);
    }
  }
}

}  // namespace brim::sim
