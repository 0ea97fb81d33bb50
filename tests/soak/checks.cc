// SPDX-License-Identifier: MIT
#include "tests/soak/checks.h"

#include <algorithm>
#include <map>

#include "tests/soak/max_tree.h"

namespace brim::soak {

namespace {

// A clock that counts in steps of at most 1 ns of refill may be behind by a step at each end.
constexpr int64_t kRoundingNs = 4;
// Ends of first-hit windows and of bans are rounded up to ticks; for limits below 64: 16 ns.
constexpr int64_t kWindowTickNs = 64;
constexpr int64_t kBanTickNs = 1 << 19;

int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }
int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

bool by_begin(const Call& x, const Call& y) { return x.b < y.b; }
bool by_end(const Call& x, const Call& y) { return x.a < y.a; }

std::vector<Call> sorted(std::vector<Call> calls, bool (*order)(const Call&, const Call&)) {
  std::sort(calls.begin(), calls.end(), order);
  return calls;
}

// Of calls sorted by begin: how many begin at or before `time`.
size_t begun(const std::vector<Call>& calls, int64_t time) {
  return static_cast<size_t>(
      std::upper_bound(calls.begin(), calls.end(), Call{time, 0, 0}, by_begin) - calls.begin());
}

bool is_bucket(Kind kind) { return kind == Kind::kBucket || kind == Kind::kForward; }

std::vector<Call> possible(const History& history) {
  std::vector<Call> all = history.admitted;
  all.insert(all.end(), history.unknown.begin(), history.unknown.end());
  return sorted(std::move(all), by_begin);
}

// For each beginning x of a window, f(x) = sum of what was surely admitted from x on, times the
// period, plus x times the limit. At the end y of a window: f(x) - y * limit <= capacity * period.
// Position 0 stands for all windows that began before this history.
template <class AtEnd>
void sweep_bucket(const Part& part, const History& history, const Paid& paid, MaxTree& tree,
                  AtEnd at_end) {
  const std::vector<Call> starts = sorted(history.admitted, by_begin);
  const std::vector<Call> ends = sorted(history.admitted, by_end);
  const std::vector<Call> refunds = sorted(history.refunds, by_begin);
  tree.add(0, 0, paid.least);
  for (size_t i = 0; i < starts.size(); ++i) tree.add(i + 1, i + 1, starts[i].b * part.limit);
  size_t refund = 0;
  for (const Call& end : ends) {
    // What was maybe given back within the window makes room.
    for (; refund < refunds.size() && refunds[refund].b <= end.a; ++refund) {
      tree.add(0, begun(starts, refunds[refund].a), -refunds[refund].cost * part.period);
    }
    const size_t position = begun(starts, end.b);
    tree.add(0, position, end.cost * part.period);
    at_end(end, position);
  }
}

Finding check_bucket(const Part& part, const History& history, const Paid& paid, int64_t cost_max) {
  Finding finding;
  const int64_t most = part.capacity + (part.kind == Kind::kForward ? cost_max : 0);
  MaxTree tree(history.admitted.size() + 1);
  sweep_bucket(part, history, paid, tree, [&](const Call& end, size_t position) {
    const int64_t over =
        tree.max(0, position) - (end.a + kRoundingNs) * part.limit - most * part.period;
    finding.excess = std::max(finding.excess, ceil_div(over, part.period));
    finding.windows += position + 1;
  });
  return finding;
}

struct WindowSum {
  int64_t sum = 0;
  std::vector<Call> calls = {};
};

// What was surely admitted in each aligned window.
std::map<int64_t, WindowSum> sure_windows(const Part& part, const std::vector<Call>& calls,
                                          const WallOffset& wall) {
  std::map<int64_t, WindowSum> windows;
  for (const Call& call : calls) {
    const int64_t first = floor_div(call.b + wall.least, part.period);
    if (first != floor_div(call.a + wall.most, part.period)) continue;
    WindowSum& window = windows[first];
    window.sum += call.cost;
    window.calls.push_back(call);
  }
  return windows;
}

Finding check_aligned(const Part& part, const History& history, const WallOffset& wall) {
  Finding finding;
  for (const auto& [number, window] : sure_windows(part, history.admitted, wall)) {
    finding.excess = std::max(finding.excess, window.sum - part.limit);
    ++finding.windows;
  }
  return finding;
}

// Of the calls of a window that surely ended by y, the last one was counted with all the others,
// and weighed the window before no less than it weighs at y.
Finding check_counter(const Part& part, const History& history, const WallOffset& wall) {
  Finding finding;
  auto windows = sure_windows(part, history.admitted, wall);
  for (auto& [number, window] : windows) {
    std::sort(window.calls.begin(), window.calls.end(), by_end);
    int64_t current = 0;
    const auto previous = windows.find(number - 1);
    const int64_t before = previous == windows.end() ? 0 : previous->second.sum;
    for (const Call& call : window.calls) {
      current += call.cost;
      const int64_t gone = std::min(call.a + wall.most - number * part.period, part.period);
      int64_t faded = before * (part.period - gone);
      if (part.kind == Kind::kFloorCounter) faded = faded / part.period * part.period;
      const int64_t over = faded + (current - part.limit) * part.period;
      finding.excess = std::max(finding.excess, ceil_div(over, part.period));
      ++finding.windows;
    }
  }
  return finding;
}

// Any half-open span of one period: an admission is surely in [x, x + period) if x <= b and
// a < x + period.
Finding check_spans(const Part& part, const History& history, int64_t most) {
  Finding finding;
  std::vector<std::pair<int64_t, int64_t>> steps;
  for (const Call& call : history.admitted) {
    if (call.a - call.b >= part.period) continue;
    steps.push_back({call.a - part.period + 1, call.cost});
    steps.push_back({call.b + 1, -call.cost});
  }
  std::sort(steps.begin(), steps.end());
  int64_t sum = 0;
  for (const auto& [time, cost] : steps) {
    sum += cost;
    finding.excess = std::max(finding.excess, sum - most);
    finding.windows += cost > 0 ? 1 : 0;
  }
  return finding;
}

// A refusal is explained if some charge that was maybe before it, at its latest possible time, and
// all that was maybe charged since, fill the bucket.
void explain_bucket(const Part& part, const History& history, const Paid& paid,
                    const std::vector<int64_t>& in_the_way, std::vector<char>& explained) {
  const std::vector<Call> charges = possible(history);
  std::vector<size_t> order(history.denied.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](size_t x, size_t y) { return history.denied[x].a < history.denied[y].a; });
  MaxTree tree(charges.size() + 1);
  tree.add(0, 0, paid.most);
  for (size_t i = 0; i < charges.size(); ++i) tree.add(i + 1, i + 1, Paid::kNothing);
  size_t next = 0;
  for (const size_t i : order) {
    const Call& call = history.denied[i];
    for (; next < charges.size() && charges[next].b <= call.a; ++next) {
      const Call& charge = charges[next];
      tree.add(next + 1, next + 1, charge.a * part.low_limit - Paid::kNothing);
      tree.add(0, begun(charges, charge.a), charge.cost * part.period);
    }
    const int64_t now = (call.b - kRoundingNs) * part.low_limit;
    const int64_t owed =
        std::max<int64_t>(tree.max(0, charges.size()) - now, 0) + in_the_way[i] * part.period;
    const int64_t asks = part.kind == Kind::kForward ? 0 : call.cost;
    if (owed + asks * part.period > part.low_capacity * part.period) explained[i] = 1;
  }
}

