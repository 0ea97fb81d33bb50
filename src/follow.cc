// SPDX-License-Identifier: MIT
// From a table that was resized to the one that took its place: once for each process and handle.
#include <sys/stat.h>

#include <new>

#include "shm/segment.h"
#include "src/base/no_cancel.h"
#include "src/engine.h"

namespace brim::internal {

namespace {

// A process that can not attach tries again this much later; until then calls are unavailable.
constexpr int64_t kRetryNs = 100000000;

// Generations that one call follows. A line of honest tables is as long as there were resizes
// while this process made no call, less those whose names are gone.
constexpr int kMostSteps = 64;

// The successor is trusted as the old one was: the same owner, group and mode.
bool access_like(const shm::Segment& old, shm::Access& access) noexcept {
  struct stat st {};
  if (fstat(old.fd(), &st) != 0) return false;
  access.read_only = old.read_only();
  access.owner_uid = static_cast<int64_t>(st.st_uid);
  if ((st.st_mode & 0070) != 0) access.gid = static_cast<int64_t>(st.st_gid);
  access.group_bits = (st.st_mode & 0070) != 0;
  return true;
}

}  // namespace

std::shared_ptr<const Engine> Engine::attach_successor() const {
  shm::Access access;
  if (!access_like(*segment, access)) return nullptr;
  const std::string& path = segment->path();
  // It gets its name at some time in between, and may be superseded itself.
  for (int tries = 0; tries < 8; ++tries) {
    for (const bool by_name : {false, true}) {
      const std::string file = by_name ? path : shm::successor_path(path);
      auto next = shm::Segment::attach_file(file, segment->name(), path, access);
      if (!next.ok() ||
          !shm::succeeds((*next)->header(), *segment->shared(), segment->header(), by_name)) {
        continue;
      }
      auto made =
          std::allocate_shared<Engine>(shm::UndumpedAllocator<Engine>(), *std::move(next), clock);
      made->predecessor_ = this;
      return made;
    }
  }
  return nullptr;
}

const Engine* Engine::successor() const noexcept {
  // Acquire; pairs with the release below. Carries: the engine.
  const Engine* known = successor_.load(std::memory_order_acquire);
  if (known != nullptr) return known;
  const int64_t now = monotonic_now_ns();
  // Relaxed: only spares system calls.
  if (now < next_try_ns_.load(std::memory_order_relaxed)) return nullptr;
  const NoCancel whole;
  std::shared_ptr<const Engine> made;
  try {
    made = attach_successor();
  } catch (const std::bad_alloc&) {
    made = nullptr;
  }
  if (made == nullptr) {
    next_try_ns_.store(now + kRetryNs, std::memory_order_relaxed);
    return nullptr;
  }
  // Of several threads one wins; no lock, which a fork could leave held.
  if (!successor_.compare_exchange_strong(known, made.get(), std::memory_order_acq_rel,
                                          std::memory_order_acquire)) {
    return known;
  }
  kept_ = std::move(made);
  return kept_.get();
}

const Engine& Engine::current() const noexcept {
  const Engine* at = furthest();
  for (int steps = 0; steps < kMostSteps && at->superseded(); ++steps) {
    const Engine* const next = at->successor();
    if (next == nullptr) break;
    at = next;
  }
  note_furthest(at);
  return *at;
}

}  // namespace brim::internal
