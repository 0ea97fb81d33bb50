// SPDX-License-Identifier: MIT
// The flags that switch a segment as a whole, and how a table gives way to its successor.
//
// A resize makes the new table under a hidden name (kFlagFilling), notes its uuid in the old one
// and sets kFlagSuperseded there [E6]. From then on the new table decides, and until kFlagFilling
// is cleared nobody charges a key there before he has put what the old table remembers of it there.
// The argument is in docs/design/0009-resize.md.
//
// Killed before kFlagSuperseded: nothing has happened, but for a hidden file that the next resize
// removes. After it: calls look at both tables until another resize finishes the work.
#ifndef BRIM_SHM_SUCCESSION_H_
#define BRIM_SHM_SUCCESSION_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>

#include "shm/layout.h"
#include "shm/schedule_point.h"

namespace brim::shm {

// Sequentially consistent [E6]. Returns the flags as they were.
inline uint64_t set_flag(SegmentHeader& header, uint64_t flag) noexcept {
  // Killed here: not set.
  BRIM_STORE_POINT();
  return header.flags.fetch_or(flag, std::memory_order_seq_cst);
}
inline uint64_t clear_flag(SegmentHeader& header, uint64_t flag) noexcept {
  // Killed here: still set.
  BRIM_STORE_POINT();
  return header.flags.fetch_and(~flag, std::memory_order_seq_cst);
}

inline uint64_t flags_of(const SegmentHeader& header) noexcept {
  return header.flags.load(std::memory_order_seq_cst);
}

// Who the successor is. Written under the write lock before kFlagSuperseded, which publishes it.
inline void store_successor(SegmentHeader& header, const HeaderFields& successor) noexcept {
  uint64_t words[2];
  std::memcpy(words, successor.uuid, sizeof(words));
  for (int i = 0; i < 2; ++i) {
    // Killed here: it is written anew before it counts.
    BRIM_STORE_POINT();
    header.successor[i].store(words[i], std::memory_order_relaxed);
  }
}

inline const uint8_t* lineage_of(const HeaderFields& header) noexcept {
  const bool first = std::all_of(header.lineage, header.lineage + sizeof(header.lineage),
                                 [](uint8_t byte) { return byte == 0; });
  return first ? header.uuid : header.lineage;
}

// Whether `later` is the table that `old` names as its successor; with `by_name` also one that came
// after that. Generations only grow, so no line leads back.
inline bool succeeds(const HeaderFields& later, const SegmentHeader& shared,
                     const HeaderFields& old, bool by_name) noexcept {
  uint64_t words[2];
  for (int i = 0; i < 2; ++i) words[i] = shared.successor[i].load(std::memory_order_relaxed);
  if (later.generation <= old.generation) return false;
  if (std::memcmp(words, later.uuid, sizeof(words)) == 0) return true;
  return by_name && std::memcmp(lineage_of(later), lineage_of(old), sizeof(old.lineage)) == 0;
}

// Where the successor is kept until it gets the segment's name. No segment can have this name.
inline std::string successor_path(const std::string& path) {
  const size_t slash = path.rfind('/');
  return path.substr(0, slash + 1) + ".brim-next-" + path.substr(slash + 1);
}

}  // namespace brim::shm

#endif  // BRIM_SHM_SUCCESSION_H_
