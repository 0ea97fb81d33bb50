// SPDX-License-Identifier: MIT
// A file's states -> a segment.
#include "src/snapshot/restore.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>

#include "src/base/status.h"
#include "src/base/text.h"
#include "src/snapshot/store.h"

namespace brim {

namespace {

void count(PutResult result, RestoreReport& report) {
  switch (result) {
    case PutResult::kMerged:
      ++report.merged;
      return;
    case PutResult::kIdle:
      ++report.idle;
      return;
    case PutResult::kNoPolicy:
      ++report.no_policy;
      return;
    case PutResult::kNoKey:
      ++report.no_key;
      return;
    case PutResult::kUnfit:
      ++report.unfit;
      return;
    case PutResult::kFull:
    case PutResult::kContended:
      ++report.failed;
      return;
  }
}

}  // namespace

namespace snapshot {

int64_t wall_now_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

namespace {

// Damage is told with the file's name.
absl::Status named_damage(const absl::Status& status, const std::string& file) {
  std::string_view message = message_of(status);
  // Our statements are always the same: one that does not fit meets other tables than ours.
  constexpr std::string_view kUnfit = "snapshot_error: ";
  const bool unfit = message.starts_with(kUnfit);
  if (!unfit && !absl::IsDataLoss(status)) return status;
  if (unfit) message.remove_prefix(kUnfit.size());
  const std::string named =
      message.find(file) != std::string_view::npos ? "" : cat(" (", file, ")");
  return absl::DataLossError(cat(unfit ? "snapshot_corrupt: " : "", message, named));
}

}  // namespace

absl::StatusOr<Opened> open_checked(const std::string& file, Check check) {
  Opened opened;
  const auto named = [&](const absl::Status& status) { return named_damage(status, file); };
  auto database = open_to_read(file);
  if (!database.ok()) return named(database.status());
  opened.database = *std::move(database);
  opened.file = file;
  // One view of the file from here on, whatever a writer does meanwhile.
  if (absl::Status status = opened.database.execute("BEGIN"); !status.ok()) return named(status);
  auto pages = opened.database.prepare("PRAGMA quick_check(1)");
  if (!pages.ok()) return named(pages.status());
  if (absl::Status status = pages->step(); !status.ok()) return named(status);
  if (!pages->row() || pages->bytes(0) != "ok") {
    return absl::DataLossError(cat("snapshot_corrupt: ", file, ": ",
                                   printable(pages->row() ? pages->bytes(0) : "no answer", 200)));
  }
  if (absl::Status status = pages->step(); !status.ok()) return named(status);
  auto head = read_head(opened.database, opened.rows_sum);
  if (!head.ok()) return named(head.status());
  opened.head = *std::move(head);
  if (check == Check::kAllButRows) return opened;
  absl::Status status = read_rows(opened.database, opened.head, opened.rows_sum, {});
  if (!status.ok()) return named(status);
  return opened;
}

absl::StatusOr<RestoreReport> put_all(const Limiter& limiter, Opened& opened, bool fresh) {
  RestoreReport report;
  const SnapshotFile& head = opened.head;
  report.generation = head.generation;
  const int64_t now = wall_now_ns();
  report.clock_behind = now < head.wall_ns;
  report.elapsed_ns = std::max<int64_t>(now - head.wall_ns, 0);
  const auto writer = StateWriter::open(limiter, head.segment, head.policies);
  if (!writer.ok()) return writer.status();
  for (const PolicyState& policy : head.policies) writer->put_factor(policy, !fresh);
  for (const OverrideState& entry : head.overrides) {
    const bool done = writer->put_override(entry, report.elapsed_ns).ok();
    ++(done ? report.overrides : report.overrides_lost);
  }
  const absl::Status status =
      read_rows(opened.database, head, opened.rows_sum, [&](const KeyState& state) {
        const int64_t before = std::max<int64_t>(head.monotonic_ns - state.as_of_ns, 0);
        const int64_t most = std::numeric_limits<int64_t>::max() - before;
        count(writer->put(state, before + std::min(report.elapsed_ns, most)), report);
        return true;
      });
  if (!status.ok()) return named_damage(status, opened.file);
  return report;
}

bool is_damage(const absl::Status& status) {
  const std::string_view message = message_of(status);
  // Not snapshot_foreign_owner: another user's file is his.
  return absl::IsDataLoss(status) || message.starts_with("snapshot_foreign:") ||
         message.starts_with("snapshot_version:");
}

absl::StatusOr<std::string> set_aside(const std::string& file) {
  const time_t now = wall_now_ns() / 1000000000;
  struct tm utc {};
  gmtime_r(&now, &utc);
  char stamp[32];
  std::strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &utc);
  for (int n = 0; n < 1000; ++n) {
    const std::string aside = cat(file, ".corrupt-", stamp, n == 0 ? "" : cat("-", n));
    // link, not rename: what was set aside before is never overwritten.
    if (link(file.c_str(), aside.c_str()) != 0) {
      if (errno == EEXIST) continue;
      return absl::PermissionDeniedError(
          cat("snapshot_unwritable: ", file, " can not be set aside: ", strerror(errno)));
    }
    unlink(file.c_str());
    for (const char* const tail : {"-wal", "-shm"}) {
      rename(cat(file, tail).c_str(), cat(aside, tail).c_str());
    }
    return aside;
  }
  return absl::InternalError(cat("snapshot_io: too many files ", file, ".corrupt-*"));
}

absl::StatusOr<std::string> set_damaged_aside(const std::string& file) {
  Leader leader = snapshot::leader_of(file);
  if (absl::Status status = leader.become(); !status.ok()) {
    return absl::IsUnavailable(status) ? absl::StatusOr<std::string>(std::string()) : status;
  }
  if (!is_damage(open_checked(file, Check::kAll).status())) return std::string();
  return set_aside(file);
}

}  // namespace snapshot

