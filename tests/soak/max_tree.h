// SPDX-License-Identifier: MIT
// Numbers at positions 0 .. size - 1, all 0: add to a range, largest of a range, each in
// logarithmic time.
#ifndef BRIM_TESTS_SOAK_MAX_TREE_H_
#define BRIM_TESTS_SOAK_MAX_TREE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace brim::soak {

class MaxTree {
 public:
  explicit MaxTree(size_t size) {
    while (leaves_ < size) leaves_ *= 2;
    nodes_.resize(2 * leaves_);
  }
  // Both ends included.
  void add(size_t first, size_t last, int64_t value) { add(1, 0, leaves_ - 1, first, last, value); }
  int64_t max(size_t first, size_t last) const { return max(1, 0, leaves_ - 1, first, last); }

 private:
  struct Node {
    int64_t max = 0;    // of the range below, with `added`
    int64_t added = 0;  // to all of the range
  };
  void add(size_t node, size_t low, size_t high, size_t first, size_t last, int64_t value) {
    if (last < low || high < first) return;
    Node& here = nodes_[node];
    if (first <= low && high <= last) {
      here.max += value;
      here.added += value;
      return;
    }
    const size_t middle = low + (high - low) / 2;
    add(2 * node, low, middle, first, last, value);
    add(2 * node + 1, middle + 1, high, first, last, value);
    here.max = std::max(nodes_[2 * node].max, nodes_[2 * node + 1].max) + here.added;
  }
  int64_t max(size_t node, size_t low, size_t high, size_t first, size_t last) const {
    if (last < low || high < first) return std::numeric_limits<int64_t>::min() / 2;
    const Node& here = nodes_[node];
    if (first <= low && high <= last) return here.max;
    const size_t middle = low + (high - low) / 2;
    return std::max(max(2 * node, low, middle, first, last),
                    max(2 * node + 1, middle + 1, high, first, last)) +
           here.added;
  }

  size_t leaves_ = 1;
  std::vector<Node> nodes_;
};

}  // namespace brim::soak

#endif  // BRIM_TESTS_SOAK_MAX_TREE_H_
