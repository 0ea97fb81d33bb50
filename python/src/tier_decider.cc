// SPDX-License-Identifier: MIT
#include <memory>
#include <utility>

#include "python/src/decider.h"
#include "src/tier/c_api.h"

using brim::StrictDecider;
using namespace brim::c_api;

int new_decider(brim_limiter* limiter, const brim_tier_options* options, void** decider) {
  return guarded([&] {
    brim::TierOptions asked;
    if (const int code = read_strict_options(options, asked); code < 0) return code;
    absl::StatusOr<std::shared_ptr<StrictDecider>> made =
        brim::make_strict_decider(limiter->limiter, asked);
    if (!made.ok()) return fail(made.status());
    *decider = new std::shared_ptr<StrictDecider>(*std::move(made));
    return 0;
  });
}

void free_decider(void* decider) { delete static_cast<std::shared_ptr<StrictDecider>*>(decider); }
