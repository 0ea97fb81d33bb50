// SPDX-License-Identifier: MIT
#ifndef BRIM_SRC_BASE_STATUS_H_
#define BRIM_SRC_BASE_STATUS_H_

#include <string_view>

#include "absl/status/status.h"

namespace brim {

// absl's string_view need not be the standard one.
inline std::string_view message_of(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

}  // namespace brim

#endif  // BRIM_SRC_BASE_STATUS_H_
