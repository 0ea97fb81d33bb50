// SPDX-License-Identifier: MIT
#include "src/policy_file_text.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "src/base/text.h"
#include "src/policy_terms.h"

namespace brim {

namespace {

enum class Kind { kText, kCount, kFlag, kShare, kCounts, kTable, kTexts };

std::string_view kind_name(Kind kind) {
  constexpr std::string_view kNames[] = {"a string",
                                         "a whole number",
                                         "true or false",
                                         "a number or a string such as \"10%\"",
                                         "whole numbers in brackets",
                                         "a table {...}",
                                         "strings in brackets"};
  return kNames[static_cast<size_t>(kind)];
}

// In the order in which they are put together.
struct Key {
  std::string_view name;
  Kind kind;
  std::string_view word;  // before the value
  bool of_rate;           // a clause: needs one rate to belong to
};
constexpr Key kKeys[] = {
    {"burst", Kind::kCount, "burst", true},
    {"debt", Kind::kCount, "debt", true},
    {"forward", Kind::kFlag, "forward", true},
    {"delay-after", Kind::kCount, "delay-after", true},
    {"no-delay", Kind::kFlag, "no-delay", true},
    {"ahead", Kind::kText, "ahead", true},
    {"aligned", Kind::kFlag, "aligned", true},
    {"first-hit", Kind::kFlag, "first-hit", true},
    {"utc", Kind::kText, "utc", true},
    {"inclusive", Kind::kFlag, "inclusive", true},
    {"count-denied", Kind::kFlag, "count-denied", true},
    {"floor", Kind::kFlag, "floor", true},
    {"ttl", Kind::kText, "ttl", true},
    {"scope", Kind::kText, "scope", false},
    {"on-unavailable", Kind::kText, "on-unavailable", false},
    {"classes", Kind::kCounts, "classes", false},
    {"shadow", Kind::kFlag, "shadow", false},
    {"enforce", Kind::kShare, "enforce", false},
    {"warm-up", Kind::kTable, "warm-up", false},
    {"ban", Kind::kTable, "ban", false},
};
// What makes the rate itself.
constexpr Key kRateKeys[] = {{"rate", Kind::kText, "", false},
                             {"rates", Kind::kTexts, "", false},
                             {"concurrency", Kind::kCount, "concurrency", false},
                             {"algorithm", Kind::kText, "", false}};
constexpr Key kWarmUpKeys[] = {{"from", Kind::kShare, "", true},
                               {"over", Kind::kText, "over", true}};
constexpr Key kBanKeys[] = {{"after", Kind::kCount, "", true},
                            {"within", Kind::kText, "in", true},
                            {"for", Kind::kText, "for", true},
                            {"factor", Kind::kCount, "times", false},
                            {"max", Kind::kText, "max", false}};

class Composer {
 public:
  Composer(ComposedText& out, FileError& error) : out_(out), error_(error) {}

  bool compose(const toml::node& value) {
    if (const auto* const text = value.as_string()) {
      out_.add(**text, value);
      return true;
    }
    const toml::table* const table = value.as_table();
    if (table == nullptr) return fail(value, "a policy is a string or a table");
    return known(*table) && compose_rate(*table) && compose_keys(*table);
  }

 private:
  bool fail(const toml::node& node, std::string what) { return fail_at(node.source().begin, what); }
  bool fail_at(toml::source_position at, std::string_view what) {
    error_.at = at;
    error_.what = what;
    return false;
  }

  static const toml::node* find(const toml::table& table, std::string_view name) {
    for (const auto& [key, value] : table) {
      if (folded_key(key.str()) == name) return &value;
    }
    return nullptr;
  }

  // Every key is known and there once.
  bool known(const toml::table& table) {
    std::string names;
    for (const Key& key : kRateKeys) names += cat(names.empty() ? "" : " ", key.name);
    for (const Key& key : kKeys) names += cat(" ", key.name);
    return only(table, names);
  }
  bool only(const toml::table& table, const std::string& names) {
    std::vector<std::string> seen;
    for (const auto& [key, value] : table) {
      const std::string name = folded_key(key.str());
      if (name.empty() || name.find(' ') != std::string::npos ||
          cat(" ", names, " ").find(cat(" ", name, " ")) == std::string::npos) {
        return fail_at(key.source().begin, cat("unknown key '", printable(key.str()),
                                               "' of a policy", did_you_mean(name, names)));
      }
      if (std::find(seen.begin(), seen.end(), name) != seen.end()) {
        return fail_at(key.source().begin, cat("'", name, "' is given twice"));
      }
      seen.push_back(name);
    }
    return true;
  }

  bool has_clauses(const toml::table& table) const {
    return std::any_of(std::begin(kKeys), std::end(kKeys), [&table](const Key& key) {
      return key.of_rate && find(table, key.name) != nullptr;
    });
  }

