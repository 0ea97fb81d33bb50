// SPDX-License-Identifier: MIT
// F48, F49, P12: a file whose checksums are right and whose values nobody would write, and clocks
// that stepped between a snapshot and its restore.
#include <functional>

#include "src/snapshot/store.h"
#include "tests/snapshot/support.h"

namespace brim::test {
namespace {

struct File {
  SnapshotFile head;
  std::vector<KeyState> rows;
};

class Rewritten : public SnapshotFiles {
 protected:
  void SetUp() override {
    create();
    fill(6);
    ASSERT_TRUE(limiter_.set_override("bucket", "vip", "unlimited").ok());
    ASSERT_TRUE(limiter_.set_network_override("fixed", "2001:db8::/32", "deny").ok());
    take(file_);
    const auto head = read_snapshot(file_, [&](const KeyState& row) {
      good_.rows.push_back(row);
      return true;
    });
    ASSERT_TRUE(head.ok()) << head.status();
    good_.head = *head;
    ASSERT_GT(good_.rows.size(), 20u);
  }

  // The file again, whole, with the checksums of whoever wrote `what`.
  void write(const File& what) {
    auto database = snapshot::open_to_write(file_, to(file_));
    ASSERT_TRUE(database.ok()) << database.status();
    auto transaction = snapshot::Transaction::begin(*database, "BEGIN IMMEDIATE");
    ASSERT_TRUE(transaction.ok() && database->execute("DELETE FROM keys").ok());
    auto writer = snapshot::RowWriter::open(*database);
    ASSERT_TRUE(writer.ok());
    uint64_t total = 0;
    for (const KeyState& row : what.rows) {
      const uint64_t sum = snapshot::row_sum(row);
      total += sum;
      ASSERT_TRUE(writer->put(row, sum).ok());
    }
    SnapshotFile head = what.head;
    head.rows = what.rows.size();
    const absl::Status status = snapshot::write_head(*database, head, total);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_TRUE(transaction->commit().ok());
  }

  // Restores it where it can be restored: nothing crashes, and a key is barred for no longer than
  // a full debt of its policy lasts.
  void expect_harmless(const std::string& what) {
    SCOPED_TRACE(what);
    absl::Status status;
    contents(file_, status);
    if (!status.ok()) {
      EXPECT_TRUE(text_of(status).starts_with("snapshot_")) << status;
    }
    show(what);
    const SegmentName other;
    Options options;
    options.capacity = 512;
    options.policies = one_of_each();
    const auto fresh = Limiter::create(other.str(), options);
    ASSERT_TRUE(fresh.ok());
    EXPECT_EQ(restore(*fresh, file_).ok(), status.ok());
    expect_sane(*fresh);
    const SegmentName third;
    if (const auto made = create_restored(third.str(), options, file_); made.ok()) {
      expect_sane(*made);
    }
    const SegmentName fourth;
    options = Options();
    options.capacity = 512;
    if (const auto made = create_restored(fourth.str(), options, file_); made.ok()) {
      (void)made->policy_names();
    }
  }

  // A policy's debt, its ban, or its rest of two windows.
  static void expect_sane(const Limiter& limiter) {
    for (const NamedPolicy& one : one_of_each()) {
      const auto handle = limiter.policy(one.name);
      ASSERT_TRUE(handle.ok());
      for (int key = 0; key < 6; ++key) {
        const Decision decision = handle->peek("k" + std::to_string(key), 1);
        EXPECT_LE(decision.retry_after_ns, int64_t{62} * 86400 * kSecond) << one.name << key;
        EXPECT_LE(decision.remaining, 10u);
        (void)handle->try_acquire("k" + std::to_string(key));
      }
    }
  }

  // brim snapshot show: prints it or says what is wrong.
  void show(const std::string& what) {
    const char* const tool = std::getenv("BRIM_TOOL");
    if (tool == nullptr || ++shown_ % 16 != 0) return;
    setenv("BRIM_HOSTILE_FILE", file_.c_str(), 1);
    for (const char* const format : {"json", "csv", "table"}) {
      const std::string command =
          std::string("\"$BRIM_TOOL\" snapshot show \"$BRIM_HOSTILE_FILE\"") + " --format " +
          format + " >/dev/null 2>&1";
      const int code = WEXITSTATUS(std::system(command.c_str()));
      EXPECT_TRUE(code == 0 || code == 1 || code == 4) << what << ": exit code " << code;
    }
  }

