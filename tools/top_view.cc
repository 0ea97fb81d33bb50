// SPDX-License-Identifier: MIT
#include "top_view.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "dump_row.h"
#include "output.h"
#include "repeat.h"
#include "snapshot.h"

namespace brim::tools {

namespace {

const Counter* find(const std::vector<Counter>& counters, const char* name) {
  for (const Counter& counter : counters) {
    if (counter.name == name) return &counter;
  }
  return nullptr;
}

std::string cell(std::string_view text, size_t width, bool right) {
  const std::string pad(text.size() < width ? width - text.size() : 0, ' ');
  return right ? join(pad, text) : join(text, pad);
}

std::string percent(double part, double whole) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f %%", whole > 0 ? part * 100 / whole : 0);
  return text;
}

// How many lines each part of the screen gets.
struct Layout {
  size_t head;
  size_t policies;  // with the heading
  size_t hot;       // of each of the two lists, with the heading; 0: no room for them
  bool blanks;      // between the parts
};

Layout layout(size_t rows, size_t head, size_t policies, size_t hot) {
  if (rows == 0) return {head, policies + 1, hot + 1, true};
  Layout plan{rows >= 20 ? head : rows >= 12 ? size_t{3} : size_t{1}, 0, 0, rows >= 20};
  const size_t rest = rows - std::min(rows, plan.head + (plan.blanks ? 3 : 0));
  // A third for the policies, unless they need less, or there is hardly any room.
  plan.policies = std::min(policies + 1, std::max<size_t>(rest / 3, std::min<size_t>(rest, 2)));
  plan.hot = (rest - std::min(rest, plan.policies)) / 2;
  if (plan.hot < 2) {  // a heading alone helps nobody
    plan.hot = 0;
    plan.policies = std::min(policies + 1, rest);
  }
  return plan;
}

void append(std::vector<ScreenLine>& lines, std::vector<ScreenLine> more, bool blank) {
  if (blank && !lines.empty() && !more.empty()) lines.push_back({});
  for (ScreenLine& line : more) lines.push_back(std::move(line));
}

}  // namespace

std::string short_number(double value) {
  char text[32];
  const char* const units[] = {"", "k", "M", "G", "T"};
  size_t unit = 0;
  while (value >= 999.5 && unit < 4) {
    value /= 1000;
    ++unit;
  }
  const bool whole = value >= 99.95 || (unit == 0 && value == static_cast<int>(value));
  std::snprintf(text, sizeof(text), whole ? "%.0f%s" : "%.1f%s", std::min(value, 1e9), units[unit]);
  return text;
}

void TopView::take(TopReading reading) {
  rates_ = known_;
  if (known_) before_ = std::move(now_);
  now_ = std::move(reading);
  known_ = true;
}

double TopView::rate(const std::vector<Counter>& now, const std::vector<Counter>* before,
                     const char* name) const {
  const Counter* const last = find(now, name);
  const Counter* const first = before == nullptr ? nullptr : find(*before, name);
  if (last == nullptr || first == nullptr || last->value < first->value) return 0;
  const double seconds = static_cast<double>(now_.at_ns - before_.at_ns) / 1e9;
  return seconds > 0 ? static_cast<double>(last->value - first->value) / seconds : 0;
}

std::string TopView::policy_name(uint16_t number) const {
  for (const PolicyInfo& policy : now_.policies) {
    if (policy.number == number) return escape_key(policy.name);
  }
  return join("#", number);
}

// How far from home keys were inserted since the segment was made.
std::string TopView::probe_text() const {
  double all = 0;
  for (const Counter& counter : now_.counters) {
    if (counter.name.starts_with("probe_")) all += static_cast<double>(counter.value);
  }
  std::string text;
  for (const Counter& counter : now_.counters) {
    if (!counter.name.starts_with("probe_") || counter.value == 0) continue;
    text += join(text.empty() ? "" : ", ", counter.name.substr(6), ": ",
                 percent(static_cast<double>(counter.value), all));
  }
  return text.empty() ? "none yet" : text;
}

std::string TopView::tier_line() const {
  const TierStatus& tier = now_.tier.status();
  const std::optional<int64_t> age = now_.tier.exchange_age_ns();
  return join("tier    ", now_.tier.words(), ", last exchange ",
              age.has_value() ? join(human_duration(*age), " ago") : "never", ", lag ",
              human_duration(tier.lag_ns), ", ", tier.nodes, " nodes, ", now_.tier.share_words());
}

