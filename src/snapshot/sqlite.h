// SPDX-License-Identifier: MIT
// SQLite's handles as owned values, and its errors as ours. Nothing here survives fork(): a child
// must neither use nor close its parent's connection.
#ifndef BRIM_SRC_SNAPSHOT_SQLITE_H_
#define BRIM_SRC_SNAPSHOT_SQLITE_H_

#include <sqlite3.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace brim::snapshot {

class Database;

// A prepared statement; columns are valid until the next step.
class Statement {
 public:
  Statement() = default;
  Statement(Statement&& other) noexcept : statement_(other.statement_), row_(other.row_) {
    other.statement_ = nullptr;
  }
  Statement& operator=(Statement&& other) noexcept;
  ~Statement() { sqlite3_finalize(statement_); }

  void bind(int index, int64_t value) { sqlite3_bind_int64(statement_, index, value); }
  void bind(int index, uint64_t value) { bind(index, static_cast<int64_t>(value)); }
  void bind_text(int index, std::string_view text);
  void bind_blob(int index, std::string_view bytes);
  void bind_null(int index) { sqlite3_bind_null(statement_, index); }

  // Runs to the next row; row() says whether there is one. At the end the statement is reset.
  absl::Status step();
  bool row() const { return row_; }
  // One run of a statement that gives no rows.
  absl::Status run();

  int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
  uint64_t word(int column) const { return static_cast<uint64_t>(integer(column)); }
  bool is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
  std::string bytes(int column) const;

 private:
  friend class Database;
  sqlite3_stmt* statement_ = nullptr;
  bool row_ = false;
};

class Database {
 public:
  Database() = default;
  Database(Database&& other) noexcept : handle_(other.handle_) { other.handle_ = nullptr; }
  Database& operator=(Database&& other) noexcept;
  ~Database() { close(); }

  // `flags`: SQLITE_OPEN_*.
  static absl::StatusOr<Database> open(const std::string& path, int flags, int64_t busy_timeout_ns);
  void close();
  // In a forked child: gives the handle up without touching the file.
  void abandon() { handle_ = nullptr; }
  bool is_open() const { return handle_ != nullptr; }

  absl::Status execute(const char* sql);
  absl::StatusOr<Statement> prepare(std::string_view sql);
  // The only value of a query's only row; nullopt if there is no row.
  absl::StatusOr<std::optional<int64_t>> integer(std::string_view sql);

 private:
  sqlite3* handle_ = nullptr;
};

// A transaction that is rolled back unless committed.
class Transaction {
 public:
  static absl::StatusOr<Transaction> begin(Database& database, const char* how);
  Transaction(Transaction&& other) noexcept : database_(other.database_) {
    other.database_ = nullptr;
  }
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  absl::Status commit();

 private:
  explicit Transaction(Database* database) : database_(database) {}
  Database* database_;
};

// The status for a failed call, with SQLite's own words: snapshot_busy, snapshot_no_space,
// snapshot_unwritable, snapshot_corrupt, snapshot_io, snapshot_error. `opened`: the file, while
// the handle does not know it yet.
absl::Status error_of(sqlite3* handle, int code, std::string_view opened = {});

}  // namespace brim::snapshot

#endif  // BRIM_SRC_SNAPSHOT_SQLITE_H_
