// SPDX-License-Identifier: MIT
// Goal: whatever is wrong with a call is a negative code and a message, never a crash; a decision
// that could not be made admits; and each thread has its own message. Method: every function with
// every pointer NULL in turn; sizes that no struct has; buffers of every length; files that are no
// segments.
#include <fcntl.h>
#include <pthread.h>

#include "brim/brim_inspect.h"
#include "check.h"

#define INVALID(call) FAILS(call, BRIM_E_INVALID, "invalid_argument")

// A caller that looks at the decisions alone fails open, whatever is wrong with the call.
static void test_batch_fails_open(const brim_policy* policy) {
  const brim_key keys[2] = {{"a", 1}, {NULL, 7}};
  const brim_policy* const policies[] = {NULL, policy, policy};
  const brim_key* const all[] = {keys, NULL, keys};
  for (int i = 0; i < 3; ++i) {
    brim_decision decisions[2] = {BRIM_DECISION_INIT, BRIM_DECISION_INIT};
    INVALID(brim_try_acquire_batch(policies[i], all[i], 2, decisions));
    for (int j = 0; j < 2; ++j) {
      CHECK(decisions[j].admitted == 1 && decisions[j].verdict == BRIM_UNAVAILABLE);
    }
  }
}

static void test_null(void) {
  const char* const name = segment_name("null");
  brim_limiter* const limiter = must_open(name, NULL);
  const brim_policy* const policy = must_define(limiter, "p", "1/h");
  brim_limiter* other;
  const brim_policy* found;
  brim_decision d = BRIM_DECISION_INIT;
  brim_ticket ticket = BRIM_INIT(brim_ticket);
  brim_lease lease = BRIM_INIT(brim_lease);
  test_batch_fails_open(policy);
  brim_ask hole = {NULL, {"k", 1}, 1};
  INVALID(brim_open(NULL, NULL, &other));
  INVALID(brim_open(name, NULL, NULL));
  INVALID(brim_create(NULL, NULL, &other));
  INVALID(brim_attach(name, NULL, NULL));
  INVALID(brim_attach_read_only(NULL, NULL, &other));
  INVALID(brim_unlink(NULL));
  INVALID(brim_linked(NULL));
  INVALID(brim_policy_get(NULL, "p", &found));
  INVALID(brim_policy_get(limiter, NULL, &found));
  INVALID(brim_policy_get(limiter, "p", NULL));
  INVALID(brim_define(NULL, "p", "1/h", &found));
  INVALID(brim_define(limiter, "p", NULL, &found));
  INVALID(brim_policy_text(NULL, NULL, 0, NULL));
  INVALID(brim_policy_text(policy, NULL, 8, NULL));
  INVALID(brim_policy_names(limiter, NULL, NULL));
  INVALID(brim_change(limiter, "p", NULL, BRIM_CHANGE_KEEP));
  CHECK(brim_change(limiter, "p", "2/h", 3) == BRIM_E_INVALID);
  INVALID(brim_set_factor(NULL, "p", 1));
  INVALID(brim_remove_policy(limiter, NULL));
  INVALID(brim_reset_policy(NULL, "p"));
  INVALID(brim_try_acquire_all(NULL, 1, &d));
  INVALID(brim_try_acquire_all(&hole, 1, &d));
  INVALID(brim_try_acquire_batch(policy, NULL, 1, &d));
  INVALID(brim_reserve(policy, "k", 1, 1, 0, NULL, &d));
  INVALID(brim_reserve(policy, "k", 1, 1, 0, &ticket, NULL));
  INVALID(brim_cancel(policy, "k", 1, NULL));
  INVALID(brim_commit(NULL, "k", 1, 1, 1));
  INVALID(brim_refund(policy, NULL, 1, 1));
  INVALID(brim_reset(NULL, "k", 1));
  INVALID(brim_acquire_lease(policy, "k", 1, 0, NULL, &d));
  INVALID(brim_renew(policy, NULL, 0));
  INVALID(brim_release(NULL, &lease));
  INVALID(brim_set_override(limiter, "p", NULL, 1, "deny"));
  INVALID(brim_set_override(limiter, NULL, "k", 1, "deny"));
  INVALID(brim_clear_override(limiter, "p", NULL, 1));
  INVALID(brim_set_network_override(limiter, "p", NULL, "deny"));
  INVALID(brim_ban(NULL, "p", "k", 1, 1));
  INVALID(brim_unban_network(limiter, "p", NULL));
  INVALID(brim_pause(NULL));
  INVALID(brim_paused(NULL));
  INVALID(brim_record(limiter, NULL));
  INVALID(brim_sweep(NULL, 0, NULL));
  INVALID(brim_parse_policy(NULL, NULL, 0, NULL, NULL, 0, NULL));
  INVALID(brim_address_key(NULL, 1, 0, 0, NULL, 0, NULL));
  INVALID(brim_network_contains(NULL, "a", 1));
  INVALID(brim_inspect(name, NULL, NULL));
  INVALID(brim_inspect_info(NULL, NULL));
  INVALID(brim_inspect_keys(NULL, NULL, NULL));
  INVALID(brim_list_segments(NULL, NULL));
  INVALID(brim_verify(NULL, NULL, NULL, NULL, NULL));
  INVALID(brim_resize(name, NULL, NULL));
  INVALID(brim_report_policy(NULL, 0, NULL, NULL, NULL, NULL));
  INVALID(brim_read_policy_file("x", NULL, NULL));
  CHECK(strcmp(brim_name(NULL), "") == 0 && strcmp(brim_policy_name(NULL), "") == 0);
  brim_close(NULL);
  brim_inspect_end(NULL);

  // What a decision is left as: one that lets the request pass.
  const brim_policy* const policies[] = {NULL, policy};
  for (int i = 0; i < 2; ++i) {
    memset(&d, 0, sizeof(d));
    d.struct_size = sizeof(d);
    INVALID(brim_try_acquire(policies[i], NULL, 1, 1, &d));
    CHECK(d.admitted == 1 && d.verdict == BRIM_UNAVAILABLE && d.granted == 0);
  }
  INVALID(brim_try_acquire(policy, "k", 1, 1, NULL));
  brim_close(limiter);
  OK(brim_unlink(name));
}

