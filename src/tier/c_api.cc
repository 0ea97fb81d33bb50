// SPDX-License-Identifier: MIT
// The tier for C. As src/snapshot/c_api.cc it reads the C++ limiter inside of a handle.
#include "src/tier/c_api.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "src/c_api_options.h"

using namespace brim::c_api;

struct brim_tier_thread {
  brim::TierThread thread;
};

namespace {

void take_text(const char* from, std::string& to) {
  if (from != nullptr) to = from;
}

int read_tier_options(const brim_tier_options* in, brim::TierOptions& out) {
  if (in == nullptr) return fail(BRIM_E_INVALID);
  brim_tier_options read;
  if (!read_struct(*in, read)) return fail(BRIM_E_STRUCT_SIZE);
  if (read.url == nullptr || (read.reserved[0] | read.reserved[1]) != 0 || read.reserved2 != 0) {
    return fail(BRIM_E_INVALID);
  }
  brim_options attach = {};
  if (const int code = read_options(read.attach, out.attach, attach); code < 0) return code;
  out.url = read.url;
  take_text(read.user, out.user);
  take_text(read.password, out.password);
  take_text(read.ca_file, out.ca_file);
  take_text(read.cert_file, out.cert_file);
  take_text(read.key_file, out.key_file);
  take_text(read.prefix, out.prefix);
  take_text(read.secret, out.secret);
  take_text(read.node_name, out.node_name);
  out.insecure = read.insecure != 0;
  out.texts = read.texts != 0;
  if (read.interval_ns != 0) out.interval_ns = read.interval_ns;
  if (read.timeout_ns != 0) out.timeout_ns = read.timeout_ns;
  if (read.hold_ns != 0) out.hold_ns = read.hold_ns;
  if (read.forget_ns != 0) out.forget_ns = read.forget_ns;
  out.share_ppm = read.share_ppm;
  if (read.say != nullptr) {
    out.say = [say = read.say, context = read.say_context](int level, const std::string& what) {
      say(context, level, what.c_str());
    };
  }
  return 0;
}

template <size_t kSize>
void copy_text(std::string_view from, char (&to)[kSize]) noexcept {
  const size_t fits = std::min(from.size(), kSize - 1);
  std::memcpy(to, from.data(), fits);
  to[fits] = '\0';
}

void write_status(const brim::TierStatus& from, brim_tier_report* out) noexcept {
  out->kept = from.kept ? 1 : 0;
  out->up = from.up ? 1 : 0;
  out->agent_pid = from.agent_pid;
  out->alive_ns = from.alive_ns;
  out->exchanged_ns = from.exchanged_ns;
  out->down_since_ns = from.down_since_ns;
  out->lag_ns = from.lag_ns;
  out->round_trip_ns = from.round_trip_ns;
  out->nodes = from.nodes;
  out->calls = from.calls;
  out->pushes = from.pushes;
  out->errors = from.errors;
  out->unknown = from.unknown;
  out->healed = from.healed;
  out->overshoot_permits = from.overshoot_permits;
  out->keys_near = from.keys_near;
  out->strict_calls = from.strict_calls;
  out->strict_errors = from.strict_errors;
  out->share_ppm = from.share_ppm;
  copy_text(from.store, out->store);
  copy_text(from.error, out->error);
}

}  // namespace

int brim::c_api::read_strict_options(const brim_tier_options* in, TierOptions& out) {
  out.timeout_ns = 0;
  return read_tier_options(in, out);
}

extern "C" {

int brim_tier_thread_start(const char* segment, const brim_tier_options* options,
                           brim_tier_thread** thread) {
  if (segment == nullptr || thread == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    brim::TierOptions asked;
    if (const int code = read_tier_options(options, asked); code < 0) return code;
    absl::StatusOr<brim::TierThread> started = brim::TierThread::start(segment, std::move(asked));
    if (!started.ok()) return fail(started.status());
    *thread = std::make_unique<brim_tier_thread>(brim_tier_thread{*std::move(started)}).release();
    return 0;
  });
}

void brim_tier_thread_stop(brim_tier_thread* thread) {
  const brim::NoCancel whole;
  const std::unique_ptr<brim_tier_thread> owned(thread);
}

int brim_tier_answer_strict(brim_limiter* limiter, const brim_tier_options* options) {
  if (limiter == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    brim::TierOptions asked;
    if (const int code = read_strict_options(options, asked); code < 0) return code;
    return result(brim::answer_strict(limiter->limiter, asked));
  });
}

int brim_tier_status(const char* segment, const brim_options* attach, brim_tier_report* report) {
  if (segment == nullptr || report == nullptr) return fail(BRIM_E_INVALID);
  if (!has_size(*report)) return fail(BRIM_E_STRUCT_SIZE);
  return guarded([&] {
    brim::Options access;
    brim_options read = {};
    if (const int code = read_options(attach, access, read); code < 0) return code;
    const absl::StatusOr<brim::TierStatus> status = brim::ClusterView::status_of(segment, access);
    if (!status.ok()) return fail(status.status());
    write_status(*status, report);
    return 0;
  });
}

int brim_tier_nodes(const char* segment, const brim_tier_options* options,
                    int (*visit)(void* context, const brim_tier_node* node), void* context) {
  if (segment == nullptr || visit == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    brim::TierOptions asked;
    if (const int code = read_tier_options(options, asked); code < 0) return code;
    const auto nodes = brim::tier_nodes(segment, asked);
    if (!nodes.ok()) return fail(nodes.status());
    for (const brim::TierNode& from : *nodes) {
      brim_tier_node out = {};
      out.struct_size = sizeof(out);
      out.self = from.self ? 1 : 0;
      out.uuid = from.uuid.c_str();
      out.name = from.name.c_str();
      out.seen_ago_ns = from.seen_ago_ns;
      if (visit(context, &out) != 0) break;
    }
    return 0;
  });
}

int brim_tier_remove_node(const brim_tier_options* options, const char* uuid) {
  if (uuid == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    brim::TierOptions asked;
    if (const int code = read_tier_options(options, asked); code < 0) return code;
    return result(brim::remove_tier_node(asked, uuid));
  });
}

}  // extern "C"
