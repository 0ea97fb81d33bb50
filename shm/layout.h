// SPDX-License-Identifier: MIT
// The bytes of a segment. This comment is the specification; nothing repeats it.
//
// A segment is one file, mapped whole by every process that attaches it:
//
//     header | policy records | attachments | counter stripes | slots | names | cells |
//     overrides | their texts | ring of changes | sampled decisions | use of keys in a cluster
//
// The header's section directory says where each part is, so later versions add sections (window
// logs, leases, overrides, counts for other nodes) without moving any. A segment that
// lacks one of the optional sections is attached all the same, and a reader passes over those that
// it does not know. All-zero memory is a valid empty table: a virgin slot is zero, an undefined
// policy is zero, a counter is zero.
//
// Slot, 16 bytes, aligned, four to a 64-byte line (a group):
//     id    {policy number 12 | part 3 | fingerprint 49}; 0 = virgin (never used), 1 = free (used
//           once). A policy with several rates has a slot for each: its part.
//     word  {tentative 1 | value 63}; see src/base/word.h
// A slot changes only by a 16-byte compare-and-swap of both halves, so an update can not land on
// a slot that has changed hands. The key's window is a fixed sequence of groups: home,
// home + stride, home + 2 stride ... (mod a prime group count), of which the first `reach` are in
// use. reach only grows, and a process raises it before it claims a slot beyond it.
//
// Readers load a slot with one 16-byte load and trust nothing else. Writers: shm/table.h.
//
// What a crash leaves. Between any two compare-and-swaps the table is in a legal state. A killed
// process leaves at most: a permit charged and never answered; a tentative slot, which the key's
// next caller adopts and any other caller may take after 1 s; a counter that misses one event;
// half a name, text of an override or note of a change, which its check value betrays; an
// attachment entry whose pid is dead.
//
// Invariants
//   I1  at most one verified copy of an id in its window (live or idle)
//   I2  a virgin slot ends a probe: no key lies behind one in its window
//   I3  a key's word never decreases in a slot, but by refund, reset and healing
//   I4  a word whose state is idle equals an absent key
//   I5  reach never decreases; no claim lies beyond it
//   I6  HeaderFields never change after publication
//
// Edge register
//   E1 publication  writer: creator, linkat(2) after the last store | readers: open(2), mmap(2)
//                   carries: the whole segment | killed before: no name exists, nothing to clean
//   E2 slot         writer: cas128 (seq_cst) | readers: load128 (acquire), cas128
//                   carries: nothing but the slot itself | killed before, after: legal states
//   E3 policy       writer: version.store (release) in registry.cc | readers: version.load
//                   (acquire) | carries: copy[version & 1] | killed before: the old copy stays
//   E4 reach        writer: compare_exchange (seq_cst) | readers: load (seq_cst) after a claim
//                   carries: nothing | killed after: the window is longer than needed
//   E6 flags        writer: fetch_or, fetch_and (seq_cst) | readers: load (relaxed) before a call,
//                   load (seq_cst) after its compare-and-swap [E2]: either whoever sets
//                   `superseded` and then reads the slots finds what the call charged, or the call
//                   sees the flag carries: successor, written before | killed before, after: see
//                   shm/succession.h
//   E5 attachment   writer: compare_exchange (acq_rel) on owner | readers: load (acquire)
//                   carries: the entry's fields, for display only
//   E6 note         writer: sequence.store (release) in shm/audit.h, one at a time (flock) |
//                   readers: sequence.load (acquire) before, the check value after | carries:
//                   the entry, for display only | killed before: an entry that readers leave out
//                   and the next writer writes; after: the new one
//   E7 removal      writer: live[0].store (release) in registry.cc | readers: load (acquire)
//                   carries: nothing: the record stays whole | killed before, after: legal states
//   E8 near mark    writer: fetch_or in Consumption::mark, after the count | taker: exchange in
//                   take_marks, before the look (all seq_cst) | carries: the count before it |
//                   killed before: the next use marks | taker killed after: the next agent looks
//                   at every cell
//   E9 secret       writer: secret_version.store (release, the last one seq_cst) | readers: load
//                   (acquire) before, the same after; who named a key looks once more (seq_cst)
//                   carries: secret[2] | killed between: no secret, until written anew
#ifndef BRIM_SHM_LAYOUT_H_
#define BRIM_SHM_LAYOUT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace brim::shm {