// The windows that a refusal may have been decided in, oldest first.
template <class Visit>
void possible_windows(const Part& part, const Call& call, const WallOffset& wall, Visit visit) {
  const int64_t last = floor_div(call.a + wall.most, part.period);
  for (int64_t w = floor_div(call.b + wall.least, part.period); w <= last; ++w) visit(w);
}

// What may have been charged in the window by the end of the call.
int64_t maybe_in(const Part& part, const Sums& sums, int64_t window, int64_t until,
                 const WallOffset& wall) {
  const int64_t begin = window * part.period - wall.most;
  const int64_t end = std::min((window + 1) * part.period - wall.least, until);
  return end < begin ? 0 : sums.overlapping(begin, end);
}

bool explained_by_window(const Part& part, const Sums& sums, const Call& call, int64_t beside,
                         const WallOffset& wall) {
  bool found = false;
  possible_windows(part, call, wall, [&](int64_t w) {
    const int64_t current = maybe_in(part, sums, w, call.a, wall) + beside + call.cost;
    if (part.kind == Kind::kAligned) {
      found = found || current > part.low_limit;
      return;
    }
    const int64_t previous = maybe_in(part, sums, w - 1, call.a, wall);
    const int64_t gone = std::max<int64_t>(call.b + wall.least - w * part.period, 0);
    int64_t faded = previous * (part.period - std::min(gone, part.period));
    if (part.kind == Kind::kFloorCounter) faded = faded / part.period * part.period;
    found = found || faded + current * part.period > part.low_limit * part.period;
  });
  return found;
}

