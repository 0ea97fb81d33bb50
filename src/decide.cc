// SPDX-License-Identifier: MIT
// The request path: key -> hash -> probe -> step -> CAS -> decision. The only place where clock,
// hash, quota, step and table meet. Nothing here blocks, allocates, throws or makes a system call.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "brim/limiter.h"
#include "shm/names.h"
#include "src/algo/step.h"
#include "src/engine.h"
#include "src/policy_words.h"

namespace brim {

namespace {

using internal::Engine;
using shm::Event;
using shm::Outcome;
using shm::PolicyCounter;

// A caller may pass any time at all.
int64_t saturating_add(int64_t time, int64_t delta) noexcept {
  int64_t sum;
  if (!__builtin_add_overflow(time, delta, &sum)) return sum;
  return delta < 0 ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
}

// True for a word that no honest process can have written by now. Another process's clock may be
// ahead of ours by the skew, and a time given by its caller ahead of that by as much again.
bool is_garbage(Word word, const Quota& quota, int64_t now) noexcept {
  return word > highest_word(instant(quota, saturating_add(now, 2 * kClockSkewNs)), quota);
}

// What the table needs to know about one call; see shm/table.h. `Rule` is the change the call
// makes to a word: acquire, refund or reset.
template <class Rule>
class Call {
 public:
  Call(const Engine& engine, uint16_t policy, uint64_t id, std::string_view key,
       uint32_t cost) noexcept
      : engine_(&engine), key_(key), id_(id), policy_(policy), cost_(cost) {}

  // Reads the policy, after the clock: an old slope is never applied to a later time. False if
  // there is no such policy; nothing else may be called then.
  [[gnu::always_inline]] bool begin(int64_t now) noexcept {
    if (!read_quota(engine_->registry, policy_, quota_)) [[unlikely]]
      return false;
    at_ = instant(quota_, now);
    return true;
  }

  Word step(Word word) noexcept {
    word_ = word;
    return next_ = Rule::next(word, at_, quota_, cost_);
  }

  bool plausible(Word word) const noexcept { return word <= highest_word(at_, quota_); }

  // A word no honest process can have written is brought down; judged by a fresh clock.
  Word ceiling(Word word) noexcept {
    if (plausible(word)) return word;
    refresh();
    return is_garbage(word, quota_, at_.now_ns) ? highest_word(at_, quota_) : word;
  }

  void refresh() noexcept {
    const int64_t now = engine_->clock.now();
    Quota changed;
    if (read_quota(engine_->registry, policy_, changed)) quota_ = changed;
    at_ = instant(quota_, now);
  }

  int64_t now_ns() const noexcept { return at_.now_ns; }

  // Judged at the time that the slowest clock may still show, so that no process re-admits a burst
  // that another one's reclaim forgot.
  uint64_t debt(const shm::Slot& slot) const noexcept {
    constexpr uint64_t kMost = ~uint64_t{0} - 1;
    const uint16_t number = shm::id_policy(slot.id);
    Quota quota;
    if (!quota_for(number, quota)) return engine_->registry.version(number) == 0 ? 0 : kMost;
    // Judged again by a clock read after the word: to a call that was stopped every newer word
    // looks impossible.
    if (is_garbage(slot.word, quota, at_.now_ns) &&
        is_garbage(slot.word, quota, engine_->clock.now())) [[unlikely]] {
      return 0;
    }
    const Instant then = instant(quota, saturating_add(at_.now_ns, -kClockSkewNs));
    return std::min(brim::debt(slot.word, then, quota), kMost);
  }

  Word tentative() noexcept { return engine_->segment->next_tentative(at_.now_ns); }

  void name(uint64_t slot) noexcept {
    shm::NameEntry* const entry = engine_->segment->name_entry(slot);
    if (entry == nullptr) return;
    const std::string_view stored = key_.substr(0, engine_->segment->header().name_bytes);
    shm::store_name(entry, stored, key_.size(),
                    name_check(engine_->secret, id_, key_.size(), stored));
  }

