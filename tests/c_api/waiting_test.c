// SPDX-License-Identifier: MIT
// Goal: calls that block wait as long as promised, and not longer; and pthread_cancel() of a thread
// in one neither ends the process nor leaves anything half done. Method: waits of a few ms that a
// clock of the test's own would hide from the sleep; threads cancelled amid calls of every kind.
#include <pthread.h>
#include <time.h>

#include "brim/brim_inspect.h"
#include "check.h"

static const int64_t ms = 1000000;

static brim_decision wait_for(const brim_policy* policy, const char* key, int64_t timeout_ns) {
  brim_decision decision = BRIM_DECISION_INIT;
  OK(brim_acquire(policy, key, strlen(key), 1, timeout_ns, &decision));
  return decision;
}

// The start is 500 ms away, and the policy books 50 ms ahead: it is waited for all the same.
static void test_further_than_booked(brim_limiter* limiter) {
  const brim_policy* const policy = must_define(limiter, "ahead", "2/s burst 1 ahead 50ms");
  CHECK(ask(policy, "k").admitted == 1);
  CHECK(wait_for(policy, "k", 600000 * ms).admitted == 1);
  // What takes longer than the caller has is refused at once.
  const brim_policy* const slow = must_define(limiter, "slow", "1/d burst 1 ahead 50ms");
  CHECK(ask(slow, "k").admitted == 1);
  const brim_decision late = wait_for(slow, "k", 3600000 * ms);
  CHECK(late.admitted == 0 && late.reason == BRIM_REASON_TOO_LATE);
}

static void test_bans(brim_limiter* limiter) {
  const brim_policy* const policy = must_define(limiter, "banned", "1000/s");
  OK(brim_ban(limiter, "banned", "k", 1, 100 * ms));
  CHECK(wait_for(policy, "k", BRIM_NEVER).admitted == 1);
  OK(brim_ban(limiter, "banned", "k", 1, 86400000 * ms));
  const brim_decision barred = wait_for(policy, "k", 3600000 * ms);
  CHECK(barred.admitted == 0 && barred.reason == BRIM_REASON_BARRED);
  OK(brim_ban(limiter, "banned", "k", 1, BRIM_NEVER));
  CHECK(wait_for(policy, "k", BRIM_NEVER).admitted == 0);
}

static const brim_policy *waited, *leased;
static const char* name;
static int begun;

static void acquire(void) { wait_for(waited, "k", 20 * ms); }

static void lease(void) {
  brim_lease held = BRIM_INIT(brim_lease);
  brim_decision decision = BRIM_DECISION_INIT;
  OK(brim_acquire_lease(leased, "k", 1, 0, &held, &decision));
  if (decision.admitted) OK(brim_release(leased, &held));
}

static void open_and_inspect(void) {
  brim_limiter* limiter = NULL;
  brim_inspector* inspector = NULL;
  OK(brim_open(name, NULL, &limiter));
  OK(brim_inspect(name, NULL, &inspector));
  brim_inspect_end(inspector);
  OK(brim_unlink(name));
  brim_close(limiter);
}

static void (*work)(void);

// No variables here: the address sanitizer does not learn that they are gone.
static void* repeat(void* unused) {
  for (;;) {
    __atomic_store_n(&begun, 1, __ATOMIC_RELEASE);
    work();
    pthread_testcancel();
  }
  return unused;
}

static void cancel_amid(void (*calls)(void)) {
  work = calls;
  for (int i = 0; i < 40; ++i) {
    pthread_t thread;
    __atomic_store_n(&begun, 0, __ATOMIC_RELEASE);
    CHECK(pthread_create(&thread, NULL, repeat, NULL) == 0);
    const struct timespec some = {0, 50000 * (long)(1 + i % 10)};
    while (!__atomic_load_n(&begun, __ATOMIC_ACQUIRE)) nanosleep(&some, NULL);
    nanosleep(&some, NULL);
    CHECK(pthread_cancel(thread) == 0);
    void* end = NULL;
    CHECK(pthread_join(thread, &end) == 0 && end == PTHREAD_CANCELED);
  }
}

static void test_cancelled(brim_limiter* limiter) {
  waited = must_define(limiter, "waited", "fixed-window 1/10ms");
  leased = must_define(limiter, "leased", "concurrency 1 ttl 1h");
  CHECK(ask(waited, "k").admitted == 1);
  cancel_amid(acquire);
  cancel_amid(lease);
  char other[160];
  snprintf(other, sizeof(other), "%s-other", brim_name(limiter));
  name = other;
  cancel_amid(open_and_inspect);
}

int main(void) {
  const char* const own = segment_name("waiting");
  brim_options options = BRIM_OPTIONS_INIT;
  options.cells_per_key = 2;  // of leases
  brim_limiter* const limiter = must_open(own, &options);
  test_further_than_booked(limiter);
  test_bans(limiter);
  test_cancelled(limiter);
  brim_close(limiter);
  OK(brim_unlink(own));
  return 0;
}
