// SPDX-License-Identifier: MIT
// Goal: whatever a snapshot says, with every checksum right, as a hostile writer makes it:
// restoring it crashes nothing, is no undefined behaviour, leaves a segment in which verify() finds
// no error, takes no debt away, and gives no key more than a key that nobody has seen gets (F48,
// P11). Method: the input is taken for a segment's description, policies, overrides and rows; they
// are written with the library's own writer and restored into a segment in use and, at times, into
// a new one. Input: see Maker. Numbers are a byte that says how large, and so many bytes.
#include <limits>

#include "brim/inspect.h"
#include "brim/snapshot.h"
#include "brim/verify.h"
#include "src/base/text.h"
#include "src/snapshot/restore.h"
#include "src/snapshot/store.h"
#include "tests/fuzz/segment_file.h"

namespace brim::fuzz {
namespace {

constexpr int kMaxRows = 12;
constexpr int kKeys = 6;  // key-0 to key-2 are in use
constexpr int kTries = 130;

SegmentFile* file;
snapshot::Database* database;

std::string database_path() { return file->path() + ".db"; }

// Small, near a power of two, or any.
uint64_t number(Input& input) {
  const uint8_t how = input.byte();
  if (how < 128) return how;
  if (how < 192) return (uint64_t{1} << how % 64) - 1 + input.byte() % 3;
  return input.take<uint64_t>() >> how % 64;
}

int64_t signed_number(Input& input) { return static_cast<int64_t>(number(input)); }

struct Made {
  SnapshotFile head;
  std::vector<KeyState> rows;
  bool overrides = false;
  bool factors = false;
  bool anew = false;  // restore into a new segment too
};

class Maker {
 public:
  explicit Maker(Input& input) : input_(input) {}

  Made make() {
    const uint8_t flags = input_.byte();
    made_.anew = (flags & 1) != 0;
    segment(flags);
    for (int i = input_.byte() % 4; i > 0; --i) policy();
    for (int i = (flags & 2) != 0 ? input_.byte() % 4 : 0; i > 0; --i) overridden();
    const int rows = std::min<int>(input_.byte(), kMaxRows);
    for (int i = 0; i < rows && !input_.empty(); ++i) row();
    made_.head.rows = made_.rows.size();
    return std::move(made_);
  }

 private:
  std::string text() {
    return std::string(input_.take_bytes(std::min<size_t>(number(input_), 300)));
  }

  // The segment in use; bit 2: everything about it as the input says.
  void segment(uint8_t flags) {
    SnapshotFile& head = made_.head;
    const auto reader = StateReader::attach(file->path(), file->options());
    require(reader.ok(), "attach");
    head.segment = reader->segment();
    head.generation = 1;
    head.monotonic_ns = file->made_at_ns();
    // From a clock ahead of ours: no time has passed, however long this takes.
    head.wall_ns = snapshot::wall_now_ns() + 3600'000'000'000;
    if ((flags & 8) == 0) head.policies = reader->policies();
    if ((flags & 4) == 0) return;
    SegmentState& segment = head.segment;
    segment.name = text();
    segment.hash_seed = text();
    segment.options.capacity = number(input_);
    segment.options.name_bytes = static_cast<uint32_t>(number(input_));
    segment.options.max_policies = static_cast<uint32_t>(number(input_));
    segment.options.cells_per_key = static_cast<uint32_t>(number(input_));
    segment.options.overrides = static_cast<uint32_t>(number(input_));
    segment.options.probe_limit = static_cast<uint32_t>(number(input_));
    segment.options.hash = static_cast<HashKind>(input_.byte());
    segment.options.on_full = static_cast<OnFull>(input_.byte());
    for (uint64_t& prefix : segment.network_prefixes) prefix = number(input_);
    head.generation = number(input_);
    head.monotonic_ns = signed_number(input_);
    head.wall_ns -= signed_number(input_) % (int64_t{1} << 60);
  }

  void policy() {
    const auto& known = segment_policies();
    PolicyState policy;
    const uint8_t which = input_.byte();
    policy.number = static_cast<uint16_t>(number(input_));
    policy.name = which < 240 ? known[which % known.size()].name : text();
    policy.text = which % 2 == 0 ? known[which / 16 % known.size()].text : text();
    if (input_.byte() % 8 == 0) policy.factor_ppm = static_cast<uint32_t>(number(input_));
    made_.factors = made_.factors || policy.factor_ppm != 1000000;
    for (int i = input_.byte() % 4; i > 0; --i) {
      RateState rate;
      rate.policy = policy.number;
      rate.part = input_.byte() % 8u;
      rate.kind = static_cast<StateKind>(input_.byte() % 5 + 1);
      rate.limit = static_cast<uint32_t>(number(input_));
      rate.period_ns = signed_number(input_);
      rate.unit_shift = input_.byte();
      rate.slowest_ppm = static_cast<uint32_t>(number(input_));
      rate.most_permits = number(input_);
      policy.rates.push_back(rate);
    }
    made_.head.policies.push_back(policy);
  }

  void overridden() {
    const auto& known = segment_policies();
    OverrideState entry;
    entry.hash_low = input_.take<uint64_t>();
    entry.hash_high = input_.take<uint32_t>();
    const uint8_t which = input_.byte();
    entry.policy = which < 200 ? known[which % known.size()].name : text();
    const uint8_t use = input_.byte();
    entry.use = use < 64    ? "unlimited"
                : use < 128 ? "deny"
                : use < 240 ? known[use % known.size()].name
                            : text();
    made_.head.overrides.push_back(entry);
    made_.overrides = true;
  }