static void test_struct_sizes(void) {
  const char* const name = segment_name("sizes");
  brim_limiter* limiter = (brim_limiter*)&limiter;  // must stay what it is
  brim_limiter* const before = limiter;
  struct later {
    brim_options known;
    uint64_t unknown;
  } later = {BRIM_OPTIONS_INIT, 0};
  for (uint32_t size = 0; size < offsetof(brim_options, cluster); ++size) {
    later.known.struct_size = size;
    FAILS(brim_open(name, &later.known, &limiter), BRIM_E_STRUCT_SIZE, "struct_size");
  }
  later.known.struct_size = UINT32_MAX;  // not initialised
  FAILS(brim_open(name, &later.known, &limiter), BRIM_E_STRUCT_SIZE, "struct_size");
  later.known.struct_size = sizeof(later);
  later.unknown = 1;  // asks for what this library does not know
  FAILS(brim_open(name, &later.known, &limiter), BRIM_E_STRUCT_SIZE, "struct_size");
  CHECK(limiter == before);
  FAILS(brim_attach(name, NULL, &limiter), BRIM_E_NOT_FOUND, "segment_not_found");
  later.unknown = 0;
  OK(brim_open(name, &later.known, &limiter));
  const brim_policy* const policy = must_define(limiter, "p", "1/h");
  brim_decision d = BRIM_DECISION_INIT;
  brim_ticket ticket = {0};
  brim_lease lease = {0};
  FAILS(brim_reserve(policy, "k", 1, 1, 0, &ticket, &d), BRIM_E_STRUCT_SIZE, "struct_size");
  CHECK(d.admitted == 1 && d.verdict == BRIM_UNAVAILABLE);
  FAILS(brim_cancel(policy, "k", 1, &ticket), BRIM_E_STRUCT_SIZE, "struct_size");
  FAILS(brim_acquire_lease(policy, "k", 1, 0, &lease, &d), BRIM_E_STRUCT_SIZE, "struct_size");
  FAILS(brim_renew(policy, &lease, 0), BRIM_E_STRUCT_SIZE, "struct_size");
  brim_decision batch[2] = {{0}};
  const brim_key keys[2] = {{"a", 1}, {"b", 1}};
  batch[0].struct_size = sizeof(brim_decision) + 4;  // elements would not be aligned
  FAILS(brim_try_acquire_batch(policy, keys, 2, batch), BRIM_E_STRUCT_SIZE, "struct_size");
  brim_verify_report report = {0};
  FAILS(brim_verify(name, NULL, NULL, NULL, &report), BRIM_E_STRUCT_SIZE, "struct_size");
  brim_close(limiter);
  OK(brim_unlink(name));
}

