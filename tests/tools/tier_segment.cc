// SPDX-License-Identifier: MIT
// Leaves in a segment what an agent would: tier_segment NAME FIELD=VALUE... Times are in
// milliseconds ago. What is not named is as a good agent has it.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "brim/cluster.h"

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  auto view = brim::ClusterView::attach(argv[1]);
  if (!view.ok()) {
    std::fprintf(stderr, "%s\n", view.status().ToString().c_str());
    return 1;
  }
  const int64_t now =
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  brim::TierStatus status;
  status.agent_pid = 4711;
  status.alive_ns = status.exchanged_ns = now;
  status.up = true;
  status.nodes = 3;
  status.store = "redis://127.0.0.1:6379";
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i];
    const size_t equals = word.find('=');
    if (equals == std::string::npos) return 2;
    const std::string name = word.substr(0, equals);
    const std::string value = word.substr(equals + 1);
    const int64_t number = std::strtoll(value.c_str(), nullptr, 10);
    const auto count = static_cast<uint64_t>(number);
    if (name == "alive") {
      status.alive_ns = now - number * 1000000;
    } else if (name == "exchanged") {
      status.exchanged_ns = now - number * 1000000;
    } else if (name == "down") {
      status.up = false;
      status.down_since_ns = now - number * 1000000;
    } else if (name == "share") {
      status.share_ppm = static_cast<uint32_t>(number);
    } else if (name == "overshoot") {
      status.overshoot_permits = count;
    } else if (name == "calls") {
      status.calls = count;
    } else if (name == "store") {
      status.store = value;
    } else if (name == "error") {
      status.error = value;
    } else if (name == "all") {  // each number is this one
      status.alive_ns = status.exchanged_ns = status.down_since_ns = number;
      status.lag_ns = status.round_trip_ns = number;
      status.share_ppm = static_cast<uint32_t>(number);
      status.nodes = status.calls = status.pushes = status.errors = status.unknown = count;
      status.healed = status.overshoot_permits = status.keys_near = status.agent_pid = count;
    } else {
      return 2;
    }
  }
  view->set_status(status);
  return 0;
}
