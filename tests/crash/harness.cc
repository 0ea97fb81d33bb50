// SPDX-License-Identifier: MIT
#include "tests/crash/harness.h"

#include "shm/schedule_point.h"

// What a process killed at a load leaves is what it left at the store before.
extern "C" void brim_schedule_point(BrimPoint point) noexcept {
  using brim::test::points;
  if (!points.armed) return;
  const uint64_t here = ++points.all;
  const bool word = point == BrimPoint::kChangeRecord;
  const bool load = point == BrimPoint::kLoad || point == BrimPoint::kLoadRecord;
  const uint64_t thin = brim::test::slow() ? 1 : 4;
  if (!load && (!word || points.record_words++ % thin == 0)) {
    if (++points.passed == points.kill_at) raise(SIGKILL);
  }
  if (here != points.meet_at || points.meets == nullptr) return;
  points.armed = false;
  (*points.meets)();
  points.armed = true;
}

namespace brim::test {

Points points;
std::vector<std::string> more_names;

PolicyHandle Place::policy(std::string_view wanted) const {
  const absl::StatusOr<PolicyHandle> handle = limiter.policy(wanted);
  EXPECT_TRUE(handle.ok()) << handle.status();
  return handle.ok() ? *handle : PolicyHandle();
}

namespace {

constexpr const char* kNames[] = {"k", "other", "new", "10.1.2.3", "a", "b", "c", "d", "e", "f"};
constexpr int64_t kDay = 24 * 3600 * kSecond;

std::unique_ptr<Place> make_place(const Operation& operation) {
  auto place = std::make_unique<Place>();
  more_names.clear();
  place->clock->store(kEpoch);
  Options& options = place->options;
  options.capacity = operation.capacity;
  options.max_policies = 8;
  options.overrides = 8;
  options.cells_per_key = 8;
  options.clock = ClockKind::kManual;
  options.manual_clock_ns = &*place->clock;
  options.policies = operation.policies;
  absl::StatusOr<Limiter> limiter = Limiter::create(place->name.str(), options);
  EXPECT_TRUE(limiter.ok()) << limiter.status();
  if (limiter.ok()) place->limiter = *std::move(limiter);
  if (operation.before) operation.before(*place);
  return place;
}

// I1, I2, I5: every slot is a known key's, in reach, behind no virgin slot, its only verified copy.
void check_table(const Raw& raw, uint16_t policies) {
  std::vector<std::string> names(std::begin(kNames), std::end(kNames));
  names.insert(names.end(), more_names.begin(), more_names.end());
  std::vector<PolicyKey> keys;
  for (const std::string& name : names) {
    for (uint16_t policy = 0; policy < policies; ++policy) {
      for (uint32_t part = 0; part < shm::kMaxParts; ++part) keys.push_back({policy, name, part});
    }
  }
  EXPECT_TRUE(table_is_legal(raw, keys));
}

// A name is shown only if it is a key's own; every word can be read.
void check_names(const Place& place) {
  const auto inspector = Inspector::attach(place.name.str(), place.options);
  ASSERT_TRUE(inspector.ok()) << inspector.status();
  inspector->for_each_key([&](const KeyInfo& key) {
    if (key.has_name) {
      const bool known =
          std::find(std::begin(kNames), std::end(kNames), key.name) != std::end(kNames) ||
          std::find(more_names.begin(), more_names.end(), key.name) != more_names.end();
      EXPECT_TRUE(known) << key.name;
    }
    return true;
  });
  for (const PolicyInfo& policy : inspector->policies()) EXPECT_FALSE(policy.text.empty());
}

uint32_t take_all(const PolicyHandle& policy, std::string_view key) {
  uint32_t taken = 0;
  for (; taken < 1000; ++taken) {
    const Decision decision = policy.try_acquire(key);
    EXPECT_NE(decision.verdict, Verdict::kUnavailable);
    if (!decision.admitted) break;
  }
  return taken;
}

std::string meaning(std::string_view text) {
  const absl::StatusOr<Policy> policy = parse_policy(text);
  return policy.ok() ? policy_text(*policy) : std::string(text);
}

// What is left now, once it was shown that it can be had.
struct Left {
  uint32_t remaining = 0;
  bool is_other = false;
};

Left check_policy(const Operation& operation, const Place& place) {
  const std::string text = policy_text(place.p().policy());
  const bool is_old = text == meaning(operation.policies[0].text);
  const bool is_other = !operation.other_text.empty() && text == meaning(operation.other_text);
  EXPECT_TRUE(is_old || is_other) << text;
  return {place.p().peek("k").remaining, is_other};
}

// The next process: its calls are decided, and exactly.
void check_next_calls(const Operation& operation, const Place& place, const Left& left) {
  if (operation.exact) {
    EXPECT_EQ(take_all(place.p(), "k"), left.remaining);
    EXPECT_EQ(place.p().peek("k").remaining, 0u);
  }
  const uint32_t full = place.p().peek("new").remaining;
  if (operation.exact) {
    EXPECT_EQ(take_all(place.p(), "new"), full);
  }
  place.advance(kDay);  // all is idle again, and tentatives have expired
  if (operation.exact) {
    EXPECT_EQ(take_all(place.p(), "k"), full);
  }
}

pid_t run_child(const Operation& operation, Place& place, uint64_t kill_at, uint64_t meet_at,
                uint64_t* passed, uint64_t* all) {
  return spawn(
      [&] {
        const std::function<void()> meets = [&] { operation.meets(place); };
        points = {};
        points.kill_at = kill_at;
        points.meet_at = meet_at;
        points.meets = operation.meets ? &meets : nullptr;
        points.armed = true;
        operation.call(place);
        if (++points.passed == kill_at) raise(SIGKILL);  // behind its last store
        points.armed = false;
        *passed = points.passed;
        *all = points.all;
        return true;
      },
      60);
}

struct Length {
  uint64_t stores = 0;
  uint64_t all = 0;
  uint32_t remaining = 0;
};

Length measure(const Operation& operation, uint64_t meet_at) {
  const std::unique_ptr<Place> place = make_place(operation);
  const Shared<uint64_t> passed;
  const Shared<uint64_t> all;
  EXPECT_TRUE(succeeded(run_child(operation, *place, 0, meet_at, &*passed, &*all)));
  return {*passed, *all, place->p().peek("k").remaining};
}

// Where the other call makes this one longest: there it has charged something and must undo it.
uint64_t worst_meeting(const Operation& operation) {
  if (!operation.meets) return 0;
  uint64_t worst = 0;
  uint64_t most = 0;
  const uint64_t alone = measure(operation, 0).all;
  for (uint64_t at = 1; at < alone; ++at) {
    const uint64_t length = measure(operation, at).stores;
    if (length > most) {
      most = length;
      worst = at;
    }
  }
  return worst;
}

// Holds no mapping when it returns: one that is inherited would keep a child from attaching.
uint64_t reach_of(const Place& place) {
  return Raw(place.name.str(), &*place.clock).engine().table.groups_in_use();
}

bool was_killed(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

}  // namespace

Figures crash_everywhere(const Operation& operation) {
  Figures figures;
  figures.name = operation.name;
  figures.permits = operation.permits;
  const uint64_t meet_at = worst_meeting(operation);
  const Length whole = measure(operation, meet_at);
  figures.points = whole.stores;
  for (uint64_t n = 1; n <= figures.points && !::testing::Test::HasFailure(); ++n) {
    SCOPED_TRACE(std::string(operation.name) + ", killed at point " + std::to_string(n));
    const std::unique_ptr<Place> place = make_place(operation);
    const uint32_t had = place->p().peek("k").remaining;
    const uint64_t reach = reach_of(*place);
    const Shared<uint64_t> passed;
    EXPECT_TRUE(was_killed(run_child(operation, *place, n, meet_at, &*passed, &*passed)));
    ++figures.kills;
    const Raw raw(place->name.str(), &*place->clock);
    EXPECT_GE(raw.engine().table.groups_in_use(), reach);
    check_table(raw, 4);
    check_names(*place);
    const Left left = check_policy(operation, *place);
    if (operation.permits && !left.is_other) {
      EXPECT_GE(left.remaining + operation.takes, had);
      EXPECT_LE(left.remaining, had + operation.gives);
    }
    const bool changed = left.is_other || left.remaining != had;
    ++(!changed                            ? figures.before
       : left.remaining == whole.remaining ? figures.after
                                           : figures.between);
    if (operation.after) operation.after(*place);
    check_next_calls(operation, *place, left);
    check_table(raw, 4);
    check_names(*place);
  }
  return figures;
}

}  // namespace brim::test
