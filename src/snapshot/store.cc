// SPDX-License-Identifier: MIT
#include "src/snapshot/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <span>
#include <string_view>

#include "src/base/text.h"

namespace brim::snapshot {

namespace {

constexpr std::string_view kTables[] = {
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE policies(number INTEGER PRIMARY KEY, name TEXT NOT NULL, text TEXT NOT NULL,"
    " factor_ppm INTEGER NOT NULL)",
    "CREATE TABLE rates(policy INTEGER, part INTEGER, kind TEXT NOT NULL, permits INTEGER,"
    " period_ns INTEGER, unit_shift INTEGER, slowest_ppm INTEGER, most_permits INTEGER,"
    " PRIMARY KEY(policy, part)) WITHOUT ROWID",
    "CREATE TABLE keys(slot INTEGER PRIMARY KEY, policy INTEGER NOT NULL, part INTEGER NOT NULL,"
    " fingerprint INTEGER NOT NULL, key, key_length INTEGER, place INTEGER, kind TEXT NOT NULL,"
    " used INTEGER NOT NULL, before INTEGER NOT NULL, until_ns INTEGER NOT NULL,"
    " barred INTEGER NOT NULL, left_ns TEXT NOT NULL, as_of_ns INTEGER NOT NULL,"
    " sum INTEGER NOT NULL)",
    "CREATE TABLE overrides(hash BLOB, policy TEXT, use TEXT NOT NULL, PRIMARY KEY(hash, policy))"
    " WITHOUT ROWID",
    "CREATE TABLE override_details(hash BLOB, policy TEXT, key, key_length INTEGER NOT NULL,"
    " ends_ns INTEGER, PRIMARY KEY(hash, policy)) WITHOUT ROWID"};
// Those of version 1 come first.
constexpr size_t kTablesOfOldest = 5;
// What ANALYZE makes, if somebody ran it.
constexpr std::string_view kStatistics[] = {
    "CREATE TABLE sqlite_stat1(tbl,idx,stat)",
    "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)"};
constexpr char kView[] =
    "CREATE VIEW states AS SELECT"
    " coalesce(p.name, k.policy) AS policy, k.part AS part,"
    " coalesce(k.key, printf('#%013x', k.fingerprint)) AS key, k.kind AS kind,"
    " CASE k.kind WHEN 'bucket' THEN round(k.used * 1.0 / (1 << r.unit_shift), 6) ELSE k.used END"
    " AS permits_used, k.before AS before, k.barred AS barred,"
    " strftime('%Y-%m-%dT%H:%M:%SZ', t.zero + k.as_of_ns / 1e9, 'unixepoch') AS as_of,"
    " strftime('%Y-%m-%dT%H:%M:%SZ', t.zero + (k.as_of_ns + k.until_ns) / 1e9, 'unixepoch')"
    " AS until"
    " FROM keys k LEFT JOIN policies p ON p.number = k.policy"
    " LEFT JOIN rates r ON r.policy = k.policy AND r.part = k.part,"
    " (SELECT ((SELECT value FROM meta WHERE name = 'wall_ns')"
    " - (SELECT value FROM meta WHERE name = 'monotonic_ns')) / 1e9 AS zero) t";

// A view in a table's place, a table with generated columns or checks, a trigger: each is a program
// of whoever made the file, which reading it or writing to it would run, perhaps for ever.
absl::Status check_schema(Database& database, const std::string& path, int64_t version) {
  const std::span tables(kTables, version == kOldestVersion ? kTablesOfOldest : std::size(kTables));
  auto select = database.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL");
  if (!select.ok()) return select.status();
  size_t found = 0;
  absl::Status status = select->step();
  for (; status.ok() && select->row(); status = select->step()) {
    const std::string sql = select->bytes(0);
    const auto is = [&](const auto& list) {
      return std::find(std::begin(list), std::end(list), sql) != std::end(list);
    };
    const bool ours = is(tables);
    found += ours ? 1 : 0;
    const bool unused = sql.starts_with("CREATE VIEW ") || sql.starts_with("CREATE INDEX ") ||
                        sql.starts_with("CREATE UNIQUE INDEX ");
    if (ours || unused || is(kStatistics)) continue;
    return absl::DataLossError(
        cat("snapshot_corrupt: ", path, " has what no snapshot has: ", printable(sql, 200)));
  }
  if (!status.ok() || found == tables.size()) return status;
  return absl::DataLossError(cat("snapshot_corrupt: ", path, " lacks a table of a snapshot"));
}

// Neither the tables of somebody else's database nor those of an unknown version are touched.
absl::StatusOr<int64_t> check_identity(Database& database, const std::string& path) {
  const auto id = database.integer("PRAGMA application_id");
  if (!id.ok()) return id.status();
  const auto version = database.integer("PRAGMA user_version");
  if (!version.ok()) return version.status();
  if (id->value_or(0) != kApplicationId) {
    return absl::FailedPreconditionError(
        cat("snapshot_foreign: ", path, " is a database, but not a snapshot of brim"));
  }
  const int64_t found = version->value_or(0);
  if (found < kOldestVersion || found > kSchemaVersion) {
    return absl::FailedPreconditionError(cat("snapshot_version: ", path, " has schema version ",
                                             found, ", this library knows ", kOldestVersion, " to ",
                                             kSchemaVersion));
  }
  if (absl::Status status = check_schema(database, path, found); !status.ok()) return status;
  return found;
}

// In one transaction: a killed writer leaves the old version or the new one, both whole.
absl::Status bring_up_to_date(Database& database) {
  auto transaction = Transaction::begin(database, "BEGIN IMMEDIATE");
  if (!transaction.ok()) return transaction.status();
  const auto version = database.integer("PRAGMA user_version");  // another may have been faster
  if (!version.ok()) return version.status();
  if (version->value_or(0) != kOldestVersion) return transaction->commit();
  for (size_t i = kTablesOfOldest; i < std::size(kTables); ++i) {
    if (absl::Status status = database.execute(kTables[i].data()); !status.ok()) return status;
  }
  const std::string mark = cat("PRAGMA user_version = ", kSchemaVersion);
  if (absl::Status status = database.execute(mark.c_str()); !status.ok()) return status;
  return transaction->commit();
}

absl::Status check_path(const std::string& path, bool& exists) {
  struct stat st {};
  exists = lstat(path.c_str(), &st) == 0;
  if (!exists) return absl::OkStatus();
  if (S_ISLNK(st.st_mode)) {
    return absl::FailedPreconditionError(
        cat("snapshot_symlink: ", path, " is a symbolic link; give the file itself"));
  }
  if (!S_ISREG(st.st_mode)) {
    return absl::FailedPreconditionError(
        cat("snapshot_not_regular: ", path, " is no regular file"));
  }
  if (st.st_uid != geteuid() && st.st_uid != 0 && geteuid() != 0) {
    return absl::PermissionDeniedError(cat(
        "snapshot_foreign_owner: ", path, " belongs to uid ", st.st_uid, ", this process is uid ",
        geteuid(), "; whoever wrote it could ban keys or foresee their places"));
  }
  return absl::OkStatus();
}

// True on a read-only file system or in a folder that is not ours, without a log: nobody writes,
// and SQLite could not make the files that readers share.
bool is_at_rest(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  return access(folder.c_str(), W_OK) != 0 && access(cat(path, "-wal").c_str(), F_OK) != 0;
}

std::string immutable_uri(const std::string& path) {
  std::string uri = "file:";
  for (const char each : path) {
    const bool plain = each != '%' && each != '?' && each != '#';
    uri += plain ? std::string(1, each) : cat("%", hex(static_cast<uint8_t>(each), 2));
  }
  return uri + "?immutable=1";
}

const char* pragma_of(Synchronous synchronous) {
  switch (synchronous) {
    case Synchronous::kFull:
      break;
    case Synchronous::kNormal:
      return "PRAGMA synchronous = NORMAL";
    case Synchronous::kOff:
      return "PRAGMA synchronous = OFF";
  }
  return "PRAGMA synchronous = FULL";
}

absl::Status create_schema(Database& database) {
  auto transaction = Transaction::begin(database, "BEGIN IMMEDIATE");
  if (!transaction.ok()) return transaction.status();
  for (const std::string_view table : kTables) {
    if (absl::Status status = database.execute(table.data()); !status.ok()) return status;
  }
  if (absl::Status status = database.execute(kView); !status.ok()) return status;
  const std::string marks =
      cat("PRAGMA application_id = ", kApplicationId, "; PRAGMA user_version = ", kSchemaVersion);
  if (absl::Status status = database.execute(marks.c_str()); !status.ok()) return status;
  return transaction->commit();
}

}  // namespace

absl::Status create_private(const std::string& path) {
  const int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) {
    return absl::PermissionDeniedError(cat("snapshot_unwritable: ", path, ": ", strerror(errno),
                                           "; give a file in a writable directory of this user"));
  }
  ::close(fd);
  return absl::OkStatus();
}

absl::StatusOr<bool> is_blank(Database& database) {
  const auto id = database.integer("PRAGMA application_id");
  if (!id.ok()) return id.status();
  const auto version = database.integer("PRAGMA user_version");
  if (!version.ok()) return version.status();
  const auto entries = database.integer("SELECT count(*) FROM sqlite_master");
  if (!entries.ok()) return entries.status();
  return (id->value_or(1) | version->value_or(1) | entries->value_or(1)) == 0;
}

absl::StatusOr<Database> open_to_read(const std::string& path) {
  bool exists = false;
  if (absl::Status status = check_path(path, exists); !status.ok()) return status;
  if (!exists) {
    return absl::NotFoundError(cat("snapshot_not_found: there is no file ", path));
  }
  // Read-write where that is allowed: a log that a killed writer left has to be read in.
  const bool writable = access(path.c_str(), W_OK) == 0;
  auto database =
      is_at_rest(path)
          ? Database::open(immutable_uri(path), SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, 0)
          : Database::open(path, writable ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY,
                           5000000000);
  if (!database.ok()) return database.status();
  const auto version = check_identity(*database, path);
  if (!version.ok()) return version.status();
  return database;
}

absl::StatusOr<Database> open_to_write(const std::string& path, const SnapshotOptions& options) {
  bool exists = false;
  if (absl::Status status = check_path(path, exists); !status.ok()) return status;
  if (!exists) {
    if (absl::Status status = create_private(path); !status.ok()) return status;
  }
  struct stat st {};
  if (::stat(path.c_str(), &st) == 0 && (st.st_mode & 0077) != 0) {
    ::chmod(path.c_str(), 0600);  // it holds the hash key
  }
  auto database = Database::open(path, SQLITE_OPEN_READWRITE, options.busy_timeout_ns);
  if (!database.ok()) return database.status();
  if (absl::Status status = database->execute("PRAGMA journal_mode = WAL"); !status.ok()) {
    return status;
  }
  if (absl::Status status = database->execute(pragma_of(options.synchronous)); !status.ok()) {
    return status;
  }
  const auto blank = is_blank(*database);
  if (!blank.ok()) return blank.status();
  if (*blank) {  // ours, or a creator was killed
    if (absl::Status status = create_schema(*database); !status.ok()) return status;
  }
  const auto version = check_identity(*database, path);
  if (!version.ok()) return version.status();
  if (*version != kSchemaVersion) {
    if (absl::Status status = bring_up_to_date(*database); !status.ok()) return status;
  }
  return database;
}

}  // namespace brim::snapshot
