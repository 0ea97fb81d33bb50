// SPDX-License-Identifier: MIT
// The keys of a segment that matter to other nodes: when each is told next, what is told, and what
// is made of the answer. No store and no clock of its own: an agent and a simulation run it alike.
//
//   auto pushes = keys.begin(now);          // looks at the segment; what is to be told now
//   store.exchange(pushes, answers, ...);
//   keys.end(answers, now);
//
// A key in use is told again after seven eighths of the interval, after half of it once it owes
// half of its burst, after an eighth from three quarters on; the segment is looked at every eighth.
// So a use waits at most an interval, and while a round is under way. A key that nobody uses here
// is asked about more and more rarely, and left alone once it owes less than half.
// docs/concepts/cluster.md derives from this how far nodes together may exceed a limit.
#ifndef BRIM_SRC_TIER_KEYS_H_
#define BRIM_SRC_TIER_KEYS_H_

#include <cstdint>
#include <queue>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "src/tier/store.h"
#include "src/tier/view.h"

namespace brim::tier {

inline constexpr size_t kMostPushes = 512;  // of one exchange
inline constexpr int64_t kKeepMs = 60000;   // see store.h
// A word holds debt of a minute beyond its burst (the least `ahead` of policies `scope cluster`):
// no key that owes more may wait longer for the next answer.
inline constexpr int64_t kMostQuietNs = 20000000000;

// Counters grow only.
struct KeysSeen {
  int64_t lag_ns = 0;              // the longest of the last round; see TierStatus
  uint64_t overshoot_permits = 0;  // the most
  uint64_t healed = 0;
};

class Keys {
 public:
  Keys(View& view, int64_t interval_ns, bool texts)
      : view_(&view), interval_ns_(interval_ns), texts_(texts) {}

  // What the segment and the cluster are now. Not between begin() and end().
  void set_terms(std::vector<ClusterPolicy> policies, uint64_t nodes);
  const std::vector<ClusterPolicy>& policies() const { return policies_; }

  // Every key that owes or used anything is told once, at once: at the start, after the store was
  // away, and at the end.
  void tell_all() { all_ = true; }

  // Good until end(), which must follow unless there are none.
  std::span<const Push> begin(int64_t now_ns);
  void end(std::span<const PushAnswer> answers, int64_t now_ns);
  // When begin() is worth while again.
  int64_t next_ns() const;
  // Nothing is due that tell_all() asked for.
  bool all_told() const { return !all_ && forced_ == 0; }

  // Others are not heard of: they are taken to use each key as they did.
  void charge_others(int64_t now_ns);

  size_t size() const { return entries_.size(); }
  const KeysSeen& seen() const { return seen_; }

 private:
  struct Entry {
    KeyUse use;  // as of the last look
    int64_t due_ns = 0;
    int64_t tried_ns = 0;    // the last try; 0: never
    int64_t told_ns = 0;     // the last one that was answered; 0: never
    int64_t charged_ns = 0;  // others' use is charged up to here
    int64_t clean_ns = 0;    // nothing was untold then
    uint64_t told_total = 0;
    uint64_t level = 0;    // as of told_ns
    uint64_t changes = 0;  // as of then, by the store's count; 0: not known
    bool cut = false;      // the word had no room for all of a level
    double others = 0;     // units per ns
    int quiet = 0;         // exchanges without any use
    bool forced = false;   // told whatever it owes
  };
  using Due = std::pair<int64_t, uint64_t>;  // when, slot

  void look(int64_t now_ns);
  void note(const KeyUse& use, int64_t now_ns, bool at_once);
  bool add_push(uint64_t slot, Entry& entry);
  void merge(Entry& entry, const PushAnswer& answer, int64_t now_ns);
  void charge(Entry& entry, int64_t now_ns);
  void set_due(uint64_t slot, Entry& entry, int64_t due_ns);
  void set_forced(Entry& entry, bool forced);
  int64_t period(const Entry& entry) const;
  const ClusterPolicy* policy_of(const KeyUse& use) const;
  bool left_alone(const KeyUse& use) const;

  View* view_;
  int64_t interval_ns_;
  bool texts_;
  std::vector<ClusterPolicy> policies_;
  std::unordered_map<uint16_t, size_t> numbers_;  // into policies_
  uint64_t nodes_ = 1;

  std::unordered_map<uint64_t, Entry> entries_;                       // by slot
  std::priority_queue<Due, std::vector<Due>, std::greater<>> queue_;  // some are out of date
  bool all_ = true;
  size_t forced_ = 0;
  int64_t looked_ns_ = 0;

  // The exchange under way.
  int64_t sent_ns_ = 0;
  std::vector<uint64_t> slots_;
  std::vector<RateUse> rates_;
  std::vector<Push> pushes_;
  KeysSeen seen_;
};

// What a node may use of a key before others hear of it: all nodes together half a burst.
uint32_t hold_back(uint32_t burst, uint64_t nodes);

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_KEYS_H_
