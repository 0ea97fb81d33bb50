// SPDX-License-Identifier: MIT
// Nodes, their loads and a store in virtual time: the store's rules and the segment's cells written
// down once more, plainly, around the real tier::Keys.
//
// Each key's true bucket is kept beside: charged at the instant of each admission, whoever admits.
// The most it ever owed is what docs/concepts/cluster.md bounds.
#ifndef BRIM_TESTS_TIER_SIM_H_
#define BRIM_TESTS_TIER_SIM_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "src/tier/keys.h"

namespace brim::tier::sim {

inline constexpr int64_t kMs = 1000000;
inline constexpr int64_t kSecond = 1000 * kMs;
inline constexpr uint64_t kUnitsPerUs = 1024;

// What the code might do wrong; each must be found.
struct Mutant {
  bool clamp = false;         // a word carries no debt beyond the burst
  bool early = false;         // acknowledged before the answer
  bool differences = false;   // told what is new, not the total
  bool forget_raise = false;  // the answer is not made use of
};

struct Settings {
  uint64_t seed = 1;
  int nodes = 2;
  uint32_t rate = 100;  // permits a second
  uint32_t burst = 20;
  int keys = 2;
  int64_t interval_ns = 200 * kMs;
  int64_t most_delay_ns = 20 * kMs;  // of each way
  double lost = 0;                   // of exchanges: half of them done, half not
  int64_t cut_ns = 0;                // one node at a time hears nothing for so long
  double dies = 0;                   // agents, of rounds; another comes within a second
  int flushes = 0;
  bool reclaim = false;  // slots of idle keys are taken by others, and begin anew
  Mutant mutant = {};
};

inline uint64_t reading(int64_t ns) { return static_cast<uint64_t>(ns) * kUnitsPerUs / 1000; }

inline RateTerms terms(const Settings& settings) {
  RateTerms terms;
  terms.units_per_us = kUnitsPerUs;
  terms.permit_units = kUnitsPerUs * 1000000 / settings.rate;
  terms.capacity_units = terms.permit_units * settings.burst;
  return terms;
}

// By the rules of src/tier/store.h.
class ModelStore {
 public:
  explicit ModelStore(const Settings& settings) : settings_(settings) {}

  PushAnswer apply(int node, const Push& push, int64_t now) {
    const RateUse& rate = push.rates[0];
    const auto [found, fresh] = buckets_.try_emplace(push.identity);
    Bucket& bucket = found->second;
    PushAnswer answer;
    if (fresh) {
      bucket.level = static_cast<int64_t>(rate.floor_units);
      answer.lost = rate.acked_total != 0;
    } else {
      const auto gone = static_cast<int64_t>(reading(now) - reading(bucket.at));
      bucket.level = std::max<int64_t>(bucket.level - gone, 0);
    }
    bucket.at = now;
    const auto told = bucket.told.find({node, rate.nonce});
    const bool known = told != bucket.told.end();
    const uint64_t base = known && !settings_.mutant.differences ? told->second : rate.acked_total;
    const auto permits = static_cast<int64_t>(rate.total) - static_cast<int64_t>(base);
    counted[push.identity] += permits;
    if (!fresh) {
      bucket.level += permits * static_cast<int64_t>(rate.terms.permit_units);
      bucket.level = std::max<int64_t>(bucket.level, 0);
      if (!known && rate.acked_total != 0) {
        bucket.level = std::max(bucket.level, static_cast<int64_t>(rate.floor_units));
        answer.lost = true;
      }
    }
    bucket.told[{node, rate.nonce}] = rate.total;
    answer.changes_before = fresh ? ++fresh_ << 32 : bucket.changes;
    bucket.changes = answer.changes_before + (fresh || permits != 0 ? 1 : 0);
    answer.changes = bucket.changes;
    answer.levels = {static_cast<uint64_t>(bucket.level)};
    return answer;
  }
  void flush() { buckets_.clear(); }

  std::map<uint64_t, int64_t> counted;  // permits, by key

