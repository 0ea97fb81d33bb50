// SPDX-License-Identifier: MIT
// ns per decision: brim beside the machine's floor and a mutex-and-map peer, in one run.
//
//   floor   what no design can avoid: hash the key, read the time-stamp counter, touch one line of
//           a table of the same size, one locked 16-byte compare-and-swap (none when refused)
//   brim    PolicyHandle::try_acquire;  brim-batch: try_acquire_batch of 64
//   parts   the sum of those four, each measured alone with its data in the cache
//   mutex   Boost.Interprocess: one mutex, one unordered map, the same GCRA, hash and clock
//
//   bench_decide [--keys 1,1000,...] [--rounds N] [--hash siphash|xxh3] [--no-peer] [--huge]
#include <unistd.h>

#include <boost/interprocess/allocators/allocator.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <boost/interprocess/sync/scoped_lock.hpp>
#include <boost/unordered_map.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "benchmarks/workload.h"
#include "brim/inspect.h"
#include "brim/limiter.h"
#include "shm/atomic128.h"
#include "src/algo/step.h"
#include "src/base/check.h"
#include "src/base/clock.h"
#include "src/base/text.h"
#include "src/compile.h"
#include "src/hash.h"
#include "src/policy_words.h"

namespace brim::bench {
namespace {

namespace ipc = boost::interprocess;

struct Settings {
  std::vector<uint64_t> keys = {1, 1000, 100000, 1000000};
  int rounds = 7;
  bool xxh3 = true;
  bool peer = true;
  bool huge = false;
};

constexpr char kGenerous[] = "4000000000/y";  // never exhausted here, and nothing flows back
constexpr char kSpent[] = "1/y";

std::string unique(const char* what) { return cat("brim-bench-", what, "-", getpid()); }

// A brim segment; `spent`: every key is at its limit.
class BrimSide {
 public:
  BrimSide(const Settings& settings, const Keys& keys, bool spent) : name_(unique("brim")) {
    Options options;
    options.capacity = slots_for(keys.count());
    options.name_bytes = Options::kNoNames;
    options.hash = settings.xxh3 ? HashKind::kXxh3 : HashKind::kSipHash;
    options.huge_pages = settings.huge;
    options.policies = {{"p", spent ? kSpent : kGenerous}};
    auto limiter = Limiter::create(name_, options);
    if (!limiter.ok()) std::fprintf(stderr, "%s\n", limiter.status().ToString().c_str());
    BRIM_CHECK(limiter.ok());
    limiter_ = *limiter;
    policy_ = *limiter_.policy("p");
    for (uint64_t i = 0; i < keys.count(); ++i) policy_.try_acquire(keys[i]);
    BRIM_CHECK(Limiter::unlink(name_).ok());
  }

  static uint64_t slots_for(uint64_t keys) { return keys < 32 ? 64 : keys * 2; }

  uint64_t single(const Keys& keys, uint64_t n, uint64_t seed) const {
    KeyPicker pick{seed, keys.count()};
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; ++i) sum += policy_.try_acquire(keys[pick.next()]).remaining;
    return sum;
  }

  uint64_t batch(const Keys& keys, uint64_t n, uint64_t seed) const {
    KeyPicker pick{seed, keys.count()};
    std::string_view asked[kBatch];
    Decision told[kBatch];
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i += kBatch) {
      for (std::string_view& key : asked) key = keys[pick.next()];
      policy_.try_acquire_batch(asked, told);
      sum += told[i % kBatch].remaining;
    }
    return sum;
  }

 private:
  std::string name_;
  Limiter limiter_;
  PolicyHandle policy_;
};

// The parts of a decision with nothing between them.
class Floor {
 public:
  Floor(const Settings& settings, const Keys& keys, bool refused)
      : refused_(refused), lines_(BrimSide::slots_for(keys.count()) / 4) {
    secret_ = {1, 2, settings.xxh3, kSecret};
    const std::string name = unique("floor");
    const ipc::permissions mode(0600);
    ipc::shared_memory_object file(ipc::create_only, name.c_str(), ipc::read_write, mode);
    file.truncate(static_cast<ipc::offset_t>(lines_ * 64));
    region_ = ipc::mapped_region(file, ipc::read_write);
    ipc::shared_memory_object::remove(name.c_str());
    std::memset(region_.get_address(), 0, region_.get_size());
  }