  void count(Event event) noexcept { engine_->counters.add(event); }
  void evicted(const shm::Slot& slot) noexcept {
    const uint16_t number = shm::id_policy(slot.id);
    if (number < engine_->registry.size()) engine_->counters.add(number, PolicyCounter::kEvicted);
  }

  bool changed() const noexcept { return next_ != word_; }
  // Whole permits by which the last step lowered the debt.
  uint32_t given_back() const noexcept {
    return permits(quota_, gcra::debt_units(word_, at_.v) - gcra::debt_units(next_, at_.v));
  }
  [[gnu::always_inline]] Decision decision() const noexcept {
    return decide(word_, next_, at_, quota_, cost_);
  }
  OnUnavailable on_unavailable() const noexcept {
    return static_cast<OnUnavailable>(quota_.on_unavailable);
  }

 private:
  // False for a policy that was never defined, or can not be read.
  bool quota_for(uint16_t number, Quota& quota) const noexcept {
    if (number != policy_) return read_quota(engine_->registry, number, quota);
    quota = quota_;
    return true;
  }

  const Engine* engine_;
  std::string_view key_;
  uint64_t id_;
  uint16_t policy_;
  uint32_t cost_;
  Quota quota_;
  Instant at_;
  Word word_ = kEmptyWord;
  Word next_ = kEmptyWord;
};

struct Acquire {
  static Word next(Word word, const Instant& at, const Quota& quota, uint32_t cost) noexcept {
    return step(word, at, quota, cost);
  }
};

struct Refund {
  static Word next(Word word, const Instant& at, const Quota& quota, uint32_t cost) noexcept {
    return refund(word, at, quota, cost);
  }
};

struct Reset {
  static Word next(Word word, const Instant& at, const Quota& quota, uint32_t) noexcept {
    return debt(word, at, quota) == 0 ? word : kEmptyWord;
  }
};

Decision unavailable(Reason reason, bool admitted) noexcept {
  Decision result;
  result.verdict = Verdict::kUnavailable;
  result.reason = reason;
  result.admitted = admitted;
  return result;
}

// A key located: its slot's home group is on its way into the cache.
struct Located {
  shm::Probe probe;
  uint64_t id;
};

inline Located locate(const Engine& engine, uint16_t policy, std::string_view key) noexcept {
  const Hash128 hash = hash_key(engine.secret, key);
  const Located located{engine.table.probe(hash.low), shm::make_id(policy, fingerprint(hash))};
  engine.table.prefetch(located.probe);
  return located;
}

// Counts and tells what the call's last step decided.
[[gnu::always_inline]] inline Decision answer(const Engine& engine, uint16_t policy, uint32_t cost,
                                              const Call<Acquire>& call) noexcept {
  if (cost != 0) {
    engine.counters.add(policy, call.changed() ? PolicyCounter::kAllowed : PolicyCounter::kDenied);
  }
  return call.decision();
}

// What the fast path could not finish: a new key, a lost race, a corrupt word, a full table.
[[gnu::noinline]] Decision acquire_slowly(const Engine& engine, uint16_t policy,
                                          const Located& located, std::string_view key,
                                          uint32_t cost, int64_t now) noexcept {
  Call<Acquire> call(engine, policy, located.id, key, cost);
  if (!call.begin(now)) return unavailable(Reason::kNoPolicy, true);
  if (engine.segment->read_only()) {
    return unavailable(Reason::kReadOnly, call.on_unavailable() == OnUnavailable::kAllow);
  }
  const Outcome outcome = engine.table.update_slowly(located.probe, located.id, call);
  if (outcome == Outcome::kDecided) return answer(engine, policy, cost, call);
  engine.counters.add(policy, PolicyCounter::kUnavailable);
  if (outcome == Outcome::kFull) {
    return unavailable(Reason::kFull, engine.segment->header().on_full == shm::kOnFullAllow);
  }
  return unavailable(Reason::kContended, call.on_unavailable() == OnUnavailable::kAllow);
}

// The slow path begins anew instead of taking the call over: nothing of this one is ever in
// memory then but in registers (measured: 5 to 9 ns of 30).
[[gnu::always_inline]] inline Decision acquire(const Engine& engine, uint16_t policy,
                                               const Located& located, std::string_view key,
                                               uint32_t cost, int64_t now) noexcept {
  Call<Acquire> call(engine, policy, located.id, key, cost);
  if (!engine.read_only && call.begin(now) &&
      engine.table.update_at_home(located.probe, located.id, call)) [[likely]] {
    return answer(engine, policy, cost, call);
  }
  return acquire_slowly(engine, policy, located, key, cost, now);
}

// Lowers a key's debt. Returns whether there was any.
template <class Rule>
bool lower(const Engine& engine, uint16_t policy, std::string_view key, uint32_t cost) noexcept {
  const Located located = locate(engine, policy, key);
  Call<Rule> call(engine, policy, located.id, key, cost);
  if (engine.read_only || !call.begin(engine.clock.now())) return false;
  if (engine.table.update(located.probe, located.id, call) != Outcome::kDecided) {
    engine.counters.add(policy, PolicyCounter::kUnavailable);
    return false;
  }
  if (!call.changed()) return false;
  engine.counters.add(policy, PolicyCounter::kRefunded, call.given_back());
  return true;
}

}  // namespace

Decision PolicyHandle::try_acquire(std::string_view key, uint32_t cost) const noexcept {
  if (engine_ == nullptr) return unavailable(Reason::kNoPolicy, true);
  const Located located = locate(*engine_, number_, key);
  return acquire(*engine_, number_, located, key, cost, engine_->clock.now());
}

Decision PolicyHandle::try_acquire_at(int64_t now_ns, std::string_view key,
                                      uint32_t cost) const noexcept {
  if (engine_ == nullptr) return unavailable(Reason::kNoPolicy, true);
  constexpr int64_t kLast = int64_t{1} << 60;  // a token clock read there still fits a word
  return acquire(*engine_, number_, locate(*engine_, number_, key), key, cost,
                 std::min(now_ns, kLast));
}

void PolicyHandle::try_acquire_batch(std::span<const std::string_view> keys,
                                     std::span<Decision> out) const noexcept {
  constexpr size_t kChunk = 16;  // about as many cache misses as a core keeps in flight
  std::array<Located, kChunk> located;
  const size_t total = std::min(keys.size(), out.size());
  for (size_t start = 0; start < total; start += kChunk) {
    const size_t count = std::min(kChunk, total - start);
    if (engine_ == nullptr) {
      std::fill_n(out.begin() + static_cast<ptrdiff_t>(start), count,
                  unavailable(Reason::kNoPolicy, true));
      continue;
    }
    for (size_t i = 0; i < count; ++i) located[i] = locate(*engine_, number_, keys[start + i]);
    const int64_t now = engine_->clock.now();
    for (size_t i = 0; i < count; ++i) {
      out[start + i] = acquire(*engine_, number_, located[i], keys[start + i], 1, now);
    }
  }
}

Decision PolicyHandle::peek(std::string_view key, uint32_t cost) const noexcept {
  Quota quota;
  if (engine_ == nullptr || !read_quota(engine_->registry, number_, quota)) {
    return unavailable(Reason::kNoPolicy, true);
  }
  const Located located = locate(*engine_, number_, key);
  const Instant at = instant(quota, engine_->clock.now());
  shm::Slot slot;
  const bool found =
      engine_->table.find(located.probe, located.id, slot) != engine_->table.slot_count();
  const Word word = found ? std::min(slot.word, highest_word(at, quota)) : kEmptyWord;
  return decide(word, step(word, at, quota, cost), at, quota, cost);
}

bool PolicyHandle::refund(std::string_view key, uint32_t cost) const noexcept {
  return engine_ != nullptr && lower<Refund>(*engine_, number_, key, cost);
}

bool PolicyHandle::reset(std::string_view key) const noexcept {
  return engine_ != nullptr && lower<Reset>(*engine_, number_, key, 0);
}

}  // namespace brim
