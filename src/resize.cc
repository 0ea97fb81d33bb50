// SPDX-License-Identifier: MIT
// The writer's side of a resize; the callers' is src/route.cc. Read docs/design/0009-resize.md.
#include "brim/resize.h"

#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "shm/segment_file.h"
#include "shm/snapshot_status.h"
#include "src/audit.h"
#include "src/base/text.h"
#include "src/carry.h"
#include "src/compile.h"
#include "src/engine.h"
#include "src/override_list.h"
#include "src/overrides.h"
#include "src/policy_words.h"
#include "src/slot_name.h"

namespace brim {

using internal::Engine;

namespace {

constexpr uint64_t kProgressSlots = 65536;  // between two reports

// What a pass over the old table came upon.
struct Passed {
  uint64_t keys = 0;                   // carried, or with live state if nothing is carried
  uint64_t cut = 0;                    // of those, known by their beginning only
  std::vector<uint64_t> unnamed = {};  // slots in use whose key's text is not there
  std::vector<uint64_t> refused = {};  // slots whose key found no room
};

bool is_live(const Engine& engine, const shm::Slot& slot) noexcept {
  Quota quota;
  return read_quota(engine.registry, shm::id_policy(slot.id), shm::id_part(slot.id), quota) &&
         debt(slot.word, instant(quota, engine.clock.now() - kClockSkewNs), quota) != 0;
}

// Looks at one slot of `old`, and carries it to `to` unless that is null.
void pass_slot(const Engine& old, uint64_t position, const Engine* to, std::string& buffer,
               Passed& passed) {
  const shm::Slot slot = old.table.at(position);
  if (slot.id <= shm::kFreeId || is_tentative(slot.word) || !is_live(old, slot)) return;
  const size_t room = old.segment->header().name_bytes;
  SlotName name;
  if (!read_slot_name(old, position, slot.id, buffer, name)) {
    passed.unnamed.push_back(position);
    return;
  }
  CarriedKey key{buffer};
  if (name.length > room) {
    key.cut = {name.length, name.place};
    key.place = name.place;
    ++passed.cut;
  } else {
    key.place = hash_key(old.secret, buffer).low;
  }
  const Carried done =
      to == nullptr ? Carried::kDone : carry_slot(old, position, slot.id, *to, key);
  passed.keys += done == Carried::kDone ? 1 : 0;
  if (done == Carried::kFull || done == Carried::kContended) passed.refused.push_back(position);
}

Passed pass_all(const Engine& old, const Engine* to, const ResizeOptions& options) {
  Passed passed;
  std::string buffer;
  const uint64_t total = old.table.slot_count();
  for (uint64_t i = 0; i < total; ++i) {
    pass_slot(old, i, to, buffer, passed);
    if (to != nullptr && options.progress && (i + 1) % kProgressSlots == 0) {
      options.progress({i + 1, total, passed.keys});
    }
  }
  return passed;
}

std::string shown(const Engine& engine) { return shown_path(engine.segment->path()); }

absl::Status system_error(std::string_view call, const std::string& path) {
  return shm::errno_status(errno, call, path);
}

// What the new table shall be. REQUIRES: the write lock is held; `old` outlives the spec.
absl::StatusOr<shm::SegmentSpec> spec_for(const Engine& old, const ResizeOptions& options,
                                          const struct stat& st) {
  const shm::HeaderFields& header = old.segment->header();
  shm::SegmentSpec spec;
  const auto or_as_it_is = [](auto asked, auto known) { return asked != 0 ? asked : known; };
  spec.capacity = or_as_it_is(options.capacity, header.capacity);
  spec.name_bytes = or_as_it_is(options.name_bytes, header.name_bytes);
  if (spec.name_bytes <= 65520) spec.name_bytes = (spec.name_bytes + 7) / 8 * 8;
  spec.max_policies = or_as_it_is(options.max_policies, header.max_policies);
  spec.cells_per_key = or_as_it_is(options.cells_per_key, header.cells_per_key);
  spec.cluster = options.cluster || old.consumption.kept();
  spec.probe_limit = or_as_it_is(options.probe_limit, header.probe_limit);
  spec.overrides = or_as_it_is(options.overrides, static_cast<uint32_t>(old.overrides.most()));
  spec.hash_kind = header.hash_kind;
  spec.on_full = header.on_full;
  spec.attachments =
      static_cast<uint32_t>(old.segment->section(shm::SectionType::kAttachments)->count);
  spec.mode = st.st_mode & 07777;
  spec.hash_seed = shm::hash_seed(header);
  spec.path = shm::successor_path(old.segment->path());
  spec.predecessor = &header;
  if (header.name_bytes == 0 || options.name_bytes == Options::kNoNames) {
    return absl::FailedPreconditionError(
        cat("resize_unnamed: segment ", shown(old),
            " keeps no text of its keys, or shall not: they could not be found in another table; "
            "make a new segment (brim create --recreate), which forgets them"));
  }
  return spec;
}

// That the policies fit, and can be carried over at all.
absl::Status check_policies(const Engine& old, const shm::SegmentSpec& spec) {
  for (uint32_t i = 0; i < old.registry.size(); ++i) {
    shm::PolicyWords words;
    std::string text;
    const auto number = static_cast<uint16_t>(i);
    if (!old.registry.read(number, words, text)) continue;
    const std::string name = printable(old.registry.name(number));
    if (i >= spec.max_policies) {
      return absl::FailedPreconditionError(cat("resize_unfit: policy '", name, "' of segment ",
                                               shown(old), " has number ", i, ", max_policies is ",
                                               spec.max_policies, "; give at least ", i + 1));
    }
    // By its words, not its text: they are what decides.
    if (quota_from(words, 0).algorithm == static_cast<uint8_t>(Algorithm::kConcurrency)) {
      return absl::FailedPreconditionError(
          cat("resize_leases: policy '", name, "' of segment ", shown(old),
              " gives leases, whose holders know their place in the table; give leases a segment "
              "of their own"));
    }
    const absl::StatusOr<Policy> policy = parse_policy(text);
    const uint32_t cells = policy.ok() ? cells_needed(*policy) : old.cells_per_key;
    if (cells > spec.cells_per_key) {
      return absl::FailedPreconditionError(cat("resize_unfit: policy '", name, "' of segment ",
                                               shown(old), " needs ", cells,
                                               " cells_per_key, the new table would have ",
                                               spec.cells_per_key, "; give at least ", cells));
    }
  }
  if (old.overrides.size() <= spec.overrides) return absl::OkStatus();
  return absl::FailedPreconditionError(cat("resize_unfit: segment ", shown(old), " has ",
                                           old.overrides.size(), " overrides, the new table has ",
                                           "room for ", spec.overrides));
}

absl::Status too_small(const Engine& old, uint64_t keys, uint64_t slots) {
  return absl::FailedPreconditionError(cat("resize_too_small: segment ", shown(old), " has ", keys,
                                           " keys in use, which do not all find room in ", slots,
                                           " slots; give a larger capacity, at least ",
                                           keys + keys / 4 + 1));
}

// That every key in use can be found again in the new table.
absl::Status check_keys(const Engine& old, const shm::SegmentSpec& spec, const Passed& passed) {
  if (!passed.unnamed.empty()) {
    return absl::FailedPreconditionError(
        cat("resize_unnamed: segment ", shown(old), " has ", passed.unnamed.size(),
            " keys in use whose text is not there (their process was killed just then): they could "
            "not be found in another table; try again when they owe nothing any more, or reset "
            "them"));
  }
  if (passed.cut != 0 && spec.name_bytes > old.segment->header().name_bytes) {
    return absl::FailedPreconditionError(
        cat("resize_unnamed: segment ", shown(old), " has ", passed.cut,
            " keys in use of which only the beginning is kept: name_bytes can not grow; leave it ",
            old.segment->header().name_bytes));
  }
  if (passed.keys > spec.capacity) return too_small(old, passed.keys, spec.capacity);
  return absl::OkStatus();
}

absl::Status prepare_overrides(const Engine& old, const Engine& made) {
  if (old.overrides.empty()) return absl::OkStatus();
  shm::OverrideWriter writer = override_writer(made);
  uint64_t prefixes[4] = {};
  old.overrides.network_prefixes(prefixes);
  writer.add_prefixes(prefixes);
  for (const ListedOverride& entry : list_overrides(old)) {
    const uint64_t check =
        override_check(made, shm::override_low(entry.hash), entry.key_length, entry.key);
    const absl::Status status =
        writer.set(entry.hash, entry.what, {}, {entry.key, entry.key_length, check});
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

void prepare_policies(const Engine& old, const Engine& made) {
  shm::Registry registry = made.registry;
  for (uint32_t i = 0; i < old.registry.size(); ++i) {
    shm::PolicyWords words;
    std::string text;
    const auto number = static_cast<uint16_t>(i);
    if (!old.registry.read(number, words, text)) continue;
    const std::string name = old.registry.name(number);
    BRIM_STORE_POINT();
    std::memcpy(made.segment->policies()[i].name, name.data(), name.size());
    registry.replace(number, words, text);
    if (old.registry.removed(number)) registry.set_removed(number, true);
    for (uint32_t c = 0; c < shm::kPolicyCounters; ++c) {
      const auto counter = static_cast<PolicyCounter>(c);
      made.counters.add(number, counter, old.counters.sum(number, counter));
    }
  }
}

// Everything but the keys. The new table has no name yet, so there is no order to keep.
absl::Status prepare(const Engine& old, const Engine& made, const struct stat& st) {
  if (fchown(made.segment->fd(), st.st_uid, st.st_gid) != 0 ||
      fchmod(made.segment->fd(), st.st_mode & 07777) != 0) {
    return absl::PermissionDeniedError(
        cat("resize_foreign: ", shown(old), " belongs to uid ", st.st_uid, " and gid ", st.st_gid,
            ", and this process can not make another file that does (", strerror(errno),
            "); resize it as that user"));
  }
  prepare_policies(old, made);
  for (uint32_t e = 0; e < shm::kEvents; ++e) {
    const auto event = static_cast<Event>(e);
    made.counters.add(event, old.counters.sum(event));
  }
  shm::SegmentHeader& shared = *made.segment->shared();
  shm::store_snapshot(shared.snapshot, shm::load_snapshot(old.segment->shared()->snapshot));
  carry_notes(old, made);
  // Or what is used before an agent comes over would be nobody's.
  shm::Consumption consumption = made.consumption;
  uint64_t secret[2];
  if (old.consumption.kept() && old.consumption.secret(secret)) consumption.set_secret(secret);
  return prepare_overrides(old, made);
}

// In no core dump, like every engine.
std::shared_ptr<Engine> engine_over(const std::shared_ptr<shm::Segment>& segment,
                                    const Engine& old) {
  return std::allocate_shared<Engine>(shm::UndumpedAllocator<Engine>(), segment, old.clock);
}

// Fills a table that is thrown away, to see whether all keys find room.
absl::Status try_out(const Engine& old, shm::SegmentSpec spec, const shm::Access& access,
                     const struct stat& st) {
  const absl::Status fits = absl::CancelledError("fits");
  spec.prepare = [&](const std::shared_ptr<shm::Segment>& segment) -> absl::Status {
    const auto engine = engine_over(segment, old);
    const Engine& made = *engine;
    if (absl::Status status = prepare(old, made, st); !status.ok()) return status;
    const uint64_t before = made.counters.sum(Event::kEvictedLive);
    const Passed passed = pass_all(old, &made, {});
    const uint64_t lost = passed.refused.size() + (made.counters.sum(Event::kEvictedLive) - before);
    return lost == 0 ? fits : too_small(old, passed.keys + lost, made.table.slot_count());
  };
  const auto created = shm::Segment::create(old.segment->name(), spec, access);
  return created.status() == fits ? absl::OkStatus() : created.status();
}

// The new table under its hidden name, known to the old one, and superseding it.
absl::Status make_successor(const Engine& old, const ResizeOptions& options) {
  struct stat st {};
  if (fstat(old.segment->fd(), &st) != 0) return system_error("fstat", old.segment->path());
  absl::StatusOr<shm::SegmentSpec> spec = spec_for(old, options, st);
  if (!spec.ok()) return spec.status();
  if (absl::Status status = check_policies(old, *spec); !status.ok()) return status;
  if (absl::Status status = check_keys(old, *spec, pass_all(old, nullptr, options)); !status.ok()) {
    return status;
  }
  shm::Access access;
  access.owner_uid = static_cast<int64_t>(st.st_uid);
  access.gid = static_cast<int64_t>(st.st_gid);
  const shm::HeaderFields& header = old.segment->header();
  if (spec->capacity < header.capacity || spec->probe_limit < header.probe_limit) {
    if (absl::Status status = try_out(old, *spec, access, st); !status.ok()) return status;
  }
  spec->prepare = [&](const std::shared_ptr<shm::Segment>& segment) -> absl::Status {
    if (absl::Status status = prepare(old, *engine_over(segment, old), st); !status.ok())
      return status;
    shm::set_flag(*segment->shared(), shm::kFlagFilling);
    // Paused from its first call on; carry_pause() makes up for a resume() meanwhile.
    if ((shm::flags_of(*old.segment->shared()) & shm::kFlagPaused) != 0) {
      shm::set_flag(*segment->shared(), shm::kFlagPaused);
    }
    return absl::OkStatus();
  };
  // Of a resize that was killed before it mattered.
  if (::unlink(spec->path.c_str()) != 0 && errno != ENOENT) {
    return absl::PermissionDeniedError(cat("resize_foreign: ", shown_path(spec->path),
                                           " is in the way and belongs to somebody ", "else (",
                                           strerror(errno), "); remove it"));
  }
  const auto made = shm::Segment::create(old.segment->name(), *spec, access);
  if (!made.ok()) return made.status();
  shm::store_successor(*old.segment->shared(), (*made)->header());
  shm::set_flag(*old.segment->shared(), shm::kFlagSuperseded);
  return absl::OkStatus();
}

// A pause, or its end, that only the old table was told of. Whoever is told later tells both.
void carry_pause(shm::SegmentHeader& from, shm::SegmentHeader& to) noexcept {
  const auto paused = [](const shm::SegmentHeader& header) {
    return shm::flags_of(header) & shm::kFlagPaused;
  };
  for (uint64_t now = paused(from);; now = paused(from)) {
    now != 0 ? shm::set_flag(to, shm::kFlagPaused) : shm::clear_flag(to, shm::kFlagPaused);
    if (paused(from) == now) return;
  }
}

// What was not carried at first is tried again for a while: a name may just be written.
void pass_again(const Engine& old, const Engine& to, Passed& passed) {
  constexpr int64_t kPatienceNs = 1000000000;
  const int64_t end = monotonic_now_ns() + kPatienceNs;
  std::string buffer;
  while (!(passed.unnamed.empty() && passed.refused.empty()) && monotonic_now_ns() < end) {
    std::vector<uint64_t> left = std::move(passed.unnamed);
    left.insert(left.end(), passed.refused.begin(), passed.refused.end());
    passed.unnamed.clear();
    passed.refused.clear();
    for (const uint64_t position : left) pass_slot(old, position, &to, buffer, passed);
    sched_yield();
  }
}

// From kFlagSuperseded to the end. May be done over from any point of it.
absl::Status finish(const Engine& old, const ResizeOptions& options, ResizeReport& report) {
  const Engine* const to = old.successor();
  if (to == nullptr) return old.moved_error();
  shm::SegmentHeader& shared = *to->segment->shared();
  carry_pause(*old.segment->shared(), shared);
  const uint64_t before = to->counters.sum(Event::kEvictedLive);
  Passed passed;
  if ((to->flags() & shm::kFlagFilling) != 0) {
    passed = pass_all(old, to, options);
    pass_again(old, *to, passed);
  }
  report.keys = passed.keys;
  report.slots_before = old.table.slot_count();
  report.slots_after = to->table.slot_count();
  report.generation = to->segment->header().generation;
  report.evicted = to->counters.sum(Event::kEvictedLive) - before;
  if (const size_t left = passed.unnamed.size() + passed.refused.size(); left != 0) {
    return absl::UnavailableError(
        cat("resize_unfinished: ", left, " keys of segment ", shown(old),
            " could not be carried over yet; calls look at both tables until another resize does "
            "it: run it again when those keys owe nothing any more"));
  }
  shm::clear_flag(shared, shm::kFlagFilling);
  // Killed here: the next resize comes to this line again.
  if (!old.segment->linked()) {
    return absl::FailedPreconditionError(
        cat("segment_replaced: ", shown(old), " was removed or replaced while it was resized"));
  }
  const std::string next = shm::successor_path(old.segment->path());
  if (std::rename(next.c_str(), old.segment->path().c_str()) == 0) return absl::OkStatus();
  return system_error("rename", next);
}

}  // namespace

namespace {

bool asks(const ResizeOptions& options) noexcept {
  return options.capacity != 0 || options.name_bytes != 0 || options.max_policies != 0 ||
         options.cells_per_key != 0 || options.cluster || options.overrides != 0 ||
         options.probe_limit != 0;
}

}  // namespace

absl::StatusOr<ResizeReport> resize(std::string_view name, const ResizeOptions& options,
                                    const Options& attach) {
  ResizeReport report;
  constexpr int kMostRounds = 8;  // the name may change hands
  for (int round = 0; round < kMostRounds; ++round) {
    const auto old = internal::attach_engine(name, attach, false);
    if (!old.ok()) return old.status();
    const auto lock = (*old)->registry.lock();
    if (!lock.held()) return (*old)->lock_error();
    if (!(*old)->segment->linked()) continue;
    const bool begun = (*old)->superseded();
    if (!begun) {
      if (absl::Status status = make_successor(**old, options); !status.ok()) return status;
    }
    const int64_t start = monotonic_now_ns();
    if (absl::Status status = finish(**old, options, report); !status.ok()) return status;
    report.moving_ns = monotonic_now_ns() - start;
    report.finished_earlier = report.finished_earlier || begun;
    if (!begun || !asks(options)) return report;
  }
  return absl::FailedPreconditionError(
      cat("segment_replaced: segment '", printable(name), "' changed hands over and over"));
}

}  // namespace brim