inline constexpr uint64_t kMagic = 0x31474553'4d495242;  // "BRIMSEG1" in memory order
inline constexpr uint32_t kLayoutVersion = 2;
inline constexpr uint32_t kEndianTag = 0x01020304;

inline constexpr uint32_t kSlotsPerGroup = 4;
inline constexpr uint64_t kVirginId = 0;
inline constexpr uint64_t kFreeId = 1;
inline constexpr int kFingerprintBits = 49;
inline constexpr int kPolicyShift = 52;
inline constexpr uint64_t kFingerprintMask = (uint64_t{1} << kFingerprintBits) - 1;
inline constexpr uint32_t kMaxParts = 8;  // of a policy: rates, and the last for its bans
inline constexpr uint32_t kMaxPolicies = 4096;
inline constexpr uint32_t kMaxProbeLimit = 255;
inline constexpr uint32_t kMaxAttachments = 65536;
inline constexpr uint32_t kMaxOverrides = 1 << 20;
inline constexpr uint64_t kMaxSlots = uint64_t{1} << 34;

constexpr uint64_t make_id(uint16_t policy, uint64_t fingerprint, uint32_t part = 0) noexcept {
  return uint64_t{policy} << kPolicyShift | uint64_t{part} << kFingerprintBits | fingerprint;
}
constexpr uint16_t id_policy(uint64_t id) noexcept {
  return static_cast<uint16_t>(id >> kPolicyShift);
}
constexpr uint32_t id_part(uint64_t id) noexcept {
  return static_cast<uint32_t>(id >> kFingerprintBits) & (kMaxParts - 1);
}

enum class SectionType : uint32_t {
  kNone = 0,
  kPolicies = 1,     // PolicyRecord[max_policies]
  kAttachments = 2,  // Attachment[n]
  kCounters = 3,     // counter stripes; element = one stripe
  kSlots = 4,        // Slot[4 * groups]
  kNames = 5,        // name entries, one a slot; element = name_stride bytes
  kCells = 6,        // window logs and leases, one element a slot: cells of 8 bytes (shm/cells.h)
  kOverrides = 8,    // one element: key -> policy (shm/overrides.h)
  kAudit = 9,        // AuditCell[n]: ring of changes made by tools (shm/audit.h)
  kHotKeys = 10,     // ring of sampled decisions (shm/hot_keys.h)
  kOverrideTexts = 11,  // one element for each of kOverrides: the key's text, for people
  // Of segments that share with other nodes (shm/consumption.h); all three or none:
  kConsumption = 7,  // UseCell, one a slot: what its key has used
  kNear = 12,        // words of 64 bits: the slots whose cells matter now
  kTier = 13,        // TierBoard
};

struct Section {
  uint32_t type = 0;          // SectionType
  uint32_t element_size = 0;  // bytes
  uint64_t offset = 0;        // from the segment's start, 64-byte aligned
  uint64_t count = 0;         // elements
};
static_assert(sizeof(Section) == 24);

inline constexpr size_t kMaxSections = 16;

// Written before publication and never again (I6). An attacher works on a private copy only.
struct HeaderFields {
  uint64_t magic;
  uint32_t layout_version;
  uint32_t endian_tag;
  uint64_t features_required;  // an attacher that does not know a set bit must refuse
  uint64_t features_optional;
  uint64_t total_size;  // bytes, of the whole file
  uint32_t header_size;
  uint32_t section_count;
  uint64_t created_wall_ns;
  uint64_t created_monotonic_ns;
  uint8_t boot_id[16];
  uint8_t uuid[16];         // this instance
  uint64_t time_namespace;  // inode; CLOCK_MONOTONIC differs between time namespaces
  uint32_t creator_pid;     // for display
  uint32_t creator_uid;
  uint32_t mode;
  uint32_t hash_kind;
  uint32_t on_full;
  uint32_t probe_limit;  // groups in a key's window
  uint64_t capacity;     // as asked for; the slot section holds the true count
  uint64_t group_count;  // prime
  uint32_t max_policies;
  uint32_t name_bytes;     // text bytes kept a slot; 0: no names section
  uint32_t stripe_count;   // counter stripes: [0, n-1) one a CPU, the last for everyone else
  uint32_t cells_per_key;  // 8-byte cells a slot has for window logs and leases
  uint8_t hash_key[16];
  uint8_t hash_secret[192];  // for XXH3
  Section sections[kMaxSections];
  uint64_t pid_namespace;  // inode, of the creator: holders of leases there can be proven dead
  // Resizes: the uuid of the first of a line of tables, all zero in that one; how many came before.
  uint8_t lineage[16];
  uint64_t generation;
  uint8_t reserved1[240];
};
static_assert(std::is_trivially_copyable_v<HeaderFields>);
static_assert(offsetof(HeaderFields, total_size) == 32);
static_assert(offsetof(HeaderFields, boot_id) == 64);
static_assert(offsetof(HeaderFields, capacity) == 128);
static_assert(offsetof(HeaderFields, hash_key) == 160);
static_assert(offsetof(HeaderFields, sections) == 368);
static_assert(sizeof(HeaderFields) == 1024);

