// SPDX-License-Identifier: MIT
// What `brim top` shows: numbers of two moments into lines of text.
#ifndef BRIM_TOOLS_TOP_VIEW_H_
#define BRIM_TOOLS_TOP_VIEW_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "brim/inspect.h"
#include "hot_keys.h"
#include "terminal.h"
#include "tier_view.h"

namespace brim::tools {

// What one look at a segment found.
struct TopReading {
  int64_t at_ns = 0;  // monotonic
  int64_t wall_ns = 0;
  SegmentInfo info;
  std::vector<PolicyInfo> policies;
  std::vector<Counter> counters;
  Occupancy occupancy;
  uint64_t attached = 0;
  TierLook tier;
  bool gone = false;  // the name leads nowhere
};

// "950", "12.3k", "4.5M": at most six characters for what a machine can do.
std::string short_number(double value);

class TopView {
 public:
  explicit TopView(std::string segment) : segment_(std::move(segment)) {}

  // Forgets what rates are counted from: the next reading is of another segment.
  void forget() { known_ = false; }
  // Rates are from the reading before to this one.
  void take(TopReading reading);
  // Lines for so many rows; 0: as many as it takes, with `hot` keys of each kind.
  std::vector<ScreenLine> lines(size_t rows, const HotKeys& keys, size_t hot) const;

 private:
  struct PolicyRates {
    double allowed = 0;
    double denied = 0;
    double other = 0;  // undecided
    double share() const {
      const double all = allowed + denied + other;
      return all > 0 ? denied / all : 0;
    }
  };

  double rate(const std::vector<Counter>& now, const std::vector<Counter>* before,
              const char* name) const;
  std::vector<ScreenLine> head(size_t most) const;
  std::vector<ScreenLine> policies(size_t most) const;
  std::vector<ScreenLine> keys(const std::vector<HotKey>& list, const char* title, size_t most,
                               bool by_refused) const;
  std::string probe_text() const;
  std::string tier_line() const;
  std::string policy_name(uint16_t number) const;

  std::string segment_;
  TopReading now_;
  TopReading before_;
  bool known_ = false;  // now_ is a reading of this segment
  bool rates_ = false;  // before_ is, too
};

}  // namespace brim::tools

#endif  // BRIM_TOOLS_TOP_VIEW_H_
