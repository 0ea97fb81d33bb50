// SPDX-License-Identifier: MIT
// The sequential models: each algorithm by its definition, for one key, on exact integers.
#include <algorithm>

#include "tests/soak/linear.h"

namespace brim::soak {

namespace {

int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

// State: {the time at which all is paid}.
class Bucket : public Sequential {
 public:
  explicit Bucket(int64_t burst) : burst_(burst) {}

  bool perform(State& state, const Step& step, int64_t now, int64_t) const override {
    state.resize(1);
    int64_t& paid = state[0];
    const int64_t owed = std::max<int64_t>(paid - now, 0);
    switch (step.act) {
      case Act::kAcquire: {
        const int64_t over = owed + (step.cost - burst_) * kPermitNs;
        if (over <= 0) paid = now + owed + step.cost * kPermitNs;
        const int64_t after = std::max<int64_t>(paid - now, 0);
        const int64_t room = burst_ * kPermitNs - after;
        return step.yes == (over <= 0) && step.retry == std::max<int64_t>(over, 0) &&
               step.reset == after && step.remaining == (room > 0 ? room / kPermitNs : 0);
      }
      case Act::kRefund:
        if (owed != 0) paid = std::max(paid - step.cost * kPermitNs, now);
        return step.yes == (owed != 0);
      case Act::kReset:
        if (owed != 0) paid = 0;
        return step.yes == (owed != 0);
      default:
        return false;
    }
  }

 private:
  int64_t burst_;
};

// State: {number of the window, count}.
class Window : public Sequential {
 public:
  Window(int64_t limit, int64_t period, int64_t origin)
      : limit_(limit), period_(period), origin_(origin) {}

  bool perform(State& state, const Step& step, int64_t now, int64_t) const override {
    state.resize(2);
    const int64_t present = floor_div(now - origin_, period_);
    // Windows never step back: to a call with an older time the last one goes on.
    const bool counts = state[1] != 0 && state[0] >= present;
    const int64_t number = counts ? state[0] : present;
    int64_t count = counts ? state[1] : 0;
    const int64_t end = origin_ + (number + 1) * period_ - now;
    const bool any = count != 0;
    const bool admits = count + step.cost <= limit_;
    switch (step.act) {
      case Act::kAcquire:
        if (admits) count += step.cost;
        if (admits) state = {number, count};
        return step.yes == admits && step.remaining == limit_ - count &&
               step.retry == (admits ? 0 : end) && step.reset == (count == 0 ? 0 : end);
      case Act::kRefund:
        if (any) state = {number, std::max<int64_t>(count - step.cost, 0)};
        return step.yes == any;
      case Act::kReset:
        if (any) state = {0, 0};
        return step.yes == any;
      default:
        return false;
    }
  }

 private:
  int64_t limit_;
  int64_t period_;
  int64_t origin_;
};

// State: {number of the window, count of the one before, count}.
class Counter : public Sequential {
 public:
  Counter(int64_t limit, int64_t period, int64_t origin)
      : limit_(limit), period_(period), origin_(origin) {}

  bool perform(State& state, const Step& step, int64_t now, int64_t) const override {
    state.resize(3);
    const int64_t present = floor_div(now - origin_, period_);
    int64_t number = present;
    int64_t before = 0;
    int64_t count = 0;
    int64_t gone = now - origin_ - present * period_;
    const bool any = state[1] + state[2] != 0;
    if (any && state[0] >= present) {
      number = state[0];
      before = state[1];
      count = state[2];
      if (number > present) gone = 0;
    } else if (any && state[0] == present - 1) {
      before = state[2];
    }
    const int64_t used = before * (period_ - gone) + count * period_;
    const int64_t room = std::max<int64_t>(limit_ * period_ - used, 0) / period_;
    const bool admits = step.cost <= room;
    switch (step.act) {
      case Act::kAcquire:
        if (admits) state = {number, before, count + step.cost};
        return step.yes == admits && step.remaining == room - (admits ? step.cost : 0);
      case Act::kRefund: {
        if (before + count == 0) return !step.yes;
        const int64_t now_back = std::min(step.cost, count);
        state = {number, before - std::min(step.cost - now_back, before), count - now_back};
        return step.yes;
      }
      case Act::kReset:
        if (before + count == 0) return !step.yes;
        state = {0, 0, 0};
        return step.yes;
      default:
        return false;
    }
  }

 private:
  int64_t limit_;
  int64_t period_;
  int64_t origin_;
};

// State: when each permit ages out, ascending.
class Log : public Sequential {
 public:
  Log(int64_t limit, int64_t period) : limit_(limit), period_(period) {}

