// SPDX-License-Identifier: MIT
// Policies, overrides, operation, and what needs no segment, of the C interface.
#include <algorithm>

#include "brim/address.h"
#include "brim/policy.h"
#include "src/c_api.h"
#include "src/engine.h"
#include "src/parts.h"

using namespace brim::c_api;

namespace {

// A call on an open limiter that needs `texts`, and gives a status.
template <class Body, class... Texts>
int change(const brim_limiter* limiter, const Body& body, const Texts*... needed) noexcept {
  if (limiter == nullptr || ((needed == nullptr) || ...)) return fail(BRIM_E_INVALID);
  return guarded([&] { return result(body(limiter->limiter)); });
}

const void* key_or_empty(const void* key, size_t length) noexcept { return length == 0 ? "" : key; }

brim_rate rate_of(const brim::Rate& rate) noexcept {
  brim_rate out = {};
  out.algorithm = static_cast<uint8_t>(rate.algorithm);
  out.forward = rate.forward;
  out.first_hit = rate.first_hit;
  out.inclusive = rate.inclusive;
  out.count_denied = rate.count_denied;
  out.floor_weight = rate.floor_weight;
  out.calendar = static_cast<uint8_t>(rate.calendar);
  out.limit = rate.limit;
  out.period_ns = rate.period_ns;
  out.burst = rate.burst;
  out.debt = rate.debt;
  out.undelayed = rate.undelayed;
  out.utc_offset_s = rate.utc_offset_s;
  out.ahead_ns = rate.ahead_ns;
  return out;
}

}  // namespace

extern "C" {

const char* brim_policy_name(const brim_policy* policy) {
  return policy == nullptr ? "" : policy->handle.name().c_str();
}

int brim_policy_text(const brim_policy* policy, char* buffer, size_t size, size_t* length) {
  if (policy == nullptr) return fail(BRIM_E_INVALID);
  return guarded(
      [&] { return write_text(brim::policy_text(policy->handle.policy()), buffer, size, length); });
}

int brim_policy_scope(const brim_policy* policy) {
  if (policy == nullptr) return fail(BRIM_E_INVALID);
  const brim::NoCancel whole;
  const auto& engine = brim::internal::EngineOf::of(policy->limiter->limiter).current();
  const uint16_t number = policy->handle.number();
  brim::PolicyOptions options;
  brim::Quota quota;
  if (!read_options(engine, number, options)) return BRIM_SCOPE_NODE;
  if (options.strict) return BRIM_SCOPE_STRICT;
  return read_quota(engine.registry, number, 0, quota) && has(quota, brim::kShared)
             ? BRIM_SCOPE_CLUSTER
             : BRIM_SCOPE_NODE;
}

int brim_policy_names(const brim_limiter* limiter, int (*visit)(void* context, const char* name),
                      void* context) {
  if (limiter == nullptr || visit == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    for (const std::string& name : limiter->limiter.policy_names()) {
      if (visit(context, name.c_str()) != 0) break;
    }
    return 0;
  });
}

int brim_change(brim_limiter* limiter, const char* policy, const char* text, int on_change) {
  if (on_change < BRIM_CHANGE_KEEP || on_change > BRIM_CHANGE_PROPORTIONAL) {
    return fail(BRIM_E_INVALID, "invalid_option: on_change is none of BRIM_CHANGE_...");
  }
  return change(
      limiter,
      [&](const auto& it) {
        return it.change(policy, text, static_cast<brim::OnChange>(on_change));
      },
      policy, text);
}

int brim_set_factor(brim_limiter* limiter, const char* policy, uint32_t parts_per_million) {
  return change(
      limiter, [&](const auto& it) { return it.set_factor(policy, parts_per_million); }, policy);
}

int brim_remove_policy(brim_limiter* limiter, const char* policy) {
  return change(
      limiter, [&](const auto& it) { return it.remove_policy(policy); }, policy);
}

int brim_reset_policy(brim_limiter* limiter, const char* policy) {
  return change(
      limiter, [&](const auto& it) { return it.reset_policy(policy); }, policy);
}

int brim_set_override(brim_limiter* limiter, const char* policy, const void* key, size_t key_length,
                      const char* use) {
  const void* const bytes = key_or_empty(key, key_length);
  return change(
      limiter,
      [&](const auto& it) { return it.set_override(policy, bytes_of(bytes, key_length), use); },
      policy, static_cast<const char*>(bytes), use);
}

int brim_set_network_override(brim_limiter* limiter, const char* policy, const char* network,
                              const char* use) {
  return change(
      limiter, [&](const auto& it) { return it.set_network_override(policy, network, use); },
      policy, network, use);
}

int brim_clear_override(brim_limiter* limiter, const char* policy, const void* key,
                        size_t key_length) {
  const void* const bytes = key_or_empty(key, key_length);
  return change(
      limiter,
      [&](const auto& it) { return it.clear_override(policy, bytes_of(bytes, key_length)); },
      policy, static_cast<const char*>(bytes));
}

