// SPDX-License-Identifier: MIT
// States -> slots: the same search, claim and compare-and-swap as any call.
#include <algorithm>

#include "brim/state.h"
#include "shm/log_merge.h"
#include "shm/snapshot_status.h"
#include "src/call.h"
#include "src/cell_context.h"
#include "src/change.h"
#include "src/overrides.h"
#include "src/state.h"

namespace brim {

namespace {

using Log = shm::Log<shm::HardwareCellAtomics, CellContext>;
using LogMerge = shm::LogMerge<shm::HardwareCellAtomics, CellContext>;

// The stricter of the word and the state.
struct Merge {
  saved::Saved state;
  saved::Unit unit;
  CutKey cut;
  uint32_t cost = 0;
  Step operator()(Word word, const Instant& at, const Quota& quota) const noexcept {
    return {saved::merged_word(word, state, unit, at, quota), true};
  }
};

struct Hold : HoldSlot {
  CutKey cut;
};

// A restored key has to be found again from its slot, by the next snapshot.
CutKey cut_of(const KeyState& state) noexcept {
  return state.whole_key() ? CutKey{} : CutKey{state.key_length, state.place};
}

PutResult result_of(Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::kDecided:
      return PutResult::kMerged;
    case Outcome::kFull:
      return PutResult::kFull;
    case Outcome::kContended:
      break;
  }
  return PutResult::kContended;
}

// Times until each permit of the state expires under the target's period, latest first.
uint32_t permits_left(const KeyState& state, const saved::Saved& aged, const saved::Unit& unit,
                      int64_t elapsed_ns, const Quota& quota, int64_t* left) noexcept {
  const auto most = static_cast<uint32_t>(std::min<uint64_t>(quota.capacity, shm::kMaxCells));
  const auto span = static_cast<int64_t>(
      shm::log_span(static_cast<uint64_t>(quota.period_ns), has(quota, kInclusive)));
  uint32_t count = 0;
  if (unit.family != Family::kCells) {  // taken a moment ago
    const uint64_t taken = saved::permits_taken(aged, unit);
    for (; count < std::min<uint64_t>(taken, most); ++count) left[count] = span;
    return count;
  }
  for (const int64_t each : state.left_ns) {
    // A permit's age is the same under another period.
    const int64_t now =
        std::min(each, unit.period_ns) - elapsed_ns + (quota.period_ns - unit.period_ns);
    if (now > 0 && count < most) left[count++] = std::min(now, span);
  }
  std::sort(left, left + count, std::greater<>());
  return count;
}

PutResult put_log(const Engine& engine, const Target& target, const KeyState& state,
                  const Quota& quota, const int64_t* left, uint32_t count) noexcept {
  if (engine.cells == nullptr) return PutResult::kUnfit;
  shm::LogRule rule;
  rule.limit = static_cast<uint32_t>(std::min<uint64_t>(quota.capacity, shm::kMaxCells));
  rule.span_ns = shm::log_span(static_cast<uint64_t>(quota.period_ns), has(quota, kInclusive));
  rule.horizon_ns = horizon_ns(quota);
  for (int moves = 0; moves < kMaxMoves; ++moves) {
    shm::Slot slot;
    const uint64_t at = engine.table.find(target.probe, target.id, slot);
    const int64_t now = engine.clock.now();
    if (at == engine.table.slot_count()) {
      Call<Hold, Scope::kGeneral> call(engine, target, state.key, {{rule.span_ns}, cut_of(state)});
      if (!call.begin(now)) return PutResult::kNoPolicy;
      const Outcome outcome = engine.table.update(target.probe, target.id, call);
      if (outcome != Outcome::kDecided) return result_of(outcome);
      continue;
    }
    uint64_t expiries[shm::kMaxCells];
    for (uint32_t i = 0; i < count; ++i) expiries[i] = static_cast<uint64_t>(now + left[i]);
    CellContext context(engine, target, at);
    Log log(cells_at(engine, at), engine.cells_per_key, rule, context);
    const shm::CellOutcome outcome = LogMerge(log).run(expiries, count);
    if (outcome == shm::CellOutcome::kDecided) return PutResult::kMerged;
    if (outcome == shm::CellOutcome::kContended) break;
  }
  return PutResult::kContended;
}

// The share of the saved rate, in parts per million, that the slower of both rates is.
uint32_t slower_share(const RateState& rate, const Quota& quota) noexcept {
  const uint128 ours = static_cast<uint128>(quota.limit) * slowest_ppm(quota);
  const uint128 theirs = std::max<uint128>(rate.limit, 1);
  const auto period = static_cast<uint64_t>(std::max<int64_t>(quota.period_ns, 1));
  const auto saved_period = static_cast<uint64_t>(std::max<int64_t>(rate.period_ns, 1));
  // ours / period : theirs / saved_period, without overflow: the periods are cut to 40 bits alike.
  const int cut = std::max(0, 24 - __builtin_clzll(std::max(period, saved_period)));
  const uint128 up = ours * (saved_period >> cut);
  const uint128 down = theirs * ((period >> cut) + (cut != 0 ? 1 : 0));
  const bool same = ours == theirs * kWholePpm && period == saved_period;
  return same ? kWholePpm : static_cast<uint32_t>(std::min<uint128>(up / down, kWholePpm));
}

}  // namespace

