// SPDX-License-Identifier: MIT
// Live change of policies, for all attached processes at once. Set-up only.
#include "src/change.h"

#include <algorithm>

#include "brim/limiter.h"
#include "src/base/text.h"
#include "src/call.h"
#include "src/compile.h"
#include "src/engine.h"
#include "src/overrides.h"

namespace brim {

namespace {

// Multiplies what is owed by `to` / `from`.
struct Rescale {
  uint64_t from;
  uint64_t to;
  uint32_t cost = 0;
  Step operator()(Word word, const Instant& at, const Quota& quota) const noexcept {
    const auto scaled = [&](uint64_t amount, uint64_t most) {
      const uint128 wanted = static_cast<uint128>(amount) * to / from;
      return static_cast<uint64_t>(std::min<uint128>(wanted, most));
    };
    switch (family(quota)) {
      case Family::kBucket: {
        const uint64_t debt = gcra::debt_units(word, at.v);
        return {debt == 0 ? word : at.v + scaled(debt, quota.capacity_max), true};
      }
      case Family::kWindow: {
        window::State state = window::current(word, at.v, at.now_ns, quota);
        if (state.count == 0) return {word, true};
        state.count = scaled(state.count, window::count_mask(quota));
        return {window::pack(state, quota), true};
      }
      case Family::kCounter: {
        counter::State state = counter::current(word, at.v, at.now_ns, quota);
        if ((state.prev | state.cur) == 0) return {word, true};
        state.prev = scaled(state.prev, counter::count_mask(quota));
        state.cur = scaled(state.cur, counter::count_mask(quota));
        return {counter::pack(state, quota), true};
      }
      default:
        return {word, true};
    }
  }
};

// What a share of the policy is a share of.
uint64_t whole_of(const Quota& quota) noexcept {
  if (family(quota) != Family::kBucket) return quota.limit;
  const uint64_t permit = gcra::cost_units(quota, 1);
  return has(quota, kByDebtBefore) ? quota.capacity + permit : quota.capacity;
}

// Overrides of the policy, and those that lead to it. The lock is held.
uint64_t overrides_naming(const Engine& engine, uint16_t number) {
  uint64_t count = 0;
  const uint64_t now = shm::override_now(engine.clock.now());
  engine.overrides.for_each([&](uint64_t, shm::OverrideHash, const shm::Override& what) {
    const bool leads = what.action == static_cast<uint8_t>(OverrideKind::kPolicy);
    const bool names = what.from == number || (leads && what.to == number);
    count += names && !shm::has_ended(what, now) ? 1 : 0;
  });
  return count;
}

// Rewrites every key of one part, one compare-and-swap each. Killed in the middle: the others keep
// their debt in permits.
void rescale_keys(const Engine& engine, uint16_t number, uint32_t part, uint64_t from,
                  uint64_t to) {
  shm::AtomicSlot* const slots = engine.segment->slots();
  const Rescale rescale{from, to};
  for (uint64_t i = 0; i < engine.table.slot_count(); ++i) {
    for (int tries = 0; tries < 1000; ++tries) {
      const shm::Slot seen = shm::HardwareAtomics::load(slots + i);
      Quota quota;
      if (seen.id <= shm::kFreeId || shm::id_policy(seen.id) != number ||
          shm::id_part(seen.id) != part || is_tentative(seen.word) ||
          !read_quota(engine.registry, number, part, quota)) {
        break;
      }
      const Step step = rescale(seen.word, instant(quota, engine.clock.now()), quota);
      // Killed here: this key is rewritten or not.
      if (shm::HardwareAtomics::cas(slots + i, seen, {seen.id, step.next})) break;
    }
  }
}

}  // namespace

absl::Status not_writable(const Engine* engine) {
  if (engine == nullptr) return absl::FailedPreconditionError("not_open: this Limiter is empty");
  return engine->check_writable();
}

absl::Status find_for_change(const Engine& engine, std::string_view name, Held& held) {
  if (!held.lock.held()) return engine.lock_error();
  if (absl::Status status = engine.check_settled(); !status.ok()) return status;
  const int found = engine.registry.find(name);
  held.number = static_cast<uint16_t>(found);
  if (found >= 0 && engine.registry.read(held.number, held.words, held.text)) {
    return absl::OkStatus();
  }
  return absl::NotFoundError(cat("policy_not_found: segment ", shown_path(engine.segment->path()),
                                 " has no policy '", printable(name), "'"));
}

void raise_ceiling(const Engine& engine, uint16_t policy, uint32_t part,
                   uint64_t permits) noexcept {
  shm::PolicyWords words;
  std::string text;
  if (part >= kBanPart || !engine.registry.read(policy, words, text)) return;
  Quota quota = quota_from(words, part);
  constexpr uint64_t kMost = uint64_t{1} << 61;
  const uint128 wanted = static_cast<uint128>(permits) << (quota.shift & 63);
  if (family(quota) != Family::kBucket || wanted <= quota.capacity_max) return;
  words[part * shm::kPartWords + kWordCapacityMax] =
      static_cast<uint64_t>(std::min<uint128>(wanted, std::max(kMost, quota.capacity_max)));
  shm::Registry registry = engine.registry;
  registry.replace(policy, words, text);
}

absl::Status Limiter::change(std::string_view name, std::string_view text,
                             OnChange on_change) const {
  if (absl::Status status = not_writable(engine_.get()); !status.ok()) return status;
  const Engine& engine = engine_->current();
  const absl::StatusOr<Policy> policy = parse_policy(text);
  if (!policy.ok()) return policy.status();
  if (absl::Status status =
          check_cells(*policy, engine.cells_per_key, shown_path(engine.segment->path()));
      !status.ok()) {
    return status;
  }
  if (absl::Status status =
          check_cluster(*policy, engine.consumption.kept(), shown_path(engine.segment->path()));
      !status.ok()) {
    return status;
  }
  Held held{engine.registry.lock()};
  if (absl::Status status = find_for_change(engine, name, held); !status.ok()) return status;
  const Beginning at{engine.clock.now(), wall_now_ns()};
  const auto words = recompile(*policy, at, held.words, on_change == OnChange::kReset);
  if (!words.ok()) return words.status();
  shm::Registry registry = engine.registry;
  registry.replace(held.number, *words, policy_text(*policy));
  if (on_change != OnChange::kProportional) return absl::OkStatus();
  for (uint32_t part = 0; part < policy->rates.size(); ++part) {
    const uint64_t from = whole_of(quota_from(held.words, part));
    const uint64_t to = whole_of(quota_from(*words, part));
    if (from != 0 && from != to) rescale_keys(engine, held.number, part, from, to);
  }
  return absl::OkStatus();
}

absl::Status Limiter::reset_policy(std::string_view name) const {
  if (absl::Status status = not_writable(engine_.get()); !status.ok()) return status;
  const Engine& engine = engine_->current();
  Held held{engine.registry.lock()};
  if (absl::Status status = find_for_change(engine, name, held); !status.ok()) return status;
  const absl::StatusOr<Policy> policy = parse_policy(held.text);
  if (!policy.ok()) {
    return absl::FailedPreconditionError(
        cat("policy_change_unfit: the text of policy '", printable(name), "' does not parse: '",
            printable(held.text, 1024), "'; write it anew (brim change)"));
  }
  const auto words =
      recompile(*policy, {engine.clock.now(), wall_now_ns()}, held.words, /*reset=*/true);
  if (!words.ok()) return words.status();
  shm::Registry registry = engine.registry;
  registry.replace(held.number, *words, held.text);
  return absl::OkStatus();
}

absl::Status Limiter::remove_policy(std::string_view name) const {
  if (absl::Status status = not_writable(engine_.get()); !status.ok()) return status;
  const Engine& engine = engine_->current();
  Held held{engine.registry.lock()};
  if (absl::Status status = find_for_change(engine, name, held); !status.ok()) return status;
  if (const uint64_t uses = overrides_naming(engine, held.number); uses != 0) {
    return absl::FailedPreconditionError(
        cat("policy_in_use: ", uses, " overrides or bans name policy '", printable(name),
            "' of segment ", shown_path(engine.segment->path()), "; clear them first"));
  }
  shm::Registry registry = engine.registry;
  registry.set_removed(held.number, true);
  return absl::OkStatus();
}

absl::Status Limiter::set_factor(std::string_view policy, uint32_t parts_per_million) const {
  if (absl::Status status = not_writable(engine_.get()); !status.ok()) return status;
  const Engine& engine = engine_->current();
  if (parts_per_million > kWholePpm) {
    return absl::InvalidArgumentError(
        cat("invalid_factor: ", parts_per_million, " parts per million; give 0 to 1000000"));
  }
  Held held{engine.registry.lock()};
  if (absl::Status status = find_for_change(engine, policy, held); !status.ok()) return status;
  shm::Registry registry = engine.registry;
  registry.replace(held.number, with_factor(held.words, engine.clock.now(), parts_per_million),
                   held.text);
  return absl::OkStatus();
}

}  // namespace brim
