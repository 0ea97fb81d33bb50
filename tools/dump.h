// SPDX-License-Identifier: MIT
// The commands that look into a segment. They map it read-only and never create one.
#ifndef BRIM_TOOLS_DUMP_H_
#define BRIM_TOOLS_DUMP_H_

#include <optional>
#include <string>

#include "brim/inspect.h"
#include "tier_view.h"

namespace brim::tools {

struct InfoArgs {
  std::string name;
  std::string owner;
  std::string group;
  std::string format = "table";
};
// Sizes, options, occupancy, policies with counters, probe lengths, attached processes.
int run_info(const InfoArgs& args);
// All of it as JSON, or a part in the same form.
std::string info_json(const std::string& name, const Inspector& inspector, const TierLook& tier);
std::string policies_json(const std::string& name, const Inspector& inspector);
std::string attached_json(const std::string& name, const Inspector& inspector);

struct DumpArgs {
  std::string name;
  std::optional<std::string> policy;
  std::optional<std::string> prefix;
  std::optional<std::string> match;
  std::optional<std::string> remaining_under;
  std::string sort;  // empty: as they lie
  std::string state = "live";
  std::optional<std::string> limit;
  std::string owner;
  std::string group;
  std::string format = "table";
};
// The keys, one at a time: memory does not grow with their number, but with --limit if sorted.
int run_dump(const DumpArgs& args);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_DUMP_H_
