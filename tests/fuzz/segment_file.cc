// SPDX-License-Identifier: MIT
#include "tests/fuzz/segment_file.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "brim/cluster.h"
#include "src/base/text.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BRIM_FUZZ_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define BRIM_FUZZ_ASAN 1
#endif
#ifdef BRIM_FUZZ_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size) (static_cast<void>(at), static_cast<void>(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) (static_cast<void>(at), static_cast<void>(size))
#endif

namespace brim::fuzz {

namespace {

constexpr size_t kPage = 4096;

Options made_with(uint64_t capacity) {
  Options options;
  options.capacity = capacity;
  options.name_bytes = 16;
  options.max_policies = 14;
  options.overrides = 12;
  options.probe_limit = 3;
  options.policies = segment_policies();
  return options;
}

// What a new segment draws at random is made the same in every process; what names this machine
// stays.
void make_fixed(shm::HeaderFields& header) {
  std::memset(header.uuid, 0x55, sizeof(header.uuid));
  for (size_t i = 0; i < sizeof(header.hash_key); ++i) header.hash_key[i] = uint8_t(i + 1);
  for (size_t i = 0; i < sizeof(header.hash_secret); ++i) header.hash_secret[i] = uint8_t(i * 7);
  header.created_wall_ns = header.created_monotonic_ns = 1'000'000'000'000'000;
  header.creator_pid = 1;
}

}  // namespace

bool private_shm() {
  const uid_t uid = geteuid();
  if (unshare(CLONE_NEWNS) != 0) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    std::ofstream("/proc/self/uid_map") << cat(uid, " ", uid, " 1\n") << std::flush;
    if (geteuid() != uid) return false;
  }
  return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("tmpfs", shm::kShmDirectory, "tmpfs", MS_NOSUID | MS_NODEV, "size=8m,mode=1777") ==
             0;
}

const std::vector<NamedPolicy>& segment_policies() {
  static const std::vector<NamedPolicy> policies = {
      {"p", "10/h"},
      {"queue", "queue 5/h burst 2 delay-after 1"},
      {"window", "fixed-window 5/m count-denied"},
      {"first", "fixed-window 5/7s first-hit"},
      {"month", "calendar-window 5/month utc+02:00"},
      {"counter", "sliding-counter 5/m floor"},
      {"log", "sliding-log 4/m"},
      {"lease", "concurrency 2"},
      {"several", "7/h; sliding-log 3/d ban 3 in 1h for 1h times 2"},
      {"warm", "fixed-window 9/m warm-up 10% over 1h classes 50 80 100"},
      {"debt", "100/m burst 20 debt 5 forward ahead 2m enforce 50%"},
      {"cluster", "9/h; token-bucket 20/d scope cluster"},
      {"strict", "8/h; 15/d scope cluster strict"}};
  return policies;
}

SegmentFile::SegmentFile(uint64_t capacity) : alone_(private_shm()) {
  directory_ = shm::kShmDirectory;
  if (!alone_) {
    directory_ += "/brim-fuzz-XXXXXX";
    require(mkdtemp(directory_.data()) != nullptr, "mkdtemp");
  }
  path_ = directory_ + "/api";
  {
    Options options = made_with(capacity);
    options.clock = ClockKind::kManual;
    options.manual_clock_ns = &clock_ns_;
    const absl::StatusOr<Limiter> made = Limiter::create(path_, options);
    require(made.ok(), "create", std::string(made.status().message()));
  }
  const int fd = open(path_.c_str(), O_RDWR | O_CLOEXEC);
  struct stat st {};
  require(fd >= 0 && fstat(fd, &st) == 0, "open");
  const auto size = static_cast<size_t>(st.st_size);
  void* const map = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  require(map != MAP_FAILED, "mmap");
  close(fd);
  bytes_ = static_cast<char*>(map);
  auto* const header = reinterpret_cast<shm::HeaderFields*>(bytes_);
  make_fixed(*header);
  areas_.push_back({0, sizeof(shm::HeaderFields)});
  areas_.push_back({sizeof(shm::HeaderFields), sizeof(shm::SegmentHeader) - areas_[0].size});
  for (uint32_t i = 0; i < header->section_count; ++i) {
    const shm::Section& section = header->sections[i];
    areas_.push_back({section.offset, section.element_size * section.count});
  }
  use();
  pristine_.assign(bytes_, size);
}

