// SPDX-License-Identifier: MIT
// One key as `brim dump` judges and prints it.
#ifndef BRIM_TOOLS_DUMP_ROW_H_
#define BRIM_TOOLS_DUMP_ROW_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "brim/inspect.h"
#include "brim/limiter.h"
#include "output.h"

namespace brim::tools {

std::string_view state_text(SlotState state);
// A key's text, or its fingerprint after #; a key that itself begins with # gets %23.
std::string key_label(bool has_name, std::string_view name, uint64_t fingerprint);

// A policy and, if its state is not all in the slot's word, the way to ask it.
struct DumpPolicy {
  PolicyInfo info;
  std::optional<PolicyHandle> handle;
};
using DumpPolicies = std::map<uint16_t, DumpPolicy>;
// Attaches once more, read-only, if there is a policy that has to be asked.
DumpPolicies dump_policies(const std::string& segment, const Options& options,
                           std::vector<PolicyInfo> policies);

// What a row shows: the key as one rate of its policy, or the policy's bans, sees it. Views the
// name that `key` views.
class Row {
 public:
  // `policy` is null if it is not known any more.
  Row(const KeyInfo& key, const DumpPolicy* policy);

  const KeyInfo& key() const { return key_; }
  // The same with another copy of its name.
  Row with_name(std::string_view name) const {
    Row row = *this;
    row.key_.name = name;
    return row;
  }
  const Rate* rate() const { return rate_; }
  std::string policy() const {
    return policy_ == nullptr ? join("#", key_.policy) : escape_key(policy_->name);
  }
  // With the part, unless the policy has only this one: "api/0", "api/ban".
  std::string policy_part() const;
  bool ban() const { return key_.part == KeyInfo::kBanPart; }
  bool cut() const { return key_.has_name && key_.name_length > key_.name.size(); }
  // Permits left. Leases, and logs beside other rates or without the key's whole text, do not tell
  // from outside; bans have nothing to be left.
  const std::optional<uint32_t>& remaining() const { return remaining_; }
  bool has_reset() const { return key_.state != SlotState::kTentative; }
  // Of bans: until the key is no more barred.
  int64_t reset_ns() const {
    return ban() ? key_.decision.retry_after_ns : key_.decision.reset_after_ns;
  }
  // Until one permit would be granted, if that can be told.
  const std::optional<int64_t>& retry_ns() const { return retry_ns_; }
  // One permit would be refused now.
  bool refused() const { return retry_ns_.value_or(0) != 0 || remaining_.value_or(1) == 0; }
  // At most a tenth of the burst or limit is left.
  bool near() const;

 private:
  KeyInfo key_;
  const PolicyInfo* policy_ = nullptr;
  const Rate* rate_ = nullptr;
  std::optional<uint32_t> remaining_;
  std::optional<int64_t> retry_ns_;
};

// The row as an object of JSON.
void write_row(JsonWriter& json, const Row& row);

// Prints rows one by one.
class RowPrinter {
 public:
  // `retry`: a table has a column with the time until a permit is granted.
  RowPrinter(Format format, bool retry) : format_(format), retry_(retry) {}

  void begin(const std::string& segment);
  bool print(const Row& row);
  // `matched`: how many rows there were to choose from, if that is known.
  void end(std::optional<uint64_t> matched, bool more);
  uint64_t count() const { return count_; }

 private:
  std::string table_row(const Row& row) const;
  static std::string csv(const Row& row);

  Format format_;
  bool retry_;
  JsonWriter json_;
  uint64_t count_ = 0;
};

}  // namespace brim::tools

#endif  // BRIM_TOOLS_DUMP_ROW_H_
