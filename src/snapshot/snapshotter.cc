// SPDX-License-Identifier: MIT
// The one who writes.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "brim/snapshot.h"
#include "src/base/status.h"
#include "src/base/text.h"
#include "src/snapshot/restore.h"
#include "src/snapshot/store.h"

namespace brim {

class Snapshotter::Impl {
 public:
  Impl(StateReader reader, Limiter limiter, SnapshotOptions options)
      : options_(std::move(options)),
        reader_(std::move(reader)),
        limiter_(std::move(limiter)),
        leader_(snapshot::leader_of(options_.file)),
        pid_(getpid()) {}
  ~Impl() {
    if (getpid() != pid_) database_.abandon();
  }

  absl::StatusOr<SnapshotReport> take() {
    absl::StatusOr<SnapshotReport> report = try_take();
    if (report.ok()) {
      StateWriter::note_snapshot(limiter_, report->generation, report->rows, report->duration_ns);
    } else if (!message_of(report.status()).starts_with("snapshot_not_leader") &&
               getpid() == pid_) {
      StateWriter::note_snapshot(limiter_, 0, 0, 0);
    }
    return report;
  }

  bool linked() const { return reader_.linked(); }
  bool superseded() const { return reader_.superseded(); }

  std::string aside;
  uint64_t restored = 0;

 private:
  absl::StatusOr<SnapshotReport> try_take() {
    if (getpid() != pid_) {
      return absl::FailedPreconditionError(
          "snapshot_forked: this Snapshotter was opened before fork(); fork first, or exec");
    }
    if (absl::Status status = leader_.become(); !status.ok()) {
      forget();  // another leader may have written meanwhile
      return status;
    }
    // Before a file is merged into a table that nobody asks any more.
    if (absl::Status status = check_settled(); !status.ok()) return status;
    if (absl::Status status = prepare(); !status.ok()) {
      forget();
      return status;
    }
    absl::StatusOr<SnapshotReport> report = write();
    if (!report.ok()) forget();
    return report;
  }

  // While a resize carries keys over, neither table has all of them, and the old one's grow stale.
  absl::Status check_settled() const {
    if (!reader_.moving()) return absl::OkStatus();
    return absl::UnavailableError(
        cat("snapshot_moving: segment ", limiter_.name(),
            " is being resized, or its resize was killed: no snapshot is taken meanwhile; brim "
            "resize finishes it"));
  }

  // What is in the file is not known any more: the next snapshot is a full one.
  void forget() {
    database_ = snapshot::Database();
    generation_ = 0;
    reader_.forget_seen();
    sums_.clear();
    known_ = false;
  }

  // Opens the file, and takes over what an earlier segment left in it.
  absl::Status prepare() {
    if (database_.is_open() && same_file()) return absl::OkStatus();
    forget();
    absl::Status status = open_file();
    if (snapshot::is_damage(status)) {
      const auto renamed = snapshot::set_aside(options_.file);
      if (!renamed.ok()) return renamed.status();
      aside = cat(message_of(status), "; it was renamed to ", *renamed);
      status = open_file();
    }
    return status;
  }

  absl::Status open_file() {
    struct stat st {};
    const bool filled = stat(options_.file.c_str(), &st) == 0 && st.st_size > 0;
    if (filled) {
      auto opened = snapshot::open_checked(options_.file, snapshot::Check::kAll);
      const bool bare = snapshot::is_damage(opened.status()) && never_written();
      if (!opened.ok() && !bare) return opened.status();
      if (!bare) {
        if (absl::Status status = take_over(*opened); !status.ok()) return status;
      }
    }
    auto database = snapshot::open_to_write(options_.file, options_);
    if (!database.ok()) return database.status();
    database_ = *std::move(database);
    return stat(options_.file.c_str(), &opened_) == 0
               ? absl::OkStatus()
               : absl::UnavailableError(
                     cat("snapshot_busy: ", options_.file, " was removed by somebody else"));
  }

  // False once the name leads elsewhere: what were written would be lost.
  bool same_file() const {
    struct stat named {};
    return stat(options_.file.c_str(), &named) == 0 && named.st_dev == opened_.st_dev &&
           named.st_ino == opened_.st_ino;
  }