// The window that refused began with a call that ended at most a period before, or was beside.
bool explained_by_first_hit(const Part& part, const std::vector<Call>& charges, const Sums& sums,
                            const Call& call, int64_t beside) {
  const int64_t oldest = call.b - part.period - kWindowTickNs;
  int64_t begin = call.b;
  // Sorted by begin; a call that was stopped may have begun long ago: look a while back.
  constexpr int64_t kLongestStop = 10 * kSecond;
  for (size_t i = begun(charges, oldest - kLongestStop); i < charges.size(); ++i) {
    if (charges[i].b > call.a) break;
    if (charges[i].a >= oldest) {
      begin = std::min(begin, charges[i].b);
      break;
    }
  }
  return sums.overlapping(begin, call.a) + beside + call.cost > part.low_limit;
}

}  // namespace

void Sums::add(const std::vector<Call>& calls) {
  for (const Call& call : calls) add(call.b, call.a, call.cost);
}
void Sums::add(int64_t b, int64_t a, int64_t cost) {
  begins_.push_back({b, cost});
  ends_.push_back({a, cost});
}
void Sums::seal() {
  for (std::vector<At>* list : {&begins_, &ends_}) {
    std::sort(list->begin(), list->end(), [](const At& x, const At& y) { return x.time < y.time; });
    int64_t sum = 0;
    for (At& at : *list) at.sum = sum += at.sum;
  }
}
int64_t Sums::until(const std::vector<At>& list, int64_t time, bool including) {
  const auto after = std::partition_point(list.begin(), list.end(), [&](const At& at) {
    return including ? at.time <= time : at.time < time;
  });
  return after == list.begin() ? 0 : (after - 1)->sum;
}
// Who ended before `from` began before `to`.
int64_t Sums::overlapping(int64_t from, int64_t to) const {
  return until(begins_, to, true) - until(ends_, from, false);
}

Finding check_admitted(const Part& part, const History& history, const Paid& paid,
                       const WallOffset& wall, int64_t cost_max) {
  switch (part.kind) {
    case Kind::kBucket:
    case Kind::kForward:
      return check_bucket(part, history, paid, cost_max);
    case Kind::kAligned:
      return check_aligned(part, history, wall);
    case Kind::kCounter:
    case Kind::kFloorCounter:
      return check_counter(part, history, wall);
    case Kind::kFirstHit:  // two windows, of which the first call is outside
      return check_spans(part, history, 2 * part.limit - 1);
    case Kind::kLog:
      return check_spans(part, history, part.limit);
    case Kind::kLease:
    case Kind::kNone:
      break;
  }
  return {};
}

