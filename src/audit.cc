// SPDX-License-Identifier: MIT
// Notes of changes, written and read.
#include "src/audit.h"

#include <unistd.h>

#include <algorithm>

#include "brim/inspect.h"
#include "brim/limiter.h"
#include "shm/audit.h"
#include "src/base/clock.h"
#include "src/engine.h"

namespace brim {

namespace {

static_assert(Limiter::kMostAuditBytes == shm::kAuditTextBytes);

// The keyed hash of a note: only who can read the hash key can make one that is shown.
auto checker(const internal::Engine& engine) noexcept {
  return [&engine](const shm::Note& note) noexcept {
    const std::string_view bytes(reinterpret_cast<const char*>(&note), sizeof(note));
    return siphash128<1, 3>(engine.secret.key0, engine.secret.key1, bytes).low;
  };
}

// The whole notes of the ring, oldest first.
std::vector<shm::Note> notes_of(const internal::Engine& engine) {
  std::vector<shm::Note> notes;
  const shm::Section* const section = engine.segment->section(shm::SectionType::kAudit);
  for (uint64_t i = 0; section != nullptr && i < section->count; ++i) {
    shm::Note note;
    if (shm::load_note(engine.segment->audit()[i], i, section->count, note, checker(engine))) {
      notes.push_back(note);
    }
  }
  std::sort(notes.begin(), notes.end(),
            [](const shm::Note& a, const shm::Note& b) { return a.sequence < b.sequence; });
  return notes;
}

}  // namespace

void carry_notes(const internal::Engine& old, const internal::Engine& made) {
  const shm::Section* const section = made.segment->section(shm::SectionType::kAudit);
  if (section == nullptr) return;
  for (shm::Note& note : notes_of(old)) {
    shm::store_note(made.segment->audit(), section->count, note, checker(made));
  }
}

absl::Status Limiter::record(std::string_view what) const {
  if (engine_ == nullptr) return absl::FailedPreconditionError("not_open: this Limiter is empty");
  const internal::Engine& engine = engine_->current();
  if (absl::Status status = engine.check_writable(); !status.ok()) return status;
  const shm::Section* const section = engine.segment->section(shm::SectionType::kAudit);
  if (section == nullptr) {
    return absl::FailedPreconditionError(
        cat("audit_unsupported: segment ", shown_path(engine.segment->path()),
            " was made by a version without a ring of changes; recreate it to have one"));
  }
  shm::Note note;
  note.wall_ns = static_cast<uint64_t>(wall_now_ns());
  note.who = uint64_t{geteuid()} << 32 | static_cast<uint32_t>(getpid());
  note.set_text(what);
  const auto lock = engine.registry.lock();
  if (!lock.held()) return engine.lock_error();
  // Resized while the lock was waited for: nobody will look at this ring again.
  if (engine.superseded() && &engine_->current() != &engine) return record(what);
  shm::store_note(engine.segment->audit(), section->count, note, checker(engine));
  return absl::OkStatus();
}

std::vector<AuditEntry> Inspector::audit() const {
  std::vector<AuditEntry> list;
  for (const shm::Note& note : notes_of(*engine_)) {
    list.push_back({note.sequence, static_cast<int64_t>(note.wall_ns),
                    static_cast<uint32_t>(note.who), static_cast<uint32_t>(note.who >> 32),
                    std::string(note.text())});
  }
  return list;
}

}  // namespace brim
