// SPDX-License-Identifier: MIT
// A segment seen from outside, for C.
#include <memory>
#include <utility>

#include "brim/brim_inspect.h"
#include "brim/inspect.h"
#include "src/c_api.h"
#include "src/c_api_options.h"

using namespace brim::c_api;

struct brim_inspector {
  explicit brim_inspector(brim::Inspector attached) : inspector(std::move(attached)) {}
  brim::Inspector inspector;
  brim::SegmentInfo info = {};  // owns the strings of the last brim_inspect_info
};

namespace {

uint8_t flag(bool value) noexcept { return value ? 1 : 0; }

// Calls `visit` with each of `all` as `to_c` makes it, until it has had enough.
template <class Visit, class All, class ToC>
int visit_all(brim_inspector* inspector, Visit visit, void* context, const All& all,
              const ToC& to_c) noexcept {
  if (inspector == nullptr || visit == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    for (const auto& each : all(inspector->inspector)) {
      auto made = to_c(each);
      made.struct_size = sizeof(made);
      if (visit(context, &made) != 0) break;
    }
    return 0;
  });
}

const void* known(bool has, std::string_view text) noexcept { return has ? text.data() : nullptr; }
size_t known_size(bool has, std::string_view text) noexcept { return has ? text.size() : 0; }

brim_decision decision_of(const brim::Decision& from) noexcept {
  brim_decision out = BRIM_DECISION_INIT;
  write_decision(from, 0, &out);
  return out;
}

brim_key_info key_of(const brim::KeyInfo& from) noexcept {
  brim_key_info out = {};
  out.struct_size = sizeof(out);
  out.policy = from.policy;
  out.part = static_cast<uint8_t>(from.part);
  out.state = static_cast<uint8_t>(from.state);
  out.slot = from.slot;
  out.fingerprint = from.fingerprint;
  out.name = known(from.has_name, from.name);
  out.name_size = known_size(from.has_name, from.name);
  out.name_length = from.name_length;
  out.retry_after_ns = from.retry_after_ns;
  return out;
}

void write_info(const brim::SegmentInfo& from, brim_segment_info* out) noexcept {
  out->layout_version = from.layout_version;
  out->name = from.name.c_str();
  out->path = from.path.c_str();
  out->uuid = from.uuid.c_str();
  out->size_bytes = from.size_bytes;
  out->capacity = from.capacity;
  out->slots = from.slots;
  out->probe_limit = from.probe_limit;
  out->groups_in_use = from.groups_in_use;
  out->name_bytes = from.name_bytes;
  out->max_policies = from.max_policies;
  out->mode = from.mode;
  out->owner_uid = from.owner_uid;
  out->group_gid = from.group_gid;
  out->creator_pid = from.creator_pid;
  out->created_wall_ns = from.created_wall_ns;
  out->hash = static_cast<uint8_t>(from.hash);
  out->on_full = static_cast<uint8_t>(from.on_full);
  out->linked = flag(from.linked);
  out->paused = flag(from.paused);
  out->superseded = flag(from.superseded);
  out->filling = flag(from.filling);
  out->generation = from.generation;
  out->snapshot_generation = from.snapshot_generation;
  out->snapshot_age_ns = from.snapshot_age_ns;
  out->snapshot_duration_ns = from.snapshot_duration_ns;
  out->snapshot_rows = from.snapshot_rows;
  out->snapshot_failures = from.snapshot_failures;
}

brim_counter counter_of(const brim::Counter& from) noexcept {
  brim_counter out = {};
  out.value = from.value;
  out.name = from.name.c_str();
  out.description = from.description.c_str();
  return out;
}

}  // namespace

extern "C" {

int brim_inspect(const char* name, const brim_options* options, brim_inspector** inspector) {
  if (name == nullptr || inspector == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    brim::Options asked;
    brim_options read = {};
    if (const int code = read_options(options, asked, read); code < 0) return code;
    absl::StatusOr<brim::Inspector> attached = brim::Inspector::attach(name, asked);
    if (!attached.ok()) return fail(attached.status());
    *inspector = std::make_unique<brim_inspector>(*std::move(attached)).release();
    return 0;
  });
}

void brim_inspect_end(brim_inspector* inspector) {
  const brim::NoCancel whole;
  const std::unique_ptr<brim_inspector> owned(inspector);
}

int brim_inspect_info(brim_inspector* inspector, brim_segment_info* info) {
  if (inspector == nullptr || info == nullptr) return fail(BRIM_E_INVALID);
  if (!has_size(*info)) return fail(BRIM_E_STRUCT_SIZE);
  return guarded([&] {
    inspector->info = inspector->inspector.info();
    write_info(inspector->info, info);
    return 0;
  });
}

int brim_inspect_policies(brim_inspector* inspector,
                          int (*visit)(void* context, const brim_policy_info* policy),
                          void* context) {
  return visit_all(
      inspector, visit, context, [](const auto& it) { return it.policies(); },
      [](const brim::PolicyInfo& from) {
        brim_policy_info out = {};
        out.number = from.number;
        out.name = from.name.c_str();
        out.text = from.text.c_str();
        out.factor_ppm = from.factor_ppm;
        return out;
      });
}

