// SPDX-License-Identifier: MIT
// One line of an export, read back. nlohmann_json reads it: what the text may do to a parser has
// been tried on that one for years, and a line is held whole anyway.
#include <limits>
#include <nlohmann/json.hpp>

#include "export.h"
#include "output.h"

namespace brim::tools {

namespace {

using Json = nlohmann::json;

constexpr uint64_t kMostNs = std::numeric_limits<int64_t>::max();
constexpr size_t kMostLeft = 256;
constexpr uint32_t kMostRates = 8;
constexpr int kDeepest = 3;  // a number in a rate, in the list of rates, in the line
constexpr size_t kMostName = 64;
constexpr size_t kMostHashKey = 1024;

// The fields of one object; remembers the first that is missing or wrong.
class Fields {
 public:
  explicit Fields(const Json& object) : object_(object) {}

  bool has(const char* name) const { return object_.contains(name); }

  uint64_t number(const char* name, uint64_t most = std::numeric_limits<uint64_t>::max()) {
    const Json* const value = find(name);
    return value == nullptr ? 0 : number_of(*value, name, most);
  }
  uint64_t number_or(const char* name, uint64_t other) { return has(name) ? number(name) : other; }
  int64_t ns(const char* name) { return static_cast<int64_t>(number(name, kMostNs)); }

  std::string text(const char* name, size_t most = kMostExportLine) {
    const Json* const value = find(name);
    if (value == nullptr) return "";
    const auto* const text = value->get_ptr<const std::string*>();
    if (text == nullptr || text->size() > most) {
      refuse(name);
      return "";
    }
    return *text;
  }
  std::string base64(const char* name) {
    std::optional<std::string> bytes = base64_bytes(text(name));
    if (!bytes.has_value()) refuse(name);
    return std::move(bytes).value_or("");
  }
  uint64_t hex(const char* name) {
    const std::string digits = text(name, 16);
    if (digits.empty() || digits.find_first_not_of("0123456789abcdef") != std::string::npos) {
      refuse(name);
      return 0;
    }
    return std::stoull(digits, nullptr, 16);
  }
  bool flag_or(const char* name, bool other) {
    if (!has(name)) return other;
    const auto* const value = object_.find(name)->get_ptr<const bool*>();
    if (value == nullptr) refuse(name);
    return value != nullptr && *value;
  }
  // Null if it is missing or no list, or longer.
  const Json* list(const char* name, size_t most) {
    const Json* const value = find(name);
    if (value == nullptr || (value->is_array() && value->size() <= most)) return value;
    refuse(name);
    return nullptr;
  }
  uint64_t number_of(const Json& value, const char* name, uint64_t most) {
    const auto* const number = value.get_ptr<const uint64_t*>();
    if (number != nullptr && *number <= most) return *number;
    refuse(name);
    return 0;
  }
  StateKind kind(const char* name) {
    const std::optional<StateKind> kind = kind_of(text(name, kMostName));
    if (!kind.has_value()) refuse(name);
    return kind.value_or(StateKind::kBucket);
  }

  void refuse(const char* name) {
    if (wrong_.empty()) wrong_ = join("field ", name, " is missing, or no value that it can have");
  }
  const std::string& wrong() const { return wrong_; }

