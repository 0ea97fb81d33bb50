// SPDX-License-Identifier: MIT
// The rate limiter: one named shared-memory segment that every worker process attaches.
//
//   auto limiter = brim::Limiter::open("api", {.policies = {{"per_ip", "100/m burst 20"}}});
//   auto per_ip  = limiter->policy("per_ip");
//   if (!per_ip->try_acquire(client_address)) return too_many_requests();
//
// Threads, processes, fork: every call on a Limiter or PolicyHandle is safe from any thread of
// any attached process, and from a child that inherited it through fork(). try_acquire and its
// kin never block, allocate, throw, make a system call or take a lock, whatever other processes
// do or die of; they may be called from a signal handler. Set-up calls (open, create, attach,
// policy, define) may block briefly and report errors as absl::Status whose message begins with
// a stable name, "segment_not_found: ...".
#ifndef BRIM_LIMITER_H_
#define BRIM_LIMITER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brim/decision.h"
#include "brim/policy.h"

namespace brim {

enum class HashKind : uint8_t {
  kDefault = 0,  // SipHash-1-3 when creating, whatever is stored when attaching
  kSipHash = 1,  // keyed: chosen keys can not be made to collide
  kXxh3 = 2,     // faster; for keys that no adversary chooses
};

// What happens to a new key whose whole window is full of live keys.
enum class OnFull : uint8_t {
  kDefault = 0,     // kEvictLeast when creating, whatever is stored when attaching
  kEvictLeast = 1,  // the key with the least debt, in requests of its own policy, makes room
  kAllow = 2,       // verdict unavailable, admitted
  kDeny = 3,        // verdict unavailable, not admitted
};

enum class ClockKind : uint8_t {
  kAuto = 0,       // the CPU's time-stamp counter where the kernel trusts it, else monotonic
  kMonotonic = 1,  // clock_gettime(CLOCK_MONOTONIC)
  kManual = 2,     // *manual_clock_ns; for tests and simulations
};

struct NamedPolicy {
  std::string name;
  std::string text;
};

class Limiter;

struct Options {
  // Behaviour. Zero or default means: the default when creating, what is stored when attaching.
  uint64_t capacity = 0;       // slots for keys; default 65536; 16 bytes each
  uint32_t name_bytes = 0;     // bytes of key text kept for tools; kNoNames for none; default 48
  uint32_t max_policies = 0;   // 1 .. 4096; default 64
  uint32_t cells_per_key = 0;  // for sliding-log (its limit) and concurrency (twice its limit), at
                               // most 256; 8 bytes each; default: what `policies` need
  uint32_t overrides = 0;      // keys and networks with a policy of their own; default 1024
  bool cluster = false;  // room for policies `scope cluster`: 32 bytes more a slot; given anyway if
                         // one of `policies` is such
  HashKind hash = HashKind::kDefault;
  OnFull on_full = OnFull::kDefault;
  std::vector<NamedPolicy> policies = {};  // defined if missing; another text is config_mismatch
  bool accept_stored = false;  // on a mismatch attach with the stored values instead of failing
  ClockKind clock = ClockKind::kAuto;
  const std::atomic<int64_t>* manual_clock_ns = nullptr;  // REQUIRED with ClockKind::kManual

  // The hashes of another segment (brim/state.h), so that states that lack the whole key can be
  // taken over; decides `hash` too. Empty: a new random seed.
  std::string hash_seed = {};
  // Called with a new segment before anyone can attach it, to fill it; an error abandons it. When
  // several processes create at once each fills its own, and one of them gets the name.
  std::function<absl::Status(const Limiter&)> prepare = {};

  // Access.
  uint32_t mode = 0600;    // exactly this, whatever the umask; 0600, 0640 or 0660
  std::string group = {};  // group that owns a 0660 segment, and that attachers trust
  int64_t owner_uid = -1;  // trust a segment of this user besides one's own and root's
  bool replace = false;    // create() only: take the name over from a damaged or unwanted segment

  // Performance.
  uint32_t probe_limit = 0;  // groups of four slots in a key's window, 1 .. 255; default 48
  bool huge_pages = false;   // ask for transparent huge pages