// Where the states of one saved rate go.
struct StateWriter::Taker {
  int policy = -1;  // number in this segment
  uint32_t part = 0;
  saved::Unit unit;
};

absl::StatusOr<StateWriter> StateWriter::open(const Limiter& limiter, const SegmentState& from,
                                              const std::vector<PolicyState>& policies) {
  if (limiter.engine_ == nullptr) {
    return absl::FailedPreconditionError("not_open: this Limiter is empty");
  }
  const Engine& engine = limiter.engine_->current();
  if (absl::Status status = engine.check_writable(); !status.ok()) return status;
  StateWriter writer;
  writer.engine_ = limiter.engine_;
  writer.same_hash_ = shm::hash_seed(engine.segment->header()) == from.hash_seed;
  std::copy_n(from.network_prefixes, 4, writer.network_prefixes_);
  const auto lock = engine.registry.lock();
  if (!lock.held()) return engine.lock_error();
  const auto takers = std::make_shared<std::vector<Taker>>();
  for (const PolicyState& policy : policies) {
    const int number = engine.registry.find(policy.name);
    for (const RateState& rate : policy.rates) {
      const size_t index = size_t{policy.number} * shm::kMaxParts + rate.part;
      if (rate.part >= shm::kMaxParts || policy.number >= shm::kMaxPolicies) continue;
      if (takers->size() <= index) takers->resize(index + 1);
      Taker& taker = (*takers)[index];
      taker = {number, rate.part, unit_of(rate)};
      if (number < 0) continue;
      Quota quota;
      if (!read_quota(engine.registry, static_cast<uint16_t>(number), rate.part, quota) ||
          quota.algorithm == 0) {
        taker.policy = -1;
        continue;
      }
      if (family(quota) != Family::kBucket || rate.kind != StateKind::kBucket) continue;
      // Debt beyond a smaller burst is real: words that far ahead are not corrupt.
      raise_ceiling(engine, static_cast<uint16_t>(number), rate.part, rate.most_permits);
      if (read_quota(engine.registry, static_cast<uint16_t>(number), rate.part, quota)) {
        // While away the key refilled at the old rate or at the new one: at the slower.
        taker.unit.slowest_ppm = std::min(taker.unit.slowest_ppm, slower_share(rate, quota));
      }
    }
  }
  writer.takers_ = takers;
  return writer;
}

PutResult StateWriter::put(const KeyState& state, int64_t elapsed_ns) const {
  for (;;) {
    const Engine& engine = engine_->current();
    const PutResult result = put_in(engine, state, elapsed_ns);
    if (!engine.superseded()) return result;
    // Resized meanwhile: the new table may have got the key before. What only the old one got is
    // carried by nobody any more.
    if (&engine_->current() == &engine) return PutResult::kContended;
  }
}

