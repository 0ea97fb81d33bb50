// SPDX-License-Identifier: MIT
// The read-only scan behind inspect.h.
#include "brim/inspect.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "shm/attachments.h"
#include "shm/segment_file.h"
#include "shm/snapshot_status.h"
#include "src/algo/step.h"
#include "src/base/text.h"
#include "src/engine.h"
#include "src/override_list.h"
#include "src/policy_words.h"
#include "src/slot_name.h"

namespace brim {

using internal::Engine;

namespace {

// The quotas of all rates of all policies, read once for a scan: kMaxParts of each.
std::vector<Quota> read_quotas(const Engine& engine) {
  std::vector<Quota> quotas(size_t{engine.registry.size()} * shm::kMaxParts);
  for (size_t i = 0; i < quotas.size(); ++i) {
    Quota quota{};
    const auto number = static_cast<uint16_t>(i / shm::kMaxParts);
    if (read_quota(engine.registry, number, i % shm::kMaxParts, quota)) quotas[i] = quota;
  }
  return quotas;
}

// What the slot says at `now`; false for a slot nobody uses.
bool describe(const shm::Slot& slot, const std::vector<Quota>& quotas, int64_t now, KeyInfo& key) {
  if (slot.id == shm::kVirginId || slot.id == shm::kFreeId) return false;
  key.policy = shm::id_policy(slot.id);
  key.part = shm::id_part(slot.id);
  key.fingerprint = slot.id & shm::kFingerprintMask;
  key.decision = {};
  key.retry_after_ns = 0;
  if (is_tentative(slot.word)) {
    key.state = SlotState::kTentative;
    return true;
  }
  key.state = SlotState::kIdle;
  const size_t index = size_t{key.policy} * shm::kMaxParts + key.part;
  if (index >= quotas.size() || quotas[index].algorithm == 0) return true;
  const Quota& quota = quotas[index];
  const Instant at = instant(quota, now);
  const Word word = plausible(slot.word, at, quota) ? slot.word : healed_word(at, quota);
  if (debt(word, at, quota) != 0) key.state = SlotState::kLive;
  switch (family(quota)) {
    case Family::kBucket:
    case Family::kWindow:
    case Family::kCounter:
      key.decision = decide(word, {word, true}, at, quota, 0);
      if (key.decision.remaining == 0) {
        key.retry_after_ns = decide(word, {word, false}, at, quota, 1).retry_after_ns;
      }
      break;
    case Family::kCells:
      key.decision.reset_after_ns =
          std::max<int64_t>(static_cast<int64_t>(word - static_cast<uint64_t>(now)), 0);
      break;
    case Family::kBan:
      key.decision.retry_after_ns = ban::barred_for(word, now, quota);
      key.decision.reason = key.decision.retry_after_ns != 0 ? Reason::kBarred : Reason::kNone;
      key.retry_after_ns = key.decision.retry_after_ns;
      break;
    case Family::kNone:
      break;
  }
  return true;
}

struct EventText {
  shm::Event event;
  const char* name;
  const char* description;
};
constexpr EventText kEventTexts[] = {
    {shm::Event::kInserted, "inserted", "keys that were given a slot"},
    {shm::Event::kReclaimed, "reclaimed", "slots taken from an idle key"},
    {shm::Event::kEvictedLive, "evicted_live", "slots taken from a live key: the table is full"},
    {shm::Event::kFull, "full", "calls not decided because the table is full"},
    {shm::Event::kContended, "contended", "calls not decided because a retry bound was reached"},
    {shm::Event::kCasRetry, "cas_retries", "lost races, tried again"},
    {shm::Event::kAdopted, "adopted", "insertions finished for another process"},
    {shm::Event::kExpired, "expired", "slots taken from a dead insertion of another key"},
    {shm::Event::kDropped, "dropped", "insertions given up for another copy of the key"},
    {shm::Event::kHealed, "healed", "words beyond their policy's burst, brought down"},
    {shm::Event::kReachRaised, "reach_raised", "times the probe length in use grew"},
    {shm::Event::kDuplicate, "duplicate", "second or unreachable copies that verify freed"},
};

struct PolicyCounterText {
  shm::PolicyCounter counter;
  const char* name;
  const char* description;
};
constexpr PolicyCounterText kPolicyCounterTexts[] = {
    {shm::PolicyCounter::kAllowed, "allowed", "calls admitted"},
    {shm::PolicyCounter::kDenied, "denied", "calls refused"},
    {shm::PolicyCounter::kUnavailable, "unavailable", "calls that could not be decided"},
    {shm::PolicyCounter::kEvicted, "evicted", "live keys of this policy that made room"},
    {shm::PolicyCounter::kRefunded, "refunded", "permits given back, by refund or reset"},
    {shm::PolicyCounter::kShadowDenied, "shadow_denied", "calls refused but not enforced"},
    {shm::PolicyCounter::kBarred, "barred", "calls refused because the key is banned"},
    {shm::PolicyCounter::kExempt, "exempt", "calls that an override decided"},
    {shm::PolicyCounter::kPaused, "paused", "calls admitted because the segment was paused"},
};

}  // namespace

absl::StatusOr<Inspector> Inspector::attach(std::string_view name, const Options& options) {
  auto engine = internal::attach_engine(name, options, true);
  if (!engine.ok()) return engine.status();
  return Inspector(*std::move(engine));
}

SegmentInfo Inspector::info() const {
  const shm::Segment& segment = *engine_->segment;
  const shm::HeaderFields& header = segment.header();
  SegmentInfo info;
  info.name = segment.name();
  info.path = segment.path();
  info.uuid = hex_bytes(header.uuid, sizeof(header.uuid));
  info.size_bytes = header.total_size;
  info.layout_version = header.layout_version;
  info.capacity = header.capacity;
  info.slots = engine_->table.slot_count();
  info.probe_limit = header.probe_limit;
  info.groups_in_use = static_cast<uint32_t>(engine_->table.groups_in_use());
  info.name_bytes = header.name_bytes;
  info.max_policies = header.max_policies;
  info.hash = static_cast<HashKind>(header.hash_kind);
  info.on_full = static_cast<OnFull>(header.on_full);
  info.creator_pid = header.creator_pid;
  info.created_wall_ns = static_cast<int64_t>(header.created_wall_ns);
  struct stat st {};
  if (fstat(segment.fd(), &st) == 0) {
    info.mode = st.st_mode & 07777;
    info.owner_uid = st.st_uid;
    info.group_gid = st.st_gid;
  }
  info.linked = segment.linked();
  const uint64_t flags = engine_->flags();
  info.paused = (flags & shm::kFlagPaused) != 0;
  info.superseded = (flags & shm::kFlagSuperseded) != 0;
  info.filling = (flags & shm::kFlagFilling) != 0;
  info.generation = header.generation;
  const shm::SnapshotNumbers last = shm::load_snapshot(segment.shared()->snapshot);
  info.snapshot_generation = last.generation;
  if (last.generation != 0) {
    // A hostile writer's words may say anything.
    constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
    const auto now = static_cast<uint64_t>(std::max<int64_t>(engine_->clock.now(), 0));
    info.snapshot_age_ns = static_cast<int64_t>(now - std::min(now, last.taken_ns));
    info.snapshot_duration_ns = static_cast<int64_t>(std::min(last.duration_ns, kMost));
    info.snapshot_rows = last.rows;
  }
  info.snapshot_failures = last.failures;
  return info;
}

std::vector<PolicyInfo> Inspector::policies() const {
  std::vector<PolicyInfo> list;
  for (uint32_t i = 0; i < engine_->registry.size(); ++i) {
    const auto number = static_cast<uint16_t>(i);
    shm::PolicyWords words;
    PolicyInfo info;
    if (!engine_->registry.read(number, words, info.text) || engine_->registry.removed(number)) {
      continue;
    }
    info.number = number;
    info.name = engine_->registry.name(number);
    if (absl::StatusOr<Policy> policy = parse_policy(info.text); policy.ok()) {
      info.policy = *std::move(policy);
    }
    info.factor_ppm = static_cast<uint32_t>(words[kWordFactor]);
    for (const PolicyCounterText& text : kPolicyCounterTexts) {
      info.counters.push_back(
          {text.name, engine_->counters.sum(number, text.counter), text.description});
    }
    list.push_back(std::move(info));
  }
  return list;
}

std::vector<Counter> Inspector::counters() const {
  std::vector<Counter> list;
  for (const EventText& text : kEventTexts) {
    list.push_back({text.name, engine_->counters.sum(text.event), text.description});
  }
  for (uint32_t bin = 0; bin < 9; ++bin) {
    const auto event =
        static_cast<shm::Event>(static_cast<uint32_t>(shm::Event::kProbeLength0) + bin);
    const uint32_t low = bin == 0 ? 0 : 1u << (bin - 1);
    list.push_back(
        {cat("probe_", low), engine_->counters.sum(event),
         cat("insertions ", low, low < 2 ? "" : cat(" to ", 2 * low - 1), " groups from home")});
  }
  return list;
}

std::vector<AttachedInfo> Inspector::attached() const {
  std::vector<AttachedInfo> list;
  const shm::Section* const section = engine_->segment->section(shm::SectionType::kAttachments);
  const auto now = static_cast<uint64_t>(monotonic_now_ns());
  for (const shm::AttachedProcess& process :
       shm::list_attachments(engine_->segment->attachments(), section->count)) {
    const uint64_t age = now > process.attached_ns ? now - process.attached_ns : 0;
    list.push_back({process.pid, static_cast<int64_t>(age), process.alive, process.same_namespace});
  }
  return list;
}

Occupancy Inspector::occupancy() const {
  Occupancy count;
  const std::vector<Quota> quotas = read_quotas(*engine_);
  const int64_t now = engine_->clock.now();
  KeyInfo key;
  for (uint64_t i = 0; i < engine_->table.slot_count(); ++i) {
    const shm::Slot slot = engine_->table.at(i);
    if (!describe(slot, quotas, now, key)) {
      ++(slot.id == shm::kVirginId ? count.virgin : count.free);
    } else {
      ++(key.state == SlotState::kLive   ? count.live
         : key.state == SlotState::kIdle ? count.idle
                                         : count.tentative);
    }
  }
  return count;
}

void Inspector::for_each_key(const std::function<bool(const KeyInfo&)>& visit,
                             uint64_t first) const {
  const std::vector<Quota> quotas = read_quotas(*engine_);
  std::string buffer;
  KeyInfo key;
  for (uint64_t i = first; i < engine_->table.slot_count(); ++i) {
    const shm::Slot slot = engine_->table.at(i);
    if (!describe(slot, quotas, engine_->clock.now(), key)) continue;
    key.slot = i;
    SlotName name;
    key.has_name = read_slot_name(*engine_, i, slot.id, buffer, name);
    key.name_length = name.length;
    key.name = buffer;
    if (!visit(key)) return;
  }
}

std::vector<OverrideInfo> Inspector::overrides() const {
  std::vector<OverrideInfo> list;
  for (ListedOverride& listed : list_overrides(*engine_)) {
    OverrideInfo entry;
    Cidr unused;
    entry.network = listed.key.size() == listed.key_length && is_network(listed.key, unused);
    entry.policy = std::move(listed.policy);
    entry.key = std::move(listed.key);
    entry.key_length = listed.key_length;
    entry.has_key = listed.key_length != 0;
    entry.use = std::move(listed.use);
    entry.ban = listed.ban;
    entry.ends_in_ns = listed.left_ns;
    list.push_back(std::move(entry));
  }
  return list;
}

namespace {

// What list_segments() can tell only of a segment that is mapped.
void count_attached(ListedSegment& segment) {
  const absl::StatusOr<Inspector> inspector = Inspector::attach(segment.name);
  segment.status = inspector.status();
  if (!inspector.ok()) return;
  for (const AttachedInfo& process : inspector->attached()) {
    if (!process.same_namespace) ++segment.attached_elsewhere;
    if (process.alive) ++segment.attached;
  }
}

}  // namespace

std::vector<ListedSegment> list_segments() {
  std::vector<ListedSegment> list;
  DIR* const directory = opendir(shm::kShmDirectory);
  if (directory == nullptr) return list;
  while (const dirent* const entry = readdir(directory)) {
    if (!shm::segment_path(entry->d_name).ok()) continue;
    const std::string path = cat(shm::kShmDirectory, "/", entry->d_name);
    const shm::FileDescriptor file(
        open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    struct stat st {};
    uint64_t magic = 0;
    if (file.get() < 0 || fstat(file.get(), &st) != 0 || !S_ISREG(st.st_mode)) continue;
    if (pread(file.get(), &magic, sizeof(magic), 0) != sizeof(magic) || magic != shm::kMagic) {
      continue;
    }
    shm::Access access;
    access.read_only = true;
    shm::HeaderFields header{};
    const absl::Status status = shm::open_segment_file(path, access, header).status();
    const auto created = static_cast<int64_t>(header.created_wall_ns);
    explicit_bzero(&header, sizeof(header));  // it holds the hash key
    list.push_back({entry->d_name, status, static_cast<uint64_t>(st.st_size), st.st_uid,
                    st.st_mode & 07777u, std::max<int64_t>(created, 0)});
    if (status.ok()) count_attached(list.back());
  }
  closedir(directory);
  std::sort(list.begin(), list.end(),
            [](const ListedSegment& a, const ListedSegment& b) { return a.name < b.name; });
  return list;
}

}  // namespace brim
