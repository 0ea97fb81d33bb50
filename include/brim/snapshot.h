// SPDX-License-Identifier: MIT
// Snapshots: what a segment's keys owe, kept in a SQLite file, so that limits survive a reboot, a
// removed segment or a killed server. Needs libbrim-sync; the request path knows nothing of it.
//
//   auto limiter = brim::open_restored("api", options, "/var/lib/brim/api.db");
//   brim::SnapshotThread writer("api", {.snapshot = {.file = "/var/lib/brim/api.db"}});
//
// The second line, in any number of workers, is what `brim agent` does as a process of its own.
//
// Each snapshot is one transaction: a reader sees the last whole one, whatever is killed when. What
// was admitted since then is forgotten if the segment is lost: at most min(burst, what was admitted
// in that interval) per key and loss. Debt is never forgiven otherwise, and the stricter state wins
// when one is restored into a live segment. Leases are not restored.
#ifndef BRIM_SNAPSHOT_H_
#define BRIM_SNAPSHOT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brim/limiter.h"
#include "brim/state.h"

namespace brim {

// When the file is forced to the disk (SQLite's `synchronous`). With any of them a killed process
// loses nothing that was written; the difference is what a power cut may lose.
enum class Synchronous : uint8_t {
  kFull = 0,    // nothing that was written
  kNormal = 1,  // the last snapshots
  kOff = 2,     // perhaps the whole file; it is then found damaged and set aside
};

struct SnapshotOptions {
  std::string file = {};  // made with mode 0600: it holds the segment's hash key
  Synchronous synchronous = Synchronous::kFull;
  int64_t busy_timeout_ns = 5000000000;  // wait so long for another program that holds the file
  uint32_t keep = 0;    // copies of earlier segments' files: FILE.1 (the newest) to FILE.keep; one
                        // in any case if keys found no place
  Options attach = {};  // owner, group, clock
};

struct SnapshotReport {
  uint64_t generation = 0;
  bool full = false;     // every key was written, not only what has changed
  uint64_t written = 0;  // rows
  uint64_t removed = 0;
  uint64_t rows = 0;  // in the file now
  int64_t duration_ns = 0;
};

// Writes snapshots of one segment to one file. Of all processes that want to, one does: it holds a
// lock (flock on FILE.lock) that the kernel frees when it dies; a stopped one is not overtaken. For
// one thread at a time. In a child made by fork() it does nothing, and a child of a process that
// had a snapshot's file open at the time can not open any (snapshot_forked): SQLite is of no use
// there. So fork first, or exec.
class Snapshotter {
 public:
  // Errors: those of Limiter::attach, and of take().
  static absl::StatusOr<Snapshotter> open(std::string_view segment, const SnapshotOptions& options);

  // Writes what has changed since the last one; everything, the first time. A file of an earlier
  // segment of this name is restored into this one first, so that nothing is lost; a damaged or
  // foreign file is renamed to FILE.corrupt-TIME, never overwritten: see set_aside().
  // Errors: Unavailable (snapshot_not_leader, with who is; snapshot_busy; snapshot_moving: a resize
  // is going on or was killed), ResourceExhausted
  // (snapshot_no_space), PermissionDenied (snapshot_unwritable), FailedPrecondition
  // (snapshot_other_segment, snapshot_symlink, snapshot_not_regular, snapshot_forked). After any
  // error the last whole snapshot is still there, and the next call tries again.
  absl::StatusOr<SnapshotReport> take();

  // False once the segment's name is gone or another's: open a new one then.
  bool linked() const;
  // True once the segment was resized. Another table decides then: take() fails until the resize is
  // done, and linked() is false after it.
  bool superseded() const;
  // What take() renamed a damaged file to, or copied one to whose keys found no place in this
  // segment, and why; empty if there was none.
  const std::string& set_aside() const;
  // Keys taken over from an earlier segment's file by take(); 0 if there was none.
  uint64_t restored() const;

  Snapshotter(Snapshotter&&) noexcept;
  Snapshotter& operator=(Snapshotter&&) noexcept;
  ~Snapshotter();

