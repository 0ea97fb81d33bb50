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

// Longer than any run: what a test that was stopped in the middle leaves ends by itself.
constexpr unsigned kMostSeconds = 7000;

// What the watchers saw.
struct Seen {
  std::atomic<uint32_t> stop;
  std::atomic<uint64_t> runs;
  std::atomic<uint64_t> used;
  std::atomic<uint64_t> notes;
  std::atomic<uint64_t> repaired;
  std::atomic<uint64_t> bad;
  char text[4000];
};

bool watch(const std::string& name, bool repair, Seen& seen) {
  VerifyOptions how;
  how.repair = repair;
  while (seen.stop == 0) {
    const auto report = verify(name, how, [&](const Finding& finding) {
      if (finding.severity == Severity::kNote || finding.name == "override_unseen") return;
      if (seen.bad.fetch_add(1) != 0) return;
      std::snprintf(seen.text, sizeof(seen.text), "%s slot %lu policy %s key %s: %s",
                    std::string(finding.name).c_str(), finding.slot, finding.policy.c_str(),
                    finding.key.c_str(), finding.value.c_str());
    });
    if (!report.ok()) return false;
    ++seen.runs;
    seen.used += report->used;
    seen.notes += report->notes;
    seen.repaired += report->repaired;
  }
  return true;
}

// A walk that stands still in the middle has seen half of another table.
void stop_watchers(const Children& watchers, std::mt19937_64& random) {
  for (int stops = 0; stops < 8; ++stops) {
    const pid_t watcher = watchers[random() % watchers.size()];
    kill(watcher, SIGSTOP);
    usleep(static_cast<useconds_t>(random() % 2000));
    kill(watcher, SIGCONT);
    usleep(static_cast<useconds_t>(random() % 500));
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
  const Shared<Seen> seen;
  Children watchers;
  for (const bool repair : {false, true}) {
    watchers.add(spawn([&] { return watch(name.str(), repair, *seen); }, kMostSeconds));
  }
  Children workers;
  uint64_t seed = 1;
  const auto start = [&](size_t i) {
    ++seed;
    return spawn(
        [&] { return i == kWorkers ? changes(name.str(), seed) : traffic(name.str(), seed); },
        kMostSeconds);
  };
  for (size_t i = 0; i <= kWorkers; ++i) workers.add(start(i));
  std::mt19937_64 random(3);
  uint64_t harms = 0;
  const int64_t end = monotonic_now_ns() + scaled(5, 300) * kSecond;
  // Longer where the watchers hardly get a turn.
  const auto go_on = [&] { return monotonic_now_ns() < end || seen->runs <= 20; };
  for (; go_on() && seen->bad == 0 && watchers.all_running(); ++harms) {
    stop_watchers(watchers, random);
    const size_t victim = random() % workers.size();
    if (random() % 3 == 0) {
      workers.restart(victim, [&] { return start(victim); });
      continue;
    }
    kill(workers[victim], SIGSTOP);
    // Now and then longer than a tentative lives.
    usleep(random() % 64 == 0 ? 1100000 : static_cast<useconds_t>(random() % 4000));
    kill(workers[victim], SIGCONT);
  }
  seen->stop = 1;
  EXPECT_TRUE(watchers.all_succeeded());
  workers.kill_all();
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

struct Work {
  std::atomic<int64_t> clock_ns;
  std::atomic<uint32_t> stop;
  std::atomic<uint64_t> allowed;  // calls that the workers may have made by now
  std::atomic<uint64_t> calls;
  std::atomic<uint32_t> admitted[kHot];
};

std::string hot_key(uint64_t i) { return "hot" + std::to_string(i); }

bool drain_hot_keys(const PolicyHandle& policy, uint64_t seed, Work& work) {
  std::mt19937_64 random(seed);
  while (work.stop == 0) {
    if (work.calls >= work.allowed) {
      sched_yield();
      continue;
    }
    const uint64_t i = random() % kHot;
    if (policy.try_acquire(hot_key(i))) work.admitted[i].fetch_add(1);
    ++work.calls;
  }
  return true;
}

enum class Planted { kNo, kYes, kLost };

// A second copy of the key, as the first was a moment ago or idle, some places behind the first.
Planted plant_behind(const Raw& raw, const std::string& key, std::mt19937_64& random) {
  const std::vector<uint64_t> window = raw.window(key);
  const uint64_t at = raw.find(0, key);
  const auto first = std::find(window.begin(), window.end(), at);
  if (first == window.end()) return Planted::kLost;
  const size_t behind = static_cast<size_t>(first - window.begin()) + 1 + random() % 6;
  if (behind >= 16 || raw.get(window[behind]).id != shm::kFreeId) return Planted::kNo;
  Word word = raw.get(at).word;
  if (random() % 3 == 0) word = raw.reading(0, kEpoch - kSecond / 2);
  plant_copy(raw, window[behind], raw.id(0, key), word, key);
  return Planted::kYes;
}

// Goal: F29 under traffic: whatever is planted and repaired meanwhile, no key is admitted more
//   than its burst at a clock that stands.
// Method: four workers drain a few keys, no faster than the rounds go; the parent plants the copies
//   that it sees, and older ones, behind the first, and repairs. No slot is evicted or idle, so
//   every permit is accounted for.
TEST(VerifyTraffic, F29RepairsAdmitNothing) {
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
  for (uint64_t i = 0; i < kHot; ++i) {
    work->admitted[i] += policy.try_acquire(hot_key(i)) ? 1 : 0;
  }
  Children workers;
  for (uint64_t worker = 0; worker < kWorkers; ++worker) {
    workers.add(spawn([&, worker] { return drain_hot_keys(policy, worker, *work); }, kMostSeconds));
  }
  std::mt19937_64 random(5);
  uint64_t planted = 0;
  uint64_t live = 0;  // planted while the key had permits left
  uint64_t repaired = 0;
  VerifyOptions how;
  how.repair = true;
  how.access.clock = ClockKind::kManual;
  how.access.manual_clock_ns = &work->clock_ns;
  const uint64_t rounds = scaled(1500, 100000);
  for (uint64_t round = 0; round < rounds; ++round) {
    // The keys are drained after three quarters of the rounds.
    work->allowed = (round + 1) * kHot * kBurst * 4 / 3 / rounds;
    const uint64_t i = random() % kHot;
    const bool had_permits = work->admitted[i] < kBurst;
    const Planted done = plant_behind(raw, hot_key(i), random);
    ASSERT_NE(done, Planted::kLost) << hot_key(i);
    planted += done == Planted::kYes ? 1 : 0;
    live += done == Planted::kYes && had_permits ? 1 : 0;
    const auto report = verify(name.str(), how, [](const Finding& finding) {
      EXPECT_EQ(finding.name, "duplicate") << finding.value;
    });
    ASSERT_TRUE(report.ok());
    repaired += report->repaired;
  }
  work->stop = 1;
  EXPECT_TRUE(workers.all_succeeded());
  for (uint64_t i = 0; i < kHot; ++i) {
    uint32_t admitted = work->admitted[i];
    drain(policy, hot_key(i), admitted, kBurst + 9);
    EXPECT_EQ(admitted, kBurst) << "key " << i;
  }
  EXPECT_GT(planted, rounds / 4);
  EXPECT_GT(live, planted / 3);
  EXPECT_EQ(repaired, planted);
  std::printf("F29 under traffic: %lu planted, %lu of them while permits were left, %lu repaired\n",
              planted, live, repaired);
}

}  // namespace
}  // namespace brim::test
