// SPDX-License-Identifier: MIT
#include "brim/policy_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "brim/address.h"
#include "src/base/text.h"
#include "src/policy_file_text.h"
#include "src/policy_terms.h"

namespace brim {

namespace {

constexpr std::string_view kSegmentWords =
    "capacity name_bytes max_policies cells_per_key overrides cluster hash on_full";
constexpr uint64_t kMaxCapacity = uint64_t{1} << 34;

std::string_view as_std(const toml::key& key) { return {key.str().data(), key.str().size()}; }

class FileReader {
 public:
  absl::StatusOr<PolicyFile> read(std::string_view text, std::string_view name) {
    toml::parse_result result = toml::parse(text);
    if (!result) {
      const std::string_view said = result.error().description();
      fail(result.error().source().begin, printable(said, 300));
    } else if (read_root(result.table())) {
      return std::move(file_);
    }
    return absl::InvalidArgumentError(cat("policy_file_invalid: ", printable(name, 200), ":",
                                          error_.at.line, ":", error_.at.column, ": ",
                                          error_.what));
  }

 private:
  bool fail(toml::source_position at, std::string what) {
    error_.at = at;
    error_.what = std::move(what);
    return false;
  }
  bool fail(const toml::node& node, std::string what) {
    return fail(node.source().begin, std::move(what));
  }
  bool unknown(const toml::key& key, std::string_view of, std::string_view words) {
    return fail(key.source().begin, cat("unknown key '", printable(as_std(key)), "' of ", of,
                                        did_you_mean(as_std(key), words)));
  }

  bool read_root(const toml::table& root) {
    for (const auto& [key, value] : root) {
      if (key != "segment" && key != "policies" && key != "override") {
        return unknown(key, "the file", "segment policies override");
      }
    }
    if (const toml::node* const segment = root.get("segment")) {
      if (!segment->is_table()) return fail(*segment, "segment is a table, [segment]");
      if (!read_segment(*segment->as_table())) return false;
    }
    const toml::node* const policies = root.get("policies");
    if (policies == nullptr || !policies->is_table() || policies->as_table()->empty()) {
      return fail(policies == nullptr ? toml::source_position{1, 1} : policies->source().begin,
                  "there are no policies; give [policies] and a line such as api = \"10/s\"");
    }
    if (!read_policies(*policies->as_table())) return false;
    const toml::node* const overrides = root.get("override");
    return overrides == nullptr || read_overrides(*overrides);
  }

  bool read_segment(const toml::table& table) {
    Options& options = file_.segment;
    for (const auto& [key, value] : table) {
      uint64_t number = 0;
      const std::string name = folded_key(as_std(key));
      if (name == "capacity") {
        if (!count(key, value, 1, kMaxCapacity, options.capacity)) return false;
      } else if (name == "name-bytes") {
        if (!count(key, value, 0, 65520, number)) return false;
        options.name_bytes = number == 0 ? Options::kNoNames : static_cast<uint32_t>(number);
      } else if (name == "max-policies") {
        if (!count(key, value, 1, 4096, number)) return false;
        options.max_policies = static_cast<uint32_t>(number);
      } else if (name == "cells-per-key") {
        if (!count(key, value, 1, 256, number)) return false;
        options.cells_per_key = static_cast<uint32_t>(number);
      } else if (name == "overrides") {
        if (!count(key, value, 1, uint64_t{1} << 20, number)) return false;
        options.overrides = static_cast<uint32_t>(number);
      } else if (name == "cluster") {
        if (!value.is_boolean()) return fail(value, "'cluster' needs true or false");
        options.cluster = **value.as_boolean();
      } else if (name == "hash") {
        constexpr std::string_view kKinds[] = {"siphash", "xxh3"};
        if (!choice(key, value, kKinds, 2, number)) return false;
        options.hash = static_cast<HashKind>(number + 1);
      } else if (name == "on-full") {
        constexpr std::string_view kActions[] = {"evict", "allow", "deny"};
        if (!choice(key, value, kActions, 3, number)) return false;
        options.on_full = static_cast<OnFull>(number + 1);
      } else if (name == "mode" || name == "group" || name == "owner-uid") {
        return fail(key.source().begin, cat("'", name,
                                            "' is for who creates the segment to say, "
                                            "not for the file; leave it out"));
      } else {
        return unknown(key, "[segment]", kSegmentWords);
      }
    }
    return true;
  }

