// SPDX-License-Identifier: MIT
// Goal: whatever a file's bytes are, a snapshot's reader, a restore and a writer refuse it by name
// or take it: no crash, no hang, no undefined behaviour (F48, F50). Method: the bytes are written
// to a file in a small private tmpfs, then read, given to a segment in use and written to.
// Input: the file's bytes, nothing else. Random bytes do not get past a row's checksum:
// snapshot_rows does.
#include <fstream>

#include "brim/snapshot.h"
#include "src/base/text.h"
#include "tests/fuzz/segment_file.h"

namespace brim::fuzz {
namespace {

SegmentFile* file;

std::string database() { return file->path() + ".db"; }

void require_named(const absl::Status& status) {
  const std::string_view text(status.message().data(), status.message().size());
  require(status.ok() || text.starts_with("snapshot_") || text.starts_with("segment_") ||
              text.starts_with("invalid_") || text.starts_with("policy_"),
          "refused without a name", text);
}

void clear() {
  for (const char* const tail : {"", "-wal", "-shm", "-journal"}) {
    unlink((database() + tail).c_str());
  }
}

}  // namespace
}  // namespace brim::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  static brim::fuzz::SegmentFile made;
  brim::fuzz::file = &made;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brim;
  using namespace brim::fuzz;
  if (size == 0) return 0;
  file->restore();
  clear();
  std::ofstream(database(), std::ios::binary) << as_text(data, size);
  uint64_t rows = 0;
  const auto read = read_snapshot(database(), [&](const KeyState&) {
    ++rows;
    return true;
  });
  require_named(read.status());
  require(!read.ok() || rows == read->rows, "another number of rows than the file says");
  const auto limiter = Limiter::attach(file->path(), file->options());
  require(limiter.ok(), "attach");
  const auto report = restore(*limiter, database());
  require(report.ok() == read.ok(), "read, but not restored, or the other way round");
  clear();
  return 0;
}