absl::StatusOr<RestoreReport> restore(const Limiter& limiter, std::string_view file) {
  auto opened = snapshot::open_checked(std::string(file), snapshot::Check::kAll);
  if (!opened.ok()) return opened.status();
  return snapshot::put_all(limiter, *opened, false);
}

absl::StatusOr<SnapshotFile> read_snapshot(std::string_view file,
                                           const std::function<bool(const KeyState&)>& visit,
                                           const std::function<void(const SnapshotFile&)>& begin) {
  auto opened = snapshot::open_checked(std::string(file), snapshot::Check::kAll);
  if (!opened.ok()) return opened.status();
  if (begin) begin(opened->head);
  if (visit) {
    absl::Status status =
        snapshot::read_rows(opened->database, opened->head, opened->rows_sum, visit);
    if (!status.ok()) return status;
  }
  return opened->head;
}

absl::StatusOr<Limiter> create_restored(std::string_view name, const Options& options,
                                        std::string_view file, RestoreReport* report) {
  // One pass over the rows: a damaged one abandons the segment before anyone can attach it.
  auto opened = snapshot::open_checked(std::string(file), snapshot::Check::kAllButRows);
  if (!opened.ok()) return opened.status();
  const SegmentState& from = opened->head.segment;
  Options own = options;
  const Options& old = from.options;
  if (own.capacity == 0) own.capacity = old.capacity;
  if (own.name_bytes == 0) own.name_bytes = old.name_bytes;
  if (own.max_policies == 0) own.max_policies = old.max_policies;
  if (own.cells_per_key == 0) own.cells_per_key = old.cells_per_key;
  if (own.overrides == 0) own.overrides = old.overrides;
  if (own.on_full == OnFull::kDefault) own.on_full = old.on_full;
  if (own.probe_limit == 0) own.probe_limit = old.probe_limit;
  // A group is named, but not what it may do: what it might.
  if (own.mode == Options().mode && !own.group.empty()) own.mode = old.mode;
  if (own.hash == HashKind::kDefault || own.hash == old.hash) own.hash_seed = from.hash_seed;
  for (const PolicyState& policy : opened->head.policies) {
    const bool given = std::any_of(own.policies.begin(), own.policies.end(),
                                   [&](const NamedPolicy& one) { return one.name == policy.name; });
    if (!given) own.policies.push_back({policy.name, policy.text});
  }
  own.prepare = [&](const Limiter& limiter) -> absl::Status {
    if (options.prepare) {
      if (absl::Status status = options.prepare(limiter); !status.ok()) return status;
    }
    const auto result = snapshot::put_all(limiter, *opened, true);
    if (result.ok() && report != nullptr) *report = *result;
    return result.status();
  };
  return Limiter::create(name, own);
}

absl::StatusOr<Limiter> open_restored(std::string_view name, const Options& options,
                                      std::string_view file, std::string* note) {
  for (int round = 0; round < 8; ++round) {
    auto attached = Limiter::attach(name, options);
    if (!absl::IsNotFound(attached.status())) return attached;
    auto created = create_restored(name, options, file);
    if (created.ok()) return created;
    const std::string_view message = message_of(created.status());
    if (snapshot::is_damage(created.status())) {
      const auto aside = snapshot::set_damaged_aside(std::string(file));
      if (!aside.ok()) return aside.status();
      if (note != nullptr && !aside->empty()) {
        *note = cat(message, "; it was renamed to ", *aside);
      }
      continue;
    }
    if (message.starts_with("snapshot_not_found")) return Limiter::open(name, options);
    if (!absl::IsAlreadyExists(created.status())) return created;
  }
  return Limiter::open(name, options);
}

}  // namespace brim