// The last snapshot of the segment, as its writer told; for people and tools.
struct SnapshotStatus {
  std::atomic<uint64_t> generation;  // 0: there was none
  std::atomic<uint64_t> taken_ns;    // CLOCK_MONOTONIC
  std::atomic<uint64_t> duration_ns;
  std::atomic<uint64_t> rows;
  std::atomic<uint64_t> failures;  // in a row since then
};

struct SegmentHeader {
  HeaderFields fixed;
  // Mutable words, a line each; all valid as zero.
  alignas(64) std::atomic<uint64_t> reach;  // groups of a window in use, less one
  alignas(64) std::atomic<uint64_t> next_attach_id;
  alignas(64) std::atomic<uint64_t> flags;  // kFlagPaused and the like; zero nearly always [E6]
  alignas(64) SnapshotStatus snapshot;
  alignas(64) std::atomic<uint64_t> successor[2];  // uuid; before kFlagSuperseded is set [E6]
  alignas(64) uint8_t reserved[64];
};
static_assert(offsetof(SegmentHeader, reach) == 1024);
static_assert(sizeof(SegmentHeader) == 1408);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

inline constexpr uint64_t kFlagPaused = 1;      // every call is admitted
inline constexpr uint64_t kFlagSuperseded = 2;  // calls are decided in the successor; never cleared
inline constexpr uint64_t kFlagFilling = 4;     // a successor that has not got all keys yet

inline constexpr uint32_t kHashSipHash = 1;
inline constexpr uint32_t kHashXxh3 = 2;
inline constexpr uint32_t kOnFullEvict = 1;
inline constexpr uint32_t kOnFullAllow = 2;
inline constexpr uint32_t kOnFullDeny = 3;

// A policy's compiled words. Their meaning is layer 3's (src/policy_words.h); here they are a
// message of fixed size that is replaced whole.
inline constexpr size_t kPartWords = 24;
inline constexpr size_t kPolicyWords = (kMaxParts + 1) * kPartWords;  // parts, then the options
inline constexpr size_t kPolicyTextBytes = 512;
inline constexpr size_t kPolicyNameBytes = 48;

struct PolicyCopy {
  std::atomic<uint64_t> words[kPolicyWords];
  std::atomic<uint64_t> text[kPolicyTextBytes / 8];  // canonical text, zero-terminated
};
static_assert(sizeof(PolicyCopy) == 2240);

// version 0: never defined. A writer fills copy[(version + 1) & 1] and then stores version + 1, so
// a reader that finds the same version before and after read one whole copy, and a writer killed
// in the middle has changed nothing. Writers exclude each other by flock(2) on the segment.
struct PolicyRecord {
  alignas(64) std::atomic<uint64_t> version;
  uint32_t reserved0[2];
  char name[kPolicyNameBytes];  // zero-terminated; fixed once version is 1
  // Words that change alone. [0]: not 0 if removed [E7]; [1 + part]: permits that a key of a policy
  // `scope cluster` may use before others must hear of it, 0 if no agent has said.
  std::atomic<uint64_t> live[8];
  PolicyCopy copy[2];
  uint64_t reserved1[16];
};
static_assert(offsetof(PolicyRecord, name) == 16);
static_assert(offsetof(PolicyRecord, live) == 64);
static_assert(offsetof(PolicyRecord, copy) == 128);
static_assert(sizeof(PolicyRecord) == 4736);

// Who is attached, for people and tools; correctness never depends on it.
struct Attachment {
  alignas(64) std::atomic<uint64_t> owner;  // {start time's low half 32 | pid 32}; 0: no entry
  uint64_t reserved0;
  std::atomic<uint64_t> pid_namespace;  // inode
  std::atomic<uint64_t> attached_ns;    // CLOCK_MONOTONIC
  std::atomic<uint64_t> heartbeat_ns;   // reserved
  uint64_t reserved[3];
};
static_assert(sizeof(Attachment) == 64);

