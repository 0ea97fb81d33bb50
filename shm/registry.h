// SPDX-License-Identifier: MIT
// Policy records: named messages of fixed size that are replaced whole [E3].
#ifndef BRIM_SHM_REGISTRY_H_
#define BRIM_SHM_REGISTRY_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "shm/layout.h"
#include "shm/schedule_point.h"

namespace brim::shm {

using PolicyWords = std::array<uint64_t, kPolicyWords>;

class Registry {
 public:
  Registry() = default;
  Registry(PolicyRecord* records, uint32_t count, int lock_fd) noexcept
      : records_(records), count_(count), lock_fd_(lock_fd) {}

  uint32_t size() const noexcept { return count_; }

  // Acquire; pairs with the release in replace() [E3]. 0: no such policy.
  uint64_t version(uint16_t number) const noexcept {
    BRIM_SCHEDULE_POINT();
    return number < count_ ? records_[number].version.load(std::memory_order_acquire) : 0;
  }

  // One word of the copy that belongs to `version`. Valid only if still_at() afterwards.
  uint64_t word(uint16_t number, uint64_t version, size_t index) const noexcept {
    BRIM_RECORD_POINT();
    // Relaxed: still_at() tells whether what was read belongs together.
    return records_[number].copy[version & 1].words[index].load(std::memory_order_relaxed);
  }
  bool still_at(uint16_t number, uint64_t version) const noexcept {
    BRIM_SCHEDULE_POINT();
    std::atomic_signal_fence(std::memory_order_seq_cst);
#if defined(__x86_64__)
    // x86 keeps loads in order; the signal fence keeps the compiler from moving them.
    return records_[number].version.load(std::memory_order_relaxed) == version;
#else
#error "needs a load-load barrier here"
#endif
  }

  // The whole record: false if it was never defined or is being replaced over and over.
  bool read(uint16_t number, PolicyWords& words, std::string& text) const;
  std::string name(uint16_t number) const;
  // The same for the request path: in the segment, where it never changes once it is there.
  std::string_view stored_name(uint16_t number) const noexcept {
    const char* const text = records_[number].name;
    size_t size = 0;
    while (size < kPolicyNameBytes && text[size] != '\0') ++size;
    return {text, size};
  }

  // Number of the policy called `name`, or -1. Linear; set-up only.
  int find(std::string_view name) const { return find(name, false); }
  // The same among those that were removed.
  int find_removed(std::string_view name) const { return find(name, true); }

  // Whether callers may ask for the policy by name. Its record stays as it is for those who have
  // its number.
  bool removed(uint16_t number) const noexcept {
    // Acquire; pairs with the release in set_removed() [E7].
    return number < count_ && records_[number].live[0].load(std::memory_order_acquire) != 0;
  }
  // Permits that a key may use before other nodes must hear of it.
  uint32_t hold_back(uint16_t number, uint32_t part) const noexcept {
    if (number >= count_ || part + 1 >= kMaxParts) return 0;
    const uint64_t permits = records_[number].live[1 + part].load(std::memory_order_relaxed);
    return static_cast<uint32_t>(permits);
  }
  void set_hold_back(uint16_t number, uint32_t part, uint32_t permits) noexcept {
    if (number >= count_ || part + 1 >= kMaxParts) return;
    // Killed here: it stays what it was.
    BRIM_STORE_POINT();
    records_[number].live[1 + part].store(permits, std::memory_order_relaxed);
  }
  // The caller holds the write lock. REQUIRES: the policy exists.
  void set_removed(uint16_t number, bool removed) noexcept;

  // Adds a policy; ResourceExhausted (policy_table_full) if there is no room. The caller holds
  // the write lock and has checked that the name is new. REQUIRES: name and text fit.
  absl::StatusOr<uint16_t> add(std::string_view name, const PolicyWords& words,
                               std::string_view text);

  // Replaces a policy's record in one step. The caller holds the write lock.
  // REQUIRES: the policy exists; text fits.
  void replace(uint16_t number, const PolicyWords& words, std::string_view text) noexcept;

  // Excludes other writers of the segment's policies while it lives. The kernel frees it when the
  // holder dies. Never taken on the request path.
  class WriteLock {
   public:
    explicit WriteLock(int segment_fd) noexcept;
    ~WriteLock();
    WriteLock(const WriteLock&) = delete;
    WriteLock& operator=(const WriteLock&) = delete;
    bool held() const noexcept { return held_; }

   private:
    int fd_;
    bool held_;
  };
  WriteLock lock() const noexcept { return WriteLock(lock_fd_); }

 private:
  int find(std::string_view name, bool removed) const;

  PolicyRecord* records_ = nullptr;
  uint32_t count_ = 0;
  int lock_fd_ = -1;
};

}  // namespace brim::shm

#endif  // BRIM_SHM_REGISTRY_H_
