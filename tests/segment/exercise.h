// SPDX-License-Identifier: MIT
// Everything one can do with a segment, over bytes that may be hostile: no call may crash, hang or
// leave the mapping. Whether the answers make sense is not asked here.
#ifndef BRIM_TESTS_SEGMENT_EXERCISE_H_
#define BRIM_TESTS_SEGMENT_EXERCISE_H_

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "brim/cluster.h"
#include "brim/inspect.h"
#include "brim/limiter.h"
#include "shm/cells.h"
#include "shm/consumption.h"
#include "shm/overrides.h"
#include "shm/segment.h"
#include "tests/segment/util.h"

namespace brim::segment_test {

// splitmix64: small, seeded, the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t operator()() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // A number near a border, or any.
  uint64_t wild() {
    const uint64_t r = (*this)();
    switch (r % 6) {
      case 0:
        return (uint64_t{1} << (r >> 8) % 64) + (r >> 16) % 3 - 1;
      case 1:
        return (r >> 8) % 5;
      case 2:
        return ~uint64_t{0} - (r >> 8) % 5;
      case 3:
        return (r >> 8) % 65536;
      case 4:
        return (r >> 8) % 1024 * 64;
      default:
        return (*this)();
    }
  }

 private:
  uint64_t state_;
};

// The names an attach may answer with when the bytes are wrong.
inline bool known_error(const absl::Status& status) {
  for (const char* name :
       {"segment_bad_magic", "segment_version_mismatch", "segment_endian_mismatch",
        "segment_unknown_feature", "segment_corrupt", "segment_size_mismatch", "segment_truncated",
        "segment_other_boot", "segment_other_time_namespace"}) {
    if (named(status, name)) return true;
  }
  return false;
}

// False if a decision contradicts itself.
inline bool exercise_policy(const PolicyHandle& policy, int keys) {
  bool sane = true;
  std::vector<std::string> texts;
  for (int i = 0; i < keys; ++i) texts.push_back(cat("key-", i));
  std::vector<std::string_view> views(texts.begin(), texts.end());
  std::vector<Decision> out(views.size());
  for (const std::string_view key : views) {
    const Decision decision = policy.try_acquire(key);
    sane = sane && (decision.verdict != Verdict::kAllowed || decision.admitted) &&
           decision.retry_after_ns >= 0 && decision.reset_after_ns >= 0;
    policy.peek(key, 3);
    policy.refund(key, 1);
    policy.try_acquire(key, 0xffffffff);
    policy.try_acquire(key, Request{2, Priority::kLow});
    policy.try_acquire_up_to(key, 1, 3);
    policy.commit(key, 1, 2);
    const Ticket ticket = policy.reserve(key, 1, 1000000);
    sane = sane && ticket.decision.delay_ns >= 0;
    policy.cancel(key, ticket);
    policy.acquire(key, 100);
    Lease lease = policy.acquire_lease(key, 1000000000);
    policy.renew(lease);
    policy.release(lease);
  }
  const PolicyHandle::Ask asks[] = {{&policy, "key-0", 1}, {&policy, "key-1", 1}};
  if (keys > 1) PolicyHandle::try_acquire_all(asks);
  policy.try_acquire_batch(views, out);
  for (const std::string_view key : views) policy.reset(key);
  policy.policy();
  return sane;
}

// Reads all an Inspector shows.
inline absl::Status exercise_inspector(const Inspector& inspector) {
  const SegmentInfo info = inspector.info();
  inspector.policies();
  inspector.counters();
  inspector.attached();
  inspector.occupancy();
  inspector.overrides();
  for (const HotSample& sample : inspector.hot_samples(0)) {
    if (sample.slot >= info.slots) return absl::InternalError("a sample out of bounds");
  }
  for (const AuditEntry& entry : inspector.audit()) {
    if (entry.what.size() > Limiter::kMostAuditBytes) return absl::InternalError("a long note");
  }
  uint64_t bytes = 0;
  inspector.for_each_key([&](const KeyInfo& key) {
    for (const char c : key.name) bytes += static_cast<unsigned char>(c);
    return key.slot < info.slots && key.name.size() <= info.name_bytes;
  });
  return bytes == ~uint64_t{0} ? absl::InternalError("impossible") : absl::OkStatus();
}

