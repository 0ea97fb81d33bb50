// SPDX-License-Identifier: MIT
#ifndef BRIM_SRC_SNAPSHOT_RESTORE_H_
#define BRIM_SRC_SNAPSHOT_RESTORE_H_

#include <string>

#include "brim/snapshot.h"
#include "src/snapshot/sqlite.h"

namespace brim::snapshot {

// Since 1970. Relates what a snapshot holds to the world, nothing else.
int64_t wall_now_ns();

// A file that has been checked, and which stays as it was then.
struct Opened {
  std::string file;
  Database database;
  SnapshotFile head;
  uint64_t rows_sum = 0;
};

// What is checked: every byte that counts; or all but the rows' own checks, for who reads the rows
// to the end and drops what came of them if they are damaged.
enum class Check : uint8_t { kAll, kAllButRows };
absl::StatusOr<Opened> open_checked(const std::string& file, Check check);
// DataLoss if a row is damaged or missing; what was read before that is in the segment then.
// `fresh`: nobody uses the segment yet, so it takes the factors as they are.
absl::StatusOr<RestoreReport> put_all(const Limiter& limiter, Opened& opened, bool fresh);

// True for an error about the file's contents: damaged, foreign or of another version.
bool is_damage(const absl::Status& status);
// Renames the file, and what SQLite keeps beside it, to FILE.corrupt-TIME; returns the new name.
absl::StatusOr<std::string> set_aside(const std::string& file);
// The same for somebody who is not the one who writes: under the lock of who does, and only if the
// file is still damaged. Empty: it was not, or somebody else sees to it.
absl::StatusOr<std::string> set_damaged_aside(const std::string& file);

}  // namespace brim::snapshot

#endif  // BRIM_SRC_SNAPSHOT_RESTORE_H_
