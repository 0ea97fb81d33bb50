// SPDX-License-Identifier: MIT
// Files behind segments: making one whole before it has a name, and opening one with suspicion.
#ifndef BRIM_SHM_SEGMENT_FILE_H_
#define BRIM_SHM_SEGMENT_FILE_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "shm/layout.h"
#include "shm/segment.h"

namespace brim::shm {

// Owns a file descriptor.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) noexcept : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();
  int get() const noexcept { return fd_; }
  int release() noexcept {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

// A file of `header.total_size` allocated zero bytes that begins with `header`, published at `path`
// as the last step, after prepare(fd) if there is one. AlreadyExists (segment_exists) if the name
// is taken.
absl::StatusOr<FileDescriptor> create_segment_file(const std::string& path,
                                                   const HeaderFields& header,
                                                   const SegmentSpec& spec, const Access& access,
                                                   const std::function<absl::Status(int)>& prepare);

// Opens `path`, checks type, owner, mode and size, and reads and checks its header.
absl::StatusOr<FileDescriptor> open_segment_file(const std::string& path, const Access& access,
                                                 HeaderFields& header);

// The status for a failed system call on `path`.
absl::Status errno_status(int error, std::string_view call, std::string_view path);
absl::Status no_entropy();

}  // namespace brim::shm

#endif  // BRIM_SHM_SEGMENT_FILE_H_
