// SPDX-License-Identifier: MIT
// Snapshots for C. Of a handle it reads the C++ limiter inside, and so belongs to the libbrim.so of
// its own release; the version of the C++ symbols that it needs sees to that.
#include "src/c_api.h"

#include <memory>
#include <string>

#include "brim/brim_snapshot.h"
#include "brim/snapshot.h"
#include "src/c_api_options.h"

using namespace brim::c_api;

struct brim_snapshot_thread {
  std::unique_ptr<brim::SnapshotThread> thread;
};

namespace {

using Say = void (*)(void* context, int level, const char* what);

constexpr int kWarning = 4;

int read_snapshot_options(const brim_snapshot_options* in, brim::SnapshotLoopOptions& out) {
  if (in == nullptr) return fail(BRIM_E_INVALID);
  brim_snapshot_options read;
  if (!read_struct(*in, read)) return fail(BRIM_E_STRUCT_SIZE);
  if (read.file == nullptr || read.synchronous > BRIM_SYNC_OFF) return fail(BRIM_E_INVALID);
  brim_options attach = {};
  if (const int code = read_options(read.attach, out.snapshot.attach, attach); code < 0) {
    return code;
  }
  out.snapshot.file = read.file;
  out.snapshot.synchronous = static_cast<brim::Synchronous>(read.synchronous);
  out.snapshot.keep = read.keep;
  if (read.busy_timeout_ns != 0) out.snapshot.busy_timeout_ns = read.busy_timeout_ns;
  if (read.interval_ns != 0) out.interval_ns = read.interval_ns;
  out.sweep_idle_ns = read.sweep_idle_ns;
  out.restore = read.restore != 0;
  if (read.say != nullptr) {
    out.say = [say = read.say, context = read.say_context](int level, const std::string& what) {
      say(context, level, what.c_str());
    };
  }
  return 0;
}

void write_report(const brim::RestoreReport& from, brim_restore_report* out) noexcept {
  if (out == nullptr) return;
  out->clock_behind = from.clock_behind ? 1 : 0;
  out->generation = from.generation;
  out->elapsed_ns = from.elapsed_ns;
  out->merged = from.merged;
  out->idle = from.idle;
  out->no_policy = from.no_policy;
  out->no_key = from.no_key;
  out->unfit = from.unfit;
  out->failed = from.failed;
  out->overrides = from.overrides;
  out->overrides_lost = from.overrides_lost;
}

// What comes before the keys; false ends the visit.
bool visit_head(const brim::SnapshotFile& file, const brim_snapshot_visits& visits, void* context) {
  if (visits.on_file != nullptr) {
    brim_snapshot_file out = {};
    out.struct_size = sizeof(out);
    out.layout_version = file.segment.layout_version;
    out.segment = file.segment.name.c_str();
    out.uuid = file.segment.uuid.c_str();
    out.generation = file.generation;
    out.rows = file.rows;
    out.wall_ns = file.wall_ns;
    out.capacity = file.segment.options.capacity;
    if (visits.on_file(context, &out) != 0) return false;
  }
  for (size_t i = 0; visits.on_policy != nullptr && i < file.policies.size(); ++i) {
    const brim::PolicyState& from = file.policies[i];
    brim_policy_state out = {};
    out.struct_size = sizeof(out);
    out.number = from.number;
    out.name = from.name.c_str();
    out.text = from.text.c_str();
    out.factor_ppm = from.factor_ppm;
    if (visits.on_policy(context, &out) != 0) return false;
  }
  for (size_t i = 0; visits.on_override != nullptr && i < file.overrides.size(); ++i) {
    const brim::OverrideState& from = file.overrides[i];
    brim_override_state out = {};
    out.struct_size = sizeof(out);
    out.ban = from.ban ? 1 : 0;
    out.policy = from.policy.c_str();
    out.use = from.use.c_str();
    out.key = from.key_length == 0 ? nullptr : from.key.data();
    out.key_size = from.key_length == 0 ? 0 : from.key.size();
    out.key_length = from.key_length;
    out.ends_in_ns = from.ends_in_ns;
    if (visits.on_override(context, &out) != 0) return false;
  }
  return true;
}

brim_key_state key_of(const brim::KeyState& from) noexcept {
  brim_key_state out = {};
  out.struct_size = sizeof(out);
  out.policy = from.policy;
  out.part = static_cast<uint8_t>(from.part);
  out.kind = static_cast<uint8_t>(from.kind);
  out.barred = from.barred ? 1 : 0;
  out.slot = from.slot;
  out.fingerprint = from.fingerprint;
  out.key = from.has_key ? from.key.data() : nullptr;
  out.key_size = from.has_key ? from.key.size() : 0;
  out.key_length = from.key_length;
  out.used = from.used;
  out.before = from.before;
  out.until_ns = from.until_ns;
  out.as_of_ns = from.as_of_ns;
  out.left_ns = from.left_ns.data();
  out.left_count = from.left_ns.size();
  return out;
}

}  // namespace

