// SPDX-License-Identifier: MIT
#include "shm/segment.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/interprocess/exceptions.hpp>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#include "shm/attachments.h"
#include "shm/segment_file.h"
#include "src/base/text.h"

namespace brim::shm {

// Every segment this process has mapped, so that a second open of a name shares the first one's
// mapping. Held across fork(), so a child finds it unlocked.
class SegmentCache {
 public:
  static SegmentCache& instance() {
    static SegmentCache* const cache = new SegmentCache;  // lives as long as the process
    return *cache;
  }

  // Held from find() to add(): two threads that open one name at once share one mapping too.
  std::unique_lock<std::mutex> hold() { return std::unique_lock<std::mutex>(mutex_); }

  // The live mapping of the file behind `fd`, or null. REQUIRES: hold().
  std::shared_ptr<Segment> find(int fd, bool read_only) {
    struct stat st {};
    if (fstat(fd, &st) != 0) return nullptr;
    for (const std::weak_ptr<Segment>& weak : segments_) {
      std::shared_ptr<Segment> segment = weak.lock();
      if (segment != nullptr && segment->device_ == st.st_dev && segment->inode_ == st.st_ino &&
          segment->read_only_ == read_only) {
        return segment;
      }
    }
    return nullptr;
  }

  // REQUIRES: hold().
  void add(const std::shared_ptr<Segment>& segment) {
    std::erase_if(segments_, [](const auto& weak) { return weak.expired(); });
    segments_.push_back(segment);
  }

 private:
  SegmentCache() {
    pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                   [] {
                     instance().enter_all();
                     instance().mutex_.unlock();
                   });
  }

  // A forked child is one more attached process.
  void enter_all() {
    for (const std::weak_ptr<Segment>& weak : segments_) {
      const std::shared_ptr<Segment> segment = weak.lock();
      if (segment == nullptr || segment->read_only_) continue;
      segment->attachment_ = enter_attachment(segment->attachments(),
                                              segment->section(SectionType::kAttachments)->count);
    }
  }

  std::mutex mutex_;
  std::vector<std::weak_ptr<Segment>> segments_;
};

namespace {

// What Boost.Interprocess asks of something that can be mapped.
class Mappable {
 public:
  explicit Mappable(int fd) : fd_(fd) {}
  boost::interprocess::mapping_handle_t get_mapping_handle() const { return {fd_, false}; }

