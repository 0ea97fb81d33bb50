// SPDX-License-Identifier: MIT
// What a log's requests demand: peaks in sliding windows, and the least burst that refuses none.
//
// Requests are kept as 16-byte events in an unlinked temporary file that is mapped back, so memory
// holds only the clients: their keys and a few words each.
#ifndef BRIM_TOOLS_REPLAY_STATS_H_
#define BRIM_TOOLS_REPLAY_STATS_H_

#include <cstdint>
#include <cstdio>
#include <functional>
#include <queue>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brim/policy.h"

namespace brim::replay {

// `count` requests of one client at one instant.
struct Event {
  int64_t time_ns = 0;
  uint32_t client = 0;
  uint32_t count = 0;
};

// Puts lines in the order of their stamps. A log is written in the order in which requests end,
// so a stamp may be older than the one before it by as much as a request takes. A line is held
// until one that is `window_ns` younger was read; what comes later still is given the time of the
// line last let go: for a limiter, a clock that steps back has not moved.
// Memory: the lines of one window.
class Reorder {
 public:
  using Sink = std::function<void(int64_t time_ns, uint32_t client)>;
  Reorder(int64_t window_ns, Sink sink) : window_ns_(window_ns), sink_(std::move(sink)) {}

  void push(int64_t time_ns, uint32_t client);
  void finish();

  uint64_t out_of_order() const { return out_of_order_; }  // older than a line before
  uint64_t late() const { return late_; }                  // of those, too old to be put in place

 private:
  struct Held {
    int64_t time_ns;
    uint64_t sequence;
    uint32_t client;
    bool operator>(const Held& other) const {
      return time_ns != other.time_ns ? time_ns > other.time_ns : sequence > other.sequence;
    }
  };
  void let_go();

  int64_t window_ns_;
  Sink sink_;
  std::priority_queue<Held, std::vector<Held>, std::greater<>> held_;
  uint64_t sequence_ = 0;
  int64_t newest_ns_ = INT64_MIN;
  int64_t last_ns_ = INT64_MIN;
  uint64_t out_of_order_ = 0;
  uint64_t late_ = 0;
};

// Spreads the requests that share a stamp evenly over the stamp's resolution: the k-th of n, from
// 0, is moved by k/n of it. Memory: the lines of one stamp.
class Spread {
 public:
  Spread(int64_t resolution_ns, Reorder::Sink sink)
      : resolution_ns_(resolution_ns), sink_(std::move(sink)) {}

  // REQUIRES: times do not step back.
  void push(int64_t time_ns, uint32_t client);
  void finish();

 private:
  int64_t resolution_ns_;
  Reorder::Sink sink_;
  int64_t time_ns_ = 0;
  std::vector<uint32_t> clients_;
};

// Events on their way to a temporary file in $TMPDIR (or /tmp), which no name leads to.
class EventFile {
 public:
  static absl::StatusOr<EventFile> create();
  EventFile(EventFile&& other) noexcept;
  EventFile& operator=(EventFile&&) = delete;
  ~EventFile();

  // Events of the same client at the same instant become one.
  void append(int64_t time_ns, uint32_t client);
  // Writes out what is left and maps the file; append() must not follow. The span lives as long
  // as this object.
  absl::StatusOr<std::span<const Event>> finish();

 private:
  explicit EventFile(std::FILE* file) : file_(file) {}
  void write_last();

  std::FILE* file_ = nullptr;
  Event last_;
  uint64_t written_ = 0;
  bool failed_ = false;
  void* map_ = nullptr;
};

// Most requests in any half-open window of `window_ns`, wherever it begins.
struct Peaks {
  std::vector<uint32_t> client;
  uint64_t all = 0;
  int64_t all_at_ns = 0;  // the end of that window
};
Peaks window_peaks(std::span<const Event> events, size_t clients, int64_t window_ns);

// For each client the least burst with which limit/period refuses none of its requests. Exact.
std::vector<uint32_t> least_bursts(std::span<const Event> events, size_t clients, uint32_t limit,
                                   int64_t period_ns);

// Why no burst can be computed for the policy, or nothing: it is one plain bucket.
std::string why_no_burst(const Policy& policy);
// The period of the policy's only rate; 0 if it has several or none of one length.
int64_t only_period_ns(const Policy& policy);

// A percentage to three decimals, 0.001 to 100.
struct Percentile {
  uint32_t thousandths = 99000;
  // "99", "99.9"; InvalidArgument otherwise.
  static absl::StatusOr<Percentile> parse(const std::string& text);
  std::string text() const;
};

// The least value that at least `percentile` of the values do not exceed (nearest rank); 0 of none.
uint32_t percentile_of(std::vector<uint32_t> values, Percentile percentile);

// A policy that would have let at least `percentile` of the clients pass untouched.
struct Suggestion {
  bool valid = false;            // false: no policy can hold the numbers
  Policy policy;                 // of one rate
  uint64_t clients_refused = 0;  // that it would have refused at least once
};
// limit: the percentile of the clients' peaks in one period; burst: the percentile of the least
// bursts at that rate. `asked` gives the period and everything else. REQUIRES: why_no_burst(asked)
// is empty.
Suggestion suggest(std::span<const Event> events, const std::vector<uint32_t>& period_peaks,
                   const Policy& asked, Percentile percentile);

}  // namespace brim::replay

#endif  // BRIM_TOOLS_REPLAY_STATS_H_
