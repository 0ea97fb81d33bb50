// SPDX-License-Identifier: MIT
#include "tests/soak/observer.h"

#include <algorithm>
#include <bit>
#include <cstdio>

namespace brim::soak {

namespace {

// How far the limiter's clock may be from CLOCK_MONOTONIC if it is not the same.
constexpr int64_t kSkewNs = kMs;

uint64_t key_of(const Record& record) { return uint64_t{record.policy} << 32 | record.key; }

// Calls of several permits on a log, and of several rates, may take and give back.
bool in_each_others_way(const Plan& plan) {
  return plan.parts[1].kind != Kind::kNone ||
         (plan.parts[0].kind == Kind::kLog && plan.cost_max > 1);
}

// What is older can not matter any more.
int64_t memory_of(const Plan& plan) {
  int64_t most = plan.ban_within + plan.ban_for + kSecond;
  for (const Part& part : plan.parts) {
    if (part.kind != Kind::kNone) most = std::max(most, 2 * part.period + kSecond);
  }
  return most;
}

bool only_bucket(const Plan& plan) {
  return plan.parts[1].kind == Kind::kNone &&
         (plan.parts[0].kind == Kind::kBucket || plan.parts[0].kind == Kind::kForward);
}

}  // namespace

void Latencies::add(int64_t ns) {
  const auto value = static_cast<uint64_t>(std::max<int64_t>(ns, 1));
  const auto octave = static_cast<size_t>(std::bit_width(value) - 1);
  const size_t eighth = octave < 3 ? 0 : (value >> (octave - 3)) & 7;
  ++bins[octave * 8 + eighth];
}
int64_t Latencies::quantile(double share) const {
  uint64_t total = 0;
  for (const uint64_t bin : bins) total += bin;
  const auto wanted = static_cast<uint64_t>(static_cast<double>(total) * share);
  uint64_t sum = 0;
  for (size_t i = 0; i < bins.size(); ++i) {
    sum += bins[i];
    if (sum > wanted) {
      const int64_t base = int64_t{1} << i / 8;
      return base + base / 8 * static_cast<int64_t>(i % 8);
    }
  }
  return 0;
}

void Observer::say(const char* what, uint64_t key, int64_t amount) {
  if (++found_ > 20) return;
  char text[160];
  std::snprintf(text, sizeof(text), "%s: policy %s, key %u: %ld\n", what, kPlans[key >> 32].name,
                static_cast<unsigned>(key), amount);
  findings_ += text;
}

void Observer::add(const RecordFile& file) {
  const int64_t margin = file.exact_clock != 0 ? 0 : kSkewNs;
  const uint32_t count = std::min(file.count.load(), kMaxRecords);
  uint32_t unanswered = 0;
  if (file.kill_ns != 0) kills_.push_back(file.kill_ns - base_);
  for (uint32_t i = 0; i < count; ++i) {
    const Record& record = file.records[i];
    ++totals_.calls;
    if (record.policy >= kPlanCount) {
      ++totals_.strange;
      continue;
    }
    Item item{key_of(record), {}, Item::What::kOther, {}};
    const bool answered = record.after != 0;
    item.call = {record.before - base_ - margin,
                 (answered ? record.after : file.ended_ns.load()) - base_ + margin, record.cost};
    if (!answered) {
      ++unanswered;
      ++totals_.unknown;
    } else if (record.op == Op::kAcquire) {
      durations_.push_back({record.before - base_, record.after - record.before});
    }
    if (record.op == Op::kAcquire || record.op == Op::kLease) add_acquire(record, item);
    if (record.op == Op::kRefund) {
      item.what = Item::What::kRefund;
      items_.push_back(item);
    }
  }
  if (unanswered > 1) ++totals_.unknown_twice;
  add_leases(file, count, margin);
}

void Observer::add_acquire(const Record& record, Item& item) {
  const Plan& plan = kPlans[record.policy];
  const bool lease = record.op == Op::kLease;
  if (record.after == 0) {
    item.what = Item::What::kUnknown;
  } else if (record.reason == kExempt || record.reason == kBlocked) {
    if (!plan.overrides) ++totals_.strange;
  } else if (record.verdict == kUnavailable) {
    ++totals_.unavailable;
    const bool may_be_full = plan.segment != kMain && record.reason == kFull;
    if (!may_be_full) ++totals_.contended[record.policy];
    if (record.admitted != 0) ++totals_.strange;
  } else if (record.verdict == kAllowed) {
    ++totals_.admitted;
    ++totals_.taken[record.policy];
    item.what = Item::What::kAdmitted;
    if (record.admitted == 0 || record.reason != kPlain) ++totals_.strange;
  } else {
    ++totals_.refused;
    ++totals_.denials[record.policy];
    item.what = record.reason == kBarred ? Item::What::kBan : Item::What::kRefused;
    const bool known = record.reason == kPlain || (record.reason == kBarred && plan.ban_after != 0);
    if (record.admitted != 0 || !known) ++totals_.strange;
  }
  // Leases count by how long they are held: add_leases().
  const bool counts = item.what != Item::What::kAdmitted && item.what != Item::What::kUnknown;
  if (!lease || counts) items_.push_back(item);
}

// Puts together what one worker did with each of its leases.
void Observer::add_leases(const RecordFile& file, uint32_t count, int64_t margin) {
  int64_t alive_until = file.kill_ns;
  if (alive_until == 0 && count != 0) alive_until = file.records[count - 1].after;
  std::unordered_map<uint32_t, Item> held;
  for (uint32_t i = 0; i < count; ++i) {
    const Record& record = file.records[i];
    const int64_t after = (record.after != 0 ? record.after : file.ended_ns.load()) - base_;
    const int64_t before = record.before - base_;
    const int64_t expires = record.expires - base_;
    if (record.op == Op::kLease) {
      if (record.after != 0 && record.verdict != kAllowed) continue;
      Item item{key_of(record), {}, Item::What::kSpan, {}};
      const int64_t longest = kPlans[record.policy].parts[0].period;
      item.span = {before - margin, after + margin, expires - margin, expires + margin};
      if (record.after == 0) {  // perhaps it got one: nothing is sure of it
        item.span.sure_end = before;
        item.span.maybe_end = after + longest + margin;
      }
      held[record.lease] = item;
      continue;
    }
    const auto found = held.find(record.lease);
    if (found == held.end()) continue;
    LeaseSpan& span = found->second.span;
    if (record.op == Op::kRelease) {
      span.sure_end = std::min(span.sure_end, before - margin);
      if (record.after != 0) span.maybe_end = std::min(span.maybe_end, after + margin);
    } else if (record.op == Op::kRenew && record.after == 0) {
      const int64_t longest = kPlans[record.policy].parts[0].period;
      span.maybe_end = std::max(span.maybe_end, after + longest + margin);
    } else if (record.op == Op::kRenew && record.verdict != 0) {
      span.sure_end = expires - margin;
      span.maybe_end = expires + margin;
    }
  }
  for (auto& [number, item] : held) {
    item.span.sure_end = std::min(item.span.sure_end, alive_until - base_ - margin);
    items_.push_back(item);
  }
}

void Observer::check(int64_t end_ns) {
  const int64_t end = end_ns - base_;
  std::sort(items_.begin(), items_.end(),
            [](const Item& x, const Item& y) { return x.key < y.key; });
  const Item* const last = items_.data() + items_.size();
  for (const Item* first = items_.data(); first != last;) {
    const Item* next = first;
    while (next != last && next->key == first->key) ++next;
    check_key(first->key, first, next);
    first = next;
  }
  items_.clear();
  for (auto entry = states_.begin(); entry != states_.end();) {
    const bool kept = matters(kPlans[entry->first >> 32], entry->second, end);
    entry = kept ? std::next(entry) : states_.erase(entry);
  }
  std::sort(kills_.begin(), kills_.end());
  for (const auto& [when, ns] : durations_) {
    const auto next = std::upper_bound(kills_.begin(), kills_.end(), when);
    const bool recent = next != kills_.begin() && when - *(next - 1) < kSecond;
    (recent ? totals_.after : totals_.before).add(ns);
  }
  durations_.clear();
  if (!kills_.empty()) kills_.erase(kills_.begin(), kills_.end() - 1);
}

void Observer::check_key(uint64_t key, const Item* first, const Item* last) {
  ++totals_.keys;
  const Plan& plan = kPlans[key >> 32];
  State& state = states_[key];
  History history = std::move(state.history);
  const bool crowded = in_each_others_way(plan);
  for (const Item* item = first; item != last; ++item) {
    if (crowded) history.asked.push_back(item->call);
    switch (item->what) {
      case Item::What::kAdmitted:
        history.admitted.push_back(item->call);
        break;
      case Item::What::kUnknown:
        history.unknown.push_back(item->call);
        break;
      case Item::What::kRefund:
        history.refunds.push_back(item->call);
        break;
      case Item::What::kRefused:
        history.denied.push_back(item->call);
        break;
      case Item::What::kBan:
        history.barred.push_back(item->call);
        break;
      case Item::What::kSpan:
        history.leases.push_back(item->span);
        break;
      case Item::What::kOther:
        break;
    }
  }
  const int64_t excess = judge(plan, key, state, history);
  carry(plan, state, history, excess);
}

int64_t Observer::judge(const Plan& plan, uint64_t key, const State& state,
                        const History& history) {
  const size_t policy = key >> 32;
  int64_t excess = 0;
  std::vector<char> explained(history.denied.size());
  std::vector<int64_t> in_the_way(history.denied.size());
  if (!history.asked.empty()) {
    Sums asked;
    asked.add(history.asked);
    asked.seal();
    for (size_t i = 0; i < in_the_way.size(); ++i) {
      const Call& call = history.denied[i];
      in_the_way[i] = asked.overlapping(call.b, call.a) - call.cost;
    }
  }
  for (size_t p = 0; p < plan.parts.size() && plan.parts[p].kind != Kind::kNone; ++p) {
    const Part& part = plan.parts[p];
    const bool leases = part.kind == Kind::kLease;
    const Finding finding =
        leases ? check_leases(part, history)
               : check_admitted(part, history, state.paid[p], wall_, plan.cost_max);
    totals_.windows += finding.windows;
    excess = std::max(excess, finding.excess);
    leases ? explain_leases(part, history, explained)
           : explain(part, history, state.paid[p], wall_, in_the_way, explained);
  }
  totals_.excess[policy] += excess;
  if (excess != 0) say("too much admitted", key, excess);
  const auto bad = std::count(explained.begin(), explained.end(), 0);
  const auto bans = static_cast<int64_t>(unexplained_bans(plan, history));
  totals_.unexplained += static_cast<uint64_t>(bad + bans);
  if (bad + bans != 0) say("refused without cause", key, bad + bans);
  if (is_hot(plan)) {
    const Saturation one = saturation(plan.parts[0], history);
    totals_.hot.admitted += one.admitted;
    totals_.hot.expected += one.expected;
  }
  return excess;
}

// A policy of nothing but a bucket needs no calls of rounds before: its state says it all. For the
// others the calls are kept, and a bucket among their rates is judged by those.
void Observer::carry(const Plan& plan, State& state, History& history, int64_t excess) {
  if (only_bucket(plan)) {
    const Part& part = plan.parts[0];
    state.paid[0] = settle(part, history, state.paid[0]);
    // What was found once is not to be found again in every later window.
    state.paid[0].least -= excess * part.period;
    history.admitted.clear();
    if (plan.ban_after == 0) history.unknown.clear();
  }
  if (plan.ban_after != 0) {
    history.denied_before.insert(history.denied_before.end(), history.denied.begin(),
                                 history.denied.end());
  }
  history.denied.clear();
  history.barred.clear();
  history.asked.clear();
  history.refunds.clear();
  state.history = std::move(history);
}

// Drops what is too old; false if nothing is left that a later call could meet.
bool Observer::matters(const Plan& plan, State& state, int64_t end) {
  const int64_t oldest = end - memory_of(plan);
  History& history = state.history;
  for (auto* list : {&history.admitted, &history.unknown, &history.denied_before}) {
    std::erase_if(*list, [&](const Call& call) { return call.a < oldest; });
  }
  std::erase_if(history.leases, [&](const LeaseSpan& span) { return span.maybe_end < end; });
  const Part& part = plan.parts[0];
  const bool owes = only_bucket(plan) && (state.paid[0].most > end * part.low_limit ||
                                          state.paid[0].least > end * part.limit);
  return owes || !history.admitted.empty() || !history.unknown.empty() ||
         !history.denied_before.empty() || !history.leases.empty();
}

}  // namespace brim::soak
