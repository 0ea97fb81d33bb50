// SPDX-License-Identifier: MIT
// The process that changes policies while they are in use.
#ifndef BRIM_TESTS_SOAK_CHANGER_H_
#define BRIM_TESTS_SOAK_CHANGER_H_

#include <unistd.h>

#include <string>

#include "absl/status/status.h"
#include "brim/limiter.h"
#include "tests/soak/plan.h"
#include "tests/soak/record.h"

namespace brim::soak {

// Change number i of the policies that are there for it.
inline absl::Status change_something(const Limiter& main, uint32_t i) {
  const std::string key = "k" + std::to_string(i / 8 % 4);
  const std::string deny = " on-unavailable deny";
  switch (i % 8) {
    case 0:
    case 4:
      return main.change("changed_bucket", kChangedBucket[i / 4 % 2] + deny);
    case 1:
      return main.set_factor("changed_bucket", kLeastFactor + i * 7919 % (1000001 - kLeastFactor));
    case 2:
    case 6:
      return main.change("changed_log", kChangedLog[i / 4 % 2] + deny);
    case 3:
      return main.set_override("overridden", key, "deny");
    case 5:
      return main.set_override("overridden", key, "unlimited");
    default: {
      const absl::Status status = main.clear_override("overridden", key);
      return absl::IsNotFound(status) ? absl::OkStatus() : status;  // killed before
    }
  }
}

// Until it is killed.
[[noreturn]] inline void keep_changing(const Limiter& main, Control& control) {
  for (uint32_t i = 0;; ++i) {
    const absl::Status status = change_something(main, i);
    status.ok() ? ++control.changes : ++control.failed_changes;
    usleep(2000);
  }
}

}  // namespace brim::soak

#endif  // BRIM_TESTS_SOAK_CHANGER_H_