SegmentFile::~SegmentFile() {
  std::error_code ignored;
  if (!alone_) std::filesystem::remove_all(directory_, ignored);
}

Options SegmentFile::options() const {
  Options options;
  options.clock = ClockKind::kManual;
  options.manual_clock_ns = &clock_ns_;
  return options;
}

// Keys in every state: live, idle, barred, leased, overridden, and slots that changed hands.
void SegmentFile::use() {
  const absl::StatusOr<Limiter> limiter = Limiter::attach(path_, options());
  require(limiter.ok(), "attach");
  require(limiter->set_override("p", "key-1", "deny").ok(), "set_override");
  require(limiter->set_network_override("window", "10.0.0.0/8", "counter").ok(), "set_network");
  for (const NamedPolicy& policy : segment_policies()) {
    const absl::StatusOr<PolicyHandle> handle = limiter->policy(policy.name);
    require(handle.ok(), "policy", policy.name);
    for (int i = 0; i < 8; ++i) handle->try_acquire(cat("key-", i % 3));
    handle->acquire_lease("key-0", 60'000'000'000);
    handle->reserve("key-2", 1, 1'000'000'000'000);
  }
  absl::StatusOr<ClusterView> view = ClusterView::attach(path_, options());
  require(view.ok(), "ClusterView");
  constexpr uint64_t kSecret[2] = {1, 2};
  view->set_secret(kSecret);
  const absl::StatusOr<PolicyHandle> shared = limiter->policy("cluster");
  for (int i = 0; i < 4; ++i) shared->try_acquire(cat("key-", i), 3);
}

void SegmentFile::restore() {
  std::memcpy(bytes_, pristine_.data(), pristine_.size());
  clock_ns_.store(kMadeAtNs, std::memory_order_relaxed);
}

void SegmentFile::damage(Input& input) {
  restore();
  const uint8_t count = input.byte();
  if ((count & 0x80) != 0) {
    const std::string_view raw = input.take_bytes(sizeof(shm::SegmentHeader));
    std::memcpy(bytes_, raw.data(), raw.size());
    if ((count & 0x40) == 0) return;
    auto* const header = reinterpret_cast<shm::HeaderFields*>(bytes_);
    const auto* const good = reinterpret_cast<const shm::HeaderFields*>(pristine_.data());
    std::memcpy(header->boot_id, good->boot_id, sizeof(header->boot_id));
    header->time_namespace = good->time_namespace;
    header->total_size = good->total_size;
    return;
  }
  for (int i = 0; i < count % 16 && !input.empty(); ++i) {
    const Area& area = areas_[input.byte() % areas_.size()];
    const size_t offset = input.take<uint16_t>() % area.size;
    const uint8_t kind = input.byte();
    const unsigned high = kind >> 2;
    char* const at = bytes_ + area.offset + offset;
    char* const word = bytes_ + area.offset + offset / 8 * 8;
    switch (kind & 3) {
      case 0: {
        const std::string_view data =
            input.take_bytes(std::min<size_t>(high % 16 + 1, area.size - offset));
        std::memcpy(at, data.data(), data.size());
        break;
      }
      case 1:
        *at = static_cast<char>(*at ^ (1 << high % 8));
        break;
      case 2: {
        const auto value = input.take<uint64_t>();
        std::memcpy(word, &value, sizeof(value));
        break;
      }
      default: {
        const uint64_t value = (uint64_t{1} << high) - (offset & 1);
        std::memcpy(word, &value, sizeof(value));
        break;
      }
    }
  }
}

Fence::Fence(const shm::Segment& segment) {
  const size_t size = segment.header().total_size;
  end_ = reinterpret_cast<char*>(segment.shared()) + size;
  tail_ = (kPage - size % kPage) % kPage;
  ASAN_POISON_MEMORY_REGION(end_, tail_);
  // If something else is mapped there, this input goes without.
  page_ = mmap(end_ + tail_, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
               -1, 0);
}

Fence::~Fence() {
  ASAN_UNPOISON_MEMORY_REGION(end_, tail_);
  if (page_ != MAP_FAILED) munmap(page_, kPage);
}

}  // namespace brim::fuzz
