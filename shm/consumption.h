// SPDX-License-Identifier: MIT
// What the keys of policies `scope cluster` have used, for the other nodes: a cell beside each
// slot, a bitmap of the slots whose cells matter now, and a board for what the agent knows.
//
// Cell, 32 bytes: two pairs, each changed by a 16-byte compare-and-swap only.
//     use    {id of the slot whose use is counted | nonce 24, permits 40}
//     told   {identity of the key in the cluster  | nonce 24, permits acknowledged 40}
// The pairs belong together if their nonces are equal and not 0. A count begins anew, with a new
// nonce, when the slot has become another key's; what the last one's owner had not told by then is
// lost (it was idle for long, or evicted). Permits count modulo 2^40 and may go down: given back.
//
// Order. A worker counts after its charge and before it answers; then it sets the slot's bit,
// unless it is set. The agent clears the bit first and reads the cell then. All of these are
// sequentially consistent [E8], so a count that finds the bit set is seen by the look that follows
// the clearing.
#ifndef BRIM_SHM_CONSUMPTION_H_
#define BRIM_SHM_CONSUMPTION_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "shm/layout.h"
#include "shm/schedule_point.h"
#include "shm/slot.h"

namespace brim::shm {

inline constexpr int kTotalBits = 40;
inline constexpr uint64_t kTotalMask = (uint64_t{1} << kTotalBits) - 1;

constexpr uint64_t pack_total(uint64_t nonce, uint64_t total) noexcept {
  return nonce << kTotalBits | (total & kTotalMask);
}
constexpr uint64_t nonce_of(uint64_t word) noexcept { return word >> kTotalBits; }
constexpr uint64_t total_of(uint64_t word) noexcept { return word & kTotalMask; }

struct UseCell {
  alignas(32) AtomicSlot use;
  AtomicSlot told;
};
static_assert(sizeof(UseCell) == 32);

// Written by the agent that has the lease; for people, but for the secret.
struct TierBoard {
  static constexpr size_t kNumbers = 24;
  static constexpr size_t kTextWords = 24;
  // The key of the hash that names keys. Odd: being written. 0: there is none yet.
  alignas(64) std::atomic<uint64_t> secret_version;
  std::atomic<uint64_t> secret[2];
  std::atomic<uint64_t> strict_calls;
  std::atomic<uint64_t> strict_errors;
  std::atomic<uint64_t> reserved[3];
  std::atomic<uint64_t> numbers[kNumbers];
  std::atomic<uint64_t> store[kTextWords];  // zero-terminated
  std::atomic<uint64_t> error[kTextWords];
};
static_assert(sizeof(TierBoard) == 640);

constexpr uint64_t near_words(uint64_t slots) noexcept { return (slots + 63) / 64; }

// One count of one slot, as of one look.
struct UseSeen {
  uint64_t id = kVirginId;
  uint64_t nonce = 0;
  uint64_t total = 0;
  uint64_t identity = 0;  // 0: not known yet
  uint64_t acked = 0;
  // Permits that nobody was told of; negative: given back.
  int64_t untold() const noexcept {
    const auto gone = static_cast<int64_t>((total - acked) << (64 - kTotalBits));
    return gone >> (64 - kTotalBits);
  }
};

class Consumption {
 public:
  // Rounds after which a count is given up: a lost race each, never seen beyond a few.
  static constexpr uint32_t kMostRounds = 4096;

  Consumption() = default;
  Consumption(const AtomicSlot* slots, UseCell* cells, std::atomic<uint64_t>* near,
              TierBoard* board) noexcept
      : slots_(slots), cells_(cells), near_(near), board_(board) {}
  bool kept() const noexcept { return cells_ != nullptr && near_ != nullptr && board_ != nullptr; }
  TierBoard* board() const noexcept { return board_; }

  UseSeen look(uint64_t i) const noexcept {
    const Slot told = HardwareAtomics::load(&cells_[i].told);  // before: never ahead of `use`
    const Slot use = HardwareAtomics::load(&cells_[i].use);
    UseSeen seen{use.id, nonce_of(use.word), total_of(use.word), 0, 0};
    if (nonce_of(told.word) != seen.nonce || seen.nonce == 0) return seen;
    seen.identity = told.id;
    seen.acked = total_of(told.word);
    return seen;
  }

  // Counts `permits` for the key `id` in slot i; `nonce()` is for a new count. False: given up, and
  // others will not hear of them: the slot is another key's by now, whose count must not be lost
  // for the sake of one that was stopped for as long as its key took to be idle. Killed before:
  // they were charged and nobody was told that they were. After: all is well.
  template <class Nonce>
  bool count(uint64_t i, uint64_t id, int64_t permits, Nonce nonce, UseSeen& now) const noexcept {
    const auto delta = static_cast<uint64_t>(permits);
    for (uint32_t round = 0; round < kMostRounds; ++round) {
      const Slot seen = HardwareAtomics::load(&cells_[i].use);
      const bool goes_on = seen.id == id && nonce_of(seen.word) != 0;
      if (!goes_on && HardwareAtomics::load_id(&slots_[i]) != id) return false;
      Slot next = {id, pack_total(nonce_of(seen.word), total_of(seen.word) + delta)};
      if (!goes_on) {  // not the one of what was told: a name and a total of another key
        const uint64_t old = nonce_of(HardwareAtomics::load(&cells_[i].told).word);
        const uint64_t fresh = nonce();
        next.word = pack_total(fresh == old ? fresh ^ 2 : fresh, delta);
      }
      if (!HardwareAtomics::cas(&cells_[i].use, seen, next)) {
        if (round > 4) HardwareAtomics::pause();
        continue;
      }
      const Slot told = HardwareAtomics::load(&cells_[i].told);
      now = {id, nonce_of(next.word), total_of(next.word), 0, 0};
      if (nonce_of(told.word) == now.nonce) {
        now.identity = told.id;
        now.acked = total_of(told.word);
      }
      return true;
    }
    return false;
  }

