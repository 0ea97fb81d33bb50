// SPDX-License-Identifier: MIT
// The ring of notes of what tools and people did [E6]. One writer at a time: the caller holds the
// policies' write lock. Readers take no lock and may map the segment read-only.
//
// A cell's sequence is 0 while it is written, so a reader that finds the same sequence before and
// after saw no writer, and whatever it saw, the check value covers the sequence and every word: a
// torn, stale or hostile cell is left out. A writer that was killed anywhere left a cell that does
// not check, or a whole one. The next writer goes by the largest sequence that checks, so it takes
// the place of a note that was not finished.
//
// `check` is a function of a Note: the keyed hash of its bytes.
#ifndef BRIM_SHM_AUDIT_H_
#define BRIM_SHM_AUDIT_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "shm/layout.h"
#include "shm/schedule_point.h"

namespace brim::shm {

// A cell copied out, without its check value. No padding: it is hashed whole.
struct Note {
  uint64_t sequence = 0;
  uint64_t wall_ns = 0;
  uint64_t who = 0;  // {uid 32 | pid 32}
  uint64_t length = 0;
  uint64_t words[kAuditTextBytes / 8] = {};

  std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(words), std::min<size_t>(length, kAuditTextBytes)};
  }
  void set_text(std::string_view text) noexcept {
    length = std::min(text.size(), kAuditTextBytes);
    std::memcpy(words, text.data(), length);
  }
};
static_assert(sizeof(Note) == 32 + kAuditTextBytes);

// False: no note, or one that is not whole. `place` is the cell's, of `count`.
template <class Check>
bool load_note(const AuditCell& cell, uint64_t place, uint64_t count, Note& note, Check check) {
  // Acquire; pairs with the release in store_note() [E6].
  note.sequence = cell.sequence.load(std::memory_order_acquire);
  if (note.sequence == 0 || note.sequence % count != place) return false;
  // Relaxed: the check value tells whether what was read belongs together.
  note.wall_ns = cell.wall_ns.load(std::memory_order_relaxed);
  note.who = cell.who.load(std::memory_order_relaxed);
  note.length = cell.length.load(std::memory_order_relaxed);
  for (size_t i = 0; i < kAuditTextBytes / 8; ++i) {
    note.words[i] = cell.text[i].load(std::memory_order_relaxed);
  }
  return note.length <= kAuditTextBytes &&
         cell.check.load(std::memory_order_relaxed) == check(note);
}

// Writes the note behind the newest one, whatever its sequence says now. The caller holds the lock.
template <class Check>
void store_note(AuditCell* cells, uint64_t count, Note& note, Check check) {
  constexpr uint64_t kMostSequence = uint64_t{1} << 62;  // a larger one is nobody's
  uint64_t newest = 0;
  for (uint64_t i = 0; i < count; ++i) {
    Note seen;
    if (load_note(cells[i], i, count, seen, check) && seen.sequence < kMostSequence) {
      newest = std::max(newest, seen.sequence);
    }
  }
  note.sequence = newest + 1;
  AuditCell& cell = cells[note.sequence % count];
  const auto store = [](std::atomic<uint64_t>& word, uint64_t value) {
    // Relaxed: the check value makes up for any order. Killed here: a cell that does not check.
    BRIM_STORE_POINT();
    word.store(value, std::memory_order_relaxed);
  };
  store(cell.sequence, 0);
  store(cell.wall_ns, note.wall_ns);
  store(cell.who, note.who);
  store(cell.length, note.length);
  for (size_t i = 0; i < kAuditTextBytes / 8; ++i) store(cell.text[i], note.words[i]);
  store(cell.check, check(note));
  // Release; pairs with the acquire in load_note() [E6]. Carries: the cell. Killed before: the
  // cell is being written for ever, until the next writer.
  BRIM_STORE_POINT();
  cell.sequence.store(note.sequence, std::memory_order_release);
}

}  // namespace brim::shm

#endif  // BRIM_SHM_AUDIT_H_
