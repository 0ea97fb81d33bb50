// SPDX-License-Identifier: MIT
#include "python/src/decider.h"

#include <memory>
#include <utility>

#include "brim/cluster.h"
#include "src/c_api.h"

namespace {

class WithoutGil final : public brim::StrictDecider {
 public:
  explicit WithoutGil(std::shared_ptr<brim::StrictDecider> inner) : inner_(std::move(inner)) {}
  Answer ask(const Ask& ask) noexcept override {
    give_up_gil();
    return inner_->ask(ask);
  }

 private:
  std::shared_ptr<brim::StrictDecider> inner_;
};

}  // namespace

int use_decider(brim_limiter* limiter, const void* decider) {
  return brim::c_api::guarded([&] {
    const auto& inner = *static_cast<const std::shared_ptr<brim::StrictDecider>*>(decider);
    return brim::c_api::result(
        brim::set_strict_decider(limiter->limiter, std::make_shared<WithoutGil>(inner)));
  });
}
