// SPDX-License-Identifier: MIT
// override, ban, unban: keys and networks that a policy's own text does not decide about.
#ifndef BRIM_TOOLS_OVERRIDE_H_
#define BRIM_TOOLS_OVERRIDE_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "audit.h"
#include "brim/inspect.h"

namespace brim::tools {

class Command;

absl::StatusOr<std::vector<OverrideInfo>> overrides_of(const std::string& name, const Trust& trust);
// The one of that key (or network) of that policy; null if there is none whose text is known.
const OverrideInfo* find_override(const std::vector<OverrideInfo>& list, std::string_view policy,
                                  std::string_view match, bool network);
// "override key 192.0.2.7 policy per_ip uses deny".
std::string override_note(std::string_view policy, std::string_view match, bool network,
                          std::string_view use);

void add_override_commands(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_OVERRIDE_H_
