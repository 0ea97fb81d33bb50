// SPDX-License-Identifier: MIT
// A store at the end of a pipe: one JSON object a line on standard input, one answer a line on
// standard output. The first opens it, so that no password is in an argv. tests/tier/driver.py
// speaks to it.
#include <unistd.h>

#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "src/tier/store.h"
#include "src/tier/wait.h"

namespace brim::tier {
namespace {

using Json = nlohmann::json;

Json status_json(const absl::Status& status) {
  return {{"code", absl::StatusCodeToString(status.code())},
          {"message", std::string(status.message())}};
}

StoreOptions options_of(const Json& json) {
  StoreOptions options;
  options.url = json.value("url", "");
  options.prefix = json.value("prefix", options.prefix);
  options.node = json.value("node", "");
  options.user = json.value("user", "");
  options.password = json.value("password", "");
  options.ca_file = json.value("ca_file", "");
  options.cert_file = json.value("cert_file", "");
  options.key_file = json.value("key_file", "");
  options.insecure = json.value("insecure", false);
  options.connect_timeout_ns = json.value("connect_timeout_ms", int64_t{1000}) * 1000000;
  return options;
}

RateUse rate_of(const Json& json) {
  RateUse rate;
  rate.part = json.value("part", 0U);
  rate.terms.units_per_us = json.value("units_per_us", 1.0);
  rate.terms.permit_units = json.value("permit_units", uint64_t{0});
  rate.terms.capacity_units = json.value("capacity_units", uint64_t{0});
  rate.terms.by_debt_before = json.value("by_debt_before", false);
  rate.total = json.value("total", uint64_t{0});
  rate.acked_total = json.value("acked_total", uint64_t{0});
  rate.nonce = json.value("nonce", 0U);
  rate.floor_units = json.value("floor_units", uint64_t{0});
  return rate;
}

Json exchange(Store& store, const Json& json, int64_t deadline_ns) {
  std::vector<std::string> names;
  std::vector<std::string> texts;
  std::vector<std::vector<RateUse>> rates;
  for (const Json& one : json) {
    names.push_back(one.value("policy", "api"));
    texts.push_back(one.value("text", ""));
    rates.emplace_back();
    for (const Json& rate : one.at("rates")) rates.back().push_back(rate_of(rate));
  }
  std::vector<Push> pushes(json.size());
  for (size_t i = 0; i < pushes.size(); ++i) {
    pushes[i].policy = names[i];
    pushes[i].text = texts[i];
    pushes[i].rates = rates[i];
    pushes[i].identity = json[i].value("identity", uint64_t{0});
    pushes[i].cost = json[i].value("cost", 0U);
    pushes[i].keep_ms = json[i].value("keep_ms", int64_t{60000});
  }
  std::vector<PushAnswer> answers(pushes.size());
  store.exchange(pushes, answers, deadline_ns);
  Json out = Json::array();
  for (const PushAnswer& answer : answers) {
    Json one = status_json(answer.status);
    one["admitted"] = answer.admitted;
    one["lost"] = answer.lost;
    one["levels"] = answer.levels;
    one["changes"] = {answer.changes_before, answer.changes};
    out.push_back(std::move(one));
  }
  return {{"answers", out}};
}

Json meet(Store& store, const Json& json, int64_t deadline_ns) {
  const uint64_t mine[2] = {json.value("secret0", uint64_t{1}), json.value("secret1", uint64_t{2})};
  const Node self{json.value("uuid", ""), json.value("name", "")};
  const auto met = store.meet(self, mine, json.value("forget_ns", int64_t{30000000000}),
                              json.value("leave", false), deadline_ns);
  Json out = status_json(met.status());
  if (!met.ok()) return out;
  out["secret"] = met->secret;
  out["nodes"] = Json::array();
  for (const Node& node : met->nodes) {
    out["nodes"].push_back(
        {{"uuid", node.uuid}, {"name", node.name}, {"seen_ago_ns", node.seen_ago_ns}});
  }
  return out;
}

Json counts(const Store& store) {
  const StoreCounts counts = store.counts();
  return {{"calls", counts.calls},       {"pushes", counts.pushes},
          {"errors", counts.errors},     {"unknown", counts.unknown},
          {"connects", counts.connects}, {"redirects", counts.redirects},
          {"reloads", counts.reloads},   {"refusals", counts.refusals}};
}

Json obey(std::unique_ptr<Store>& store, const Json& json) {
  if (json.contains("open")) {
    auto opened = open_store(options_of(json["open"]));
    if (opened.ok()) store = *std::move(opened);
    return status_json(opened.status());
  }
  const int64_t deadline_ns = monotonic_ns() + json.value("timeout_ms", int64_t{10000}) * 1000000;
  if (json.contains("exchange")) return exchange(*store, json["exchange"], deadline_ns);
  if (json.contains("meet")) return meet(*store, json["meet"], deadline_ns);
  if (json.contains("forget"))
    return status_json(store->forget(json["forget"].get<std::string>(), deadline_ns));
  if (json.contains("warning")) return {{"warning", store->warning(deadline_ns)}};
  return counts(*store);
}

}  // namespace
}  // namespace brim::tier

int main() {
  using brim::tier::Json;
  std::unique_ptr<brim::tier::Store> store;
  std::string line;
  while (std::getline(std::cin, line)) {
    const int64_t begin = brim::tier::monotonic_ns();
    Json answer = brim::tier::obey(store, Json::parse(line));
    answer["took_ms"] = static_cast<double>(brim::tier::monotonic_ns() - begin) / 1e6;
    std::cout << answer.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  }
}
