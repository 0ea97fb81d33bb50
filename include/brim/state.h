// SPDX-License-Identifier: MIT
// Taking the state of a segment's keys out, and giving it to another segment: what snapshots,
// copies and moves to a larger table are made of.
//
//   auto reader = brim::StateReader::attach("api");
//   reader->for_each_change([&](const brim::KeyState& key) { rows.push_back(copy(key)); }, {});
//   ...
//   // into another segment, or the same one later
//   auto writer = brim::StateWriter::open(limiter, reader->segment(), reader->policies());
//   writer->put(row, elapsed_ns);
//
// A state is in permits and ns: it depends neither on the segment's clock nor on its size. Nothing
// owed is forgiven on the way, and the stricter state wins where a key has one already, so putting
// a state twice is putting it once. Leases are not taken out: their holders are gone.
#ifndef BRIM_STATE_H_
#define BRIM_STATE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brim/limiter.h"

namespace brim {

// How the numbers of a KeyState are meant.
enum class StateKind : uint8_t {
  kBucket = 1,   // used: units of 2^-unit_shift permit owed
  kWindow = 2,   // used: permits in the current window, which ends after until_ns
  kCounter = 3,  // used, before: permits in the current and the previous window
  kLog = 4,      // left_ns: time until each permit expires, latest first
  kBan = 5,      // used: refusals counted; before: how often the key was barred, which is
                 // forgotten after left_ns[0]; barred
};

// A rate of a policy, or its bans, as the states saved under it need it.
struct RateState {
  uint16_t policy = 0;  // number; its name is in PolicyState
  uint32_t part = 0;    // which rate of the policy; KeyInfo::kBanPart: its bans
  StateKind kind = StateKind::kBucket;
  uint32_t limit = 0;
  int64_t period_ns = 0;
  uint32_t unit_shift = 0;
  uint32_t slowest_ppm = 1000000;  // least share of the rate that held: its factor, its warm-up
  uint64_t most_permits = 0;       // bucket: most that a key can owe, rounded up
  friend bool operator==(const RateState&, const RateState&) = default;
};

struct PolicyState {
  uint16_t number = 0;
  std::string name;
  std::string text;
  uint32_t factor_ppm = 1000000;
  std::vector<RateState> rates;
  friend bool operator==(const PolicyState&, const PolicyState&) = default;
};

// What one rate of a policy remembers of one key.
struct KeyState {
  uint64_t slot = 0;  // where it was found
  uint16_t policy = 0;
  uint32_t part = 0;
  uint64_t fingerprint = 0;  // 49 bits, under the segment's hash key
  bool has_key = false;      // the stored text verified
  std::string key;           // any bytes; the whole key if key.size() == key_length
  uint64_t key_length = 0;
  uint64_t place = 0;  // where its window begins, under the segment's hash key; with has_key only
  StateKind kind = StateKind::kBucket;
  uint64_t used = 0;
  uint64_t before = 0;
  int64_t until_ns = 0;
  bool barred = false;
  std::vector<int64_t> left_ns;
  int64_t as_of_ns = 0;  // CLOCK_MONOTONIC of the segment's boot

  bool whole_key() const { return has_key && key.size() == key_length; }
};

// An override. Its hash is good under the same hash key only; its text, if the whole of it was
// kept, everywhere.
struct OverrideState {
  uint64_t hash_low = 0;
  uint32_t hash_high = 0;
  std::string policy;           // "*": any
  std::string use;              // a policy, "unlimited", "deny" or "banned"
  bool ban = false;             // it is a ban made by hand, and no policy called "banned"
  int64_t ends_in_ns = kNever;  // of a ban, from the time it was read
  std::string key;              // any bytes; the whole key if key.size() == key_length
  uint64_t key_length = 0;      // 0: the text is not known

  bool whole_key() const { return key_length != 0 && key.size() == key_length; }
};

// What a segment is, as far as another one can be made from it.
struct SegmentState {
  std::string name;
  std::string uuid;
  std::string lineage;  // uuid of the first table of a line of resized ones; its own if not resized
  std::string boot_id;
  std::string hash_seed;  // secret: whoever knows it can make keys collide; for Options::hash_seed
  uint32_t layout_version = 0;
  uint64_t network_prefixes[4] = {};  // prefix lengths that some network override uses
  Options options;                    // capacity, sizes, hash and so on; no policies
};

// Reads the states of a live segment, read-only. Each key is read whole, at a time of its own: a
// set of states is no cut through all keys. For one thread at a time.
class StateReader {
 public:
  static absl::StatusOr<StateReader> attach(std::string_view name, const Options& options = {});

