// SPDX-License-Identifier: MIT
#include "tests/sim/explore.h"

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace brim::sim {

uint64_t Digest::take() {
  const uint64_t hash = XXH3_64bits(bytes_.data(), bytes_.size());
  bytes_.clear();
  return hash;
}

void Explorer::begin() {
  depth_ = 0;
  last_ = kMaxFibers;
  kills_ = clock_steps_ = preemptions_ = 0;
}

uint64_t Explorer::state() {
  if (!scenario_.state) return 0;
  digest_.add(world.clock());
  digest_.add(kills_);
  digest_.add(clock_steps_);
  if (scenario_.bounds.preemptions != kAnyNumber) {
    digest_.add(last_);
    digest_.add(preemptions_);
  }
  for (uint32_t i = 0; i < 4; ++i) {
    const std::span<const char> frames = world.frames(i);
    digest_.add(frames.size());
    digest_.add(frames);
  }
  scenario_.state(digest_);
  return digest_.take();
}

void Explorer::offer(Node& node, uint32_t ready) const {
  const Bounds& bounds = scenario_.bounds;
  const bool here = last_ < kMaxFibers && (ready >> last_ & 1) != 0;
  const bool may_switch = !here || preemptions_ < bounds.preemptions;
  if (here) node.act[node.count++] = {Act::kRun, last_, 0};
  for (uint32_t i = 0; i < 4; ++i) {
    if ((ready >> i & 1) == 0 || (here && i == last_)) continue;
    if (may_switch) node.act[node.count++] = {Act::kRun, i, 0};
  }
  // With merging a state must not remember who ran last. Without, a fiber that waits and is killed
  // later might as well have been killed when it began to wait.
  for (uint32_t i = 0; kills_ < bounds.kills && i < 4; ++i) {
    const bool victim = scenario_.state && bounds.preemptions == kAnyNumber ? true : i == last_;
    if (victim && (ready >> i & 1) != 0) node.act[node.count++] = {Act::kKill, i, 0};
  }
  if (clock_steps_ < bounds.clock.size()) {
    node.act[node.count++] = {Act::kAdvance, 0, bounds.clock[clock_steps_]};
  }
}

bool Explorer::extend(uint32_t ready) {
  Node node;
  node.ready = ready;
  if (!obeys_) {
    node.state = state();
    if (scenario_.state) {
      const auto [known, fresh] = seen_.try_emplace(node.state, 0);
      if (!fresh) {
        merged_ = known->second;
        return false;
      }
    }
    ++explored_.states;
  }
  offer(node, ready);
  if (obeys_) obey(node);
  path_.push_back(node);
  return true;
}

void Explorer::obey(Node& node) {
  if (depth_ >= orders_.size()) return;
  for (node.taken = 0; node.taken < node.count; ++node.taken) {
    if (letter(node.act[node.taken]) == orders_[depth_]) return;
  }
  std::printf("the schedule does not fit: %c is not possible at decision %zu\n", orders_[depth_],
              depth_);
  std::exit(2);
}

Act Explorer::next(uint32_t ready) {
  if (depth_ == path_.size() && !extend(ready)) return {};
  Node& node = path_[depth_++];
  if (node.ready != ready) {
    std::puts("a run is not repeated by the same decisions");
    std::exit(2);
  }
  const Act act = node.act[node.taken];
  switch (act.kind) {
    case Act::kRun:
      if (last_ != act.fiber && last_ < kMaxFibers && (ready >> last_ & 1) != 0) ++preemptions_;
      last_ = act.fiber;
      break;
    case Act::kKill:
      ++kills_;
      break;
    default:
      ++clock_steps_;
  }
  return act;
}

// The run that just ended stands for `leaf` schedules. False: it was the last one.
bool Explorer::backtrack(double leaf) {
  path_.resize(depth_);
  double done = leaf;
  while (!path_.empty()) {
    Node& node = path_.back();
    node.schedules += done;
    if (++node.taken < node.count) return true;
    done = node.schedules;
    if (scenario_.state) seen_[node.state] = done;
    path_.pop_back();
  }
  explored_.schedules = done;
  return false;
}

bool Explorer::explore(uint64_t most) {
  for (;;) {
    begin();
    const bool clean = scenario_.run(*this);
    ++explored_.runs;
    explored_.kills += kills_;
    explored_.deepest = std::max<uint64_t>(explored_.deepest, depth_);
    explored_.complete += !world.stopped();
    if (!clean) {
      ++explored_.errors;
      return false;
    }
    if (!backtrack(world.stopped() ? merged_ : 1)) return true;
    if (explored_.runs >= most) return false;
  }
}

bool Explorer::replay(std::string_view schedule) {
  orders_.clear();
  for (size_t i = 0; i < schedule.size();) {
    const char order = schedule[i++];
    size_t count = 0;
    while (i < schedule.size() && schedule[i] >= '0' && schedule[i] <= '9') {
      count = 10 * count + static_cast<size_t>(schedule[i++] - '0');
    }
    orders_.append(std::max<size_t>(count, 1), order);
  }
  obeys_ = true;
  begin();
  return scenario_.run(*this);
}

char Explorer::letter(const Act& act) const {
  if (act.kind == Act::kAdvance) return 't';
  return static_cast<char>((act.kind == Act::kKill ? 'A' : 'a') + act.fiber);
}

std::string Explorer::schedule() const {
  std::string text;
  for (size_t i = 0; i < depth_;) {
    const char order = letter(path_[i].act[path_[i].taken]);
    size_t count = 0;
    while (i < depth_ && letter(path_[i].act[path_[i].taken]) == order) ++i, ++count;
    text += order;
    if (count > 1) text += std::to_string(count);
  }
  return text;
}

namespace {

const Scenario* find(std::span<const Scenario> scenarios, std::string_view name) {
  for (const Scenario& one : scenarios) {
    if (one.name == name) return &one;
  }
  std::printf("no scenario '%.*s'; there are:\n", static_cast<int>(name.size()), name.data());
  for (const Scenario& one : scenarios) std::printf("  %s\n", one.name.c_str());
  return nullptr;
}

int replay_one(std::span<const Scenario> scenarios, const ExploreOptions& options) {
  const size_t colon = options.replay.rfind(':');
  const Scenario* const scenario = find(scenarios, options.replay.substr(0, colon));
  if (scenario == nullptr) return 2;
  world.set_tracing(true);
  Explorer explorer(*scenario);
  const std::string schedule = colon == std::string::npos ? "" : options.replay.substr(colon + 1);
  const bool clean = explorer.replay(schedule);
  if (clean) {
    std::puts("no violation");
  } else {
    std::printf("violation: %s\nreplay with --replay %s:%s\n", world.failure(),
                scenario->name.c_str(), explorer.schedule().c_str());
  }
  return clean == options.mutant_expected;
}

// With merging, and without: the number of schedules must be the same. Tried where there are not
// too many, with neither kills nor steps of the clock. Returns it; 0: too many.
uint64_t check_merging(const Scenario& scenario, bool& same) {
  constexpr double kMost = 200000;
  Scenario plain = scenario;
  plain.bounds = Bounds{0, {}, kAnyNumber};
  Explorer merging(plain);
  merging.explore(~uint64_t{0});
  if (merging.explored().errors != 0 || merging.explored().schedules > kMost) return 0;
  plain.state = nullptr;
  Explorer each(plain);
  each.explore(~uint64_t{0});
  const uint64_t all = each.explored().complete;
  same = static_cast<uint64_t>(merging.explored().schedules) == all;
  if (!same) {
    std::printf("merging loses schedules: %.0f of %" PRIu64 " in %s\n",
                merging.explored().schedules, all, scenario.name.c_str());
  }
  return all;
}

}  // namespace

bool parse_exploring(int argc, char** argv, int& i, bool& explores, ExploreOptions& options) {
  const std::string_view word = argv[i];
  const bool more = i + 1 < argc;
  if (word == "--explore") {
    return explores = true;
  } else if (word == "--large") {
    return explores = options.large = true;
  } else if (word == "--only" && more) {
    options.only = argv[++i];
  } else if (word == "--most-runs" && more) {
    options.most_runs = std::strtoull(argv[++i], nullptr, 0);
  } else if (word == "--replay" && more) {
    options.replay = argv[++i];
    explores = true;
  } else {
    return false;
  }
  return true;
}

int explore(std::span<const Scenario> scenarios, const ExploreOptions& options) {
  if (!options.replay.empty()) return replay_one(scenarios, options);
  if (!options.only.empty() && find(scenarios, options.only) == nullptr) return 2;
  std::printf("%-34s %12s %10s %10s %10s %6s %10s %6s %7s\n", "scenario", "schedules", "runs",
              "complete", "states", "deep", "kills", "errors", "seconds");
  bool clean = true;
  bool whole = true;
  uint64_t compared = 0;
  for (const Scenario& scenario : scenarios) {
    if (options.only.empty() ? scenario.large && !options.large : scenario.name != options.only) {
      continue;
    }
    const auto start = std::chrono::steady_clock::now();
    Explorer explorer(scenario);
    const bool all = explorer.explore(options.most_runs);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const Explored& e = explorer.explored();
    std::printf("%-34s %12.4g %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %6" PRIu64 " %10" PRIu64
                " %6" PRIu64 " %7.2f%s\n",
                scenario.name.c_str(), e.schedules, e.runs, e.complete, e.states, e.deepest,
                e.kills, e.errors, seconds, all || e.errors != 0 ? "" : "  (not all)");
    std::fflush(stdout);
    whole = whole && (all || options.most_runs != ~uint64_t{0});
    if (e.errors == 0 && scenario.state) {
      bool same = true;
      compared += check_merging(scenario, same);
      whole = whole && same;
    }
    if (e.errors == 0) continue;
    clean = false;
    std::printf("violation: %s\nreplay with --replay %s:%s\n", world.failure(),
                scenario.name.c_str(), explorer.schedule().c_str());
    if (options.mutant_expected) break;
  }
  if (compared != 0) {
    std::printf("without merging: the same %" PRIu64 " schedules\n", compared);
  }
  if (options.mutant_expected) {
    std::puts(clean ? "the mutant survived" : "the mutant was caught");
    return clean ? 1 : 0;
  }
  return clean && whole ? 0 : 1;
}

}  // namespace brim::sim
