// SPDX-License-Identifier: MIT
#include "shm/segment_file.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "shm/identity.h"
#include "src/base/random.h"
#include "src/base/text.h"

namespace brim::shm {

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) close(fd_);
    fd_ = other.release();
  }
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

absl::Status errno_status(int error, std::string_view call, std::string_view path) {
  const std::string text = cat(shown_path(path), ": ", call, ": ", strerror(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(
          cat("segment_not_found: ", text, "; create it first (brim create), or check the name"));
    case EEXIST:
      return absl::AlreadyExistsError(
          cat("segment_exists: ", text, "; attach to it, remove it (brim unlink) or replace it"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(
          cat("permission_denied: ", text,
              "; run as its owner, or create it with mode 0660 and a group of yours"));
    case ELOOP:
    case EISDIR:
    case ENXIO:
    case ENOTDIR:
      return absl::FailedPreconditionError(
          cat("segment_not_regular: ", text, "; a segment is a regular file: use another name"));
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(
          cat("no_descriptors: ", text, "; raise the limit on open files (ulimit -n)"));
    case ENOMEM:
      return absl::ResourceExhaustedError(
          cat("no_memory: ", text, "; raise the memory or address-space limit"));
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(
          cat("no_space: ", text, "; free space or inodes there, or use a larger tmpfs"));
    case EROFS:
      return absl::FailedPreconditionError(
          cat("read_only_file_system: ", text, "; use a path on a writable tmpfs"));
    default:
      return absl::InternalError(cat("system_error: ", text));
  }
}

absl::Status no_entropy() {
  return absl::UnavailableError("no_entropy: getrandom(2) gave no bytes for the hash key");
}

absl::StatusOr<int64_t> group_id(const std::string& group) {
  if (group.empty()) return int64_t{-1};
  std::vector<char> buffer(16384);
  struct group entry {};
  struct group* found = nullptr;
  getgrnam_r(group.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found != nullptr) return static_cast<int64_t>(found->gr_gid);
  return absl::InvalidArgumentError(
      cat("invalid_option: there is no group '", group, "'; create it with groupadd"));
}

namespace {

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string self_path(int fd) { return cat("/proc/self/fd/", fd); }

absl::Status no_space(const std::string& path, uint64_t need, uint64_t have,
                      std::string_view remedy) {
  return absl::ResourceExhaustedError(cat("no_space: ", shown_path(path), " needs ", need,
                                          " bytes and ", have, " are free; ", remedy));
}

// Reserves every byte now: a full file system is an error here, not a SIGBUS later.
absl::Status allocate(int fd, const std::string& path, uint64_t size) {
  // Past this limit the kernel would not only refuse but send SIGXFSZ.
  rlimit limit{};
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      size > limit.rlim_cur) {
    return no_space(path, size, limit.rlim_cur, "raise the file-size limit (ulimit -f)");
  }
  // In steps: a signal undoes only the one it interrupts.
  constexpr uint64_t kStep = uint64_t{16} << 20;
  int rc = 0;
  for (uint64_t done = 0; done < size && rc == 0;) {
    const uint64_t step = std::min(kStep, size - done);
    rc = posix_fallocate(fd, static_cast<off_t>(done), static_cast<off_t>(step));
    if (rc == 0) done += step;
    if (rc == EINTR) rc = 0;
  }
  if (rc == 0) return absl::OkStatus();
  if (rc == ENOSPC || rc == EFBIG) {
    struct statvfs fs {};
    const uint64_t have = fstatvfs(fd, &fs) == 0 ? uint64_t{fs.f_bavail} * fs.f_frsize : 0;
    return no_space(path, size, have,
                    "give a smaller capacity or name_bytes, or a larger tmpfs "
                    "(mount -o remount,size=..., docker --shm-size)");
  }
  return errno_status(rc, "posix_fallocate", path);
}

// The hash key comes into being here and is in the file only: a copy that is left on a stack would
// be in a core dump.
absl::Status write_header(int fd, const std::string& path, const HeaderFields& planned,
                          const SegmentSpec& spec) {
  HeaderFields header = planned;
  ssize_t n = -1;
  const bool keyed = set_hash_seed(spec.hash_seed, header) ||
                     (fill_random(header.hash_key, sizeof(header.hash_key)) &&
                      fill_random(header.hash_secret, sizeof(header.hash_secret)));
  if (keyed) n = pwrite(fd, &header, sizeof(header), 0);
  explicit_bzero(&header, sizeof(header));
  if (!keyed) return no_entropy();
  if (n == static_cast<ssize_t>(sizeof(header))) return absl::OkStatus();
  return errno_status(n < 0 ? errno : EIO, "write", path);
}

// The policies are there before the name is: nobody ever attaches a segment without them.
absl::Status write_policies(int fd, const std::string& path, const HeaderFields& header,
                            const SegmentSpec& spec) {
  if (spec.policies.empty()) return absl::OkStatus();
  std::vector<PolicyRecord> records(header.max_policies);
  Registry registry(records.data(), header.max_policies, -1);
  for (const SpecPolicy& policy : spec.policies) {
    const auto number = registry.add(policy.name, policy.words, policy.text);
    if (!number.ok()) return number.status();
  }
  const size_t size = spec.policies.size() * sizeof(PolicyRecord);
  const Section& section = header.sections[0];  // as laid out by plan()
  const ssize_t n = pwrite(fd, records.data(), size, static_cast<off_t>(section.offset));
  if (n == static_cast<ssize_t>(size)) return absl::OkStatus();
  return errno_status(n < 0 ? errno : EIO, "write the policies", path);
}

absl::Status set_access(int fd, const std::string& path, const SegmentSpec& spec,
                        const Access& access) {
  if (access.gid >= 0 && fchown(fd, static_cast<uid_t>(-1), static_cast<gid_t>(access.gid)) != 0) {
    return errno_status(errno, "fchown to the group", path);
  }
  if (fchmod(fd, spec.mode) != 0) return errno_status(errno, "fchmod", path);
  return absl::OkStatus();
}

// An unnamed file where the file system knows O_TMPFILE; else one with a name of its own, which
// `temporary` then holds.
absl::StatusOr<FileDescriptor> open_unpublished(const std::string& path, std::string& temporary) {
  const std::string directory = directory_of(path);
  int fd = open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0 && errno == ENOENT) {
    return absl::FailedPreconditionError(
        cat("no_directory: ", shown_path(path), ": there is no directory ", shown_path(directory),
            "; make it first (mkdir), or give a plain name for a segment in /dev/shm"));
  }
  if (fd < 0 && errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) {
    return errno_status(errno, "open the directory", path);
  }
  if (fd < 0) {
    uint64_t unique = 0;
    if (!fill_random(&unique, sizeof(unique))) return no_entropy();
    temporary = cat(directory, "/.brim-new-", hex(unique, 16));
    fd = open(temporary.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return errno_status(errno, "create", temporary);
  }
  return FileDescriptor(fd);
}

absl::Status unsupported(int fd, const std::string& path) {
  struct statfs fs {};
  const uint64_t type = fstatfs(fd, &fs) == 0 ? static_cast<uint32_t>(fs.f_type) : 0;
  return absl::FailedPreconditionError(
      cat("file_system_unsupported: ", shown_path(path), " is on a file system of type 0x",
          hex(type, 8), ", which has neither O_TMPFILE nor RENAME_NOREPLACE; use a path on tmpfs"));
}

// Gives the finished file its name [E1]. Killed before: no name exists. After: all of it does.
absl::Status publish(int fd, const std::string& path, const std::string& temporary) {
  if (temporary.empty()) {
    const std::string from = self_path(fd);
    if (linkat(AT_FDCWD, from.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      return absl::OkStatus();
    }
    return errno_status(errno, "link", path);
  }
  // Moved. Linked and unlinked, the file would have two names for a moment, or for ever if this
  // process is killed then, and attachers refuse such a file.
  if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0) {
    return absl::OkStatus();
  }
  if (errno != EINVAL && errno != ENOSYS) return errno_status(errno, "rename", path);
  return unsupported(fd, path);
}

// Takes the name over from an old file: link under a temporary name, then rename(2), so that the
// name is never absent. The old file's lock keeps two replacers apart, so that the temporary name
// can be one for each target: what a killed replacer left is cleared away by the next.
absl::Status publish_over(int fd, const std::string& path, const std::string& temporary) {
  const FileDescriptor old(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (old.get() < 0) {
    return errno == ENOENT ? publish(fd, path, temporary) : errno_status(errno, "open", path);
  }
  struct stat st {};
  struct stat named {};
  if (fstat(old.get(), &st) != 0 || !S_ISREG(st.st_mode)) {
    return errno_status(EISDIR, "replace", path);
  }
  if (st.st_uid != geteuid() && geteuid() != 0) return errno_status(EACCES, "replace", path);
  // Not for ever: whoever may open the old file can hold its lock.
  const Registry::WriteLock lock(old.get());
  if (!lock.held()) {
    return absl::UnavailableError(
        cat("lock_failed: flock on ", shown_path(path), ": ", strerror(errno),
            "; end whoever holds it, or remove the name first (brim unlink)"));
  }
  if (stat(path.c_str(), &named) != 0 || named.st_ino != st.st_ino) {
    return errno_status(EEXIST, "replace (somebody else just did)", path);
  }
  std::string own = temporary;
  if (own.empty()) {
    own = cat(directory_of(path), "/.brim-new-", path.substr(path.rfind('/') + 1));
    ::unlink(own.c_str());
    if (absl::Status status = publish(fd, own, temporary); !status.ok()) return status;
  }
  if (rename(own.c_str(), path.c_str()) == 0) return absl::OkStatus();
  const int error = errno;
  ::unlink(own.c_str());
  return errno_status(error, "rename", path);
}

// Whose file may stand under the name, and who else may have rights to it.
absl::Status check_owner(const struct stat& st, const Access& access, const std::string& path) {
  const bool named_group = access.gid >= 0 && st.st_gid == static_cast<gid_t>(access.gid);
  const bool trusted = st.st_uid == geteuid() || st.st_uid == 0 ||
                       static_cast<int64_t>(st.st_uid) == access.owner_uid || named_group ||
                       (access.read_only && geteuid() == 0);
  if (!trusted) {
    return absl::PermissionDeniedError(
        cat("segment_foreign_owner: ", shown_path(path), " belongs to uid ", st.st_uid,
            ", this process is uid ", geteuid(),
            "; name its group or owner in the options if you trust it"));
  }
  if ((st.st_mode & 0007) != 0) {
    return absl::PermissionDeniedError(
        cat("segment_unsafe_mode: ", shown_path(path), " has mode ", octal_mode(st.st_mode),
            ": others could read its hash key or change its state; chmod it to 0600, or to 0660 "
            "with a group you name in the options"));
  }
  // Whoever only looks has nothing that the group could take from it.
  if ((st.st_mode & 0070) != 0 && !named_group && !access.group_bits && !access.read_only) {
    return absl::PermissionDeniedError(
        cat("segment_unsafe_mode: ", shown_path(path), " has mode ", octal_mode(st.st_mode),
            " and gid ", st.st_gid,
            ", which was not named: name that group in the options (--group) if its members may "
            "read the hash key and change the state; else chmod it to 0600"));
  }
  // A second name may be one that another segment has: two limiters would share one table.
  if (st.st_nlink > 1) {
    return absl::PermissionDeniedError(cat("segment_hard_linked: ", shown_path(path), " is one of ",
                                           st.st_nlink,
                                           " names of its file; find the others (find -inum ",
                                           st.st_ino, ") and remove them, or use another name"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<FileDescriptor> create_segment_file(
    const std::string& path, const HeaderFields& header, const SegmentSpec& spec,
    const Access& access, const std::function<absl::Status(int)>& prepare) {
  std::string temporary;
  absl::StatusOr<FileDescriptor> file = open_unpublished(path, temporary);
  if (!file.ok()) return file.status();
  const int fd = file->get();
  absl::Status status = allocate(fd, path, header.total_size);
  if (status.ok()) status = write_header(fd, path, header, spec);
  if (status.ok()) status = write_policies(fd, path, header, spec);
  if (status.ok()) status = set_access(fd, path, spec, access);
  if (status.ok() && prepare) status = prepare(fd);
  if (status.ok()) {
    status = spec.replace ? publish_over(fd, path, temporary) : publish(fd, path, temporary);
  }
  if (!temporary.empty()) ::unlink(temporary.c_str());
  if (!status.ok()) return status;
  return file;
}

absl::StatusOr<FileDescriptor> open_segment_file(const std::string& path, const Access& access,
                                                 HeaderFields& header) {
  const int flags = access.read_only ? O_RDONLY : O_RDWR;
  FileDescriptor file;
  struct stat st {};
  // A file that lost its name since it was opened was replaced, or removed: look again.
  for (int tries = 0; tries < 100; ++tries) {
    file =
        FileDescriptor(open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
    if (file.get() < 0) return errno_status(errno, "open", path);
    if (fstat(file.get(), &st) != 0) return errno_status(errno, "fstat", path);
    if (!S_ISREG(st.st_mode)) return errno_status(EISDIR, "open", path);
    if (st.st_nlink != 0) break;
  }
  if (st.st_nlink == 0) return errno_status(ENOENT, "open (each time it was just replaced)", path);
  if (absl::Status status = check_owner(st, access, path); !status.ok()) return status;
  const auto size = static_cast<uint64_t>(st.st_size);
  if (size < sizeof(SegmentHeader)) {
    return absl::DataLossError(cat("segment_truncated: ", shown_path(path), " has ", size,
                                   " bytes, a segment has at least ", sizeof(SegmentHeader),
                                   "; recreate it (brim create --recreate)"));
  }
  // Read, not mapped: a field can not change between its check and its use, and a file that is cut
  // meanwhile gives a short read instead of a SIGBUS.
  const ssize_t n = pread(file.get(), &header, sizeof(header), 0);
  if (n != static_cast<ssize_t>(sizeof(header))) {
    return errno_status(n < 0 ? errno : EIO, "read the header", path);
  }
  if (absl::Status status = check_header(header, size, shown_path(path)); !status.ok())
    return status;
  return file;
}

}  // namespace brim::shm
