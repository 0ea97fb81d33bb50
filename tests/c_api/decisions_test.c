// SPDX-License-Identifier: MIT
// Goal: each call that decides gives in C what it gives in C++, field by field, whatever size of
// struct the caller was compiled with. Method: a manual clock, so that every number is known.
#include "check.h"

static int64_t now_ns = INT64_C(1000000000000);
static const int64_t second = 1000000000;

static brim_limiter* limiter;

static void wait_ns(int64_t ns) { __atomic_fetch_add(&now_ns, ns, __ATOMIC_SEQ_CST); }

static void test_plain(void) {
  const brim_policy* const policy = must_define(limiter, "plain", "10/s burst 2");
  brim_decision decision = BRIM_DECISION_INIT;
  OK(brim_try_acquire(policy, "a\0b", 3, 1, &decision));  // any bytes
  CHECK(decision.admitted == 1 && decision.verdict == BRIM_ALLOWED);
  CHECK(decision.reason == BRIM_REASON_NONE && decision.granted == 1 && decision.remaining == 1);
  CHECK(decision.retry_after_ns == 0 && decision.reset_after_ns == second / 10);
  OK(brim_try_acquire(policy, "a\0c", 3, 2, &decision));  // another key
  CHECK(decision.admitted == 1 && decision.granted == 2);
  OK(brim_try_acquire(policy, "a\0b", 3, 2, &decision));
  CHECK(decision.admitted == 0 && decision.verdict == BRIM_DENIED && decision.granted == 0);
  CHECK(decision.retry_after_ns == second / 10 && decision.remaining == 1);
  OK(brim_try_acquire(policy, "a\0b", 3, 3, &decision));
  CHECK(decision.reason == BRIM_REASON_COST_ABOVE_BURST && decision.retry_after_ns == BRIM_NEVER);
  OK(brim_peek(policy, "a\0b", 3, 1, &decision));
  CHECK(decision.admitted == 1 && decision.granted == 0);
  OK(brim_try_acquire(policy, NULL, 0, 1, &decision));  // the empty key is one, too
  CHECK(decision.admitted == 1 && decision.remaining == 1);
  wait_ns(second);
  OK(brim_try_acquire_at(policy, now_ns, "a\0b", 3, 2, &decision));
  CHECK(decision.admitted == 1 && decision.remaining == 0);
  OK(brim_refund(policy, "a\0b", 3, 1));
  CHECK(ask(policy, "b").remaining == 1);
  OK(brim_reset(policy, "b", 1));
  CHECK(brim_reset(policy, "b", 1) == BRIM_E_UNFIT);  // nothing left to forget
  CHECK(ask(policy, "b").remaining == 1);
}

static void test_up_to_and_commit(void) {
  const brim_policy* const policy = must_define(limiter, "upto", "10/s burst 10");
  brim_decision decision = BRIM_DECISION_INIT;
  OK(brim_try_acquire_up_to(policy, "k", 1, 1, 4, &decision));
  CHECK(decision.admitted == 1 && decision.granted == 4);
  OK(brim_try_acquire_up_to(policy, "k", 1, 1, 100, &decision));
  CHECK(decision.granted == 6);
  OK(brim_try_acquire_up_to(policy, "k", 1, 1, 100, &decision));
  CHECK(decision.admitted == 0 && decision.granted == 0);
  FAILS(brim_try_acquire_up_to(policy, "k", 1, 2, 1, &decision), BRIM_E_INVALID,
        "invalid_argument");
  OK(brim_commit(policy, "k", 1, 6, 1));  // it did cost less
  OK(brim_peek(policy, "k", 1, 0, &decision));
  CHECK(decision.remaining == 5);
}