int brim_clear_network_override(brim_limiter* limiter, const char* policy, const char* network) {
  return change(
      limiter, [&](const auto& it) { return it.clear_network_override(policy, network); }, policy,
      network);
}

int brim_ban(brim_limiter* limiter, const char* policy, const void* key, size_t key_length,
             int64_t duration_ns) {
  const void* const bytes = key_or_empty(key, key_length);
  return change(
      limiter,
      [&](const auto& it) { return it.ban(policy, bytes_of(bytes, key_length), duration_ns); },
      policy, static_cast<const char*>(bytes));
}

int brim_ban_network(brim_limiter* limiter, const char* policy, const char* network,
                     int64_t duration_ns) {
  return change(
      limiter, [&](const auto& it) { return it.ban_network(policy, network, duration_ns); }, policy,
      network);
}

int brim_unban(brim_limiter* limiter, const char* policy, const void* key, size_t key_length) {
  const void* const bytes = key_or_empty(key, key_length);
  return change(
      limiter, [&](const auto& it) { return it.unban(policy, bytes_of(bytes, key_length)); },
      policy, static_cast<const char*>(bytes));
}

int brim_unban_network(brim_limiter* limiter, const char* policy, const char* network) {
  return change(
      limiter, [&](const auto& it) { return it.unban_network(policy, network); }, policy, network);
}

int brim_pause(brim_limiter* limiter) {
  return change(limiter, [](const auto& it) { return it.pause(); });
}

int brim_resume(brim_limiter* limiter) {
  return change(limiter, [](const auto& it) { return it.resume(); });
}

int brim_paused(const brim_limiter* limiter) {
  if (limiter == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] { return limiter->limiter.paused() ? 1 : 0; });
}

int brim_record(brim_limiter* limiter, const char* what) {
  return change(
      limiter, [&](const auto& it) { return it.record(what); }, what);
}

int brim_sweep(brim_limiter* limiter, int64_t idle_ns, uint64_t* freed) {
  if (limiter == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    const uint64_t count = limiter->limiter.sweep(idle_ns);
    if (freed != nullptr) *freed = count;
    return 0;
  });
}

int brim_parse_policy(const char* text, char* buffer, size_t size, size_t* length, brim_rate* rates,
                      size_t most, size_t* count) {
  if (text == nullptr || (rates == nullptr && most != 0) || (buffer == nullptr && size != 0)) {
    return fail(BRIM_E_INVALID);
  }
  const size_t stride = most == 0 ? sizeof(brim_rate) : rates->struct_size;
  if (stride < sizeof(brim_rate) || stride % alignof(brim_rate) != 0)
    return fail(BRIM_E_STRUCT_SIZE);
  return guarded([&] {
    const absl::StatusOr<brim::Policy> policy = brim::parse_policy(text);
    if (!policy.ok()) return fail(policy.status());
    if (count != nullptr) *count = policy->rates.size();
    for (size_t i = 0; i < std::min(most, policy->rates.size()); ++i) {
      brim_rate one = rate_of(policy->rates[i]);
      one.struct_size = static_cast<uint32_t>(stride);
      std::memcpy(reinterpret_cast<char*>(rates) + i * stride, &one, sizeof(one));
    }
    return write_text(brim::policy_text(*policy), buffer, size, length);
  });
}

int brim_address_key(const char* text, size_t text_length, int v4_prefix, int v6_prefix,
                     char* buffer, size_t size, size_t* length) {
  if (text == nullptr && text_length != 0) return fail(BRIM_E_INVALID);
  if (v4_prefix < 0 || v4_prefix > 32 || v6_prefix < 0 || v6_prefix > 128) {
    return fail(BRIM_E_INVALID, "invalid_address: a prefix is from 1 to 32, or 128 for IPv6");
  }
  brim::AddressOptions options;
  if (v4_prefix != 0) options.v4_prefix = static_cast<uint8_t>(v4_prefix);
  if (v6_prefix != 0) options.v6_prefix = static_cast<uint8_t>(v6_prefix);
  const brim::AddressKey key = brim::address_key(bytes_of(text, text_length), options);
  if (!key.ok()) return fail(BRIM_E_INVALID, "invalid_address: not an IPv4 or IPv6 address");
  return write_text(key.view(), buffer, size, length);
}

int brim_network_contains(const char* network, const char* address, size_t address_length) {
  if (network == nullptr || (address == nullptr && address_length != 0))
    return fail(BRIM_E_INVALID);
  return guarded([&] {
    const absl::StatusOr<brim::Cidr> cidr = brim::parse_cidr(network);
    if (!cidr.ok()) return fail(cidr.status());
    brim::Address read;
    if (!brim::parse_address(bytes_of(address, address_length), read)) {
      return fail(BRIM_E_INVALID, "invalid_address: not an IPv4 or IPv6 address");
    }
    return brim::contains(*cidr, read) ? 1 : 0;
  });
}

}  // extern "C"
