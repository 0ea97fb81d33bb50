// SPDX-License-Identifier: MIT
// A segment with a policy of each kind, a folder for its snapshots, and the bytes of a file.
#ifndef BRIM_TESTS_SNAPSHOT_SUPPORT_H_
#define BRIM_TESTS_SNAPSHOT_SUPPORT_H_

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "brim/snapshot.h"
#include "tests/process/support.h"

namespace brim::test {

// Removed with all it holds, by whoever made it.
class Folder {
 public:
  Folder() : owner_(getpid()) {
    path_ = "/dev/shm/brim-snapshot-XXXXXX";  // no test cuts the power: no waits for a disk
    if (mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ~Folder() {
    std::error_code ignored;
    if (getpid() == owner_) std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string file(const std::string& name = "s.db") const { return path_ + "/" + name; }
  // The names that have `part` in them.
  std::vector<std::string> entries(std::string_view part) const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      const std::string name = entry.path().filename().string();
      if (name.find(part) != std::string::npos) found.push_back(entry.path().string());
    }
    return found;
  }

 private:
  std::string path_;
  pid_t owner_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

inline void write_file(const std::string& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.flush().good()) << path;
}

// A database without what SQLite keeps beside it.
inline void place(const std::string& path, std::string_view bytes) {
  for (const char* const tail : {"-wal", "-shm"}) unlink((path + tail).c_str());
  write_file(path, bytes);
}

inline std::string text_of(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

// Slow enough that nothing flows back while a test runs.
inline const std::vector<NamedPolicy>& one_of_each() {
  static const std::vector<NamedPolicy> list = {
      {"bucket", "10/d burst 10"},           {"fixed", "fixed-window 10/30d"},
      {"counter", "sliding-counter 10/30d"}, {"log", "sliding-log 10/d"},
      {"two", "10/d burst 10; 100/30d"},     {"ban", "3/d burst 3 ban 2 in 10h for 1h"}};
  return list;
}

class SnapshotFiles : public ::testing::Test {
 protected:
  void create(uint64_t capacity = 256, std::vector<NamedPolicy> policies = one_of_each()) {
    options_.capacity = capacity;
    options_.policies = std::move(policies);
    auto created = Limiter::create(name_.str(), options_);
    ASSERT_TRUE(created.ok()) << created.status();
    limiter_ = *std::move(created);
  }
  PolicyHandle policy(std::string_view name) const { return *limiter_.policy(name); }
  // `keys` keys of each policy, each with some permits taken.
  void fill(int keys) const {
    for (const NamedPolicy& one : options_.policies) {
      for (int key = 0; key < keys; ++key) {
        for (int n = 0; n <= key % 6; ++n) policy(one.name).try_acquire("k" + std::to_string(key));
      }
    }
  }
  SnapshotOptions to(const std::string& file) const {
    SnapshotOptions options;
    options.file = file;
    options.synchronous = Synchronous::kOff;  // no test cuts the power
    options.busy_timeout_ns = 100 * kMs;
    return options;
  }
  SnapshotReport take(const std::string& file) const {
    auto snapshotter = Snapshotter::open(name_.str(), to(file));
    EXPECT_TRUE(snapshotter.ok()) << snapshotter.status();
    auto report = snapshotter->take();
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *report : SnapshotReport{};
  }

  SegmentName name_;
  Folder folder_;
  Options options_;
  Limiter limiter_;
};

// All that a file says, in words; empty and `status` set if it is refused. A file read twice with
// the same answer holds the same values.
inline std::string contents(const std::string& file, absl::Status& status) {
  std::string all;
  const auto add = [&](auto value) { all += std::to_string(value) + " "; };
  const auto head = read_snapshot(file, [&](const KeyState& key) {
    add(key.slot), add(key.policy), add(key.part), add(key.fingerprint), add(key.has_key);
    all += key.key + " ";
    add(key.key_length), add(key.place), add(static_cast<int>(key.kind)), add(key.used);
    add(key.before), add(key.until_ns), add(key.barred), add(key.as_of_ns);
    for (const int64_t left : key.left_ns) add(left);
    all += "\n";
    return true;
  });
  status = head.status();
  if (!head.ok()) return {};
  const Options& options = head->segment.options;
  all += head->segment.name + head->segment.uuid + head->segment.boot_id + head->segment.hash_seed;
  add(head->segment.layout_version), add(options.capacity), add(options.name_bytes);
  add(options.max_policies), add(options.cells_per_key), add(options.overrides);
  add(static_cast<int>(options.hash)), add(static_cast<int>(options.on_full));
  add(options.probe_limit), add(options.mode);
  for (const uint64_t prefixes : head->segment.network_prefixes) add(prefixes);
  for (const PolicyState& policy : head->policies) {
    all += policy.name + "=" + policy.text + " ";
    add(policy.number), add(policy.factor_ppm);
    for (const RateState& rate : policy.rates) {
      add(rate.policy), add(rate.part), add(static_cast<int>(rate.kind)), add(rate.limit);
      add(rate.period_ns), add(rate.unit_shift), add(rate.slowest_ppm), add(rate.most_permits);
    }
  }
  for (const OverrideState& entry : head->overrides) {
    add(entry.hash_low), add(entry.hash_high);
    all += entry.policy + entry.use + entry.key + "\n";
    add(entry.ban), add(entry.ends_in_ns), add(entry.key_length);
  }
  add(head->generation), add(head->rows), add(head->wall_ns), add(head->monotonic_ns);
  return all;
}

}  // namespace brim::test

#endif  // BRIM_TESTS_SNAPSHOT_SUPPORT_H_
