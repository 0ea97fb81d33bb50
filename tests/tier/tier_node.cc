// SPDX-License-Identifier: MIT
// One node for tests: a segment with one policy, its agent and its load, driven by lines of JSON.
//
//   {"open": {"name": N, "policy": TEXT, "tier": {...}}}   creates the segment or attaches it
//   {"agent": "start" | "stop" | "loop"}                   loop: in this thread, until it is killed
//   {"run": {"key": K, "seconds": S, "rate": R, "cost": C}} paced; answers when it is over
//   {"burst": {"key": K, "calls": N}}                      one behind the other
//   {"refund": {"key": K, "permits": N}}
//   {"strict": {}} {"status": 1} {"nodes": 1} {"remove": UUID} {"unlink": 1}
//
// Times are CLOCK_MONOTONIC, so those of several nodes of one machine can be put together.
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "brim/cluster.h"
#include "brim/limiter.h"
#include "brim/tier.h"

namespace {

using nlohmann::json;

int64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
}

json failed(const absl::Status& status) { return {{"error", std::string(status.message())}}; }

class Node {
 public:
  json answer(const json& asked) {
    if (asked.contains("open")) return open(asked["open"]);
    if (asked.contains("agent")) return agent(asked["agent"]);
    if (asked.contains("run")) return run(asked["run"]);
    if (asked.contains("burst")) return burst(asked["burst"]);
    if (asked.contains("refund")) {
      const json& what = asked["refund"];
      return {{"refunded", policy_->refund(what["key"].get<std::string>(), what["permits"])}};
    }
    if (asked.contains("strict")) return strict(asked["strict"]);
    if (asked.contains("status")) return status();
    if (asked.contains("nodes")) return nodes();
    if (asked.contains("remove")) {
      const absl::Status removed =
          brim::remove_tier_node(options_, asked["remove"].get<std::string>());
      return removed.ok() ? json::object() : failed(removed);
    }
    if (asked.contains("unlink")) {
      (void)brim::Limiter::unlink(name_);
      return json::object();
    }
    return {{"error", "unknown command"}};
  }

 private:
  json open(const json& asked) {
    name_ = asked["name"];
    brim::Options options;
    options.capacity = 4096;
    options.policies = {{"p", asked["policy"]}};
    auto made = brim::Limiter::open(name_, options);
    if (!made.ok()) return failed(made.status());
    limiter_ = *std::move(made);
    policy_ = *limiter_->policy("p");
    const json& tier = asked["tier"];
    options_.url = tier["url"];
    options_.interval_ns = tier.value("interval_ms", 200) * int64_t{1000000};
    options_.timeout_ns = tier.value("timeout_ms", 500) * int64_t{1000000};
    options_.hold_ns = tier.value("hold_ms", 10000) * int64_t{1000000};
    options_.forget_ns = tier.value("forget_ms", 30000) * int64_t{1000000};
    options_.share_ppm = tier.value("share_ppm", 0u);
    options_.say = [](int, const std::string& what) { std::cerr << what << std::endl; };
    return json::object();
  }

  json agent(const std::string& what) {
    if (what == "stop") {
      thread_.reset();
      return json::object();
    }
    if (what == "loop") {
      auto loop = brim::TierLoop::open(name_, options_);
      if (!loop.ok()) return failed(loop.status());
      for (;;) {
        const int64_t wait = loop->step();
        const timespec time = {wait / 1000000000, wait % 1000000000};
        nanosleep(&time, nullptr);
      }
    }
    auto thread = brim::TierThread::start(name_, options_);
    if (!thread.ok()) return failed(thread.status());
    thread_.emplace(*std::move(thread));
    return json::object();
  }

  // At a steady rate, whatever is answered; what was missed is made up for.
  json run(const json& asked) {
    const std::string key = asked["key"];
    const double rate = asked["rate"];
    const uint32_t cost = asked.value("cost", 1u);
    const auto length = static_cast<int64_t>(asked["seconds"].get<double>() * 1e9);
    const int64_t begun = now_ns();
    std::vector<int64_t> times;
    uint64_t sent = 0;
    for (int64_t now = begun; now - begun < length; now = now_ns()) {
      const auto due = static_cast<uint64_t>(static_cast<double>(now - begun) * 1e-9 * rate) + 1;
      for (; sent < due; ++sent) {
        const int64_t before = now_ns();
        if (policy_->try_acquire(key, cost).admitted) times.push_back(before);
      }
      const timespec time = {0, 1000000};
      nanosleep(&time, nullptr);
    }
    return {{"sent", sent}, {"times", times}};
  }

  json burst(const json& asked) {
    const std::string key = asked["key"];
    const uint64_t calls = asked["calls"];
    uint64_t admitted = 0;
    uint64_t denied = 0;
    uint64_t unavailable = 0;
    const int64_t begun = now_ns();
    for (uint64_t i = 0; i < calls; ++i) {
      const brim::Decision decision = policy_->try_acquire(key);
      admitted += decision.admitted;
      denied += decision.verdict == brim::Verdict::kDenied;
      unavailable += decision.verdict == brim::Verdict::kUnavailable;
    }
    return {{"admitted", admitted},
            {"denied", denied},
            {"unavailable", unavailable},
            {"ns", now_ns() - begun}};
  }

  json strict(const json& asked) {
    brim::TierOptions options = options_;
    options.timeout_ns = asked.value("timeout_ms", 0) * int64_t{1000000};
    const absl::Status status = brim::answer_strict(*limiter_, options);
    return status.ok() ? json::object() : failed(status);
  }

  json status() {
    const auto read = brim::ClusterView::status_of(name_);
    if (!read.ok()) return failed(read.status());
    return {{"up", read->up},
            {"share", read->share_ppm},
            {"nodes", read->nodes},
            {"lag_ns", read->lag_ns},
            {"trip_ns", read->round_trip_ns},
            {"calls", read->calls},
            {"pushes", read->pushes},
            {"errors", read->errors},
            {"unknown", read->unknown},
            {"healed", read->healed},
            {"error", read->error},
            {"agent", read->agent_pid},
            {"overshoot", read->overshoot_permits},
            {"near", read->keys_near}};
  }

  json nodes() {
    const auto list = brim::tier_nodes(name_, options_);
    if (!list.ok()) return failed(list.status());
    json answer = json::array();
    for (const brim::TierNode& node : *list) {
      answer.push_back({{"uuid", node.uuid}, {"name", node.name}, {"self", node.self}});
    }
    return {{"nodes", answer}};
  }

  std::string name_;
  brim::TierOptions options_;
  std::optional<brim::Limiter> limiter_;
  std::optional<brim::PolicyHandle> policy_;
  std::optional<brim::TierThread> thread_;
};

}  // namespace

int main() {
  Node node;
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << node.answer(json::parse(line)).dump() << std::endl;
  }
  return 0;
}
