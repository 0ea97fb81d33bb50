// SPDX-License-Identifier: MIT
// What brim serve tells of a segment: each text is made when it is asked for, and kept for a while,
// so that many who ask cost no more than one.
#ifndef BRIM_TOOLS_SERVE_DATA_H_
#define BRIM_TOOLS_SERVE_DATA_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "brim/inspect.h"
#include "metrics.h"

namespace brim::tools {

// A value that is shared by all who asked for it.
template <class Value>
using Shared = absl::StatusOr<std::shared_ptr<const Value>>;

// A value that is read anew at most once in `least_ns`, and so seldom that reading it takes a tenth
// of the time at most. Whoever asks meanwhile gets the last one. For any thread; one reads at a
// time.
template <class Value>
class Remembered {
 public:
  explicit Remembered(int64_t least_ns) : least_ns_(least_ns) {}
  Shared<Value> get(const std::function<absl::StatusOr<Value>()>& read);

 private:
  std::mutex mutex_;
  int64_t least_ns_;
  int64_t next_ns_ = 0;
  Shared<Value> value_ = absl::UnknownError("not read yet");
};

enum class KeyOrder : uint8_t { kRefused, kNear, kLive };

// One of the segments that are served. It is attached anew for each reading, so whatever the name
// leads to is shown.
class Served {
 public:
  Served(std::string name, Options options) : name_(std::move(name)), options_(options) {}

  const std::string& name() const { return name_; }
  Shared<Reading> reading();
  Shared<std::string> info();
  Shared<std::string> policies();
  Shared<std::string> attached();
  absl::StatusOr<std::string> keys(KeyOrder order, uint64_t limit);
  absl::StatusOr<std::string> hot(uint64_t limit);

  static constexpr uint64_t kMostKeys = 1000;
  static constexpr size_t kMostText = 1024;  // bytes told of a key

 private:
  // The first keys of each order as JSON, and how many there are.
  struct Keys {
    std::vector<std::string> shown[3];
    uint64_t counts[3] = {};
  };
  // The keys most decided as JSON, of so many samples.
  struct Hot {
    std::vector<std::string> shown;
    size_t samples = 0;
  };
  absl::StatusOr<std::string> attach_and(
      const std::function<std::string(const Inspector&)>& tell) const;
  absl::StatusOr<Keys> read_keys() const;
  absl::StatusOr<Hot> read_hot();
  uint64_t hot_since(const Inspector& inspector);

  std::string name_;
  Options options_;
  Remembered<Reading> reading_{1000000000};
  Remembered<std::string> info_{1000000000};
  Remembered<std::string> policies_{250000000};
  Remembered<std::string> attached_{250000000};
  Remembered<Keys> keys_{1000000000};
  Remembered<Hot> hot_{1000000000};
  // Only within hot_, so by one at a time and in order.
  std::deque<std::pair<int64_t, uint64_t>> marks_;  // times and positions of the samples then
  std::string marked_uuid_;                         // of the segment that they belong to
};

}  // namespace brim::tools

#endif  // BRIM_TOOLS_SERVE_DATA_H_