std::vector<ScreenLine> TopView::head(size_t most) const {
  const SegmentInfo& info = now_.info;
  const Occupancy& slots = now_.occupancy;
  const auto number = [](uint64_t value) { return short_number(static_cast<double>(value)); };
  const auto event = [&](const char* name) {
    if (!rates_) return std::string("-");
    return short_number(rate(now_.counters, &before_.counters, name)) + "/s";
  };
  std::vector<ScreenLine> lines;
  lines.push_back({join("brim top ", escape_key(segment_), "  ", iso_time(now_.wall_ns),
                        now_.gone ? "  NAME GONE" : "", info.paused ? "  PAUSED" : "", "  ",
                        human_bytes(info.size_bytes), ", ", now_.attached, " attached")});
  lines.push_back(
      {join("slots   ", number(info.slots), ": live ", number(slots.live), " (",
            percent(static_cast<double>(slots.live), static_cast<double>(info.slots)), "), idle ",
            number(slots.idle), ", free ", number(slots.free + slots.virgin), "; reach ",
            info.groups_in_use, " of ", info.probe_limit, " groups")});
  lines.push_back({join("table   new ", event("inserted"), ", evicted ", event("evicted_live"),
                        ", full ", event("full"), ", contended ", event("contended"), ", retries ",
                        event("cas_retries"))});
  lines.push_back({join("probes  groups from home: ", probe_text())});
  lines.push_back({join(
      "snapshot ", info.snapshot_generation == 0
                       ? std::string("none")
                       : join(info.snapshot_generation, ", ", human_duration(info.snapshot_age_ns),
                              " ago, ", number(info.snapshot_rows), " keys"))});
  if (now_.tier.told(now_.policies)) lines.push_back({tier_line()});
  lines.resize(std::min(lines.size(), most));
  return lines;
}

std::vector<ScreenLine> TopView::policies(size_t most) const {
  if (most == 0) return {};
  std::vector<ScreenLine> lines = {
      {join(cell("POLICY", 20, false), cell("ALLOWED/S", 11, true), cell("DENIED/S", 11, true),
            cell("OTHER/S", 11, true), cell("DENIED", 10, true), "  TEXT"),
       true}};
  std::vector<std::pair<PolicyRates, const PolicyInfo*>> rows;
  for (const PolicyInfo& policy : now_.policies) {
    const std::vector<Counter>* before = nullptr;
    for (const PolicyInfo& old : before_.policies) {
      if (rates_ && old.number == policy.number) before = &old.counters;
    }
    rows.push_back(
        {{rate(policy.counters, before, "allowed"), rate(policy.counters, before, "denied"),
          rate(policy.counters, before, "unavailable")},
         &policy});
  }
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) {
    return a.first.allowed + a.first.denied > b.first.allowed + b.first.denied;
  });
  for (const auto& [rates, policy] : rows) {
    if (lines.size() + 1 == most && rows.size() >= most) {  // no room for all
      lines.push_back({join("... ", rows.size() - (lines.size() - 1), " more")});
      break;
    }
    const auto value = [this](double number) { return rates_ ? short_number(number) : "-"; };
    lines.push_back(
        {join(cell(escape_key(policy->name), 20, false), cell(value(rates.allowed), 11, true),
              cell(value(rates.denied), 11, true), cell(value(rates.other), 11, true),
              cell(rates_ ? percent(rates.share(), 1) : "-", 10, true), "  ",
              escape_text(policy->text))});
  }
  lines.resize(std::min(lines.size(), most));
  return lines;
}

std::vector<ScreenLine> TopView::keys(const std::vector<HotKey>& list, const char* title,
                                      size_t most, bool by_refused) const {
  if (most == 0) return {};
  std::vector<ScreenLine> lines = {
      {join(cell(title, 13, false), cell(by_refused ? "REFUSED/S" : "CALLS/S", 10, true),
            cell(by_refused ? "CALLS/S" : "REFUSED/S", 11, true), "  ", cell("POLICY", 16, false),
            "  KEY"),
       true}};
  for (const HotKey& key : list) {
    if (lines.size() == most) break;
    // Samples, not counts: told as such.
    const auto about = [](double value) {
      return value == 0 ? std::string("-") : "~" + short_number(value);
    };
    std::string text = key_label(key.has_name, key.name, key.fingerprint);
    if (text.empty()) text = "\"\"";
    lines.push_back(
        {join(cell("", 13, false), cell(about(by_refused ? key.refused : key.asked), 10, true),
              cell(about(by_refused ? key.asked : key.refused), 11, true), "  ",
              cell(policy_name(key.policy), 16, false), "  ", text)});
  }
  return lines;
}

std::vector<ScreenLine> TopView::lines(size_t rows, const HotKeys& hot_keys, size_t hot) const {
  const size_t whole_head = now_.tier.told(now_.policies) ? 6 : 5;
  const Layout plan = layout(rows, whole_head, now_.policies.size(), hot);
  std::vector<ScreenLine> lines = head(plan.head);
  append(lines, policies(plan.policies), plan.blanks);
  append(lines, keys(hot_keys.hottest(plan.hot), "HOTTEST", plan.hot, false), plan.blanks);
  append(lines, keys(hot_keys.most_refused(plan.hot), "MOST REFUSED", plan.hot, true), plan.blanks);
  if (rows != 0) lines.resize(std::min(lines.size(), rows));
  return lines;
}

}  // namespace brim::tools