  // A whole number, or a string such as "64k".
  bool count(const toml::key& key, const toml::node& value, uint64_t least, uint64_t most,
             uint64_t& number) {
    const auto bad = [&] {
      return fail(value, cat("'", as_std(key), "' needs a whole number from ", least, " to ", most,
                             ", or with k, M or G as in \"64k\""));
    };
    uint64_t factor = 1;
    if (value.is_integer()) {
      if (**value.as_integer() < 0) return bad();
      number = static_cast<uint64_t>(**value.as_integer());
    } else {
      if (!value.is_string()) return bad();
      std::string_view text = **value.as_string();
      const std::string_view kUnits = "kMG";
      const size_t unit = text.empty() ? kUnits.npos : kUnits.find(text.back());
      if (unit != kUnits.npos) {
        factor = uint64_t{1} << (10 * (unit + 1));
        text.remove_suffix(1);
      }
      if (text.empty() || text.size() > 12 ||
          text.find_first_not_of("0123456789") != std::string_view::npos) {
        return bad();
      }
      number = 0;
      for (const char c : text) number = number * 10 + static_cast<uint64_t>(c - '0');
    }
    if (number > most / factor || number * factor < least) return bad();
    number *= factor;
    return true;
  }

  bool choice(const toml::key& key, const toml::node& value, const std::string_view* words,
              size_t size, uint64_t& number) {
    const std::string text = value.is_string() ? **value.as_string() : "";
    std::string list;
    for (number = 0; number < size; ++number) {
      if (text == words[number]) return true;
      list += cat(list.empty() ? "" : " ", words[number]);
    }
    const std::string near = did_you_mean(text, list);
    std::replace(list.begin(), list.end(), ' ', '|');
    return fail(value, cat("'", as_std(key), "' needs a string, ", list, near));
  }

  bool read_policies(const toml::table& table) {
    // toml++ sorts by name; people expect the order of the file.
    std::vector<std::pair<const toml::key*, const toml::node*>> entries;
    for (const auto& [key, value] : table) entries.emplace_back(&key, &value);
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
      const toml::source_position x = a.first->source().begin;
      const toml::source_position y = b.first->source().begin;
      return std::pair(x.line, x.column) < std::pair(y.line, y.column);
    });
    for (const auto& [key, value] : entries) {
      if (!read_policy_entry(*key, *value)) return false;
    }
    const size_t room = file_.segment.max_policies == 0 ? 64 : file_.segment.max_policies;
    if (file_.policies.size() > room) {
      return fail(table, cat("there are ", file_.policies.size(), " policies; give max_policies = ",
                             file_.policies.size(), " or more in [segment]"));
    }
    return true;
  }

  bool read_policy_entry(const toml::key& key, const toml::node& value) {
    const std::string name(as_std(key));
    if (!valid_policy_name(name)) {
      return fail(key.source().begin, cat("the policy's name is '", printable(name),
                                          "'; give 1 to 47 characters of A-Z a-z 0-9 . _ -"));
    }
    if (name == "unlimited" || name == "deny") {
      return fail(key.source().begin,
                  cat("'", name, "' is a word of [[override]]; give the policy another name"));
    }
    ComposedText text;
    if (!compose_policy(value, text, error_)) return false;
    Policy policy;
    TextError wrong;
    if (!read_policy(text.text(), policy, wrong)) {
      return fail(text.position(wrong.at), cat("policy '", name, "': ", wrong.what));
    }
    file_.policies.push_back({name, policy_text(policy)});
    file_.parsed.push_back(std::move(policy));
    file_.lines.push_back(key.source().begin.line);
    return true;
  }