  SegmentState segment() const;
  std::vector<PolicyState> policies() const;
  std::vector<OverrideState> overrides() const;
  int64_t now_ns() const;
  uint64_t slots() const;  // of the segment: every state's slot is less
  bool linked() const;
  // True once the segment was resized: another table decides, and what is read here grows old. Is
  // the resize done, the name leads there: attach again.
  bool superseded() const;
  // True also for a table that takes another's place and may not have all its keys yet.
  bool moving() const;

  // The states that are new or have changed since the last call (the first time: all), in order of
  // their slots, and the slots of those that are gone: idle, or another key's. Keeps 8 bytes a
  // slot. A change is missed with a chance of 2^-64 a change. Stops when a callback returns false.
  bool for_each_change(const std::function<bool(const KeyState&)>& changed,
                       const std::function<bool(uint64_t slot)>& gone);
  // All states, in order of their slots; remembers nothing. Stops when the callback returns false.
  bool for_each(const std::function<bool(const KeyState&)>& visit) const;
  // The next call of for_each_change gives all again.
  void forget_seen() { seen_.clear(); }

 private:
  explicit StateReader(std::shared_ptr<internal::Engine> engine) : engine_(std::move(engine)) {}
  std::shared_ptr<internal::Engine> engine_;
  std::vector<uint64_t> seen_;  // by slot: 0, or a digest of what was given
};

// What became of a state.
enum class PutResult : uint8_t {
  kMerged = 0,     // the key is now at least as strict as the state
  kIdle = 1,       // all of it has flowed back meanwhile
  kNoPolicy = 2,   // the segment has no policy of that name, or it has no such rate
  kNoKey = 3,      // the key's text was cut or not kept, and the hash keys differ
  kUnfit = 4,      // the policy keeps no such state: leases, unlimited, deny
  kFull = 5,       // no slot was to be had
  kContended = 6,  // a bound on retries was reached
};

// Gives states to a segment, live or not yet published. Safe while traffic runs.
class StateWriter {
 public:
  // `from`: what the states were read from; tells whether its hashes are good here. Policies of
  // the same names take the states.
  // Errors: FailedPrecondition (read_only), Unavailable (lock_failed).
  static absl::StatusOr<StateWriter> open(const Limiter& limiter, const SegmentState& from,
                                          const std::vector<PolicyState>& policies);

  // `elapsed_ns`: since state.as_of_ns. Negative counts as none.
  PutResult put(const KeyState& state, int64_t elapsed_ns) const;
  // Sets the policy's factor if it is another one; only if it is smaller, on demand: in a segment
  // that lives somebody may have lowered it since. A policy that is not here needs none.
  void put_factor(const PolicyState& policy, bool only_smaller) const;
  // Sets the override unless that key or network has one there already: the segment's own is newer.
  // `elapsed_ns`: since it was read; a ban that has ended since is left out.
  // Errors: override_table_full, policy_not_found, override_foreign (another hash key).
  absl::Status put_override(const OverrideState& entry, int64_t elapsed_ns = 0) const;

  // Leaves in the segment what Inspector::info() tells of snapshots: one was taken just now, or
  // (generation 0) failed. A failure amid a resize is left in both tables.
  static void note_snapshot(const Limiter& limiter, uint64_t generation, uint64_t rows,
                            int64_t duration_ns);

 private:
  struct Taker;
  StateWriter() = default;
  PutResult put_in(const internal::Engine& engine, const KeyState& state, int64_t elapsed_ns) const;
  std::shared_ptr<internal::Engine> engine_;
  std::shared_ptr<const std::vector<Taker>> takers_;  // by saved policy number * 8 + part
  bool same_hash_ = false;
  uint64_t network_prefixes_[4] = {};
};

}  // namespace brim

#endif  // BRIM_STATE_H_
