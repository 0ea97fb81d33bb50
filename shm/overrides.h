// SPDX-License-Identifier: MIT
// The override table: key or network -> what to do, read by every process for every request, and
// changed under the policies' write lock (Registry::lock, taken by the caller). What an action or
// a policy number means is the caller's business.
//
// Section kOverrides, elements of 16 bytes: OverrideHeader (4 elements) | entries. All-zero is a
// valid empty table. Entry, changed only by one 16-byte compare-and-swap:
//     low   0 = never used, 1 = deleted, else 64 bits of the key's hash
//     high  {action 8 | from policy 12 | to policy 12 | 32 further bits of the hash}, or with an
//           action that ends (kOverrideEnds)
//           {action 8 | from policy 12 | end 44, in units of 2^20 ns of the clock}
// A key's entry is the first free one at its home or behind it, less than kOverrideWalk further
// on. A never-used entry ends the walk. At most half the entries are in use.
//
// An entry that ends has its end in its own 16 bytes: whoever reads one reads the end of that very
// override and of no other, whatever a writer does meanwhile, and changing the end is one more
// compare-and-swap. What pays for it are 32 bits of hash; the 64 that are left are more than those
// of a slot (49). Once its end has come an entry is no entry: readers pass it over, and a writer
// may put another in its place.
//
// Section kOverrideTexts (layout.h) has an element for each entry: the key's text, for people.
// A writer stores it before the entry. Its check value covers the entry's hash, so that the text of
// the former key, half a text, or one whose writer was killed before the entry is not shown.
//
// Invariants: between home and a key's entry there is none that was never used; no two entries
// hold one {key, from policy}; header.entries is not below the true number; the bit of a
// network's prefix length is set before its entry. A writer killed anywhere leaves all of them,
// and the old or the new entry; header.changing then tells the next writer to count again.
//
// Edge  writer: cas128 (seq_cst), header words before it | readers: header words (acquire),
//       load128 | carries: nothing but the entry | killed before, after: legal states
#ifndef BRIM_SHM_OVERRIDES_H_
#define BRIM_SHM_OVERRIDES_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "shm/atomic128.h"
#include "shm/layout.h"
#include "src/base/uint128.h"

namespace brim::shm {

// As `from`: every policy. As a policy's number it means that no override names that policy alone.
inline constexpr uint16_t kAnyPolicy = 0xfff;
inline constexpr uint64_t kOverrideWalk = 256;

// In an action: the entry ends.
inline constexpr uint8_t kOverrideEnds = 0x80;
inline constexpr int kOverrideEndShift = 20;
inline constexpr uint64_t kOverrideEndless = (uint64_t{1} << 44) - 1;

// The least end that is not before `ns`, and the last one that has come by `ns`.
constexpr uint64_t override_end(uint64_t ns) noexcept {
  const uint64_t units =
      (ns >> kOverrideEndShift) + ((ns & ((uint64_t{1} << kOverrideEndShift) - 1)) != 0 ? 1 : 0);
  return std::min(units, kOverrideEndless - 1);
}
constexpr uint64_t override_now(int64_t ns) noexcept {
  return static_cast<uint64_t>(std::max<int64_t>(ns, 0)) >> kOverrideEndShift;
}

struct OverrideHash {
  uint64_t low = 0;
  uint64_t high = 0;
  bool whole = true;  // false: `high` is not known, `low` alone finds the entry
};

struct Override {
  uint8_t action = 0;
  uint16_t from = kAnyPolicy;  // 12 bits
  uint16_t to = 0;             // 12 bits; 0 if the action ends
  uint64_t end = 0;            // if the action ends
  friend bool operator==(const Override&, const Override&) = default;
};

struct OverrideMatch {
  bool found = false;
  Override what;
};

enum class Family : uint8_t { kNone, kV4, kV6 };

// What makes a key a network's: readers try its prefix length. Family::kNone: any other key.
struct NetworkKind {
  Family family = Family::kNone;
  uint8_t prefix = 0;
};

struct OverrideHeader {
  alignas(64) std::atomic<uint64_t> entries;  // in use; 0: readers look no further
  std::atomic<uint64_t> changing;             // not 0: a writer is at work, or died at it
  std::atomic<uint64_t> prefixes[4];          // bit p: a network /p. [0]: IPv4, [1..3]: IPv6
  uint64_t reserved[2];
};
static_assert(sizeof(OverrideHeader) == 64);

inline constexpr uint32_t kOverrideElementSize = sizeof(Pair);
inline constexpr uint64_t kOverrideHeaderElements = sizeof(OverrideHeader) / sizeof(Pair);

// Elements of a section that holds `most` overrides.
constexpr uint64_t override_elements(uint32_t most) noexcept {
  return most == 0 ? 0 : kOverrideHeaderElements + 2 * uint64_t{most};
}

inline constexpr uint64_t kOverrideUnused = 0;
inline constexpr uint64_t kOverrideDeleted = 1;

constexpr uint64_t override_low(OverrideHash hash) noexcept {
  return hash.low > kOverrideDeleted ? hash.low : hash.low + 2;
}
constexpr uint64_t pack_override(const Override& what, uint64_t hash_high) noexcept {
  if ((what.action & kOverrideEnds) != 0) {
    return uint64_t{what.action} << 56 | uint64_t{what.from & 0xfffu} << 44 |
           (what.end & kOverrideEndless);
  }
  return uint64_t{what.action} << 56 | uint64_t{what.from & 0xfffu} << 44 |
         uint64_t{what.to & 0xfffu} << 32 | static_cast<uint32_t>(hash_high);
}
constexpr Override unpack_override(uint64_t high) noexcept {
  Override what{static_cast<uint8_t>(high >> 56), static_cast<uint16_t>(high >> 44 & 0xfff)};
  if ((what.action & kOverrideEnds) != 0) {
    what.end = high & kOverrideEndless;
  } else {
    what.to = static_cast<uint16_t>(high >> 32 & 0xfff);
  }
  return what;
}
constexpr bool has_ended(const Override& what, uint64_t now) noexcept {
  return (what.action & kOverrideEnds) != 0 && what.end != kOverrideEndless && what.end <= now;
}

// Reading. Any thread, any process, a read-only mapping too; at most kOverrideWalk loads a walk
// whatever the bytes are.
class Overrides {
 public:
  // No table: finds nothing.
  Overrides() = default;
  // REQUIRES: `section` is 64-byte aligned and has `elements` of kOverrideElementSize.
  Overrides(const void* section, uint64_t elements) noexcept {
    if (elements <= kOverrideHeaderElements) return;
    header_ = static_cast<const OverrideHeader*>(section);
    entries_ = static_cast<const Pair*>(section) + kOverrideHeaderElements;
    count_ = elements - kOverrideHeaderElements;
  }

