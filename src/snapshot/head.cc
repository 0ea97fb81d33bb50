// SPDX-License-Identifier: MIT
// All of a snapshot's file but its rows: the segment, its policies, its overrides.
#include <algorithm>
#include <cstring>
#include <utility>

#include "src/snapshot/fields.h"
#include "src/snapshot/store.h"

namespace brim::snapshot {

namespace {

// One value of meta, and every value into the sum.
class Meta {
 public:
  explicit Meta(Sum& sum) : sum_(sum) {}
  template <class Value>
  void field(std::string_view name, Value& value);
  // Not kept, and not in the sum, if it is empty: earlier files do not have it.
  void optional_field(std::string_view name, std::string& value) {
    optional_text(name, value);
    if (!value.empty()) sum_.add(name).add(value);
  }
  virtual ~Meta() = default;
  virtual void integer(std::string_view name, int64_t& value) = 0;
  virtual void text(std::string_view name, std::string& value) = 0;
  virtual void optional_text(std::string_view name, std::string& value) = 0;

 protected:
  Sum& sum_;
};

template <class Value>
void Meta::field(std::string_view name, Value& value) {
  if constexpr (std::is_same_v<Value, std::string>) {
    text(name, value);
    sum_.add(name).add(value);
  } else {
    auto number = static_cast<int64_t>(value);
    integer(name, number);
    value = static_cast<Value>(number);
    sum_.add(name).add(number);
  }
}

class MetaWriter : public Meta {
 public:
  MetaWriter(Sum& sum, Statement& insert) : Meta(sum), insert_(insert) {}
  void integer(std::string_view name, int64_t& value) override {
    insert_.bind_text(1, name);
    insert_.bind(2, value);
    run();
  }
  void text(std::string_view name, std::string& value) override {
    insert_.bind_text(1, name);
    is_text(value) ? insert_.bind_text(2, value) : insert_.bind_blob(2, value);
    run();
  }
  void optional_text(std::string_view name, std::string& value) override {
    if (!value.empty()) text(name, value);
  }
  absl::Status status = absl::OkStatus();

 private:
  void run() {
    if (status.ok()) status = insert_.run();
  }
  Statement& insert_;
};

class MetaReader : public Meta {
 public:
  MetaReader(Sum& sum, Statement& select) : Meta(sum), select_(select) {}
  void integer(std::string_view name, int64_t& value) override {
    find(name, [&] { value = select_.integer(0); });
  }
  void text(std::string_view name, std::string& value) override {
    find(name, [&] { value = select_.bytes(0); });
  }
  void optional_text(std::string_view name, std::string& value) override {
    find(
        name, [&] { value = select_.bytes(0); }, false);
  }
  absl::Status status = absl::OkStatus();

