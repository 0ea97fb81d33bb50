// SPDX-License-Identifier: MIT
// What TierOptions mean to a store.
#ifndef BRIM_SRC_TIER_OPTIONS_H_
#define BRIM_SRC_TIER_OPTIONS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "brim/tier.h"
#include "src/base/random.h"
#include "src/tier/store.h"

namespace brim::tier {

// Errors: InvalidArgument (invalid_option).
absl::Status check(const TierOptions& options);

inline int64_t exchange_timeout_ns(const TierOptions& options) {
  return options.timeout_ns == 0 ? 500000000 : options.timeout_ns;
}
inline int64_t strict_timeout_ns(const TierOptions& options) {
  return options.timeout_ns == 0 ? 50000000 : options.timeout_ns;
}

// For the node `uuid`; empty: one that tells nothing. Reads the password where options say.
// Errors: InvalidArgument (invalid_option, tier_url), PermissionDenied (tier_password).
absl::StatusOr<std::unique_ptr<Store>> open_store_of(const TierOptions& options,
                                                     std::string_view uuid);

// Looks who is there, and agrees on the secret, without staying.
absl::StatusOr<Meeting> meet_as_guest(const ClusterView& view, Store& store,
                                      const TierOptions& options, int64_t deadline_ns);

// 32 hex digits -> the key of a hash. False: it is not that.
bool parse_secret(std::string_view digits, uint64_t secret[2]);
// What this node proposes: the secret that it was given, or that its segment has, or a new one.
// False: no entropy. `View` is brim::ClusterView or tier::View.
template <class View>
bool proposed_secret(const TierOptions& options, const View& view, uint64_t secret[2]) {
  if (!options.secret.empty()) return parse_secret(options.secret, secret);
  return view.get_secret(secret) || fill_random(secret, 2 * sizeof(secret[0]));
}
uint64_t random_seed();

// Host name and segment, unless the options give another name.
std::string node_name(const TierOptions& options, std::string_view segment);
// Where the store is, without passwords.
std::string shown_store(std::string_view url);

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_OPTIONS_H_
