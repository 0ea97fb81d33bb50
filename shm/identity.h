// SPDX-License-Identifier: MIT
// Which boot, namespaces and process this is. Set-up only.
#ifndef BRIM_SHM_IDENTITY_H_
#define BRIM_SHM_IDENTITY_H_

#include <array>
#include <cstdint>

namespace brim::shm {

struct MachineIdentity {
  std::array<uint8_t, 16> boot_id{};
  uint64_t time_namespace = 0;  // inode; 0: unknown
  uint64_t pid_namespace = 0;
  int error = 0;  // errno with which the boot id could not be read
};

MachineIdentity machine_identity() noexcept;
// Clock ticks since boot at which `pid` started, or 0 if there is no such process here.
uint64_t process_start_time(int pid) noexcept;

}  // namespace brim::shm

#endif  // BRIM_SHM_IDENTITY_H_
