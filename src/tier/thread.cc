// SPDX-License-Identifier: MIT
// A TierLoop for a process that has other things to do.
#include <memory>
#include <string>
#include <utility>

#include "brim/tier.h"
#include "src/base/text.h"
#include "src/sync/loop_thread.h"

namespace brim {

class TierThread::Impl : public LoopThread<TierLoop> {};

absl::StatusOr<TierThread> TierThread::start(std::string_view segment, TierOptions options) {
  auto impl = std::make_unique<Impl>();
  options.say = impl->until_the_end(std::move(options.say));
  auto loop = TierLoop::open(segment, std::move(options));
  if (!loop.ok()) return loop.status();
  if (const std::string trouble = impl->start(*std::move(loop)); !trouble.empty()) {
    return absl::UnavailableError(cat("tier_no_thread: ", trouble));
  }
  return TierThread(std::move(impl));
}

TierThread::TierThread(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TierThread::TierThread(TierThread&&) noexcept = default;
TierThread& TierThread::operator=(TierThread&& other) noexcept {
  if (impl_ != nullptr) Impl::stop(std::move(impl_));
  impl_ = std::move(other.impl_);
  return *this;
}
TierThread::~TierThread() {
  if (impl_ != nullptr) Impl::stop(std::move(impl_));
}

}  // namespace brim
