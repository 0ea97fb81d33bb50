// SPDX-License-Identifier: MIT
// One mapped segment: created whole or not at all, attached only after every field was checked.
//
// Creation builds the segment in an unnamed file and gives it its name last [E1]: there is no
// half-made state, its policies are there before its name is, a killed creator leaves nothing (on a
// file system without O_TMPFILE, or when replacing: a file .brim-new-*), and of two creators one
// wins. Boost.Interprocess maps the memory; its managed segments and mutexes are not used: its
// open_or_create waits 300 s for a dead creator, and its mutexes never recover from a dead holder.
#ifndef BRIM_SHM_SEGMENT_H_
#define BRIM_SHM_SEGMENT_H_

#include <sys/types.h>

#include <atomic>
#include <boost/interprocess/mapped_region.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "shm/cells.h"
#include "shm/layout.h"
#include "shm/registry.h"
#include "shm/slot.h"

namespace brim::shm {

inline constexpr char kShmDirectory[] = "/dev/shm";

// A policy that a new segment is published with.
struct SpecPolicy {
  std::string name;
  PolicyWords words;
  std::string text;
};

// What a new segment shall be. REQUIRES: ranges as in plan().
struct SegmentSpec {
  uint64_t capacity = 65536;
  uint32_t name_bytes = 48;
  uint32_t max_policies = 64;
  uint32_t hash_kind = kHashSipHash;
  uint32_t on_full = kOnFullEvict;
  uint32_t probe_limit = 48;
  uint32_t stripes = 0;  // 0: one a CPU and one for all others
  uint32_t attachments = 128;
  uint32_t cells_per_key = 0;
  uint32_t overrides = 1024;
  bool cluster = false;  // room for what keys have used, for other nodes
  uint32_t mode = 0600;
  std::vector<SpecPolicy> policies = {};      // REQUIRES: names that differ
  bool replace = false;                       // take the name over from whatever has it
  std::string hash_seed = {};                 // as given by hash_seed(); empty: a new random one
  std::string path = {};                      // a file other than the one behind the name
  const HeaderFields* predecessor = nullptr;  // whose keys it takes over
  // Fills the new segment before it has a name; an error abandons it.
  std::function<absl::Status(const std::shared_ptr<class Segment>&)> prepare = {};
};

struct Access {
  bool read_only = false;
  bool huge_pages = false;
  int64_t gid = -1;         // trusted, and given to a new segment
  int64_t owner_uid = -1;   // trusted
  bool group_bits = false;  // permission for whichever group the file has is as asked for
};

// The header of a segment with this spec, without a hash key yet; or InvalidArgument with the value
// and its range.
absl::StatusOr<HeaderFields> plan(const SegmentSpec& spec);

// Checks a header read from a file of `file_size` bytes by arithmetic alone: if it is ok, every
// section that is used lies inside the file. One named error per field.
absl::Status check_layout(const HeaderFields& header, uint64_t file_size, std::string_view path);

// The same, and that the header is of this boot and time namespace: only then may the segment be
// used.
absl::Status check_header(const HeaderFields& header, uint64_t file_size, std::string_view path);

// Number of a system group, -1 for ""; InvalidArgument (invalid_option) if there is none.
absl::StatusOr<int64_t> group_id(const std::string& group);

// The header's hash kind, key and secret as bytes, for a segment whose hashes shall be the same.
std::string hash_seed(const HeaderFields& header);
bool set_hash_seed(std::string_view seed, HeaderFields& header);  // false: not a seed

// File behind a segment name; InvalidArgument (invalid_name) with the rule.
absl::StatusOr<std::string> segment_path(std::string_view name);

// Memory for what holds the hash key: left out of core dumps, wiped when it is given back.
void* allocate_undumped(size_t bytes);
void free_undumped(void* memory, size_t bytes) noexcept;

template <class T>
struct UndumpedAllocator {
  using value_type = T;
  UndumpedAllocator() = default;
  template <class U>
  explicit UndumpedAllocator(const UndumpedAllocator<U>&) noexcept {}
  T* allocate(size_t count) { return static_cast<T*>(allocate_undumped(count * sizeof(T))); }
  void deallocate(T* memory, size_t count) noexcept { free_undumped(memory, count * sizeof(T)); }
  friend bool operator==(const UndumpedAllocator&, const UndumpedAllocator&) = default;
};

class Segment {
 public:
  static void* operator new(size_t bytes) { return allocate_undumped(bytes); }
  static void operator delete(void* memory, size_t bytes) noexcept { free_undumped(memory, bytes); }

