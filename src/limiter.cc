// SPDX-License-Identifier: MIT
// Set-up: options -> segment, policy text -> record.
#include "brim/limiter.h"

#include <algorithm>
#include <vector>

#include "src/base/text.h"
#include "src/compile.h"
#include "src/engine.h"
#include "src/policy_words.h"

namespace brim {

using internal::access_for;
using internal::clock_for;
using internal::Engine;

namespace {

shm::SegmentSpec spec_for(const Options& options) {
  shm::SegmentSpec spec;
  if (options.capacity != 0) spec.capacity = options.capacity;
  if (options.name_bytes == Options::kNoNames) {
    spec.name_bytes = 0;
  } else if (options.name_bytes != 0) {
    spec.name_bytes =
        options.name_bytes <= 65520 ? (options.name_bytes + 7) / 8 * 8 : options.name_bytes;
  }
  if (options.max_policies != 0) spec.max_policies = options.max_policies;
  if (options.probe_limit != 0) spec.probe_limit = options.probe_limit;
  if (options.overrides != 0) spec.overrides = options.overrides;
  spec.cells_per_key = options.cells_per_key;
  spec.cluster = options.cluster;
  if (options.hash != HashKind::kDefault) spec.hash_kind = static_cast<uint32_t>(options.hash);
  if (options.on_full != OnFull::kDefault) spec.on_full = static_cast<uint32_t>(options.on_full);
  spec.hash_seed = options.hash_seed;
  spec.mode = options.mode;
  spec.replace = options.replace;
  return spec;
}

absl::Status check_policy_name(std::string_view name) {
  if (valid_policy_name(name)) return absl::OkStatus();
  return absl::InvalidArgumentError(cat("invalid_policy_name: a policy name of ", name.size(),
                                        " bytes; give 1 to 47 characters of A-Z a-z 0-9 . _ -"));
}

// An option that was given and differs from what the segment has.
absl::Status check_stored(const Options& options, const shm::Segment& segment) {
  const shm::HeaderFields& header = segment.header();
  const shm::SegmentSpec asked = spec_for(options);
  const struct {
    const char* name;
    bool given;
    uint64_t asked;
    uint64_t stored;
    bool size = true;
  } fields[] = {
      {"capacity", options.capacity != 0, asked.capacity, header.capacity},
      {"name_bytes", options.name_bytes != 0, asked.name_bytes, header.name_bytes},
      {"max_policies", options.max_policies != 0, asked.max_policies, header.max_policies},
      {"hash", options.hash != HashKind::kDefault, asked.hash_kind, header.hash_kind, false},
      {"on_full", options.on_full != OnFull::kDefault, asked.on_full, header.on_full, false},
      {"probe_limit", options.probe_limit != 0, asked.probe_limit, header.probe_limit},
      {"cells_per_key", options.cells_per_key != 0, asked.cells_per_key, header.cells_per_key},
      {"cluster", options.cluster, 1, segment.use_cells() == nullptr ? 0u : 1u},
  };
  for (const auto& field : fields) {
    if (!field.given || field.asked == field.stored || (field.size && header.generation != 0)) {
      continue;  // what a resize has changed is no mismatch
    }
    return absl::FailedPreconditionError(
        cat("config_mismatch: segment ", shown_path(segment.path()), " has ", field.name, " ",
            field.stored, ", asked for ", field.asked,
            "; set accept_stored to use it as it is, or recreate it"));
  }
  return absl::OkStatus();
}

using Wrap = Limiter (*)(std::shared_ptr<Engine>);

// The spec with the policies compiled as of now. `options` must outlive it. REQUIRES:
// check_options() is ok.
shm::SegmentSpec spec_with_policies(const Options& options, Wrap wrap) {
  shm::SegmentSpec spec = spec_for(options);
  const Beginning at{clock_for(options)->now(), wall_now_ns()};
  for (const NamedPolicy& policy : options.policies) {
    const bool again = std::any_of(spec.policies.begin(), spec.policies.end(),
                                   [&](const auto& known) { return known.name == policy.name; });
    if (again) continue;  // the same text twice is no contradiction; see check_options
    const Policy parsed = *parse_policy(policy.text);
    spec.cells_per_key = std::max(spec.cells_per_key, cells_needed(parsed));
    spec.cluster = spec.cluster || parsed.scope != PolicyScope::kNode;
    spec.policies.push_back({policy.name, *compile(parsed, at), policy_text(parsed)});
  }
  if (options.prepare) {
    spec.prepare = [&options, wrap](const std::shared_ptr<shm::Segment>& segment) {
      return options.prepare(wrap(std::allocate_shared<Engine>(shm::UndumpedAllocator<Engine>(),
                                                               segment, *clock_for(options))));
    };
  }
  return spec;
}

// What can be refused before a segment is made for it.
absl::Status check_options(std::string_view name, const Options& options) {
  if (auto path = shm::segment_path(name); !path.ok()) return path.status();
  if (absl::StatusOr<Clock> clock = clock_for(options); !clock.ok()) return clock.status();
  for (const NamedPolicy& policy : options.policies) {
    if (absl::Status status = check_policy_name(policy.name); !status.ok()) return status;
    const absl::StatusOr<Policy> parsed = parse_policy(policy.text);
    if (!parsed.ok()) return parsed.status();
    if (options.cells_per_key != 0 && cells_needed(*parsed) > options.cells_per_key) {
      return absl::InvalidArgumentError(cat("invalid_option: cells_per_key is ",
                                            options.cells_per_key, ", policy '", policy.name,
                                            "' needs ", cells_needed(*parsed)));
    }
    for (const NamedPolicy& other : options.policies) {
      if (&other == &policy) break;
      if (other.name != policy.name || *parse_policy(other.text) == *parsed) continue;
      return absl::InvalidArgumentError(cat("invalid_option: policy '", policy.name,
                                            "' is given twice, as '", printable(other.text, 1024),
                                            "' and as '", printable(policy.text, 1024), "'"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<shm::Segment>> attach_or_create(std::string_view name,
                                                               const Options& options,
                                                               const shm::Access& access,
                                                               Wrap wrap) {
  // The name may appear between the failed attach and the create, and vanish again.
  absl::Status last;
  for (int round = 0; round < 8; ++round) {
    auto attached = shm::Segment::attach(name, access);
    if (!absl::IsNotFound(attached.status())) return attached;
    auto created = shm::Segment::create(name, spec_with_policies(options, wrap), access);
    if (!absl::IsAlreadyExists(created.status()) && !absl::IsNotFound(created.status())) {
      return created;
    }
    last = created.status();
  }
  return last;
}

std::string stored_text(const Engine& engine, uint16_t number) {
  shm::PolicyWords words;
  std::string text;
  return engine.registry.read(number, words, text) ? text : std::string();
}

// The number of the policy called `name` if it means `policy`, AlreadyExists if it means something
// else, NotFound if there is none.
absl::StatusOr<uint16_t> find_policy(const Engine& engine, std::string_view name,
                                     const Policy& policy) {
  const int found = engine.registry.find(name);
  if (found < 0) return absl::NotFoundError("policy_not_found");
  const auto number = static_cast<uint16_t>(found);
  const std::string stored = stored_text(engine, number);
  const std::string asked = policy_text(policy);
  if (stored == asked) return number;
  return absl::AlreadyExistsError(cat("policy_mismatch: policy '", printable(name), "' of segment ",
                                      shown_path(engine.segment->path()), " is '",
                                      printable(stored, 1024), "', asked for '", asked, "'"));
}

// Defines a removed policy anew. Killed after the first step: it is removed still, and whoever has
// it goes by the new text.
absl::Status bring_back(const Engine& engine, uint16_t number, const Policy& policy,
                        const Beginning& at) {
  shm::PolicyWords old;
  std::string text;
  if (!engine.registry.read(number, old, text)) old = {};
  auto words = recompile(policy, at, old, true);
  if (!words.ok())
    words = recompile(policy, at, old, false);  // logs: their keys keep what they owe
  if (!words.ok()) return words.status();
  shm::Registry registry = engine.registry;
  registry.replace(number, engine.overrides.empty() ? *words : with_overrides(*words),
                   policy_text(policy));
  registry.set_removed(number, false);
  return absl::OkStatus();
}

// That policies can be written here, and that this one finds the room it needs.
absl::Status check_writable(const Engine& engine, const Policy& policy) {
  if (absl::Status status = engine.check_writable(); !status.ok()) return status;
  const std::string path = shown_path(engine.segment->path());
  if (absl::Status status = check_cells(policy, engine.cells_per_key, path); !status.ok()) {
    return status;
  }
  return check_cluster(policy, engine.consumption.kept(), path);
}

// The engine over an attached segment, with the options' policies defined.
absl::StatusOr<Limiter> finish_open(absl::StatusOr<std::shared_ptr<shm::Segment>> segment,
                                    const Options& options, Wrap wrap) {
  if (!segment.ok()) return segment.status();
  absl::StatusOr<Clock> clock = clock_for(options);
  if (!clock.ok()) return clock.status();
  if (!options.accept_stored) {
    if (absl::Status status = check_stored(options, **segment); !status.ok()) return status;
  }
  Limiter limiter = wrap(
      std::allocate_shared<Engine>(shm::UndumpedAllocator<Engine>(), *std::move(segment), *clock));
  for (const NamedPolicy& policy : options.policies) {
    absl::StatusOr<PolicyHandle> handle = limiter.define(policy.name, policy.text);
    if (handle.ok()) continue;
    if (!absl::IsAlreadyExists(handle.status())) return handle.status();
    if (options.accept_stored) continue;
    return absl::FailedPreconditionError(
        cat("config_mismatch: ", handle.status().message(),
            "; set accept_stored to use it as it is, or recreate the segment"));
  }
  return limiter;
}

}  // namespace

absl::StatusOr<Limiter> Limiter::open(std::string_view name, const Options& options) {
  if (absl::Status status = check_options(name, options); !status.ok()) return status;
  absl::StatusOr<shm::Access> access = access_for(options, false);
  if (!access.ok()) return access.status();
  const Wrap wrap = [](std::shared_ptr<Engine> e) { return Limiter(std::move(e)); };
  return finish_open(attach_or_create(name, options, *access, wrap), options, wrap);
}

absl::StatusOr<Limiter> Limiter::create(std::string_view name, const Options& options) {
  if (absl::Status status = check_options(name, options); !status.ok()) return status;
  absl::StatusOr<shm::Access> access = access_for(options, false);
  if (!access.ok()) return access.status();
  const Wrap wrap = [](std::shared_ptr<Engine> e) { return Limiter(std::move(e)); };
  return finish_open(shm::Segment::create(name, spec_with_policies(options, wrap), *access),
                     options, wrap);
}

absl::StatusOr<Limiter> Limiter::attach(std::string_view name, const Options& options) {
  absl::StatusOr<shm::Access> access = access_for(options, false);
  if (!access.ok()) return access.status();
  return finish_open(shm::Segment::attach(name, *access), options,
                     [](std::shared_ptr<Engine> e) { return Limiter(std::move(e)); });
}

absl::StatusOr<Limiter> Limiter::attach_read_only(std::string_view name, const Options& options) {
  absl::StatusOr<shm::Access> access = access_for(options, true);
  if (!access.ok()) return access.status();
  Options own = options;
  own.policies.clear();  // nothing can be defined
  return finish_open(shm::Segment::attach(name, *access), own,
                     [](std::shared_ptr<Engine> e) { return Limiter(std::move(e)); });
}

absl::Status Limiter::unlink(std::string_view name) { return shm::Segment::unlink(name); }

absl::StatusOr<PolicyHandle> Limiter::policy(std::string_view name) const {
  if (engine_ == nullptr) return absl::FailedPreconditionError("not_open: this Limiter is empty");
  const Engine& engine = engine_->current();
  const int number = engine.registry.find(name);
  if (number >= 0) {
    return PolicyHandle(engine_, static_cast<uint16_t>(number), std::string(name));
  }
  std::string known;
  for (const std::string& one : policy_names()) {
    known += cat(known.empty() ? "" : ", ", printable(one));
  }
  return absl::NotFoundError(cat("policy_not_found: segment ", shown_path(engine.segment->path()),
                                 " has no policy '", printable(name),
                                 "'; it has: ", known.empty() ? "none" : known,
                                 ". Define it: Limiter::define, or `brim policy set`"));
}

absl::StatusOr<PolicyHandle> Limiter::define(std::string_view name, std::string_view text) const {
  if (engine_ == nullptr) return absl::FailedPreconditionError("not_open: this Limiter is empty");
  const Engine& engine = engine_->current();
  if (absl::Status status = check_policy_name(name); !status.ok()) return status;
  absl::StatusOr<Policy> policy = parse_policy(text);
  if (!policy.ok()) return policy.status();
  if (absl::Status status = check_writable(engine, *policy); !status.ok()) return status;
  const auto known = [&]() -> absl::StatusOr<PolicyHandle> {
    absl::StatusOr<uint16_t> number = find_policy(engine, name, *policy);
    if (!number.ok()) return number.status();
    return PolicyHandle(engine_, *number, std::string(name));
  };
  // Without the lock first: a policy that is there needs no writer, and a stopped one bars nobody.
  if (auto handle = known(); !absl::IsNotFound(handle.status())) return handle;
  const auto lock = engine.registry.lock();
  if (!lock.held()) return engine.lock_error();
  if (absl::Status status = engine.check_settled(); !status.ok()) return status;
  if (auto handle = known(); !absl::IsNotFound(handle.status())) return handle;
  const Beginning at{engine.clock.now(), wall_now_ns()};
  if (const int removed = engine.registry.find_removed(name); removed >= 0) {
    const auto number = static_cast<uint16_t>(removed);
    if (absl::Status status = bring_back(engine, number, *policy, at); !status.ok()) return status;
    return PolicyHandle(engine_, number, std::string(name));
  }
  const auto words = compile(*policy, at);
  if (!words.ok()) return words.status();
  // An override of all policies ("*") is about this one too.
  shm::Registry registry = engine.registry;
  absl::StatusOr<uint16_t> number = registry.add(
      name, engine.overrides.empty() ? *words : with_overrides(*words), policy_text(*policy));
  if (!number.ok()) return number.status();
  return PolicyHandle(engine_, *number, std::string(name));
}

Policy PolicyHandle::policy() const {
  if (engine_ == nullptr) return {};
  absl::StatusOr<Policy> policy = parse_policy(stored_text(engine_->current(), number_));
  return policy.ok() ? *std::move(policy) : Policy{};
}

std::vector<std::string> Limiter::policy_names() const {
  std::vector<std::string> names;
  if (engine_ == nullptr) return names;
  const shm::Registry& registry = engine_->current().registry;
  for (uint32_t i = 0; i < registry.size(); ++i) {
    const auto number = static_cast<uint16_t>(i);
    std::string name = registry.name(number);
    if (!name.empty() && !registry.removed(number)) names.push_back(std::move(name));
  }
  return names;
}

bool Limiter::linked() const {
  // While a resize is going on the old table has the name.
  return engine_ != nullptr && (engine_->current().segment->linked() || engine_->segment->linked());
}

const std::string& Limiter::name() const {
  static const std::string empty;
  return engine_ == nullptr ? empty : engine_->segment->name();
}

}  // namespace brim
