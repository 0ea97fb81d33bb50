// SPDX-License-Identifier: MIT
// What an agent left in a segment about the store that its node shares with others, for people and
// for programs. Only reads.
#ifndef BRIM_TOOLS_TIER_VIEW_H_
#define BRIM_TOOLS_TIER_VIEW_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "brim/cluster.h"
#include "brim/inspect.h"
#include "output.h"

namespace brim::tools {

enum class TierState : uint8_t {
  kNone,  // no agent was ever at work
  kDead,  // none has been for a while
  kDown,  // the store does not answer
  kUp,
};

// An agent shows itself several times a second; after so long without, it is dead or stopped.
inline constexpr int64_t kAgentDeadNs = 10000000000;

class TierLook {
 public:
  TierLook() = default;
  TierLook(TierStatus status, int64_t now_ns) : status_(std::move(status)), now_ns_(now_ns) {}
  static absl::StatusOr<TierLook> at(const std::string& name, const Options& options);

  const TierStatus& status() const { return status_; }
  // Whether there is anything to tell: room in the segment, and somebody who uses it.
  bool told(const std::vector<PolicyInfo>& policies) const;
  TierState state() const;
  // Since the agent was at work, since an exchange was answered, since none is: none yet, or not
  // so.
  std::optional<int64_t> agent_age_ns() const { return age(status_.alive_ns); }
  std::optional<int64_t> exchange_age_ns() const { return age(status_.exchanged_ns); }
  std::optional<int64_t> down_for_ns() const { return age(status_.down_since_ns); }

  // "down for 12s", and with what the last error was, escaped.
  std::string words() const;
  std::string words_and_error() const;
  // "whole rates", or what part of them.
  std::string share_words() const;

 private:
  std::optional<int64_t> age(int64_t since_ns) const;

  TierStatus status_;
  int64_t now_ns_ = 0;
};

// One fact for a person and for a program: numbers are bare, "null" is none.
struct TierFact {
  const char* name;
  const char* label;  // null: for programs only
  std::string human;
  std::string raw;
  bool quoted = false;
};
std::vector<TierFact> tier_facts(const TierLook& look);

// An object; {"kept": false} if the segment has no room for it.
void write_tier(JsonWriter& json, const TierLook& look);

std::string_view scope_text(PolicyScope scope);
// "12.5 %" for 125000 parts in a million.
std::string percent_text(uint32_t ppm);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_TIER_VIEW_H_
