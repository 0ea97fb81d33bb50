// SPDX-License-Identifier: MIT
// Decisions of the C interface. As in decide.cc nothing here blocks, allocates or makes a system
// call, but for brim_acquire, which waits, and brim_acquire_lease.
#include <algorithm>
#include <array>
#include <span>

#include "src/c_api.h"

using brim::Decision;
using namespace brim::c_api;

namespace {

// See write_decision().
constexpr uint32_t kLeastDecision = offsetof(brim_decision, granted);

[[gnu::always_inline]] inline bool valid_key(const void* key, size_t length) noexcept {
  return key != nullptr || length == 0;
}

// The call can be made, and its answer be written.
[[gnu::always_inline]] inline bool valid(const brim_policy* policy, const void* key, size_t length,
                                         const brim_decision* out) noexcept {
  return policy != nullptr && valid_key(key, length) && out != nullptr &&
         out->struct_size >= kLeastDecision;
}

// `cost` if the policy took it.
[[gnu::always_inline]] inline int answer(const Decision& from, uint32_t cost,
                                         brim_decision* out) noexcept {
  write_decision(from, from.verdict == brim::Verdict::kAllowed ? cost : 0, out);
  return 0;
}

// A caller that looks at the decision alone fails open.
[[gnu::cold]] void write_unavailable(brim_decision* out) noexcept {
  if (out == nullptr || out->struct_size < kLeastDecision) return;
  Decision open;
  open.verdict = brim::Verdict::kUnavailable;
  open.admitted = true;
  write_decision(open, 0, out);
}

[[gnu::cold, gnu::noinline]] int refuse(brim_decision* out) noexcept {
  write_unavailable(out);
  return fail(out != nullptr && out->struct_size < kLeastDecision ? BRIM_E_STRUCT_SIZE
                                                                  : BRIM_E_INVALID);
}

// What gives back or settles has no decision, and no message if it found nothing to do.
[[gnu::always_inline]] inline int done(bool whole) noexcept { return whole ? 0 : BRIM_E_UNFIT; }

brim::Lease lease_from(const brim_lease& in) noexcept {
  brim::Lease lease;
  lease.decision.admitted = true;
  lease.expires_ns = in.expires_ns;
  lease.fence = in.fence;
  lease.holder = in.holder;
  lease.id = in.id;
  lease.slot = in.slot;
  lease.place = in.place;
  return lease;
}

void write_lease(const brim::Lease& from, brim_lease* out) noexcept {
  out->place = from.place;
  out->expires_ns = from.expires_ns;
  out->fence = from.fence;
  out->holder = from.holder;
  out->id = from.id;
  out->slot = from.slot;
}

}  // namespace

