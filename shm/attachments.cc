// SPDX-License-Identifier: MIT
#include "shm/attachments.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>

#include "shm/identity.h"
#include "shm/schedule_point.h"
#include "src/base/clock.h"

namespace brim::shm {

namespace {

// {low half of the start time | pid}: one word says who it is, so that a compare-and-swap that
// takes an entry leaves no moment at which it names somebody else.
uint64_t owner_word(uint32_t pid) noexcept {
  return process_start_time(static_cast<int>(pid)) << 32 | pid;
}

// Dead beyond doubt: seen from the same pid namespace, no process has that pid and start time.
bool is_dead(const Attachment& entry, uint64_t owner, uint64_t pid_namespace) noexcept {
  // Relaxed: for display; a wrong guess costs an entry of a list.
  if (entry.pid_namespace.load(std::memory_order_relaxed) != pid_namespace) return false;
  const auto pid = static_cast<uint32_t>(owner);
  const uint64_t now = owner_word(pid);
  // Unreadable (no descriptor left, hidepid) is not dead.
  if (now >> 32 == 0) return kill(static_cast<int>(pid), 0) != 0 && errno == ESRCH;
  return now != owner;
}

bool take(Attachment& entry, uint64_t old, uint64_t mine, uint64_t pid_namespace) noexcept {
  // Killed here: an entry with the former owner's time and namespace; for display.
  BRIM_STORE_POINT();
  if (!entry.owner.compare_exchange_strong(old, mine, std::memory_order_acq_rel,
                                           std::memory_order_relaxed)) {
    return false;
  }
  BRIM_STORE_POINT();
  entry.pid_namespace.store(pid_namespace, std::memory_order_relaxed);
  BRIM_STORE_POINT();
  entry.attached_ns.store(static_cast<uint64_t>(monotonic_now_ns()), std::memory_order_relaxed);
  return true;
}

}  // namespace

uint64_t enter_attachment(Attachment* table, uint64_t count) noexcept {
  const uint64_t mine = owner_word(static_cast<uint32_t>(getpid()));
  const uint64_t pid_namespace = machine_identity().pid_namespace;
  for (uint64_t i = 0; i < count; ++i) {
    // Acquire; pairs with the release in take() [E5]. Carries: the entry's fields.
    const uint64_t owner = table[i].owner.load(std::memory_order_acquire);
    if (owner != 0 && !is_dead(table[i], owner, pid_namespace)) continue;
    if (take(table[i], owner, mine, pid_namespace)) return i;
  }
  return count;
}

void leave_attachment(Attachment* table, uint64_t count, uint64_t index) noexcept {
  if (index >= count) return;
  uint64_t mine = owner_word(static_cast<uint32_t>(getpid()));
  // Killed here: an entry whose pid is dead; whoever attaches next may take it.
  BRIM_STORE_POINT();
  table[index].owner.compare_exchange_strong(mine, 0, std::memory_order_acq_rel,
                                             std::memory_order_relaxed);
}

uint64_t clear_dead_attachments(Attachment* table, uint64_t count) noexcept {
  const uint64_t pid_namespace = machine_identity().pid_namespace;
  uint64_t cleared = 0;
  for (uint64_t i = 0; i < count; ++i) {
    // Acquire; as in enter_attachment() [E5].
    uint64_t owner = table[i].owner.load(std::memory_order_acquire);
    if (owner == 0 || !is_dead(table[i], owner, pid_namespace)) continue;
    // Killed here: the entry of a dead process, or none.
    if (table[i].owner.compare_exchange_strong(owner, 0, std::memory_order_acq_rel,
                                               std::memory_order_relaxed)) {
      ++cleared;
    }
  }
  return cleared;
}

std::vector<AttachedProcess> list_attachments(const Attachment* table, uint64_t count) {
  std::vector<AttachedProcess> list;
  const uint64_t pid_namespace = machine_identity().pid_namespace;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t owner = table[i].owner.load(std::memory_order_acquire);
    if (owner == 0) continue;
    AttachedProcess process;
    process.pid = static_cast<uint32_t>(owner);
    process.attached_ns = table[i].attached_ns.load(std::memory_order_relaxed);
    process.same_namespace =
        table[i].pid_namespace.load(std::memory_order_relaxed) == pid_namespace;
    process.alive = process.same_namespace && !is_dead(table[i], owner, pid_namespace);
    list.push_back(process);
  }
  return list;
}

}  // namespace brim::shm
