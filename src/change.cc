// SPDX-License-Identifier: MIT
// Live change of policies and overrides, for all attached processes at once. Set-up only.
#include "src/change.h"

#include <algorithm>

#include "brim/address.h"
#include "brim/limiter.h"
#include "src/base/text.h"
#include "src/call.h"
#include "src/compile.h"
#include "src/engine.h"
#include "src/overrides.h"

namespace brim {

namespace {

// A policy found for writing, with the lock held.
struct Held {
  shm::Registry::WriteLock lock;
  uint16_t number = 0;
  shm::PolicyWords words = {};
  std::string text = {};
};

absl::Status not_writable(const Engine* engine) {
  if (engine == nullptr) return absl::FailedPreconditionError("not_open: this Limiter is empty");
  return engine->check_writable();
}

// Reads the policy under the lock.
absl::Status find(const Engine& engine, std::string_view name, Held& held) {
  if (!held.lock.held()) return engine.lock_error();
  const int found = engine.registry.find(name);
  held.number = static_cast<uint16_t>(found);
  if (found >= 0 && engine.registry.read(held.number, held.words, held.text)) {
    return absl::OkStatus();
  }
  return absl::NotFoundError(cat("policy_not_found: segment ", shown_path(engine.segment->path()),
                                 " has no policy '", printable(name), "'"));
}

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

shm::OverrideHash override_hash(const Engine& engine, std::string_view key) {
  const Hash128 hash = hash_key(engine.secret, key);
  return {hash.low, hash.high};
}

// An override's subject: its hash, and what to call it in an error.
struct Subject {
  shm::OverrideHash hash;
  std::string_view text;
  shm::NetworkKind network = {};
  const uint64_t* prefixes = nullptr;  // or: some of which it may be
};

// The policies that an override of `from` is about are told to look.
void tell_policies(const Engine& engine, uint16_t from) {
  for (uint32_t i = 0; i < engine.registry.size(); ++i) {
    const auto number = static_cast<uint16_t>(i);
    shm::PolicyWords words;
    std::string text;
    if ((from != shm::kAnyPolicy && number != from) || !engine.registry.read(number, words, text) ||
        options_from_word(words[kOptionWords]).overrides) {
      continue;
    }
    shm::Registry registry = engine.registry;
    registry.replace(number, with_overrides(words), text);
  }
}

// What the entry shall say; `use` is a policy, unlimited or deny.
absl::Status read_use(const Engine& engine, std::string_view use, shm::Override& what) {
  what.action = static_cast<uint8_t>(use == "unlimited" ? OverrideKind::kUnlimited
                                     : use == "deny"    ? OverrideKind::kDeny
                                                        : OverrideKind::kPolicy);
  if (what.action != static_cast<uint8_t>(OverrideKind::kPolicy)) return absl::OkStatus();
  const int target = engine.registry.find(use);
  if (target < 0) {
    return absl::NotFoundError(cat("policy_not_found: segment ", shown_path(engine.segment->path()),
                                   " has no policy '", printable(use),
                                   "'; an override uses a policy, unlimited or deny"));
  }
  what.to = static_cast<uint16_t>(target);
  return absl::OkStatus();
}

// Sets or clears (`use` empty) one override. REQUIRES: the segment can be written to.
absl::Status write_override(const Engine& engine, std::string_view policy, const Subject& subject,
                            std::string_view use) {
  Held held{engine.registry.lock()};
  shm::Override what;
  if (policy != "*") {
    if (absl::Status status = find(engine, policy, held); !status.ok()) return status;
    what.from = held.number;
    if (what.from == shm::kAnyPolicy) {
      return absl::FailedPreconditionError(
          cat("override_table_full: policy '", printable(policy), "' is number ", what.from,
              ", which can have no override of its own; define it earlier"));
    }
  } else if (!held.lock.held()) {
    return engine.lock_error();
  }
  shm::OverrideWriter writer = override_writer(engine);
  if (use.empty()) {
    if (writer.remove(subject.hash, what.from)) return absl::OkStatus();
    return absl::NotFoundError(cat("override_not_found: policy '", printable(policy),
                                   "' of segment ", shown_path(engine.segment->path()),
                                   " has no override for '", printable(subject.text), "'"));
  }
  if (absl::Status status = read_use(engine, use, what); !status.ok()) return status;
  if (subject.prefixes != nullptr) writer.add_prefixes(subject.prefixes);
  if (absl::Status status = writer.set(subject.hash, what, subject.network); !status.ok()) {
    return status;
  }
  tell_policies(engine, what.from);
  return absl::OkStatus();
}

absl::Status write_key(const Engine* engine, std::string_view policy, std::string_view key,
                       std::string_view use, shm::NetworkKind network = {}) {
  if (absl::Status status = not_writable(engine); !status.ok()) return status;
  return write_override(*engine, policy, {override_hash(*engine, key), key, network}, use);
}

absl::Status write_network(const Engine* engine, std::string_view policy, std::string_view network,
                           std::string_view use) {
  const absl::StatusOr<Cidr> cidr = parse_cidr(network);
  if (!cidr.ok()) return cidr.status();
  const shm::NetworkKind kind{cidr->address.v4 ? shm::Family::kV4 : shm::Family::kV6, cidr->prefix};
  return write_key(engine, policy, cidr_text(*cidr).view(), use, kind);
}

}  // namespace

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

absl::Status write_override_hash(const Engine& engine, std::string_view policy,
                                 shm::OverrideHash hash, std::string_view use,
                                 const uint64_t (&prefixes)[4]) {
  return write_override(engine, policy, {hash, {}, {}, prefixes}, use);
}

absl::Status Limiter::change(std::string_view name, std::string_view text,
                             OnChange on_change) const {
  if (absl::Status status = not_writable(engine_.get()); !status.ok()) return status;
  const absl::StatusOr<Policy> policy = parse_policy(text);
  if (!policy.ok()) return policy.status();
  if (absl::Status status =
          check_cells(*policy, engine_->cells_per_key, shown_path(engine_->segment->path()));
      !status.ok()) {
    return status;
  }
  Held held{engine_->registry.lock()};
  if (absl::Status status = find(*engine_, name, held); !status.ok()) return status;
  const Beginning at{engine_->clock.now(), wall_now_ns()};
  const auto words = recompile(*policy, at, held.words, on_change == OnChange::kReset);
  if (!words.ok()) return words.status();
  engine_->registry.replace(held.number, *words, policy_text(*policy));
  if (on_change != OnChange::kProportional) return absl::OkStatus();
  for (uint32_t part = 0; part < policy->rates.size(); ++part) {
    const uint64_t from = whole_of(quota_from(held.words, part));
    const uint64_t to = whole_of(quota_from(*words, part));
    if (from != 0 && from != to) rescale_keys(*engine_, held.number, part, from, to);
  }
  return absl::OkStatus();
}

absl::Status Limiter::set_factor(std::string_view policy, uint32_t parts_per_million) const {
  if (absl::Status status = not_writable(engine_.get()); !status.ok()) return status;
  if (parts_per_million > kWholePpm) {
    return absl::InvalidArgumentError(
        cat("invalid_factor: ", parts_per_million, " parts per million; give 0 to 1000000"));
  }
  Held held{engine_->registry.lock()};
  if (absl::Status status = find(*engine_, policy, held); !status.ok()) return status;
  engine_->registry.replace(
      held.number, with_factor(held.words, engine_->clock.now(), parts_per_million), held.text);
  return absl::OkStatus();
}

absl::Status Limiter::set_override(std::string_view policy, std::string_view key,
                                   std::string_view use) const {
  if (use.empty()) {
    return absl::InvalidArgumentError(
        "invalid_override: an override uses a policy, unlimited or deny; nothing was given");
  }
  return write_key(engine_.get(), policy, key, use);
}

absl::Status Limiter::set_network_override(std::string_view policy, std::string_view network,
                                           std::string_view use) const {
  if (use.empty()) {
    return absl::InvalidArgumentError(
        "invalid_override: an override uses a policy, unlimited or deny; nothing was given");
  }
  return write_network(engine_.get(), policy, network, use);
}

absl::Status Limiter::clear_override(std::string_view policy, std::string_view key) const {
  return write_key(engine_.get(), policy, key, {});
}

absl::Status Limiter::clear_network_override(std::string_view policy,
                                             std::string_view network) const {
  return write_network(engine_.get(), policy, network, {});
}

}  // namespace brim
