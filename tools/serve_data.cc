// SPDX-License-Identifier: MIT
#include "serve_data.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <queue>
#include <utility>

#include "dump.h"
#include "output.h"

namespace brim::tools {

namespace {

int64_t now_ns() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

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

// The rate that a key's slot belongs to; null for bans and for what has been removed.
const Rate* find_rate(const std::vector<PolicyInfo>& policies, const KeyInfo& key) {
  const PolicyInfo* const policy = find_policy(policies, key.policy);
  if (policy == nullptr || key.part >= policy->policy.rates.size()) return nullptr;
  return &policy->policy.rates[key.part];
}

// Logs and leases do not tell from outside what is left.
bool tells_remaining(const Rate* rate) {
  return rate != nullptr && rate->algorithm != Algorithm::kSlidingLog &&
         rate->algorithm != Algorithm::kConcurrency;
}

void json_name(JsonWriter& json, bool has_name, std::string_view name, uint64_t fingerprint) {
  json.name("key");
  has_name ? json.value(escape_key(name)) : json.null();
  json.name("key_base64");
  has_name ? json.value(base64(name)) : json.null();
  json.field("fingerprint", hex_digits(fingerprint, 13));
}

// A key with the fields that `brim dump --format json` gives it.
std::string key_json(const std::vector<PolicyInfo>& policies, const KeyInfo& key,
                     const Rate* rate) {
  JsonWriter json;
  json.begin('{').field("policy", policy_name(policies, key.policy)).field("part", key.part);
  json_name(json, key.has_name, key.name, key.fingerprint);
  json.name("key_length");
  key.has_name ? json.value(key.name_length) : json.null();
  json.field("key_cut", key.has_name && key.name_length > key.name.size());
  const bool ban = key.part == KeyInfo::kBanPart;
  if (tells_remaining(rate)) json.field("remaining", key.decision.remaining);
  json.name("reset_after_ns");
  json.duration(ban ? key.decision.retry_after_ns : key.decision.reset_after_ns);
  if (rate != nullptr) json.field("limit", rate->limit).field("burst", rate->burst);
  return json.end('}').take();
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

// What the samples of decisions tell, most decided first. Each stands for about kSampleRate.
std::string hot_json(const std::string& name, const Inspector& inspector, uint64_t since,
                     uint64_t limit) {
  struct Counts {
    HotSample sample;
    uint64_t allowed = 0;
    uint64_t denied = 0;
  };
  const std::vector<PolicyInfo> policies = inspector.policies();
  std::vector<HotSample> samples = inspector.hot_samples(since);
  std::map<std::pair<uint16_t, uint64_t>, Counts> keys;
  for (HotSample& sample : samples) {
    Counts& counts = keys[{sample.policy, sample.fingerprint}];
    ++(sample.admitted ? counts.allowed : counts.denied);
    if (counts.allowed + counts.denied == 1 || sample.has_name) counts.sample = std::move(sample);
  }
  Largest kept(limit);
  for (const auto& [key, counts] : keys) {
    kept.offer(static_cast<int64_t>(counts.allowed + counts.denied), [&, &counts = counts] {
      JsonWriter json;
      json.begin('{').field("policy", policy_name(policies, counts.sample.policy));
      json_name(json, counts.sample.has_name, counts.sample.name, counts.sample.fingerprint);
      json.field("allowed", counts.allowed * Inspector::kSampleRate);
      return json.field("denied", counts.denied * Inspector::kSampleRate).end('}').take();
    });
  }
  JsonWriter json;
  json.begin('{').field("version", 1).field("segment", name);
  json.field("sample_rate", Inspector::kSampleRate).field("samples", samples.size());
  json.name("keys").begin('[');
  for (const std::string& text : kept.take()) json.line().literal(text);
  return json.line().end(']').end('}').take() + "\n";
}

}  // namespace

template <class Value>
absl::StatusOr<Value> Remembered<Value>::get(const std::function<absl::StatusOr<Value>()>& read) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int64_t before = now_ns();
  if (before < next_ns_) return value_;
  value_ = read();
  const int64_t after = now_ns();
  next_ns_ = std::max(before + least_ns_, after + 10 * (after - before));
  return value_;
}

absl::StatusOr<std::string> Served::attach_and(
    const std::function<std::string(const Inspector&)>& tell) const {
  const absl::StatusOr<Inspector> inspector = Inspector::attach(name_, options_);
  if (!inspector.ok()) return inspector.status();
  return tell(*inspector);
}

absl::StatusOr<Reading> Served::reading() {
  return reading_.get([this] { return read_segment(name_, options_); });
}

absl::StatusOr<std::string> Served::info() {
  return info_.get([this] {
    return attach_and([this](const Inspector& inspector) { return info_json(name_, inspector); });
  });
}

absl::StatusOr<std::string> Served::policies() {
  return policies_.get([this] {
    return attach_and(
        [this](const Inspector& inspector) { return policies_json(name_, inspector); });
  });
}

absl::StatusOr<std::string> Served::attached() {
  return attached_.get([this] {
    return attach_and(
        [this](const Inspector& inspector) { return attached_json(name_, inspector); });
  });
}

absl::StatusOr<Served::Keys> Served::read_keys() const {
  const absl::StatusOr<Inspector> inspector = Inspector::attach(name_, options_);
  if (!inspector.ok()) return inspector.status();
  const std::vector<PolicyInfo> policies = inspector->policies();
  Largest kept[3] = {Largest(kMostKeys), Largest(kMostKeys), Largest(kMostKeys)};
  inspector->for_each_key([&](const KeyInfo& key) {
    if (key.state != SlotState::kLive) return true;
    const Rate* const rate = find_rate(policies, key);
    const auto text = [&] { return key_json(policies, key, rate); };
    const auto offer = [&](KeyOrder order, int64_t score) {
      kept[static_cast<size_t>(order)].offer(score, text);
    };
    const uint32_t left = key.decision.remaining;
    offer(KeyOrder::kLive, -static_cast<int64_t>(key.slot));
    if (key.part == KeyInfo::kBanPart && key.decision.reason == Reason::kBarred) {
      offer(KeyOrder::kRefused, key.decision.retry_after_ns);
    } else if (tells_remaining(rate) && left == 0) {
      offer(KeyOrder::kRefused, key.decision.reset_after_ns);
    } else if (tells_remaining(rate) && left <= rate->burst / 10) {
      offer(KeyOrder::kNear, -static_cast<int64_t>(uint64_t{left} * 1000000 / rate->burst));
    }
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
  const absl::StatusOr<Keys> keys = keys_.get([this] { return read_keys(); });
  if (!keys.ok()) return keys.status();
  const auto i = static_cast<size_t>(order);
  const std::vector<std::string>& shown = keys->shown[i];
  JsonWriter json;
  json.begin('{').field("version", 1).field("segment", name_).field("state", kNames[i]);
  json.field("count", keys->counts[i]).name("keys").begin('[');
  for (size_t n = 0; n < std::min<size_t>(shown.size(), limit); ++n) json.line().literal(shown[n]);
  return json.line().end(']').end('}').take() + "\n";
}

// The samples of the last minute in which somebody asked; for the first one all there are.
uint64_t Served::hot_since(uint64_t position) {
  constexpr int64_t kSpanNs = 60000000000;
  constexpr uint64_t kRing = 4096;
  const std::lock_guard<std::mutex> lock(marks_mutex_);
  const int64_t now = now_ns();
  if (!marks_.empty() && position < marks_.back().second) marks_.clear();  // another segment
  if (marks_.empty()) marks_.emplace_back(now, position - std::min(position, kRing));
  if (now - marks_.back().first >= 1000000000) marks_.emplace_back(now, position);
  while (marks_.size() > 1 && now - marks_[1].first > kSpanNs) marks_.pop_front();
  return marks_.front().second;
}

absl::StatusOr<std::string> Served::hot(uint64_t limit) {
  const absl::StatusOr<Inspector> inspector = Inspector::attach(name_, options_);
  if (!inspector.ok()) return inspector.status();
  return hot_json(name_, *inspector, hot_since(inspector->hot_position()), limit);
}

}  // namespace brim::tools