static void test_priority(void) {
  const brim_policy* const policy = must_define(limiter, "classes", "10/s classes 50 80 100");
  brim_decision decision = BRIM_DECISION_INIT;
  OK(brim_try_acquire_priority(policy, "k", 1, 6, BRIM_LOW, &decision));
  CHECK(decision.admitted == 0);
  OK(brim_try_acquire_priority(policy, "k", 1, 6, BRIM_CRITICAL, &decision));
  CHECK(decision.admitted == 1);
  CHECK(brim_try_acquire_priority(policy, "k", 1, 6, 4, &decision) == BRIM_E_INVALID);
  CHECK(brim_try_acquire_priority(policy, "k", 1, 6, -1, &decision) == BRIM_E_INVALID);
}

static void test_batch(void) {
  enum { kKeys = 150 };  // more than one round of the inner loop
  const brim_policy* const policy = must_define(limiter, "batch", "1/s");
  char texts[kKeys][8];
  brim_key keys[kKeys];
  // A later version's decision is longer.
  struct longer {
    brim_decision known;
    uint64_t unknown;
  } decisions[kKeys];
  memset(decisions, 0x5a, sizeof(decisions));
  for (int i = 0; i < kKeys; ++i) {
    snprintf(texts[i], sizeof(texts[i]), "k%d", i / 2);  // each key twice
    keys[i].bytes = texts[i];
    keys[i].length = strlen(texts[i]);
  }
  decisions[0].known.struct_size = sizeof(struct longer);
  OK(brim_try_acquire_batch(policy, keys, kKeys, &decisions[0].known));
  for (int i = 0; i < kKeys; ++i) {
    CHECK(decisions[i].known.struct_size == sizeof(struct longer));
    CHECK(decisions[i].known.admitted == (i % 2 == 0));
    CHECK(decisions[i].known.granted == (i % 2 == 0));
    CHECK(decisions[i].unknown == UINT64_C(0x5a5a5a5a5a5a5a5a));
  }
  OK(brim_try_acquire_batch(policy, keys, 0, NULL));
  keys[3].bytes = NULL;
  CHECK(brim_try_acquire_batch(policy, keys, kKeys, &decisions[0].known) == BRIM_E_INVALID);
  CHECK(decisions[149].known.admitted == 1);
  CHECK(decisions[149].known.verdict == BRIM_UNAVAILABLE);
}

static void test_all(void) {
  const brim_policy* const user = must_define(limiter, "user", "2/s");
  const brim_policy* const site = must_define(limiter, "site", "3/s");
  brim_ask asks[BRIM_MAX_ASKS + 1] = {{user, {"u", 1}, 1}, {site, {"s", 1}, 2}};
  brim_decision decision = BRIM_DECISION_INIT;
  OK(brim_try_acquire_all(asks, 2, &decision));
  CHECK(decision.admitted == 1 && decision.granted == 3);
  OK(brim_try_acquire_all(asks, 2, &decision));
  CHECK(decision.admitted == 0 && decision.part == 1 && decision.granted == 0);
  CHECK(ask(user, "u").admitted == 1);  // nothing was taken of it the second time
  CHECK(brim_try_acquire_all(asks, 0, &decision) == BRIM_E_INVALID);
  CHECK(brim_try_acquire_all(asks, BRIM_MAX_ASKS + 1, &decision) == BRIM_E_INVALID);
  CHECK(brim_try_acquire_all(asks, 3, &decision) == BRIM_E_INVALID);  // no policy in the third
}

static void test_booking(void) {
  const brim_policy* const policy = must_define(limiter, "book", "1/s burst 1");
  brim_decision decision = BRIM_DECISION_INIT;
  brim_ticket ticket = BRIM_INIT(brim_ticket);
  CHECK(ask(policy, "k").admitted == 1);
  OK(brim_reserve(policy, "k", 1, 1, 5 * second, &ticket, &decision));
  CHECK(decision.admitted == 1 && decision.delay_ns == second && ticket.cost == 1);
  OK(brim_cancel(policy, "k", 1, &ticket));
  brim_ticket refused = BRIM_INIT(brim_ticket);
  OK(brim_reserve(policy, "k", 1, 1, second / 2, &refused, &decision));
  CHECK(decision.admitted == 0 && decision.reason == BRIM_REASON_TOO_LATE && refused.cost == 0);
  CHECK(brim_cancel(policy, "k", 1, &refused) == BRIM_E_UNFIT);
  wait_ns(second);
  OK(brim_acquire(policy, "k", 1, 1, 0, &decision));
  CHECK(decision.admitted == 1);
  OK(brim_acquire(policy, "k", 1, 1, second / 2, &decision));  // too long: refused at once
  CHECK(decision.admitted == 0);
}

