// SPDX-License-Identifier: MIT
#include "serve_data.h"

#include <algorithm>
#include <map>
#include <queue>
#include <utility>

#include "dump.h"
#include "dump_row.h"
#include "output.h"
#include "repeat.h"
#include "tier_view.h"

namespace brim::tools {

namespace {

const PolicyInfo* find_policy(const std::vector<PolicyInfo>& policies, uint16_t number) {
  const auto found =
      std::find_if(policies.begin(), policies.end(),
                   [number](const PolicyInfo& each) { return each.number == number; });
  return found == policies.end() ? nullptr : &*found;
}

std::string policy_name(const std::vector<PolicyInfo>& policies, uint16_t number) {
  const PolicyInfo* const policy = find_policy(policies, number);
  return policy == nullptr ? join("#", number) : escape_key(policy->name);
}

// The `most` largest of all that is offered, and how many there were.
class Largest {
 public:
  explicit Largest(size_t most) : most_(most) {}

  template <class Make>
  void offer(int64_t score, const Make& make) {
    ++count_;
    if (kept_.size() == most_) {
      if (kept_.top().first >= score) return;
      kept_.pop();
    }
    kept_.emplace(score, make());
  }
  uint64_t count() const { return count_; }
  std::vector<std::string> take() {
    std::vector<std::string> list(kept_.size());
    for (size_t i = list.size(); i-- > 0; kept_.pop()) list[i] = kept_.top().second;
    return list;
  }

 private:
  using Scored = std::pair<int64_t, std::string>;
  std::priority_queue<Scored, std::vector<Scored>, std::greater<>> kept_;
  size_t most_;
  uint64_t count_ = 0;
};

// A key of the samples: the most of its text that is told, and how much of it the segment has.
void json_name(JsonWriter& json, const HotSample& sample) {
  const std::string_view name = std::string_view(sample.name).substr(0, Served::kMostText);
  json.name("key");
  sample.has_name ? json.value(escape_key(name)) : json.null();
  json.name("key_base64");
  sample.has_name ? json.value(base64(name)) : json.null();
  json.name("key_stored");
  sample.has_name ? json.value(sample.name.size()) : json.null();
  json.field("key_cut", name.size() < sample.name.size());
  json.field("fingerprint", hex_digits(sample.fingerprint, 13));
}

void add_rows(JsonWriter& json, const std::vector<std::string>& rows, uint64_t limit) {
  json.name("keys").begin('[');
  for (size_t i = 0; i < std::min<size_t>(rows.size(), limit); ++i) json.line().literal(rows[i]);
  json.line().end(']');
}

}  // namespace

template <class Value>
Shared<Value> Remembered<Value>::get(const std::function<absl::StatusOr<Value>()>& read) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int64_t before = monotonic_ns();
  if (before < next_ns_) return value_;
  absl::StatusOr<Value> value = read();
  if (value.ok()) {
    value_ = std::make_shared<const Value>(*std::move(value));
  } else {
    value_ = value.status();
  }
  const int64_t after = monotonic_ns();
  next_ns_ = std::max(before + least_ns_, after + 10 * (after - before));
  return value_;
}

absl::StatusOr<std::string> Served::attach_and(
    const std::function<std::string(const Inspector&)>& tell) const {
  const absl::StatusOr<Inspector> inspector = Inspector::attach(name_, options_);
  if (!inspector.ok()) return inspector.status();
  return tell(*inspector);
}

Shared<Reading> Served::reading() {
  return reading_.get([this] { return read_segment(name_, options_); });
}

Shared<std::string> Served::info() {
  return info_.get([this]() -> absl::StatusOr<std::string> {
    const absl::StatusOr<TierLook> tier = TierLook::at(name_, options_);
    if (!tier.ok()) return tier.status();
    return attach_and(
        [&](const Inspector& inspector) { return info_json(name_, inspector, *tier); });
  });
}

Shared<std::string> Served::policies() {
  return policies_.get([this] {
    return attach_and(
        [this](const Inspector& inspector) { return policies_json(name_, inspector); });
  });
}

Shared<std::string> Served::attached() {
  return attached_.get([this] {
    return attach_and(
        [this](const Inspector& inspector) { return attached_json(name_, inspector); });
  });
}

