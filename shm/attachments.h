// SPDX-License-Identifier: MIT
// Who is attached, for people and tools. Decisions never depend on it.
#ifndef BRIM_SHM_ATTACHMENTS_H_
#define BRIM_SHM_ATTACHMENTS_H_

#include <cstdint>
#include <vector>

#include "shm/layout.h"

namespace brim::shm {

// Enters this process, in a free entry or a dead process's; nothing if all are taken. Returns the
// entry's index, or `count`.
uint64_t enter_attachment(Attachment* table, uint64_t count) noexcept;
// Empties the entry if it is this process's.
void leave_attachment(Attachment* table, uint64_t count, uint64_t index) noexcept;

// Empties the entries of processes that are dead beyond doubt; returns how many.
uint64_t clear_dead_attachments(Attachment* table, uint64_t count) noexcept;

struct AttachedProcess {
  uint32_t pid = 0;
  uint64_t attached_ns = 0;  // CLOCK_MONOTONIC
  bool same_namespace = false;
  bool alive = false;  // known only in the same pid namespace
};
std::vector<AttachedProcess> list_attachments(const Attachment* table, uint64_t count);

}  // namespace brim::shm

#endif  // BRIM_SHM_ATTACHMENTS_H_