void explain(const Part& part, const History& history, const Paid& paid, const WallOffset& wall,
             const std::vector<int64_t>& in_the_way, std::vector<char>& explained) {
  if (history.denied.empty()) return;
  if (is_bucket(part.kind)) {
    return explain_bucket(part, history, paid, in_the_way, explained);
  }
  const std::vector<Call> charges = possible(history);
  Sums sums;
  sums.add(charges);
  sums.seal();
  for (size_t i = 0; i < history.denied.size(); ++i) {
    const Call& call = history.denied[i];
    bool found = false;
    if (part.kind == Kind::kLog) {
      const int64_t live = sums.overlapping(call.b - part.period, call.a);
      found = live + in_the_way[i] + call.cost > part.low_limit;
    } else if (part.kind == Kind::kFirstHit) {
      found = explained_by_first_hit(part, charges, sums, call, in_the_way[i]);
    } else if (part.kind != Kind::kNone) {
      found = explained_by_window(part, sums, call, in_the_way[i], wall);
    }
    if (found) explained[i] = 1;
  }
}

Paid settle(const Part& part, const History& history, const Paid& paid) {
  if (!is_bucket(part.kind)) return {};
  Paid next;
  MaxTree tree(history.admitted.size() + 1);
  sweep_bucket(part, history, paid, tree, [](const Call&, size_t) {});
  next.least = tree.max(0, history.admitted.size());
  next.most = paid.most;
  const std::vector<Call> charges = possible(history);
  for (const Call& charge : charges) next.most += charge.cost * part.period;
  // From each charge on: the costs of all that may come after it.
  Sums sums;
  sums.add(charges);
  sums.seal();
  for (const Call& charge : charges) {
    const int64_t since = sums.overlapping(charge.b, int64_t{1} << 62);
    next.most = std::max(next.most, charge.a * part.low_limit + since * part.period);
  }
  next.least = std::max(next.least, Paid::kNothing);
  next.most = std::max(next.most, Paid::kNothing);
  return next;
}

Finding check_leases(const Part& part, const History& history) {
  std::vector<std::pair<int64_t, int64_t>> steps;  // an end comes before a beginning
  for (const LeaseSpan& lease : history.leases) {
    if (lease.sure_end <= lease.a) continue;
    steps.push_back({lease.a, 1});
    steps.push_back({lease.sure_end, -1});
  }
  std::sort(steps.begin(), steps.end());
  Finding finding;
  int64_t held = 0;
  for (const auto& [time, change] : steps) {
    held += change;
    finding.excess = std::max(finding.excess, held - part.limit);
    ++finding.windows;
  }
  return finding;
}

void explain_leases(const Part& part, const History& history, std::vector<char>& explained) {
  Sums sums;
  for (const LeaseSpan& lease : history.leases) sums.add(lease.b, lease.maybe_end, 1);
  sums.seal();
  for (size_t i = 0; i < history.denied.size(); ++i) {
    const Call& call = history.denied[i];
    if (sums.overlapping(call.b, call.a) >= part.limit) explained[i] = 1;
  }
}

uint64_t unexplained_bans(const Plan& plan, const History& history) {
  Sums refusals;
  refusals.add(history.unknown);
  for (const auto* list : {&history.denied, &history.denied_before}) {
    for (const Call& call : *list) refusals.add(call.b, call.a, 1);
  }
  refusals.seal();
  uint64_t unexplained = 0;
  for (const Call& call : history.barred) {
    const int64_t from = call.b - plan.ban_for - plan.ban_within - 2 * kBanTickNs;
    unexplained += refusals.overlapping(from, call.a) < plan.ban_after ? 1 : 0;
  }
  return unexplained;
}

Saturation saturation(const Part& part, const History& history) {
  Saturation result;
  Sums admitted;
  admitted.add(history.admitted);
  admitted.seal();
  // A call that was stopped may have been refused long before it ended.
  std::vector<Call> refusals = sorted(history.denied, by_begin);
  std::erase_if(refusals, [](const Call& call) { return call.a - call.b > 3 * kMs; });
  for (size_t first = 0; first < refusals.size();) {
    size_t last = first;
    while (last + 1 < refusals.size() && (refusals[last + 1].a - refusals[last].b) * part.limit <
                                             (part.capacity - 1) * part.period) {
      ++last;
    }
    const int64_t from = refusals[first].a;
    const int64_t to = refusals[last].b;
    if (from < to) {
      result.admitted += admitted.overlapping(from, to);
      result.expected += (to - from) * part.limit / part.period;
    }
    first = last + 1;
  }
  return result;
}

}  // namespace brim::soak