extern "C" {

int brim_try_acquire(const brim_policy* policy, const void* key, size_t key_length, uint32_t cost,
                     brim_decision* decision) {
  if (!valid(policy, key, key_length, decision)) [[unlikely]]
    return refuse(decision);
  return answer(policy->handle.try_acquire(bytes_of(key, key_length), cost), cost, decision);
}

int brim_try_acquire_priority(const brim_policy* policy, const void* key, size_t key_length,
                              uint32_t cost, int priority, brim_decision* decision) {
  if (!valid(policy, key, key_length, decision)) return refuse(decision);
  if (priority < BRIM_LOW || priority > BRIM_CRITICAL) {
    return refuse(decision);
  }
  const brim::Request request{cost, static_cast<brim::Priority>(priority)};
  return answer(policy->handle.try_acquire(bytes_of(key, key_length), request), cost, decision);
}

int brim_try_acquire_at(const brim_policy* policy, int64_t now_ns, const void* key,
                        size_t key_length, uint32_t cost, brim_decision* decision) {
  if (!valid(policy, key, key_length, decision)) return refuse(decision);
  return answer(policy->handle.try_acquire_at(now_ns, bytes_of(key, key_length), cost), cost,
                decision);
}

int brim_try_acquire_up_to(const brim_policy* policy, const void* key, size_t key_length,
                           uint32_t min, uint32_t max, brim_decision* decision) {
  if (!valid(policy, key, key_length, decision)) return refuse(decision);
  if (min > max) return refuse(decision);
  const brim::Granted granted =
      policy->handle.try_acquire_up_to(bytes_of(key, key_length), min, max);
  write_decision(granted.decision, granted.cost, decision);
  return 0;
}

int brim_try_acquire_batch(const brim_policy* policy, const brim_key* keys, size_t count,
                           brim_decision* decisions) {
  if (count == 0) return 0;
  if (decisions == nullptr) return fail(BRIM_E_INVALID);
  const size_t stride = decisions->struct_size;
  if (stride < kLeastDecision || stride % alignof(brim_decision) != 0)
    return fail(BRIM_E_STRUCT_SIZE);
  const auto at = [&](size_t i) {
    auto* const one =
        reinterpret_cast<brim_decision*>(reinterpret_cast<char*>(decisions) + i * stride);
    one->struct_size = static_cast<uint32_t>(stride);
    return one;
  };
  const bool whole = policy != nullptr && keys != nullptr &&
                     std::all_of(keys, keys + count,
                                 [](const auto& key) { return valid_key(key.bytes, key.length); });
  if (!whole) {
    for (size_t i = 0; i < count; ++i) write_unavailable(at(i));
    return fail(BRIM_E_INVALID);
  }
  constexpr size_t kChunk = 64;  // the keys of several of the C++ call's own
  std::array<std::string_view, kChunk> views;
  std::array<Decision, kChunk> made;
  for (size_t start = 0; start < count; start += kChunk) {
    const size_t n = std::min(kChunk, count - start);
    for (size_t i = 0; i < n; ++i) {
      views[i] = bytes_of(keys[start + i].bytes, keys[start + i].length);
    }
    policy->handle.try_acquire_batch({views.data(), n}, {made.data(), n});
    for (size_t i = 0; i < n; ++i) answer(made[i], 1, at(start + i));
  }
  return 0;
}

int brim_try_acquire_all(const brim_ask* asks, size_t count, brim_decision* decision) {
  if (asks == nullptr || decision == nullptr || decision->struct_size < kLeastDecision) {
    return refuse(decision);
  }
  if (count == 0 || count > BRIM_MAX_ASKS) return refuse(decision);
  std::array<brim::PolicyHandle::Ask, BRIM_MAX_ASKS> all;
  uint32_t cost = 0;
  for (size_t i = 0; i < count; ++i) {
    const brim_ask& ask = asks[i];
    if (!valid(ask.policy, ask.key.bytes, ask.key.length, decision)) return refuse(decision);
    if (ask.policy->limiter != asks[0].policy->limiter) {
      return refuse(decision);
    }
    all[i] = {&ask.policy->handle, bytes_of(ask.key.bytes, ask.key.length), ask.cost};
    if (__builtin_add_overflow(cost, ask.cost, &cost)) cost = UINT32_MAX;
  }
  return answer(brim::PolicyHandle::try_acquire_all({all.data(), count}), cost, decision);
}

int brim_peek(const brim_policy* policy, const void* key, size_t key_length, uint32_t cost,
              brim_decision* decision) {
  if (!valid(policy, key, key_length, decision)) return refuse(decision);
  return answer(policy->handle.peek(bytes_of(key, key_length), cost), 0, decision);
}

int brim_acquire(const brim_policy* policy, const void* key, size_t key_length, uint32_t cost,
                 int64_t timeout_ns, brim_decision* decision) {
  if (!valid(policy, key, key_length, decision)) return refuse(decision);
  const brim::NoCancel whole;
  return answer(policy->handle.acquire(bytes_of(key, key_length), timeout_ns, cost), cost,
                decision);
}

int brim_reserve(const brim_policy* policy, const void* key, size_t key_length, uint32_t cost,
                 int64_t max_delay_ns, brim_ticket* ticket, brim_decision* decision) {
  if (ticket == nullptr || !valid(policy, key, key_length, decision)) return refuse(decision);
  if (!has_size(*ticket)) {
    write_unavailable(decision);
    return fail(BRIM_E_STRUCT_SIZE);
  }
  const brim::Ticket booked = policy->handle.reserve(bytes_of(key, key_length), cost, max_delay_ns);
  ticket->cost = booked ? booked.cost : 0;
  ticket->end = booked ? booked.end : 0;
  return answer(booked.decision, cost, decision);
}

int brim_cancel(const brim_policy* policy, const void* key, size_t key_length,
                const brim_ticket* ticket) {
  if (policy == nullptr || ticket == nullptr || !valid_key(key, key_length)) {
    return fail(BRIM_E_INVALID);
  }
  brim_ticket read;
  if (!read_struct(*ticket, read)) return fail(BRIM_E_STRUCT_SIZE);
  brim::Ticket booked;
  booked.decision.admitted = true;
  booked.cost = read.cost;
  booked.end = read.end;
  return done(policy->handle.cancel(bytes_of(key, key_length), booked));
}

int brim_commit(const brim_policy* policy, const void* key, size_t key_length, uint32_t held,
                uint32_t actual) {
  if (policy == nullptr || !valid_key(key, key_length)) return fail(BRIM_E_INVALID);
  return done(policy->handle.commit(bytes_of(key, key_length), held, actual));
}

int brim_refund(const brim_policy* policy, const void* key, size_t key_length, uint32_t cost) {
  if (policy == nullptr || !valid_key(key, key_length)) return fail(BRIM_E_INVALID);
  return done(policy->handle.refund(bytes_of(key, key_length), cost));
}

int brim_reset(const brim_policy* policy, const void* key, size_t key_length) {
  if (policy == nullptr || !valid_key(key, key_length)) return fail(BRIM_E_INVALID);
  return done(policy->handle.reset(bytes_of(key, key_length)));
}

int brim_acquire_lease(const brim_policy* policy, const void* key, size_t key_length,
                       int64_t ttl_ns, brim_lease* lease, brim_decision* decision) {
  if (lease == nullptr || !valid(policy, key, key_length, decision)) return refuse(decision);
  if (!has_size(*lease)) {
    write_unavailable(decision);
    return fail(BRIM_E_STRUCT_SIZE);
  }
  const brim::NoCancel whole;
  const brim::Lease made = policy->handle.acquire_lease(bytes_of(key, key_length), ttl_ns);
  if (made) write_lease(made, lease);
  return answer(made.decision, 1, decision);
}

int brim_renew(const brim_policy* policy, brim_lease* lease, int64_t ttl_ns) {
  if (policy == nullptr || lease == nullptr) return fail(BRIM_E_INVALID);
  brim_lease read;
  if (!read_struct(*lease, read)) return fail(BRIM_E_STRUCT_SIZE);
  brim::Lease renewed = lease_from(read);
  const brim::NoCancel whole;
  if (!policy->handle.renew(renewed, ttl_ns)) return BRIM_E_UNFIT;
  write_lease(renewed, lease);
  return 0;
}

int brim_release(const brim_policy* policy, const brim_lease* lease) {
  if (policy == nullptr || lease == nullptr) return fail(BRIM_E_INVALID);
  brim_lease read;
  if (!read_struct(*lease, read)) return fail(BRIM_E_STRUCT_SIZE);
  const brim::NoCancel whole;
  return done(policy->handle.release(lease_from(read)));
}

}  // extern "C"