  // Most overrides the table takes.
  uint64_t most() const noexcept { return (count_ + 1) / 2; }
  uint64_t size() const noexcept {
    return count_ == 0 ? 0 : header_->entries.load(std::memory_order_acquire);
  }
  bool empty() const noexcept { return size() == 0; }

  // The key's override for policy `from`, or else its override for any policy.
  // now() gives override_now() of the clock; it is called only for an entry that ends.
  template <class Now>
  OverrideMatch find(uint16_t from, OverrideHash hash, Now now) const noexcept {
    OverrideMatch any;
    if (empty()) [[likely]]
      return any;
    const uint64_t low = override_low(hash);
    uint64_t at = home(low);
    for (uint64_t left = walk_length(); left != 0; --left) {
      const uint64_t seen_low = load_low(&entries_[at]);
      if (seen_low == kOverrideUnused) break;
      if (seen_low == low) {
        const Pair seen = load128(&entries_[at]);
        const Override what = unpack_override(seen.high);
        if (same_key(seen, hash) &&
            ((what.action & kOverrideEnds) == 0 || !has_ended(what, now()))) {
          if (what.from == from) return {true, what};
          if (what.from == kAnyPolicy && !any.found) any = {true, what};
        }
      }
      if (++at == count_) at = 0;
    }
    return any;
  }

  // Whether it has ended or not.
  OverrideMatch find(uint16_t from, OverrideHash hash) const noexcept {
    return find(from, hash, [] { return uint64_t{0}; });
  }

  // The override of the smallest network around an address that has one. hash_of(uint8_t prefix)
  // gives the hash {low, high} of the network's canonical text; it is called only for prefix
  // lengths that some override uses, longest first.
  template <class HashOf, class Now>
  OverrideMatch find_network(uint16_t from, Family family, HashOf hash_of, Now now) const noexcept {
    if (empty() || family == Family::kNone) [[likely]]
      return {};
    const bool v4 = family == Family::kV4;
    for (int i = v4 ? 0 : 2; i >= 0; --i) {
      // Acquire: the bits are older than the entries that find() looks at.
      uint64_t bits = header_->prefixes[v4 ? 0 : i + 1].load(std::memory_order_acquire);
      bits &= v4 ? (uint64_t{1} << 33) - 1 : i == 2 ? 1 : ~uint64_t{0};
      while (bits != 0) {
        const int bit = 63 - __builtin_clzll(bits);
        bits ^= uint64_t{1} << bit;
        const auto hash = hash_of(static_cast<uint8_t>(64 * i + bit));
        const OverrideMatch match = find(from, {hash.low, hash.high}, now);
        if (match.found) return match;
      }
    }
    return {};
  }

  template <class HashOf>
  OverrideMatch find_network(uint16_t from, Family family, HashOf hash_of) const noexcept {
    return find_network(from, family, hash_of, [] { return uint64_t{0}; });
  }

  // For verify: the entries as they lie, whether a walk from its home comes to one, the writers'
  // mark, and the count that readers go by.
  uint64_t places() const noexcept { return count_; }
  Pair place(uint64_t i) const noexcept { return load128(&entries_[i]); }
  bool leads_to(uint64_t place) const noexcept {
    uint64_t at = home(load_low(&entries_[place]));
    for (uint64_t left = walk_length(); left != 0; --left) {
      if (at == place) return true;
      if (load_low(&entries_[at]) == kOverrideUnused) return false;
      if (++at == count_) at = 0;
    }
    return false;
  }
  bool changing() const noexcept {
    return count_ != 0 && header_->changing.load(std::memory_order_acquire) != 0;
  }