PutResult StateWriter::put_in(const Engine& engine, const KeyState& state,
                              int64_t elapsed_ns) const {
  const size_t index = size_t{state.policy} * shm::kMaxParts + state.part;
  if (index >= takers_->size() || (*takers_)[index].policy < 0) return PutResult::kNoPolicy;
  const Taker& taker = (*takers_)[index];
  const int64_t elapsed = std::clamp<int64_t>(elapsed_ns, 0, saved::kMostNs);
  const auto number = static_cast<uint16_t>(taker.policy);
  Target target;
  if (state.whole_key()) {
    target = locate(engine, number, taker.part, hash_key(engine.secret, state.key));
  } else if (same_hash_ && state.has_key && state.fingerprint > shm::kFreeId &&
             state.fingerprint <= shm::kFingerprintMask) {
    target.policy = number;
    target.part = static_cast<uint8_t>(taker.part);
    target.id = shm::make_id(number, state.fingerprint, taker.part);
    target.probe = engine.table.probe(state.place);
  } else {
    return PutResult::kNoKey;
  }
  Quota quota;
  if (!read_quota(engine.registry, number, taker.part, quota)) return PutResult::kNoPolicy;
  const saved::Saved aged = saved::age(saved_of(state), taker.unit, elapsed);
  if (family(quota) == Family::kCells) {
    if (quota.algorithm != static_cast<uint8_t>(Algorithm::kSlidingLog)) return PutResult::kUnfit;
    int64_t left[shm::kMaxCells];
    const uint32_t count = permits_left(state, aged, taker.unit, elapsed, quota, left);
    return count == 0 ? PutResult::kIdle : put_log(engine, target, state, quota, left, count);
  }
  if (family(quota) == Family::kNone) return PutResult::kUnfit;
  saved::Saved given = aged;
  saved::Unit unit = taker.unit;
  if (unit.family == Family::kCells) {  // a log's permits, for a policy of another kind
    unit.family = Family::kWindow;
    given.used = static_cast<uint64_t>(std::count_if(state.left_ns.begin(), state.left_ns.end(),
                                                     [&](int64_t left) { return left > elapsed; }));
    given.until_ns = state.left_ns.empty() ? 0 : state.left_ns.front() - elapsed;
  }
  if ((given.used | given.before) == 0) return PutResult::kIdle;
  Call<Merge, Scope::kGeneral> call(engine, target, state.key, {given, unit, cut_of(state)});
  if (!call.begin(engine.clock.now())) return PutResult::kNoPolicy;
  return result_of(engine.table.update(target.probe, target.id, call));
}

void StateWriter::put_factor(const PolicyState& policy, bool only_smaller) const {
  const Engine& engine = engine_->current();
  const int number = engine.registry.find(policy.name);
  shm::PolicyWords words;
  std::string text;
  if (number < 0 || !engine.registry.read(static_cast<uint16_t>(number), words, text)) return;
  const uint64_t now = words[kWordFactor];
  if (policy.factor_ppm == now || (only_smaller && policy.factor_ppm > now)) return;
  Limiter(engine_).set_factor(policy.name, policy.factor_ppm).IgnoreError();
}

absl::Status StateWriter::put_override(const OverrideState& entry, int64_t elapsed_ns) const {
  SavedOverride saved{entry.policy, entry.use, entry.ban};
  if (entry.ban && entry.ends_in_ns != kNever) {
    saved.left_ns = entry.ends_in_ns - std::max<int64_t>(elapsed_ns, 0);
    if (saved.left_ns <= 0) return absl::OkStatus();
  }
  saved.text = entry.key;
  saved.length = entry.key_length;
  if (entry.whole_key()) {  // its hash here
    const Hash128 hash = hash_key(engine_->secret, entry.key);
    saved.hash = {hash.low, hash.high};
  } else if (same_hash_) {
    saved.hash = {entry.hash_low, entry.hash_high, !entry.ban};
  } else {
    return absl::FailedPreconditionError(
        cat("override_foreign: an override for policy '", printable(entry.policy),
            "' was kept under another hash key; set it again (brim override set)"));
  }
  const Engine& engine = engine_->current();
  if (same_hash_) saved.prefixes = network_prefixes_;
  const int from = entry.policy == "*" ? shm::kAnyPolicy : engine.registry.find(entry.policy);
  if (from >= 0) {
    const auto policy = static_cast<uint16_t>(from);
    const shm::OverrideMatch known = engine.overrides.find(policy, saved.hash);
    if (known.found && known.what.from == policy &&
        !shm::has_ended(known.what, shm::override_now(engine.clock.now()))) {
      return absl::OkStatus();
    }
  }
  return write_saved_override(engine, saved);
}

void StateWriter::note_snapshot(const Limiter& limiter, uint64_t generation, uint64_t rows,
                                int64_t duration_ns) {
  if (limiter.engine_ == nullptr || !limiter.engine_->check_writable().ok()) return;
  const Engine& engine = limiter.engine_->current();
  shm::SnapshotStatus& status = engine.segment->shared()->snapshot;
  if (generation == 0) {
    // Until a resize is done, whoever asks by name is told by the old table.
    const Engine& attached = *limiter.engine_;
    if (&attached != &engine) shm::count_failed_snapshot(attached.segment->shared()->snapshot);
    return shm::count_failed_snapshot(status);
  }
  shm::store_snapshot(status, {generation, static_cast<uint64_t>(engine.clock.now()),
                               static_cast<uint64_t>(duration_ns), rows, 0});
}

}  // namespace brim
