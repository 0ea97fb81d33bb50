// SPDX-License-Identifier: MIT
// A small segment with a policy of each kind, in use, whose bytes an input may change at will.
#ifndef BRIM_TESTS_FUZZ_SEGMENT_FILE_H_
#define BRIM_TESTS_FUZZ_SEGMENT_FILE_H_

#include <atomic>
#include <string>
#include <vector>

#include "brim/limiter.h"
#include "shm/segment.h"
#include "tests/fuzz/fuzz.h"

namespace brim::fuzz {

// Gives this process a /dev/shm of its own, a small tmpfs that ends with it: whatever an input
// makes or removes there touches nobody. False where no mount namespace is to be had.
bool private_shm();

// The policies of the segment: their names and texts.
const std::vector<NamedPolicy>& segment_policies();

// One for the process: made anew would cost more than most inputs.
class SegmentFile {
 public:
  // In a private /dev/shm if there can be one, else in a directory of its own below it. 40 slots
  // are fewer than the keys in use need: some have been evicted.
  explicit SegmentFile(uint64_t capacity = 40);
  ~SegmentFile();
  SegmentFile(const SegmentFile&) = delete;
  SegmentFile& operator=(const SegmentFile&) = delete;

  const std::string& path() const { return path_; }
  bool alone() const { return alone_; }  // /dev/shm is private
  std::atomic<int64_t>& clock_ns() { return clock_ns_; }
  int64_t made_at_ns() const { return kMadeAtNs; }
  // Of whoever attaches with the file's own clock.
  Options options() const;

  // The bytes as they were made.
  void restore();
  // Restores, and changes what the input says:
  //   input    count % 16, then so many patches
  //   patch    section 1, offset 2, kind 1, data
  //   kind     low 2 bits: 0 (high bits % 16) + 1 bytes of data; 1 flips bit (high bits % 8);
  //            2 a word of data, aligned; 3 a word 2^(high bits) or near it
  // or, if the count's top bit is set, writes what follows over the header; then, with bit 6, puts
  // back what names this machine and the file's size, without which nothing else is looked at.
  void damage(Input& input);

 private:
  static constexpr int64_t kMadeAtNs = 1'000'000'000'000'000;
  struct Area {
    size_t offset;
    size_t size;
  };
  void use();

  bool alone_ = false;
  std::string directory_;
  std::string path_;
  std::atomic<int64_t> clock_ns_{kMadeAtNs};
  std::string pristine_;
  std::vector<Area> areas_;
  char* bytes_ = nullptr;  // the file, mapped
};

// Makes every access behind an attached segment's end a crash, and with the address sanitizer also
// one between its end and the end of its last page. Lives while the segment is used.
class Fence {
 public:
  explicit Fence(const shm::Segment& segment);
  ~Fence();
  Fence(const Fence&) = delete;
  Fence& operator=(const Fence&) = delete;

 private:
  char* end_ = nullptr;
  size_t tail_ = 0;
  void* page_ = nullptr;
};

}  // namespace brim::fuzz

#endif  // BRIM_TESTS_FUZZ_SEGMENT_FILE_H_
