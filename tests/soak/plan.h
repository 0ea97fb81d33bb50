// SPDX-License-Identifier: MIT
// The policies of the soak, as text for the limiter and as plain numbers for the observer, which
// knows no policy text. Both are written by hand here and must mean the same.
#ifndef BRIM_TESTS_SOAK_PLAN_H_
#define BRIM_TESTS_SOAK_PLAN_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace brim::soak {

inline constexpr int64_t kMs = 1000000;
inline constexpr int64_t kSecond = 1000 * kMs;

enum class Kind : uint8_t {
  kNone,
  kBucket,
  kForward,   // judged by what was owed before the call
  kAligned,   // windows of the wall clock
  kFirstHit,  // windows opened by the first call
  kCounter,
  kFloorCounter,
  kLog,
  kLease,
};

// One rate. While a policy is changed live, the least strict and the strictest it ever is.
struct Part {
  Kind kind = Kind::kNone;
  int64_t limit = 0;      // permits a period at most
  int64_t period = 1;     // ns; leases: longest life
  int64_t capacity = 0;   // buckets: most that may be owed at most; forward: before the call
  int64_t low_limit = 0;  // ... and at least
  int64_t low_capacity = 0;
};

constexpr Part bucket(int64_t limit, int64_t capacity, Kind kind = Kind::kBucket) {
  return {kind, limit, kSecond, capacity, limit, capacity};
}
constexpr Part window(Kind kind, int64_t limit, int64_t period) {
  return {kind, limit, period, limit, limit, limit};
}

// Main: room for every live key. Deny: a small table that refuses new keys when it is full of live
// ones. Evict: a small one in which the key with the least debt makes room.
enum Segment : uint8_t { kMain, kDeny, kEvict };

struct Plan {
  const char* name;
  const char* text;
  Segment segment;
  std::array<Part, 3> parts;
  uint32_t warm;  // keys 1 .. warm; key 0 is hot
  uint32_t tail;  // keys after those
  uint8_t cost_max = 1;
  bool refunds = false;
  bool changes = false;    // changed while in use
  bool overrides = false;  // keys of it are exempt or blocked at times
  int64_t ban_after = 0;   // refusals ...
  int64_t ban_within = 0;
  int64_t ban_for = 0;
};

inline constexpr const char* kChangedBucket[2] = {"20/s burst 10", "40/s burst 16"};
inline constexpr const char* kChangedLog[2] = {"sliding-log 20/s", "sliding-log 30/s"};
inline constexpr uint32_t kLeastFactor = 500000;

inline constexpr Plan kPlans[] = {
    {"bucket", "20/s burst 10", kMain, {bucket(20, 10)}, 200, 20000, 3},
    {"debt", "token-bucket 20/s burst 8 debt 4", kMain, {bucket(20, 12)}, 200, 20000, 3},
    {"forward",
     "gcra 20/s burst 10 forward",
     kMain,
     {bucket(20, 9, Kind::kForward)},
     200,
     20000,
     3},
    {"queue", "queue 20/s burst 10", kMain, {bucket(20, 10, Kind::kForward)}, 200, 20000, 3},
    {"window", "fixed-window 20/s", kMain, {window(Kind::kAligned, 20, kSecond)}, 200, 20000, 3},
    {"first_hit",
     "fixed-window 20/s first-hit",
     kMain,
     {window(Kind::kFirstHit, 20, kSecond)},
     200,
     20000,
     3},
    {"calendar",
     "calendar-window 200/hour",
     kMain,
     {window(Kind::kAligned, 200, 3600 * kSecond)},
     200,
     0,
     3},
    {"counter",
     "sliding-counter 20/s",
     kMain,
     {window(Kind::kCounter, 20, kSecond)},
     200,
     20000,
     3},
    {"floor",
     "sliding-counter 20/s floor",
     kMain,
     {window(Kind::kFloorCounter, 20, kSecond)},
     200,
     20000,
     3},
    {"log", "sliding-log 20/s", kMain, {window(Kind::kLog, 20, kSecond)}, 200, 20000, 3},
    {"leases", "concurrency 4 ttl 300ms", kMain, {window(Kind::kLease, 4, 300 * kMs)}, 20, 2000},
    {"rates",
     "20/s burst 10; fixed-window 60/5s; sliding-log 40/3s",
     kMain,
     {bucket(20, 10), window(Kind::kAligned, 60, 5 * kSecond), window(Kind::kLog, 40, 3 * kSecond)},
     200,
     2000,
     3},
    {"ban",
     "20/s burst 10 ban 50 in 1s for 300ms",
     kMain,
     {bucket(20, 10)},
     200,
     2000,
     1,
     false,
     false,
     false,
     50,
     kSecond,
     300 * kMs},
    {"refund", "20/s burst 10", kMain, {bucket(20, 10)}, 50, 2000, 3, true},
    {"changed_bucket",
     kChangedBucket[0],
     kMain,
     {Part{Kind::kBucket, 40, kSecond, 16, 10, 10}},
     50,
     2000,
     3,
     false,
     true},
    {"changed_log",
     kChangedLog[0],
     kMain,
     {Part{Kind::kLog, 30, kSecond, 30, 20, 20}},
     50,
     2000,
     3,
     false,
     true},
    {"overridden", "20/s burst 10", kMain, {bucket(20, 10)}, 50, 2000, 3, false, false, true},
    {"hot", "5000/s burst 500", kMain, {bucket(5000, 500)}, 0, 0},
    {"small_bucket", "2/s burst 2", kDeny, {bucket(2, 2)}, 50, 20000},
    {"small_log", "sliding-log 3/500ms", kDeny, {window(Kind::kLog, 3, 500 * kMs)}, 50, 20000, 2},
    {"evicted", "2/s burst 3", kEvict, {bucket(2, 3)}, 50, 20000},
};
inline constexpr size_t kPlanCount = sizeof(kPlans) / sizeof(kPlans[0]);

// The one policy whose only key is to be exhausted most of the time.
constexpr bool is_hot(const Plan& plan) { return plan.parts[0].limit == 5000; }

}  // namespace brim::soak

#endif  // BRIM_TESTS_SOAK_PLAN_H_
