// SPDX-License-Identifier: MIT
// The file of a snapshot: its tables, its checks, its rows.
//
// An SQLite database in WAL mode, application_id 'brim', user_version kSchemaVersion.
//   meta       name, value: the segment and the last snapshot (generation, both clocks, row count)
//   policies   number, name, text, factor_ppm
//   rates      policy, part, kind, ...: in what the states of its keys are counted
//   keys       one row a slot that owes something; `sum` is the row's own check
//   overrides  hash, policy, use
//   override_details  of those whose text is known, and of bans: the text, and when the ban ends
//   states     a view for people: keys with policy names, permits and dates
// meta 'sum' covers everything but the rows; 'rows_sum' is the sum of their checks modulo 2^64, so
// that a snapshot of what has changed need not read the rest.
//
// Rows are as of the segment's monotonic clock; only the last snapshot relates it to the wall
// clock. So a wall clock that was set between two snapshots moves no row.
#ifndef BRIM_SRC_SNAPSHOT_STORE_H_
#define BRIM_SRC_SNAPSHOT_STORE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "brim/snapshot.h"
#include "src/snapshot/sqlite.h"
#include "src/sync/leader.h"

namespace brim::snapshot {

inline constexpr int64_t kApplicationId = 0x6272696d;  // "brim"
inline constexpr int64_t kSchemaVersion = 2;
inline constexpr int64_t kOldestVersion = 1;  // without override_details

// The check of one row.
uint64_t row_sum(const KeyState& state);

// Who may write the snapshots of `file`.
inline Leader leader_of(const std::string& file) {
  return Leader(file + ".lock", {"snapshot", "writes the snapshots",
                                 "give a file in a writable directory of this user"});
}

// A new empty file that nobody else may read.
absl::Status create_private(const std::string& path);

// True without any contents: what a creator leaves that is killed before its first transaction.
absl::StatusOr<bool> is_blank(Database& database);

// For reading. DataLoss (snapshot_corrupt), FailedPrecondition (snapshot_foreign,
// snapshot_version), NotFound (snapshot_not_found).
absl::StatusOr<Database> open_to_read(const std::string& path);

// For writing: made if it is not there. The same errors, and those of SQLite.
absl::StatusOr<Database> open_to_write(const std::string& path, const SnapshotOptions& options);

// Everything but the rows, checked; `rows_sum` is what the rows must add up to.
absl::StatusOr<SnapshotFile> read_head(Database& database, uint64_t& rows_sum);
absl::Status write_head(Database& database, SnapshotFile file, uint64_t rows_sum);

// Visits the rows until visit() is false; DataLoss if one is damaged or, after all of them, if
// their number or sum is wrong.
absl::Status read_rows(Database& database, const SnapshotFile& file, uint64_t rows_sum,
                       const std::function<bool(const KeyState&)>& visit);

// The prepared statements of a writer.
class RowWriter {
 public:
  static absl::StatusOr<RowWriter> open(Database& database);
  absl::Status put(const KeyState& state, uint64_t sum);
  absl::Status remove(uint64_t slot);

 private:
  Statement put_;
  Statement remove_;
};

}  // namespace brim::snapshot

#endif  // BRIM_SRC_SNAPSHOT_STORE_H_