int brim_inspect_counters(brim_inspector* inspector, const char* policy,
                          int (*visit)(void* context, const brim_counter* counter), void* context) {
  if (policy == nullptr) {
    return visit_all(
        inspector, visit, context, [](const auto& it) { return it.counters(); }, counter_of);
  }
  if (inspector == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    for (const brim::PolicyInfo& each : inspector->inspector.policies()) {
      if (each.name != policy) continue;
      return visit_all(
          inspector, visit, context, [&](const auto&) { return each.counters; }, counter_of);
    }
    return fail(BRIM_E_NOT_FOUND, "policy_not_found: the segment has no policy of this name");
  });
}

int brim_inspect_attached(brim_inspector* inspector,
                          int (*visit)(void* context, const brim_attached* process),
                          void* context) {
  return visit_all(
      inspector, visit, context, [](const auto& it) { return it.attached(); },
      [](const brim::AttachedInfo& from) {
        brim_attached out = {};
        out.pid = from.pid;
        out.attached_for_ns = from.attached_for_ns;
        out.same_namespace = flag(from.same_namespace);
        out.alive = flag(from.alive);
        return out;
      });
}

int brim_inspect_occupancy(brim_inspector* inspector, brim_occupancy* occupancy) {
  if (inspector == nullptr || occupancy == nullptr) return fail(BRIM_E_INVALID);
  if (!has_size(*occupancy)) return fail(BRIM_E_STRUCT_SIZE);
  return guarded([&] {
    const brim::Occupancy from = inspector->inspector.occupancy();
    occupancy->virgin = from.virgin;
    occupancy->free = from.free;
    occupancy->live = from.live;
    occupancy->idle = from.idle;
    occupancy->tentative = from.tentative;
    return 0;
  });
}

int brim_inspect_keys(brim_inspector* inspector,
                      int (*visit)(void* context, const brim_key_info* key), void* context) {
  return brim_inspect_keys_from(inspector, 0, visit, context);
}

int brim_inspect_keys_from(brim_inspector* inspector, uint64_t slot,
                           int (*visit)(void* context, const brim_key_info* key), void* context) {
  if (inspector == nullptr || visit == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    const auto each_key = [&](const brim::KeyInfo& each) {
      brim_key_info made = key_of(each);
      const brim_decision decision = decision_of(each.decision);
      made.decision = &decision;
      return visit(context, &made) == 0;
    };
    inspector->inspector.for_each_key(each_key, slot);
    return 0;
  });
}

int brim_inspect_overrides(brim_inspector* inspector,
                           int (*visit)(void* context, const brim_override_info* entry),
                           void* context) {
  return visit_all(
      inspector, visit, context, [](const auto& it) { return it.overrides(); },
      [](const brim::OverrideInfo& from) {
        brim_override_info out = {};
        out.network = flag(from.network);
        out.ban = flag(from.ban);
        out.policy = from.policy.c_str();
        out.use = from.use.c_str();
        out.key = known(from.has_key, from.key);
        out.key_size = known_size(from.has_key, from.key);
        out.key_length = from.key_length;
        out.ends_in_ns = from.ends_in_ns;
        return out;
      });
}

int brim_inspect_audit(brim_inspector* inspector,
                       int (*visit)(void* context, const brim_audit_entry* entry), void* context) {
  return visit_all(
      inspector, visit, context, [](const auto& it) { return it.audit(); },
      [](const brim::AuditEntry& from) {
        brim_audit_entry out = {};
        out.pid = from.pid;
        out.uid = from.uid;
        out.sequence = from.sequence;
        out.wall_ns = from.wall_ns;
        out.what = from.what.c_str();
        out.what_size = from.what.size();
        return out;
      });
}

int brim_inspect_hot_samples(brim_inspector* inspector, uint64_t since, uint64_t* position,
                             int (*visit)(void* context, const brim_hot_sample* sample),
                             void* context) {
  if (inspector == nullptr) return fail(BRIM_E_INVALID);
  // Read first: what is written meanwhile is seen twice rather than never.
  const uint64_t next = inspector->inspector.hot_position();
  const int code = visit_all(
      inspector, visit, context, [&](const auto& it) { return it.hot_samples(since); },
      [](const brim::HotSample& from) {
        brim_hot_sample out = {};
        out.policy = from.policy;
        out.admitted = flag(from.admitted);
        out.slot = from.slot;
        out.fingerprint = from.fingerprint;
        out.name = known(from.has_name, from.name);
        out.name_size = known_size(from.has_name, from.name);
        return out;
      });
  if (code == 0 && position != nullptr) *position = next;
  return code;
}

int brim_list_segments(int (*visit)(void* context, const brim_listed_segment* segment),
                       void* context) {
  if (visit == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    for (const brim::ListedSegment& from : brim::list_segments()) {
      const std::string message(from.status.message());
      brim_listed_segment out = {};
      out.struct_size = sizeof(out);
      out.code = from.status.ok() ? 0 : code_of(from.status.code());
      out.message = message.c_str();
      out.name = from.name.c_str();
      out.size_bytes = from.size_bytes;
      out.owner_uid = from.owner_uid;
      out.mode = from.mode;
      out.created_wall_ns = from.created_wall_ns;
      out.attached = from.attached;
      out.attached_elsewhere = from.attached_elsewhere;
      if (visit(context, &out) != 0) break;
    }
    return 0;
  });
}

}  // extern "C"
