// SPDX-License-Identifier: MIT
#include "shm/overrides.h"

#include "shm/names.h"
#include "src/base/text.h"

namespace brim::shm {

namespace {

// Lost races against a writer who does not hold the lock.
constexpr int kMaxRounds = 100;

}  // namespace

// Seq_cst throughout: nobody counts nanoseconds here.
void OverrideWriter::begin() noexcept {
  if (header_->changing.load() != 0) rebuild();  // the last writer died at it
  BRIM_STORE_POINT();
  header_->changing.store(1);
}

void OverrideWriter::end() noexcept {
  BRIM_STORE_POINT();
  header_->changing.store(0);
}

bool OverrideWriter::exchange(uint64_t at, Pair from, Pair to) noexcept {
  return cas128(&entries_[at], from, to);
}

// own: the entry of {hash, from}. room: the first one that an insertion may take.
void OverrideWriter::locate(OverrideHash hash, uint16_t from, Place& own,
                            Place& room) const noexcept {
  own = room = {};
  uint64_t at = table_.home(override_low(hash));
  for (uint64_t left = table_.walk_length(); left != 0; --left) {
    const Pair seen = load128(&entries_[at]);
    if ((seen.low <= kOverrideDeleted || has_gone(seen)) && !room.found) room = {at, seen, true};
    if (seen.low == kOverrideUnused) return;
    if (Overrides::same_key(seen, hash) && unpack_override(seen.high).from == from) {
      own = {at, seen, true};
      return;
    }
    if (++at == table_.count_) at = 0;
  }
}

bool OverrideWriter::store(const Place& place, OverrideHash hash, const Override& what,
                           NetworkKind network, const OverrideName& name) noexcept {
  if (network.family != Family::kNone) {
    const bool v4 = network.family == Family::kV4;
    const uint32_t word = v4 ? 0 : 1 + network.prefix / 64;
    // Before the entry, so that no entry lacks its bit. Killed here: a prefix tried in vain.
    BRIM_STORE_POINT();
    header_->prefixes[word & 3].fetch_or(uint64_t{1} << (network.prefix & 63));
  }
  if (texts_ != nullptr && name.length != 0) {
    // Before the entry. Killed here: the old entry has no text that is shown, or still its own.
    store_name(&texts_[place.at].entry, kOverrideTextBytes, name.text, name.length, 0, name.check);
  }
  const bool inserts = place.seen.low <= kOverrideDeleted;
  // Before the entry, so that no reader finds 0. Killed here: one too many, until the next writer.
  BRIM_STORE_POINT();
  if (inserts) header_->entries.fetch_add(1);
  // Killed here: before, the old entry; after, the new one.
  if (exchange(place.at, place.seen, {override_low(hash), pack_override(what, hash.high)})) {
    return true;
  }
  BRIM_STORE_POINT();
  if (inserts) header_->entries.fetch_sub(1);
  return false;
}

OverrideWriter::Attempt OverrideWriter::attempt(OverrideHash hash, const Override& what,
                                                NetworkKind network,
                                                const OverrideName& name) noexcept {
  Place own;
  Place room;
  locate(hash, what.from, own, room);
  if (own.found) return store(own, hash, what, network, name) ? Attempt::kDone : Attempt::kLost;
  const bool takes_over = room.found && has_gone(room.seen);  // one less, one more
  if (!takes_over && table_.size() >= table_.most()) {
    rebuild();  // some may have ended, the count may be too high
    locate(hash, what.from, own, room);
  }
  if (!room.found || (!takes_over && table_.size() >= table_.most())) return Attempt::kFull;
  return store(room, hash, what, network, name) ? Attempt::kDone : Attempt::kLost;
}

absl::Status OverrideWriter::set(OverrideHash hash, const Override& what, NetworkKind network,
                                 const OverrideName& name) {
  if (table_.count_ == 0) return full();
  begin();
  Attempt result = Attempt::kLost;
  for (int round = 0; round < kMaxRounds && result == Attempt::kLost; ++round) {
    result = attempt(hash, what, network, name);
  }
  end();
  if (result == Attempt::kDone) return absl::OkStatus();
  if (result == Attempt::kFull) return full();
  return absl::UnavailableError(
      "lock_failed: the override table changes while it is locked: a process writes to the segment "
      "without the lock; stop it and try again");
}

// Turns the deleted entries from `last` backwards into unused ones, if an unused one follows. No
// key lies behind those: a reader who stops there misses nothing.
void OverrideWriter::drop_deleted(uint64_t last) noexcept {
  if (load_low(&entries_[(last + 1) % table_.count_]) != kOverrideUnused) return;
  for (uint64_t n = 0, at = last; n < table_.count_; ++n) {
    const Pair seen = load128(&entries_[at]);
    // Killed here: a deleted entry stays until begin() finds the mark.
    if (seen.low != kOverrideDeleted || !exchange(at, seen, {kOverrideUnused, 0})) return;
    at = (at == 0 ? table_.count_ : at) - 1;
  }
}

bool OverrideWriter::remove(OverrideHash hash, uint16_t from) noexcept {
  if (table_.count_ == 0) return false;
  begin();
  bool removed = false;
  bool lived = false;
  for (int round = 0; round < kMaxRounds && !removed; ++round) {
    Place own;
    Place room;
    locate(hash, from, own, room);
    if (!own.found) break;
    lived = !has_gone(own.seen);
    removed = exchange(own.at, own.seen, {kOverrideDeleted, 0});
    if (!removed) continue;
    drop_deleted(own.at);
    // After the entry: see store(). The last one gone, the readers' work shrinks to one load.
    if (table_.size() > 1) {
      BRIM_STORE_POINT();
      header_->entries.fetch_sub(1);
    } else {
      rebuild();
    }
  }
  end();
  return removed && lived;
}

void OverrideWriter::rebuild() noexcept {
  if (table_.count_ == 0) return;
  uint64_t live = 0;
  for (uint64_t i = 0; i < table_.count_; ++i) {
    const Pair seen = load128(&entries_[i]);
    if (seen.low <= kOverrideDeleted) continue;
    // Killed here: one more that has ended, counted too many.
    if (has_gone(seen) && exchange(i, seen, {kOverrideDeleted, 0})) continue;
    ++live;
  }
  if (live == 0) {
    for (auto& word : header_->prefixes) {
      BRIM_STORE_POINT();
      word.store(0);
    }
  }
  BRIM_STORE_POINT();
  header_->entries.store(live);
  for (uint64_t i = 0; i < table_.count_; ++i) {
    const Pair seen = load128(&entries_[i]);
    if (seen.low != kOverrideDeleted) continue;
    if (live == 0) {
      exchange(i, seen, {kOverrideUnused, 0});
    } else {
      drop_deleted(i);
    }
  }
}

void OverrideWriter::finish_interrupted() noexcept {
  if (table_.count_ == 0) return;
  rebuild();
  end();
}

absl::Status OverrideWriter::full() const {
  return absl::ResourceExhaustedError(
      cat("override_table_full: no room for another override: the segment holds ", table_.size(),
          " of at most ", table_.most(),
          "; remove some, or create it with more (max_overrides, --max-overrides)"));
}

}  // namespace brim::shm