  // True for a file whose writer was killed before its first snapshot.
  bool never_written() const {
    auto database =
        snapshot::Database::open(options_.file, SQLITE_OPEN_READWRITE, options_.busy_timeout_ns);
    if (!database.ok()) return false;
    const auto blank = snapshot::is_blank(*database);
    if (blank.ok() && *blank) return true;
    database = snapshot::open_to_read(options_.file);
    if (!database.ok()) return false;
    const auto rows = database->integer(
        "SELECT (SELECT count(*) FROM meta) + "
        "(SELECT count(*) FROM keys)");
    return rows.ok() && rows->value_or(1) == 0;
  }

  absl::Status take_over(snapshot::Opened& opened) {
    const SegmentState own = reader_.segment();
    const SegmentState& old = opened.head.segment;
    generation_ = opened.head.generation;
    // Resized, it is the same segment: it has all that is in the file, and what was undone since
    // shall stay undone. A file of before lineages were kept may be of the first table.
    const std::string& line = old.lineage.empty() ? old.uuid : old.lineage;
    if (old.uuid == own.uuid || line == own.lineage) return absl::OkStatus();
    if (old.name != own.name) {
      return absl::FailedPreconditionError(
          cat("snapshot_other_segment: ", options_.file, " holds segment '", printable(old.name),
              "', this is '", printable(own.name), "'; give each segment a file of its own"));
    }
    const auto report = snapshot::put_all(limiter_, opened, false);
    if (!report.ok()) return report.status();
    restored += report->merged;
    // Its policies may come later, or its table be larger: what is not taken over is not forgotten.
    const uint64_t homeless = report->no_policy + report->no_key + report->failed;
    if (homeless != 0) {
      aside = cat(homeless, " keys of the earlier segment in ", options_.file,
                  " found no place in this one; that file is kept as ", options_.file, ".1");
    }
    return keep_copy(opened, homeless != 0 ? std::max(options_.keep, 1u) : options_.keep);
  }

  // FILE.1 is the newest copy, FILE.keep the oldest.
  absl::Status keep_copy(snapshot::Opened& opened, uint32_t keep) {
    const std::string state = cat(opened.head.segment.uuid, " ", opened.head.generation);
    if (keep == 0 || state == kept_) return absl::OkStatus();
    // Made under another name first: a try that fails costs no earlier copy.
    const std::string fresh = cat(options_.file, ".new");
    unlink(fresh.c_str());
    if (absl::Status status = opened.database.execute("COMMIT"); !status.ok()) return status;
    // SQLite takes an empty file, and leaves its mode alone.
    if (absl::Status status = snapshot::create_private(fresh); !status.ok()) return status;
    auto vacuum = opened.database.prepare("VACUUM INTO ?1");
    if (!vacuum.ok()) return vacuum.status();
    vacuum->bind_text(1, fresh);
    if (absl::Status status = vacuum->run(); !status.ok()) {
      unlink(fresh.c_str());
      return status;
    }
    for (uint32_t n = keep; n > 1; --n) {
      const std::string from = cat(options_.file, ".", n - 1);
      if (rename(from.c_str(), cat(options_.file, ".", n).c_str()) != 0 && errno != ENOENT) {
        return absl::PermissionDeniedError(cat("snapshot_unwritable: ", from, " can not be kept"));
      }
    }
    if (rename(fresh.c_str(), cat(options_.file, ".1").c_str()) != 0) {
      return absl::PermissionDeniedError(cat("snapshot_unwritable: ", fresh, " can not be kept"));
    }
    kept_ = state;
    return absl::OkStatus();
  }

