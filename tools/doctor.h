// SPDX-License-Identifier: MIT
// `brim doctor`: what on this machine, or about a segment, is going to be a surprise, and the
// remedy.
#ifndef BRIM_TOOLS_DOCTOR_H_
#define BRIM_TOOLS_DOCTOR_H_

#include <string>
#include <vector>

#include "brim/inspect.h"
#include "tier_view.h"

namespace brim::tools {

class Command;

enum class Level { kOk, kNote, kWarning, kError };

struct Finding {
  Level level;
  std::string subject;  // "machine", or the segment's name
  std::string check;    // a stable name
  std::string found;
  std::string remedy;  // empty for kOk
};
using Findings = std::vector<Finding>;

// Reads /proc, /sys and /etc below `root`, "" for this machine.
void examine_machine(const std::string& root, Findings& findings);
void examine_segment(const Inspector& inspector, const std::string& name, Findings& findings);
// What it shares with other nodes; `name` is escaped.
void examine_tier(const TierLook& tier, const std::vector<PolicyInfo>& policies,
                  const std::string& name, Findings& findings);

void add_doctor_command(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_DOCTOR_H_
