// SPDX-License-Identifier: MIT
// metrics: a segment's counters in Prometheus' text format.
#ifndef BRIM_TOOLS_METRICS_H_
#define BRIM_TOOLS_METRICS_H_

namespace brim::tools {

class Command;

void add_metrics_command(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_METRICS_H_
