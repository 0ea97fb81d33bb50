// SPDX-License-Identifier: MIT
#include "tests/tier/sim.h"

namespace brim::tier::sim {

World::World(const Settings& settings)
    : settings_(settings),
      terms_(terms(settings)),
      random_(settings.seed),
      store_(settings_),
      nodes_(static_cast<size_t>(settings.nodes)),
      truth_(static_cast<size_t>(settings.keys)) {
  now = kSecond;
  for (int i = 0; i < settings_.nodes; ++i) {
    Node& node = nodes_[i];
    node.segment = std::make_unique<ModelSegment>(settings_, now);
    node.loads.resize(settings_.keys);
    node.load_life.resize(settings_.keys);
    node.answered_ns = now;
    at(now + random_ns(settings_.interval_ns), [this, i] { new_agent(i); });
  }
  for (int i = 0; i < settings_.flushes; ++i) {
    at(now + 5 * kSecond + random_ns(5 * kSecond), [this] { store_.flush(); });
  }
}

void World::run_until(int64_t end_ns) {
  while (!events_.empty() && events_.top().when <= end_ns) {
    const std::function<void()> what = events_.top().what;
    now = std::max(now, events_.top().when);
    events_.pop();
    what();
  }
  now = end_ns;
}

void World::offer(int node, int key) {
  ModelSegment& segment = *nodes_[node].segment;
  Truth& truth = truth_[key];
  if (settings_.reclaim && random() < 0.05) truth.forgotten += segment.reclaim(key);
  if (!segment.admit(key)) return;
  ++admitted;
  ++truth.admitted;
  const uint64_t v = reading(now);
  truth.word = std::max(truth.word, v) + terms_.permit_units;
  most_units_ = std::max(most_units_, truth.word - v);
}

void World::burst(int node, int key, uint32_t calls) {
  for (uint32_t i = 0; i < calls; ++i) offer(node, key);
}

void World::set_load(int node, int key, double per_second) {
  nodes_[node].loads[key] = per_second;
  const int life = ++nodes_[node].load_life[key];
  if (per_second > 0) load_step(node, key, life);
}

void World::load_step(int node, int key, int life) {
  const double rate = nodes_[node].loads[key];
  at(now + random_ns(static_cast<int64_t>(2e9 / rate)), [this, node, key, life] {
    if (nodes_[node].load_life[key] != life) return;
    offer(node, key);
    load_step(node, key, life);
  });
}

void World::vary_loads() {
  if (settling_) return;
  const int node = static_cast<int>(random_() % nodes_.size());
  const int key = static_cast<int>(random_() % truth_.size());
  const double rate = settings_.rate;
  switch (random_() % 5) {
    case 0:
      set_load(node, key, 0);
      break;
    case 1:
      set_load(node, key, rate * random() / settings_.nodes);
      break;
    case 2:
      set_load(node, key, rate * 3);
      break;
    case 3:
      burst(node, key, settings_.burst);
      break;
    default:  // all at once
      for (int i = 0; i < settings_.nodes; ++i) burst(i, key, settings_.burst);
  }
  at(now + random_ns(kSecond), [this] { vary_loads(); });
}

void World::settle() {
  settling_ = true;
  settings_.lost = settings_.dies = 0;
  settings_.cut_ns = 0;
  settings_.reclaim = false;
  for (int node = 0; node < settings_.nodes; ++node) {
    for (int key = 0; key < settings_.keys; ++key) set_load(node, key, 0);
  }
  run_until(now + 20 * kSecond);  // what is cut off or dead is back
  for (Node& node : nodes_) node.keys->tell_all();
  run_until(now + 5 * kSecond);
}

void World::new_agent(int i) {
  Node& node = nodes_[i];
  node.keys = std::make_unique<Keys>(*node.segment, settings_.interval_ns, false);
  node.keys->set_terms(node.segment->policies(), static_cast<uint64_t>(settings_.nodes));
  round(i, ++node.life);
}

void World::round(int i, int life) {
  Node& node = nodes_[i];
  if (node.life != life) return;
  if (settings_.dies != 0 && random() < settings_.dies) {
    ++node.life;
    at(now + random_ns(kSecond), [this, i] { new_agent(i); });
    return;
  }
  if (settings_.cut_ns != 0 && cut_node_ < 0 && random() < 0.002) {
    cut_node_ = i;
    at(now + settings_.cut_ns, [this] { cut_node_ = -1; });
  }
  const auto pushes = node.keys->begin(now);
  if (pushes.empty()) {
    node.answered_ns = now;  // it could have told
    at(std::max(node.keys->next_ns(), now + 1), [this, i, life] { round(i, life); });
    return;
  }
  ++rounds;
  if (settings_.mutant.early) {
    for (const Push& push : pushes) {
      KeyUse use;
      use.slot = push.identity - 1;
      use.nonce = push.rates[0].nonce;
      use.total = push.rates[0].total;
      node.segment->acknowledge(use);
    }
  }
  const int64_t begun = now;
  const bool cut = cut_node_ == i;
  const bool fails = cut || random() < settings_.lost;
  const bool done = !fails || (!cut && random() < 0.5);
  const int64_t there = now + random_ns(settings_.most_delay_ns);
  // Copied: a dead agent's exchange may still arrive.
  struct Sent {
    std::vector<RateUse> rates;
    std::vector<Push> pushes;
    std::vector<PushAnswer> answers;
  };
  auto sent = std::make_shared<Sent>();
  sent->rates.reserve(pushes.size());
  for (const Push& push : pushes) {
    sent->rates.push_back(push.rates[0]);
    sent->pushes.push_back(push);
    sent->pushes.back().rates = {&sent->rates.back(), 1};
    sent->answers.push_back({absl::UnknownError("tier_unknown: lost"), false, false, {}});
  }
  if (done) {
    at(there, [this, i, sent, fails] {
      for (size_t n = 0; n < sent->pushes.size(); ++n) {
        const Push& push = sent->pushes[n];
        PushAnswer answer = store_.apply(i, push, now);
        const int64_t waited = nodes_[i].segment->waited(push.identity - 1, push.rates[0].total);
        if (settings_.lost == 0 && settings_.cut_ns == 0 && settings_.dies == 0) {
          longest_wait_ns = std::max(longest_wait_ns, waited);
        }
        if (!fails) sent->answers[n] = std::move(answer);
      }
    });
  }
  const int64_t back = fails ? now + 2 * settings_.most_delay_ns + 100 * kMs
                             : there + random_ns(settings_.most_delay_ns);
  at(back, [this, i, life, begun, sent] { end_round(i, life, begun, sent->answers); });
}

void World::end_round(int i, int life, int64_t begun, const std::vector<PushAnswer>& answers) {
  Node& node = nodes_[i];
  if (node.life != life) return;
  node.keys->end(answers, now);
  if (answers[0].status.ok()) {
    longest_round_ns = std::max(longest_round_ns, now - begun);
    longest_gap_ns = std::max(longest_gap_ns, begun - node.answered_ns);
    node.answered_ns = now;
  } else {
    node.keys->tell_all();  // as the agent does
  }
  at(std::max(node.keys->next_ns(), now), [this, i, life] { round(i, life); });
}

double World::most_over() const {
  return (static_cast<double>(most_units_) - static_cast<double>(terms_.capacity_units)) /
         static_cast<double>(terms_.permit_units);
}

double World::bound() const {
  const double rounds_ns = 4 * static_cast<double>(longest_round_ns);
  // A gap of no more than an interval is no gap.
  const int64_t gap = longest_gap_ns > settings_.interval_ns ? longest_gap_ns : 0;
  const double stale =
      (7 * static_cast<double>(settings_.interval_ns) / 4 + rounds_ns + 2 * double(gap)) / 1e9;
  const double held = hold_back(settings_.burst, static_cast<uint64_t>(settings_.nodes)) - 1;
  return (settings_.nodes - 1) * (settings_.burst + held + settings_.rate * stale) *
         (1 + settings_.flushes);
}

bool World::exact() const {
  for (size_t key = 0; key < truth_.size(); ++key) {
    const auto found = store_.counted.find(key + 1);
    const int64_t counted = found == store_.counted.end() ? 0 : found->second;
    if (counted + truth_[key].forgotten != truth_[key].admitted) return false;
  }
  return true;
}

}  // namespace brim::tier::sim