static void test_options(void) {
  const char* const name = segment_name("options");
  brim_limiter* limiter;
  brim_options options = BRIM_OPTIONS_INIT;
  options.hash = 3;
  CHECK(brim_open(name, &options, &limiter) == BRIM_E_INVALID);
  options.hash = 0;
  options.reserved[1] = 1;
  CHECK(brim_open(name, &options, &limiter) == BRIM_E_INVALID);
  options.reserved[1] = 0;
  options.mode = 0666;
  FAILS(brim_open(name, &options, &limiter), BRIM_E_INVALID, "invalid_option");
  options.mode = 0;
  options.clock = BRIM_CLOCK_MANUAL;
  FAILS(brim_open(name, &options, &limiter), BRIM_E_INVALID, "invalid_option");
  options.clock = 0;
  options.policy_count = 1;
  CHECK(brim_open(name, &options, &limiter) == BRIM_E_INVALID);
  const brim_named_policy wrong = {"p", "100/minuet"};
  options.policies = &wrong;
  FAILS(brim_open(name, &options, &limiter), BRIM_E_INVALID, "invalid_policy");
  CHECK(strstr(brim_last_error(), "minuet") != NULL);
  FAILS(brim_open("a/b", NULL, &limiter), BRIM_E_INVALID, "invalid_name");
  FAILS(brim_unlink(name), BRIM_E_NOT_FOUND, "segment_not_found");
}