  // The prefix lengths in use; all zero without a table.
  void network_prefixes(uint64_t (&prefixes)[4]) const noexcept {
    for (int i = 0; i < 4; ++i) {
      prefixes[i] = count_ == 0 ? 0 : header_->prefixes[i].load(std::memory_order_acquire);
    }
  }

  // visit(place, OverrideHash, const Override&) for every entry, in no order, whether it has ended
  // or not. The hash lacks 32 bits, but finds, replaces and removes the entry like the key's own.
  template <class Visit>
  void for_each(Visit visit) const {
    for (uint64_t i = 0; i < count_; ++i) {
      const Pair seen = load128(&entries_[i]);
      if (seen.low <= kOverrideDeleted) continue;
      const Override what = unpack_override(seen.high);
      const bool ends = (what.action & kOverrideEnds) != 0;
      visit(i, OverrideHash{seen.low, ends ? 0 : static_cast<uint32_t>(seen.high), !ends}, what);
    }
  }

 private:
  friend class OverrideWriter;

  static bool same_key(const Pair& seen, OverrideHash hash) noexcept {
    return seen.low == override_low(hash) &&
           (!hash.whole || seen.high >> 63 != 0 ||  // kOverrideEnds
            static_cast<uint32_t>(seen.high) == static_cast<uint32_t>(hash.high));
  }
  uint64_t home(uint64_t low) const noexcept {
    return static_cast<uint64_t>((static_cast<uint128>(low) * count_) >> 64);
  }
  uint64_t walk_length() const noexcept { return std::min(count_, kOverrideWalk); }

  const OverrideHeader* header_ = nullptr;
  const Pair* entries_ = nullptr;
  uint64_t count_ = 0;
};

// A key's text as an entry of kOverrideTexts takes it: all of it, or the beginning, with its check.
struct OverrideName {
  std::string_view text;
  uint64_t length = 0;  // of the whole key; 0: there is no text to store
  uint64_t check = 0;
};

// Changing. Set-up and tools only; the caller holds the write lock for each call.
class OverrideWriter {
 public:
  // REQUIRES: as Overrides, and the section is writable; `texts` has an element for each entry, or
  // is null. `now`: override_now() of the clock, by which entries have ended.
  OverrideWriter(void* section, uint64_t elements, OverrideText* texts = nullptr,
                 uint64_t now = 0) noexcept
      : table_(section, elements), texts_(texts), now_(now) {
    if (table_.count_ == 0) return;
    header_ = static_cast<OverrideHeader*>(section);
    entries_ = static_cast<Pair*>(section) + kOverrideHeaderElements;
  }

  // Inserts the override of {hash, what.from}, or replaces it. When it returns, every process
  // sees it. REQUIRES: from and to have 12 bits, the prefix fits its family.
  // Errors: ResourceExhausted (override_table_full), Unavailable (lock_failed).
  absl::Status set(OverrideHash hash, const Override& what, NetworkKind network = {},
                   const OverrideName& name = {});

  // Makes readers try these prefix lengths, four words as in OverrideHeader: for entries that are
  // set by their hashes. Killed here: prefixes tried in vain.
  void add_prefixes(const uint64_t* prefixes) noexcept {
    for (int i = 0; i < 4 && header_ != nullptr; ++i) header_->prefixes[i].fetch_or(prefixes[i]);
  }

  // False: there is none, or it has ended.
  bool remove(OverrideHash hash, uint16_t from) noexcept;

  // Deletes those that have ended, counts the entries, turns deleted ones that end a walk into
  // unused ones, and forgets the prefix lengths if no entry is left. Never needed: set() and
  // remove() call it where it helps.
  void rebuild() noexcept;

  // Ends a change whose writer was killed, and counts the entries.
  void finish_interrupted() noexcept;

  const Overrides& table() const noexcept { return table_; }

 private:
  enum class Attempt : uint8_t { kDone, kFull, kLost };
  struct Place {
    uint64_t at = 0;
    Pair seen;
    bool found = false;
  };

  void begin() noexcept;
  void end() noexcept;
  Attempt attempt(OverrideHash hash, const Override& what, NetworkKind network,
                  const OverrideName& name) noexcept;
  bool store(const Place& place, OverrideHash hash, const Override& what, NetworkKind network,
             const OverrideName& name) noexcept;
  bool has_gone(const Pair& seen) const noexcept {
    return seen.low > kOverrideDeleted && has_ended(unpack_override(seen.high), now_);
  }
  void locate(OverrideHash hash, uint16_t from, Place& own, Place& room) const noexcept;
  void drop_deleted(uint64_t last) noexcept;
  bool exchange(uint64_t at, Pair from, Pair to) noexcept;
  absl::Status full() const;

  Overrides table_;
  OverrideHeader* header_ = nullptr;
  Pair* entries_ = nullptr;
  OverrideText* texts_ = nullptr;
  uint64_t now_ = 0;
};

}  // namespace brim::shm

#endif  // BRIM_SHM_OVERRIDES_H_