  // Says whose count it is. Two that do it at once for one count write the same. Nothing once
  // another count has begun, which says itself whose it is: if it begins after the look at `use`,
  // it finds the wrong name, and one of the two compare-and-swaps fails.
  // Killed before: the agent passes over the cell until the key is counted again.
  void identify(uint64_t i, const UseSeen& now, uint64_t identity) const noexcept {
    for (uint32_t round = 0; round < kMostRounds; ++round) {
      const Slot told = HardwareAtomics::load(&cells_[i].told);
      if (nonce_of(told.word) == now.nonce && told.id == identity) return;
      if (nonce_of(HardwareAtomics::load(&cells_[i].use).word) != now.nonce) return;
      if (HardwareAtomics::cas(&cells_[i].told, told, {identity, pack_total(now.nonce, 0)})) return;
    }
  }

  // For the agent. What was told of the count `seen`; nothing if another has begun.
  void acknowledge(uint64_t i, uint64_t identity, uint64_t nonce, uint64_t total) const noexcept {
    for (uint32_t round = 0; round < kMostRounds; ++round) {
      const Slot told = HardwareAtomics::load(&cells_[i].told);
      if (told.id != identity || nonce_of(told.word) != nonce) return;
      // Killed here: it is told once more, which is the same.
      if (HardwareAtomics::cas(&cells_[i].told, told, {identity, pack_total(nonce, total)})) return;
    }
  }

  // For the agent: the key has another identity, under a new secret. Whoever writes a name in
  // between does so under the new one, or looks at the secret's version afterwards.
  void forget_identity(uint64_t i) const noexcept {
    const Slot told = HardwareAtomics::load(&cells_[i].told);
    if (told.id != 0) HardwareAtomics::cas(&cells_[i].told, told, {0, 0});
  }

  // [E8] The bit of slot i.
  void mark(uint64_t i) const noexcept {
    std::atomic<uint64_t>& word = near_[i / 64];
    const uint64_t bit = uint64_t{1} << (i % 64);
    BRIM_SCHEDULE_POINT();
    if ((word.load(std::memory_order_seq_cst) & bit) != 0) return;
    // Killed here: the next use of the key marks it.
    BRIM_STORE_POINT();
    word.fetch_or(bit, std::memory_order_seq_cst);
  }
  // The marks of slots 64 * w to 64 * w + 63, which are taken away.
  uint64_t take_marks(uint64_t w) const noexcept {
    BRIM_SCHEDULE_POINT();
    if (near_[w].load(std::memory_order_relaxed) == 0) return 0;
    // Killed here: whoever is agent next looks at every cell first.
    BRIM_STORE_POINT();
    return near_[w].exchange(0, std::memory_order_seq_cst);
  }

  // [E9] The secret, written by one agent at a time; false: there is none, or it is being written.
  bool secret(uint64_t key[2], uint64_t* version = nullptr) const noexcept {
    const uint64_t before = board_->secret_version.load(std::memory_order_acquire);
    if (before == 0 || before % 2 != 0) return false;
    for (int i = 0; i < 2; ++i) key[i] = board_->secret[i].load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    if (version != nullptr) *version = before;
    return board_->secret_version.load(std::memory_order_relaxed) == before;
  }
  // Whether what was named under a secret of this version stays named: either who changes the
  // secret finds the name afterwards, and takes it away, or this finds the change.
  bool secret_is(uint64_t version) const noexcept {
    BRIM_SCHEDULE_POINT();
    return board_->secret_version.load(std::memory_order_seq_cst) == version;
  }
  void set_secret(const uint64_t key[2]) const noexcept {
    const uint64_t version = board_->secret_version.load(std::memory_order_relaxed) | 1;
    // Killed here, or before the last: there is none until an agent writes it anew.
    BRIM_STORE_POINT();
    board_->secret_version.store(version, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    for (int i = 0; i < 2; ++i) {
      BRIM_STORE_POINT();
      board_->secret[i].store(key[i], std::memory_order_relaxed);
    }
    BRIM_STORE_POINT();
    board_->secret_version.store(version + 1, std::memory_order_seq_cst);  // see secret_is()
  }

 private:
  const AtomicSlot* slots_ = nullptr;
  UseCell* cells_ = nullptr;
  std::atomic<uint64_t>* near_ = nullptr;
  TierBoard* board_ = nullptr;
};

// Texts of the board: written and read word by word, for people.
inline void store_text(std::atomic<uint64_t>* words, size_t count, std::string_view text) noexcept {
  for (size_t w = 0; w < count; ++w) {
    uint64_t word = 0;
    const size_t from = w * 8;
    const size_t most = w + 1 == count ? 7 : 8;  // a zero at the end
    if (from < text.size())
      std::memcpy(&word, text.data() + from, std::min(most, text.size() - from));
    BRIM_STORE_POINT();
    words[w].store(word, std::memory_order_relaxed);
  }
}
inline std::string load_text(const std::atomic<uint64_t>* words, size_t count) {
  std::string text;
  for (size_t w = 0; w < count; ++w) {
    const uint64_t word = words[w].load(std::memory_order_relaxed);
    char bytes[8];
    std::memcpy(bytes, &word, sizeof(bytes));
    for (const char c : bytes) {
      if (c == '\0') return text;
      text += c;
    }
  }
  return text;
}

}  // namespace brim::shm

#endif  // BRIM_SHM_CONSUMPTION_H_
