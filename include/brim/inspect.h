// SPDX-License-Identifier: MIT
// A read-only view of a live segment, for tools. Maps PROT_READ, never creates, never writes, and
// trusts no byte it reads: each slot is loaded whole and judged by itself while traffic runs.
// An Inspector may be used by one thread at a time.
#ifndef BRIM_INSPECT_H_
#define BRIM_INSPECT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brim/decision.h"
#include "brim/limiter.h"
#include "brim/policy.h"

namespace brim {

struct SegmentInfo {
  std::string name;
  std::string path;
  std::string uuid;
  uint64_t size_bytes = 0;
  uint32_t layout_version = 0;
  uint64_t capacity = 0;       // as asked for
  uint64_t slots = 0;          // as made
  uint32_t probe_limit = 0;    // groups of four slots in a key's window
  uint32_t groups_in_use = 0;  // of those, how many have been needed so far
  uint32_t name_bytes = 0;
  uint32_t max_policies = 0;
  HashKind hash = HashKind::kDefault;
  OnFull on_full = OnFull::kDefault;
  uint32_t mode = 0;
  uint32_t owner_uid = 0;
  uint32_t group_gid = 0;
  uint32_t creator_pid = 0;
  int64_t created_wall_ns = 0;  // since 1970
  bool linked = true;           // the name still leads to this segment
  bool paused = false;          // see Limiter::pause
  // See brim/resize.h. The table was replaced by another one, where attached processes decide now.
  bool superseded = false;
  bool filling = false;     // it takes the place of another one, whose keys are being carried over
  uint64_t generation = 0;  // resizes that led to this table
  // The last snapshot (brim/snapshot.h); generation 0: none was taken yet.
  uint64_t snapshot_generation = 0;
  int64_t snapshot_age_ns = 0;       // since it was taken
  int64_t snapshot_duration_ns = 0;  // that it took
  uint64_t snapshot_rows = 0;
  uint64_t snapshot_failures = 0;  // tries in a row that failed since then
};

// One counter, self-describing.
struct Counter {
  std::string name;
  uint64_t value = 0;
  std::string description;
};

struct PolicyInfo {
  uint16_t number = 0;
  std::string name;
  std::string text;
  Policy policy;
  uint32_t factor_ppm = 1000000;  // see Limiter::set_factor
  std::vector<Counter> counters;
};

struct AttachedInfo {
  uint32_t pid = 0;
  int64_t attached_for_ns = 0;
  bool alive = false;           // known only if same_namespace
  bool same_namespace = false;  // pid numbers mean the same there
};

enum class SlotState : uint8_t { kLive = 1, kIdle = 2, kTentative = 3 };

// One used slot.
struct KeyInfo {
  uint64_t slot = 0;
  uint16_t policy = 0;
  uint32_t part = 0;         // which rate of the policy; kBanPart: its bans
  uint64_t fingerprint = 0;  // 49 bits
  static constexpr uint32_t kBanPart = 7;
  SlotState state = SlotState::kIdle;
  bool has_name = false;     // the stored text verified; else only the fingerprint is known
  std::string_view name;     // any bytes at all; valid during the callback
  uint64_t name_length = 0;  // of the whole key; more than name.size() if it was cut
  Decision decision;         // what a call of cost 0 would answer now
  // Until a call of cost 1 would pass this rate; of bans, until the key is no more barred. 0 for
  // logs and leases: PolicyHandle::peek tells.
  int64_t retry_after_ns = 0;
};

struct Occupancy {
  uint64_t virgin = 0;
  uint64_t free = 0;
  uint64_t live = 0;
  uint64_t idle = 0;
  uint64_t tentative = 0;
};

// One entry of the segment's ring of changes (Limiter::record).
struct AuditEntry {
  uint64_t sequence = 0;  // counts up; a gap is an entry that its writer did not finish
  int64_t wall_ns = 0;    // since 1970
  uint32_t pid = 0;       // as its pid namespace numbers it
  uint32_t uid = 0;
  std::string what;  // any bytes
};

// One override of a key or network. Its text is kept for people; the hash decides.
struct OverrideInfo {
  std::string policy;       // "*": all
  std::string key;          // any bytes; the beginning if key.size() < key_length
  uint64_t key_length = 0;  // of the whole key
  bool has_key = false;     // the stored text verified; else nobody knows it
  bool network = false;     // the key is a network's canonical text, "10.0.0.0/8"
  std::string use;          // a policy's name, "unlimited", "deny" or "banned"
  bool ban = false;         // made by Limiter::ban; not an override that uses a policy "banned"
  int64_t ends_in_ns = kNever;
};

// One decision out of about Inspector::kSampleRate.
struct HotSample {
  uint64_t slot = 0;  // of the key (of the first rate of its policy)
  uint16_t policy = 0;
  bool admitted = false;
  bool has_name = false;     // the stored text verified; else only the fingerprint is known
  std::string name;          // any bytes; maybe cut
  uint64_t fingerprint = 0;  // 49 bits
};

class Inspector {
 public:
  static absl::StatusOr<Inspector> attach(std::string_view name, const Options& options = {});

  SegmentInfo info() const;
  std::vector<PolicyInfo> policies() const;
  std::vector<Counter> counters() const;
  std::vector<AttachedInfo> attached() const;
  Occupancy occupancy() const;
  // Visits every used slot in order, from slot `first` on, until visit() returns false. Constant
  // memory.
  void for_each_key(const std::function<bool(const KeyInfo&)>& visit, uint64_t first = 0) const;
  // What tools and people did, oldest first; empty for a segment of an older version.
  std::vector<AuditEntry> audit() const;
  // The overrides and hand-made bans in force, in no order.
  std::vector<OverrideInfo> overrides() const;

  // Samples of decisions written so far, and those written since a position: at most the ring's
  // size of 4096, without those whose slot has changed hands. For display only: any process may
  // write anything there.
  static constexpr uint32_t kSampleRate = 1024;
  uint64_t hot_position() const;
  std::vector<HotSample> hot_samples(uint64_t since) const;

 private:
  explicit Inspector(std::shared_ptr<internal::Engine> engine) : engine_(std::move(engine)) {}
  std::shared_ptr<internal::Engine> engine_;
};

// A segment found on this machine; status tells why it can not be attached.
struct ListedSegment {
  std::string name;
  absl::Status status;
  uint64_t size_bytes = 0;
  uint32_t owner_uid = 0;
  uint32_t mode = 0;
  int64_t created_wall_ns = 0;  // since 1970; 0: not known
  // Processes attached: alive, and in pid namespaces from which that can not be told. Only if
  // status is ok.
  uint32_t attached = 0;
  uint32_t attached_elsewhere = 0;
};

// The segments in /dev/shm that this user may read. Files that are not segments are left out.
std::vector<ListedSegment> list_segments();

}  // namespace brim

#endif  // BRIM_INSPECT_H_