 private:
  struct Bucket {
    int64_t level = 0;
    int64_t at = 0;
    uint64_t changes = 0;
    std::map<std::pair<int, uint32_t>, uint64_t> told;
  };
  const Settings& settings_;
  uint64_t fresh_ = 0;
  std::map<uint64_t, Bucket> buckets_;
};

// A segment with one policy: cells and words as in src/use.cc and src/cluster.cc. A slot is a key.
class ModelSegment final : public View {
 public:
  ModelSegment(const Settings& settings, const int64_t& now)
      : settings_(settings),
        now_(now),
        terms_(terms(settings)),
        cells_(static_cast<size_t>(settings.keys)) {}

  bool admit(int key) {
    Cell& cell = cells_[static_cast<size_t>(key)];
    if (cell.nonce == 0) cell.nonce = ++nonces_;
    const uint64_t v = reading(now_);
    const uint64_t owed = cell.word > v ? cell.word - v : 0;
    if (owed + terms_.permit_units > terms_.capacity_units) return false;
    cell.word = v + owed + terms_.permit_units;
    ++cell.total;
    const bool near = owed + terms_.permit_units > terms_.capacity_units / 2;
    if (near || cell.total - cell.acked >= hold_back_) {
      cell.marked = true;
      // Less than that may be left alone again, once the key owes less than half.
      if (cell.matters_ns == 0 && cell.total - cell.acked >= hold_back_) {
        cell.matters_ns = now_;
        cell.matters_total = cell.total;
      }
    }
    return true;
  }

  // Somebody else's key comes into the slot, if the rules allow it; what was untold is forgotten.
  int64_t reclaim(int key) {
    Cell& cell = cells_[static_cast<size_t>(key)];
    const uint64_t v = reading(now_);
    const auto untold = static_cast<int64_t>(cell.total - cell.acked);
    const uint64_t idle = v > cell.word ? v - cell.word : 0;
    if (idle == 0 || (untold != 0 && idle / 16 < terms_.capacity_units)) return 0;
    cell = Cell{};
    return untold;
  }

  // How long ago the first use that others must hear of was made, if `total` tells it.
  int64_t waited(uint64_t key, uint64_t total) {
    Cell& cell = cells_[static_cast<size_t>(key)];
    if (cell.matters_ns == 0 || total < cell.matters_total) return 0;
    return now_ - std::exchange(cell.matters_ns, 0);
  }

  int64_t now_ns() const override { return now_; }
  std::vector<ClusterPolicy> policies() const override {
    ClusterPolicy policy;
    policy.name = "p";
    policy.rates = {terms_};
    policy.bursts = {settings_.burst};
    policy.limits = {settings_.rate};
    policy.periods_ns = {kSecond};
    return {policy};
  }
  void for_each_use(bool all, const std::function<bool(const KeyUse&)>& visit) override {
    for (uint64_t i = 0; i < cells_.size(); ++i) {
      if (cells_[i].nonce == 0 || !(std::exchange(cells_[i].marked, false) || all)) continue;
      visit(use_of(i));
    }
  }
  bool look(KeyUse& use) const override {
    if (cells_[use.slot].nonce != use.nonce) return false;
    use = use_of(use.slot);
    return true;
  }
  void acknowledge(const KeyUse& use) override {
    Cell& cell = cells_[use.slot];
    if (cell.nonce != use.nonce) return;
    cell.acked = use.total;
    if (cell.total - cell.acked < hold_back_) cell.matters_ns = 0;
  }
  bool raise(const KeyUse& use, uint64_t level, int64_t as_of_ns) override {
    Cell& cell = cells_[use.slot];
    if (settings_.mutant.forget_raise || cell.nonce != use.nonce) return true;
    const uint64_t more = (cell.total - use.total) * terms_.permit_units;
    const uint64_t room = settings_.mutant.clamp ? 0 : reading(60 * kSecond);
    const uint64_t most = reading(now_) + terms_.capacity_units + room;
    const uint64_t wanted = reading(as_of_ns) + level + more;
    cell.word = std::max(cell.word, std::min(wanted, most));
    return wanted <= most;
  }
  void set_secret(const uint64_t*) override {}
  bool get_secret(uint64_t*) const override { return true; }
  void set_hold_back(uint16_t, uint32_t, uint32_t permits) override { hold_back_ = permits; }
  absl::Status set_share(uint16_t, uint32_t) override { return absl::OkStatus(); }
  void set_status(const TierStatus&) override {}
  TierStatus status() const override { return {}; }

