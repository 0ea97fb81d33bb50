// SPDX-License-Identifier: MIT
// Live change of overrides and bans, for all attached processes at once. Set-up only.
#include <algorithm>

#include "brim/address.h"
#include "brim/limiter.h"
#include "shm/names.h"
#include "src/base/text.h"
#include "src/call.h"
#include "src/change.h"
#include "src/compile.h"
#include "src/engine.h"
#include "src/override_list.h"
#include "src/overrides.h"
#include "src/parts.h"

namespace brim {

namespace {

// An override's subject: its hash, and its text.
struct Subject {
  shm::OverrideHash hash;
  std::string_view text;  // the whole key, or the beginning
  uint64_t length = 0;    // of the whole key
  shm::NetworkKind network = {};
  const uint64_t* prefixes = nullptr;  // or: some of which it may be
};

// What it shall be: a policy, unlimited or deny, or a ban.
struct Wanted {
  std::string_view use;
  bool ban = false;
  uint64_t end = shm::kOverrideEndless;
};

Subject subject_of(const Engine& engine, std::string_view key, shm::NetworkKind network = {}) {
  const Hash128 hash = hash_key(engine.secret, key);
  return {{hash.low, hash.high}, key, key.size(), network};
}

// The text as it is stored; nothing of one that is not known as far as it would be kept.
shm::OverrideName name_for(const Engine& engine, const Subject& subject) {
  const size_t kept = shm::kept_bytes(subject.length, shm::kOverrideTextBytes);
  if (subject.length == 0 || subject.text.size() < kept) return {};
  const std::string_view text = subject.text.substr(0, kept);
  return {text, subject.length,
          override_check(engine, shm::override_low(subject.hash), subject.length, text)};
}

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

// What the entry shall say.
absl::Status read_use(const Engine& engine, const Wanted& wanted, shm::Override& what) {
  const OverrideKind kind = wanted.ban                  ? OverrideKind::kBan
                            : wanted.use == "unlimited" ? OverrideKind::kUnlimited
                            : wanted.use == "deny"      ? OverrideKind::kDeny
                                                        : OverrideKind::kPolicy;
  what.action = static_cast<uint8_t>(kind);
  if (kind == OverrideKind::kBan) what.end = wanted.end;
  if (kind != OverrideKind::kPolicy) return absl::OkStatus();
  const int target = engine.registry.find(wanted.use);
  if (target < 0) {
    return absl::NotFoundError(cat("policy_not_found: segment ", shown_path(engine.segment->path()),
                                   " has no policy '", printable(wanted.use),
                                   "'; an override uses a policy, unlimited or deny"));
  }
  what.to = static_cast<uint16_t>(target);
  return absl::OkStatus();
}

// The number of the policy whose overrides are changed, with the lock held.
absl::Status find_from(const Engine& engine, std::string_view policy, Held& held, uint16_t& from) {
  if (policy == "*") {
    from = shm::kAnyPolicy;
    return held.lock.held() ? engine.check_settled() : engine.lock_error();
  }
  if (absl::Status status = find_for_change(engine, policy, held); !status.ok()) return status;
  from = held.number;
  if (from != shm::kAnyPolicy) return absl::OkStatus();
  return absl::FailedPreconditionError(
      cat("override_table_full: policy '", printable(policy), "' is number ", from,
          ", which can have no override of its own; define it earlier"));
}

// REQUIRES, as all below: the segment can be written to.
absl::Status set(const Engine& engine, std::string_view policy, const Subject& subject,
                 const Wanted& wanted) {
  Held held{engine.registry.lock()};
  shm::Override what;
  if (absl::Status status = find_from(engine, policy, held, what.from); !status.ok()) {
    return status;
  }
  if (absl::Status status = read_use(engine, wanted, what); !status.ok()) return status;
  shm::OverrideWriter writer = override_writer(engine);
  if (subject.prefixes != nullptr) writer.add_prefixes(subject.prefixes);
  const absl::Status status =
      writer.set(subject.hash, what, subject.network, name_for(engine, subject));
  if (status.ok()) tell_policies(engine, what.from);
  return status;
}

absl::Status clear(const Engine& engine, std::string_view policy, const Subject& subject) {
  Held held{engine.registry.lock()};
  uint16_t from = 0;
  if (absl::Status status = find_from(engine, policy, held, from); !status.ok()) return status;
  if (override_writer(engine).remove(subject.hash, from)) return absl::OkStatus();
  return absl::NotFoundError(cat("override_not_found: policy '", printable(policy), "' of segment ",
                                 shown_path(engine.segment->path()), " has no override for '",
                                 printable(subject.text), "'"));
}

// Ends the ban that the policy made, or that of the one which the key follows by an override.
bool lift_own_ban(const Engine& engine, uint16_t policy, const Subject& subject) {
  bool any = lift_ban(engine, policy, subject.text);
  const OverrideUse use =
      find_override(engine, policy, subject.text, {subject.hash.low, subject.hash.high});
  if (use.kind == OverrideKind::kPolicy && use.policy != policy) {
    any = lift_ban(engine, use.policy, subject.text) || any;
  }
  return any;
}

absl::Status end_ban(const Engine& engine, std::string_view policy, const Subject& subject) {
  Held held{engine.registry.lock()};
  uint16_t from = 0;
  if (absl::Status status = find_from(engine, policy, held, from); !status.ok()) return status;
  shm::OverrideWriter writer = override_writer(engine);
  const shm::OverrideMatch match = writer.table().find(from, subject.hash);
  bool any = match.found && match.what.from == from &&
             match.what.action == static_cast<uint8_t>(OverrideKind::kBan) &&
             writer.remove(subject.hash, from);
  for (uint32_t i = 0; i < engine.registry.size(); ++i) {
    const auto number = static_cast<uint16_t>(i);
    if (from == shm::kAnyPolicy || number == from) {
      any = lift_own_ban(engine, number, subject) || any;
    }
  }
  if (any) return absl::OkStatus();
  return absl::NotFoundError(cat("ban_not_found: '", printable(subject.text),
                                 "' is not banned under policy '", printable(policy),
                                 "' of segment ", shown_path(engine.segment->path())));
}

absl::Status check_use(std::string_view use) {
  if (!use.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "invalid_override: an override uses a policy, unlimited or deny; nothing was given");
}

absl::Status read_duration(const Engine& engine, int64_t duration_ns, Wanted& wanted) {
  if (duration_ns <= 0) {
    return absl::InvalidArgumentError(
        cat("invalid_duration: a ban of ", duration_ns, " ns; give more than 0"));
  }
  wanted.ban = true;
  if (duration_ns == kNever) return absl::OkStatus();
  const auto now = static_cast<uint64_t>(std::max<int64_t>(engine.clock.now(), 0));
  wanted.end = shm::override_end(now + static_cast<uint64_t>(duration_ns));
  return absl::OkStatus();
}

// Calls `write` with the table in use and the canonical text of the network.
template <class Write>
absl::Status with_network(const Engine* engine, std::string_view network, Write write) {
  if (absl::Status status = not_writable(engine); !status.ok()) return status;
  const absl::StatusOr<Cidr> cidr = parse_cidr(network);
  if (!cidr.ok()) return cidr.status();
  const auto text = cidr_text(*cidr);
  const Engine& current = engine->current();
  return write(current, subject_of(current, text.view(), network_kind(*cidr)));
}

template <class Write>
absl::Status with_key(const Engine* engine, std::string_view key, Write write) {
  if (absl::Status status = not_writable(engine); !status.ok()) return status;
  const Engine& current = engine->current();
  return write(current, subject_of(current, key));
}

}  // namespace

absl::Status write_saved_override(const Engine& engine, const SavedOverride& saved) {
  Subject subject{saved.hash, saved.text, saved.length, {}, saved.prefixes};
  Cidr cidr;
  if (saved.length == saved.text.size() && is_network(saved.text, cidr)) {
    subject.network = network_kind(cidr);
  }
  Wanted wanted{saved.use};
  if (saved.ban) {
    if (absl::Status status = read_duration(engine, saved.left_ns, wanted); !status.ok()) {
      return status;
    }
  }
  return set(engine, saved.policy, subject, wanted);
}

absl::Status Limiter::set_override(std::string_view policy, std::string_view key,
                                   std::string_view use) const {
  if (absl::Status status = check_use(use); !status.ok()) return status;
  return with_key(engine_.get(), key, [&](const Engine& engine, const Subject& subject) {
    return set(engine, policy, subject, {use});
  });
}

absl::Status Limiter::set_network_override(std::string_view policy, std::string_view network,
                                           std::string_view use) const {
  if (absl::Status status = check_use(use); !status.ok()) return status;
  return with_network(engine_.get(), network, [&](const Engine& engine, const Subject& subject) {
    return set(engine, policy, subject, {use});
  });
}

absl::Status Limiter::clear_override(std::string_view policy, std::string_view key) const {
  return with_key(engine_.get(), key, [&](const Engine& engine, const Subject& subject) {
    return clear(engine, policy, subject);
  });
}

absl::Status Limiter::clear_network_override(std::string_view policy,
                                             std::string_view network) const {
  return with_network(engine_.get(), network, [&](const Engine& engine, const Subject& subject) {
    return clear(engine, policy, subject);
  });
}

absl::Status Limiter::ban(std::string_view policy, std::string_view key,
                          int64_t duration_ns) const {
  return with_key(engine_.get(), key, [&](const Engine& engine, const Subject& subject) {
    Wanted wanted;
    const absl::Status status = read_duration(engine, duration_ns, wanted);
    return status.ok() ? set(engine, policy, subject, wanted) : status;
  });
}

absl::Status Limiter::ban_network(std::string_view policy, std::string_view network,
                                  int64_t duration_ns) const {
  return with_network(engine_.get(), network, [&](const Engine& engine, const Subject& subject) {
    Wanted wanted;
    const absl::Status status = read_duration(engine, duration_ns, wanted);
    return status.ok() ? set(engine, policy, subject, wanted) : status;
  });
}

absl::Status Limiter::unban(std::string_view policy, std::string_view key) const {
  return with_key(engine_.get(), key, [&](const Engine& engine, const Subject& subject) {
    return end_ban(engine, policy, subject);
  });
}

absl::Status Limiter::unban_network(std::string_view policy, std::string_view network) const {
  return with_network(engine_.get(), network, [&](const Engine& engine, const Subject& subject) {
    return end_ban(engine, policy, subject);
  });
}

}  // namespace brim
