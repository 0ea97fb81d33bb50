// SPDX-License-Identifier: MIT
#include "replay_report.h"

#include <algorithm>

#include "access_log.h"
#include "output.h"
#include "replay_text.h"

namespace brim::replay {

using tools::escape_text;
using tools::human_duration;
using tools::join;
using tools::JsonWriter;

namespace {

std::string broken_text(const BrokenLine& broken) {
  return join(escape_text(broken.file), ":", broken.line, ": ", broken.reason);
}

std::vector<std::string> window_row(const WindowReport& window, const std::string& name) {
  return {name,
          std::to_string(window.all),
          utc(window.all_at_ns),
          std::to_string(window.client.most),
          std::to_string(window.client.percentile),
          std::to_string(window.client.median)};
}

std::string log_table(const Report& report) {
  std::string out = join("log    ", report.lines, " lines: ", report.requests, " requests, ",
                         report.broken, " broken; ", report.empty, " empty lines left out\n");
  out += join("time   ", utc(report.first_ns), " to ", utc(report.last_ns), ", ",
              report.out_of_order, " out of order\n");
  const std::string resolution = human_duration(report.resolution_ns);
  if (report.spread) {
    out += join("       requests of one stamp are spread evenly over its ", resolution, "\n");
  } else if (report.resolution_ns >= kSecondNs) {
    out += join(
        "       stamps are whole seconds: the requests of a second arrive at one instant,\n"
        "       so the burst decides more than it would live (--spread to spread them)\n");
  }
  out += join("key    ", escape_text(report.key_fields), ": ", report.clients, " clients\n");
  for (const BrokenLine& broken : report.first_broken) {
    out += join("broken ", broken_text(broken), "\n");
  }
  if (report.broken > report.first_broken.size()) {
    out += join("broken and ", report.broken - report.first_broken.size(), " more\n");
  }
  return out;
}

std::string peak_table(const Report& report) {
  const std::string percentile = join("p", report.percentile.text());
  std::vector<std::vector<std::string>> rows = {
      {"most requests in", "all clients", "until", "busiest client", percentile, "median"}};
  for (const WindowReport& window : report.windows) {
    rows.push_back(window_row(window, join("any ", window.window_ns / kSecondNs, "s")));
  }
  for (const PolicyReport& policy : report.policies) {
    if (!policy.period.has_value()) continue;
    rows.push_back(window_row(*policy.period, join("a period of ", policy.name)));
  }
  return tools::table(rows, {1, 3, 4, 5});
}

// Keys such as agents may be long; the JSON report has them whole.
std::string cut(const std::string& key) {
  constexpr size_t kMost = 100;
  return key.size() <= kMost ? key : key.substr(0, kMost) + "...";
}

std::string top_table(const PolicyReport& policy) {
  std::vector<std::vector<std::string>> rows = {{"refused", "requests", "%", "client"}};
  for (const RefusedClient& client : policy.top) {
    rows.push_back({std::to_string(client.refused), std::to_string(client.requests),
                    percent(client.refused, client.requests), cut(shown_key(client.key))});
  }
  return policy.top.empty() ? "" : tools::table(rows, {0, 1, 2});
}

std::string policy_table(const PolicyReport& policy, const Report& report) {
  std::string out = tools::heading(join("policy ", policy.name, ": ", policy_text(policy.policy)));
  out += join("\n  requests   ", report.requests, ": ", policy.admitted, " admitted, ",
              policy.refused, " refused (", percent(policy.refused, report.requests), " %)\n");
  out += join("  clients    ", report.clients, ": ", policy.clients_refused, " refused (",
              percent(policy.clients_refused, report.clients), " %)\n");
  if (policy.refused != 0) {
    out += join("  first      ", utc(policy.first_refusal_ns), " ",
                cut(shown_key(policy.first_refused_key)), "\n");
  }
  if (policy.shadow != 0) {
    out +=
        join("  shadow     ", policy.shadow, " of the admitted were only not refused because the ",
             "policy is not enforced for them\n");
  }
  if (!policy.no_burst.empty()) {
    return join(out, top_table(policy), "suggested: none; ", policy.no_burst,
                ": try other numbers instead\n");
  }
  out += join("  burst that refuses nothing at this rate: ", policy.least_burst.most,
              " for the neediest client, ", policy.least_burst.percentile, " for p",
              report.percentile.text(), ", ", policy.least_burst.median, " for the median\n");
  out += top_table(policy);
  const Suggestion& suggestion = policy.suggestion;
  if (!suggestion.valid) return out + "suggested: none; no policy of this period fits\n";
  out += join("suggested: --policy '", policy.name, "=", policy_text(suggestion.policy), "'\n");
  out += join("  leaves ", report.clients - suggestion.clients_refused, " of ", report.clients,
              " clients untouched (at least ", report.percentile.text(), " % asked)\n");
  return out;
}

void write_distribution(JsonWriter& json, std::string_view name, const Distribution& values) {
  json.name(name).begin('{').field("most", values.most).field("percentile", values.percentile);
  json.field("median", values.median).end('}');
}

void write_window(JsonWriter& json, const WindowReport& window) {
  json.begin('{').field("window_ns", window.window_ns).field("all", window.all);
  json.field("all_until", utc(window.all_at_ns));
  write_distribution(json, "client", window.client);
  json.end('}');
}

void write_log(JsonWriter& json, const Report& report) {
  json.name("log").begin('{').field("lines", report.lines).field("requests", report.requests);
  json.field("broken", report.broken).field("empty", report.empty);
  json.field("out_of_order", report.out_of_order).field("late", report.late);
  json.field("reorder_ns", report.reorder_ns).field("first", utc(report.first_ns));
  json.field("last", utc(report.last_ns)).field("resolution_ns", report.resolution_ns);
  json.field("spread", report.spread).name("first_broken").begin('[');
  for (const BrokenLine& broken : report.first_broken) {
    json.line().begin('{').field("file", escape_text(broken.file)).field("line", broken.line);
    json.field("reason", broken.reason).end('}');
  }
  json.end(']').end('}');
}

void write_policy(JsonWriter& json, const PolicyReport& policy, const Report& report) {
  json.line().begin('{').field("name", policy.name).field("policy", policy_text(policy.policy));
  json.field("requests", report.requests).field("admitted", policy.admitted);
  json.field("refused", policy.refused).field("undecided", policy.undecided);
  json.field("evicted", policy.evicted).field("shadow", policy.shadow);
  json.field("clients_refused", policy.clients_refused);
  json.name("first_refusal");
  if (policy.refused == 0) {
    json.null();
  } else {
    json.begin('{').field("time", utc(policy.first_refusal_ns));
    json.field("client", shown_key(policy.first_refused_key)).end('}');
  }
  json.line().name("top").begin('[');
  for (const RefusedClient& client : policy.top) {
    json.line().begin('{').field("client", shown_key(client.key));
    json.field("requests", client.requests).field("refused", client.refused).end('}');
  }
  json.end(']').line().name("period_peak");
  policy.period.has_value() ? write_window(json, *policy.period) : static_cast<void>(json.null());
  json.line();
  if (policy.no_burst.empty()) {
    write_distribution(json, "least_burst", policy.least_burst);
  } else {
    json.name("least_burst").null().field("not_computed", policy.no_burst);
  }
  json.line().name("suggestion");
  if (!policy.suggestion.valid) {
    json.null();
  } else {
    json.begin('{').field("policy", policy_text(policy.suggestion.policy));
    json.field("limit", policy.suggestion.policy.rates.front().limit);
    json.field("burst", policy.suggestion.policy.rates.front().burst);
    json.field("clients_refused", policy.suggestion.clients_refused).end('}');
  }
  json.end('}');
}

// Windows that begin at times of the wall clock.
bool follows_the_clock(const Rate& rate) {
  return rate.algorithm == Algorithm::kCalendarWindow ||
         rate.algorithm == Algorithm::kSlidingCounter ||
         (rate.algorithm == Algorithm::kFixedWindow && !rate.first_hit);
}

}  // namespace

Distribution distribution(const std::vector<uint32_t>& values, Percentile percentile) {
  return {percentile_of(values, Percentile{50000}), percentile_of(values, percentile),
          percentile_of(values, Percentile{100000})};
}

std::string shown_key(const std::string& key) {
  std::string out;
  for (size_t at = 0;;) {
    const size_t end = std::min(key.find(kKeySeparator, at), key.size());
    out += tools::escape_key(std::string_view(key).substr(at, end - at));
    if (end == key.size()) return out;
    out += ' ';
    at = end + 1;
  }
}

std::vector<std::string> warnings(const Report& report) {
  std::vector<std::string> list;
  if (report.late != 0) {
    list.push_back(join(report.late, " lines were more than ", human_duration(report.reorder_ns),
                        " behind others and were given the time of the line before; give files "
                        "oldest first, or a larger --reorder"));
  }
  for (const PolicyReport& policy : report.policies) {
    const std::vector<Rate>& rates = policy.policy.rates;
    if (std::any_of(rates.begin(), rates.end(), follows_the_clock)) {
      list.push_back(join("the windows of policy ", policy.name,
                          " are aligned as if the log had begun just now, so what passes around "
                          "their ends differs from the log's own time"));
    }
    if (policy.evicted != 0 || policy.undecided != 0) {
      list.push_back(join("the capacity was too small: ", policy.evicted + policy.undecided,
                          " keys of policy ", policy.name,
                          " lost their state, so too few were refused; give a larger --capacity"));
    }
  }
  return list;
}

std::string report_table(const Report& report) {
  std::string out = join(log_table(report), "\n", peak_table(report));
  for (const PolicyReport& policy : report.policies) {
    out += join("\n", policy_table(policy, report));
  }
  for (const std::string& warning : warnings(report)) out += join("\nwarning: ", warning, "\n");
  return out;
}

std::string report_json(const Report& report) {
  JsonWriter json;
  json.begin('{').field("version", 1).line();
  write_log(json, report);
  json.line().field("key", escape_text(report.key_fields)).field("clients", report.clients);
  json.field("percentile", report.percentile.text()).line().name("peaks").begin('[');
  for (const WindowReport& window : report.windows) write_window(json.line(), window);
  json.end(']').line().name("policies").begin('[');
  for (const PolicyReport& policy : report.policies) write_policy(json, policy, report);
  json.end(']').line().name("warnings").begin('[');
  for (const std::string& warning : warnings(report)) json.value(warning);
  json.end(']').end('}');
  return json.take() + "\n";
}

}  // namespace brim::replay
