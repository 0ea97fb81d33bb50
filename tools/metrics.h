// SPDX-License-Identifier: MIT
// metrics: a segment's counters in Prometheus' text format.
#ifndef BRIM_TOOLS_METRICS_H_
#define BRIM_TOOLS_METRICS_H_

namespace CLI {
class App;
}

namespace brim::tools {

void add_metrics_command(CLI::App& app, int& exit_code);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_METRICS_H_
