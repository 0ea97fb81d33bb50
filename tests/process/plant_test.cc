// SPDX-License-Identifier: MIT
// Bytes that a crash or a hostile writer may leave: planted through the slot types, then met by
// ordinary calls.
#include "tests/process/support.h"

namespace brim::test {
namespace {

class Plant : public ::testing::Test {
 protected:
  void open(uint64_t capacity, const std::string& policy, OnFull on_full = OnFull::kDefault,
            uint32_t probe_limit = 0, uint32_t name_bytes = Options::kNoNames) {
    clock_->store(kEpoch - 3600 * kSecond);  // the policy is older than any planted word
    Options options = manual(&*clock_, capacity, policy);
    options.on_full = on_full;
    options.probe_limit = probe_limit;
    options.name_bytes = name_bytes;
    auto limiter = Limiter::create(name_.str(), options);
    ASSERT_TRUE(limiter.ok()) << limiter.status();
    limiter_ = *std::move(limiter);
    policy_ = *limiter_.policy("p");
    raw_ = std::make_unique<Raw>(name_.str(), &*clock_);
    clock_->store(kEpoch);
  }
  int64_t now() const { return clock_->load(); }

  SegmentName name_;
  Shared<std::atomic<int64_t>> clock_;
  Limiter limiter_;
  PolicyHandle policy_;
  std::unique_ptr<Raw> raw_;
};

// Goal: F27, a killed process's tentative bars nobody: its key adopts it at once, wherever it lies.
// Method: every slot but one is FREE, that one holds the tentative, in turn for each slot.
TEST_F(Plant, F27OwnKeyAdopts) {
  open(16, "10/s burst 3");
  const std::vector<uint64_t> window = raw_->window("key");
  ASSERT_GE(window.size(), 16u);
  for (const uint64_t position : window) {
    for (uint64_t i = 0; i < raw_->slots(); ++i) raw_->set(i, {shm::kFreeId, 0});
    // Every group in use: the search must see the whole window.
    raw_->engine().segment->shared()->reach = window.size() / 4 - 1;
    raw_->set(position, {raw_->id(0, "key"), make_tentative(12345, 1, now())});
    const uint64_t adopted = raw_->sum(shm::Event::kAdopted);
    EXPECT_TRUE(policy_.try_acquire("key"));
    EXPECT_EQ(raw_->sum(shm::Event::kAdopted), adopted + 1);
    EXPECT_EQ(raw_->find(0, "key"), position);
    uint32_t admitted = 1;
    drain(policy_, "key", admitted, 9);
    EXPECT_EQ(admitted, 3u);
    EXPECT_TRUE(table_is_legal(*raw_, {{0, "key"}}));
  }
}

// Goal: F27, another key gets that slot after 1 s and not before.
// Method: a window of live keys and one tentative; fail-closed, so that nothing is evicted.
TEST_F(Plant, F27OtherKeyTakesItAfterASecond) {
  open(4, "1/1000s burst 3", OnFull::kDeny, 1);
  ASSERT_EQ(raw_->slots(), 4u);
  const Word live = raw_->reading(0, now()) + raw_->quota(0).capacity;
  for (uint64_t dead = 0; dead < 4; ++dead) {
    for (uint64_t i = 0; i < 4; ++i) {
      raw_->set(i, {shm::make_id(0, 1000 + i),
                    i == dead ? make_tentative(12345, static_cast<uint32_t>(i), now()) : live});
    }
    const std::string key = "other" + std::to_string(dead);
    const Decision early = policy_.try_acquire(key);
    EXPECT_EQ(early.reason, Reason::kFull);
    EXPECT_FALSE(early.admitted);
    clock_->fetch_add(1000 * kMs);
    EXPECT_EQ(policy_.try_acquire(key).reason, Reason::kFull);
    clock_->fetch_add(2 * kMs);
    const uint64_t expired = raw_->sum(shm::Event::kExpired);
    EXPECT_EQ(policy_.try_acquire(key).verdict, Verdict::kAllowed);
    EXPECT_EQ(raw_->sum(shm::Event::kExpired), expired + 1);
    EXPECT_EQ(raw_->find(0, key), dead);
  }
}

// Goal: F27, several tentatives of one key (each of a dead process) end as one verified copy.
// Method: any subset of a small window holds tentatives of the key.
TEST_F(Plant, F27ManyTentativesOfOneKey) {
  open(8, "10/s burst 3", OnFull::kDefault, 2);
  const std::vector<uint64_t> window = raw_->window("key");
  ASSERT_EQ(window.size(), 8u);
  raw_->engine().segment->shared()->reach = 1;
  for (uint32_t subset = 1; subset < 256; ++subset) {
    for (uint64_t i = 0; i < raw_->slots(); ++i) raw_->set(i, {shm::kFreeId, 0});
    for (uint32_t bit = 0; bit < 8; ++bit) {
      if ((subset >> bit & 1) != 0) {
        raw_->set(window[bit], {raw_->id(0, "key"), make_tentative(12345, bit, now())});
      }
    }
    uint32_t admitted = 0;
    drain(policy_, "key", admitted, 9);
    EXPECT_EQ(admitted, 3u) << subset;
    EXPECT_TRUE(table_is_legal(*raw_, {{0, "key"}})) << subset;
    EXPECT_EQ(lingering(*raw_, now() + 2 * kSecond), 0u) << subset;
  }
}

// Goal: F29, two verified copies (corruption): the first in probe order is used, nothing crashes.
// Method: all pairs of positions in a window; the first holds a full debt, the second none.
TEST_F(Plant, F29DuplicateVerifiedCopies) {
  open(8, "10/s burst 3", OnFull::kDefault, 2);
  const std::vector<uint64_t> window = raw_->window("key");
  raw_->engine().segment->shared()->reach = 1;
  const Word idle = raw_->reading(0, now());
  const Word full = idle + raw_->quota(0).capacity;
  for (size_t first = 0; first < window.size(); ++first) {
    for (size_t second = first + 1; second < window.size(); ++second) {
      for (const bool first_is_full : {true, false}) {
        for (uint64_t i = 0; i < raw_->slots(); ++i) raw_->set(i, {shm::kFreeId, 0});
        raw_->set(window[first], {raw_->id(0, "key"), first_is_full ? full : idle});
        raw_->set(window[second], {raw_->id(0, "key"), first_is_full ? idle : full});
        uint32_t admitted = 0;
        drain(policy_, "key", admitted, 9);
        EXPECT_EQ(admitted, first_is_full ? 0u : 3u);
        EXPECT_EQ(policy_.peek("key").remaining, 0u);
        EXPECT_EQ(raw_->get(window[second]).word, first_is_full ? idle : full);
      }
    }
  }
}

// Goal: F34, a word beyond the policy's reach is brought down to it, counted, and bars its key no
//   longer than the burst, and what may be booked ahead of it, take to refill; a word of the far
//   past grants no more than the burst.
// Method: plants the extremes, without bookings and with those of the default.
class PlantImpossible : public Plant, public ::testing::WithParamInterface<int64_t> {};

TEST_P(PlantImpossible, F34ImpossibleWords) {
  const int64_t ahead = GetParam() * kSecond;
  open(64, "10/s burst 5 ahead " + std::to_string(GetParam()) + "s");
  const Quota quota = raw_->quota(0);
  const uint64_t reading = raw_->reading(0, now());
  const Word hundred_years = raw_->reading(0, now() + kMaxPeriodNs);
  const Word just_legal = raw_->reading(0, now() + ahead) + quota.capacity;
  for (const Word word : {kValueMax, hundred_years, raw_->reading(0, now() + kSecond * 3600),
                          just_legal + raw_->reading(0, now() + 4 * kMs) - reading}) {
    const uint64_t healed = raw_->sum(shm::Event::kHealed);
    raw_->clear();
    (void)policy_.try_acquire("key");
    const uint64_t at = raw_->find(0, "key");
    raw_->set(at, {raw_->id(0, "key"), word});
    const Decision denied = policy_.try_acquire("key");
    EXPECT_EQ(denied.verdict, Verdict::kDenied);
    EXPECT_EQ(raw_->sum(shm::Event::kHealed), healed + 1);
    EXPECT_LE(denied.retry_after_ns, ahead + 100 * kMs);
    EXPECT_LE(denied.reset_after_ns, ahead + 500 * kMs);
    EXPECT_EQ(raw_->get(at).word, just_legal);
    clock_->fetch_add(denied.retry_after_ns - 1);
    EXPECT_FALSE(policy_.try_acquire("key"));
    clock_->fetch_add(1);
    EXPECT_TRUE(policy_.try_acquire("key"));
    clock_->store(kEpoch);
  }
  const uint64_t healed = raw_->sum(shm::Event::kHealed);
  for (const Word word : {Word{0}, Word{1}, reading, just_legal}) {
    const uint64_t at = raw_->find(0, "key");
    raw_->set(at, {raw_->id(0, "key"), word});
    uint32_t admitted = 0;
    drain(policy_, "key", admitted, 20);
    EXPECT_EQ(admitted, word == just_legal ? 0u : 5u);
  }
  EXPECT_EQ(raw_->sum(shm::Event::kHealed), healed) << "a possible word is no damage";
}

INSTANTIATE_TEST_SUITE_P(Process, PlantImpossible, ::testing::Values(0, 3, 60));

// A random slot: what a flipped pointer elsewhere may write here. `key` is the one key whose id it
// may carry, or any of 64 if it is negative.
shm::Slot random_slot(std::mt19937_64& random, const Raw& raw, int64_t now, int key) {
  shm::Slot slot{random(), random()};
  const uint64_t k = key < 0 ? random() % 64 : static_cast<uint64_t>(key);
  switch (random() % 6) {
    case 0:
      break;  // anything
    case 1:
      slot.id = shm::make_id(0, random() & shm::kFingerprintMask);
      slot.word &= kValueMax;
      break;
    case 2:
      slot = {raw.id(0, "k" + std::to_string(k)), slot.word >> random() % 32};
      break;
    case 3:
      slot.id = raw.id(0, "k" + std::to_string(k));
      slot.word = make_tentative(static_cast<uint32_t>(random()), 7, now - 500 * kMs);
      break;
    case 4:
      slot.id = key < 0 ? random() % 2 : shm::kFreeId;
      break;
    default:
      slot.id = shm::make_id(0, random() & shm::kFingerprintMask);
      slot.word = raw.reading(0, now) + random() % (raw.quota(0).capacity + 1);
  }
  return slot;
}

// Goal: F30, random bytes over all slots: every call returns, no answer bars a key for longer than
//   burst * T, and 501 ms after all keys were touched none is refused.
// Method: many fillings with fixed seeds. `twins` also plants several copies of a key and virgin
//   slots before others; a later copy may then come to light when the first is evicted, so only
//   each answer by itself is bounded.
class PlantRandom : public Plant, public ::testing::WithParamInterface<bool> {};

TEST_P(PlantRandom, F30RandomSlots) {
  const bool twins = GetParam();
  open(61, "10/s burst 5 ahead 0s");  // bookings would be a longer bar
  // Every group in use, or a copy beyond reach would come to light later.
  raw_->engine().segment->shared()->reach = raw_->window("any").size() / 4 - 1;
  const uint32_t fillings = scaled(3000, 100000);
  uint64_t unavailable = 0;
  for (uint32_t filling = 0; filling < fillings; ++filling) {
    std::mt19937_64 random(filling);
    clock_->store(kEpoch);
    for (uint64_t i = 0; i < raw_->slots(); ++i) {
      raw_->set(i, random_slot(random, *raw_, now(), twins ? -1 : static_cast<int>(i)));
    }
    const auto touch = [&](bool again) {
      for (int k = 0; k < 64; ++k) {
        const std::string key = "k" + std::to_string(k);
        const Decision decision = policy_.try_acquire(key);
        unavailable += decision.verdict == Verdict::kUnavailable ? 1 : 0;
        if (decision.verdict == Verdict::kDenied) {
          ASSERT_LE(decision.retry_after_ns, 100 * kMs);
          ASSERT_GT(decision.retry_after_ns, 0);
          ASSERT_LE(decision.reset_after_ns, 500 * kMs);
          ASSERT_FALSE(again && !twins) << "filling " << filling << " key " << k;
        }
        (void)policy_.peek(key);
        if (random() % 8 == 0) (void)policy_.refund(key);
        if (random() % 64 == 0) (void)policy_.reset(key);
      }
    };
    touch(false);
    clock_->fetch_add(501 * kMs);
    touch(true);
    if (HasFatalFailure()) return;
  }
  std::printf("F30: %u fillings, unavailable %lu, healed %lu, evicted %lu\n", fillings, unavailable,
              raw_->sum(shm::Event::kHealed), raw_->sum(shm::Event::kEvictedLive));
}

INSTANTIATE_TEST_SUITE_P(Process, PlantRandom, ::testing::Bool(),
                         [](const auto& run) { return run.param ? "Twins" : "Single"; });

// Goal: F30 where nothing may be evicted: garbage must not close the table for years.
// Method: all slots hold impossible words of the policy; a new key asks at once and after burst*T.
TEST_F(Plant, F30GarbageDoesNotCloseATableThatDenies) {
  open(16, "10/s burst 5 ahead 0s", OnFull::kDeny);
  for (uint64_t i = 0; i < raw_->slots(); ++i) {
    raw_->set(i, {shm::make_id(0, 5000 + i), kValueMax});
  }
  (void)policy_.try_acquire("new");
  clock_->fetch_add(502 * kMs);
  EXPECT_EQ(policy_.try_acquire("new").verdict, Verdict::kAllowed)
      << "impossible words of other keys count as live for ever";
}

// Gives each part of a policy an algorithm that there is; the last is for bans.
void set_algorithms(shm::PolicyCopy& copy, std::mt19937_64& random) {
  for (uint32_t part = 0; part < shm::kMaxParts; ++part) {
    std::atomic<uint64_t>* const words = copy.words + part * shm::kPartWords;
    words[kWordKind] =
        (random() & ~uint64_t{0xff}) | (part == kBanPart ? kBanAlgorithm : 1 + random() % 11);
    if (random() % 4 == 0) words[kWordPeriod] = random() % 3;
  }
  copy.words[kOptionWords] = (random() & ~uint64_t{0xff}) | (1 + random() % kMaxRates);
}

// Goal: random bytes over policy records, counters, names and reach crash and hang nothing.
// Method: overwrites them again and again between calls of every kind, and inspects.
TEST_F(Plant, F30RandomEverythingElse) {
  open(64, "10/s burst 5; sliding-log 8/m", OnFull::kDefault, 0, 48);
  ASSERT_TRUE(limiter_.define("q", "7/m").ok());
  const shm::Segment& segment = *raw_->engine().segment;
  const PolicyHandle other = *limiter_.policy("q");
  const auto inspector = Inspector::attach(name_.str());
  ASSERT_TRUE(inspector.ok()) << inspector.status();
  std::vector<std::pair<char*, size_t>> areas = {
      {reinterpret_cast<char*>(segment.policies()),
       sizeof(shm::PolicyRecord) * segment.header().max_policies},
      {reinterpret_cast<char*>(segment.counters()),
       shm::stripe_bytes(segment.header().max_policies) * segment.header().stripe_count},
      {reinterpret_cast<char*>(&segment.shared()->reach), sizeof(uint64_t)},
      {reinterpret_cast<char*>(segment.name_entry(0)),
       (sizeof(shm::NameEntry) + 48) * raw_->slots()},
      {reinterpret_cast<char*>(segment.slots()), 16 * raw_->slots()},
      {reinterpret_cast<char*>(segment.cells()),
       sizeof(shm::AtomicCell) * segment.header().cells_per_key * raw_->slots()},
      {static_cast<char*>(segment.overrides()),
       shm::kOverrideElementSize * segment.section(shm::SectionType::kOverrides)->count},
  };
  const uint32_t rounds = scaled(2000, 50000);
  for (uint32_t round = 0; round < rounds; ++round) {
    std::mt19937_64 random(round);
    for (const auto& [bytes, size] : areas) {
      if (random() % 3 == 0) continue;
      const size_t step = random() % 4 == 0 ? 8 : 8 * (1 + random() % 64);
      for (size_t i = 0; i + 8 <= size; i += step) {
        const uint64_t word = random() % 3 == 0 ? ~uint64_t{0} >> random() % 64 : random();
        std::memcpy(bytes + i, &word, 8);
      }
      if (random() % 2 == 0) {  // valid algorithms, so that the arithmetic runs
        for (uint32_t p = 0; p < 2; ++p) {
          for (shm::PolicyCopy& copy : segment.policies()[p].copy) set_algorithms(copy, random);
        }
      }
    }
    std::string_view keys[3] = {"a", "b", "c"};
    Decision decisions[3];
    for (const PolicyHandle& policy : {policy_, other}) {
      for (int k = 0; k < 6; ++k) {
        (void)policy.try_acquire("k" + std::to_string(k), static_cast<uint32_t>(1 + k));
        (void)policy.peek("k" + std::to_string(k), 1);
      }
      policy.try_acquire_batch(keys, decisions);
      (void)policy.refund("a", 2);
      (void)policy.reset("b");
      (void)policy.try_acquire("a", Request{1, Priority::kLow});
      (void)policy.try_acquire_up_to("a", 1, 3);
      (void)policy.commit("a", 1, 3);
      (void)policy.cancel("c", policy.reserve("c", 1, kSecond));
      Lease lease = policy.acquire_lease("c", kSecond);
      (void)policy.renew(lease);
      (void)policy.release(lease);
      const PolicyHandle::Ask asks[] = {{&policy_, "a", 1}, {&policy, "b", 1}};
      (void)PolicyHandle::try_acquire_all(asks);
      (void)policy.policy();
    }
    (void)policy_text(policy_.policy());
    if (round % 16 == 0) {
      (void)inspector->occupancy();
      (void)inspector->policies();
      (void)inspector->counters();
      inspector->for_each_key([](const KeyInfo&) { return true; });
      (void)limiter_.policy("no such policy");
    }
  }
}

// Goal: F43, two keys with one fingerprint and window share a limit: no crash, no over-admission.
// Method: such a pair can not be found; the table is given the same probe and id by two callers.
struct SharedIdCall {
  const Raw& raw;
  Quota quota;
  Instant at;
  bool changed = false;
  Word step(Word word) noexcept {
    const Step taken = brim::step(word, at, quota, 1);
    changed = taken.next != word;
    return taken.next;
  }
  bool plausible(Word) const noexcept { return true; }
  Word ceiling(Word word) noexcept { return word; }
  void refresh() noexcept {}
  int64_t now_ns() const noexcept { return at.now_ns; }
  uint64_t debt(const shm::Slot& slot, uint64_t) const noexcept {
    const uint64_t owed = brim::debt(slot.word, at, quota);
    return owed == shm::kAwaitsTelling ? owed + 1 : owed;
  }
  Word tentative() noexcept { return raw.engine().segment->next_tentative(at.now_ns); }
  void name(uint64_t) noexcept {}
  void charged(uint64_t) noexcept {}
  void count(shm::Event) noexcept {}
  void evicted(const shm::Slot&) noexcept {}
};

TEST_F(Plant, F43TwoKeysOfOneFingerprint) {
  open(64, "10/s burst 5");
  uint32_t admitted = 0;
  for (int i = 0; i < 10; ++i) {  // "first" by the API, "second" by the table with first's id
    admitted += policy_.try_acquire("first").admitted ? 1 : 0;
    SharedIdCall call{*raw_, raw_->quota(0), instant(raw_->quota(0), now())};
    EXPECT_EQ(raw_->engine().table.update(raw_->probe("first"), raw_->id(0, "first"), call),
              shm::Outcome::kDecided);
    admitted += call.changed ? 1 : 0;
  }
  EXPECT_EQ(admitted, 5u);
  EXPECT_TRUE(table_is_legal(*raw_, {{0, "first"}}));
}

}  // namespace
}  // namespace brim::test
