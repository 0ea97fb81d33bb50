// SPDX-License-Identifier: MIT
// Integrity, resize, and policies as files and reports, for C.
#include "brim/brim_inspect.h"
#include "brim/policy_file.h"
#include "brim/policy_report.h"
#include "brim/resize.h"
#include "brim/verify.h"
#include "src/c_api.h"
#include "src/c_api_options.h"

using namespace brim::c_api;

namespace {

brim_finding finding_of(const brim::Finding& from, std::string_view name,
                        std::string_view remedy) noexcept {
  brim_finding out = {};
  out.struct_size = sizeof(out);
  out.severity = static_cast<uint8_t>(from.severity);
  out.part = static_cast<uint8_t>(from.part);
  out.repaired = from.repaired ? 1 : 0;
  out.slot = from.slot;
  out.fingerprint = from.fingerprint;
  out.name = name.data();
  out.policy = from.policy.c_str();
  out.value = from.value.c_str();
  out.remedy = remedy.data();
  out.key = from.has_key ? from.key.data() : nullptr;
  out.key_size = from.has_key ? from.key.size() : 0;
  return out;
}

void write_report(const brim::VerifyReport& from, brim_verify_report* out) noexcept {
  if (out == nullptr) return;
  out->slots = from.slots;
  out->used = from.used;
  out->tentative = from.tentative;
  out->checked = from.checked;
  out->errors = from.errors;
  out->warnings = from.warnings;
  out->notes = from.notes;
  out->repaired = from.repaired;
  out->errors_remaining = from.errors_remaining;
  out->warnings_remaining = from.warnings_remaining;
}

void write_report(const brim::ResizeReport& from, brim_resize_report* out) noexcept {
  if (out == nullptr) return;
  out->finished_earlier = from.finished_earlier ? 1 : 0;
  out->keys = from.keys;
  out->slots_before = from.slots_before;
  out->slots_after = from.slots_after;
  out->generation = from.generation;
  out->evicted = from.evicted;
  out->moving_ns = from.moving_ns;
}

brim_options options_of(const brim::Options& from) noexcept {
  brim_options out = {};
  out.struct_size = sizeof(out);
  out.name_bytes = from.name_bytes;
  out.capacity = from.capacity;
  out.max_policies = from.max_policies;
  out.cells_per_key = from.cells_per_key;
  out.overrides = from.overrides;
  out.probe_limit = from.probe_limit;
  out.hash = static_cast<uint8_t>(from.hash);
  out.on_full = static_cast<uint8_t>(from.on_full);
  out.mode = from.mode;
  out.huge_pages = from.huge_pages ? 1 : 0;
  out.group = from.group.empty() ? nullptr : from.group.c_str();
  out.cluster = from.cluster ? 1 : 0;
  return out;
}

int visit_file(const absl::StatusOr<brim::PolicyFile>& file, const brim_policy_file_visits& visits,
               void* context) {
  if (!file.ok()) return fail(file.status());
  if (visits.on_options != nullptr) {
    const brim_options options = options_of(file->segment);
    if (visits.on_options(context, &options) != 0) return 0;
  }
  for (size_t i = 0; visits.on_policy != nullptr && i < file->policies.size(); ++i) {
    brim_file_policy out = {};
    out.struct_size = sizeof(out);
    out.line = file->lines[i];
    out.name = file->policies[i].name.c_str();
    out.text = file->policies[i].text.c_str();
    if (visits.on_policy(context, &out) != 0) return 0;
  }
  for (size_t i = 0; visits.on_override != nullptr && i < file->overrides.size(); ++i) {
    const brim::FileOverride& from = file->overrides[i];
    brim_file_override out = {};
    out.struct_size = sizeof(out);
    out.line = from.line;
    out.policy = from.policy.empty() ? "*" : from.policy.c_str();
    out.use = from.use.c_str();
    out.match = from.match.c_str();
    out.match_size = from.match.size();
    out.network = from.network ? 1 : 0;
    if (visits.on_override(context, &out) != 0) return 0;
  }
  return 0;
}

}  // namespace

