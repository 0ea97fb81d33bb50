// SPDX-License-Identifier: MIT
#include "shm/attachments.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>

#include "shm/identity.h"
#include "src/base/clock.h"

namespace brim::shm {

namespace {

// Dead beyond doubt: seen from the same pid namespace, no process has that pid and start time.
bool is_dead(const Attachment& entry, uint64_t owner, uint64_t pid_namespace) noexcept {
  // Relaxed: for display; a wrong guess costs an entry of a list.
  if (entry.pid_namespace.load(std::memory_order_relaxed) != pid_namespace) return false;
  const auto pid = static_cast<int>(static_cast<uint32_t>(owner));
  const uint64_t start = process_start_time(pid);
  // Unreadable (no descriptor left, hidepid) is not dead.
  if (start == 0) return kill(pid, 0) != 0 && errno == ESRCH;
  return start != entry.start_time.load(std::memory_order_relaxed);
}

}  // namespace

uint64_t enter_attachment(Attachment* table, uint64_t count) noexcept {
  // Relaxed: the number is the whole message.
  static std::atomic<uint32_t> entries{0};
  const auto pid = static_cast<uint32_t>(getpid());
  const uint64_t mine = uint64_t{entries.fetch_add(1, std::memory_order_relaxed)} << 32 | pid;
  const uint64_t pid_namespace = machine_identity().pid_namespace;
  for (uint64_t i = 0; i < count; ++i) {
    Attachment& entry = table[i];
    // Acquire; pairs with the release below [E5]. Carries: the entry's fields.
    uint64_t owner = entry.owner.load(std::memory_order_acquire);
    if (owner != 0 && !is_dead(entry, owner, pid_namespace)) continue;
    // Killed here: an entry whose fields are the former owner's; the next attacher takes it.
    if (!entry.owner.compare_exchange_strong(owner, mine, std::memory_order_acq_rel,
                                             std::memory_order_relaxed)) {
      continue;
    }
    entry.start_time.store(process_start_time(static_cast<int>(pid)), std::memory_order_relaxed);
    entry.pid_namespace.store(pid_namespace, std::memory_order_relaxed);
    entry.attached_ns.store(static_cast<uint64_t>(monotonic_now_ns()), std::memory_order_relaxed);
    break;
  }
  return mine;
}

void leave_attachment(Attachment* table, uint64_t count, uint64_t owner) noexcept {
  const uint64_t pid_namespace = machine_identity().pid_namespace;
  for (uint64_t i = 0; i < count; ++i) {
    if (table[i].owner.load(std::memory_order_relaxed) == owner &&
        table[i].pid_namespace.load(std::memory_order_relaxed) == pid_namespace) {
      table[i].owner.compare_exchange_strong(owner, 0, std::memory_order_acq_rel,
                                             std::memory_order_relaxed);
      return;
    }
  }
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
