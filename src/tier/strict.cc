// SPDX-License-Identifier: MIT
// Policies `scope cluster strict`: the store decides, on the request path.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "brim/tier.h"
#include "src/base/text.h"
#include "src/tier/breaker.h"
#include "src/tier/c_api.h"
#include "src/tier/options.h"
#include "src/tier/store.h"
#include "src/tier/wait.h"

namespace brim {

namespace {

constexpr int kMostStores = 64;  // connections of a process
constexpr int kErrorsInARow = 5;

// The stores of one process: each is used by one thread at a time.
class StorePool {
 public:
  StorePool(const TierOptions& options, std::string node)
      : options_(options), node_(std::move(node)), pid_(getpid()) {}

  pid_t pid() const { return pid_; }

  // Null: the store is not to be asked now, or all are in use until the deadline.
  std::unique_ptr<tier::Store> take(int64_t deadline_ns) {
    std::unique_lock<std::mutex> hold(mutex_);
    const int64_t now = tier::monotonic_ns();
    if (!breaker_.may(now)) return nullptr;
    const auto wait = std::chrono::nanoseconds(std::max<int64_t>(deadline_ns - now, 0));
    if (!returned_.wait_for(hold, wait, [this] { return !idle_.empty() || made_ < kMostStores; })) {
      return nullptr;
    }
    if (!idle_.empty()) {
      auto store = std::move(idle_.back());
      idle_.pop_back();
      return store;
    }
    ++made_;
    hold.unlock();
    auto store = tier::open_store_of(options_, node_);
    if (store.ok()) return *std::move(store);
    hold.lock();
    --made_;
    return nullptr;
  }

  void give_back(std::unique_ptr<tier::Store> store, bool good) {
    {
      const std::lock_guard<std::mutex> hold(mutex_);
      good ? breaker_.good() : breaker_.bad(tier::monotonic_ns());
      idle_.push_back(std::move(store));
    }
    returned_.notify_one();
  }

 private:
  TierOptions options_;
  std::string node_;
  pid_t pid_;
  std::mutex mutex_;  // never held while a store is asked
  std::condition_variable returned_;
  tier::Breaker breaker_{kErrorsInARow, tier::kLongestPause, tier::random_seed()};
  std::vector<std::unique_ptr<tier::Store>> idle_;
  int made_ = 0;
};

class Decider final : public StrictDecider {
 public:
  Decider(TierOptions options, std::string segment, std::string node)
      : options_(std::move(options)), segment_(std::move(segment)), node_(std::move(node)) {}

  Answer ask(const Ask& ask) noexcept override {
    try {
      return ask_store(ask);
    } catch (...) {  // no memory, or no more threads may wait
      return {};
    }
  }

  bool agree() noexcept override {
    try {
      return agree_with_store();
    } catch (...) {
      return false;
    }
  }

 private:
  // Of this process. A child leaves its parent's alone, locked or not, and so do its sockets: what
  // a TLS connection says at its end would be said in the parent's name.
  StorePool& pool() {
    StorePool* found = pool_.load(std::memory_order_acquire);
    while (found == nullptr || found->pid() != getpid()) {
      auto fresh = std::make_unique<StorePool>(options_, node_);
      if (pool_.compare_exchange_strong(found, fresh.get(), std::memory_order_acq_rel)) {
        return *fresh.release();
      }
    }
    return *found;
  }

  static tier::RateUse rate_of(const Ask& ask, uint32_t part, uint32_t nonce) {
    tier::RateUse rate;
    rate.part = part;
    rate.terms = ask.terms[part];
    if (ask.cost != 0) {
      rate.floor_units = ask.owed_units[part];
      return rate;
    }
    // A count of its own, told once: it goes from `given_back` to 0, or from 0 to `charged`.
    rate.nonce = nonce;
    rate.total = ask.charged;
    rate.acked_total = ask.given_back;
    rate.floor_units = ask.given_back != 0 ? 0 : ask.owed_units[part];
    return rate;
  }

  Answer ask_store(const Ask& ask) {
    Answer answer;
    answer.as_of_ns = tier::monotonic_ns();
    const int64_t deadline = answer.as_of_ns + tier::strict_timeout_ns(options_);
    StorePool& stores = pool();
    auto store = stores.take(deadline);
    if (store == nullptr) return answer;
    uint32_t nonce = 0;
    if (ask.cost == 0) {
      fill_random(&nonce, sizeof(nonce));
      nonce = (nonce & 0xffffff) | 1;
    }
    tier::RateUse rates[kMaxRates];
    const size_t count = std::min(ask.rates, kMaxRates);
    for (uint32_t part = 0; part < count; ++part) rates[part] = rate_of(ask, part, nonce);
    const tier::Push push{.policy = ask.policy,
                          .identity = ask.identity,
                          .text = options_.texts ? ask.key : std::string_view(),
                          .rates = {rates, count},
                          .cost = ask.cost};
    tier::PushAnswer reply;
    store->exchange({&push, 1}, {&reply, 1}, deadline);
    answer.known = reply.status.ok() && reply.levels.size() == count;
    answer.admitted = reply.admitted;
    std::copy_n(reply.levels.begin(), answer.known ? count : 0, answer.level_units);
    stores.give_back(std::move(store), answer.known);
    return answer;
  }

  // As an agent does at its start; there may be none on this node.
  bool agree_with_store() {
    const int64_t deadline = tier::monotonic_ns() + tier::strict_timeout_ns(options_);
    StorePool& stores = pool();
    auto store = stores.take(deadline);
    if (store == nullptr) return false;
    auto view = ClusterView::attach(segment_, options_.attach);
    const absl::StatusOr<tier::Meeting> met =
        view.ok() ? tier::meet_as_guest(*view, *store, options_, deadline) : view.status();
    stores.give_back(std::move(store), met.ok());
    if (met.ok()) view->set_secret(met->secret);
    return met.ok();
  }

  TierOptions options_;
  std::string segment_;
  std::string node_;
  std::atomic<StorePool*> pool_{nullptr};  // never freed: a call may be in it
};

}  // namespace

absl::StatusOr<std::shared_ptr<StrictDecider>> make_strict_decider(const Limiter& limiter,
                                                                   const TierOptions& options) {
  if (absl::Status status = tier::check(options); !status.ok()) return status;
  const auto view = ClusterView::attach(limiter.name(), options.attach);
  if (!view.ok()) return view.status();
  const std::string node = view->node();
  if (auto store = tier::open_store_of(options, node); !store.ok()) return store.status();
  return std::make_shared<Decider>(options, limiter.name(), node);
}

absl::Status answer_strict(const Limiter& limiter, const TierOptions& options) {
  auto decider = make_strict_decider(limiter, options);
  if (!decider.ok()) return decider.status();
  return set_strict_decider(limiter, *std::move(decider));
}

}  // namespace brim