static void test_leases(void) {
  const brim_policy* const policy = must_define(limiter, "lease", "concurrency 1 ttl 30s");
  brim_decision decision = BRIM_DECISION_INIT;
  brim_lease lease = BRIM_INIT(brim_lease);
  brim_lease second_lease = BRIM_INIT(brim_lease);
  OK(brim_acquire_lease(policy, "k", 1, 0, &lease, &decision));
  CHECK(decision.admitted == 1 && lease.fence != 0 && lease.expires_ns == now_ns + 30 * second);
  OK(brim_acquire_lease(policy, "k", 1, 0, &second_lease, &decision));
  CHECK(decision.admitted == 0 && second_lease.id == 0);
  CHECK(brim_release(policy, &second_lease) == BRIM_E_UNFIT);
  wait_ns(second);
  OK(brim_renew(policy, &lease, 0));
  CHECK(lease.expires_ns == now_ns + 30 * second);
  OK(brim_release(policy, &lease));
  CHECK(brim_release(policy, &lease) == BRIM_E_UNFIT);
  CHECK(brim_renew(policy, &lease, 0) == BRIM_E_UNFIT);
  OK(brim_acquire_lease(policy, "k", 1, 0, &second_lease, &decision));
  CHECK(decision.admitted == 1 && second_lease.fence > lease.fence);
  OK(brim_try_acquire(policy, "k", 1, 1, &decision));
  CHECK(decision.verdict == BRIM_UNAVAILABLE && decision.reason == BRIM_REASON_UNSUPPORTED);
}

static void test_overrides(void) {
  const brim_policy* const policy = must_define(limiter, "rule", "1/s");
  OK(brim_set_override(limiter, "rule", "vip", 3, "unlimited"));
  OK(brim_set_network_override(limiter, "rule", "10.0.0.0/8", "deny"));
  for (int i = 0; i < 3; ++i) CHECK(ask(policy, "vip").reason == BRIM_REASON_EXEMPT);
  CHECK(ask(policy, "10.1.2.3").reason == BRIM_REASON_BLOCKED);
  OK(brim_clear_override(limiter, "rule", "vip", 3));
  FAILS(brim_clear_override(limiter, "rule", "vip", 3), BRIM_E_NOT_FOUND, "override_not_found");
  OK(brim_clear_network_override(limiter, "rule", "10.0.0.0/8"));
  OK(brim_ban(limiter, "*", "bad", 3, 10 * second));
  const brim_decision barred = ask(policy, "bad");
  CHECK(barred.admitted == 0 && barred.reason == BRIM_REASON_BARRED);
  CHECK(barred.retry_after_ns > 9 * second);
  OK(brim_unban(limiter, "*", "bad", 3));
  CHECK(ask(policy, "bad").admitted == 1);
  OK(brim_ban_network(limiter, "rule", "192.0.2.0/24", BRIM_NEVER));
  CHECK(ask(policy, "192.0.2.9").retry_after_ns == BRIM_NEVER);
  OK(brim_unban_network(limiter, "rule", "192.0.2.0/24"));
  CHECK(ask(policy, "192.0.2.9").admitted == 1);
}

static int count_names(void* context, const char* name) {
  *(int*)context += strcmp(name, "changing") == 0 ? 100 : 1;
  return 0;
}