  static constexpr uint32_t kNoNames = 0xffffffff;
};

namespace internal {
class Engine;
struct EngineOf;
}  // namespace internal

// What a call asks for.
struct Request {
  uint32_t cost = 1;                      // at most kMaxCost; 0 only looks
  Priority priority = Priority::kNormal;  // counts only if the policy has classes
};

// Answer of try_acquire_up_to.
struct Granted {
  Decision decision;
  uint32_t cost = 0;  // permits taken; 0 if refused
};

// A booking made by reserve(): start after decision.delay_ns.
struct Ticket {
  Decision decision;
  uint64_t end = 0;  // the policy's clock at which the booking is paid
  uint32_t cost = 0;
  explicit operator bool() const noexcept { return decision.admitted; }
};

// One of at most `limit` leases of a key. Not tied to a thread or process: whoever knows it may
// renew or release it. Take it for lost 1 ms (clock skew) before expires_ns: another holder may
// have it from then on, and a holder that overruns overlaps with the next. The fence grows with
// every lease of one place; with a limit of 1 that is every lease of the key, so a resource that
// remembers the largest fence it saw can turn a late holder away.
struct Lease {
  Decision decision;
  int64_t expires_ns = 0;  // CLOCK_MONOTONIC
  uint64_t fence = 0;
  uint64_t holder = 0;
  uint64_t id = 0;            // of the slot
  uint64_t slot = 0;          // its position
  uint32_t place = kNoPlace;  // kNoPlace: admitted without being counted (exempt, shadow)
  explicit operator bool() const noexcept { return decision.admitted; }
  static constexpr uint32_t kNoPlace = 0xffffffff;
};

// A policy of one segment, looked up once. Copyable; keeps the segment mapped.
class PolicyHandle {
 public:
  PolicyHandle() = default;

  // Takes `cost` permits for `key`, or none: of every rate of the policy.
  // Units: durations are ns, rounded up.   Time: one clock read; a step back counts as none.
  // Safe: any thread, any attached process, after fork(), in a signal handler.
  // cost 0 only looks; a cost that can never pass is denied with retry_after_ns == kNever.
  // Several rates: never more than each admits; while one call gives back what it took before
  // another rate refused it (microseconds), others may be refused for it.
  // Errors: none; see Verdict::kUnavailable.   Source: ITU-T I.371 (GCRA, virtual scheduling).
  Decision try_acquire(std::string_view key, uint32_t cost = 1) const noexcept;
  Decision try_acquire(std::string_view key, const Request& request) const noexcept;

  // The same with the caller's time: CLOCK_MONOTONIC ns, at most 1 ms ahead of the clock. Time
  // behind the clock is safe and only stricter. Sharing one reading among calls saves its cost.
  Decision try_acquire_at(int64_t now_ns, std::string_view key, uint32_t cost = 1) const noexcept;

  // Takes as many permits as there are, at least `min` and at most `max`, or none.
  Granted try_acquire_up_to(std::string_view key, uint32_t min, uint32_t max) const noexcept;

  // Decides keys[i] into out[i], one permit each, with the cache misses of the keys overlapped.
  // As many as both spans hold. Each key is decided by itself.
  void try_acquire_batch(std::span<const std::string_view> keys,
                         std::span<Decision> out) const noexcept;

  // All of `asks` or none of them, at one instant, whatever their policies and keys (of one
  // segment; at most kMaxAsks). Decision::part says which one the answer is about.
  struct Ask {
    const PolicyHandle* policy = nullptr;
    std::string_view key = {};
    uint32_t cost = 1;
  };
  static constexpr size_t kMaxAsks = 8;
  static Decision try_acquire_all(std::span<const Ask> asks) noexcept;

  // What try_acquire(key, cost) would answer now. Writes nothing; works read-only.
  Decision peek(std::string_view key, uint32_t cost = 0) const noexcept;

  // Books `cost` permits for a start within max_delay_ns from now, first come first served, and
  // tells in decision.delay_ns when. Buckets and queues of one rate only (Reason::kUnsupported);
  // never further ahead than the policy's `ahead`.
  Ticket reserve(std::string_view key, uint32_t cost, int64_t max_delay_ns) const noexcept;
  // Gives a booking back: its permits return to the end of the line. False if nothing was left.
  bool cancel(std::string_view key, const Ticket& ticket) const noexcept;