// Counters of one policy in one stripe: two lines; the first holds what a decision counts.
enum class PolicyCounter : uint32_t {
  kAllowed = 0,
  kDenied = 1,
  kUnavailable = 2,
  kEvicted = 3,  // live keys of this policy that had to make room
  kRefunded = 4,
  kShadowDenied = 5,  // refused by the policy, admitted in shadow
  kBarred = 6,        // refused because the key is banned (counted as denied too)
  kExempt = 7,        // admitted or refused by an override, nothing counted
  kPaused = 8,        // admitted because the segment is paused
};
inline constexpr size_t kPolicyCounters = 16;  // the rest is reserved

// Counters of the segment in one stripe: eight lines.
enum class Event : uint32_t {
  kCasRetry = 0,     // a lost race, retried
  kInserted = 1,     // a key was given a slot
  kReclaimed = 2,    // ... that an idle key held
  kEvictedLive = 3,  // ... that a live key held
  kAdopted = 4,      // a tentative of the caller's own key was found and finished
  kExpired = 5,      // a tentative of another key, older than 1 s, was taken
  kDropped = 6,      // a tentative lost to another copy of its key
  kHealed = 7,       // a word beyond its policy's reach was brought down
  kFull = 8,         // no slot, and on_full forbids eviction
  kContended = 9,    // the bound on retries was reached
  kReachRaised = 10,
  kDuplicate = 11,     // verify freed a second copy, or one that no caller could reach
  kProbeLength0 = 16,  // 16 counters: groups walked to the slot of an insertion, by log2
};
inline constexpr size_t kEvents = 64;

constexpr size_t stripe_bytes(uint32_t max_policies) noexcept {
  return (kEvents + size_t{max_policies} * kPolicyCounters) * sizeof(uint64_t);
}

// A slot's name: written word by word by whoever verifies the slot, never trusted. It is shown
// only if `check` is the keyed hash of {id, length, place, text}; a torn, stale or hostile name is
// therefore never taken for the key's. A key longer than the room keeps 8 bytes of text less, and
// in their place the half of its hash that picks its window: it can be found from its slot.
struct NameEntry {
  uint64_t check;
  uint64_t length;  // of the whole key; the stored text may be cut
  // followed by name_bytes: the text, or its beginning and the place
};
static_assert(sizeof(NameEntry) == 16);

// A note of what somebody did, for people. Shown only if `check` is the keyed hash of the rest. The
// cell of sequence n is n modulo the ring's size.
inline constexpr size_t kAuditTextBytes = 208;
inline constexpr uint32_t kAuditCells = 256;
inline constexpr uint32_t kMaxAuditCells = 65536;

struct AuditCell {
  alignas(64) std::atomic<uint64_t> sequence;  // 0: never written, or a writer is at it
  std::atomic<uint64_t> check;
  std::atomic<uint64_t> wall_ns;  // since 1970
  std::atomic<uint64_t> who;      // {uid 32 | pid 32}
  std::atomic<uint64_t> length;
  std::atomic<uint64_t> text[kAuditTextBytes / 8];
  uint64_t reserved;
};
static_assert(sizeof(AuditCell) == 256);

// The text of the override at the same place of kOverrides, written and trusted as names are. The
// check covers the entry's hash: another entry's text is never taken for its.
inline constexpr uint32_t kOverrideTextBytes = 112;

struct OverrideText {
  NameEntry entry;
  uint64_t text[kOverrideTextBytes / 8];
};
static_assert(sizeof(OverrideText) == 128);

// One decision out of about a thousand: whose it was and what became of it. For display only: a
// reader looks at the slot whether it is still that key's.
struct HotCell {
  std::atomic<uint64_t> id;    // as in the slot
  std::atomic<uint64_t> what;  // {position's low bits 29 | admitted 1 | slot's number 34}
};
static_assert(sizeof(HotCell) == 16);

struct HotHeader {
  alignas(64) std::atomic<uint64_t> position;  // samples ever written
  uint64_t reserved[7];
};
static_assert(sizeof(HotHeader) == 64);

inline constexpr uint32_t kHotCells = 4096;
inline constexpr uint32_t kMaxHotCells = 1 << 20;
inline constexpr uint64_t kHotHeaderElements = sizeof(HotHeader) / sizeof(HotCell);

}  // namespace brim::shm

#endif  // BRIM_SHM_LAYOUT_H_
