// SPDX-License-Identifier: MIT
// What an agent needs of its segment: brim::ClusterView, behind an interface so that the same agent
// runs in a simulation. See include/brim/cluster.h for what each function does.
#ifndef BRIM_SRC_TIER_VIEW_H_
#define BRIM_SRC_TIER_VIEW_H_

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "brim/cluster.h"

namespace brim::tier {

class View {
 public:
  virtual ~View() = default;
  virtual int64_t now_ns() const = 0;
  virtual std::vector<ClusterPolicy> policies() const = 0;
  virtual void for_each_use(bool all, const std::function<bool(const KeyUse&)>& visit) = 0;
  virtual bool look(KeyUse& use) const = 0;
  virtual void acknowledge(const KeyUse& use) = 0;
  virtual bool raise(const KeyUse& use, uint64_t level_units, int64_t as_of_ns) = 0;
  virtual void set_secret(const uint64_t secret[2]) = 0;
  virtual bool get_secret(uint64_t secret[2]) const = 0;
  virtual void set_hold_back(uint16_t policy, uint32_t part, uint32_t permits) = 0;
  virtual absl::Status set_share(uint16_t policy, uint32_t parts_per_million) = 0;
  virtual void set_status(const TierStatus& status) = 0;
  virtual TierStatus status() const = 0;
};

class SegmentView final : public View {
 public:
  explicit SegmentView(ClusterView view) : view_(std::move(view)) {}
  const ClusterView& segment() const { return view_; }

  int64_t now_ns() const override { return view_.now_ns(); }
  std::vector<ClusterPolicy> policies() const override { return view_.policies(); }
  void for_each_use(bool all, const std::function<bool(const KeyUse&)>& visit) override {
    view_.for_each_use(all, visit);
  }
  bool look(KeyUse& use) const override { return view_.look(use); }
  void acknowledge(const KeyUse& use) override { view_.acknowledge(use); }
  bool raise(const KeyUse& use, uint64_t level_units, int64_t as_of_ns) override {
    return view_.raise(use, level_units, as_of_ns);
  }
  void set_secret(const uint64_t secret[2]) override { view_.set_secret(secret); }
  bool get_secret(uint64_t secret[2]) const override { return view_.get_secret(secret); }
  void set_hold_back(uint16_t policy, uint32_t part, uint32_t permits) override {
    view_.set_hold_back(policy, part, permits);
  }
  absl::Status set_share(uint16_t policy, uint32_t parts_per_million) override {
    return view_.set_share(policy, parts_per_million);
  }
  void set_status(const TierStatus& status) override { view_.set_status(status); }
  TierStatus status() const override { return view_.status(); }

 private:
  ClusterView view_;
};

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_VIEW_H_