  std::string file_ = folder_.file();
  File good_;
  int shown_ = 0;
};

using F48Hostile = Rewritten;
using F49 = Rewritten;

constexpr int64_t kDay = 86400 * kSecond;
constexpr uint64_t kAbsurd[] = {0,
                                1,
                                uint64_t{1} << 31,
                                uint64_t{1} << 32,
                                uint64_t{1} << 60,
                                uint64_t{1} << 62,
                                (uint64_t{1} << 63) - 1,
                                uint64_t{1} << 63,
                                ~uint64_t{0}};

// Method: every number of a row, of a rate and of the segment, set to what nobody writes.
TEST_F(F48Hostile, AbsurdRows) {
  using Set = std::function<void(KeyState&, uint64_t)>;
  const std::pair<const char*, Set> fields[] = {
      {"slot", [](KeyState& row, uint64_t value) { row.slot = value; }},
      {"policy", [](KeyState& row, uint64_t value) { row.policy = static_cast<uint16_t>(value); }},
      {"part", [](KeyState& row, uint64_t value) { row.part = static_cast<uint32_t>(value); }},
      {"fingerprint", [](KeyState& row, uint64_t value) { row.fingerprint = value; }},
      {"key_length", [](KeyState& row, uint64_t value) { row.key_length = value; }},
      {"place", [](KeyState& row, uint64_t value) { row.place = value; }},
      {"used", [](KeyState& row, uint64_t value) { row.used = value; }},
      {"before", [](KeyState& row, uint64_t value) { row.before = value; }},
      {"both", [](KeyState& row, uint64_t value) { row.used = row.before = value; }},
      {"until", [](KeyState& row, uint64_t value) { row.until_ns = static_cast<int64_t>(value); }},
      {"left",
       [](KeyState& row, uint64_t value) {
         row.left_ns.assign(1 + value % 255, static_cast<int64_t>(value));
       }},
      {"as_of", [](KeyState& row, uint64_t value) { row.as_of_ns = static_cast<int64_t>(value); }},
      {"kind",
       [](KeyState& row, uint64_t value) { row.kind = static_cast<StateKind>(1 + value % 5); }}};
  for (const auto& [name, set] : fields) {
    for (const uint64_t value : kAbsurd) {
      File bad = good_;
      for (KeyState& row : bad.rows) set(row, value);
      if (std::string_view(name) == "slot") bad.rows.resize(1);
      write(bad);
      expect_harmless(std::string(name) + " = " + std::to_string(value));
      if (HasFailure()) return;
    }
  }
  for (const size_t entries : {size_t{256}, size_t{257}, size_t{300}}) {
    File bad = good_;
    for (KeyState& row : bad.rows) row.left_ns.assign(entries, kDay);
    write(bad);
    EXPECT_EQ(read_snapshot(file_).ok(), entries <= 256);
    expect_harmless("entries of a log: " + std::to_string(entries));
  }
  for (const auto& [policy, part] : {std::pair{65535, 7}, {65535, 200}, {0, 7}, {4095, 0}}) {
    File bad = good_;
    for (KeyState& row : bad.rows) {
      row.policy = static_cast<uint16_t>(policy);
      row.part = static_cast<uint32_t>(part);
    }
    write(bad);
    EXPECT_EQ(read_snapshot(file_).ok(), part < 8);
    expect_harmless("policy " + std::to_string(policy) + " part " + std::to_string(part));
  }
}

TEST_F(F48Hostile, AbsurdRatesAndSegments) {
  using Set = std::function<void(SnapshotFile&, uint64_t)>;
  const auto rates = [](auto set) -> Set {
    return [set](SnapshotFile& head, uint64_t value) {
      for (PolicyState& policy : head.policies) {
        for (RateState& rate : policy.rates) set(rate, value);
      }
    };
  };
  using Rate = RateState;
  const std::pair<const char*, Set> fields[] = {
      {"limit", rates([](Rate& r, uint64_t v) { r.limit = static_cast<uint32_t>(v); })},
      {"period", rates([](Rate& r, uint64_t v) { r.period_ns = static_cast<int64_t>(v); })},
      {"shift", rates([](Rate& r, uint64_t v) { r.unit_shift = static_cast<uint32_t>(v); })},
      {"shift 63", rates([](Rate& r, uint64_t v) { r.unit_shift = v % 64; })},
      {"slowest", rates([](Rate& r, uint64_t v) { r.slowest_ppm = static_cast<uint32_t>(v); })},
      {"most", rates([](Rate& r, uint64_t v) { r.most_permits = v; })},
      {"part",
       [](SnapshotFile& head, uint64_t value) {
         for (auto& policy : head.policies) {
           if (policy.rates.size() == 1) policy.rates[0].part = static_cast<uint32_t>(value);
         }
       }},
      {"kind", rates([](Rate& r, uint64_t v) { r.kind = static_cast<StateKind>(1 + v % 5); })},
      {"factor",
       [](SnapshotFile& head, uint64_t value) {
         // Little would all but stop the policy, as an operator may.
         const uint32_t factor = std::max(500000u, static_cast<uint32_t>(value));
         for (auto& policy : head.policies) policy.factor_ppm = factor;
       }},
      {"wall", [](SnapshotFile& h, uint64_t v) { h.wall_ns = static_cast<int64_t>(v); }},
      {"monotonic", [](SnapshotFile& h, uint64_t v) { h.monotonic_ns = static_cast<int64_t>(v); }},
      {"generation", [](SnapshotFile& h, uint64_t v) { h.generation = v; }},
      {"prefixes", [](SnapshotFile& h, uint64_t v) { h.segment.network_prefixes[1] = v; }},
      {"hash",
       [](SnapshotFile& h, uint64_t v) {
         h.segment.options.hash = static_cast<HashKind>(v & 0xff);
         h.segment.options.on_full = static_cast<OnFull>(v & 0xff);
       }},
      {"name_bytes",
       [](SnapshotFile& h, uint64_t v) {
         h.segment.options.name_bytes = static_cast<uint32_t>(v);
       }},
      {"sizes",
       [](SnapshotFile& h, uint64_t v) {
         Options& options = h.segment.options;
         options.max_policies = static_cast<uint32_t>(v);
         options.cells_per_key = static_cast<uint32_t>(v);
         options.probe_limit = static_cast<uint32_t>(v);
         options.mode = static_cast<uint32_t>(v);
       }},
      {"capacity", [](SnapshotFile& h, uint64_t v) { h.segment.options.capacity = v; }}};
  for (const auto& [name, set] : fields) {
    for (const uint64_t value : kAbsurd) {
      File bad = good_;
      set(bad.head, value);
      write(bad);
      expect_harmless(std::string(name) + " = " + std::to_string(value));
      if (HasFailure()) return;
    }
  }
  for (const uint64_t capacity : {uint64_t{0}, uint64_t{1} << 60, ~uint64_t{0}}) {
    File bad = good_;
    bad.head.segment.options.capacity = capacity;
    write(bad);
    const SegmentName other;
    const auto made = create_restored(other.str(), {}, file_);
    EXPECT_EQ(made.ok(), capacity == 0) << capacity;
    if (!made.ok()) {
      EXPECT_TRUE(absl::IsNotFound(Limiter::attach(other.str()).status()));
    }
  }
}

TEST_F(F48Hostile, AbsurdTexts) {
  const std::string texts[] = {
      "",  "\x1b]0;x\x07",    std::string(100000, 'x'), std::string(3, '\0'), "10/s burst 10",
      "*", "../../etc/passwd"};
  for (const std::string& text : texts) {
    for (int which = 0; which < 6; ++which) {
      File bad = good_;
      SegmentState& segment = bad.head.segment;
      std::string* const places[] = {&segment.name,
                                     &segment.hash_seed,
                                     &bad.head.policies[0].name,
                                     &bad.head.policies[0].text,
                                     &bad.head.overrides[0].use,
                                     &bad.rows[0].key};
      *places[which] = text;
      write(bad);
      expect_harmless("text " + std::to_string(which) + " " + text.substr(0, 20));
      if (HasFailure()) return;
    }
  }
  // One policy of that many rows: the same numbers, other names.
  File bad = good_;
  for (PolicyState& policy : bad.head.policies) policy.name = "bucket";
  write(bad);
  expect_harmless("one name for all policies");
}

// Goal: F49, the wall clock alone tells how long a key was away. Back: no time, nothing forgiven.
//   Forward: at most what that time gives back. A later restore into the live segment changes
//   nothing: P12.
TEST_F(F49, WallClockBackAndForward) {
  const SegmentName other;
  for (const int64_t step : {-kDay, -kSecond, int64_t{0}, kDay / 10, kDay / 2, kDay, 400 * kDay}) {
    SCOPED_TRACE(step);
    File moved = good_;
    moved.head.wall_ns -= step;  // the clock is `step` ahead of where it would be
    write(moved);
    (void)Limiter::unlink(other.str());
    RestoreReport report;
    const auto restored = create_restored(other.str(), {}, file_, &report);
    ASSERT_TRUE(restored.ok()) << restored.status();
    EXPECT_EQ(report.clock_behind, step <= -kSecond);
    EXPECT_GE(report.elapsed_ns, std::max<int64_t>(step, 0));
    if (step <= -kSecond) {
      EXPECT_EQ(report.elapsed_ns, 0);
    }
    for (int key = 0; key < 6; ++key) {
      const std::string name = "k" + std::to_string(key);
      const auto left = [&](const char* policy) {
        return restored->policy(policy)->peek(name).remaining;
      };
      const auto taken = static_cast<uint32_t>(key % 6 + 1);
      const auto back =
          static_cast<uint32_t>(std::min<int64_t>(10, std::max<int64_t>(step, 0) * 10 / kDay));
      // 10/d: a tenth of a day gives one permit; a permit is there when it is whole.
      EXPECT_LE(left("bucket"), std::min(10u, 10 - taken + back));
      EXPECT_GE(left("bucket") + 1, std::min(10u, 10 - taken + back));
      EXPECT_EQ(left("log"), step >= kDay ? 10 : 10 - taken);
      if (step < kDay) {  // else a window of 30 days may have ended
        EXPECT_EQ(left("fixed"), 10 - taken);
        EXPECT_LE(left("counter"), 10 - taken);
      }
      EXPECT_LE(restored->policy("bucket")->peek(name, 10).retry_after_ns, kDay);
      EXPECT_LE(restored->policy("log")->peek(name, 10).retry_after_ns, kDay + kDay / 16);
    }
  }
}

// A reboot: the monotonic clock begins anew and the boot id is another. Rows are as of the old
// boot's clock, which only the file's own pair of clocks relates to the world.
TEST_F(F49, AfterAReboot) {
  for (const int64_t uptime : {kSecond, 1000 * kDay}) {
    File moved = good_;
    const int64_t shift = uptime - moved.head.monotonic_ns;
    moved.head.monotonic_ns += shift;
    moved.head.segment.boot_id = std::string(32, 'f');
    for (KeyState& row : moved.rows) row.as_of_ns = std::max<int64_t>(row.as_of_ns + shift, 0);
    write(moved);
    const SegmentName other;
    const auto restored = create_restored(other.str(), {}, file_);
    ASSERT_TRUE(restored.ok()) << restored.status();
    for (int key = 0; key < 6; ++key) {
      const std::string name = "k" + std::to_string(key);
      for (const char* policy : {"bucket", "fixed", "log"}) {
        EXPECT_EQ(restored->policy(policy)->peek(name).remaining,
                  10u - static_cast<uint32_t>(key % 6 + 1))
            << policy << " " << name << ", up for " << uptime;
      }
    }
  }
}

// A key that has not changed for long is as of then: its age counts by the monotonic clock up to
// the snapshot, whatever the wall clock did meanwhile.
TEST_F(F49, OldRowsAgeByTheMonotonicClock) {
  File moved = good_;
  for (KeyState& row : moved.rows) row.as_of_ns = 0;
  moved.head.monotonic_ns = kDay / 10 + 60 * kSecond;
  write(moved);
  const SegmentName other;
  const auto restored = create_restored(other.str(), {}, file_);
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->policy("bucket")->peek("k5").remaining, 5u);
  EXPECT_EQ(restored->policy("log")->peek("k5").remaining, 4u);
}

}  // namespace
}  // namespace brim::test
