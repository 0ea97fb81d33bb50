// SPDX-License-Identifier: MIT
// A worker of the soak: attaches the segments by name and makes random calls until it is told to
// stop, is killed, or its records are full. `soak_worker CONTROL RECORDS`: two inherited memories.
#include <fcntl.h>
#include <time.h>

#include <optional>

#include "tests/process/support.h"
#include "tests/soak/plan.h"
#include "tests/soak/record.h"

namespace brim::soak {
namespace {

constexpr int kSharedReading = 16;  // calls that share one reading of the clock

struct Held {
  uint32_t number;
  uint8_t policy;
  uint32_t key;
  Lease lease;
  int64_t until;
};

class Worker {
 public:
  Worker(Control& control, RecordFile& file) : control_(control), file_(file), random_(file.seed) {}

  bool attach() {
    Options options;
    options.clock = file_.exact_clock != 0 ? ClockKind::kMonotonic : ClockKind::kAuto;
    for (size_t i = 0; i < 3; ++i) {
      const auto limiter = Limiter::attach(control_.segments[i], options);
      if (!limiter.ok()) return false;
      for (size_t p = 0; p < kPlanCount; ++p) {
        if (kPlans[p].segment != i) continue;
        const auto handle = limiter->policy(kPlans[p].name);
        if (!handle.ok()) return false;
        handles_[p] = *handle;
      }
    }
    return true;
  }

  void run() {
    while (!done()) {
      release_due();
      const uint64_t calls = 100 + random_() % 500;
      for (uint64_t i = 0; i < calls && !done(); ++i) call();
      if (control_.pace_us == 0) continue;
      const timespec pause = {0, static_cast<long>(random_() % control_.pace_us * 1000)};
      nanosleep(&pause, nullptr);
    }
  }

 private:
  bool done() const {
    return control_.stop.load(std::memory_order_relaxed) != 0 ||
           file_.stop.load(std::memory_order_relaxed) != 0 ||
           file_.count.load(std::memory_order_relaxed) == kMaxRecords;
  }

  // Everything that is known before the call is in memory before it.
  Record* begin(Op op, size_t policy, uint32_t key, uint32_t cost) {
    const uint32_t i = file_.count.load(std::memory_order_relaxed);
    if (i == kMaxRecords) return nullptr;
    Record& record = file_.records[i];
    record.op = op;
    record.policy = static_cast<uint8_t>(policy);
    record.key = key;
    record.cost = static_cast<uint8_t>(cost);
    record.before = monotonic_now_ns();
    // Release: who sees the count sees the record.
    file_.count.store(i + 1, std::memory_order_release);
    return &record;
  }
  static void end(Record& record, const Decision& decision) {
    record.verdict = static_cast<uint8_t>(decision.verdict);
    record.reason = static_cast<uint8_t>(decision.reason);
    record.admitted = decision.admitted;
    finish(record);
  }
  static void finish(Record& record) {
    const int64_t now = monotonic_now_ns();
    __atomic_store_n(&record.after, now, __ATOMIC_RELEASE);
  }

  void call() {
    const size_t policy = control_.only >= 0   ? static_cast<size_t>(control_.only)
                          : random_() % 4 == 0 ? 17
                                               : random_() % kPlanCount;
    const Plan& plan = kPlans[policy];
    uint32_t key = 0;
    const uint64_t draw = random_() % 10 + (plan.segment == kMain ? 0 : 6);  // mostly new keys
    if (draw >= 4 && plan.warm != 0) key = 1 + static_cast<uint32_t>(random_() % plan.warm);
    if (draw >= 8 && plan.tail != 0) {
      key = 1 + plan.warm + static_cast<uint32_t>(random_() % plan.tail);
    }
    const uint32_t cost = 1 + static_cast<uint32_t>(random_() % plan.cost_max);
    char text[16];
    std::snprintf(text, sizeof(text), "k%u", key);
    if (plan.parts[0].kind == Kind::kLease) return take(policy, key, text);
    if (plan.refunds && random_() % 4 == 0) {
      Record* const record = begin(Op::kRefund, policy, key, cost);
      if (record == nullptr) return;
      record->verdict = handles_[policy].refund(text, cost) ? 1 : 0;
      return finish(*record);
    }
    acquire(policy, key, text, cost);
  }

  void acquire(size_t policy, uint32_t key, const char* text, uint32_t cost) {
    Record* const record = begin(Op::kAcquire, policy, key, cost);
    if (record == nullptr) return;
    if (++calls_ / kSharedReading % 8 != 0) {
      return end(*record, handles_[policy].try_acquire(text, cost));
    }
    // A reading shared by some calls: the call's own time is then from that reading on.
    if (calls_ % kSharedReading == 0) shared_now_ = record->before;
    const int64_t now = std::min(shared_now_, record->before);
    if (now == 0) return end(*record, handles_[policy].try_acquire(text, cost));
    record->before = now;
    end(*record, handles_[policy].try_acquire_at(now, text, cost));
  }

  void take(size_t policy, uint32_t key, const char* text) {
    if (held_.size() >= 6) return;
    Record* const record = begin(Op::kLease, policy, key, 1);
    if (record == nullptr) return;
    record->lease = ++leases_;
    const Lease lease = handles_[policy].acquire_lease(text);
    record->expires = lease.expires_ns;
    end(*record, lease.decision);
    if (!lease) return;
    // One in ten is never given back.
    const int64_t hold = static_cast<int64_t>(random_() % 10 == 0 ? 1000 : random_() % 40) * kMs;
    held_.push_back({leases_, static_cast<uint8_t>(policy), key, lease, record->after + hold});
  }

  void release_due() {
    for (size_t i = held_.size(); i-- > 0;) {
      Held& one = held_[i];
      if (random_() % 16 == 0) {
        Record* const record = begin(Op::kRenew, one.policy, one.key, 0);
        if (record == nullptr) return;
        record->lease = one.number;
        const bool renewed = handles_[one.policy].renew(one.lease);
        record->expires = one.lease.expires_ns;
        record->verdict = renewed ? 1 : 0;
        finish(*record);
        if (renewed) continue;
        held_.erase(held_.begin() + static_cast<ptrdiff_t>(i));
        continue;
      }
      if (one.until > monotonic_now_ns()) continue;
      if (one.until < one.lease.expires_ns + kSecond / 2) {
        Record* const record = begin(Op::kRelease, one.policy, one.key, 0);
        if (record == nullptr) return;
        record->lease = one.number;
        record->verdict = handles_[one.policy].release(one.lease) ? 1 : 0;
        finish(*record);
      }
      held_.erase(held_.begin() + static_cast<ptrdiff_t>(i));
    }
  }

  Control& control_;
  RecordFile& file_;
  std::mt19937_64 random_;
  std::array<PolicyHandle, kPlanCount> handles_;
  std::vector<Held> held_;
  uint32_t leases_ = 0;
  uint64_t calls_ = 0;
  int64_t shared_now_ = 0;
};

}  // namespace
}  // namespace brim::soak

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  brim::test::bound_child(600);
  const auto control = brim::test::SharedBytes::adopt(std::atoi(argv[1]));
  const auto records = brim::test::SharedBytes::adopt(std::atoi(argv[2]));
  brim::soak::Worker worker(*control.as<brim::soak::Control>(),
                            *records.as<brim::soak::RecordFile>());
  if (!worker.attach()) return 2;
  worker.run();
  return 0;
}