  // Waits for the permits, at most timeout_ns: where reserve() works it books its place, sleeps
  // once and returns; before that it sleeps as long as a ban lasts, or as the place is further
  // ahead than the policy books. A wait that would be longer is refused at once. Elsewhere it
  // sleeps until the time the policy names and tries again. timeout 0: one attempt. Blocks; not
  // for signal handlers or event loops.
  Decision acquire(std::string_view key, int64_t timeout_ns, uint32_t cost = 1) const noexcept;

  // After try_acquire(key, held): settles what the work did cost. Less: the rest is given back;
  // more: charged without asking, so that later calls pay (at most what the word holds: a
  // bucket's burst and `ahead`, a log's limit).
  // False if that could not be done in full.
  bool commit(std::string_view key, uint32_t held, uint32_t actual) const noexcept;

  // Gives back up to `cost` permits; what has flowed back already is void. Returns false if the
  // key had no debt (nothing to give back), the segment is read-only, or brim could not do it
  // (counted as unavailable).
  bool refund(std::string_view key, uint32_t cost = 1) const noexcept;

  // Forgets the key's debt and the bans that this policy made. Returns false if there were none.
  bool reset(std::string_view key) const noexcept;

  // Policies `concurrency` only (else Reason::kUnsupported). A lease ends by release, when its
  // time is over (more than 2 ms, at most the policy's, the default), or when its holder is proven
  // dead: a process of the segment's pid namespace that does not exist any more. A refused call may
  // make system calls to find that out.
  Lease acquire_lease(std::string_view key, int64_t ttl_ns = 0) const noexcept;
  // Prolongs it from now on. False: it is lost, another may have it.
  bool renew(Lease& lease, int64_t ttl_ns = 0) const noexcept;
  // False if it had ended before. May be called again.
  bool release(const Lease& lease) const noexcept;

  const std::string& name() const noexcept { return name_; }
  uint16_t number() const noexcept { return number_; }
  // The policy as stored in the segment now.
  Policy policy() const;

 private:
  friend class Limiter;
  PolicyHandle(std::shared_ptr<internal::Engine> engine, uint16_t number, std::string name)
      : engine_(std::move(engine)), number_(number), name_(std::move(name)) {}
  std::shared_ptr<internal::Engine> engine_;
  uint16_t number_ = 0;
  std::string name_;
};

// What a change of a policy does to the keys in use.
enum class OnChange : uint8_t {
  kKeep = 0,          // every key's debt stays what it is, in permits
  kReset = 1,         // all keys are as if never seen (not for logs and leases: reset() each key)
  kProportional = 2,  // each key's debt stays the same share of the burst or limit; what a key
                      // is charged while the keys are rewritten may be scaled with it
};

// One attached segment. Copyable; opening a name twice in a process shares one mapping.
class Limiter {
 public:
  Limiter() = default;

  // Attaches to segment `name`, creating it first if there is none. A name is one component of
  // [A-Za-z0-9._-]{1,200} without leading dot (in /dev/shm, a leading '/' is accepted), or an
  // absolute path with more than one component (a file, best on tmpfs, shared by containers).
  static absl::StatusOr<Limiter> open(std::string_view name, const Options& options = {});
  // Creates; AlreadyExists (segment_exists) if the name is taken.
  static absl::StatusOr<Limiter> create(std::string_view name, const Options& options = {});
  // Attaches; NotFound (segment_not_found) if there is none.
  static absl::StatusOr<Limiter> attach(std::string_view name, const Options& options = {});
  // Attaches with PROT_READ only: peek works, try_acquire answers Reason::kReadOnly.
  static absl::StatusOr<Limiter> attach_read_only(std::string_view name,
                                                  const Options& options = {});
  // Removes the name. Attached processes keep their mapping and go on among themselves.
  static absl::Status unlink(std::string_view name);

  // Looks a policy up. NotFound (policy_not_found) lists what exists.
  absl::StatusOr<PolicyHandle> policy(std::string_view name) const;
  // Adds a policy, or returns the existing one if its text means the same.
  // AlreadyExists (policy_mismatch) if the name is taken by another text.
  absl::StatusOr<PolicyHandle> define(std::string_view name, std::string_view text) const;

  // Names of the policies that exist.
  std::vector<std::string> policy_names() const;