  absl::StatusOr<SnapshotReport> write() {
    const int64_t began = reader_.now_ns();
    auto transaction = snapshot::Transaction::begin(database_, "BEGIN IMMEDIATE");
    if (!transaction.ok()) return transaction.status();
    // Between the look at the lock and here another may have become the leader, and written.
    const auto found = database_.integer("SELECT value FROM meta WHERE name = 'generation'");
    if (!found.ok()) return found.status();
    if (static_cast<uint64_t>(found->value_or(0)) != generation_) {
      return absl::UnavailableError(cat("snapshot_not_leader: another process wrote snapshot ",
                                        found->value_or(0), " of ", options_.file));
    }
    SnapshotReport report;
    report.full = !known_;
    if (report.full) {
      rows_ = 0;
      rows_sum_ = 0;
      if (absl::Status status = database_.execute("DELETE FROM keys"); !status.ok()) return status;
    }
    SnapshotFile head;
    // Rows mean something under the policies that were read with them only.
    for (int tries = 0;; ++tries) {
      head.policies = reader_.policies();
      if (absl::Status status = write_rows(report); !status.ok()) return status;
      if (head.policies == reader_.policies()) break;
      if (tries == 8) {
        return absl::UnavailableError(cat("snapshot_busy: the policies of segment ",
                                          limiter_.name(),
                                          " change while they are read, over and over"));
      }
    }
    head.segment = reader_.segment();
    head.overrides = reader_.overrides();
    // Superseded meanwhile: what was read may lack what the new table has charged since.
    if (absl::Status status = check_settled(); !status.ok()) return status;
    head.generation = generation_ + 1;
    head.rows = rows_;
    // The wall clock after the monotonic one: what passes in between is not counted, which is
    // stricter.
    head.monotonic_ns = reader_.now_ns();
    head.wall_ns = snapshot::wall_now_ns();
    if (absl::Status status = snapshot::write_head(database_, std::move(head), rows_sum_);
        !status.ok()) {
      return status;
    }
    if (absl::Status status = transaction->commit(); !status.ok()) return status;
    known_ = true;
    report.generation = ++generation_;
    report.rows = rows_;
    report.duration_ns = reader_.now_ns() - began;
    return report;
  }

  absl::Status write_rows(SnapshotReport& report) {
    auto writer = snapshot::RowWriter::open(database_);
    if (!writer.ok()) return writer.status();
    absl::Status status = absl::OkStatus();
    sums_.resize(reader_.slots());
    const auto drop = [&](uint64_t slot) {
      if (sums_[slot] == 0) return false;
      rows_sum_ -= sums_[slot];
      sums_[slot] = 0;
      --rows_;
      return true;
    };
    reader_.for_each_change(
        [&](const KeyState& state) {
          drop(state.slot);
          const uint64_t sum = snapshot::row_sum(state);
          status = writer->put(state, sum);
          sums_[state.slot] = sum;
          rows_sum_ += sum;
          ++rows_;
          ++report.written;
          return status.ok();
        },
        [&](uint64_t slot) {
          if (!drop(slot)) return true;
          status = writer->remove(slot);
          ++report.removed;
          return status.ok();
        });
    return status;
  }

  SnapshotOptions options_;
  StateReader reader_;
  Limiter limiter_;
  Leader leader_;
  snapshot::Database database_;
  struct stat opened_ {};
  std::string kept_;  // what the newest copy holds
  pid_t pid_;
  bool known_ = false;  // the file holds what sums_ says
  uint64_t generation_ = 0;
  uint64_t rows_ = 0;
  uint64_t rows_sum_ = 0;
  std::vector<uint64_t> sums_;  // by slot: the row's check; 0: no row
};

Snapshotter::Snapshotter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Snapshotter::Snapshotter(Snapshotter&&) noexcept = default;
Snapshotter& Snapshotter::operator=(Snapshotter&&) noexcept = default;
Snapshotter::~Snapshotter() = default;

absl::StatusOr<Snapshotter> Snapshotter::open(std::string_view segment,
                                              const SnapshotOptions& options) {
  if (options.file.empty()) {
    return absl::InvalidArgumentError("invalid_option: file is empty; give the snapshot's path");
  }
  auto reader = StateReader::attach(segment, options.attach);
  if (!reader.ok()) return reader.status();
  auto limiter = Limiter::attach(segment, options.attach);
  if (!limiter.ok()) return limiter.status();
  return Snapshotter(std::make_unique<Impl>(*std::move(reader), *std::move(limiter), options));
}

absl::StatusOr<SnapshotReport> Snapshotter::take() { return impl_->take(); }
bool Snapshotter::linked() const { return impl_->linked(); }
bool Snapshotter::superseded() const { return impl_->superseded(); }
const std::string& Snapshotter::set_aside() const { return impl_->aside; }
uint64_t Snapshotter::restored() const { return impl_->restored; }

}  // namespace brim