static int stop_at_once(void* context, const char* name) {
  (void)name;
  return ++*(int*)context;
}

static void test_changes(void) {
  const brim_policy* const policy = must_define(limiter, "changing", "1/s");
  const brim_policy* again = NULL;
  char text[64];
  size_t length = 0;
  CHECK(ask(policy, "k").admitted == 1 && ask(policy, "k").admitted == 0);
  OK(brim_reset_policy(limiter, "changing"));
  CHECK(ask(policy, "k").admitted == 1);
  OK(brim_change(limiter, "changing", "5/s", BRIM_CHANGE_RESET));
  OK(brim_policy_text(policy, text, sizeof(text), &length));
  CHECK(strcmp(text, "5/s") == 0 && length == 3);
  CHECK(strcmp(brim_policy_name(policy), "changing") == 0);
  OK(brim_set_factor(limiter, "changing", 0));
  CHECK(ask(policy, "k").admitted == 0);
  OK(brim_set_factor(limiter, "changing", 1000000));
  FAILS(brim_define(limiter, "changing", "1/s", &again), BRIM_E_EXISTS, "policy_mismatch");
  OK(brim_policy_get(limiter, "changing", &again));
  CHECK(again == policy);
  int seen = 0;
  OK(brim_policy_names(limiter, count_names, &seen));
  CHECK(seen > 100 && seen < 200);
  int calls = 0;
  OK(brim_policy_names(limiter, stop_at_once, &calls));
  CHECK(calls == 1);
  OK(brim_remove_policy(limiter, "changing"));
  FAILS(brim_policy_get(limiter, "changing", &again), BRIM_E_NOT_FOUND, "policy_not_found");
  OK(brim_pause(limiter));
  CHECK(brim_paused(limiter) == 1);
  CHECK(ask(policy, "k").reason == BRIM_REASON_PAUSED);
  OK(brim_resume(limiter));
  CHECK(brim_paused(limiter) == 0);
  OK(brim_record(limiter, "test: a line"));
  uint64_t freed = 99;
  wait_ns(INT64_C(86400) * second);
  OK(brim_sweep(limiter, second, &freed));
  CHECK(freed > 0 && freed < 10000);
  OK(brim_sweep(limiter, second, NULL));
}

// A caller of a version without `granted`, and one of a later version.
static void test_sizes(void) {
  const brim_policy* const policy = must_define(limiter, "sizes", "5/s");
  union {
    brim_decision decision;
    unsigned char bytes[64];
  } sized;
  const uint32_t least = (uint32_t)offsetof(brim_decision, granted);
  for (uint32_t size = 0; size <= sizeof(sized); ++size) {
    memset(&sized, 0x5a, sizeof(sized));
    sized.decision.struct_size = size;
    const int code = brim_try_acquire(policy, "k", 1, 0, &sized.decision);
    CHECK(code == (size < least ? BRIM_E_STRUCT_SIZE : 0));
    const uint32_t written = size < least                   ? 4
                             : size < sizeof(brim_decision) ? least
                                                            : sizeof(brim_decision);
    for (size_t i = written; i < sizeof(sized); ++i) CHECK(sized.bytes[i] == 0x5a);
    if (code == 0) CHECK(sized.decision.admitted == 1 && sized.decision.remaining == 5);
    CHECK(sized.decision.struct_size == size);
  }
}

int main(void) {
  brim_options options = BRIM_OPTIONS_INIT;
  options.capacity = 4096;
  options.cells_per_key = 8;
  options.clock = BRIM_CLOCK_MANUAL;
  options.manual_clock_ns = &now_ns;
  const char* const name = segment_name("decisions");
  limiter = must_open(name, &options);
  OK(brim_unlink(name));
  test_plain();
  test_up_to_and_commit();
  test_priority();
  test_batch();
  test_all();
  test_booking();
  test_leases();
  test_overrides();
  test_changes();
  test_sizes();
  brim_close(limiter);
  return 0;
}
