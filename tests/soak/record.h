// SPDX-License-Identifier: MIT
// What workers note and the observer reads: one file of records a worker, in memory that outlives
// its kill -9. The record is written before the call, with what is asked, and completed after it.
// So a killed worker leaves at most one call whose answer nobody knows.
#ifndef BRIM_TESTS_SOAK_RECORD_H_
#define BRIM_TESTS_SOAK_RECORD_H_

#include <atomic>
#include <cstdint>

namespace brim::soak {

enum class Op : uint8_t { kAcquire = 1, kRefund, kLease, kRelease, kRenew };

// Verdicts and reasons as brim/decision.h numbers them; the observer does not include it.
inline constexpr uint8_t kDenied = 0;
inline constexpr uint8_t kAllowed = 1;
inline constexpr uint8_t kUnavailable = 2;
inline constexpr uint8_t kPlain = 0;
inline constexpr uint8_t kFull = 2;
inline constexpr uint8_t kBarred = 6;
inline constexpr uint8_t kExempt = 8;
inline constexpr uint8_t kBlocked = 9;

struct Record {
  int64_t before;   // CLOCK_MONOTONIC ns; the call's own time lies in [before, after]
  int64_t after;    // 0: not answered
  int64_t expires;  // of a lease
  uint32_t key;
  uint32_t lease;  // the worker's number for it, from 1
  uint8_t policy;  // index into kPlans
  Op op;
  uint8_t cost;
  uint8_t verdict;  // refund, release, renew: 1 if done
  uint8_t reason;
  uint8_t admitted;
  uint8_t unused[2];
};
static_assert(sizeof(Record) == 40);

inline constexpr uint32_t kMaxRecords = 200000;

struct RecordFile {
  // The worker's.
  uint32_t seed;
  uint32_t exact_clock;         // 1: the limiter reads CLOCK_MONOTONIC, as the worker does
  std::atomic<uint32_t> count;  // records begun
  std::atomic<uint32_t> stop;   // set by the supervisor
  // The supervisor's: just before the kill, and after the process was buried.
  std::atomic<int64_t> kill_ns;
  std::atomic<int64_t> ended_ns;
  Record records[kMaxRecords];
};

// One for all, of the supervisor.
struct Control {
  char segments[3][64];
  std::atomic<uint32_t> stop;
  std::atomic<uint32_t> changes;  // by the actor that changes policies
  std::atomic<uint32_t> failed_changes;
  int32_t only;      // a policy, or -1: all
  uint32_t pace_us;  // longest pause between two runs of calls
};

}  // namespace brim::soak

#endif  // BRIM_TESTS_SOAK_RECORD_H_