  bool has_policy(std::string_view name) const {
    return std::any_of(file_.policies.begin(), file_.policies.end(),
                       [name](const NamedPolicy& policy) { return policy.name == name; });
  }
  std::string policy_words() const {
    std::string words;
    for (const NamedPolicy& policy : file_.policies) {
      words += cat(words.empty() ? "" : " ", policy.name);
    }
    return words;
  }

  bool read_overrides(const toml::node& node) {
    const toml::array* const list = node.as_array();
    if (list == nullptr) return fail(node, "overrides are tables in double brackets, [[override]]");
    for (const toml::node& item : *list) {
      if (!item.is_table()) return fail(item, "an override is a table, [[override]]");
      if (!read_override(*item.as_table())) return false;
    }
    return true;
  }

  bool read_override(const toml::table& table) {
    FileOverride entry;
    entry.line = table.source().begin.line;
    const toml::node* use = nullptr;
    int matches = 0;
    for (const auto& [key, value] : table) {
      const std::string_view name = as_std(key);
      if (name != "policy" && name != "key" && name != "cidr" && name != "use") {
        return unknown(key, "[[override]]", "policy key cidr use");
      }
      if (!value.is_string()) return fail(value, cat("'", name, "' needs a string"));
      const std::string& text = **value.as_string();
      if (name == "use") {
        use = &value;
        entry.use = text;
      } else if (name == "policy") {
        if (!has_policy(text)) return no_policy(value, text, policy_words());
        entry.policy = text;
      } else {
        ++matches;
        entry.match = text;
        entry.network = name == "cidr";
        if (entry.network && !read_network(value, entry.match)) return false;
      }
    }
    if (matches != 1) return fail(table, "an override needs either key or cidr");
    if (use == nullptr) return fail(table, "an override needs use, as in use = \"unlimited\"");
    if (entry.use != "unlimited" && entry.use != "deny" && !has_policy(entry.use)) {
      return no_policy(*use, entry.use, cat("unlimited deny ", policy_words()));
    }
    if (entry.use == entry.policy) return fail(*use, "the override uses the policy it is for");
    for (const FileOverride& other : file_.overrides) {
      if (other.policy == entry.policy && other.match == entry.match &&
          other.network == entry.network) {
        return fail(table, cat("the override of line ", other.line, " is for the same ",
                               entry.network ? "network" : "key"));
      }
    }
    file_.overrides.push_back(std::move(entry));
    return true;
  }

  bool no_policy(const toml::node& value, std::string_view name, const std::string& words) {
    return fail(value, cat("there is no policy '", printable(name), "' in the file",
                           did_you_mean(name, words)));
  }

  bool read_network(const toml::node& value, std::string& match) {
    const absl::StatusOr<Cidr> network = parse_cidr(match);
    if (network.ok()) {
      match = cidr_text(*network).view();
      return true;
    }
    const std::string_view said(network.status().message().data(),
                                network.status().message().size());
    return fail(value, std::string(said));
  }

  PolicyFile file_;
  FileError error_;
};

struct Closer {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

}  // namespace

absl::StatusOr<PolicyFile> parse_policy_file(std::string_view text, std::string_view name) {
  if (text.size() > kMaxPolicyFileBytes) {
    return absl::InvalidArgumentError(cat("policy_file_invalid: ", printable(name, 200),
                                          ":1:1: the file has more than ", kMaxPolicyFileBytes,
                                          " bytes; split it"));
  }
  return FileReader().read(text, name);
}

absl::StatusOr<PolicyFile> read_policy_file(const std::string& path) {
  const std::unique_ptr<std::FILE, Closer> file(std::fopen(path.c_str(), "re"));
  const auto bad = [&path](int code) {
    const std::string what = cat(printable(path, 200), ": ", std::strerror(code));
    return code == ENOENT ? absl::NotFoundError(cat("policy_file_not_found: ", what))
                          : absl::PermissionDeniedError(cat("policy_file_unreadable: ", what));
  };
  if (file == nullptr) return bad(errno);
  std::string text(kMaxPolicyFileBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return bad(errno);
  return parse_policy_file(text, path);
}

}  // namespace brim