extern "C" {

int brim_snapshot_once(const char* segment, const brim_snapshot_options* options,
                       brim_snapshot_report* report) {
  if (segment == nullptr) return fail(BRIM_E_INVALID);
  if (!fits(report)) return fail(BRIM_E_STRUCT_SIZE);
  return guarded([&] {
    brim::SnapshotLoopOptions asked;
    if (const int code = read_snapshot_options(options, asked); code < 0) return code;
    auto snapshotter = brim::Snapshotter::open(segment, asked.snapshot);
    if (!snapshotter.ok()) return fail(snapshotter.status());
    const absl::StatusOr<brim::SnapshotReport> taken = snapshotter->take();
    if (asked.say && !snapshotter->set_aside().empty()) {
      asked.say(kWarning, snapshotter->set_aside());
    }
    if (!taken.ok()) return fail(taken.status());
    if (report == nullptr) return 0;
    report->full = taken->full ? 1 : 0;
    report->generation = taken->generation;
    report->written = taken->written;
    report->removed = taken->removed;
    report->rows = taken->rows;
    report->restored = snapshotter->restored();
    report->duration_ns = taken->duration_ns;
    return 0;
  });
}

int brim_snapshot_start(const char* segment, const brim_snapshot_options* options,
                        brim_snapshot_thread** thread) {
  if (segment == nullptr || thread == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    brim::SnapshotLoopOptions asked;
    if (const int code = read_snapshot_options(options, asked); code < 0) return code;
    auto started = std::make_unique<brim_snapshot_thread>();
    started->thread = std::make_unique<brim::SnapshotThread>(segment, std::move(asked));
    *thread = started.release();
    return 0;
  });
}

void brim_snapshot_stop(brim_snapshot_thread* thread) {
  const brim::NoCancel whole;
  const std::unique_ptr<brim_snapshot_thread> owned(thread);
}

int brim_restore(brim_limiter* limiter, const char* file, brim_restore_report* report) {
  if (limiter == nullptr || file == nullptr) return fail(BRIM_E_INVALID);
  if (!fits(report)) return fail(BRIM_E_STRUCT_SIZE);
  return guarded([&] {
    const absl::StatusOr<brim::RestoreReport> done = brim::restore(limiter->limiter, file);
    if (!done.ok()) return fail(done.status());
    write_report(*done, report);
    return 0;
  });
}

int brim_open_restored(const char* name, const brim_options* options, const char* file, Say say,
                       void* context, brim_limiter** limiter) {
  if (name == nullptr || file == nullptr || limiter == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    brim::Options asked;
    brim_options read = {};
    if (const int code = read_options(options, asked, read); code < 0) return code;
    std::string note;
    const absl::StatusOr<brim::Limiter> opened = brim::open_restored(name, asked, file, &note);
    if (!opened.ok()) return fail(opened.status());
    if (say != nullptr && !note.empty()) say(context, kWarning, note.c_str());
    // The handle, of the mapping that is there.
    return brim_attach(name, options, limiter);
  });
}

int brim_read_snapshot(const char* file, const brim_snapshot_visits* visits, void* context) {
  if (file == nullptr || visits == nullptr) return fail(BRIM_E_INVALID);
  brim_snapshot_visits read;
  if (!read_struct(*visits, read)) return fail(BRIM_E_STRUCT_SIZE);
  return guarded([&] {
    bool going = true;
    const auto done = brim::read_snapshot(
        file,
        [&](const brim::KeyState& each) {
          if (!going || read.on_key == nullptr) return false;
          const brim_key_state made = key_of(each);
          return read.on_key(context, &made) == 0;
        },
        [&](const brim::SnapshotFile& head) { going = visit_head(head, read, context); });
    return done.ok() ? 0 : fail(done.status());
  });
}

}  // extern "C"