absl::StatusOr<Served::Keys> Served::read_keys() const {
  const absl::StatusOr<Inspector> inspector = Inspector::attach(name_, options_);
  if (!inspector.ok()) return inspector.status();
  const DumpPolicies policies = dump_policies(name_, options_, inspector->policies());
  Largest kept[3] = {Largest(kMostKeys), Largest(kMostKeys), Largest(kMostKeys)};
  inspector->for_each_key([&](const KeyInfo& key) {
    const auto policy = policies.find(key.policy);
    const Row row(key, policy == policies.end() ? nullptr : &policy->second);
    const auto offer = [&](KeyOrder order, int64_t score) {
      kept[static_cast<size_t>(order)].offer(score, [&] {
        JsonWriter json;
        write_row(json, row.with_name(key.name.substr(0, kMostText)));
        return json.take();
      });
    };
    if (key.state == SlotState::kLive) offer(KeyOrder::kLive, -static_cast<int64_t>(key.slot));
    if (row.refused()) offer(KeyOrder::kRefused, row.retry_ns().value_or(0));
    if (row.near()) offer(KeyOrder::kNear, -int64_t{*row.remaining()});
    return true;
  });
  Keys keys;
  for (size_t i = 0; i < 3; ++i) {
    keys.counts[i] = kept[i].count();
    keys.shown[i] = kept[i].take();
  }
  return keys;
}

absl::StatusOr<std::string> Served::keys(KeyOrder order, uint64_t limit) {
  constexpr const char* kNames[] = {"refused", "near", "live"};
  const Shared<Keys> keys = keys_.get([this] { return read_keys(); });
  if (!keys.ok()) return keys.status();
  const auto i = static_cast<size_t>(order);
  JsonWriter json;
  json.begin('{').field("version", 1).field("segment", name_).field("state", kNames[i]);
  json.field("count", (*keys)->counts[i]);
  add_rows(json, (*keys)->shown[i], limit);
  return json.end('}').take() + "\n";
}

// The samples of the last minute in which somebody asked; for the first one all there are.
uint64_t Served::hot_since(const Inspector& inspector) {
  constexpr int64_t kSpanNs = 60000000000;
  constexpr uint64_t kRing = 4096;
  const uint64_t position = inspector.hot_position();
  const std::string uuid = inspector.info().uuid;
  const int64_t now = monotonic_ns();
  // Another segment has the name, or somebody set the position back.
  if (uuid != marked_uuid_ || (!marks_.empty() && position < marks_.back().second)) marks_.clear();
  marked_uuid_ = uuid;
  if (marks_.empty()) marks_.emplace_back(now, position - std::min(position, kRing));
  if (now - marks_.back().first >= 1000000000) marks_.emplace_back(now, position);
  while (marks_.size() > 1 && now - marks_[1].first > kSpanNs) marks_.pop_front();
  return marks_.front().second;
}

// What the samples of decisions tell, most decided first. Each stands for about kSampleRate.
absl::StatusOr<Served::Hot> Served::read_hot() {
  struct Counts {
    HotSample sample;
    uint64_t allowed = 0;
    uint64_t denied = 0;
  };
  const absl::StatusOr<Inspector> inspector = Inspector::attach(name_, options_);
  if (!inspector.ok()) return inspector.status();
  const std::vector<PolicyInfo> policies = inspector->policies();
  std::vector<HotSample> samples = inspector->hot_samples(hot_since(*inspector));
  std::map<std::pair<uint16_t, uint64_t>, Counts> keys;
  for (HotSample& sample : samples) {
    Counts& counts = keys[{sample.policy, sample.fingerprint}];
    ++(sample.admitted ? counts.allowed : counts.denied);
    if (counts.allowed + counts.denied == 1 || sample.has_name) counts.sample = std::move(sample);
  }
  Largest kept(kMostKeys);
  for (const auto& [key, counts] : keys) {
    kept.offer(static_cast<int64_t>(counts.allowed + counts.denied), [&, &counts = counts] {
      JsonWriter json;
      json.begin('{').field("policy", policy_name(policies, counts.sample.policy));
      json_name(json, counts.sample);
      json.field("allowed", counts.allowed * Inspector::kSampleRate);
      return json.field("denied", counts.denied * Inspector::kSampleRate).end('}').take();
    });
  }
  return Hot{kept.take(), samples.size()};
}

absl::StatusOr<std::string> Served::hot(uint64_t limit) {
  const Shared<Hot> hot = hot_.get([this] { return read_hot(); });
  if (!hot.ok()) return hot.status();
  JsonWriter json;
  json.begin('{').field("version", 1).field("segment", name_);
  json.field("sample_rate", Inspector::kSampleRate).field("samples", (*hot)->samples);
  add_rows(json, (*hot)->shown, limit);
  return json.end('}').take() + "\n";
}

}  // namespace brim::tools