  void row() {
    KeyState state;
    state.slot = made_.rows.size();
    state.policy = input_.byte();
    state.part = input_.byte() % 8u;
    state.kind = static_cast<StateKind>(input_.byte() % 5 + 1);
    const uint8_t which = input_.byte();
    state.has_key = which < 250;
    if (state.has_key) {
      state.key = which < 224 ? cat("key-", which % kKeys) : text();
      state.key_length = which % 16 == 15 ? number(input_) : state.key.size();
      state.place = which % 16 == 15 ? number(input_) : 0;
    }
    state.fingerprint = number(input_);
    state.used = number(input_);
    state.before = number(input_);
    state.until_ns = signed_number(input_);
    state.barred = which % 2 != 0;
    for (int i = std::min<int>(input_.byte(), 255); i > 0 && !input_.empty(); --i) {
      state.left_ns.push_back(signed_number(input_));
    }
    state.as_of_ns = signed_number(input_);
    made_.rows.push_back(std::move(state));
  }

  Input& input_;
  Made made_;
};

void write(const Made& made) {
  require(database->execute("BEGIN; DELETE FROM keys").ok(), "begin");
  auto writer = snapshot::RowWriter::open(*database);
  require(writer.ok(), "prepare");
  uint64_t total = 0;
  for (const KeyState& state : made.rows) {
    const uint64_t sum = snapshot::row_sum(state);
    total += sum;
    require(writer->put(state, sum).ok(), "put");
  }
  const absl::Status status = snapshot::write_head(*database, made.head, total);
  if (!status.ok()) database->execute("ROLLBACK").IgnoreError();  // a policy twice
  if (status.ok()) require(database->execute("COMMIT").ok(), "commit");
}

uint64_t evicted(const Inspector& inspector) {
  uint64_t total = 0;
  for (const Counter& one : inspector.counters()) {
    if (one.name.starts_with("evicted")) total += one.value;
  }
  return total;
}

// Those whose answers depend on the key alone, and that do not wait or let everything through.
bool counts(const NamedPolicy& policy) {
  return policy.text.find("enforce") == std::string::npos &&
         policy.text.find("concurrency") == std::string::npos;
}

std::vector<uint32_t> remaining(const Limiter& limiter) {
  std::vector<uint32_t> left;
  for (const NamedPolicy& policy : segment_policies()) {
    const auto handle = limiter.policy(policy.name);
    require(handle.ok(), "policy", policy.name);
    for (int i = 0; i < kKeys; ++i) left.push_back(handle->peek(cat("key-", i)).remaining);
  }
  return left;
}

int admitted(const PolicyHandle& policy, const std::string& key) {
  int count = 0;
  while (count < kTries && policy.try_acquire(key).admitted) ++count;
  return count;
}

void require_sound(const std::string& path) {
  VerifyOptions options;
  options.access = file->options();
  const auto report = verify(path, options, [](const Finding& finding) {
    require(finding.severity != Severity::kError, "verify() found an error",
            cat(finding.name, " ", finding.value));
  });
  require(report.ok(), "verify");
}

void into_the_live_one(const Made& made) {
  const auto limiter = Limiter::attach(file->path(), file->options());
  const auto inspector = Inspector::attach(file->path(), file->options());
  require(limiter.ok() && inspector.ok(), "attach");
  const std::vector<uint32_t> before = remaining(*limiter);
  const uint64_t evicted_before = evicted(*inspector);
  const auto report = restore(*limiter, database_path());
  require_sound(file->path());
  if (!report.ok() || made.factors || made.overrides) return;
  if (evicted(*inspector) != evicted_before) return;
  const std::vector<uint32_t> after = remaining(*limiter);
  for (size_t i = 0; i < after.size(); ++i) {
    require(after[i] <= before[i], "debt was taken away",
            cat(segment_policies()[i / kKeys].name, " key-", i % kKeys, ": ", before[i], " to ",
                after[i]));
  }
  for (const NamedPolicy& policy : segment_policies()) {
    if (!counts(policy)) continue;
    const auto handle = limiter->policy(policy.name);
    const int fresh = admitted(*handle, "fresh");
    for (int i = 0; i < kKeys; ++i) {
      const int count = admitted(*handle, cat("key-", i));
      if (evicted(*inspector) != evicted_before) return;  // a full table: its keys make room
      require(count <= fresh, "a key got more than its policy gives",
              cat(policy.name, " key-", i, ": ", count, " of ", fresh));
    }
  }
}

void into_a_new_one() {
  const std::string path = file->path() + "-new";
  unlink(path.c_str());
  const auto made = create_restored(path, file->options(), database_path());
  if (made.ok()) require_sound(path);
  unlink(path.c_str());
}

}  // namespace
}  // namespace brim::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  using namespace brim;
  static brim::fuzz::SegmentFile made(400);  // so that no row evicts a key
  brim::fuzz::file = &made;
  if (!made.alone()) {
    std::printf("skipped: no mount namespace, so no /dev/shm of a bounded size\n");
    std::exit(77);
  }
  SnapshotOptions options;
  options.synchronous = Synchronous::kOff;
  static auto opened = snapshot::open_to_write(brim::fuzz::database_path(), options);
  brim::fuzz::require(opened.ok(), "open");
  brim::fuzz::database = &*opened;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brim::fuzz;
  Input input(data, size);
  file->restore();
  const Made made = Maker(input).make();
  write(made);
  into_the_live_one(made);
  if (made.anew) into_a_new_one();
  return 0;
}
