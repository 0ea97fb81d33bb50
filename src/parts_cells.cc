// SPDX-License-Identifier: MIT
// Rates that keep cells: the key's slot first, then the log at its position (shm/cells.h).
#include <algorithm>

#include "src/cell_context.h"
#include "src/parts.h"

namespace brim {

namespace {

using Log = shm::Log<shm::HardwareCellAtomics, CellContext>;

shm::LogRule rule_of(const Quota& quota) noexcept {
  shm::LogRule rule;
  rule.limit = static_cast<uint32_t>(std::min<uint64_t>(quota.capacity, shm::kMaxCells));
  rule.span_ns = shm::log_span(static_cast<uint64_t>(quota.period_ns), has(quota, kInclusive));
  rule.horizon_ns = horizon_ns(quota);
  return rule;
}

// The quota as this call must see it.
bool read_rule(const Engine& engine, const Target& target, int64_t now, Quota& quota) noexcept {
  uint64_t options = 0;
  if (!read_quota(engine.registry, target.policy, target.part, quota, &options)) return false;
  apply_options(quota, options, target.priority, now);
  return true;
}

Decision answer(const shm::LogResult& result, uint32_t cost, const Quota& quota) noexcept {
  Decision decision;
  decision.remaining = result.remaining;
  decision.reset_after_ns = static_cast<int64_t>(result.reset_at_ns - result.now_ns);
  if (result.admitted || cost == 0) {
    decision.verdict = Verdict::kAllowed;
    decision.admitted = true;
  } else if (cost > quota.burst) {
    decision.reason = Reason::kCostAboveBurst;
    decision.retry_after_ns = kNever;
  } else {
    // Under a factor the limit may be below the cost for now; nobody knows for how long.
    decision.retry_after_ns =
        result.never ? quota.period_ns : static_cast<int64_t>(result.retry_at_ns - result.now_ns);
  }
  return decision;
}

// What an absent key would be told.
Decision answer_absent(const Quota& quota, uint32_t cost) noexcept {
  shm::LogResult result;
  result.remaining = static_cast<uint32_t>(std::min<uint64_t>(quota.capacity, shm::kMaxCells));
  result.admitted = cost <= result.remaining;
  result.never = !result.admitted;
  return answer(result, cost, quota);
}

// Runs act(log) on the key's log as `rule` has it; nothing if the key has none.
template <class Act>
void with_log(const Engine& engine, const Target& target, const shm::LogRule& rule,
              Act act) noexcept {
  shm::Slot slot;
  const uint64_t at = engine.table.find(target.probe, target.id, slot);
  if (engine.cells == nullptr || at == engine.table.slot_count()) return;
  CellContext context(engine, target, at);
  Log log(cells_at(engine, at), engine.cells_per_key, rule, context);
  act(log);
}

Decision peek_with(const Engine& engine, const Part& part, const Quota& quota) noexcept {
  const bool admits = !has(quota, kDenyIfUnavailable);
  if (engine.cells == nullptr) return unavailable(Reason::kUnsupported, admits);
  for (int moves = 0; moves < kMaxMoves; ++moves) {
    shm::Slot slot;
    const uint64_t at = engine.table.find(part.target.probe, part.target.id, slot);
    if (at == engine.table.slot_count()) return answer_absent(quota, part.cost);
    CellContext context(engine, part.target, at);
    const shm::LogResult result =
        Log(cells_at(engine, at), engine.cells_per_key, rule_of(quota), context).peek(part.cost);
    if (result.outcome == shm::CellOutcome::kDecided) return answer(result, part.cost, quota);
    if (result.outcome == shm::CellOutcome::kContended) break;
  }
  return unavailable(Reason::kContended, admits);
}

}  // namespace

Decision peek_log(const Engine& engine, const Part& part, int64_t now) noexcept {
  Quota quota;
  if (!read_rule(engine, part.target, now, quota)) return unavailable(Reason::kNoPolicy, true);
  return peek_with(engine, part, quota);
}

Decision charge_log(const Engine& engine, Part& part, int64_t now) noexcept {
  Quota quota;
  if (!read_rule(engine, part.target, now, quota)) return unavailable(Reason::kNoPolicy, true);
  const bool admits = !has(quota, kDenyIfUnavailable);
  if (engine.cells == nullptr) return unavailable(Reason::kUnsupported, admits);
  if (part.cost == 0 || part.cost > quota.capacity) return peek_with(engine, part, quota);
  const shm::LogRule rule = rule_of(quota);
  for (int moves = 0; moves < kMaxMoves; ++moves) {
    shm::Slot slot;
    uint64_t at = engine.table.find(part.target.probe, part.target.id, slot);
    if (at == engine.table.slot_count()) {
      Call<HoldSlot, Scope::kGeneral> call(engine, part.target, part.key, {rule.span_ns});
      if (!call.begin(now)) return unavailable(Reason::kNoPolicy, true);
      const Outcome outcome = engine.table.update(part.target.probe, part.target.id, call);
      if (outcome != Outcome::kDecided) return undecided(engine, outcome, call);
      continue;
    }
    CellContext context(engine, part.target, at);
    const shm::LogResult result =
        Log(cells_at(engine, at), engine.cells_per_key, rule, context).acquire(part.cost);
    if (result.outcome == shm::CellOutcome::kContended) break;
    if (result.outcome == shm::CellOutcome::kMoved) continue;
    part.taken = result;
    part.span_ns = rule.span_ns;
    return answer(result, part.cost, quota);
  }
  return unavailable(Reason::kContended, admits);
}

uint32_t refund_log(const Engine& engine, const Part& part, uint32_t cost) noexcept {
  Quota quota;
  uint32_t given = 0;
  if (!read_rule(engine, part.target, engine.clock.now(), quota)) return 0;
  with_log(engine, part.target, rule_of(quota), [&](Log& log) { given = log.refund(cost).given; });
  return given;
}

void undo_log(const Engine& engine, const Part& part) noexcept {
  Quota quota;
  if (!read_rule(engine, part.target, engine.clock.now(), quota)) return;
  shm::LogRule rule = rule_of(quota);
  rule.span_ns = part.span_ns;  // as it was charged
  // What can not be given back stays charged until it ages out: stricter.
  with_log(engine, part.target, rule, [&](Log& log) { log.undo(part.taken); });
}

}  // namespace brim
