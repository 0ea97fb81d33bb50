// SPDX-License-Identifier: MIT
// A segment with a manual clock and the policies a test names.
#ifndef BRIM_TESTS_POLICIES_SUPPORT_H_
#define BRIM_TESTS_POLICIES_SUPPORT_H_

#include <string>
#include <utility>
#include <vector>

#include "tests/process/support.h"

namespace brim::test {

class Policies : public ::testing::Test {
 protected:
  // Creates the segment; `policies` are {name, text}.
  void open(std::vector<NamedPolicy> policies, uint64_t capacity = 256) {
    name_ = std::make_unique<SegmentName>();
    clock_->store(kEpoch);
    options_.capacity = capacity;
    options_.clock = ClockKind::kManual;
    options_.manual_clock_ns = &*clock_;
    options_.policies = std::move(policies);
    absl::StatusOr<Limiter> limiter = Limiter::create(name_->str(), options_);
    ASSERT_TRUE(limiter.ok()) << limiter.status();
    limiter_ = *std::move(limiter);
  }
  PolicyHandle policy(std::string_view name) const {
    absl::StatusOr<PolicyHandle> handle = limiter_.policy(name);
    EXPECT_TRUE(handle.ok()) << handle.status();
    return handle.ok() ? *handle : PolicyHandle();
  }
  void advance(int64_t ns) const { clock_->fetch_add(ns); }
  int64_t now() const { return clock_->load(); }
  uint64_t counter(std::string_view policy, std::string_view counter) const {
    const auto inspector = Inspector::attach(name_->str());
    for (const PolicyInfo& info : inspector->policies()) {
      if (info.name != policy) continue;
      for (const Counter& one : info.counters) {
        if (one.name == counter) return one.value;
      }
    }
    ADD_FAILURE() << "no counter " << counter << " of policy " << policy;
    return 0;
  }

  std::unique_ptr<SegmentName> name_;
  Shared<std::atomic<int64_t>> clock_;
  Options options_;
  Limiter limiter_;
};

// Calls that pass in a row, at most `most`.
inline uint32_t passes(const PolicyHandle& policy, std::string_view key, uint32_t most = 1000) {
  uint32_t admitted = 0;
  while (admitted < most && policy.try_acquire(key).admitted) ++admitted;
  return admitted;
}

}  // namespace brim::test

#endif  // BRIM_TESTS_POLICIES_SUPPORT_H_