extern "C" {

int brim_verify(const char* name, const brim_verify_options* options,
                int (*visit)(void* context, const brim_finding* finding), void* context,
                brim_verify_report* report) {
  if (name == nullptr) return fail(BRIM_E_INVALID);
  brim_verify_options read = {};
  if ((options != nullptr && !read_struct(*options, read)) || !fits(report)) {
    return fail(BRIM_E_STRUCT_SIZE);
  }
  return guarded([&] {
    brim::VerifyOptions asked;
    brim_options attach = {};
    if (const int code = read_options(read.attach, asked.access, attach); code < 0) return code;
    asked.repair = read.repair != 0;
    if (read.memory_bytes != 0) asked.memory_bytes = read.memory_bytes;
    bool going = visit != nullptr;
    const absl::StatusOr<brim::VerifyReport> done =
        brim::verify(name, asked, [&](const brim::Finding& each) {
          if (!going) return;
          const std::string word(each.name);
          const std::string remedy(each.remedy);
          const brim_finding made = finding_of(each, word, remedy);
          going = visit(context, &made) == 0;
        });
    if (!done.ok()) return fail(done.status());
    write_report(*done, report);
    return 0;
  });
}

int brim_resize(const char* name, const brim_resize_options* options, brim_resize_report* report) {
  if (name == nullptr || options == nullptr) return fail(BRIM_E_INVALID);
  brim_resize_options read;
  if (!read_struct(*options, read, offsetof(brim_resize_options, cluster)) || !fits(report)) {
    return fail(BRIM_E_STRUCT_SIZE);
  }
  if (read.reserved != 0) return fail(BRIM_E_INVALID);
  return guarded([&] {
    brim::Options access;
    brim_options attach = {};
    if (const int code = read_options(read.attach, access, attach); code < 0) return code;
    brim::ResizeOptions asked;
    asked.capacity = read.capacity;
    asked.name_bytes = read.name_bytes;
    asked.max_policies = read.max_policies;
    asked.cells_per_key = read.cells_per_key;
    asked.overrides = read.overrides;
    asked.probe_limit = read.probe_limit;
    asked.cluster = read.cluster != 0;
    if (read.progress != nullptr) {
      asked.progress = [&](const brim::ResizeProgress& from) {
        brim_resize_progress out = {};
        out.struct_size = sizeof(out);
        out.slots_done = from.slots_done;
        out.slots_total = from.slots_total;
        out.keys = from.keys;
        read.progress(read.context, &out);
      };
    }
    const absl::StatusOr<brim::ResizeReport> done = brim::resize(name, asked, access);
    if (!done.ok()) return fail(done.status());
    write_report(*done, report);
    return 0;
  });
}

int brim_report_policy(const char* text, uint32_t name_bytes,
                       int (*on_rate)(void* context, const brim_rate_report* rate),
                       int (*on_finding)(void* context, const brim_policy_finding* finding),
                       void* context, uint64_t* bytes_per_key) {
  if (text == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    const absl::StatusOr<brim::Policy> policy = brim::parse_policy(text);
    if (!policy.ok()) return fail(policy.status());
    const brim::PolicyReport report = brim::report_policy(*policy, name_bytes);
    if (bytes_per_key != nullptr) *bytes_per_key = report.bytes_per_key;
    for (size_t i = 0; on_rate != nullptr && i < report.rates.size(); ++i) {
      const brim::RateReport& from = report.rates[i];
      brim_rate_report out = {};
      out.struct_size = sizeof(out);
      out.any_cost = from.any_cost ? 1 : 0;
      out.text = from.text.c_str();
      out.period = from.period.c_str();
      out.period_ns = from.period_ns;
      out.bytes_per_key = from.bytes_per_key;
      out.admitted = from.admitted;
      out.started = from.started;
      out.by_policy = from.by_policy;
      out.at_once = from.at_once;
      if (on_rate(context, &out) != 0) return 0;
    }
    for (size_t i = 0; on_finding != nullptr && i < report.findings.size(); ++i) {
      const brim::PolicyFinding& from = report.findings[i];
      const std::string name(from.name);
      brim_policy_finding out = {};
      out.struct_size = sizeof(out);
      out.warning = from.warning ? 1 : 0;
      out.name = name.c_str();
      out.what = from.what.c_str();
      if (on_finding(context, &out) != 0) return 0;
    }
    return 0;
  });
}

int brim_read_policy_file(const char* path, const brim_policy_file_visits* visits, void* context) {
  if (path == nullptr || visits == nullptr) return fail(BRIM_E_INVALID);
  brim_policy_file_visits read;
  if (!read_struct(*visits, read)) return fail(BRIM_E_STRUCT_SIZE);
  return guarded([&] { return visit_file(brim::read_policy_file(path), read, context); });
}

int brim_parse_policy_file(const char* text, size_t text_length, const char* name,
                           const brim_policy_file_visits* visits, void* context) {
  if ((text == nullptr && text_length != 0) || name == nullptr || visits == nullptr) {
    return fail(BRIM_E_INVALID);
  }
  brim_policy_file_visits read;
  if (!read_struct(*visits, read)) return fail(BRIM_E_STRUCT_SIZE);
  return guarded([&] {
    return visit_file(brim::parse_policy_file(bytes_of(text, text_length), name), read, context);
  });
}

}  // extern "C"