 private:
  const Json* find(const char* name) {
    const auto at = object_.find(name);
    if (at != object_.end()) return &*at;
    refuse(name);
    return nullptr;
  }
  const Json& object_;
  std::string wrong_;
};

ExportHead read_head(Fields& fields) {
  ExportHead head;
  head.version = static_cast<uint32_t>(fields.number("format", UINT32_MAX));
  if (head.version != kExportVersion) return head;  // another one's fields are its own
  head.uuid = fields.text("uuid", kMostName);
  head.wall_ns = fields.ns("wall_ns");
  if (fields.has("hash_key_base64")) head.hash_key = fields.base64("hash_key_base64");
  if (head.hash_key.size() > kMostHashKey) fields.refuse("hash_key_base64");
  return head;
}

ExportPolicy read_policy(Fields& fields) {
  ExportPolicy policy;
  policy.state.name = fields.text("name", kMostName);
  policy.state.text = fields.text("text");
  policy.state.factor_ppm = static_cast<uint32_t>(fields.number("factor_ppm", 1000000));
  const Json* const rates = fields.list("rates", kMostRates);
  if (rates == nullptr) return policy;
  for (const Json& each : *rates) {
    if (!each.is_object()) {
      fields.refuse("rates");
      break;
    }
    Fields one(each);
    RateState rate;
    rate.part = static_cast<uint32_t>(one.number("rate", kMostRates - 1));
    rate.kind = one.kind("kind");
    rate.limit = static_cast<uint32_t>(one.number("limit", UINT32_MAX));
    rate.period_ns = one.ns("period_ns");
    rate.unit_shift = static_cast<uint32_t>(one.number("unit_shift", 63));
    rate.slowest_ppm = static_cast<uint32_t>(one.number("slowest_ppm", 1000000));
    rate.most_permits = one.number("most_permits");
    if (!one.wrong().empty()) fields.refuse("rates");
    policy.state.rates.push_back(rate);
  }
  return policy;
}

ExportOverride read_override(Fields& fields) {
  ExportOverride entry;
  entry.state.policy = fields.text("policy", kMostName);
  entry.state.key = fields.base64("key_base64");
  entry.state.key_length = entry.state.key.size();
  entry.state.ban = fields.flag_or("ban", false);
  entry.state.use = entry.state.ban ? "banned" : fields.text("use", kMostName);
  if (entry.state.ban && fields.has("ends_in_ns")) entry.state.ends_in_ns = fields.ns("ends_in_ns");
  entry.after_ns = fields.ns("after_ns");
  return entry;
}

ExportKey read_exported_key(Fields& fields) {
  ExportKey key;
  KeyState& state = key.state;
  key.policy = fields.text("policy", kMostName);
  state.part = static_cast<uint32_t>(fields.number("rate", kMostRates - 1));
  state.kind = fields.kind("kind");
  state.has_key = fields.has("key_base64");
  if (state.has_key) {
    state.key = fields.base64("key_base64");
    state.key_length = fields.number_or("key_length", state.key.size());
    if (state.key_length < state.key.size()) fields.refuse("key_length");
  }
  if (!state.whole_key()) {
    state.fingerprint = fields.hex("fingerprint");
    if (state.has_key) state.place = fields.hex("place");
  }
  state.used = fields.number("used");
  state.before = fields.number_or("before", 0);
  state.until_ns = fields.ns("until_ns");
  state.barred = fields.flag_or("barred", false);
  state.as_of_ns = fields.ns("after_ns");
  if (!fields.has("left_ns")) return key;
  const Json* const left = fields.list("left_ns", kMostLeft);
  if (left == nullptr) return key;
  for (const Json& each : *left) {
    state.left_ns.push_back(static_cast<int64_t>(fields.number_of(each, "left_ns", kMostNs)));
  }
  return key;
}

ExportEnd read_end(Fields& fields) {
  ExportEnd end;
  end.policies = fields.number("policies");
  end.overrides = fields.number("overrides");
  end.keys = fields.number("keys");
  return end;
}

int digit_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

}  // namespace

const char* kind_name(StateKind kind) {
  switch (kind) {
    case StateKind::kBucket:
      return "bucket";
    case StateKind::kWindow:
      return "window";
    case StateKind::kCounter:
      return "counter";
    case StateKind::kLog:
      return "log";
    case StateKind::kBan:
      return "ban";
  }
  return "unknown";
}

std::optional<StateKind> kind_of(std::string_view name) {
  for (const StateKind kind : {StateKind::kBucket, StateKind::kWindow, StateKind::kCounter,
                               StateKind::kLog, StateKind::kBan}) {
    if (name == kind_name(kind)) return kind;
  }
  return std::nullopt;
}

std::optional<std::string> base64_bytes(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  while (!text.empty()) {
    uint32_t triple = 0;
    size_t n = 0;
    for (; n < 4 && digit_of(text[n]) >= 0; ++n) {
      triple |= static_cast<uint32_t>(digit_of(text[n])) << (18 - 6 * n);
    }
    const std::string_view padding = text.substr(n, 4 - n);
    if (n < 2 || padding.find_first_not_of('=') != std::string_view::npos) return std::nullopt;
    if (n < 4 && text.size() != 4) return std::nullopt;
    for (size_t i = 0; i + 1 < n; ++i) bytes += static_cast<char>(triple >> (16 - 8 * i) & 255);
    if ((triple & ((1u << (8 * (4 - n))) - 1)) != 0) return std::nullopt;  // another spelling
    text.remove_prefix(4);
  }
  return bytes;
}

absl::StatusOr<ExportLine> parse_export_line(std::string_view line) {
  const auto wrong = [](const std::string& what) { return absl::InvalidArgumentError(what); };
  if (line.size() > kMostExportLine) return wrong("it is longer than any line of an export");
  bool deep = false;
  const auto shallow = [&deep](int depth, Json::parse_event_t, const Json&) {
    deep |= depth > kDeepest;
    return !deep;
  };
  const Json json = Json::parse(line.begin(), line.end(), shallow, false);
  if (deep || !json.is_object()) return wrong("it is no JSON object of an export");
  Fields fields(json);
  const std::string type = fields.text("type", kMostName);
  ExportLine parsed;
  if (type == "export") {
    parsed = read_head(fields);
  } else if (type == "policy") {
    parsed = read_policy(fields);
  } else if (type == "override") {
    parsed = read_override(fields);
  } else if (type == "key") {
    parsed = read_exported_key(fields);
  } else if (type == "end") {
    parsed = read_end(fields);
  } else {
    fields.refuse("type");
  }
  if (!fields.wrong().empty()) return wrong(fields.wrong());
  return parsed;
}

}  // namespace brim::tools