  // Live change, for all attached processes at once; a writer killed in the middle leaves the old
  // policy or the new one. FailedPrecondition (policy_change_unfit) says what can not be kept.
  // kProportional changes the policy at once and then rewrites the keys one by one.
  absl::Status change(std::string_view name, std::string_view text,
                      OnChange on_change = OnChange::kKeep) const;
  // Scales all rates of a policy: 1000000 is the policy as written, 0 stops it. For operators and
  // controllers; kept over change(). Buckets refill that much slower; windows, logs and leases
  // have that much smaller a limit (at least 1).
  absl::Status set_factor(std::string_view policy, uint32_t parts_per_million) const;

  // `key` of `policy` (of all policies if that is "*") follows policy `use`, or "unlimited" (not
  // counted) or "deny". The same for the addresses of a network, "10.0.0.0/8"; the longest one
  // wins, and a key's own override over all. ResourceExhausted (override_table_full).
  absl::Status set_override(std::string_view policy, std::string_view key,
                            std::string_view use) const;
  absl::Status set_network_override(std::string_view policy, std::string_view network,
                                    std::string_view use) const;
  // NotFound (override_not_found) if there is none.
  absl::Status clear_override(std::string_view policy, std::string_view key) const;
  absl::Status clear_network_override(std::string_view policy, std::string_view network) const;

  // Bars `key` of `policy` (of all policies if that is "*") for duration_ns, or with kNever until
  // unban(): an override that ends by itself and counts and answers as a ban that the policy made
  // (Reason::kBarred, retry_after_ns is the time left). It takes the place of an override that the
  // key has there; once it has ended the key is as if it had none.
  // Rounded up to 2^20 ns (1 ms). Processes of a version before bans take it for no override.
  // Errors: InvalidArgument (invalid_duration), policy_not_found, override_table_full.
  absl::Status ban(std::string_view policy, std::string_view key, int64_t duration_ns) const;
  absl::Status ban_network(std::string_view policy, std::string_view network,
                           int64_t duration_ns) const;
  // Ends a ban, whether ban() or the policy's own `ban` made it; what the key owes stays. NotFound
  // (ban_not_found) if there was neither. Another override of the key is left alone.
  absl::Status unban(std::string_view policy, std::string_view key) const;
  absl::Status unban_network(std::string_view policy, std::string_view network) const;

  // Takes the policy out: policy() and policy_names() know it no more. Handles that exist, here and
  // in other processes, go on deciding under its last text. define() of the name brings it back
  // with all keys as if never seen (keys of logs and leases keep what they owe). FailedPrecondition
  // (policy_in_use) if an override names it.
  absl::Status remove_policy(std::string_view name) const;
  // All keys of the policy are as if never seen; its text stays as it is at that moment.
  // FailedPrecondition (policy_change_unfit) for logs and leases: reset() each key.
  absl::Status reset_policy(std::string_view name) const;

  // Notes in the segment's ring of changes that this process did `what` now, for people: any bytes,
  // cut to kMostAuditBytes. The oldest of 256 entries makes room. See Inspector::audit.
  // Errors: read_only, lock_failed, FailedPrecondition (audit_unsupported): a segment of an older
  // version has no ring.
  absl::Status record(std::string_view what) const;
  static constexpr size_t kMostAuditBytes = 208;

  // The kill switch. While a segment is paused every decision of every policy admits, with
  // Reason::kPaused; it is counted as `paused` and not as allowed, and nothing is charged, counted
  // against a key or given back. Debts run down meanwhile. Holds for all attached processes from
  // their next call on, outlasts the process that paused, and moves along with a resize.
  // FailedPrecondition (not_open, read_only).
  absl::Status pause() const;
  absl::Status resume() const;
  bool paused() const;

  // Frees the slots of keys that have been idle for `idle_ns` or longer, in one pass over the table
  // while traffic runs; returns how many. Nothing is forgiven: an idle key owes nothing. Callers
  // reuse such slots anyway; this makes the occupancy tell the truth. brim agent does it.
  uint64_t sweep(int64_t idle_ns) const;

  // False once the name was removed or taken by another segment (an operator's rm, logind's
  // RemoveIPC): this process then counts apart from newcomers. One stat; not for the hot path.
  bool linked() const;

  const std::string& name() const;

 private:
  friend class StateWriter;
  friend struct internal::EngineOf;
  explicit Limiter(std::shared_ptr<internal::Engine> engine) : engine_(std::move(engine)) {}
  std::shared_ptr<internal::Engine> engine_;
};

}  // namespace brim

#endif  // BRIM_LIMITER_H_