// Every pointer the segment hands out stays inside its mapping.
inline bool inside(const shm::Segment& segment) {
  const auto* const base = reinterpret_cast<const char*>(segment.shared());
  const auto fits = [&](const void* at, uint64_t bytes) {
    const auto* const from = static_cast<const char*>(at);
    const uint64_t size = segment.header().total_size;
    return from >= base && static_cast<uint64_t>(from - base) <= size &&
           bytes <= size - static_cast<uint64_t>(from - base);
  };
  const shm::HeaderFields& header = segment.header();
  const uint64_t slots = header.group_count * shm::kSlotsPerGroup;
  const uint64_t attachments = segment.section(shm::SectionType::kAttachments)->count;
  const shm::NameEntry* const last = segment.name_entry(slots - 1);
  const shm::Section* const overrides = segment.section(shm::SectionType::kOverrides);
  const uint64_t shared = segment.use_cells() == nullptr ? 0 : slots;
  return (shared == 0 || (fits(segment.use_cells(), shared * sizeof(shm::UseCell)) &&
                          fits(segment.near_marks(), shm::near_words(shared) * 8) &&
                          fits(segment.tier_board(), sizeof(shm::TierBoard)))) &&
         fits(segment.slots(), slots * sizeof(shm::AtomicSlot)) &&
         fits(segment.policies(), header.max_policies * sizeof(shm::PolicyRecord)) &&
         fits(segment.attachments(), attachments * sizeof(shm::Attachment)) &&
         fits(segment.counters(), header.stripe_count * shm::stripe_bytes(header.max_policies)) &&
         (last == nullptr || fits(last, sizeof(shm::NameEntry) + header.name_bytes)) &&
         (segment.cells() == nullptr ||
          fits(segment.cells(), slots * header.cells_per_key * sizeof(shm::AtomicCell))) &&
         (overrides == nullptr ||
          fits(segment.overrides(), overrides->count * shm::kOverrideElementSize));
}

// What an agent does.
inline void exercise_view(ClusterView& view) {
  constexpr uint64_t kSecrets[2][2] = {{1, 2}, {3, 4}};
  view.set_secret(kSecrets[0]);
  view.set_status(view.status());
  for (const ClusterPolicy& policy : view.policies()) {
    view.set_share(policy.number, 250000).IgnoreError();
    view.set_hold_back(policy.number, 0, 2);
  }
  for (const bool all : {true, false}) {
    view.for_each_use(all, [&](const KeyUse& given) {
      KeyUse use = given;
      view.raise(use, use.capacity_units, use.as_of_ns);
      view.look(use);
      view.acknowledge(use);
      view.mark(use);
      return true;
    });
  }
  view.set_secret(kSecrets[1]);
}

// Attaches and does everything; the attach's error if it is refused.
inline absl::Status exercise(const std::string& path, bool writing) {
  const absl::StatusOr<Inspector> inspector = Inspector::attach(path);
  if (!inspector.ok()) return inspector.status();
  const auto segment = shm::Segment::attach(path, {.read_only = true});
  if (!segment.ok()) return segment.status();
  if (!inside(**segment)) return absl::InternalError("out_of_bounds: a section leaves the file");
  if (absl::Status status = exercise_inspector(*inspector); !status.ok()) return status;
  const auto reader = Limiter::attach_read_only(path);
  if (!reader.ok()) return reader.status();
  for (const std::string& name : reader->policy_names()) {
    const auto policy = reader->policy(name);
    for (int i = 0; policy.ok() && i < 8; ++i) policy->peek(cat("key-", i), 1);
  }
  if (!writing) return absl::OkStatus();
  const auto limiter = Limiter::attach(path);
  if (!limiter.ok()) return limiter.status();
  limiter->define("q", "100/s").status().IgnoreError();
  for (const std::string& name : limiter->policy_names()) {
    const auto policy = limiter->policy(name);
    if (policy.ok() && !exercise_policy(*policy, name == "p" || name == "q" ? 100 : 5)) {
      return absl::InternalError("insane: a decision contradicts itself");
    }
  }
  limiter->set_override("p", "key-1", "unlimited").IgnoreError();
  limiter->set_network_override("*", "10.0.0.0/8", "q").IgnoreError();
  if (const auto policy = limiter->policy("p"); policy.ok()) {
    policy->try_acquire("key-1");
    policy->try_acquire("10.1.2.3");
  }
  limiter->clear_override("p", "key-1").IgnoreError();
  limiter->set_factor("p", 500000).IgnoreError();
  if (absl::StatusOr<ClusterView> view = ClusterView::attach(path); view.ok()) exercise_view(*view);
  limiter->change("p", "20/h", OnChange::kProportional).IgnoreError();
  return exercise_inspector(*inspector);
}

// A hostile peer: random bytes over HeaderFields, wild values over the words after them and over
// the attachment list, until told to stop.
inline void scribble(char* bytes, const shm::HeaderFields& header, const std::atomic<bool>& stop) {
  Random random(7);
  uint64_t attachments = 0;
  for (const shm::Section& section : header.sections) {
    if (section.type == static_cast<uint32_t>(shm::SectionType::kAttachments)) {
      attachments = section.offset;
    }
  }
  const auto store = [bytes](uint64_t at, uint64_t value) {
    __atomic_store_n(reinterpret_cast<uint64_t*>(bytes + at), value, __ATOMIC_RELAXED);
  };
  while (!stop) {
    const uint64_t r = random();
    if (r % 4 != 0) {
      store(r / 4 % (sizeof(shm::HeaderFields) / 8) * 8, random.wild());
    } else if (r % 8 == 0) {
      store(sizeof(shm::HeaderFields) + r / 8 % 48 * 8, random.wild());
    } else {
      store(attachments + r / 8 % 64 * 8, random.wild());
    }
  }
}

}  // namespace brim::segment_test

#endif  // BRIM_TESTS_SEGMENT_EXERCISE_H_
