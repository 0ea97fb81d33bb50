// SPDX-License-Identifier: MIT
// What every command that changes a live segment does: attach to it, and leave a note of the change
// in the segment and on standard error. And `brim log`, which shows the notes.
#ifndef BRIM_TOOLS_AUDIT_H_
#define BRIM_TOOLS_AUDIT_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brim/limiter.h"

namespace brim::tools {

class Command;

// --owner and --group.
struct Trust {
  std::string owner;
  std::string group;
};

// A segment that a command is about to change. Each change is told to note() once it is made; a
// test holds every command against that.
class Changed {
 public:
  static absl::StatusOr<Changed> attach(const std::string& name, const Trust& trust);
  explicit Changed(Limiter limiter) : limiter_(std::move(limiter)) {}

  const Limiter& limiter() const { return limiter_; }
  const Limiter* operator->() const { return &limiter_; }

  // "brim: audit: what" on standard error, and `what` in the segment's ring, with who and when.
  void note(const std::string& what) const;
  // note() if the change was made; gives `status` back, with a policy that was probably meant.
  absl::Status note_if(const absl::Status& status, const std::string& what,
                       const std::string& policy = "") const;

 private:
  Limiter limiter_;
};

// A key as a note shows it: escaped, and short enough that what comes after it has room.
std::string noted_key(std::string_view key);

// A policy_not_found gets ", did you mean 'per_ip'?" if one of the segment's is near.
absl::Status with_near_policy(const absl::Status& status, const Limiter& limiter,
                              const std::string& policy);

void add_log_command(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_AUDIT_H_