 private:
  struct Cell {
    uint64_t word = 0;
    uint32_t nonce = 0;
    uint64_t total = 0;
    uint64_t acked = 0;
    bool marked = false;
    int64_t matters_ns = 0;
    uint64_t matters_total = 0;
  };
  KeyUse use_of(uint64_t i) const {
    const Cell& cell = cells_[i];
    KeyUse use;
    use.slot = i;
    use.id = i + 2;
    use.identity = i + 1;
    use.nonce = cell.nonce;
    use.total = cell.total;
    use.acked = cell.acked;
    const uint64_t v = reading(now_);
    use.owed_units = cell.word > v ? cell.word - v : 0;
    use.capacity_units = terms_.capacity_units;
    use.as_of_ns = now_;
    return use;
  }

  const Settings& settings_;
  const int64_t& now_;
  RateTerms terms_;
  std::vector<Cell> cells_;
  uint32_t nonces_ = 0;
  uint32_t hold_back_ = 1;
};

class World {
 public:
  explicit World(const Settings& settings);

  void run_until(int64_t end_ns);
  // Each node offers each key so many permits a second, evenly; 0: nothing.
  void set_load(int node, int key, double per_second);
  void burst(int node, int key, uint32_t calls);
  // Loads change by themselves now and then.
  void vary_loads();

  // Loads and faults end, and all that is untold is told.
  void settle();

  // What the true bucket of any key owed at most, in permits beyond the burst.
  double most_over() const;
  // By which the formula bounds it.
  double bound() const;
  // Told to the store, what is to be told: for each key. Loads must be off for a while.
  bool exact() const;

  int64_t now = 0;
  int64_t admitted = 0;
  int64_t rounds = 0;
  int64_t longest_round_ns = 0;
  int64_t longest_gap_ns = 0;   // in which an agent could tell nothing
  int64_t longest_wait_ns = 0;  // of a use that mattered, until the store knew it; without gaps

 private:
  struct Node {
    std::unique_ptr<ModelSegment> segment;
    std::unique_ptr<Keys> keys;
    int life = 0;  // of the agent
    int64_t answered_ns = 0;
    std::vector<double> loads;
    std::vector<int> load_life;
  };
  void at(int64_t when, std::function<void()> what) {
    events_.push({when, order_++, std::move(what)});
  }
  double random() { return std::uniform_real_distribution<>(0, 1)(random_); }
  int64_t random_ns(int64_t most) { return static_cast<int64_t>(random() * double(most)) + 1; }
  void offer(int node, int key);
  void load_step(int node, int key, int life);
  void new_agent(int node);
  void round(int node, int life);
  void end_round(int node, int life, int64_t begun, const std::vector<PushAnswer>& answers);

  struct Event {
    int64_t when;
    uint64_t order;
    std::function<void()> what;
    bool operator>(const Event& other) const {
      return std::tie(when, order) > std::tie(other.when, other.order);
    }
  };
  Settings settings_;
  RateTerms terms_;
  std::mt19937_64 random_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  uint64_t order_ = 0;
  ModelStore store_;
  std::vector<Node> nodes_;
  struct Truth {
    uint64_t word = 0;
    int64_t admitted = 0;
    int64_t forgotten = 0;
  };
  std::vector<Truth> truth_;
  uint64_t most_units_ = 0;
  int cut_node_ = -1;
  bool settling_ = false;
};

}  // namespace brim::tier::sim

#endif  // BRIM_TESTS_TIER_SIM_H_