  uint64_t run(const Keys& keys, uint64_t n, uint64_t seed) const {
    KeyPicker pick{seed, keys.count()};
    auto* const table = static_cast<shm::Pair*>(region_.get_address());
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; ++i) {
      const Hash128 hash = hash_key(secret_, keys[pick.next()]);
      const auto line = static_cast<uint64_t>((static_cast<uint128>(hash.low) * lines_) >> 64);
      const uint64_t now = __rdtsc();
      shm::Pair* const slot = table + line * 4;
      shm::Pair seen = shm::load128(slot);
      sum += seen.high + now;
      if (!refused_) shm::cas128(slot, seen, {hash.high, now});
    }
    return sum;
  }

 private:
  static constexpr uint8_t kSecret[192] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  bool refused_;
  uint64_t lines_;
  HashSecret secret_;
  ipc::mapped_region region_;
};

// The usual way: a map in shared memory under one mutex.
class MutexMap {
 public:
  MutexMap(const Settings& settings, const Keys& keys, bool spent)
      : name_(unique("mutex")),
        memory_(ipc::create_only, name_.c_str(), (size_t{64} << 20) + keys.count() * 160) {
    ipc::shared_memory_object::remove(name_.c_str());
    secret_ = {1, 2, settings.xxh3, reinterpret_cast<const uint8_t*>(name_secret_)};
    quota_ = quota_from(
        *compile(*parse_policy(spent ? kSpent : kGenerous), {monotonic_now_ns(), wall_now_ns()}),
        0);
    mutex_ = memory_.construct<ipc::interprocess_mutex>(ipc::anonymous_instance)();
    map_ = memory_.construct<Map>(ipc::anonymous_instance)(
        keys.count() * 2, Identity(), std::equal_to<Key>(), memory_.get_segment_manager());
    for (uint64_t i = 0; i < keys.count(); ++i) decide_one(keys[i]);
  }

  uint64_t run(const Keys& keys, uint64_t n, uint64_t seed) const {
    KeyPicker pick{seed, keys.count()};
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; ++i) sum += decide_one(keys[pick.next()]).remaining;
    return sum;
  }

 private:
  // Keyed by the 128-bit hash, as brim is by its fingerprint: no string is stored or compared.
  using Key = std::pair<uint64_t, uint64_t>;
  struct Identity {
    size_t operator()(const Key& key) const { return key.first; }
  };
  using Allocator =
      ipc::allocator<std::pair<const Key, Word>, ipc::managed_shared_memory::segment_manager>;
  using Map = boost::unordered_map<Key, Word, Identity, std::equal_to<Key>, Allocator>;

  Decision decide_one(std::string_view text) const {
    const Hash128 hash = hash_key(secret_, text);
    const Instant at = instant(quota_, tsc_usable() ? tsc_now_ns() : monotonic_now_ns());
    const ipc::scoped_lock<ipc::interprocess_mutex> hold(*mutex_);
    Word& word = map_->try_emplace(Key(hash.low, hash.high), kEmptyWord).first->second;
    const Step taken = step(word, at, quota_, 1);
    const Decision told = decide(word, taken, at, quota_, 1);
    word = taken.next;
    return told;
  }

  static constexpr uint64_t name_secret_[24] = {1, 2, 3};
  std::string name_;
  ipc::managed_shared_memory memory_;
  HashSecret secret_;
  Quota quota_;
  ipc::interprocess_mutex* mutex_;
  Map* map_;
};

// The parts one by one, in the same rounds as the rest: their sum is the measure of a decision
// whose line is in the cache.
std::vector<Contender> make_parts(const Settings& settings) {
  alignas(64) static shm::Pair slot;
  static constexpr uint8_t kSecret[192] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const HashSecret secret{1, 2, settings.xxh3, kSecret};
  const auto loop = [](auto body) {
    return [body](const Keys& keys, uint64_t n, uint64_t) {
      uint64_t sum = 0;
      for (uint64_t i = 0; i < n; ++i) sum += body(keys[0]);
      return sum;
    };
  };
  return {{"hash", loop([secret](std::string_view key) { return hash_key(secret, key).low; })},
          {"clock", loop([](std::string_view) { return static_cast<uint64_t>(tsc_now_ns()); })},
          {"line", loop([](std::string_view) { return shm::load128(&slot).high; })},
          {"swap", loop([](std::string_view) {
             shm::Pair seen = slot;
             return uint64_t{shm::cas128(&slot, seen, {seen.low, seen.high + 1})};
           })}};
}

