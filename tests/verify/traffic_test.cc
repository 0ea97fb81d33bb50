// SPDX-License-Identifier: MIT
// verify while traffic runs: nothing false is found, and repairs admit nothing.
#include "tests/verify/support.h"

namespace brim::test {
namespace {

constexpr uint32_t kWorkers = 4;
constexpr uint32_t kKeys = 600;  // far more than slots: inserts, reclaims and evictions all along

const char* const kPolicies[] = {"p", "w", "c", "m", "l"};

// Calls of every kind on every policy, on the real clock.
bool traffic(const std::string& name, uint64_t seed) {
  const auto limiter = Limiter::attach(name);
  if (!limiter.ok()) return false;
  std::vector<PolicyHandle> policies;
  for (const char* one : kPolicies) policies.push_back(*limiter->policy(one));
  std::mt19937_64 random(seed);
  std::vector<Lease> leases(8);
  for (;;) {
    const uint64_t draw = random();
    const PolicyHandle& policy = policies[draw % 4];
    // Half of the calls on few keys, so that slots also stay and words grow.
    const uint64_t key_number = draw >> 8 & 1 ? draw >> 16 & 15 : (draw >> 16) % kKeys;
    const std::string key = "key" + std::to_string(key_number);
    switch (draw >> 40 & 31) {
      case 0:
        (void)policy.refund(key);
        break;
      case 1:
        (void)policy.reset(key);
        break;
      case 2:
        (void)policy.peek(key);
        break;
      case 3: {
        Lease& lease = leases[draw >> 48 & 7];
        (void)policies[4].release(lease);
        lease = policies[4].acquire_lease(key, 20 * kMs);
        break;
      }
      case 4:
        (void)policies[4].renew(leases[draw >> 48 & 7], 20 * kMs);
        break;
      case 5:
        (void)policies[0].cancel(key, policies[0].reserve(key, 1, kSecond));
        break;
      default:
        (void)policy.try_acquire(key, 1 + static_cast<uint32_t>(draw >> 48 & 1));
    }
  }
}

// Policies and overrides change all the time.
bool changes(const std::string& name, uint64_t seed) {
  const auto limiter = Limiter::attach(name);
  if (!limiter.ok()) return false;
  std::mt19937_64 random(seed);
  for (;;) {
    const uint64_t draw = random();
    const std::string burst = std::to_string(1 + draw % 50);
    const auto how = draw >> 8 & 1 ? OnChange::kProportional : OnChange::kKeep;
    switch (draw >> 16 & 7) {
      case 0:
        (void)limiter->change("p", std::to_string(50 + draw % 100) + "/s burst " + burst, how);
        break;
      case 1:
        (void)limiter->change("w", "fixed-window " + burst + "/20ms", how);
        break;
      case 2:
        (void)limiter->change("c", "sliding-counter " + burst + "/30ms", how);
        break;
      case 3:
        (void)limiter->change("p", "100/s burst " + burst, OnChange::kReset);
        break;
      case 4:
        (void)limiter->set_factor(draw >> 24 & 1 ? "p" : "w",
                                  static_cast<uint32_t>(200000 + draw % 800000));
        break;
      case 5:
        (void)limiter->set_override(draw >> 24 & 1 ? "*" : "p", "key" + burst, "w");
        break;
      case 6:
        (void)limiter->clear_override(draw >> 24 & 1 ? "*" : "p", "key" + burst);
        break;
      default:
        (void)limiter->change("m", "100/s burst " + burst + "; sliding-log 6/50ms", how);
    }
    usleep(static_cast<useconds_t>(draw >> 32 & 1023));
  }
}

// Goal: no finding of severity error, and no warning but what a killed writer of overrides leaves,
//   while processes of every kind run, are killed and are stopped; with and without repairs.
// Method: a small table; verify runs in a loop in processes of their own and reports to this one.
TEST(VerifyTraffic, NothingFalseIsFoundWhileProcessesAreKilledAndStopped) {
  const SegmentName name;
  Options options;
  options.capacity = 300;
  options.probe_limit = 6;
  options.policies = {{"p", "100/s burst 5"},
                      {"w", "fixed-window 4/20ms"},
                      {"c", "sliding-counter 6/30ms ban 5 in 50ms for 20ms"},
                      {"m", "100/s burst 5; sliding-log 6/50ms"},
                      {"l", "concurrency 3 ttl 1s"}};
  ASSERT_TRUE(Limiter::create(name.str(), options).ok());
  struct Seen {
    std::atomic<uint32_t> stop;
    std::atomic<uint64_t> runs;
    std::atomic<uint64_t> used;
    std::atomic<uint64_t> notes;
    std::atomic<uint64_t> repaired;
    std::atomic<uint64_t> bad;
    char text[4000];
  };
  const Shared<Seen> seen;
  const auto watch = [&](bool repair) {
    VerifyOptions how;
    how.repair = repair;
    while (seen->stop == 0) {
      const auto report = verify(name.str(), how, [&](const Finding& finding) {
        if (finding.severity == Severity::kNote || finding.name == "override_unseen") return;
        if (seen->bad.fetch_add(1) != 0) return;
        std::snprintf(seen->text, sizeof(seen->text), "%s slot %lu policy %s key %s: %s",
                      std::string(finding.name).c_str(), finding.slot, finding.policy.c_str(),
                      finding.key.c_str(), finding.value.c_str());
      });
      if (!report.ok()) return false;
      ++seen->runs;
      seen->used += report->used;
      seen->notes += report->notes;
      seen->repaired += report->repaired;
    }
    return true;
  };
  const pid_t watchers[] = {spawn([&] { return watch(false); }),
                            spawn([&] { return watch(true); })};
  pid_t pids[kWorkers + 1];
  uint64_t seed = 1;
  const auto start = [&](uint32_t i) {
    ++seed;
    pids[i] = spawn(
        [&] { return i == kWorkers ? changes(name.str(), seed) : traffic(name.str(), seed); });
  };
  for (uint32_t i = 0; i <= kWorkers; ++i) start(i);
  std::mt19937_64 random(3);
  uint64_t harms = 0;
  const int64_t end = monotonic_now_ns() + scaled(5, 300) * kSecond;
  for (; monotonic_now_ns() < end && seen->bad == 0; ++harms) {
    // A walk that stands still in the middle has seen half of another table.
    for (int stops = 0; stops < 8; ++stops) {
      const pid_t watcher = watchers[random() % 2];
      kill(watcher, SIGSTOP);
      usleep(static_cast<useconds_t>(random() % 2000));
      kill(watcher, SIGCONT);
      usleep(static_cast<useconds_t>(random() % 500));
    }
    const auto victim = static_cast<uint32_t>(random() % (kWorkers + 1));
    if (random() % 3 == 0) {
      kill_and_reap(pids[victim]);
      start(victim);
      continue;
    }
    kill(pids[victim], SIGSTOP);
    // Now and then longer than a tentative lives.
    usleep(random() % 64 == 0 ? 1100000 : static_cast<useconds_t>(random() % 4000));
    kill(pids[victim], SIGCONT);
  }
  seen->stop = 1;
  for (const pid_t pid : watchers) EXPECT_TRUE(succeeded(pid));
  for (const pid_t pid : pids) kill_and_reap(pid);
  EXPECT_EQ(seen->bad, 0u) << seen->text;
  EXPECT_GT(seen->runs, 20u);
  const Raw raw(name.str(), nullptr);
  std::printf(
      "verify under traffic: %lu runs, %lu slots in use seen, %lu notes, %lu repaired, %lu "
      "kills and stops, inserted %lu, reclaimed %lu, evicted %lu, adopted %lu\n",
      seen->runs.load(), seen->used.load(), seen->notes.load(), seen->repaired.load(), harms,
      raw.sum(shm::Event::kInserted), raw.sum(shm::Event::kReclaimed),
      raw.sum(shm::Event::kEvictedLive), raw.sum(shm::Event::kAdopted));
}

constexpr uint32_t kHot = 8;
constexpr uint32_t kBurst = 200000;

// Goal: F29 under traffic: whatever is planted and repaired meanwhile, no key is admitted more
//   than its burst at a clock that stands.
// Method: four workers drain a few keys; the parent plants the copies that it sees, and older ones,
//   behind the first, and repairs. No slot is evicted or idle, so every permit is accounted for.
TEST(VerifyTraffic, F29RepairsAdmitNothing) {
  struct Work {
    std::atomic<int64_t> clock_ns;
    std::atomic<uint32_t> stop;
    std::atomic<uint32_t> admitted[kHot];
  };
  const SegmentName name;
  const Shared<Work> work;
  work->clock_ns = kEpoch - kSecond;
  Options options = manual(&work->clock_ns, 64, "1/s burst " + std::to_string(kBurst));
  options.name_bytes = 16;
  const auto limiter = Limiter::create(name.str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const PolicyHandle policy = *limiter->policy("p");
  work->clock_ns = kEpoch;
  const Raw raw(name.str(), &work->clock_ns);
  raw.engine().segment->shared()->reach = 3;
  for (uint64_t i = 0; i < raw.slots(); ++i) raw.set(i, {shm::kFreeId, 0});
  const auto key = [](uint32_t i) { return "hot" + std::to_string(i); };
  for (uint32_t i = 0; i < kHot; ++i) work->admitted[i] += policy.try_acquire(key(i)) ? 1 : 0;
  std::vector<pid_t> pids;
  for (uint32_t worker = 0; worker < kWorkers; ++worker) {
    pids.push_back(spawn([&, worker] {
      std::mt19937_64 random(worker);
      while (work->stop == 0) {
        const auto i = static_cast<uint32_t>(random() % kHot);
        if (policy.try_acquire(key(i))) work->admitted[i].fetch_add(1);
      }
      return true;
    }));
  }
  std::mt19937_64 random(5);
  uint64_t planted = 0;
  uint64_t repaired = 0;
  const uint32_t rounds = scaled(1500, 100000);
  for (uint32_t round = 0; round < rounds; ++round) {
    const auto i = static_cast<uint32_t>(random() % kHot);
    const std::vector<uint64_t> window = raw.window(key(i));
    const uint64_t at = raw.find(0, key(i));
    const size_t first =
        static_cast<size_t>(std::find(window.begin(), window.end(), at) - window.begin());
    ASSERT_LT(first, window.size());
    const size_t behind = first + 1 + random() % 6;
    if (behind < 16 && raw.get(window[behind]).id == shm::kFreeId) {
      const uint64_t slot_id = raw.id(0, key(i));
      shm::NameEntry* const entry = raw.engine().segment->name_entry(window[behind]);
      shm::store_name(entry, key(i), key(i).size(),
                      name_check(raw.engine().secret, slot_id, key(i).size(), key(i)));
      Word word = raw.get(at).word;  // as it was a moment ago, or idle
      if (random() % 3 == 0) word = raw.reading(0, kEpoch - kSecond / 2);
      raw.set(window[behind], {slot_id, word});
      ++planted;
    }
    VerifyOptions how;
    how.repair = true;
    how.access.clock = ClockKind::kManual;
    how.access.manual_clock_ns = &work->clock_ns;
    const auto report = verify(name.str(), how, [](const Finding& finding) {
      EXPECT_EQ(finding.name, "duplicate") << finding.value;
    });
    ASSERT_TRUE(report.ok());
    repaired += report->repaired;
  }
  work->stop = 1;
  for (const pid_t pid : pids) EXPECT_TRUE(succeeded(pid));
  for (uint32_t i = 0; i < kHot; ++i) {
    uint32_t admitted = work->admitted[i];
    drain(policy, key(i), admitted, kBurst + 9);
    EXPECT_EQ(admitted, kBurst) << "key " << i;
  }
  EXPECT_GT(planted, rounds / 4);
  EXPECT_EQ(repaired, planted);
  std::printf("F29 under traffic: %lu planted, %lu repaired\n", planted, repaired);
}

}  // namespace
}  // namespace brim::test
