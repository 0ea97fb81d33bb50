// SPDX-License-Identifier: MIT
// Goal: whatever the bytes of a segment are, attaching refuses them by name or every call on it
// returns: no crash, no hang, no access outside the mapping (F05, F06, F30, P5). Method: a segment
// in use is damaged, attached read-only and for writing, and worked on; behind its end lies a page
// that nobody may touch. What calls answer is not asked, but that they do not contradict
// themselves.
// Input: the damage (segment_file.h), the time 8, then calls of 4 bytes: {what, policy, key, cost}.
#include <array>

#include "brim/cluster.h"
#include "brim/inspect.h"
#include "src/base/text.h"
#include "tests/fuzz/segment_file.h"

namespace brim::fuzz {
namespace {

constexpr int kMaxCalls = 40;

SegmentFile* file;

bool known_error(const absl::Status& status) {
  constexpr std::string_view kNames[] = {"segment_bad_magic",       "segment_version_mismatch",
                                         "segment_endian_mismatch", "segment_unknown_feature",
                                         "segment_corrupt",         "segment_size_mismatch",
                                         "segment_other_boot",      "segment_other_time_namespace"};
  const std::string_view text(status.message().data(), status.message().size());
  return std::find(std::begin(kNames), std::end(kNames), text.substr(0, text.find(':'))) !=
         std::end(kNames);
}

// A store that answers anything.
class WildDecider : public StrictDecider {
 public:
  Answer ask(const Ask& asked) noexcept override {
    require(asked.rates <= kMaxRates && asked.policy.size() < shm::kPolicyNameBytes, "a wild ask");
    state_ = state_ * 0x9e3779b97f4a7c15 + asked.cost + asked.rates;
    Answer answer;
    answer.known = state_ >> 60 != 0;
    answer.admitted = (state_ >> 59) % 2 != 0;
    answer.as_of_ns = static_cast<int64_t>(state_ >> (state_ >> 58));
    for (uint64_t& level : answer.level_units) {
      state_ = state_ * 0x9e3779b97f4a7c15 + 1;
      level = state_ >> (state_ >> 58);
    }
    return answer;
  }

 private:
  uint64_t state_ = 1;
};

const Decision& sane(const Decision& decision) {
  require(decision.verdict != Verdict::kAllowed || decision.admitted, "allowed, not admitted");
  require(decision.retry_after_ns >= 0 && decision.reset_after_ns >= 0 && decision.delay_ns >= 0,
          "a negative duration");
  require(decision.part < 8, "a part that no policy has");
  return decision;
}

void inspect(const Inspector& inspector) {
  const SegmentInfo info = inspector.info();
  for (const PolicyInfo& policy : inspector.policies()) {
    // Any bytes, like a key's: whoever shows them escapes them (target `tools`).
    require(policy.name.size() < shm::kPolicyNameBytes, "a policy's name that does not end");
  }
  inspector.counters();
  const absl::StatusOr<TierStatus> tier = ClusterView::status_of(file->path(), file->options());
  require(tier.ok() && tier->store.size() < 192 && tier->error.size() < 192, "a tier's status");
  inspector.attached();
  for (const AuditEntry& entry : inspector.audit()) {
    require(entry.what.size() <= Limiter::kMostAuditBytes, "a note that is too long");
  }
  for (const OverrideInfo& entry : inspector.overrides()) {
    require(entry.ends_in_ns >= 0 && entry.key.size() <= entry.key_length, "an override");
  }
  for (const HotSample& sample : inspector.hot_samples(0)) {
    require(sample.slot < info.slots, "a sample out of bounds");
  }
  const Occupancy count = inspector.occupancy();
  require(count.virgin + count.free + count.live + count.idle + count.tentative == info.slots,
          "occupancy is not of all slots");
  inspector.for_each_key([&](const KeyInfo& key) {
    require(key.slot < info.slots && key.name.size() <= info.name_bytes, "a key out of bounds");
    sane(key.decision);
    return true;
  });
}

// A lease as some other process may have handed it over: any numbers.
Lease foreign_lease(Input& input) {
  Lease lease;
  lease.decision.admitted = true;
  lease.expires_ns = input.take<int64_t>();
  lease.fence = input.take<uint64_t>();
  lease.holder = input.take<uint64_t>();
  lease.id = input.take<uint64_t>();
  lease.slot = input.take<uint64_t>();
  lease.place = input.take<uint32_t>();
  return lease;
}

class Worker {
 public:
  Worker(const Limiter& limiter, const Limiter& waiting, const Options& options)
      : limiter_(limiter), view_(ClusterView::attach(file->path(), options)) {
    static const auto decider = std::make_shared<WildDecider>();
    set_strict_decider(limiter, decider).IgnoreError();
    for (const std::string& name : limiter.policy_names()) {
      absl::StatusOr<PolicyHandle> handle = limiter.policy(name);
      if (handle.ok()) policies_.push_back(*std::move(handle));
      absl::StatusOr<PolicyHandle> other = waiting.policy(name);
      if (other.ok()) waiting_.push_back(*std::move(other));
    }
  }
  bool idle() const { return policies_.empty() || waiting_.size() != policies_.size(); }