  // A call for several permits takes them one by one, and gives back what it has if it loses a
  // race for the next.
  bool may_hold(const Step& step) const override { return step.cost > 1; }

  bool perform(State& state, const Step& step, int64_t now, int64_t in_the_way) const override {
    const auto oldest = std::upper_bound(state.begin(), state.end(), now);
    const int64_t live = state.end() - oldest;
    if (step.act == Act::kAcquire) {
      if (!step.yes) return live + step.cost + in_the_way > limit_;
      if (live + step.cost > limit_) return false;
      const int64_t end = now + period_;
      state.insert(std::upper_bound(state.begin(), state.end(), end),
                   static_cast<size_t>(step.cost), end);
      return true;
    }
    if (step.act != Act::kRefund) return false;
    for (int64_t i = std::min(step.cost, live); i > 0; --i) state.pop_back();
    return step.yes == (live != 0);
  }

 private:
  int64_t limit_;
  int64_t period_;
};

// State: the latest time of a call that was admitted, then {number, end} of each lease, ascending
// by number. A lease that had ended by that time may have been overwritten: a stopped call with a
// time before its end need not have seen it. What such a call is given ends by its own, earlier
// time.
class Leases : public Sequential {
 public:
  Leases(int64_t limit, int64_t life) : limit_(limit), life_(life) {}

  bool perform(State& state, const Step& step, int64_t now, int64_t) const override {
    if (state.empty()) state.push_back(0);
    if (step.act == Act::kRelease) {
      for (size_t i = 1; i < state.size(); i += 2) {
        if (state[i] != step.cost) continue;
        const bool in_time = state[i + 1] > now;
        const auto at = state.begin() + static_cast<ptrdiff_t>(i);
        state.erase(at, at + 2);
        return step.yes == in_time;
      }
      return !step.yes;
    }
    if (step.act != Act::kAcquire) return false;
    const int64_t latest = std::max(state[0], now);
    if (!step.yes) return live(state, now) >= limit_;
    if (live(state, latest) >= limit_) return false;
    state[0] = latest;
    size_t at = 1;
    while (at < state.size() && state[at] < step.lease) at += 2;
    const int64_t lease[] = {step.lease, now + life_};
    state.insert(state.begin() + static_cast<ptrdiff_t>(at), lease, lease + 2);
    return true;
  }

 private:
  static int64_t live(const State& state, int64_t now) {
    int64_t count = 0;
    for (size_t i = 1; i < state.size(); i += 2) count += state[i + 1] > now ? 1 : 0;
    return count;
  }

  int64_t limit_;
  int64_t life_;
};

// State: {the time at which all is paid, number of the window, count}.
class Rates : public Sequential {
 public:
  Rates(int64_t burst, int64_t limit, int64_t period, int64_t origin)
      : burst_(burst), limit_(limit), period_(period), origin_(origin) {}

  // A call that one rate refused at last had been charged to the other for a moment.
  bool may_hold(const Step& step) const override { return !step.yes; }

  bool perform(State& state, const Step& step, int64_t now, int64_t in_the_way) const override {
    if (step.act != Act::kAcquire) return false;
    state.resize(3);
    const int64_t present = floor_div(now - origin_, period_);
    const int64_t count = state[1] == present ? state[2] : 0;
    const int64_t owed = std::max<int64_t>(state[0] - now, 0);
    const auto admits = [&](int64_t cost) {
      return owed + cost * kPermitNs <= burst_ * kPermitNs && count + cost <= limit_;
    };
    if (!step.yes) return !admits(step.cost + in_the_way);
    if (!admits(step.cost)) return false;
    state = {now + owed + step.cost * kPermitNs, present, count + step.cost};
    return true;
  }

 private:
  int64_t burst_;
  int64_t limit_;
  int64_t period_;
  int64_t origin_;
};

}  // namespace

std::unique_ptr<Sequential> bucket_model(int64_t burst) { return std::make_unique<Bucket>(burst); }
std::unique_ptr<Sequential> window_model(int64_t limit, int64_t period, int64_t origin) {
  return std::make_unique<Window>(limit, period, origin);
}
std::unique_ptr<Sequential> counter_model(int64_t limit, int64_t period, int64_t origin) {
  return std::make_unique<Counter>(limit, period, origin);
}
std::unique_ptr<Sequential> log_model(int64_t limit, int64_t period) {
  return std::make_unique<Log>(limit, period);
}
std::unique_ptr<Sequential> lease_model(int64_t limit, int64_t life) {
  return std::make_unique<Leases>(limit, life);
}
std::unique_ptr<Sequential> rates_model(int64_t burst, int64_t limit, int64_t period,
                                        int64_t origin) {
  return std::make_unique<Rates>(burst, limit, period, origin);
}

}  // namespace brim::soak