static void test_buffers(void) {
  char text[32];
  size_t length = 0;
  size_t count = 0;
  brim_rate rates[2] = {BRIM_INIT(brim_rate)};
  const char* const canonical = "10/s; 1000/h burst 20";
  const size_t whole = strlen(canonical);
  OK(brim_parse_policy(canonical, NULL, 0, &length, NULL, 0, NULL));
  CHECK(length == whole);
  for (size_t size = 0; size <= sizeof(text); ++size) {
    memset(text, 0x5a, sizeof(text));
    length = 0;
    const int code = brim_parse_policy(canonical, text, size, &length, NULL, 0, &count);
    CHECK(code == (size > whole ? 0 : BRIM_E_BUFFER) && length == whole && count == 2);
    const size_t written = size == 0 ? 0 : size > whole ? whole + 1 : size;
    if (written != 0) CHECK(strncmp(text, canonical, written - 1) == 0 && text[written - 1] == 0);
    for (size_t i = written; i < sizeof(text); ++i) CHECK(text[i] == 0x5a);
  }
  OK(brim_parse_policy(canonical, text, sizeof(text), NULL, rates, 2, NULL));
  CHECK(rates[0].algorithm == BRIM_GCRA && rates[0].limit == 10);
  CHECK(rates[0].period_ns == 1000000000 && rates[0].burst == 10);
  CHECK(rates[1].struct_size == sizeof(rates[1]) && rates[1].limit == 1000 && rates[1].burst == 20);
  OK(brim_parse_policy(canonical, text, sizeof(text), NULL, rates, 1, &count));
  CHECK(count == 2);
  // A wrong call writes nothing.
  memset(rates, 0, sizeof(rates));
  rates[0].struct_size = sizeof(rates[0]);
  count = 77;
  INVALID(brim_parse_policy(canonical, NULL, 9, &length, rates, 1, &count));
  CHECK(count == 77 && rates[0].limit == 0);
  rates[0].struct_size = 8;
  CHECK(brim_parse_policy(canonical, NULL, 0, NULL, rates, 2, NULL) == BRIM_E_STRUCT_SIZE);
  FAILS(brim_parse_policy("10/sec burst", text, sizeof(text), &length, NULL, 0, NULL),
        BRIM_E_INVALID, "invalid_policy");

  OK(brim_address_key("::FFFF:203.0.113.7", 18, 0, 0, text, sizeof(text), &length));
  CHECK(strcmp(text, "203.0.113.7") == 0 && length == 11);
  OK(brim_address_key("2001:db8::5:6", 13, 24, 48, text, sizeof(text), NULL));
  CHECK(strcmp(text, "2001:db8::/48") == 0);
  OK(brim_address_key("203.0.113.7", 11, 24, 48, text, sizeof(text), NULL));
  CHECK(strcmp(text, "203.0.113.0/24") == 0);
  FAILS(brim_address_key("unix:", 5, 0, 0, text, sizeof(text), NULL), BRIM_E_INVALID,
        "invalid_address");
  CHECK(brim_address_key("1.2.3.4", 7, 33, 0, text, sizeof(text), NULL) == BRIM_E_INVALID);
  CHECK(brim_network_contains("10.0.0.0/8", "10.1.2.3", 8) == 1);
  CHECK(brim_network_contains("10.0.0.0/8", "11.1.2.3", 8) == 0);
  FAILS(brim_network_contains("10.0.0.0/33", "10.1.2.3", 8), BRIM_E_INVALID, "invalid_address");
  FAILS(brim_network_contains("10.0.0.0/8", "here", 4), BRIM_E_INVALID, "invalid_address");
}

// The file is overwritten from `offset` on.
static void damage(const char* name, off_t offset, off_t size) {
  char path[200];
  snprintf(path, sizeof(path), "/dev/shm/%s", name);
  const int fd = open(path, O_RDWR);
  CHECK(fd >= 0 && pwrite(fd, "damaged!", 8, offset) == 8);
  if (size >= 0) CHECK(ftruncate(fd, size) == 0);
  close(fd);
}

static void test_damaged(void) {
  const char* const name = segment_name("damaged");
  brim_limiter* limiter = NULL;
  brim_close(must_open(name, NULL));
  damage(name, 0, 100);
  FAILS(brim_open(name, NULL, &limiter), BRIM_E_DAMAGED, "segment_truncated");
  brim_options options = BRIM_OPTIONS_INIT;
  FAILS(brim_create(name, &options, &limiter), BRIM_E_EXISTS, "segment_exists");
  options.replace = 1;
  OK(brim_create(name, &options, &limiter));
  brim_close(limiter);
  damage(name, 0, -1);
  FAILS(brim_attach(name, NULL, &limiter), BRIM_E_DAMAGED, "segment_bad_magic");
  brim_inspector* inspector = NULL;
  FAILS(brim_inspect(name, NULL, &inspector), BRIM_E_DAMAGED, "segment_bad_magic");
  CHECK(brim_verify(name, NULL, NULL, NULL, NULL) == BRIM_E_DAMAGED);
  char path[200];
  snprintf(path, sizeof(path), "/dev/shm/%s", name);
  CHECK(unlink(path) == 0);
}

