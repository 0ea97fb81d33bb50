// SPDX-License-Identifier: MIT
// The observer: takes the records of all workers of a round, when none of them is left, and checks
// every key of every policy. What the next round must know of a key is carried over, so windows
// that lie across rounds are checked like others.
#ifndef BRIM_TESTS_SOAK_OBSERVER_H_
#define BRIM_TESTS_SOAK_OBSERVER_H_

#include <array>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/soak/checks.h"
#include "tests/soak/record.h"

namespace brim::soak {

// Latencies in bins of an eighth of an octave.
struct Latencies {
  std::array<uint64_t, 512> bins = {};
  void add(int64_t ns);
  int64_t quantile(double share) const;  // 0 if there are none
};

struct Totals {
  uint64_t calls = 0;
  uint64_t admitted = 0;
  uint64_t refused = 0;
  uint64_t unavailable = 0;
  uint64_t windows = 0;
  uint64_t unknown = 0;
  uint64_t unknown_twice = 0;  // workers with more than one unanswered call
  uint64_t strange = 0;        // answers that the policy does not have
  uint64_t unexplained = 0;    // refusals
  uint64_t keys = 0;
  std::array<int64_t, kPlanCount> excess = {};
  std::array<uint64_t, kPlanCount> contended = {};
  std::array<uint64_t, kPlanCount> taken = {};    // admitted, by policy
  std::array<uint64_t, kPlanCount> denials = {};  // by policy
  Saturation hot = {};
  Latencies before;  // of calls with no kill in the second before them
  Latencies after;
};

class Observer {
 public:
  // Times are counted from `base_ns`.
  Observer(int64_t base_ns, WallOffset wall) : base_(base_ns), wall_(wall) {
    wall_.least += base_ns;
    wall_.most += base_ns;
  }

  void add(const RecordFile& file);
  // All workers of the round have been added, and ended before end_ns.
  void check(int64_t end_ns);
  const Totals& totals() const { return totals_; }
  // The first few findings, in words.
  const std::string& findings() const { return findings_; }

 private:
  struct State {
    std::array<Paid, 3> paid = {};
    History history;  // of rounds before, as far as it still matters
  };
  struct Item {
    uint64_t key;  // {policy, key}
    Call call;
    enum class What : uint8_t { kAdmitted, kUnknown, kRefund, kRefused, kBan, kOther, kSpan } what;
    LeaseSpan span;
  };

  void add_acquire(const Record& record, Item& item);
  void add_leases(const RecordFile& file, uint32_t count, int64_t margin);
  void check_key(uint64_t key, const Item* first, const Item* last);
  int64_t judge(const Plan& plan, uint64_t key, const State& state, const History& history);
  static void carry(const Plan& plan, State& state, History& history, int64_t excess);
  static bool matters(const Plan& plan, State& state, int64_t end);
  void say(const char* what, uint64_t key, int64_t amount);

  int64_t base_;
  WallOffset wall_;
  std::vector<Item> items_;
  std::vector<int64_t> kills_;
  std::vector<std::pair<int64_t, int64_t>> durations_;  // when, how long
  std::unordered_map<uint64_t, State> states_;
  Totals totals_;
  std::string findings_;
  int found_ = 0;
};

}  // namespace brim::soak

#endif  // BRIM_TESTS_SOAK_OBSERVER_H_
