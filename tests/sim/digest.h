// SPDX-License-Identifier: MIT
#ifndef BRIM_TESTS_SIM_DIGEST_H_
#define BRIM_TESTS_SIM_DIGEST_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

namespace brim::sim {

// The bytes that a state consists of.
class Digest {
 public:
  void add(std::span<const char> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  template <class Value>
  void add(const Value& value) {
    static_assert(std::is_trivially_copyable_v<Value>);
    add(std::span(reinterpret_cast<const char*>(&value), sizeof(value)));
  }
  template <class Value>
  void add(const Value* values, size_t count) {
    static_assert(std::is_trivially_copyable_v<Value>);
    add(std::span(reinterpret_cast<const char*>(values), count * sizeof(Value)));
  }
  // Hashes and forgets them.
  uint64_t take();

 private:
  std::vector<char> bytes_;
};

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_DIGEST_H_