void print_row(const char* verdict, uint64_t keys, int processes, const std::vector<double>& ns,
               bool peer) {
  const double parts = ns[3] + ns[4] + ns[5] + (*verdict == 'a' ? ns[6] : 0);
  std::printf("%-8s %9llu %5d %8.1f %8.1f %8.1f", verdict, static_cast<unsigned long long>(keys),
              processes, ns[0], ns[1], ns[2]);
  if (peer) {
    std::printf(" %8.1f", ns[7]);
  } else {
    std::printf(" %8s", "-");
  }
  std::printf(" %8.1f   %6.2f %8.2f %8.2f", parts, ns[1] / parts, ns[1] / ns[0], ns[1] / ns[2]);
  if (peer) std::printf(" %10.1f", ns[7] / ns[1]);
  std::printf("\n");
  std::fflush(stdout);
}

void run_all(const Settings& settings) {
  std::printf("hash %s, clock %s, medians of %d interleaved rounds, ns per decision and process\n",
              settings.xxh3 ? "xxh3" : "siphash", Clock::automatic().name(), settings.rounds);
  std::printf("%-8s %9s %5s %8s %8s %8s %8s %8s   %6s %8s %8s %10s\n", "verdict", "keys", "procs",
              "floor", "brim", "batch", "mutex", "parts", "brim/", "brim/", "brim/", "mutex/");
  std::printf("%-8s %9s %5s %8s %8s %8s %8s %8s   %6s %8s %8s %10s\n", "", "", "", "", "", "", "",
              "", "parts", "floor", "batch", "brim");
  for (const uint64_t count : settings.keys) {
    const Keys keys(count);
    for (const bool refused : {false, true}) {
      const BrimSide brim(settings, keys, refused);
      const Floor floor(settings, keys, refused);
      const bool peer = settings.peer && count <= 1000000;
      std::unique_ptr<MutexMap> mutex;
      if (peer) mutex = std::make_unique<MutexMap>(settings, keys, refused);
      std::vector<Contender> contenders = {
          {"floor", [&](const Keys& k, uint64_t n, uint64_t s) { return floor.run(k, n, s); }},
          {"brim", [&](const Keys& k, uint64_t n, uint64_t s) { return brim.single(k, n, s); }},
          {"batch", [&](const Keys& k, uint64_t n, uint64_t s) { return brim.batch(k, n, s); }}};
      for (const Contender& part : make_parts(settings)) contenders.push_back(part);
      if (peer) {
        contenders.push_back(
            {"mutex", [&](const Keys& k, uint64_t n, uint64_t s) { return mutex->run(k, n, s); }});
      }
      for (const int processes : {1, 2}) {
        const uint64_t n = count <= 1000 ? 1000000 : 1 << 20;
        print_row(refused ? "refused" : "admitted", count, processes,
                  measure(contenders, keys, processes, settings.rounds, n), peer);
      }
    }
  }
}

std::vector<uint64_t> parse_list(const char* text) {
  std::vector<uint64_t> list;
  for (char* at = const_cast<char*>(text); *at != '\0';) {
    list.push_back(std::strtoull(at, &at, 10));
    if (*at == ',') ++at;
  }
  return list;
}

}  // namespace
}  // namespace brim::bench

int main(int argc, char** argv) {
  brim::bench::Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg == "--keys" && i + 1 < argc) {
      settings.keys = brim::bench::parse_list(argv[++i]);
    } else if (arg == "--rounds" && i + 1 < argc) {
      settings.rounds = std::atoi(argv[++i]);
    } else if (arg == "--hash" && i + 1 < argc) {
      settings.xxh3 = std::string_view(argv[++i]) == "xxh3";
    } else if (arg == "--no-peer") {
      settings.peer = false;
    } else if (arg == "--huge") {
      settings.huge = true;
    } else {
      std::fprintf(stderr,
                   "usage: bench_decide [--keys 1,1000,...] [--rounds N] [--hash siphash|xxh3] "
                   "[--no-peer] [--huge]\n");
      return 2;
    }
  }
  brim::bench::run_all(settings);
  return 0;
}
