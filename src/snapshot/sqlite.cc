// SPDX-License-Identifier: MIT
#include "src/snapshot/sqlite.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "src/base/text.h"

namespace brim::snapshot {

namespace {

// SQLite's own tables of open files and locks are copied by fork(): a child of a process that had a
// database open believes that it has locks which are its parent's, and would write what is lost.
class Connections {
 public:
  static Connections& instance() {
    static Connections all;
    return all;
  }
  bool begin() {
    if (spoilt_) return false;
    ++open_;
    return true;
  }
  void end() { --open_; }

 private:
  Connections() {
    pthread_atfork(nullptr, nullptr, [] {
      if (instance().open_ != 0) instance().spoilt_ = true;
    });
  }
  std::atomic<int> open_{0};
  std::atomic<bool> spoilt_{false};
};

// A connection is for one thread at a time, so it needs no mutex of its own.
constexpr int kFlags = SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_NOMUTEX;

// The path with the links among its directories followed, as for any other file; whether the file
// itself is one is SQLite's to look at (SQLITE_OPEN_NOFOLLOW, which minds both).
std::string without_linked_directories(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  char resolved[PATH_MAX];
  if (realpath(directory.c_str(), resolved) == nullptr) return path;
  return cat(resolved, "/", slash == std::string::npos ? path : path.substr(slash + 1));
}

}  // namespace

absl::Status error_of(sqlite3* handle, int code, std::string_view opened) {
  const char* const path = handle == nullptr ? nullptr : sqlite3_db_filename(handle, "main");
  const std::string_view name = path != nullptr && path[0] != '\0' ? path : opened;
  const std::string what = cat(name.empty() ? "the database" : name, ": ",
                               handle == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(handle),
                               " (SQLite ", code, ")");
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::UnavailableError(
          cat("snapshot_busy: ", what, "; another program holds the file: end it, or wait longer"));
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(
          cat("snapshot_no_space: ", what, "; free space there, or give another file"));
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return absl::PermissionDeniedError(
          cat("snapshot_unwritable: ", what, "; give a file in a writable directory of this user"));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
    case SQLITE_TOOBIG:
    case SQLITE_MISMATCH:
      return absl::DataLossError(cat("snapshot_corrupt: ", what));
    case SQLITE_IOERR:
      return absl::InternalError(cat("snapshot_io: ", what, "; check the disk"));
    case SQLITE_NOMEM:
      return absl::ResourceExhaustedError(
          cat("snapshot_no_memory: ", what, "; raise the memory or address-space limit"));
    case SQLITE_ERROR:
      return absl::InternalError(cat("snapshot_error: ", what));
    default:
      return absl::InternalError(cat("snapshot_io: ", what));
  }
}

Statement& Statement::operator=(Statement&& other) noexcept {
  std::swap(statement_, other.statement_);
  std::swap(row_, other.row_);
  return *this;
}

void Statement::bind_text(int index, std::string_view text) {
  sqlite3_bind_text64(statement_, index, text.data() == nullptr ? "" : text.data(), text.size(),
                      SQLITE_TRANSIENT, SQLITE_UTF8);
}

void Statement::bind_blob(int index, std::string_view bytes) {
  sqlite3_bind_blob64(statement_, index, bytes.data() == nullptr ? "" : bytes.data(), bytes.size(),
                      SQLITE_TRANSIENT);
}

absl::Status Statement::step() {
  const int code = sqlite3_step(statement_);
  row_ = code == SQLITE_ROW;
  if (row_) return absl::OkStatus();
  const absl::Status status =
      code == SQLITE_DONE ? absl::OkStatus() : error_of(sqlite3_db_handle(statement_), code);
  sqlite3_reset(statement_);
  return status;
}

absl::Status Statement::run() {
  absl::Status status = step();
  sqlite3_reset(statement_);
  return status;
}

std::string Statement::bytes(int column) const {
  const void* const data = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  return data == nullptr ? std::string()
                         : std::string(static_cast<const char*>(data), static_cast<size_t>(size));
}

Database& Database::operator=(Database&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}

absl::StatusOr<Database> Database::open(const std::string& path, int flags,
                                        int64_t busy_timeout_ns) {
  if (!Connections::instance().begin()) {
    return absl::FailedPreconditionError(
        cat("snapshot_forked: ", path,
            ": this process was forked while a snapshot's file was open, and SQLite can not be "
            "used in it; fork before a Snapshotter or SnapshotThread is made, or exec"));
  }
  Database database;
  const int code = sqlite3_open_v2(without_linked_directories(path).c_str(), &database.handle_,
                                   flags | kFlags, nullptr);
  if (code != SQLITE_OK) {
    absl::Status status = error_of(database.handle_, code, path);
    if (database.handle_ == nullptr) Connections::instance().end();
    return status;
  }
  // The file may be anybody's: nothing in its schema runs with more rights than plain arithmetic.
  sqlite3_db_config(database.handle_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(database.handle_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_busy_timeout(database.handle_, static_cast<int>(std::clamp<int64_t>(
                                             busy_timeout_ns / 1000000, 0, 1 << 30)));
  return database;
}

void Database::close() {
  if (handle_ == nullptr) return;
  sqlite3_close_v2(handle_);
  handle_ = nullptr;
  Connections::instance().end();
}

absl::Status Database::execute(const char* sql) {
  const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : error_of(handle_, code);
}

absl::StatusOr<Statement> Database::prepare(std::string_view sql) {
  Statement statement;
  const int code = sqlite3_prepare_v2(handle_, sql.data(), static_cast<int>(sql.size()),
                                      &statement.statement_, nullptr);
  if (code != SQLITE_OK) return error_of(handle_, code);
  return statement;
}

absl::StatusOr<std::optional<int64_t>> Database::integer(std::string_view sql) {
  absl::StatusOr<Statement> query = prepare(sql);
  if (!query.ok()) return query.status();
  if (absl::Status status = query->step(); !status.ok()) return status;
  return query->row() ? std::optional<int64_t>(query->integer(0)) : std::nullopt;
}

absl::StatusOr<Transaction> Transaction::begin(Database& database, const char* how) {
  if (absl::Status status = database.execute(how); !status.ok()) return status;
  return Transaction(&database);
}

Transaction::~Transaction() {
  if (database_ != nullptr && database_->is_open()) database_->execute("ROLLBACK").IgnoreError();
}

absl::Status Transaction::commit() {
  absl::Status status = database_->execute("COMMIT");
  if (status.ok()) database_ = nullptr;
  return status;
}

}  // namespace brim::snapshot
