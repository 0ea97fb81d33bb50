// SPDX-License-Identifier: MIT
#include "shm/identity.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace brim::shm {

namespace {

// The file's first bytes as text; empty if it can not be read.
template <size_t kSize>
size_t read_file(const char* path, char (&text)[kSize]) noexcept {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text[0] = '\0';
  const ssize_t n = read(fd, text, kSize - 1);
  close(fd);
  const size_t size = n < 0 ? 0 : static_cast<size_t>(n);
  text[size] = '\0';
  return size;
}

uint64_t inode_of(const char* path) noexcept {
  struct stat st;
  return stat(path, &st) == 0 ? st.st_ino : 0;
}

}  // namespace

MachineIdentity machine_identity() noexcept {
  MachineIdentity identity;
  char text[64];
  if (read_file("/proc/sys/kernel/random/boot_id", text) == 0) {
    identity.error = errno != 0 ? errno : EIO;
  }
  size_t digit = 0;
  for (const char* at = text; *at != '\0' && digit < 32; ++at) {
    if (!std::isxdigit(static_cast<unsigned char>(*at))) continue;
    const char one[2] = {*at, '\0'};
    const auto value = static_cast<uint8_t>(std::strtoul(one, nullptr, 16));
    uint8_t& byte = identity.boot_id[digit / 2];
    byte = static_cast<uint8_t>(digit % 2 == 0 ? value << 4 : byte | value);
    ++digit;
  }
  identity.time_namespace = inode_of("/proc/self/ns/time");
  identity.pid_namespace = inode_of("/proc/self/ns/pid");
  return identity;
}

uint64_t process_start_time(int pid) noexcept {
  char path[32];
  char text[512];
  std::snprintf(path, sizeof(path), "/proc/%d/stat", pid);
  if (read_file(path, text) == 0) return 0;
  // The command's name may hold anything, so fields are counted from its closing bracket.
  const char* at = std::strrchr(text, ')');
  for (int field = 2; at != nullptr && field < 22; ++field) at = std::strchr(at + 1, ' ');
  return at == nullptr ? 0 : std::strtoull(at + 1, nullptr, 10);
}

}  // namespace brim::shm
