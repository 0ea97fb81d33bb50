// SPDX-License-Identifier: MIT
#include "brim/address.h"
#include "tests/crash/harness.h"

namespace brim::test {
namespace {

uint32_t passes(const PolicyHandle& policy, std::string_view key) {
  uint32_t admitted = 0;
  while (admitted < 1000 && policy.try_acquire(key).admitted) ++admitted;
  return admitted;
}

using Calls = std::vector<Operation>;

void acquire(Place& place, uint32_t cost = 1) { (void)place.p().try_acquire("k", cost); }
std::function<void(Place&)> acquires(uint32_t cost) {
  return [cost](Place& place) { acquire(place, cost); };
}

// A dead process's tentative of "k" in the first slot of its window.
void plant_tentative(Place& place) {
  const Raw raw(place.name.str(), &*place.clock);
  raw.set(raw.window("k")[0],
          {raw.id(0, "k"), raw.engine().segment->next_tentative(place.clock->load())});
}

void fill_table(Place& place) {
  for (const char* const key : {"a", "b", "c", "d", "e", "f"}) (void)place.p().try_acquire(key, 2);
}

void slots(Calls& all) {
  const std::vector<NamedPolicy> plain = {{"p", "5/1h burst 5"}};
  all.push_back({"first insert", plain, acquires(2), {}, {}, 2});
  all.push_back({"update", plain, acquires(2), acquires(1), {}, 2});
  all.push_back({"refusal", plain, acquires(2), acquires(5)});
  all.push_back({"refund",
                 plain,
                 [](Place& place) { (void)place.p().refund("k", 2); },
                 acquires(3),
                 {},
                 0,
                 2});
  all.push_back(
      {"reset", plain, [](Place& place) { (void)place.p().reset("k"); }, acquires(3), {}, 0, 3});
  Operation reclaim{"reclaim of idle slots", plain, acquires(2)};
  reclaim.takes = 2;
  reclaim.capacity = 4;
  reclaim.before = [](Place& place) {
    fill_table(place);
    place.advance(24 * 3600 * kSecond);
  };
  all.push_back(reclaim);
  Operation evict{"eviction", plain, acquires(2), fill_table, {}, 2};
  evict.capacity = 4;
  evict.exact = false;  // others make room for one another for ever
  all.push_back(evict);
  all.push_back({"adoption of a tentative", plain, acquires(2), plant_tentative, {}, 2});
  Operation raise{"reach raise", plain, acquires(2)};
  raise.takes = 2;
  raise.capacity = 12;
  raise.before = [](Place& place) {  // four live keys fill the home group of "k"
    const Raw raw(place.name.str(), &*place.clock);
    for (int i = 0; more_names.size() < 4; ++i) {
      const std::string name = "n" + std::to_string(i);
      if (raw.probe(name).home != raw.probe("k").home) continue;
      more_names.push_back(name);
      EXPECT_TRUE(place.p().try_acquire(name).admitted);
    }
  };
  raise.after = [](Place& place) {
    const Raw raw(place.name.str(), &*place.clock);
    if (raw.find(0, "k") != raw.slots()) {
      EXPECT_EQ(raw.engine().table.groups_in_use(), 2u);
    }
  };
  all.push_back(raise);
}

void rates(Calls& all) {
  const std::vector<NamedPolicy> two = {{"p", "6/1h burst 6; fixed-window 4/1d"}};
  all.push_back({"two rates: acquire", two, acquires(2), {}, {}, 2});
  all.push_back({"two rates: late refusal", two, acquires(3), acquires(1),
                 [](Place& place) { (void)place.p().try_acquire("k", 1); }, 4});
  all.push_back({"two rates: refund",
                 two,
                 [](Place& place) { (void)place.p().refund("k", 2); },
                 acquires(3),
                 {},
                 0,
                 2});
  Operation both{"two policies: all or none", {{"p", "5/1h burst 5"}, {"q", "4/1h burst 4"}}, {}};
  both.takes = 2;
  both.call = [](Place& place) {
    const PolicyHandle p = place.p();
    const PolicyHandle q = place.policy("q");
    const PolicyHandle::Ask asks[] = {{&p, "k", 2}, {&q, "k", 2}};
    (void)PolicyHandle::try_acquire_all(asks);
  };
  both.after = [](Place& place) { EXPECT_GE(place.policy("q").peek("k").remaining, 2u); };
  all.push_back(both);
  Operation ban{
      "ban: a refusal is counted", {{"p", "5/1h burst 5 ban 2 in 1h for 2h"}}, acquires(1)};
  ban.before = acquires(5);
  ban.after = [](Place& place) {  // at most one refusal is not counted, none twice
    EXPECT_NE(place.p().try_acquire("k").reason, Reason::kBarred);
    (void)place.p().try_acquire("k");
    EXPECT_EQ(place.p().try_acquire("k").reason, Reason::kBarred);
    (void)place.p().reset("k");
    EXPECT_EQ(place.p().peek("k").remaining, 5u);
    EXPECT_TRUE(place.p().try_acquire("k", 5).admitted);
  };
  all.push_back(ban);
}

void cells(Calls& all) {
  const std::vector<NamedPolicy> log = {{"p", "sliding-log 4/1h"}};
  const std::vector<NamedPolicy> mixed = {{"p", "sliding-log 6/1h; 4/1d burst 4"}};
  all.push_back({"log: first acquire", log, acquires(2), {}, {}, 2});
  all.push_back({"log: acquire", log, acquires(2), acquires(1), {}, 2});
  all.push_back({"log: refusal", log, acquires(2), acquires(3)});
  all.push_back({"log: refund",
                 log,
                 [](Place& place) { (void)place.p().refund("k", 2); },
                 acquires(3),
                 {},
                 0,
                 2});
  all.push_back(
      {"log: reset", log, [](Place& place) { (void)place.p().reset("k"); }, acquires(3), {}, 0, 3});
  all.push_back({"log: lost race", log, acquires(2), acquires(1),
                 [](Place& place) { (void)place.p().try_acquire("k", 1); }, 3});
  all.push_back({"log and bucket: late refusal", mixed, acquires(3), acquires(1),
                 [](Place& place) { (void)place.p().try_acquire("k", 1); }, 4});
}

Lease held;

void take_lease(Place& place) { held = place.p().acquire_lease("k"); }

// The dead holder's lease comes back at once: the limit can be had by the living.
void check_leases(Place& place, uint32_t living) {
  std::vector<Lease> taken;
  for (uint32_t i = 0; i < 4; ++i) {
    const Lease lease = place.p().acquire_lease("k");
    EXPECT_NE(lease.decision.verdict, Verdict::kUnavailable);
    if (lease) taken.push_back(lease);
  }
  EXPECT_EQ(taken.size() + living, 2u);
  for (const Lease& lease : taken) EXPECT_TRUE(place.p().release(lease));
}

void leases(Calls& all) {
  const std::vector<NamedPolicy> two = {{"p", "concurrency 2 ttl 10s"}};
  const auto add = [&](const char* name, std::function<void(Place&)> call,
                       std::function<void(Place&)> before, uint32_t living_most,
                       uint32_t living_least) {
    Operation made{name, two, std::move(call)};
    made.before = std::move(before);
    made.permits = made.exact = false;  // `remaining` does not tell of leases
    made.after = [living_most, living_least](Place& place) {
      // Our own lease, if the child has not ended it.
      const bool mine = held && place.p().release(held);
      EXPECT_LE(mine, living_most);
      EXPECT_GE(mine, living_least);
      held = {};
      check_leases(place, 0);
    };
    all.push_back(made);
  };
  const auto none = [](Place&) { held = {}; };
  add(
      "lease: first acquire", [](Place& place) { (void)place.p().acquire_lease("k"); }, none, 0, 0);
  add(
      "lease: acquire", [](Place& place) { (void)place.p().acquire_lease("k"); }, take_lease, 1, 1);
  add(
      "lease: renew",
      [](Place& place) {
        place.advance(kSecond);
        Lease own = place.p().acquire_lease("k");
        (void)place.p().renew(own);
      },
      take_lease, 1, 1);
  add(
      "lease: release", [](Place& place) { (void)place.p().release(held); }, take_lease, 1, 0);
  add(
      "lease: reap of the dead", [](Place& place) { (void)place.p().acquire_lease("k"); },
      [](Place& place) {
        held = {};
        EXPECT_TRUE(succeeded(
            spawn([&] { return place.p().acquire_lease("k") && place.p().acquire_lease("k"); })));
      },
      0, 0);
}

void changes(Calls& all) {
  const std::vector<NamedPolicy> plain = {{"p", "5/1h burst 5"}};
  Operation define{"define", plain,
                   [](Place& place) { (void)place.limiter.define("q", "7/1h burst 7"); }};
  define.after = [](Place& place) {
    for (const std::string& name : place.limiter.policy_names()) {
      EXPECT_TRUE(name == "p" || name == "q") << name;
    }
    const auto q = place.limiter.define("q", "7/1h burst 7");
    ASSERT_TRUE(q.ok()) << q.status();
    EXPECT_EQ(passes(*q, "k"), 7u);
    const auto r = place.limiter.define("r", "3/1h burst 3");
    ASSERT_TRUE(r.ok()) << r.status();
    EXPECT_EQ(passes(*r, "k"), 3u);
  };
  all.push_back(define);
  const auto change = [&](const char* name, OnChange how, uint32_t takes, uint32_t gives) {
    Operation made{name, plain,
                   [how](Place& place) { (void)place.limiter.change("p", "10/1h burst 10", how); }};
    made.before = acquires(2);
    made.other_text = "10/1h burst 10";
    made.takes = takes;
    made.gives = gives;
    made.after = [](Place& place) {
      const uint32_t burst = place.p().policy().rates[0].burst;
      const uint32_t left = place.p().peek("k").remaining;
      // Debt 2 kept, in part, doubled, or forgiven; never more than that.
      EXPECT_TRUE(left + 4 >= burst && left <= burst) << left << " of " << burst;
    };
    all.push_back(made);
  };
  change("change, keep", OnChange::kKeep, 0, 0);
  change("change, reset", OnChange::kReset, 0, 2);
  change("change, proportional", OnChange::kProportional, 0, 0);
  Operation factor{"set_factor", plain,
                   [](Place& place) { (void)place.limiter.set_factor("p", 500000); }};
  factor.before = acquires(2);
  factor.after = [](Place& place) {
    EXPECT_TRUE(place.limiter.set_factor("p", 1000000).ok());
    EXPECT_EQ(place.p().peek("k").remaining, 3u);
  };
  all.push_back(factor);
}

void check_override(Place& place, std::string_view key, bool network) {
  const uint32_t left = place.p().peek(key).remaining;
  EXPECT_TRUE(left == 0 || left == 5) << left;
  const auto set = [&](std::string_view use) {
    return network ? place.limiter.set_network_override("p", "10.0.0.0/8", use)
                   : place.limiter.set_override("p", key, use);
  };
  EXPECT_TRUE(set("deny").ok());
  EXPECT_FALSE(place.p().try_acquire(key).admitted);
  EXPECT_TRUE((network ? place.limiter.clear_network_override("p", "10.0.0.0/8")
                       : place.limiter.clear_override("p", key))
                  .ok());
  EXPECT_TRUE(place.p().try_acquire(key).admitted);
}

void overrides(Calls& all) {
  const std::vector<NamedPolicy> plain = {{"p", "5/1h burst 5"}};
  const auto add = [&](const char* name, bool network, bool clears) {
    const std::string key = network ? std::string(address_key("10.1.2.3").view()) : "other";
    const auto change = [network, key](Place& place, bool clear) {
      if (network && clear) return place.limiter.clear_network_override("p", "10.0.0.0/8");
      if (network) return place.limiter.set_network_override("p", "10.0.0.0/8", "deny");
      if (clear) return place.limiter.clear_override("p", key);
      return place.limiter.set_override("p", key, "deny");
    };
    Operation made{name, plain, [=](Place& place) { (void)change(place, clears); }};
    if (clears) made.before = [=](Place& place) { EXPECT_TRUE(change(place, false).ok()); };
    made.after = [key, network](Place& place) { check_override(place, key, network); };
    all.push_back(made);
  };
  add("override: set", false, false);
  add("override: clear", false, true);
  add("network override: set", true, false);
  add("network override: clear", true, true);
}

void bans(Calls& all) {
  const std::vector<NamedPolicy> plain = {{"p", "5/1h burst 5"}};
  const auto add = [&](const char* name, int64_t before_ns, std::function<void(Place&)> call) {
    Operation made{name, plain, std::move(call)};
    if (before_ns != 0) {
      made.before = [=](Place& place) {
        EXPECT_TRUE(place.limiter.ban("p", "other", before_ns).ok());
      };
    }
    made.after = [](Place& place) {  // not banned, or for as long as one of both said
      const Decision decision = place.p().peek("other");
      EXPECT_TRUE(decision.remaining == 5 || decision.reason == Reason::kBarred);
      EXPECT_LE(decision.retry_after_ns, 3601 * kSecond);
      const auto inspector = Inspector::attach(place.name.str(), place.options);
      for (const OverrideInfo& one : inspector->overrides()) {
        EXPECT_TRUE(!one.has_key || one.key == "other");
      }
      EXPECT_TRUE(place.limiter.ban("p", "other", kSecond).ok());
      EXPECT_EQ(place.p().peek("other").reason, Reason::kBarred);
      EXPECT_TRUE(place.limiter.unban("p", "other").ok());
      EXPECT_EQ(place.p().peek("other").remaining, 5u);
    };
    all.push_back(made);
  };
  const auto ban = [](Place& place) { (void)place.limiter.ban("p", "other", 3600 * kSecond); };
  add("ban", 0, ban);
  add("ban: another end", 60 * kSecond, ban);
  add("unban", 60 * kSecond, [](Place& place) { (void)place.limiter.unban("p", "other"); });
  add("ban in the place of one that ended", kSecond, [=](Place& place) {
    place.advance(2 * kSecond);
    ban(place);
  });
}

void removals(Calls& all) {
  Operation remove{"remove_policy", {{"p", "5/1h burst 5"}, {"q", "4/1h burst 4"}}, {}};
  remove.call = [](Place& place) { (void)place.limiter.remove_policy("q"); };
  remove.after = [](Place& place) {  // there, or not there, whole
    const auto names = place.limiter.policy_names();
    if (names.size() == 2) {
      EXPECT_EQ(passes(place.policy("q"), "k"), 4u);
    }
    EXPECT_EQ(place.limiter.policy("q").ok(), names.size() == 2);
    (void)place.limiter.remove_policy("q");
    const auto q = place.limiter.define("q", "7/1h burst 7");
    ASSERT_TRUE(q.ok()) << q.status();
    EXPECT_EQ(passes(*q, "k"), 7u);
  };
  all.push_back(remove);
  Operation back = remove;
  back.name = "define of a removed policy";
  back.before = [](Place& place) { EXPECT_TRUE(place.limiter.remove_policy("q").ok()); };
  back.call = [](Place& place) { (void)place.limiter.define("q", "4/1h burst 4"); };
  all.push_back(back);
}

void samples(Calls& all) {
  Operation made{
      "sampled acquire", {{"p", "5/1h burst 5"}}, [](Place& place) { acquire(place, 2); }};
  made.takes = 2;
  made.before = [](Place& place) { place.advance(1023 - (place.clock->load() & 1023)); };
  made.after = [](Place& place) {
    const auto inspector = Inspector::attach(place.name.str(), place.options);
    for (const HotSample& sample : inspector->hot_samples(0)) EXPECT_EQ(sample.name, "k");
    EXPECT_LE(inspector->hot_position(), 1u);
  };
  all.push_back(made);
}

void notes(Calls& all) {
  Operation made{"note of a change", {{"p", "5/1h burst 5"}}, [](Place& place) {
                   (void)place.limiter.record("second");
                 }};
  made.before = [](Place& place) { EXPECT_TRUE(place.limiter.record("first").ok()); };
  made.after = [](Place& place) {
    const auto inspector = Inspector::attach(place.name.str(), place.options);
    const auto all_notes = [&] {
      std::string text;
      for (const AuditEntry& entry : inspector->audit()) text += entry.what + " ";
      return text;
    };
    const std::string left = all_notes();
    EXPECT_TRUE(left == "first " || left == "first second ") << left;
    EXPECT_TRUE(place.limiter.record("third").ok());
    EXPECT_EQ(all_notes(), left + "third ");
  };
  all.push_back(made);
}

void attachments(Calls& all) {
  Operation made{"attach, call, detach", {{"p", "5/1h burst 5"}}, {}};
  made.takes = 1;
  made.call = [](Place& place) {
    place.limiter = Limiter();  // this process's mapping of its parent's
    {
      const auto own = Limiter::attach(place.name.str(), place.options);
      if (own.ok()) (void)own->policy("p")->try_acquire("k");
    }
  };
  made.after = [](Place& place) {
    const auto inspector = Inspector::attach(place.name.str(), place.options);
    uint32_t living = 0;
    for (const AttachedInfo& one : inspector->attached()) living += one.alive;
    EXPECT_EQ(living, 1u);
    EXPECT_TRUE(succeeded(spawn([&] {
      place.limiter = Limiter();
      const auto other = Limiter::attach(place.name.str(), place.options);
      return other.ok() && other->policy("p")->peek("k").remaining >= 4;
    })));
  };
  all.push_back(made);
}

}  // namespace

std::vector<Operation> operations() {
  Calls all;
  slots(all);
  rates(all);
  cells(all);
  leases(all);
  changes(all);
  overrides(all);
  bans(all);
  removals(all);
  samples(all);
  notes(all);
  attachments(all);
  return all;
}

}  // namespace brim::test
