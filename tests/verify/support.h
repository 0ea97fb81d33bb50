// SPDX-License-Identifier: MIT
// A segment on a manual clock, ways to damage it, and what verify says of it.
#ifndef BRIM_TESTS_VERIFY_SUPPORT_H_
#define BRIM_TESTS_VERIFY_SUPPORT_H_

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "brim/verify.h"
#include "shm/cells.h"
#include "shm/names.h"
#include "tests/process/support.h"

namespace brim::test {

struct Findings {
  VerifyReport report;
  std::vector<Finding> findings;
  std::vector<std::string> names;  // of the findings, in order

  std::string all() const {
    std::string text;
    for (const Finding& finding : findings) {
      text += std::string(finding.name) + " slot " + std::to_string(finding.slot) + " " +
              finding.policy + " " + finding.value + (finding.repaired ? " (repaired)\n" : "\n");
    }
    return text;
  }
  uint64_t count(std::string_view name) const {
    return static_cast<uint64_t>(std::count(names.begin(), names.end(), name));
  }
  const Finding* find(std::string_view name) const {
    const auto at = std::find(names.begin(), names.end(), name);
    return at == names.end() ? nullptr : &findings[static_cast<size_t>(at - names.begin())];
  }
};

// The key's copy at a position, with its name if there are names.
inline void plant_copy(const Raw& raw, uint64_t position, uint64_t slot_id, Word word,
                       const std::string& key) {
  const shm::Segment& segment = *raw.engine().segment;
  // The name first: a slot without one is another finding.
  if (shm::NameEntry* const entry = segment.name_entry(position)) {
    const size_t room = segment.header().name_bytes;
    const std::string text = key.substr(0, shm::kept_bytes(key.size(), room));
    const HashSecret& secret = raw.engine().secret;
    const uint64_t place = key.size() > room ? hash_key(secret, key).low : 0;
    shm::store_name(entry, room, text, key.size(), place,
                    name_check(secret, slot_id, key.size(), place, text));
  }
  raw.set(position, {slot_id, word});
}

class VerifyTest : public ::testing::Test {
 protected:
  void open(uint64_t capacity, std::vector<NamedPolicy> policies, uint32_t probe_limit = 0,
            uint32_t name_bytes = 48) {
    clock_->store(kEpoch - 3600 * kSecond);  // policies are older than any planted word
    Options options = manual(&*clock_, capacity, "");
    options.policies = std::move(policies);
    options.probe_limit = probe_limit;
    options.name_bytes = name_bytes;
    auto limiter = Limiter::create(name_.str(), options);
    ASSERT_TRUE(limiter.ok()) << limiter.status();
    limiter_ = *std::move(limiter);
    raw_ = std::make_unique<Raw>(name_.str(), &*clock_);
    clock_->store(kEpoch);
  }
  int64_t now() const { return clock_->load(); }
  shm::Segment& segment() const { return *raw_->engine().segment; }
  PolicyHandle policy(const char* name = "p") const { return *limiter_.policy(name); }

  Findings run(bool repair = false, uint64_t memory_bytes = uint64_t{1} << 20) const {
    VerifyOptions options;
    options.repair = repair;
    options.memory_bytes = memory_bytes;
    options.access.clock = ClockKind::kManual;
    options.access.manual_clock_ns = &*clock_;
    Findings run;
    const auto report = verify(name_.str(), options, [&](const Finding& finding) {
      run.findings.push_back(finding);
      run.names.emplace_back(finding.name);
    });
    EXPECT_TRUE(report.ok()) << report.status();
    if (report.ok()) run.report = *report;
    EXPECT_EQ(run.report.errors + run.report.warnings + run.report.notes, run.findings.size());
    return run;
  }

  // One finding of this name; a repair that leaves nothing to find.
  Findings expect_repair(const std::string& name) const {
    Findings found = run();
    EXPECT_EQ(found.names, std::vector<std::string>{name}) << found.all();
    EXPECT_EQ(found.report.repaired, 0u);
    Findings repaired = run(true);
    EXPECT_EQ(repaired.names, std::vector<std::string>{name}) << repaired.all();
    EXPECT_EQ(repaired.report.repaired, 1u);
    EXPECT_EQ(repaired.report.errors_remaining + repaired.report.warnings_remaining, 0u);
    const Findings again = run();
    EXPECT_TRUE(again.findings.empty()) << again.all();
    return found;
  }
  // One finding of this name that a repair leaves alone.
  void expect_kept(const std::string& name) const {
    for (const bool repair : {false, true}) {
      const Findings found = run(repair);
      EXPECT_EQ(found.names, std::vector<std::string>{name}) << found.all();
      EXPECT_EQ(found.report.repaired, 0u);
    }
  }

  uint64_t id(const std::string& key, uint32_t part = 0, uint16_t number = 0) const {
    return raw_->id(number, key) | uint64_t{part} << shm::kFingerprintBits;
  }
  // The key's copy at a position, with its name.
  void plant(uint64_t position, uint64_t slot_id, Word word, const std::string& key) const {
    plant_copy(*raw_, position, slot_id, word, key);
  }
  void all_free() const {
    for (uint64_t i = 0; i < raw_->slots(); ++i) raw_->set(i, {shm::kFreeId, 0});
  }
  void set_reach(uint64_t reach) const { segment().shared()->reach = reach; }
  Word full(uint16_t number = 0) const {
    return raw_->reading(number, now()) + raw_->quota(number).capacity;
  }

  SegmentName name_;
  Shared<std::atomic<int64_t>> clock_;
  Limiter limiter_;
  std::unique_ptr<Raw> raw_;
};

}  // namespace brim::test

#endif  // BRIM_TESTS_VERIFY_SUPPORT_H_
