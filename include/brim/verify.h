// SPDX-License-Identifier: MIT
// Integrity of a live segment: walks every byte that has a rule, while traffic runs, and tells
// what breaks one. No finding is reported that was not seen again and that a race could explain.
// docs/reference/verify.md lists the findings by name.
#ifndef BRIM_VERIFY_H_
#define BRIM_VERIFY_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "brim/limiter.h"

namespace brim {

enum class Severity : uint8_t {
  kNote = 1,     // what kills, stops and time leave behind; callers deal with it
  kWarning = 2,  // probably wrong, or wrong without effect on decisions
  kError = 3,    // no interleaving of sound processes leaves this
};

struct Finding {
  static constexpr uint64_t kNoSlot = ~uint64_t{0};

  Severity severity = Severity::kNote;
  std::string_view name;    // stable, such as "duplicate"
  uint64_t slot = kNoSlot;  // position, if it is about a slot
  std::string policy;       // its name, any bytes; "#7" if there is no policy 7; empty: about none
  uint32_t part = 0;        // which rate of the policy
  uint64_t fingerprint = 0;
  bool has_key = false;  // the stored text verified
  std::string key;       // any bytes at all
  std::string value;     // what was found
  std::string_view remedy;
  bool repaired = false;
};

struct VerifyOptions {
  bool repair = false;  // attach read-write and repair what is safe to repair under traffic
  // For the comparison of copies, 16 bytes a key in use; above it the slots are read several times.
  uint64_t memory_bytes = uint64_t{256} << 20;
  Options access = {};  // group, owner_uid and the clock
};

struct VerifyReport {
  uint64_t slots = 0;
  uint64_t used = 0;       // slots that hold a key
  uint64_t tentative = 0;  // of those, insertions under way
  uint64_t checked = 0;    // of those, keys known by name, whose place was checked
  uint64_t errors = 0;     // findings
  uint64_t warnings = 0;
  uint64_t notes = 0;
  uint64_t repaired = 0;          // of all findings
  uint64_t errors_remaining = 0;  // not repaired
  uint64_t warnings_remaining = 0;
};

// Visits every finding in order. Reads only, unless options.repair.
// Errors: as Limiter::attach, when there is no segment that can be attached.
absl::StatusOr<VerifyReport> verify(std::string_view name, const VerifyOptions& options,
                                    const std::function<void(const Finding&)>& visit);

}  // namespace brim

#endif  // BRIM_VERIFY_H_