 private:
  template <class Take>
  void find(std::string_view name, Take take, bool required = true) {
    if (!status.ok()) return;
    select_.bind_text(1, name);
    status = select_.step();
    if (!status.ok()) return;
    if (!select_.row()) {
      if (!required) return;
      status = corrupt(cat("meta has no '", name, "'"));
      return;
    }
    take();
    status = select_.step();  // to the end: resets it
  }
  Statement& select_;
};

void visit_meta(Meta& meta, SnapshotFile& file, uint64_t& rows_sum) {
  SegmentState& segment = file.segment;
  Options& options = segment.options;
  meta.field("segment", segment.name);
  meta.field("uuid", segment.uuid);
  meta.optional_field("lineage", segment.lineage);
  meta.field("boot_id", segment.boot_id);
  meta.field("layout_version", segment.layout_version);
  meta.field("hash_seed", segment.hash_seed);
  meta.field("capacity", options.capacity);
  meta.field("name_bytes", options.name_bytes);
  meta.field("max_policies", options.max_policies);
  meta.field("cells_per_key", options.cells_per_key);
  meta.field("max_overrides", options.overrides);
  meta.field("hash", options.hash);
  meta.field("on_full", options.on_full);
  meta.field("probe_limit", options.probe_limit);
  meta.field("mode", options.mode);
  for (int i = 0; i < 4; ++i) {
    meta.field(cat("network_prefixes_", i), segment.network_prefixes[i]);
  }
  meta.field("generation", file.generation);
  meta.field("wall_ns", file.wall_ns);
  meta.field("monotonic_ns", file.monotonic_ns);
  meta.field("rows", file.rows);
  meta.field("rows_sum", rows_sum);
}

void add_policy(const PolicyState& policy, Sum& sum) {
  sum.add(uint64_t{policy.number})
      .add(policy.name)
      .add(policy.text)
      .add(uint64_t{policy.factor_ppm});
  sum.add(uint64_t{policy.rates.size()});
  for (const RateState& rate : policy.rates) {
    sum.add(uint64_t{rate.part}).add(kind_name(rate.kind)).add(uint64_t{rate.limit});
    sum.add(rate.period_ns).add(uint64_t{rate.unit_shift}).add(uint64_t{rate.slowest_ppm});
    sum.add(rate.most_permits);
  }
}

std::string override_hash(const OverrideState& entry) {
  std::string bytes(reinterpret_cast<const char*>(&entry.hash_low), 8);
  return bytes.append(reinterpret_cast<const char*>(&entry.hash_high), 4);
}

void add_override(const OverrideState& entry, Sum& sum) {
  sum.add(override_hash(entry)).add(entry.policy).add(entry.use);
}

bool has_details(const OverrideState& entry) { return entry.key_length != 0 || entry.ban; }

// Wall clock at which a ban ends; kNever for one that does not.
int64_t ends_ns(const OverrideState& entry, int64_t wall_ns) {
  if (entry.ends_in_ns > kNever - std::max<int64_t>(wall_ns, 0)) return kNever;
  return entry.ends_in_ns + std::max<int64_t>(wall_ns, 0);
}

void add_details(const OverrideState& entry, int64_t ends, Sum& sum) {
  sum.add(override_hash(entry)).add(entry.policy).add(entry.key).add(entry.key_length);
  sum.add(uint64_t{entry.ban}).add(ends);
}

absl::Status read_overrides(Database& database, SnapshotFile& file, Sum& sum) {
  auto overrides = database.prepare("SELECT hash, policy, use FROM overrides ORDER BY 1, 2");
  if (!overrides.ok()) return overrides.status();
  absl::Status status = overrides->step();
  for (; status.ok() && overrides->row(); status = overrides->step()) {
    const std::string hash = overrides->bytes(0);
    OverrideState entry;
    if (hash.size() != 12) return corrupt("an override has a hash of another size");
    std::memcpy(&entry.hash_low, hash.data(), 8);
    std::memcpy(&entry.hash_high, hash.data() + 8, 4);
    entry.policy = overrides->bytes(1);
    entry.use = overrides->bytes(2);
    add_override(entry, sum);
    file.overrides.push_back(std::move(entry));
  }
  return status;
}

// In the order of the overrides, each of which has at most one.
absl::Status read_details(Database& database, SnapshotFile& file, Sum& sum) {
  auto select = database.prepare(
      "SELECT hash, policy, key, key_length, ends_ns, ends_ns IS NOT NULL FROM override_details "
      "ORDER BY 1, 2");
  if (!select.ok()) return select.status();
  auto entry = file.overrides.begin();
  absl::Status status = select->step();
  for (; status.ok() && select->row(); status = select->step()) {
    const std::string hash = select->bytes(0);
    const std::string policy = select->bytes(1);
    entry = std::find_if(entry, file.overrides.end(), [&](const OverrideState& one) {
      return one.policy == policy && override_hash(one) == hash;
    });
    if (entry == file.overrides.end()) return corrupt("details of an override that there is not");
    entry->key = select->bytes(2);
    entry->key_length = select->word(3);
    entry->ban = select->integer(5) != 0;
    const int64_t ends = entry->ban ? select->integer(4) : 0;
    if (ends < 0 || entry->key.size() > entry->key_length) {
      return corrupt("details that no override has");
    }
    if (ends != kNever) entry->ends_in_ns = std::max<int64_t>(ends - file.wall_ns, 0);
    if (!entry->ban) entry->ends_in_ns = kNever;
    add_details(*entry, ends, sum);
  }
  return status;
}

absl::Status write_overrides(Database& database, SnapshotFile& file, Sum& sum) {
  auto overrides = database.prepare("INSERT OR REPLACE INTO overrides VALUES(?1, ?2, ?3)");
  if (!overrides.ok()) return overrides.status();
  auto details =
      database.prepare("INSERT OR REPLACE INTO override_details VALUES(?1, ?2, ?3, ?4, ?5)");
  if (!details.ok()) return details.status();
  std::sort(file.overrides.begin(), file.overrides.end(),
            [](const OverrideState& a, const OverrideState& b) {
              const int order = override_hash(a).compare(override_hash(b));
              return order != 0 ? order < 0 : a.policy < b.policy;
            });
  for (const OverrideState& entry : file.overrides) {
    overrides->bind_blob(1, override_hash(entry));
    overrides->bind_text(2, entry.policy);
    overrides->bind_text(3, entry.use);
    if (absl::Status status = overrides->run(); !status.ok()) return status;
    add_override(entry, sum);
  }
  for (const OverrideState& entry : file.overrides) {
    if (!has_details(entry)) continue;
    const int64_t ends = entry.ban ? ends_ns(entry, file.wall_ns) : 0;
    details->bind_blob(1, override_hash(entry));
    details->bind_text(2, entry.policy);
    is_text(entry.key) ? details->bind_text(3, entry.key) : details->bind_blob(3, entry.key);
    details->bind(4, entry.key_length);
    entry.ban ? details->bind(5, ends) : details->bind_null(5);
    if (absl::Status status = details->run(); !status.ok()) return status;
    add_details(entry, ends, sum);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SnapshotFile> read_head(Database& database, uint64_t& rows_sum) {
  SnapshotFile file;
  Sum sum;
  auto select = database.prepare("SELECT value FROM meta WHERE name = ?1");
  if (!select.ok()) return select.status();
  MetaReader meta(sum, *select);
  visit_meta(meta, file, rows_sum);
  if (!meta.status.ok()) return meta.status;

  auto policies =
      database.prepare("SELECT number, name, text, factor_ppm FROM policies ORDER BY 1");
  if (!policies.ok()) return policies.status();
  auto rates = database.prepare(
      "SELECT part, kind, permits, period_ns, unit_shift, slowest_ppm, most_permits FROM rates "
      "WHERE policy = ?1 ORDER BY 1");
  if (!rates.ok()) return rates.status();
  absl::Status status = policies->step();
  for (; status.ok() && policies->row(); status = policies->step()) {
    PolicyState policy;
    policy.number = static_cast<uint16_t>(policies->integer(0));
    policy.name = policies->bytes(1);
    policy.text = policies->bytes(2);
    policy.factor_ppm = static_cast<uint32_t>(policies->integer(3));
    rates->bind(1, int64_t{policy.number});
    absl::Status rate_status = rates->step();
    for (; rate_status.ok() && rates->row(); rate_status = rates->step()) {
      RateState rate;
      rate.policy = policy.number;
      rate.part = static_cast<uint32_t>(rates->integer(0));
      if (!kind_from(rates->bytes(1), rate.kind)) return corrupt("a rate has an unknown kind");
      rate.limit = static_cast<uint32_t>(rates->integer(2));
      rate.period_ns = rates->integer(3);
      rate.unit_shift = static_cast<uint32_t>(rates->integer(4));
      rate.slowest_ppm = static_cast<uint32_t>(rates->integer(5));
      rate.most_permits = rates->word(6);
      if (rate.part >= kMostParts || rate.period_ns < 0 || rate.unit_shift > 63) {
        return corrupt(cat("rate ", rate.part, " of policy ", policy.number, " is no rate"));
      }
      policy.rates.push_back(rate);
    }
    if (!rate_status.ok()) return rate_status;
    add_policy(policy, sum);
    file.policies.push_back(std::move(policy));
  }
  if (!status.ok()) return status;

  if (file.wall_ns < 0 || file.monotonic_ns < 0) return corrupt("its time is before 1970");
  status = read_overrides(database, file, sum);
  if (!status.ok()) return status;
  const auto version = database.integer("PRAGMA user_version");
  if (!version.ok()) return version.status();
  if (version->value_or(0) != kOldestVersion) status = read_details(database, file, sum);
  if (!status.ok()) return status;

  select->bind_text(1, "sum");
  if (absl::Status found = select->step(); !found.ok()) return found;
  if (!select->row() || select->word(0) != sum.value()) {
    return corrupt("what the file says of the segment does not add up to its checksum");
  }
  return file;
}

absl::Status write_head(Database& database, SnapshotFile file, uint64_t rows_sum) {
  if (absl::Status status = database.execute(
          "DELETE FROM meta; DELETE FROM policies; DELETE FROM rates; DELETE FROM overrides; "
          "DELETE FROM override_details");
      !status.ok()) {
    return status;
  }
  auto insert = database.prepare("INSERT INTO meta VALUES(?1, ?2)");
  if (!insert.ok()) return insert.status();
  Sum sum;
  MetaWriter meta(sum, *insert);
  visit_meta(meta, file, rows_sum);
  if (!meta.status.ok()) return meta.status;

  auto policies = database.prepare("INSERT INTO policies VALUES(?1, ?2, ?3, ?4)");
  if (!policies.ok()) return policies.status();
  auto rates = database.prepare("INSERT INTO rates VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
  if (!rates.ok()) return rates.status();
  for (const PolicyState& policy : file.policies) {
    policies->bind(1, int64_t{policy.number});
    policies->bind_text(2, policy.name);
    policies->bind_text(3, policy.text);
    policies->bind(4, int64_t{policy.factor_ppm});
    if (absl::Status status = policies->run(); !status.ok()) return status;
    for (const RateState& rate : policy.rates) {
      rates->bind(1, int64_t{policy.number});
      rates->bind(2, int64_t{rate.part});
      rates->bind_text(3, kind_name(rate.kind));
      rates->bind(4, int64_t{rate.limit});
      rates->bind(5, rate.period_ns);
      rates->bind(6, int64_t{rate.unit_shift});
      rates->bind(7, int64_t{rate.slowest_ppm});
      rates->bind(8, rate.most_permits);
      if (absl::Status status = rates->run(); !status.ok()) return status;
    }
    add_policy(policy, sum);
  }

  if (absl::Status status = write_overrides(database, file, sum); !status.ok()) return status;
  insert->bind_text(1, "sum");
  insert->bind(2, sum.value());
  return insert->run();
}

}  // namespace brim::snapshot
