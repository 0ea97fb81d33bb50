// SPDX-License-Identifier: MIT
#include "shm/registry.h"

#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "src/base/lock_descriptors.h"
#include "src/base/text.h"

namespace brim::shm {

namespace {

// A name or text that another process may have spoilt: at most the field, up to the first zero.
std::string bounded_string(const char* bytes, size_t size) {
  return std::string(bytes, strnlen(bytes, size));
}

}  // namespace

// A description of one's own is opened for each lock: threads exclude each other too.
Registry::WriteLock::WriteLock(int segment_fd) noexcept : fd_(-1), held_(false) {
  char path[32];
  std::snprintf(path, sizeof(path), "/proc/self/fd/%d", segment_fd);
  fd_ = LockDescriptors::instance().open_one(path, O_RDONLY);
  if (fd_ < 0) return;
  // Not for ever: its holder may be stopped, or not be a brim process at all.
  constexpr timespec kPause = {0, 1000000};
  for (int tries = 0; tries < 10000; ++tries) {
    held_ = flock(fd_, LOCK_EX | LOCK_NB) == 0;
    if (held_ || (errno != EWOULDBLOCK && errno != EINTR)) return;
    nanosleep(&kPause, nullptr);
  }
  errno = EWOULDBLOCK;
}

Registry::WriteLock::~WriteLock() {
  if (fd_ >= 0) LockDescriptors::instance().close_one(fd_);
}

bool Registry::read(uint16_t number, PolicyWords& words, std::string& text) const {
  for (int tries = 0; tries < 1000; ++tries) {
    const uint64_t at = version(number);
    if (at == 0) return false;
    for (size_t i = 0; i < kPolicyWords; ++i) words[i] = word(number, at, i);
    std::array<uint64_t, kPolicyTextBytes / 8> raw;
    for (size_t i = 0; i < raw.size(); ++i) {
      raw[i] = records_[number].copy[at & 1].text[i].load(std::memory_order_relaxed);
    }
    if (!still_at(number, at)) continue;
    text = bounded_string(reinterpret_cast<const char*>(raw.data()), kPolicyTextBytes);
    return true;
  }
  return false;
}

std::string Registry::name(uint16_t number) const {
  if (version(number) == 0) return {};
  return bounded_string(records_[number].name, kPolicyNameBytes);
}

int Registry::find(std::string_view wanted, bool among_removed) const {
  for (uint32_t i = 0; i < count_; ++i) {
    const auto number = static_cast<uint16_t>(i);
    if (name(number) == wanted && !wanted.empty() && removed(number) == among_removed) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

void Registry::set_removed(uint16_t number, bool removed) noexcept {
  // Release; pairs with the acquire in removed() [E7]. Killed before: as it was; after: changed.
  BRIM_CHANGE_POINT();
  records_[number].live[0].store(removed ? 1 : 0, std::memory_order_release);
}

void Registry::replace(uint16_t number, const PolicyWords& words, std::string_view text) noexcept {
  PolicyRecord& record = records_[number];
  // Relaxed: the lock orders writers.
  const uint64_t version = record.version.load(std::memory_order_relaxed);
  PolicyCopy& copy = record.copy[(version + 1) & 1];
  // Relaxed: the release below publishes them. Killed here: nobody reads this copy.
  for (size_t i = 0; i < kPolicyWords; ++i) {
    BRIM_RECORD_CHANGE_POINT();
    copy.words[i].store(words[i], std::memory_order_relaxed);
  }
  std::array<uint64_t, kPolicyTextBytes / 8> raw{};
  std::memcpy(raw.data(), text.data(), std::min(text.size(), kPolicyTextBytes - 1));
  for (size_t i = 0; i < raw.size(); ++i) {
    BRIM_RECORD_CHANGE_POINT();
    copy.text[i].store(raw[i], std::memory_order_relaxed);
  }
  // Release; pairs with the acquire in version() [E3]. Carries: the copy.
  BRIM_CHANGE_POINT();
  record.version.store(version + 1, std::memory_order_release);
}

absl::StatusOr<uint16_t> Registry::add(std::string_view name, const PolicyWords& words,
                                       std::string_view text) {
  for (uint32_t i = 0; i < count_; ++i) {
    PolicyRecord& record = records_[i];
    if (record.version.load(std::memory_order_acquire) != 0) continue;
    // Killed here: the record is not defined yet; the next writer writes another name.
    BRIM_STORE_POINT();
    std::memset(record.name, 0, kPolicyNameBytes);
    BRIM_STORE_POINT();
    std::memcpy(record.name, name.data(), std::min(name.size(), kPolicyNameBytes - 1));
    replace(static_cast<uint16_t>(i), words, text);
    return static_cast<uint16_t>(i);
  }
  return absl::ResourceExhaustedError(
      cat("policy_table_full: no room for policy '", name, "': all ", count_,
          " policies of the segment are defined; create it with more (max_policies, "
          "--max-policies)"));
}

}  // namespace brim::shm