static void test_read_only(void) {
  const char* const name = segment_name("reader");
  brim_limiter* const writer = must_open(name, NULL);
  const brim_policy* const policy = must_define(writer, "p", "2/h");
  brim_limiter* reader = NULL;
  const brim_policy* seen = NULL;
  OK(brim_attach_read_only(name, NULL, &reader));
  CHECK(reader != writer);
  OK(brim_policy_get(reader, "p", &seen));
  CHECK(seen != policy);
  CHECK(ask(policy, "k").admitted == 1);
  brim_decision decision = BRIM_DECISION_INIT;
  OK(brim_peek(seen, "k", 1, 1, &decision));
  CHECK(decision.admitted == 1 && decision.granted == 0);
  OK(brim_try_acquire(seen, "k", 1, 1, &decision));
  CHECK(decision.verdict == BRIM_UNAVAILABLE && decision.reason == BRIM_REASON_READ_ONLY);
  FAILS(brim_define(reader, "q", "1/h", &seen), BRIM_E_UNFIT, "read_only");
  FAILS(brim_pause(reader), BRIM_E_UNFIT, "read_only");
  CHECK(brim_refund(seen, "k", 1, 1) == BRIM_E_UNFIT);
  // Policies of two handles, though of one segment, are not decided together.
  const brim_ask asks[2] = {{policy, {"k", 1}, 1}, {seen, {"k", 1}, 1}};
  INVALID(brim_try_acquire_all(asks, 2, &decision));
  brim_close(reader);
  brim_close(writer);
  OK(brim_unlink(name));
}

static char at_the_end[2][64];

// Runs when the thread's own data is gone.
static void last_of_thread(void* unused) {
  (void)unused;
  snprintf(at_the_end[0], sizeof(at_the_end[0]), "%s", brim_last_error());
  brim_limiter* limiter;
  CHECK(brim_attach("nonesuch", NULL, &limiter) == BRIM_E_NOT_FOUND);
  snprintf(at_the_end[1], sizeof(at_the_end[1]), "%s", brim_last_error());
}

static void* failing_thread(void* key) {
  brim_limiter* limiter;
  FAILS(brim_attach("nonesuch", NULL, &limiter), BRIM_E_NOT_FOUND, "segment_not_found");
  CHECK(pthread_setspecific(*(pthread_key_t*)key, key) == 0);
  return NULL;
}

static void test_end_of_thread(void) {
  pthread_key_t key;
  pthread_t thread;
  CHECK(pthread_key_create(&key, last_of_thread) == 0);
  CHECK(pthread_create(&thread, NULL, failing_thread, &key) == 0);
  CHECK(pthread_join(thread, NULL) == 0 && pthread_key_delete(key) == 0);
  CHECK(strcmp(at_the_end[0], "") == 0);
  CHECK(strcmp(at_the_end[1], brim_strerror(BRIM_E_NOT_FOUND)) == 0);
}

static void* fresh_thread(void* unused) {
  (void)unused;
  CHECK(strcmp(brim_last_error(), "") == 0);
  CHECK(brim_unlink(NULL) == BRIM_E_INVALID);
  return NULL;
}

static void test_messages(void) {
  brim_limiter* limiter;
  FAILS(brim_attach("nonesuch", NULL, &limiter), BRIM_E_NOT_FOUND, "segment_not_found");
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, fresh_thread, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(strncmp(brim_last_error(), "segment_not_found:", 18) == 0);
  for (int code = BRIM_E_NO_MEMORY; code <= 0; ++code) {
    CHECK(strcmp(brim_strerror(code), brim_strerror(-1000)) != 0);
  }
  char longer[5000];
  memset(longer, 'x', sizeof(longer));
  longer[sizeof(longer) - 1] = 0;
  CHECK(brim_set_last_error(-7, longer) == -7 && strlen(brim_last_error()) == 1023);
  CHECK(brim_set_last_error(-7, brim_last_error() + 1000) == -7 && strlen(brim_last_error()) == 23);
  CHECK(brim_version()[0] >= '0' && brim_version()[0] <= '9');
}

int main(void) {
  CHECK(strcmp(brim_last_error(), "") == 0);
  test_null();
  test_struct_sizes();
  test_options();
  test_buffers();
  test_damaged();
  test_read_only();
  test_messages();
  test_end_of_thread();
  return 0;
}