 private:
  int fd_;
};

bool valid_component(std::string_view name) {
  if (name.empty() || name.size() > 200 || name.front() == '.') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

absl::Status check_cpu() {
  if (!cpu_supported()) {
    return absl::UnimplementedError(
        "cpu_unsupported: this CPU lacks AVX or cmpxchg16b, without which a slot can not be read "
        "without writing to it");
  }
  return absl::OkStatus();
}

// Whole pages, so that what is said about them concerns nothing else.
constexpr size_t kPageBytes = 4096;
constexpr size_t whole_pages(size_t bytes) {
  return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

}  // namespace

void* allocate_undumped(size_t bytes) {
  const size_t size = whole_pages(bytes);
  void* const memory = ::operator new(size, std::align_val_t(kPageBytes));
  madvise(memory, size, MADV_DONTDUMP);
  return memory;
}

void free_undumped(void* memory, size_t bytes) noexcept {
  const size_t size = whole_pages(bytes);
  explicit_bzero(memory, size);
  madvise(memory, size, MADV_DODUMP);
  ::operator delete(memory, std::align_val_t(kPageBytes));
}

absl::StatusOr<std::string> segment_path(std::string_view name) {
  std::string_view bare = name;
  if (!bare.empty() && bare.front() == '/') bare.remove_prefix(1);
  if (valid_component(bare)) return cat(kShmDirectory, "/", bare);
  if (!name.empty() && name.front() == '/' && name.size() < 4000 &&
      name.find('\0') == std::string_view::npos) {
    const size_t slash = name.rfind('/');
    if (slash != 0 && valid_component(name.substr(slash + 1)) &&
        name.find("/../") == std::string_view::npos) {
      return std::string(name);
    }
  }
  return absl::InvalidArgumentError(cat(
      "invalid_name: segment name '", printable(name), "' (", name.size(),
      " bytes); give 1 to 200 characters of A-Z a-z 0-9 . _ - that do not begin with a dot, or an "
      "absolute path whose last part is such a name"));
}

absl::StatusOr<std::shared_ptr<Segment>> Segment::create(std::string_view name,
                                                         const SegmentSpec& spec,
                                                         const Access& access) {
  if (absl::Status status = check_cpu(); !status.ok()) return status;
  absl::StatusOr<std::string> path = segment_path(name);
  if (!path.ok()) return path.status();
  const std::string named_path = *path;
  if (!spec.path.empty()) path = spec.path;
  const absl::StatusOr<HeaderFields> header = plan(spec);
  if (!header.ok()) return header.status();
  uint64_t inode = 0;
  {
    const auto prepare = [&](int fd) -> absl::Status {
      if (!spec.prepare) return absl::OkStatus();
      const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
      if (own < 0) return errno_status(errno, "fcntl(F_DUPFD_CLOEXEC)", *path);
      const std::shared_ptr<Segment> unpublished(new Segment);
      // From the file, for the hash key is nowhere else.
      HeaderFields& read = unpublished->header_;
      if (pread(own, &read, sizeof(read), 0) != sizeof(read)) {
        close(own);
        return errno_status(EIO, "read", *path);
      }
      if (absl::Status status = unpublished->take(own, name, *path, access); !status.ok()) {
        return status;
      }
      return spec.prepare(unpublished);
    };
    const auto file = create_segment_file(*path, *header, spec, access, prepare);
    if (!file.ok()) return file.status();
    struct stat st {};
    if (fstat(file->get(), &st) == 0) inode = st.st_ino;
  }
  Access own = access;  // whatever was just published is ours, unless someone replaced it already
  own.owner_uid = geteuid();
  own.group_bits = (spec.mode & 0070) != 0;
  auto attached = attach_file(*path, name, named_path, own);
  struct stat named {};
  if (!attached.ok() && stat(path->c_str(), &named) == 0 && named.st_ino == inode) {
    ::unlink(path->c_str());  // made, but not to be mapped: no address space, say
  }
  return attached;
}

absl::StatusOr<std::shared_ptr<Segment>> Segment::attach(std::string_view name,
                                                         const Access& access) {
  const absl::StatusOr<std::string> path = segment_path(name);
  if (!path.ok()) return path.status();
  return attach_file(*path, name, *path, access);
}

absl::StatusOr<std::shared_ptr<Segment>> Segment::attach_file(const std::string& file_path,
                                                              std::string_view name,
                                                              const std::string& path,
                                                              const Access& access) {
  if (absl::Status status = check_cpu(); !status.ok()) return status;
  // The header is read to where it stays: a copy elsewhere would hold the hash key.
  std::shared_ptr<Segment> segment(new Segment);
  absl::StatusOr<FileDescriptor> file = open_segment_file(file_path, access, segment->header_);
  if (!file.ok()) return file.status();
  SegmentCache& cache = SegmentCache::instance();
  const std::unique_lock<std::mutex> hold = cache.hold();
  if (std::shared_ptr<Segment> known = cache.find(file->get(), access.read_only)) return known;

  if (absl::Status status = segment->take(file->release(), name, path, access); !status.ok()) {
    return status;
  }
  cache.add(segment);
  return segment;
}

absl::Status Segment::take(int fd, std::string_view name, std::string_view path,
                           const Access& access) {
  fd_ = fd;
  read_only_ = access.read_only;
  name_ = std::string(name);
  path_ = std::string(path);
  return map(access);
}

absl::Status Segment::map(const Access& access) {
  namespace ipc = boost::interprocess;
  struct stat st {};
  if (fstat(fd_, &st) != 0) return errno_status(errno, "fstat", path_);
  device_ = st.st_dev;
  inode_ = st.st_ino;
  try {
    region_ = ipc::mapped_region(Mappable(fd_), read_only_ ? ipc::read_only : ipc::read_write, 0,
                                 header_.total_size);
  } catch (const ipc::interprocess_exception& error) {
    return errno_status(error.get_native_error(), "mmap", path_);
  }
  base_ = static_cast<char*>(region_.get_address());
  // The hash key and everybody's keys stay out of core dumps.
  madvise(base_, header_.total_size, MADV_DONTDUMP);
  if (access.huge_pages) madvise(base_, header_.total_size, MADV_HUGEPAGE);
  if (header_.name_bytes != 0) {
    const Section* const names = section(SectionType::kNames);
    names_ = base_ + names->offset;
    name_stride_ = names->element_size;
  }
  if (read_only_) return absl::OkStatus();
  void* const page = mmap(nullptr, sizeof(ProcessLocal), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return errno_status(errno, "mmap", path_);
  local_ = static_cast<ProcessLocal*>(page);
  if (madvise(page, sizeof(ProcessLocal), MADV_WIPEONFORK) != 0) {
    return errno_status(errno, "madvise(MADV_WIPEONFORK)", path_);
  }
  attachment_ = enter_attachment(attachments(), section(SectionType::kAttachments)->count);
  return absl::OkStatus();
}

absl::Status Segment::unlink(std::string_view name) {
  const absl::StatusOr<std::string> path = segment_path(name);
  if (!path.ok()) return path.status();
  // Only a segment is removed: a damaged one is, a foreign file is not.
  const FileDescriptor file(open(path->c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (file.get() < 0) return errno_status(errno, "open", *path);
  struct stat st {};
  if (fstat(file.get(), &st) != 0) return errno_status(errno, "fstat", *path);
  if (!S_ISREG(st.st_mode)) return errno_status(EISDIR, "unlink", *path);
  uint64_t magic = 0;
  const ssize_t n = pread(file.get(), &magic, sizeof(magic), 0);
  if (n < 0) return errno_status(errno, "read", *path);
  // Cut within the magic, or empty: a damaged segment.
  if (std::memcmp(&magic, &kMagic, static_cast<size_t>(n)) != 0) {
    return absl::FailedPreconditionError(cat("segment_bad_magic: ", shown_path(*path),
                                             " is not a brim segment; it was not removed"));
  }
  if (::unlink(path->c_str()) != 0) return errno_status(errno, "unlink", *path);
  return absl::OkStatus();
}

Segment::~Segment() {
  if (base_ != nullptr && !read_only_) {
    leave_attachment(attachments(), section(SectionType::kAttachments)->count, attachment_);
  }
  if (local_ != nullptr) munmap(local_, sizeof(ProcessLocal));
  if (fd_ >= 0) close(fd_);
}

bool Segment::linked() const noexcept {
  struct stat st {};
  if (stat(path_.c_str(), &st) != 0) return false;
  return st.st_dev == device_ && st.st_ino == inode_;
}

const Section* Segment::section(SectionType type) const noexcept {
  for (uint32_t i = 0; i < header_.section_count; ++i) {
    if (header_.sections[i].type == static_cast<uint32_t>(type)) return &header_.sections[i];
  }
  return nullptr;
}

// Relaxed, both: a number to show or to judge by itself.
uint64_t Segment::stored_reach() const noexcept {
  return shared()->reach.load(std::memory_order_relaxed);
}
uint64_t Segment::attach_ids() const noexcept {
  return shared()->next_attach_id.load(std::memory_order_relaxed);
}

bool Segment::limit_reach(uint64_t seen, uint64_t most) noexcept {
  // Seq_cst as every change of it [E4]. Killed here: the old value, which means the same.
  return seen > most && shared()->reach.compare_exchange_strong(
                            seen, most, std::memory_order_seq_cst, std::memory_order_seq_cst);
}

uint32_t Segment::attach_id() noexcept {
  constexpr uint32_t kAssigned = uint32_t{1} << 31;
  // Relaxed: the id is the whole message; a race between threads only skips an id.
  uint32_t id = local_->attach_id.load(std::memory_order_relaxed);
  if (id != 0) return id;
  // Killed here: an id that nobody has.
  BRIM_STORE_POINT();
  const uint64_t fresh = shared()->next_attach_id.fetch_add(1, std::memory_order_relaxed);
  const uint32_t wanted = kAssigned | (static_cast<uint32_t>(fresh) & ((1u << kAttachIdBits) - 1));
  local_->attach_id.compare_exchange_strong(id, wanted, std::memory_order_relaxed);
  return id == 0 ? wanted : id;
}

Word Segment::next_tentative(int64_t now_ns) noexcept {
  const uint32_t id = attach_id();
  return make_tentative(id, local_->counter.fetch_add(1, std::memory_order_relaxed), now_ns);
}

}  // namespace brim::shm
