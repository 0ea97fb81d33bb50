// SPDX-License-Identifier: MIT
#include "src/tier/keys.h"

#include <algorithm>
#include <cstdlib>

namespace brim::tier {

namespace {

constexpr int kMostQuiet = 16;  // doublings

// What is left of a level after so long.
uint64_t drained(uint64_t level, const RateTerms& terms, int64_t ns) {
  const double gone = terms.units_per_us * static_cast<double>(std::max<int64_t>(ns, 0)) / 1000;
  const double left = static_cast<double>(level) - gone;
  return left > 0 ? static_cast<uint64_t>(left) : 0;
}

}  // namespace

uint32_t hold_back(uint32_t burst, uint64_t nodes) {
  return static_cast<uint32_t>(std::max<uint64_t>(burst / (2 * std::max<uint64_t>(nodes, 1)), 1));
}

void Keys::set_terms(std::vector<ClusterPolicy> policies, uint64_t nodes) {
  policies_ = std::move(policies);
  nodes_ = std::max<uint64_t>(nodes, 1);
  numbers_.clear();
  for (size_t i = 0; i < policies_.size(); ++i) {
    const ClusterPolicy& policy = policies_[i];
    if (policy.strict) continue;  // the store itself counts them
    numbers_[policy.number] = i;
    for (uint32_t part = 0; part < policy.rates.size(); ++part) {
      view_->set_hold_back(policy.number, part, hold_back(policy.bursts[part], nodes_));
    }
  }
}

const ClusterPolicy* Keys::policy_of(const KeyUse& use) const {
  const auto found = numbers_.find(use.policy);
  if (found == numbers_.end()) return nullptr;
  const ClusterPolicy& policy = policies_[found->second];
  return use.part < policy.rates.size() ? &policy : nullptr;
}

bool Keys::left_alone(const KeyUse& use) const {
  const ClusterPolicy* const policy = policy_of(use);
  return policy == nullptr ||
         (std::abs(use.untold()) < int64_t{hold_back(policy->bursts[use.part], nodes_)} &&
          use.owed_units <= use.capacity_units / 2);
}

int64_t Keys::period(const Entry& entry) const {
  const uint64_t quarter = entry.use.capacity_units / 4;
  const int64_t eighth = interval_ns_ / 8;
  const int64_t base = entry.use.owed_units >= 3 * quarter   ? eighth
                       : entry.use.owed_units >= 2 * quarter ? 4 * eighth
                                                             : 7 * eighth;
  const int64_t most = std::max(base, std::min(8 * interval_ns_, kMostQuietNs));
  return entry.quiet == 0 ? base : std::min(base << entry.quiet, most);
}

void Keys::set_due(uint64_t slot, Entry& entry, int64_t due_ns) {
  if (entry.due_ns == due_ns) return;
  entry.due_ns = due_ns;
  queue_.emplace(due_ns, slot);
}

void Keys::set_forced(Entry& entry, bool forced) {
  if (entry.forced == forced) return;
  entry.forced = forced;
  forced ? ++forced_ : --forced_;
}

void Keys::note(const KeyUse& use, int64_t now_ns, bool at_once) {
  const auto [found, fresh] = entries_.try_emplace(use.slot);
  Entry& entry = found->second;
  const KeyUse& old = entry.use;
  if (fresh || old.id != use.id || old.nonce != use.nonce || old.identity != use.identity) {
    set_forced(entry, false);
    entry = Entry{};
    entry.clean_ns = looked_ns_ == 0 ? now_ns : looked_ns_;
  }
  if (entry.use.total != use.total) entry.quiet = 0;
  entry.use = use;
  if (!texts_) entry.use.key.clear();
  if (use.untold() == 0) entry.clean_ns = now_ns;
  if (at_once) set_forced(entry, true);
  const int64_t due =
      entry.tried_ns == 0 || at_once ? now_ns : std::max(now_ns, entry.tried_ns + period(entry));
  if (entry.due_ns == 0 || due < entry.due_ns) set_due(use.slot, entry, due);
}

void Keys::look(int64_t now_ns) {
  const bool all = std::exchange(all_, false);
  view_->for_each_use(all, [&](const KeyUse& use) {
    if (policy_of(use) != nullptr && (!all || use.owed_units != 0 || use.untold() != 0)) {
      note(use, now_ns, all);
    }
    return true;
  });
  looked_ns_ = now_ns;
}

// False: the key needs no telling.
bool Keys::add_push(uint64_t slot, Entry& entry) {
  const uint64_t before = entry.use.total;
  if (!view_->look(entry.use)) return false;
  if (!entry.forced && left_alone(entry.use)) return false;
  if (entry.use.total != before) entry.quiet = 0;
  if (entry.use.untold() == 0) entry.clean_ns = sent_ns_;
  const ClusterPolicy* const policy = policy_of(entry.use);
  if (policy == nullptr) return false;
  slots_.push_back(slot);
  rates_.push_back({.part = entry.use.part,
                    .terms = policy->rates[entry.use.part],
                    .total = entry.use.total,
                    .acked_total = entry.use.acked,
                    .nonce = entry.use.nonce,
                    .floor_units = entry.use.owed_units});
  pushes_.push_back({.policy = policy->name,
                     .identity = entry.use.identity,
                     .text = entry.use.key,
                     .rates = {&rates_.back(), 1},
                     .keep_ms = kKeepMs});
  return true;
}

std::span<const Push> Keys::begin(int64_t now_ns) {
  if (all_ || now_ns >= looked_ns_ + interval_ns_ / 8) look(now_ns);
  sent_ns_ = now_ns;
  slots_.clear();
  rates_.clear();
  pushes_.clear();
  rates_.reserve(kMostPushes);
  while (!queue_.empty() && queue_.top().first <= now_ns && pushes_.size() < kMostPushes) {
    const auto [due, slot] = queue_.top();
    queue_.pop();
    const auto found = entries_.find(slot);
    if (found == entries_.end() || found->second.due_ns != due) continue;
    found->second.due_ns = 0;
    if (add_push(slot, found->second)) continue;
    set_forced(found->second, false);
    entries_.erase(found);
  }
  return pushes_;
}

void Keys::merge(Entry& entry, const PushAnswer& answer, int64_t now_ns) {
  const KeyUse& use = entry.use;
  const RateTerms& terms = policy_of(use)->rates[use.part];
  const uint64_t level = answer.levels[0];
  if (entry.told_ns != 0 && sent_ns_ > entry.told_ns) {
    KeyUse own{};
    own.total = use.total;
    own.acked = entry.told_total;
    const double before =
        static_cast<double>(drained(entry.level, terms, sent_ns_ - entry.told_ns));
    const double mine = static_cast<double>(own.untold()) * static_cast<double>(terms.permit_units);
    const double rate = (static_cast<double>(level) - before - mine) /
                        static_cast<double>(sent_ns_ - entry.told_ns);
    entry.others = (entry.others + std::max(rate, 0.0)) / 2;
    entry.quiet = own.untold() == 0 ? std::min(entry.quiet + 1, kMostQuiet) : 0;
  }
  if (answer.lost) {
    ++seen_.healed;
    // Not one that was over, but data that went: others may have gone with it.
    if (entry.told_ns != 0 && sent_ns_ - entry.told_ns < kKeepMs * 1000000) all_ = true;
  }
  if (use.untold() != 0) {
    seen_.lag_ns = std::max(seen_.lag_ns, now_ns - entry.clean_ns);
    view_->acknowledge(use);  // the answer is there: the store has it
  }
  // Has nobody else told anything, the word is right as it is: the store, which hears of each use
  // late, would count what flowed back meanwhile as owed still.
  const bool alone = entry.changes != 0 && answer.changes_before == entry.changes;
  if (!alone || entry.cut || answer.lost) entry.cut = !view_->raise(use, level, sent_ns_);
  entry.changes = answer.changes;
  const uint64_t full = terms.capacity_units + (terms.by_debt_before ? terms.permit_units : 0);
  if (level > full && terms.permit_units != 0) {
    seen_.overshoot_permits =
        std::max(seen_.overshoot_permits, (level - full) / terms.permit_units);
  }
  entry.told_ns = entry.charged_ns = entry.clean_ns = sent_ns_;
  entry.told_total = use.total;
  entry.level = level;
  entry.use.acked = use.total;
  entry.use.owed_units = std::max(use.owed_units, level);
  set_forced(entry, false);
}

void Keys::end(std::span<const PushAnswer> answers, int64_t now_ns) {
  seen_.lag_ns = 0;
  for (size_t i = 0; i < slots_.size() && i < answers.size(); ++i) {
    Entry& entry = entries_.find(slots_[i])->second;
    entry.tried_ns = sent_ns_;
    if (answers[i].status.ok() && !answers[i].levels.empty()) {
      merge(entry, answers[i], now_ns);
    } else {
      charge(entry, now_ns);  // while other keys are answered: one server of several is away, say
    }
    set_due(slots_[i], entry, sent_ns_ + period(entry));
  }
  slots_.clear();
}

int64_t Keys::next_ns() const {
  const int64_t look = all_ ? 0 : looked_ns_ + interval_ns_ / 8;
  return queue_.empty() ? look : std::min(look, queue_.top().first);
}

void Keys::charge(Entry& entry, int64_t now_ns) {
  if (entry.told_ns == 0 || now_ns <= entry.charged_ns) return;
  const double more = entry.others * static_cast<double>(now_ns - entry.charged_ns);
  if (more < 1 || !view_->look(entry.use)) return;
  entry.charged_ns = now_ns;
  const double most = static_cast<double>(kMostLevel / 2);
  view_->raise(entry.use, entry.use.owed_units + static_cast<uint64_t>(std::min(more, most)),
               entry.use.as_of_ns);
}

void Keys::charge_others(int64_t now_ns) {
  for (auto& [slot, entry] : entries_) charge(entry, now_ns);
}

}  // namespace brim::tier
