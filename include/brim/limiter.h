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

struct Options {
  // Behaviour. Zero or default means: the default when creating, what is stored when attaching.
  uint64_t capacity = 0;      // slots for keys; default 65536; 16 bytes each
  uint32_t name_bytes = 0;    // bytes of key text kept for tools; kNoNames for none; default 48
  uint32_t max_policies = 0;  // 1 .. 4096; default 64
  HashKind hash = HashKind::kDefault;
  OnFull on_full = OnFull::kDefault;
  std::vector<NamedPolicy> policies = {};  // defined if missing; another text is config_mismatch
  bool accept_stored = false;  // on a mismatch attach with the stored values instead of failing
  ClockKind clock = ClockKind::kAuto;
  const std::atomic<int64_t>* manual_clock_ns = nullptr;  // REQUIRED with ClockKind::kManual

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
}

// A policy of one segment, looked up once. Copyable; keeps the segment mapped.
class PolicyHandle {
 public:
  PolicyHandle() = default;

  // Takes `cost` permits for `key`, or none.
  // Units: durations are ns, rounded up.   Time: one clock read; a step back counts as none.
  // Safe: any thread, any attached process, after fork(), in a signal handler.
  // cost 0 only looks; cost above the burst is denied with retry_after_ns == kNever.
  // Errors: none; see Verdict::kUnavailable.   Source: ITU-T I.371 (GCRA, virtual scheduling).
  Decision try_acquire(std::string_view key, uint32_t cost = 1) const noexcept;

  // The same with the caller's time: CLOCK_MONOTONIC ns, at most 1 ms ahead of the clock. Time
  // behind the clock is safe and only stricter. Sharing one reading among calls saves its cost.
  Decision try_acquire_at(int64_t now_ns, std::string_view key, uint32_t cost = 1) const noexcept;

  // Decides keys[i] into out[i], one permit each, with the cache misses of the keys overlapped.
  // As many as both spans hold. Each key is decided by itself.
  void try_acquire_batch(std::span<const std::string_view> keys,
                         std::span<Decision> out) const noexcept;

  // What try_acquire(key, cost) would answer now. Writes nothing; works read-only.
  Decision peek(std::string_view key, uint32_t cost = 0) const noexcept;

  // Gives back up to `cost` permits; what has flowed back already is void. Returns false if the
  // key had no debt (nothing to give back), the segment is read-only, or brim could not do it
  // (counted as unavailable).
  bool refund(std::string_view key, uint32_t cost = 1) const noexcept;

  // Forgets the key's debt under this policy. Returns false if there was none.
  bool reset(std::string_view key) const noexcept;

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

  // False once the name was removed or taken by another segment (an operator's rm, logind's
  // RemoveIPC): this process then counts apart from newcomers. One stat; not for the hot path.
  bool linked() const;

  const std::string& name() const;

 private:
  explicit Limiter(std::shared_ptr<internal::Engine> engine) : engine_(std::move(engine)) {}
  std::shared_ptr<internal::Engine> engine_;
};

}  // namespace brim

#endif  // BRIM_LIMITER_H_