  static absl::StatusOr<std::shared_ptr<Segment>> create(std::string_view name,
                                                         const SegmentSpec& spec,
                                                         const Access& access);
  // A second attach to the same file in one process returns the same mapping.
  static absl::StatusOr<std::shared_ptr<Segment>> attach(std::string_view name,
                                                         const Access& access);
  // The same of a file that has not got the segment's name yet; `path` is what it will have.
  static absl::StatusOr<std::shared_ptr<Segment>> attach_file(const std::string& file,
                                                              std::string_view name,
                                                              const std::string& path,
                                                              const Access& access);
  static absl::Status unlink(std::string_view name);

  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  const HeaderFields& header() const noexcept { return header_; }  // private copy
  const std::string& name() const noexcept { return name_; }
  const std::string& path() const noexcept { return path_; }
  bool read_only() const noexcept { return read_only_; }
  int fd() const noexcept { return fd_; }
  // False once the name is gone or belongs to another file.
  bool linked() const noexcept;

  SegmentHeader* shared() const noexcept { return reinterpret_cast<SegmentHeader*>(base_); }
  AtomicSlot* slots() const noexcept { return at<AtomicSlot>(SectionType::kSlots); }
  PolicyRecord* policies() const noexcept { return at<PolicyRecord>(SectionType::kPolicies); }
  Attachment* attachments() const noexcept { return at<Attachment>(SectionType::kAttachments); }
  uint64_t* counters() const noexcept { return at<uint64_t>(SectionType::kCounters); }
  AtomicCell* cells() const noexcept { return at<AtomicCell>(SectionType::kCells); }
  void* overrides() const noexcept { return at<char>(SectionType::kOverrides); }
  OverrideText* override_texts() const noexcept {
    return at<OverrideText>(SectionType::kOverrideTexts);
  }
  AuditCell* audit() const noexcept { return at<AuditCell>(SectionType::kAudit); }
  // Null in a segment that shares nothing with other nodes.
  struct UseCell* use_cells() const noexcept {
    return at<UseCell>(SectionType::kConsumption);
  }
  std::atomic<uint64_t>* near_marks() const noexcept {
    return at<std::atomic<uint64_t>>(SectionType::kNear);
  }
  struct TierBoard* tier_board() const noexcept {
    return at<TierBoard>(SectionType::kTier);
  }
  HotHeader* hot_keys() const noexcept { return at<HotHeader>(SectionType::kHotKeys); }
  // The name entry of slot i, or null if the segment keeps no names.
  NameEntry* name_entry(uint64_t i) const noexcept {
    return names_ == nullptr ? nullptr : reinterpret_cast<NameEntry*>(names_ + i * name_stride_);
  }
  // First section of this type, or null.
  const Section* section(SectionType type) const noexcept;

  // Groups of a window in use, less one, as stored; attach ids given out so far.
  uint64_t stored_reach() const noexcept;
  uint64_t attach_ids() const noexcept;
  // Brings a reach that is beyond every window down to `most`, which readers take it for anyway.
  // False if it changed meanwhile.
  bool limit_reach(uint64_t seen, uint64_t most) noexcept;

  // Something that this process keeps with the segment, for whoever attaches it here; not owned.
  std::atomic<void*> companion{nullptr};

  // A tentative word nobody used before; see base/word.h. Safe after any kind of fork.
  Word next_tentative(int64_t now_ns) noexcept;

 private:
  // Private to a process: the kernel gives a forked child a zeroed page (MADV_WIPEONFORK), so a
  // child never continues its parent's tentative values.
  struct ProcessLocal {
    std::atomic<uint32_t> attach_id;  // top bit set once assigned
    std::atomic<uint32_t> counter;
  };

  Segment() = default;
  // Maps the open file, whose header has been read to header_, and owns the descriptor.
  absl::Status take(int fd, std::string_view name, std::string_view path, const Access& access);
  template <class T>
  T* at(SectionType type) const noexcept {
    const Section* const found = section(type);
    return found == nullptr ? nullptr : reinterpret_cast<T*>(base_ + found->offset);
  }
  absl::Status map(const Access& access);
  uint32_t attach_id() noexcept;

  friend class SegmentCache;
  int fd_ = -1;
  uint64_t device_ = 0;
  uint64_t inode_ = 0;
  bool read_only_ = false;
  std::string name_;
  std::string path_;
  HeaderFields header_{};
  boost::interprocess::mapped_region region_;
  char* base_ = nullptr;
  char* names_ = nullptr;
  size_t name_stride_ = 0;
  ProcessLocal* local_ = nullptr;
  uint64_t attachment_ = ~uint64_t{0};  // index of this process's entry
};

}  // namespace brim::shm

#endif  // BRIM_SHM_SEGMENT_H_
