// SPDX-License-Identifier: MIT
#include "tests/soak/linear.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <limits>
#include <set>

namespace brim::soak {

namespace {

// The values that the clock had, each with the events between which somebody may have read it.
struct Reading {
  int64_t from;
  int64_t until;
  int64_t value;
};

std::vector<Reading> readings_of(const std::vector<Step>& steps, int64_t start) {
  std::vector<Reading> readings{{-1, std::numeric_limits<int64_t>::max(), start}};
  for (const Step& step : steps) {
    if (step.act != Act::kMoveClock) continue;
    readings.back().until = step.returned;
    readings.push_back({step.invoked, std::numeric_limits<int64_t>::max(), step.cost});
  }
  return readings;
}

class Search {
 public:
  Search(const Sequential& model, const std::vector<Step>& steps, int64_t start) : model_(model) {
    const std::vector<Reading> readings = readings_of(steps, start);
    for (const Step& step : steps) {
      if (step.act == Act::kMoveClock) continue;
      Entry entry{&step, {}, 0};
      for (const Reading& reading : readings) {
        const bool seen = reading.from < step.returned && step.invoked < reading.until;
        if (seen) entry.times.push_back(reading.value);
      }
      for (const Step& other : steps) {
        const bool beside = other.invoked < step.returned && step.invoked < other.returned;
        if (beside && &other != &step && other.act == Act::kAcquire && model.may_hold(other)) {
          entry.in_the_way += other.cost;
        }
      }
      if (lines_.size() <= step.process) lines_.resize(step.process + size_t{1});
      lines_[step.process].push_back(entry);
    }
    next_.resize(lines_.size());
  }

  bool go(const State& state) {
    // The earliest return among the calls that are next: who was invoked later must wait.
    int64_t horizon = std::numeric_limits<int64_t>::max();
    bool left = false;
    for (size_t p = 0; p < lines_.size(); ++p) {
      if (next_[p] == lines_[p].size()) continue;
      left = true;
      horizon = std::min(horizon, lines_[p][next_[p]].step->returned);
    }
    if (!left) return true;
    State place(next_.begin(), next_.end());
    place.insert(place.end(), state.begin(), state.end());
    if (!seen_.insert(std::move(place)).second) return false;
    for (size_t p = 0; p < lines_.size(); ++p) {
      if (next_[p] == lines_[p].size()) continue;
      const Entry& entry = lines_[p][next_[p]];
      if (entry.step->invoked > horizon) continue;
      for (const int64_t now : entry.times) {
        State after = state;
        if (!model_.perform(after, *entry.step, now, entry.in_the_way)) continue;
        ++next_[p];
        if (go(after)) return true;
        --next_[p];
      }
    }
    return false;
  }
  uint64_t states() const { return seen_.size(); }

 private:
  struct Entry {
    const Step* step;
    std::vector<int64_t> times;
    int64_t in_the_way;
  };
  const Sequential& model_;
  std::vector<std::vector<Entry>> lines_;  // by process
  std::vector<size_t> next_;
  std::set<State> seen_;
};

}  // namespace

Checked check_history(const Sequential& model, const std::vector<Step>& steps, int64_t start) {
  Search search(model, steps, start);
  Checked verdict;
  verdict.linearizable = search.go({});
  verdict.states = search.states();
  return verdict;
}

std::string history_text(const std::vector<Step>& steps) {
  static constexpr const char* kNames[] = {"acquire", "refund", "reset", "release", "clock"};
  std::vector<const Step*> order;
  for (const Step& step : steps) order.push_back(&step);
  std::sort(order.begin(), order.end(),
            [](const Step* x, const Step* y) { return x->invoked < y->invoked; });
  std::string text;
  for (const Step* step : order) {
    char line[200];
    std::snprintf(line, sizeof(line),
                  "[%3" PRId64 ", %3" PRId64 "] process %d %-7s %" PRId64 " -> %d, lease %" PRId64
                  ", remaining %" PRId64 ", retry %" PRId64 ", reset %" PRId64 "\n",
                  step->invoked, step->returned, step->process,
                  kNames[static_cast<size_t>(step->act)], step->cost, step->yes, step->lease,
                  step->remaining, step->retry, step->reset);
    text += line;
  }
  return text;
}

}  // namespace brim::soak