  bool compose_rate(const toml::table& table) {
    const toml::node* const rate = find(table, "rate");
    const toml::node* const rates = find(table, "rates");
    const toml::node* const leases = find(table, "concurrency");
    const toml::node* const algorithm = find(table, "algorithm");
    const int given = (rate != nullptr) + (rates != nullptr) + (leases != nullptr);
    if (given != 1) {
      return fail(table, given == 0 ? "a policy needs a rate, as in rate = \"10/s\", or rates or "
                                      "concurrency"
                                    : "give one of rate, rates and concurrency");
    }
    if (leases != nullptr && algorithm != nullptr) {
      return fail(*algorithm, "concurrency is its own algorithm; leave out 'algorithm'");
    }
    if (leases != nullptr) return add_value(kRateKeys[2], *leases);
    if (rate != nullptr) return add_rate(*rate, algorithm, has_clauses(table));
    const toml::array* const list = rates->as_array();
    if (list == nullptr || list->empty()) {
      return fail(*rates, "rates are strings in brackets, such as [\"5/m\", \"20/h\"]");
    }
    if (list->size() > 1 && has_clauses(table)) {
      return fail(*rates,
                  "with several rates write clauses such as burst in the rate they are for");
    }
    for (const toml::node& item : *list) {
      if (!out_.text().empty()) out_.add("; ");
      if (!add_rate(item, algorithm, true)) return false;
    }
    return true;
  }

  // With `one`, what follows needs to be a clause of this rate.
  bool add_rate(const toml::node& rate, const toml::node* algorithm, bool one) {
    const auto* const text = rate.as_string();
    if (text == nullptr) return fail(rate, "a rate is a string, such as \"10/s\"");
    if (algorithm != nullptr) {
      if (!algorithm->is_string()) return fail(*algorithm, "algorithm is a string");
      out_.add(**algorithm->as_string(), *algorithm);
      out_.add(" ");
    }
    if (one && (*text)->find_first_of(";,|") != std::string::npos) {
      return fail(rate, "expected one rate; give several as rates = [\"5/m\", \"20/h\"]");
    }
    out_.add(**text, rate);
    return true;
  }

  bool compose_keys(const toml::table& table) {
    return std::all_of(std::begin(kKeys), std::end(kKeys), [this, &table](const Key& key) {
      const toml::node* const value = find(table, key.name);
      return value == nullptr || add_value(key, *value);
    });
  }

  bool add_value(const Key& key, const toml::node& value) {
    const auto wrong = [&] {
      return fail(value, cat("'", key.name, "' needs ", kind_name(key.kind)));
    };
    const auto start = [&] {
      if (!out_.text().empty()) out_.add(" ");
      if (!key.word.empty()) out_.add(key.word, value);
      if (!key.word.empty() && key.word != "utc") out_.add(" ");
    };
    if (key.kind == Kind::kFlag) {
      if (!value.is_boolean()) return wrong();
      if (**value.as_boolean()) start();
      return true;
    }
    if (key.kind == Kind::kTable) {
      if (!value.is_table()) return wrong();
      start();
      return key.name == "ban" ? add_table(kBanKeys, std::size(kBanKeys), *value.as_table())
                               : add_table(kWarmUpKeys, std::size(kWarmUpKeys), *value.as_table());
    }
    start();
    if (key.kind == Kind::kCounts) {
      const toml::array* const list = value.as_array();
      if (list == nullptr || !list->is_homogeneous<int64_t>()) return wrong();
      for (const toml::node& item : *list) {
        out_.add(cat(**item.as_integer()), item);
        out_.add(" ");
      }
      return true;
    }
    const bool takes_count = key.kind == Kind::kCount || key.kind == Kind::kShare;
    if (value.is_integer() && takes_count) {
      out_.add(cat(**value.as_integer()), value);
      return true;
    }
    if (!value.is_string() || key.kind == Kind::kCount) return wrong();
    const std::string& text = **value.as_string();
    // One value, not more of the policy's text.
    if (text.empty() ||
        text.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ .:+-%") != std::string::npos) {
      return fail(value, cat("'", printable(text), "' is no value of '", key.name, "'"));
    }
    out_.add(text, value);
    return true;
  }

  bool add_table(const Key* keys, size_t count, const toml::table& table) {
    std::string names;
    for (size_t i = 0; i < count; ++i) names += cat(i == 0 ? "" : " ", keys[i].name);
    if (!only(table, names)) return false;
    for (size_t i = 0; i < count; ++i) {
      const toml::node* const value = find(table, keys[i].name);
      if (value == nullptr && keys[i].of_rate) {
        return fail(table, cat("'", keys[i].name, "' is missing"));
      }
      if (value != nullptr && !add_value(keys[i], *value)) return false;
    }
    return true;
  }

  ComposedText& out_;
  FileError& error_;
};

}  // namespace

void ComposedText::add(std::string_view text, const toml::node& node) {
  const toml::source_region& source = node.source();
  // Without escapes a string is as wide in the file as its text and two quotes.
  const bool exact = node.is_string() && source.begin.line == source.end.line &&
                     source.end.column - source.begin.column == text.size() + 2 &&
                     **node.as_string() == text;
  parts_.push_back({text_.size(), source.begin, exact});
  text_ += text;
}

toml::source_position ComposedText::position(size_t at) const {
  if (parts_.empty()) return {};
  if (at == kNowhere) return parts_.front().at;
  const Part* part = &parts_.front();
  for (const Part& candidate : parts_) {
    if (candidate.from <= at) part = &candidate;
  }
  toml::source_position place = part->at;
  if (part->exact) place.column += static_cast<toml::source_index>(at - part->from + 1);
  return place;
}

bool compose_policy(const toml::node& value, ComposedText& text, FileError& error) {
  return Composer(text, error).compose(value);
}

std::string folded_key(std::string_view key) {
  std::string out(key);
  std::replace(out.begin(), out.end(), '_', '-');
  return out;
}

}  // namespace brim