  void call(Input& input) {
    const uint8_t what = input.byte();
    const PolicyHandle& policy = policies_[input.byte() % policies_.size()];
    const std::string key = cat("key-", input.byte() % 32);
    const uint8_t cost = input.byte();
    if (what % 3 != 2) {
      decide(what / 3, policy, key, cost);
    } else if (what / 3 % 12 == 0) {
      Lease lease = foreign_lease(input);
      policy.renew(lease, int64_t{cost} << 28);
      policy.release(lease);
    } else if (what / 3 >= 72) {
      share(what / 3, cost);
    } else {
      change(what / 3, policy, key, cost);
    }
  }

 private:
  void decide(unsigned what, const PolicyHandle& policy, const std::string& key, uint8_t cost) {
    const uint32_t wide = cost < 128 ? cost : uint32_t{1} << (cost - 128) % 32;
    switch (what % 12) {
      case 0:
        sane(policy.try_acquire(key, wide));
        break;
      case 1:
        sane(policy.peek(key, wide));
        break;
      case 2:
        policy.refund(key, wide);
        break;
      case 3:
        policy.reset(key);
        break;
      case 4:
        sane(policy.try_acquire(key, Request{wide, static_cast<Priority>(cost % 4)}));
        break;
      case 5:
        require(policy.try_acquire_up_to(key, 1, wide).cost <= std::max(wide, 1u), "up to");
        break;
      case 6:
        policy.commit(key, wide, cost);
        break;
      case 7: {
        const Ticket ticket = policy.reserve(key, wide, int64_t{1} << cost % 63);
        sane(ticket.decision);
        if (cost % 2 == 0) policy.cancel(key, ticket);
        break;
      }
      case 8: {
        Lease lease = policy.acquire_lease(key, int64_t{1} << cost % 63);
        sane(lease.decision);
        if (cost % 2 == 0) policy.renew(lease);
        if (cost % 4 < 3) policy.release(lease);
        break;
      }
      case 9: {
        const PolicyHandle::Ask asks[] = {{&policy, key, 1},
                                          {&policies_[cost % policies_.size()], "key-1", wide}};
        sane(PolicyHandle::try_acquire_all(asks));
        break;
      }
      case 10: {
        const std::string_view keys[] = {key, "key-0", "key-1", key, "10.1.2.3"};
        Decision out[5];
        policy.try_acquire_batch(keys, out);
        for (const Decision& decision : out) sane(decision);
        break;
      }
      default:
        // Waits on the real clock, at most 50 us: nobody turns the other one.
        sane(waiting_[static_cast<size_t>(&policy - policies_.data())].acquire(key, 50'000, wide));
        break;
    }
  }

  void change(unsigned what, const PolicyHandle& policy, const std::string& key, uint8_t cost) {
    const std::string& text = segment_policies()[cost % segment_policies().size()].text;
    switch (what % 12) {
      case 1:
        limiter_.change(policy.name(), text, static_cast<OnChange>(cost / 16 % 3)).IgnoreError();
        break;
      case 2:
        limiter_.set_factor(policy.name(), cost * 4000u).IgnoreError();
        break;
      case 3:
        limiter_.set_override(cost % 2 == 0 ? "*" : policy.name(), key, "unlimited").IgnoreError();
        break;
      case 4:
        limiter_.set_network_override(policy.name(), cat(cost, ".0.0.0/8"), "deny").IgnoreError();
        break;
      case 5:
        limiter_.clear_override(policy.name(), key).IgnoreError();
        break;
      case 6:
        limiter_.clear_network_override(policy.name(), cat(cost, ".0.0.0/8")).IgnoreError();
        break;
      case 7:
        limiter_.define(cat("new-", cost % 4), text).status().IgnoreError();
        break;
      case 8:
        policy.policy();
        break;
      case 9:
        policy.try_acquire_at(int64_t{1} << cost % 63, key);
        break;
      case 10:
        limiter_.record(text).IgnoreError();
        limiter_.ban(policy.name(), key, int64_t{1} << cost % 63).IgnoreError();
        if (cost % 3 == 0) limiter_.unban("*", key).IgnoreError();
        if (cost % 5 == 0) limiter_.reset_policy(policy.name()).IgnoreError();
        if (cost % 7 == 0) limiter_.remove_policy(policy.name()).IgnoreError();
        break;
      default:  // time passes
        file->clock_ns().fetch_add(int64_t{1} << cost % 48, std::memory_order_relaxed);
        break;
    }
  }

  // What an agent does.
  void share(unsigned what, uint8_t cost) {
    if (!view_.ok()) return;
    const uint64_t level = uint64_t{1} << cost % 64;
    switch (what % 4) {
      case 0:
        view_->set_share(cost % 16, cost * 4000u).IgnoreError();
        view_->set_hold_back(cost % 16, cost / 16, cost);
        break;
      case 1:
        view_->set_secret(std::array<uint64_t, 2>{level, cost}.data());
        break;
      case 2:
        view_->set_status(view_->status());
        view_->policies();
        break;
      default:
        view_->for_each_use(cost % 2 == 0, [&](const KeyUse& given) {
          KeyUse use = given;
          view_->raise(use, level, use.as_of_ns - static_cast<int64_t>(level >> 8));
          require(!view_->look(use) || use.id == given.id, "a look at another key");
          view_->acknowledge(use);
          if (cost % 3 == 0) view_->mark(use);
          return use.slot % 8 != 7;
        });
        break;
    }
  }

  const Limiter& limiter_;
  absl::StatusOr<ClusterView> view_;
  std::vector<PolicyHandle> policies_;
  std::vector<PolicyHandle> waiting_;
};

void work(Input& input, const Options& options) {
  const absl::StatusOr<Limiter> limiter = Limiter::attach(file->path(), options);
  const absl::StatusOr<Limiter> waiting = Limiter::attach(file->path());
  require(limiter.ok() && waiting.ok(), "a reader may attach, a writer may not");
  const auto segment = shm::Segment::attach(file->path(), {});
  require(segment.ok(), "an attached segment can not be attached");
  const Fence fence(**segment);
  Worker worker(*limiter, *waiting, options);
  for (int i = 0; i < kMaxCalls && !worker.idle() && !input.empty(); ++i) worker.call(input);
}

}  // namespace
}  // namespace brim::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  static brim::fuzz::SegmentFile made;
  brim::fuzz::file = &made;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brim;
  using namespace brim::fuzz;
  Input input(data, size);
  file->damage(input);
  const auto later = input.take<int64_t>();
  // A clock may show anything, but mostly it shows a time near the keys'.
  file->clock_ns().store(later % 2 == 0 ? later : file->made_at_ns() + later % (int64_t{1} << 45),
                         std::memory_order_relaxed);
  const Options options = file->options();
  const auto segment = shm::Segment::attach(file->path(), {.read_only = true});
  if (!segment.ok()) {
    require(known_error(segment.status()), "refused without a name",
            std::string(segment.status().message()));
    return 0;
  }
  const Fence fence(**segment);
  const absl::StatusOr<Inspector> inspector = Inspector::attach(file->path(), options);
  const absl::StatusOr<Limiter> reader = Limiter::attach_read_only(file->path(), options);
  require(inspector.ok() && reader.ok(), "attached once, refused then");
  inspect(*inspector);
  for (const std::string& name : reader->policy_names()) {
    const absl::StatusOr<PolicyHandle> policy = reader->policy(name);
    for (int i = 0; policy.ok() && i < 4; ++i) sane(policy->peek(cat("key-", i), 1));
  }
  if (input.empty()) return 0;
  work(input, options);
  inspect(*inspector);
  return 0;
}
