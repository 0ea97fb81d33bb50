// SPDX-License-Identifier: MIT
// Goal: one limit across machines, through C as through C++. Method: what the segment says of
// itself with and without room for it, a thread whose store is not there, and strict decisions with
// no store at all and with one that takes connections and never answers: it is given up after a
// few.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "brim/brim_inspect.h"
#include "brim/brim_tier.h"
#include "check.h"

#define SECRET "000102030405060708090a0b0c0d0e0f"

static void say(void* context, int level, const char* what) {
  (void)what;
  CHECK(level == 3 || level == 4 || level == 6);
  __atomic_add_fetch((int*)context, 1, __ATOMIC_ACQ_REL);
}

// A port of loopback where nobody listens: it is bound by `nobody` only.
static char* url_of(int* nobody) {
  static char url[100];
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t size = sizeof(address);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  *nobody = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(*nobody >= 0 && bind(*nobody, (struct sockaddr*)&address, size) == 0);
  CHECK(getsockname(*nobody, (struct sockaddr*)&address, &size) == 0);
  snprintf(url, sizeof(url), "redis://127.0.0.1:%d", ntohs(address.sin_port));
  return url;
}

static brim_tier_options tier(const char* url) {
  brim_tier_options options = BRIM_INIT(brim_tier_options);
  options.url = url;
  options.secret = SECRET;
  return options;
}

static void test_room(const char* name) {
  brim_tier_report report = BRIM_INIT(brim_tier_report);
  FAILS(brim_tier_status("nonesuch", NULL, &report), BRIM_E_NOT_FOUND, "segment_not_found");
  brim_limiter* limiter = must_open(name, NULL);
  OK(brim_tier_status(name, NULL, &report));
  CHECK(report.kept == 0 && report.agent_pid == 0 && report.up == 0);
  CHECK(strcmp(report.store, "") == 0 && strcmp(report.error, "") == 0);
  const brim_policy* policy = NULL;
  CHECK(brim_define(limiter, "c", "5/d scope cluster", &policy) < 0);
  const brim_tier_options options = tier("redis://127.0.0.1:1");
  FAILS(brim_tier_answer_strict(limiter, &options), BRIM_E_UNFIT, "cluster_not_kept");

  // Room for it, in a segment in use.
  brim_resize_options larger = BRIM_INIT(brim_resize_options);
  larger.cluster = 1;
  larger.reserved = 1;
  FAILS(brim_resize(name, &larger, NULL), BRIM_E_INVALID, "invalid_argument");
  larger.reserved = 0;
  OK(brim_resize(name, &larger, NULL));
  OK(brim_tier_status(name, NULL, &report));
  CHECK(report.kept == 1);
  policy = must_define(limiter, "c", "5/d scope cluster");
  CHECK(brim_policy_scope(policy) == BRIM_SCOPE_CLUSTER);
  CHECK(brim_policy_scope(must_define(limiter, "n", "5/d")) == BRIM_SCOPE_NODE);
  OK(brim_change(limiter, "c", "5/d scope cluster strict", BRIM_CHANGE_KEEP));
  CHECK(brim_policy_scope(policy) == BRIM_SCOPE_STRICT);
  FAILS(brim_policy_scope(NULL), BRIM_E_INVALID, "invalid_argument");
  brim_close(limiter);
  OK(brim_unlink(name));

  // Asked for when it is made, or implied.
  brim_options with = BRIM_OPTIONS_INIT;
  with.cluster = 1;
  limiter = must_open(name, &with);
  must_define(limiter, "c", "5/d scope cluster");
  brim_close(limiter);
  OK(brim_unlink(name));
}

// A caller of the first version has no `cluster`; what is behind its struct is not read.
static void test_older_callers(const char* name) {
  brim_options older = BRIM_OPTIONS_INIT;
  older.struct_size = offsetof(brim_options, cluster);
  older.cluster = 1;
  older.reserved2 = 7;
  brim_limiter* limiter = must_open(name, &older);
  brim_tier_report report = BRIM_INIT(brim_tier_report);
  OK(brim_tier_status(name, &older, &report));
  CHECK(report.kept == 0);
  brim_resize_options resize = BRIM_INIT(brim_resize_options);
  resize.struct_size = offsetof(brim_resize_options, cluster);
  resize.capacity = 500;
  resize.cluster = 1;
  OK(brim_resize(name, &resize, NULL));
  OK(brim_tier_status(name, NULL, &report));
  CHECK(report.kept == 0);
  brim_close(limiter);
  OK(brim_unlink(name));
}

