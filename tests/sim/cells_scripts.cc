// SPDX-License-Identifier: MIT
// The scenarios of logs and leases whose schedules are all explored.
#include "tests/sim/cells_run.h"

namespace brim::sim::cells {
namespace {

constexpr uint64_t kSpan = 1000;  // of the log, in ns
constexpr uint64_t kTtl = 2000;   // of a lease
constexpr int64_t kPart = 600;    // of a span
constexpr int64_t kWhole = 1100;
constexpr int64_t kOver = 2100;  // all leases have ended

struct Shape {
  std::vector<Kind> kinds;  // of the keys
  uint32_t limit = 2;       // of logs and leases
  uint32_t new_limit = 2;   // after the change
  uint32_t open_slots = 1;
  uint32_t depth = 4;
};

Script script(const Shape& shape, std::vector<CellOp> a, std::vector<CellOp> b,
              std::vector<CellOp> before = {}, int64_t pause = 0) {
  Script made;
  Config& config = made.config;
  config.open_slots = shape.open_slots;
  config.depth = shape.depth;
  config.keys = static_cast<uint32_t>(shape.kinds.size());
  for (uint32_t key = 0; key < config.keys; ++key) config.kind[key] = shape.kinds[key];
  config.fibers = 2;
  for (auto& limit : config.limit) {
    limit[0] = shape.limit;
    limit[1] = shape.new_limit;
  }
  config.span[static_cast<uint32_t>(Kind::kLog)] = kSpan;
  config.span[static_cast<uint32_t>(Kind::kLease)] = kTtl;
  config.span[static_cast<uint32_t>(Kind::kGcra)] = kSpan;
  config.span[static_cast<uint32_t>(Kind::kFiller)] = kSpan;
  for (const auto* ops : {&a, &b}) {
    for (const CellOp& op : *ops) {
      if (op.what == Do::kRefund || op.what == Do::kReset) config.gives_back = true;
    }
  }
  made.ops[0] = std::move(a);
  made.ops[1] = std::move(b);
  made.before = std::move(before);
  made.pause = pause;
  return made;
}

struct Entry {
  const char* name;
  Script script;
  Bounds bounds;
  bool large = false;
};

const CellOp kOne = {Do::kCall, 0, 1};
const CellOp kTwo = {Do::kCall, 0, 2};
const CellOp kOther = {Do::kCall, 1, 1};
const CellOp kBack = {Do::kRefund, 0, 1};
const CellOp kAll = {Do::kReset, 0, 1};
const CellOp kRelease = {Do::kRelease, 0, 1};
const CellOp kRenew = {Do::kRenew, 0, 1};
const CellOp kReap = {Do::kReap, 0, 1};
const CellOp kChange = {Do::kChange, 0, 1};
const CellOp kDie = {Do::kDie, 0, 1};

// Key 0 has its slot before the fibers begin, unless the name says otherwise.
std::vector<Entry> log_entries() {
  const Shape one{{Kind::kLog}, 1, 1};
  const Shape two{{Kind::kLog}, 2, 2};
  const Shape pair{{Kind::kLog, Kind::kLog}, 1, 1};
  return {
      {"log: acquire, acquire", script(one, {kOne}, {kOne}, {kOne}, kWhole), {1, {kPart, kWhole}}},
      {"log: insert, insert", script(one, {kOne}, {kOne}), {1, {kPart}}},
      {"log: acquire 2, acquire 2", script(two, {kTwo}, {kTwo}, {kOne}, kWhole), {1, {kPart}}},
      {"log: acquire 2, acquire 1 twice",
       script(two, {kTwo}, {kOne, kOne}, {kOne}, kWhole),
       {1, {kPart}}},
      {"log: acquire and refund, acquire",
       script(one, {kOne, kBack}, {kOne}, {kOne}, kWhole),
       {1, {kPart}}},
      {"log: reset, acquire twice", script(two, {kAll}, {kOne, kOne}, {kTwo}, kPart), {1, {kPart}}},
      {"log: its slot is taken over, it returns",
       script(pair, {kOther}, {kOne}, {kOne}, kWhole),
       {1, {kWhole}}},
      {"log: limit raised, acquire twice",
       script({{Kind::kLog}, 1, 2}, {kChange, kOne}, {kOne}, {kOne}, kWhole),
       {1, {kPart}}},
      {"log: limit lowered, acquire",
       script({{Kind::kLog}, 2, 1}, {kChange, kOne}, {kOne, kOne}, {kOne}, kWhole),
       {1, {kPart}}},
      {"log: acquire twice each",
       script(two, {kOne, kOne}, {kOne, kOne}, {kOne}, kWhole),
       {1, {kPart, kPart}},
       true},
      {"log: two keys take turns",
       script(pair, {kOther, kOne}, {kOne, kOther}, {kOne}, kWhole),
       {1, {kWhole, kWhole}},
       true},
  };
}

std::vector<Entry> lease_entries() {
  const Shape one{{Kind::kLease}, 1, 1};
  const Shape two{{Kind::kLease}, 2, 2};
  return {
      {"lease: acquire, acquire", script(one, {kOne}, {kOne}, {kOne}, kOver), {1, {kOver}}},
      {"lease: acquire and release, acquire",
       script(one, {kOne, kRelease}, {kOne}, {kOne}, kOver),
       {1, {kOver}}},
      {"lease: renew, acquire", script(one, {kOne, kRenew}, {kOne}, {kOne}, kOver), {1, {kOver}}},
      {"lease: release, release",
       script(two, {kOne, kRelease}, {kOne, kRelease}, {kOne}, kOver),
       {1, {kOver}}},
      {"lease: dies, reap and acquire",
       script(two, {kOne, kDie}, {kOne, kReap}, {kOne}, kOver),
       {1, {kWhole}}},
      {"lease: its slot is taken over by a log",
       script({{Kind::kLease, Kind::kLog}, 1, 1}, {kOther}, {kOne}, {kOne}, 2 * kOver),
       {1, {kOver}}},
      {"log: its slot is taken over by a lease",
       script({{Kind::kLog, Kind::kLease}, 1, 1}, {kOther}, {kOne}, {kOne}, 2 * kOver),
       {1, {kWhole}}},
      {"lease: limit lowered, acquire",
       script({{Kind::kLease}, 2, 1}, {kChange, kOne}, {kOne}, {kOne}, kOver),
       {1, {kOver}}},
      {"lease: acquire, renew, release each",
       script(one, {kOne, kRenew, kRelease}, {kOne, kRenew, kRelease}, {kOne}, kOver),
       {1, {kOver}},
       true},
  };
}

}  // namespace

std::vector<Scenario> scenarios() {
  std::vector<Scenario> all;
  for (const auto& entries : {log_entries(), lease_entries()}) {
    for (const Entry& entry : entries) {
      all.push_back(
          {entry.name, entry.bounds,
           [script = entry.script](Director& director) { return run_script(script, director); },
           add_run_to, entry.large});
    }
  }
  return all;
}

}  // namespace brim::sim::cells
