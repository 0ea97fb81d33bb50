// SPDX-License-Identifier: MIT
// Slots -> states.
#include <algorithm>
#include <cstring>

#include "brim/state.h"
#include "shm/succession.h"
#include "src/cell_context.h"
#include "src/override_list.h"
#include "src/policy_words.h"
#include "src/slot_name.h"
#include "src/state.h"

namespace brim {

using internal::Engine;

namespace {

// A rate as one scan sees it; version 0: none that keeps states.
struct Source {
  uint64_t version = 0;
  Quota quota{};
  StateKind kind = StateKind::kBucket;
};

bool kind_of(const Quota& quota, StateKind& kind) noexcept {
  switch (family(quota)) {
    case Family::kBucket:
      kind = StateKind::kBucket;
      return true;
    case Family::kWindow:
      kind = StateKind::kWindow;
      return true;
    case Family::kCounter:
      kind = StateKind::kCounter;
      return true;
    case Family::kCells:
      kind = StateKind::kLog;
      return quota.algorithm == static_cast<uint8_t>(Algorithm::kSlidingLog);
    case Family::kBan:
      kind = StateKind::kBan;
      return true;
    case Family::kNone:
      break;
  }
  return false;
}

// By policy * kMaxParts + part. The version is read before the words: a change in between makes the
// next scan look at the policy's keys again.
std::vector<Source> read_sources(const Engine& engine) {
  std::vector<Source> sources(size_t{engine.registry.size()} * shm::kMaxParts);
  for (size_t i = 0; i < sources.size(); ++i) {
    const auto number = static_cast<uint16_t>(i / shm::kMaxParts);
    const uint64_t version = engine.registry.version(number);
    Source& source = sources[i];
    if (version == 0 || engine.registry.removed(number) ||
        !read_quota(engine.registry, number, i % shm::kMaxParts, source.quota) ||
        !kind_of(source.quota, source.kind)) {
      continue;
    }
    source.version = version;
  }
  return sources;
}

uint64_t mix(uint64_t digest, uint64_t word) noexcept {
  const uint128 product = static_cast<uint128>(digest ^ word) * 0x9e3779b97f4a7c15u;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// What is seen of one slot at one time. False: nothing that matters.
class Look {
 public:
  Look(const Engine& engine, const std::vector<Source>& sources) noexcept
      : engine_(engine), sources_(sources) {}

  bool at(uint64_t slot) noexcept {
    for (int tries = 0; tries < 64; ++tries) {
      seen_ = engine_.table.at(slot);
      if (seen_.id == shm::kVirginId || seen_.id == shm::kFreeId || is_tentative(seen_.word)) {
        return false;
      }
      const size_t index =
          size_t{shm::id_policy(seen_.id)} * shm::kMaxParts + shm::id_part(seen_.id);
      if (index >= sources_.size() || sources_[index].version == 0) return false;
      source_ = &sources_[index];
      now_ = engine_.clock.now();
      if (source_->kind != StateKind::kLog) return judge();
      if (read_cells(slot)) return left_count_ != 0;
    }
    return false;  // a log whose slot changes hands over and over
  }

  uint64_t digest() const noexcept {
    const uint64_t whole = mix(mix(mix(cells_digest_, seen_.id), seen_.word), source_->version);
    return whole == 0 ? 1 : whole;
  }

  void describe(KeyState& state) const {
    state.policy = shm::id_policy(seen_.id);
    state.part = shm::id_part(seen_.id);
    state.fingerprint = seen_.id & shm::kFingerprintMask;
    state.kind = source_->kind;
    state.as_of_ns = now_;
    state.left_ns.assign(left_, left_ + left_count_);
    saved::Saved saved;
    if (source_->kind != StateKind::kLog) {
      saved = saved::save(word_, instant(source_->quota, now_), source_->quota);
    } else {
      saved.used = left_count_;
      saved.until_ns = left_[0];
    }
    state.used = saved.used;
    state.before = saved.before;
    state.until_ns = saved.until_ns;
    state.barred = saved.barred;
    if (source_->kind == StateKind::kBan) state.left_ns = {saved.forgotten_ns};
  }

  uint64_t id() const noexcept { return seen_.id; }

 private:
  bool judge() noexcept {
    const Instant now = instant(source_->quota, now_);
    word_ =
        plausible(seen_.word, now, source_->quota) ? seen_.word : healed_word(now, source_->quota);
    cells_digest_ = 0;
    left_count_ = 0;
    return debt(word_, now, source_->quota) != 0;
  }

  // False if the slot was another one before and after.
  bool read_cells(uint64_t slot) noexcept {
    left_count_ = 0;
    cells_digest_ = 0;
    if (engine_.cells == nullptr) return true;
    const shm::AtomicCell* const cells = cells_at(engine_, slot);
    const uint64_t horizon = horizon_ns(source_->quota);
    const auto now = static_cast<uint64_t>(std::max<int64_t>(now_, 0));
    for (uint32_t i = 0; i < std::min(engine_.cells_per_key, shm::kMaxCells); ++i) {
      const uint64_t expiry = shm::HardwareCellAtomics::load_cell(cells + i);
      if (expiry <= now || expiry - now > horizon) continue;
      left_[left_count_++] = static_cast<int64_t>(expiry - now);
      cells_digest_ += mix(expiry, i + 1);
    }
    std::sort(left_, left_ + left_count_, std::greater<>());
    return engine_.table.at(slot) == seen_;
  }

  const Engine& engine_;
  const std::vector<Source>& sources_;
  shm::Slot seen_;
  const Source* source_ = nullptr;
  int64_t now_ = 0;
  Word word_ = kEmptyWord;
  uint64_t cells_digest_ = 0;
  uint32_t left_count_ = 0;
  int64_t left_[shm::kMaxCells] = {};
};

void read_key(const Engine& engine, uint64_t slot, uint64_t id, KeyState& state) {
  SlotName name;
  state.has_key = read_slot_name(engine, slot, id, state.key, name);
  if (!state.has_key) return;
  state.key_length = name.length;
  state.place = state.whole_key() ? hash_key(engine.secret, state.key).low : name.place;
}

RateState rate_state(uint16_t policy, uint32_t part, const Source& source) {
  RateState rate;
  rate.policy = policy;
  rate.part = part;
  rate.kind = source.kind;
  rate.limit = source.quota.limit;
  rate.period_ns = source.quota.period_ns;
  if (source.kind == StateKind::kBucket) {
    rate.unit_shift = source.quota.shift & 63;
    rate.slowest_ppm = slowest_ppm(source.quota);
    rate.most_permits = saved::permits_up(source.quota.capacity_max, rate.unit_shift);
  }
  return rate;
}

// One name for a segment that is called by its name or by its path.
std::string canonical_name(const std::string& path) {
  const std::string directory = cat(shm::kShmDirectory, "/");
  return path.starts_with(directory) ? path.substr(directory.size()) : path;
}

}  // namespace

absl::StatusOr<StateReader> StateReader::attach(std::string_view name, const Options& options) {
  auto engine = internal::attach_engine(name, options, true);
  if (!engine.ok()) return engine.status();
  return StateReader(*std::move(engine));
}

SegmentState StateReader::segment() const {
  const shm::HeaderFields& header = engine_->segment->header();
  SegmentState state;
  state.name = canonical_name(engine_->segment->path());
  state.uuid = hex_bytes(header.uuid, sizeof(header.uuid));
  state.lineage = hex_bytes(shm::lineage_of(header), sizeof(header.lineage));
  state.boot_id = hex_bytes(header.boot_id, sizeof(header.boot_id));
  state.hash_seed = shm::hash_seed(header);
  state.layout_version = header.layout_version;
  engine_->overrides.network_prefixes(state.network_prefixes);
  Options& options = state.options;
  options.capacity = header.capacity;
  options.name_bytes = header.name_bytes == 0 ? Options::kNoNames : header.name_bytes;
  options.max_policies = header.max_policies;
  options.cells_per_key = header.cells_per_key;
  options.cluster = engine_->consumption.kept();
  options.overrides = static_cast<uint32_t>(engine_->overrides.most());
  options.hash = static_cast<HashKind>(header.hash_kind);
  options.on_full = static_cast<OnFull>(header.on_full);
  options.probe_limit = header.probe_limit;
  options.mode = header.mode;
  return state;
}

std::vector<PolicyState> StateReader::policies() const {
  std::vector<PolicyState> list;
  const std::vector<Source> sources = read_sources(*engine_);
  for (uint32_t i = 0; i < engine_->registry.size(); ++i) {
    const auto number = static_cast<uint16_t>(i);
    shm::PolicyWords words;
    PolicyState policy;
    if (!engine_->registry.read(number, words, policy.text) || engine_->registry.removed(number)) {
      continue;
    }
    policy.number = number;
    policy.name = engine_->registry.name(number);
    policy.factor_ppm = static_cast<uint32_t>(words[kWordFactor]);
    for (uint32_t part = 0; part < shm::kMaxParts; ++part) {
      const Source& source = sources[size_t{i} * shm::kMaxParts + part];
      if (source.version != 0) policy.rates.push_back(rate_state(number, part, source));
    }
    list.push_back(std::move(policy));
  }
  return list;
}

std::vector<OverrideState> StateReader::overrides() const {
  std::vector<OverrideState> list;
  for (ListedOverride& listed : list_overrides(*engine_)) {
    OverrideState entry;
    entry.hash_low = listed.hash.low;
    entry.hash_high = static_cast<uint32_t>(listed.hash.high);
    entry.policy = std::move(listed.policy);
    entry.use = std::move(listed.use);
    entry.ban = listed.ban;
    entry.ends_in_ns = listed.left_ns;
    entry.key = std::move(listed.key);
    entry.key_length = listed.key_length;
    list.push_back(std::move(entry));
  }
  return list;
}

int64_t StateReader::now_ns() const { return engine_->clock.now(); }

uint64_t StateReader::slots() const { return engine_->table.slot_count(); }

bool StateReader::linked() const { return engine_->segment->linked(); }

bool StateReader::superseded() const { return engine_->superseded(); }

bool StateReader::moving() const {
  return (engine_->flags() & (shm::kFlagFilling | shm::kFlagSuperseded)) != 0;
}

bool StateReader::for_each_change(const std::function<bool(const KeyState&)>& changed,
                                  const std::function<bool(uint64_t slot)>& gone) {
  const std::vector<Source> sources = read_sources(*engine_);
  seen_.resize(engine_->table.slot_count());
  Look look(*engine_, sources);
  KeyState state;
  for (uint64_t slot = 0; slot < seen_.size(); ++slot) {
    if (!look.at(slot)) {
      const bool was = seen_[slot] != 0;
      seen_[slot] = 0;
      if (was && gone && !gone(slot)) return false;
      continue;
    }
    const uint64_t digest = look.digest();
    if (digest == seen_[slot]) continue;
    seen_[slot] = digest;
    state.slot = slot;
    look.describe(state);
    read_key(*engine_, slot, look.id(), state);
    if (changed && !changed(state)) return false;
  }
  return true;
}

bool StateReader::for_each(const std::function<bool(const KeyState&)>& visit) const {
  const std::vector<Source> sources = read_sources(*engine_);
  Look look(*engine_, sources);
  KeyState state;
  for (uint64_t slot = 0; slot < engine_->table.slot_count(); ++slot) {
    if (!look.at(slot)) continue;
    state.slot = slot;
    look.describe(state);
    read_key(*engine_, slot, look.id(), state);
    if (!visit(state)) return false;
  }
  return true;
}

}  // namespace brim