 private:
  class Impl;
  explicit Snapshotter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct SnapshotLoopOptions {
  SnapshotOptions snapshot = {};
  int64_t interval_ns = 10000000000;  // between snapshots; at least 10 ms
  bool restore = false;  // make the segment from the file if there is none; no file: wait for one
  int64_t sweep_idle_ns = 0;  // free the slots of keys idle so long; 0: leave them
  // Told what happened, in words: 3 an error, 4 a warning, 6 information (syslog's numbers). A
  // trouble that lasts is told once.
  std::function<void(int level, const std::string& what)> say = {};
};

// Follows a segment by its name: opens it, takes snapshots, waits longer after errors, and goes on
// with the segment that has the name when the old one is removed. For one thread at a time.
class SnapshotLoop {
 public:
  SnapshotLoop(std::string_view segment, SnapshotLoopOptions options);
  // One round; returns how many ns to wait before the next.
  int64_t step();
  // A last snapshot, if this process is the one that writes. What workers do afterwards is not in
  // it: stop them first if nothing may be forgotten.
  absl::Status finish();

 private:
  absl::Status take();
  absl::Status leave_removed();
  void leave();
  absl::Status open(bool may_make);
  absl::Status make_from_file();
  void say(int level, const std::string& what) const;
  void say_taken(const SnapshotReport& report);
  std::string segment_;
  SnapshotLoopOptions options_;
  std::optional<Snapshotter> snapshotter_;
  std::optional<Limiter> swept_;
  std::string last_;
  std::string aside_;
  int errors_ = 0;
  int last_tries_ = 0;
};

// A SnapshotLoop in a thread with all signals blocked. Any number of workers may have one: one of
// them writes at a time, another when that one ends. After fork() the child has none.
class SnapshotThread {
 public:
  SnapshotThread(std::string_view segment, SnapshotLoopOptions options);
  // Takes a last snapshot if this process is the one that writes. In a forked child: nothing. By
  // `say` in the thread itself: that ends by itself, and says nothing more.
  ~SnapshotThread();
  SnapshotThread(const SnapshotThread&) = delete;
  SnapshotThread& operator=(const SnapshotThread&) = delete;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// How many states met which end.
struct RestoreReport {
  uint64_t generation = 0;
  int64_t elapsed_ns = 0;     // between the snapshot and now, by the wall clock; never negative
  bool clock_behind = false;  // the wall clock was before the snapshot: counted as no time
  uint64_t merged = 0;
  uint64_t idle = 0;       // had flowed back
  uint64_t no_policy = 0;  // the segment has no such policy or rate any more
  uint64_t no_key = 0;     // key text cut or not kept, and another hash key
  uint64_t unfit = 0;      // the policy keeps no such state now
  uint64_t failed = 0;     // table full or contended
  uint64_t overrides = 0;
  uint64_t overrides_lost = 0;
};

// Gives the file's states, overrides and factors to a live segment: the stricter state and the
// smaller factor win, an override that is there stays. Twice is once. Missing policies are not
// defined.
// Errors: NotFound (snapshot_not_found), DataLoss (snapshot_corrupt, with what is wrong),
// FailedPrecondition (snapshot_foreign, snapshot_version, snapshot_symlink, snapshot_not_regular).
absl::StatusOr<RestoreReport> restore(const Limiter& limiter, std::string_view file);

// Attaches, or creates a segment from the file: its size, its policies unless `options` names
// others, its mode if `options` has a group, its hash key, and all its states, before anyone can
// attach it. Without a file, or with a damaged one (which is set aside: `note` says so), the
// segment begins empty.
absl::StatusOr<Limiter> open_restored(std::string_view name, const Options& options,
                                      std::string_view file, std::string* note = nullptr);
// The same, but AlreadyExists if there is a segment, and any trouble with the file is an error.
absl::StatusOr<Limiter> create_restored(std::string_view name, const Options& options,
                                        std::string_view file, RestoreReport* report = nullptr);

// What a file holds, for people and tools.
struct SnapshotFile {
  SegmentState segment;
  std::vector<PolicyState> policies;
  std::vector<OverrideState> overrides;
  uint64_t generation = 0;
  uint64_t rows = 0;
  int64_t wall_ns = 0;  // when it was taken, since 1970
  int64_t monotonic_ns = 0;
};

// Checks the whole file (structure and checksums), then calls begin() once and visits every row
// until visit() is false: all of one snapshot, whatever a writer does meanwhile. Constant memory.
// Errors as restore().
absl::StatusOr<SnapshotFile> read_snapshot(
    std::string_view file, const std::function<bool(const KeyState&)>& visit = {},
    const std::function<void(const SnapshotFile&)>& begin = {});

}  // namespace brim

#endif  // BRIM_SNAPSHOT_H_
