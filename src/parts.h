// SPDX-License-Identifier: MIT
// The general request path: policies with several rates, classes, bans, overrides, shadow or
// cells, and several policies in one call. All or nothing: every part is looked at first, then
// charged one by one; if one refuses after all, those before it are given back.
#ifndef BRIM_SRC_PARTS_H_
#define BRIM_SRC_PARTS_H_

#include <cstdint>
#include <string_view>

#include "brim/limiter.h"
#include "src/call.h"

namespace brim {

// One rate of one policy for one key.
struct Part {
  Target target;
  std::string_view key;
  uint32_t cost = 1;
  uint8_t ask = 0;  // index of the ask it belongs to
  Family family = Family::kBucket;
  Decision answer = {};
  // What a charge must know to be undone: its receipt, or the cells it took.
  bool charged = false;
  Receipt receipt = {};
  Use use = {};
  uint64_t span_ns = 0;
  shm::LogResult taken = {};
};

// src/parts_cells.cc: rates that keep cells.
Decision peek_log(const Engine& engine, const Part& part, int64_t now) noexcept;
Decision charge_log(const Engine& engine, Part& part, int64_t now) noexcept;
void undo_log(const Engine& engine, const Part& part) noexcept;
uint32_t refund_log(const Engine& engine, const Part& part, uint32_t cost) noexcept;

// The options of a policy as of one instant; false if there is no such policy.
bool read_options(const Engine& engine, uint16_t policy, PolicyOptions& options) noexcept;

// Whether the policy's refusals bind this key: the same for all calls and processes.
inline bool is_enforced(const PolicyOptions& options, const Hash128& hash) noexcept {
  return options.enforced_percent >= 100 || hash.high % 100 < options.enforced_percent;
}

// Answers of the words `deny` and `unlimited`.
Decision refuse_always() noexcept;
Decision admit_uncounted() noexcept;
// Answer to a key that is banned for so long.
Decision refuse_barred(int64_t left_ns) noexcept;

// Counts what Parts::add() decided by itself.
void count_decided(const Engine& engine, uint16_t policy, const Decision& decision) noexcept;

// Charges `more` permits to one rate whatever is left. False if that could not be done in full.
bool charge_more(const Engine& engine, Part& part, uint32_t more) noexcept;

// Ends the ban that the policy's own `ban` gave the key. False: there was none.
bool lift_ban(const Engine& engine, uint16_t policy, std::string_view key) noexcept;

// What the word of one part would answer. REQUIRES: family is not kCells.
Decision peek_word(const Engine& engine, const Part& part, int64_t now) noexcept;

class Parts {
 public:
  // At most this many rates in one call.
  static constexpr size_t kMost = PolicyHandle::kMaxAsks * kMaxRates;

  explicit Parts(const Engine& engine) noexcept : engine_(&engine) {}
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;

  // Adds the rates that a request of `key` is subject to. False: decided() holds the answer. With
  // `asks` false, for calls that only change what is charged, a stopped policy is one like others,
  // and a key that an override bans is a key like others.
  bool add(uint16_t policy, std::string_view key, uint32_t cost, Priority priority,
           bool asks = true) noexcept;

  Decision acquire(int64_t now) noexcept;
  Decision peek(int64_t now) noexcept;
  // True, and counted: one of the keys is banned, as decided() says.
  bool any_barred(int64_t now) noexcept;
  // Counts the refusal of a booking for the only ask; in shadow it is admitted.
  Decision refuse_booking(Decision answer, int64_t now) noexcept;
  // What a read-only process is told. REQUIRES: size() != 0.
  Decision read_only() const noexcept;
  Decision decided() const noexcept { return decided_; }
  // The policy that the first ask follows, its own or an override's. REQUIRES: add() was true.
  uint16_t followed() const noexcept { return asked_[0].followed; }
  // Whether that one asks the store of all nodes. REQUIRES: add() was true.
  bool strict() const noexcept { return asked_[0].strict; }

  size_t size() const noexcept { return size_; }
  Part& operator[](size_t i) noexcept { return parts_[i]; }

 private:
  // One policy and key.
  struct Asked {
    uint16_t policy = 0;    // as asked
    uint16_t followed = 0;  // after overrides
    bool enforced = true;
    bool bans = false;
    bool strict = false;
    bool shadowed = false;  // refused, but not enforced: nothing of it is charged
    Hash128 hash = {};
    std::string_view key;
    Decision refusal = {};  // if shadowed
  };

  bool decide_now(const Decision& decision) noexcept;
  bool follow_override(Asked& ask, PolicyOptions& options, bool asks) noexcept;
  bool barred(const Asked& ask, int64_t now) noexcept;
  int64_t count_refusal(const Asked& ask, int64_t now) noexcept;
  bool survey(int64_t now, Decision& answer) noexcept;
  void count_denied(int64_t now) noexcept;
  Decision charge(int64_t now) noexcept;
  Decision ask_cluster(int64_t now) noexcept;  // src/strict.cc, and the next
  Decision without_cluster() noexcept;
  Decision admitted(bool writes) noexcept;
  Decision refused(Decision answer, int64_t now) noexcept;
  void refuse_in_shadow(size_t part, const Decision& one) noexcept;
  void undo(size_t part) noexcept;
  void count_all(PolicyCounter counter) const noexcept;
  uint8_t label(size_t part) const noexcept {
    return asked_count_ > 1 ? parts_[part].ask : parts_[part].target.part;
  }

  const Engine* engine_;
  size_t size_ = 0;
  size_t asked_count_ = 0;
  Decision decided_;
  // Only the first asked_count_ and size_ of them exist: most calls need one.
  union {
    Asked asked_[PolicyHandle::kMaxAsks];
  };
  union {
    Part parts_[kMost];
  };
};

}  // namespace brim

#endif  // BRIM_SRC_PARTS_H_
