// SPDX-License-Identifier: MIT
// F14: options that differ from the segment's, and options nobody can mean.
#include <atomic>

#include "brim/inspect.h"
#include "tests/segment/util.h"

namespace brim::segment_test {
namespace {

Options all_given() {
  Options options;
  options.capacity = 64;
  options.name_bytes = 32;
  options.max_policies = 4;
  options.hash = HashKind::kSipHash;
  options.on_full = OnFull::kDeny;
  options.probe_limit = 8;
  options.policies = {{"p", "10/h"}};
  return options;
}

// Goal: each option that differs from the segment's is config_mismatch with both values; the
// stored ones are used if asked; what was not given never hinders.
// Method: change one option at a time.
TEST(F14, EachOptionThatDiffers) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  const auto made = Limiter::create(path, all_given());
  ASSERT_TRUE(made.ok()) << made.status();
  ASSERT_TRUE(made->policy("p")->try_acquire("key", 4).allowed());
  const struct {
    const char* what;
    void (*change)(Options&);
    const char* stored;
    const char* asked;
  } cases[] = {
      {"capacity", [](Options& o) { o.capacity = 65; }, "capacity 64", "asked for 65"},
      {"name_bytes", [](Options& o) { o.name_bytes = 40; }, "name_bytes 32", "asked for 40"},
      {"name_bytes", [](Options& o) { o.name_bytes = Options::kNoNames; }, "32", "for 0"},
      {"max_policies", [](Options& o) { o.max_policies = 5; }, "max_policies 4", "for 5"},
      {"hash", [](Options& o) { o.hash = HashKind::kXxh3; }, "hash 1", "for 2"},
      {"on_full", [](Options& o) { o.on_full = OnFull::kAllow; }, "on_full 3", "for 2"},
      {"probe_limit", [](Options& o) { o.probe_limit = 9; }, "probe_limit 8", "for 9"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.what);
    Options options = all_given();
    one.change(options);
    for (const auto& result : {Limiter::open(path, options), Limiter::attach(path, options),
                               Limiter::attach_read_only(path, options)}) {
      EXPECT_TRUE(named(result, "config_mismatch"));
      EXPECT_EQ(result.status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_TRUE(mentions(result.status(), one.what));
      EXPECT_TRUE(mentions(result.status(), one.stored)) << result.status();
      EXPECT_TRUE(mentions(result.status(), one.asked)) << result.status();
    }
    options.accept_stored = true;
    const auto accepted = Limiter::open(path, options);
    ASSERT_TRUE(accepted.ok()) << accepted.status();
    EXPECT_EQ(accepted->policy("p")->peek("key").remaining, 6u);
  }
  EXPECT_TRUE(Limiter::open(path, all_given()).ok());
  EXPECT_TRUE(Limiter::open(path).ok());
  Options rounded = all_given();
  rounded.name_bytes = 25;  // kept as 32
  EXPECT_TRUE(Limiter::open(path, rounded).ok());
}

// Goal: another text under a policy's name is config_mismatch on opening and policy_mismatch on
// defining, with both texts; another spelling of the same is fine.
// Method: open and define with differing and equal texts.
TEST(F14, PolicyTexts) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  Options options = small_options();
  options.policies = {{"p", "100/m burst 20"}};
  const auto made = Limiter::create(path, options);
  ASSERT_TRUE(made.ok()) << made.status();
  for (const char* same : {"100/m burst 20", "100 r / 60s burst 20", "GCRA 100/1min BURST 20",
                           "100 requests/60000ms burst 20 on-unavailable allow"}) {
    options.policies = {{"p", same}};
    EXPECT_TRUE(Limiter::open(path, options).ok()) << same;
    EXPECT_TRUE(made->define("p", same).ok()) << same;
  }
  for (const char* other : {"100/m burst 21", "101/m burst 20", "100/s burst 20",
                            "token-bucket 100/m burst 20", "100/m burst 20 on-unavailable deny"}) {
    options.policies = {{"p", other}};
    const auto result = Limiter::open(path, options);
    EXPECT_TRUE(named(result, "config_mismatch")) << other;
    EXPECT_TRUE(mentions(result.status(), "policy_mismatch: policy 'p'"));
    EXPECT_TRUE(mentions(result.status(), "100/m burst 20")) << result.status();
    const auto defined = made->define("p", other);
    EXPECT_TRUE(named(defined, "policy_mismatch")) << other;
    EXPECT_EQ(defined.status().code(), absl::StatusCode::kAlreadyExists);
    options.accept_stored = true;
    const auto accepted = Limiter::open(path, options);
    ASSERT_TRUE(accepted.ok()) << accepted.status();
    EXPECT_EQ(accepted->policy("p")->policy(), *parse_policy("100/m burst 20"));
    options.accept_stored = false;
  }
}

// Goal: options out of range are invalid_option (or name the policy's fault), and make nothing.
// Method: each in turn, with open and with create.
TEST(F14, OptionsNobodyCanMean) {
  const TempDir directory;
  const std::string path = directory.file("seg");
  const std::atomic<int64_t> clock{0};
  const struct {
    const char* name;
    void (*change)(Options&);
  } cases[] = {
      {"invalid_option", [](Options& o) { o.capacity = (uint64_t{1} << 34) + 1; }},
      {"invalid_option", [](Options& o) { o.capacity = ~uint64_t{0}; }},
      {"invalid_option", [](Options& o) { o.name_bytes = 65521; }},
      {"invalid_option", [](Options& o) { o.name_bytes = 0xfffffffe; }},
      {"invalid_option", [](Options& o) { o.max_policies = 4097; }},
      {"invalid_option", [](Options& o) { o.probe_limit = 256; }},
      {"invalid_option", [](Options& o) { o.hash = static_cast<HashKind>(7); }},
      {"invalid_option", [](Options& o) { o.on_full = static_cast<OnFull>(9); }},
      {"invalid_option", [](Options& o) { o.clock = ClockKind::kManual; }},
      {"invalid_policy",
       [](Options& o) {
         o.policies = {{"p", "lots"}};
       }},
      {"invalid_policy_name",
       [](Options& o) {
         o.policies = {{"a b", "1/s"}};
       }},
      {"invalid_policy_name",
       [](Options& o) {
         o.policies = {{"", "1/s"}};
       }},
      {"invalid_policy_name",
       [](Options& o) {
         o.policies = {{"p", "1/s"}, {std::string(48, 'x'), "1/s"}};
       }},
  };
  for (const auto& one : cases) {
    Options options;
    one.change(options);
    for (const auto& result : {Limiter::open(path, options), Limiter::create(path, options)}) {
      EXPECT_TRUE(named(result, one.name));
      EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    }
    EXPECT_TRUE(directory.entries().empty()) << "a segment was made all the same";
    Limiter::unlink(path).IgnoreError();
  }
  Options manual;
  manual.clock = ClockKind::kManual;
  manual.manual_clock_ns = &clock;
  EXPECT_TRUE(Limiter::open(path, manual).ok());
}

// Goal: an empty Limiter and an empty handle answer instead of crashing.
// Method: call everything on default-made ones.
TEST(EmptyHandles, Answer) {
  const Limiter limiter;
  EXPECT_TRUE(named(limiter.policy("p"), "not_open"));
  EXPECT_TRUE(named(limiter.define("p", "1/s"), "not_open"));
  EXPECT_FALSE(limiter.linked());
  EXPECT_EQ(limiter.name(), "");
  const PolicyHandle policy;
  EXPECT_EQ(policy.try_acquire("k").reason, Reason::kNoPolicy);
  EXPECT_EQ(policy.peek("k").reason, Reason::kNoPolicy);
  EXPECT_FALSE(policy.refund("k"));
  EXPECT_FALSE(policy.reset("k"));
  EXPECT_EQ(policy.policy(), Policy{});
}

}  // namespace
}  // namespace brim::segment_test