static void test_thread(const char* name) {
  brim_options with = BRIM_OPTIONS_INIT;
  with.cluster = 1;
  brim_limiter* const limiter = must_open(name, &with);
  int nobody = -1;
  brim_tier_options options = tier(url_of(&nobody));
  int told = 0;
  options.interval_ns = 10000000;
  options.timeout_ns = 100000000;
  options.say = say;
  options.say_context = &told;
  brim_tier_thread* thread = NULL;
  OK(brim_tier_thread_start(name, &options, &thread));
  // It says so in the segment, and the segment goes on.
  const brim_policy* const policy = must_define(limiter, "c", "5/d scope cluster");
  CHECK(ask(policy, "a").verdict == BRIM_ALLOWED);
  brim_tier_report report = BRIM_INIT(brim_tier_report);
  const struct timespec tick = {0, 1000000};
  do {
    nanosleep(&tick, NULL);
    OK(brim_tier_status(name, NULL, &report));
  } while (report.error[0] == '\0');
  CHECK(report.kept == 1 && report.up == 0 && report.agent_pid == (uint64_t)getpid());
  CHECK(__atomic_load_n(&told, __ATOMIC_ACQUIRE) > 0);
  CHECK(strstr(report.store, "127.0.0.1") != NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {  // has no thread, and only frees
    brim_tier_thread_stop(thread);
    _exit(0);
  }
  int status = 1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  brim_tier_thread_stop(thread);
  brim_tier_thread_stop(NULL);
  brim_close(limiter);
  OK(brim_unlink(name));
  close(nobody);
}

static void expect_unavailable(const brim_policy* open, const brim_policy* closed) {
  const brim_decision admitted = ask(open, "a");
  CHECK(admitted.verdict == BRIM_UNAVAILABLE && admitted.admitted == 1);
  CHECK(admitted.reason == BRIM_REASON_TIER_UNAVAILABLE && admitted.granted == 0);
  const brim_decision refused = ask(closed, "a");
  CHECK(refused.verdict == BRIM_UNAVAILABLE && refused.admitted == 0);
  CHECK(refused.reason == BRIM_REASON_TIER_UNAVAILABLE);
}

static void test_strict(const char* name) {
  brim_options with = BRIM_OPTIONS_INIT;
  with.cluster = 1;
  brim_limiter* const limiter = must_open(name, &with);
  const brim_policy* const open = must_define(limiter, "s", "1000/d scope cluster strict");
  const brim_policy* const closed =
      must_define(limiter, "d", "5/d scope cluster strict on-unavailable deny");
  expect_unavailable(open, closed);  // nobody is there to ask
  int nobody = -1;
  brim_tier_options options = tier(url_of(&nobody));
  OK(brim_tier_answer_strict(limiter, &options));
  for (int i = 0; i < 100; ++i) expect_unavailable(open, closed);
  close(nobody);

  // Threads and children of this process are answered the same way.
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    expect_unavailable(open, closed);
    _exit(0);
  }
  int status = 1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  brim_close(limiter);
  OK(brim_unlink(name));
}

static int no_node(void* context, const brim_tier_node* node) {
  (void)node;
  ++*(int*)context;
  return 0;
}

static void test_errors(const char* name) {
  brim_options with = BRIM_OPTIONS_INIT;
  with.cluster = 1;
  brim_limiter* const limiter = must_open(name, &with);
  brim_tier_thread* thread = NULL;
  brim_tier_options options = tier(NULL);
  int seen = 0;
  FAILS(brim_tier_thread_start(name, &options, &thread), BRIM_E_INVALID, "invalid_argument");
  FAILS(brim_tier_thread_start(name, NULL, &thread), BRIM_E_INVALID, "invalid_argument");
  FAILS(brim_tier_answer_strict(limiter, &options), BRIM_E_INVALID, "invalid_argument");
  FAILS(brim_tier_nodes(name, &options, no_node, &seen), BRIM_E_INVALID, "invalid_argument");
  FAILS(brim_tier_remove_node(&options, "00"), BRIM_E_INVALID, "invalid_argument");
  options.url = "http://127.0.0.1";
  FAILS(brim_tier_thread_start(name, &options, &thread), BRIM_E_INVALID, "tier_url");
  FAILS(brim_tier_nodes(name, &options, no_node, &seen), BRIM_E_INVALID, "tier_url");
  FAILS(brim_tier_nodes(name, &options, NULL, &seen), BRIM_E_INVALID, "invalid_argument");
  FAILS(brim_tier_remove_node(&options, NULL), BRIM_E_INVALID, "invalid_argument");
  options = tier("redis://127.0.0.1:1");
  options.reserved2 = 1;
  FAILS(brim_tier_thread_start(name, &options, &thread), BRIM_E_INVALID, "invalid_argument");
  options.reserved2 = 0;
  options.struct_size = 8;
  FAILS(brim_tier_thread_start(name, &options, &thread), BRIM_E_STRUCT_SIZE, "struct_size");
  CHECK(thread == NULL && seen == 0);
  options = tier("redis://127.0.0.1:1");
  FAILS(brim_tier_answer_strict(NULL, &options), BRIM_E_INVALID, "invalid_argument");
  brim_tier_report report = {0};
  FAILS(brim_tier_status(name, NULL, &report), BRIM_E_STRUCT_SIZE, "struct_size");
  FAILS(brim_tier_status(name, NULL, NULL), BRIM_E_INVALID, "invalid_argument");
  brim_close(limiter);
  OK(brim_unlink(name));
}

int main(void) {
  const char* const name = segment_name("tier");
  test_room(name);
  test_older_callers(name);
  test_errors(name);
  test_strict(name);
  test_thread(name);
  return 0;
}
