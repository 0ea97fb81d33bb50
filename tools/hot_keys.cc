// SPDX-License-Identifier: MIT
#include "hot_keys.h"

#include <algorithm>
#include <cmath>

namespace brim::tools {

namespace {

constexpr double kMemorySeconds = 10;
constexpr double kLeast = 0.05;  // of a sample: older ones are forgotten
constexpr size_t kMostKeys = 16384;

}  // namespace

void HotKeys::begin(const Inspector& inspector, int64_t now_ns) {
  keys_.clear();
  seconds_ = 0;
  position_ = inspector.hot_position();
  read_ns_ = now_ns;
}

void HotKeys::age(int64_t now_ns) {
  const double passed = static_cast<double>(std::max<int64_t>(now_ns - read_ns_, 0)) / 1e9;
  const double share = std::exp(-passed / kMemorySeconds);
  seconds_ = seconds_ * share + passed;
  read_ns_ = now_ns;
  for (auto& [id, key] : keys_) {
    key.asked *= share;
    key.refused *= share;
  }
  std::erase_if(keys_, [](const auto& each) { return each.second.asked < kLeast; });
  if (keys_.size() > kMostKeys) {  // those seen once say nothing
    std::erase_if(keys_, [](const auto& each) { return each.second.asked < 1.5; });
  }
}

void HotKeys::read(const Inspector& inspector, int64_t now_ns) {
  const uint64_t position = inspector.hot_position();
  age(now_ns);
  const std::vector<HotSample> samples = inspector.hot_samples(position_);
  // The ring may have gone round, and samples of slots that changed hands are left out: those that
  // were got stand for all. A position that went back is of somebody who writes there.
  const uint64_t written = position > position_ ? position - position_ : 0;
  position_ = position;
  if (samples.empty() || written == 0) return;
  const double weight =
      std::max(static_cast<double>(written) / static_cast<double>(samples.size()), 1.0);
  for (const HotSample& sample : samples) {
    HotKey& key = keys_[{sample.policy, sample.fingerprint}];
    key.policy = sample.policy;
    key.fingerprint = sample.fingerprint;
    if (sample.has_name) {
      key.has_name = true;
      key.name = sample.name;
    }
    key.asked += weight;
    key.refused += sample.admitted ? 0 : weight;
  }
}

std::vector<HotKey> HotKeys::best(double HotKey::*by, size_t most) const {
  std::vector<HotKey> found;
  const double factor = Inspector::kSampleRate / std::max(seconds_, 0.001);
  for (const auto& [id, key] : keys_) {
    if (key.*by > 0) found.push_back(key);
  }
  const size_t count = std::min(most, found.size());
  std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(count), found.end(),
                    [by](const HotKey& a, const HotKey& b) { return a.*by > b.*by; });
  found.resize(count);
  for (HotKey& key : found) {
    key.asked *= factor;
    key.refused *= factor;
  }
  return found;
}

}  // namespace brim::tools
