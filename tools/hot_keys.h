// SPDX-License-Identifier: MIT
// The keys that are asked for most, and refused most, as samples of the decisions tell.
#ifndef BRIM_TOOLS_HOT_KEYS_H_
#define BRIM_TOOLS_HOT_KEYS_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "brim/inspect.h"

namespace brim::tools {

struct HotKey {
  uint16_t policy = 0;
  uint64_t fingerprint = 0;
  bool has_name = false;
  std::string name;    // any bytes; maybe cut
  double asked = 0;    // calls a second, estimated
  double refused = 0;  // of these
};

// Samples of the last ten seconds or so: an older one counts less and less. Memory is bounded.
class HotKeys {
 public:
  // Begins with what is decided from now on.
  void begin(const Inspector& inspector, int64_t now_ns);
  // Takes what was sampled since the last call.
  void read(const Inspector& inspector, int64_t now_ns);

  // The first `most`, by calls or by refused calls; only keys that have some.
  std::vector<HotKey> hottest(size_t most) const { return best(&HotKey::asked, most); }
  std::vector<HotKey> most_refused(size_t most) const { return best(&HotKey::refused, most); }

 private:
  void age(int64_t now_ns);
  std::vector<HotKey> best(double HotKey::*by, size_t most) const;

  // By policy and fingerprint; asked and refused are samples here.
  std::map<std::pair<uint16_t, uint64_t>, HotKey> keys_;
  uint64_t position_ = 0;
  int64_t read_ns_ = 0;
  double seconds_ = 0;  // that the samples are about, aged as they are
};

}  // namespace brim::tools

#endif  // BRIM_TOOLS_HOT_KEYS_H_
