// SPDX-License-Identifier: MIT
// Goal: one handle for each segment of a process, for as long as somebody has it open, under
// threads and across fork(); a handle goes on over a resize, and over a neighbour's death. Method:
// identity of pointers, mappings counted in /proc/self/maps; threads that open and close while
// others fork, where a mutex left locked in a child would hang it; a child killed amid calls.
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "brim/brim_inspect.h"
#include "check.h"

static int mappings(const char* name) {
  FILE* const maps = fopen("/proc/self/maps", "r");
  char line[512];
  int count = 0;
  CHECK(maps != NULL);
  while (fgets(line, sizeof(line), maps) != NULL) count += strstr(line, name) != NULL;
  fclose(maps);
  return count;
}

static void test_identity(void) {
  const char* const name = segment_name("identity");
  char slashed[160];
  snprintf(slashed, sizeof(slashed), "/%s", name);
  const brim_named_policy policies[] = {{"p", "5/h"}};
  brim_options options = BRIM_OPTIONS_INIT;
  options.policies = policies;
  options.policy_count = 1;
  brim_limiter* const first = must_open(name, &options);
  const brim_policy* policy = NULL;
  OK(brim_policy_get(first, "p", &policy));
  CHECK(strcmp(brim_name(first), name) == 0 && brim_linked(first) == 1);
  // As the script of each request would: by the same options, by none, under another spelling.
  for (int i = 0; i < 200; ++i) {
    const brim_policy* again = NULL;
    CHECK(must_open(name, &options) == first);
    CHECK(must_open(i % 2 == 0 ? name : slashed, NULL) == first);
    CHECK(must_define(first, "p", "5/h") == policy);
    OK(brim_policy_get(first, "p", &again));
    CHECK(again == policy);
    brim_close(first);
    brim_close(first);
  }
  CHECK(mappings(name) == 1);
  // What somebody took out meanwhile is defined anew.
  OK(brim_remove_policy(first, "p"));
  CHECK(must_open(name, &options) == first);
  brim_close(first);
  OK(brim_policy_get(first, "p", &policy));
  // More ways to open it than are remembered.
  for (uint32_t most = 1; most <= 20; ++most) {
    options.accept_stored = 1;
    options.max_policies = most;
    CHECK(must_open(name, &options) == first);
    brim_close(first);
  }
  options.accept_stored = 0;
  options.max_policies = 3;
  brim_limiter* other = NULL;
  FAILS(brim_open(name, &options, &other), BRIM_E_UNFIT, "config_mismatch");
  // An operator's live change does not make the next request fail.
  options.max_policies = 0;
  OK(brim_change(first, "p", "6/h", BRIM_CHANGE_KEEP));
  CHECK(must_open(name, NULL) == first);
  brim_close(first);
  CHECK(ask(policy, "k").remaining == 5);
  // A clock of its own is a handle of its own.
  int64_t now_ns = INT64_C(1) << 50;
  brim_options manual = BRIM_OPTIONS_INIT;
  manual.clock = BRIM_CLOCK_MANUAL;
  manual.manual_clock_ns = &now_ns;
  other = must_open(name, &manual);
  CHECK(other != first && mappings(name) == 1);
  brim_close(other);
  // The name was removed and given anew: that is another segment.
  OK(brim_unlink(name));
  CHECK(brim_linked(first) == 0);
  other = must_open(name, NULL);
  CHECK(other != first && brim_linked(other) == 1 && mappings(name) == 2);
  CHECK(ask(policy, "k").remaining == 4);
  brim_close(first);
  CHECK(mappings(name) == 1);
  brim_close(other);
  CHECK(mappings(name) == 0);
  OK(brim_unlink(name));
}

static char shared_name[128];
static int stopping;

static void* open_and_close(void* unused) {
  (void)unused;
  while (!__atomic_load_n(&stopping, __ATOMIC_ACQUIRE)) {
    brim_limiter* const limiter = must_open(shared_name, NULL);
    CHECK(ask(must_define(limiter, "p", "1000000000/h"), "k").admitted == 1);
    brim_close(limiter);
  }
  return NULL;
}

// In a child of a process whose threads open and close all the time.
static int child(void) {
  alarm(30);
  brim_limiter* const limiter = must_open(shared_name, NULL);
  const brim_policy* const policy = must_define(limiter, "p", "1000000000/h");
  const int admitted = ask(policy, "k").admitted;
  brim_close(limiter);
  return admitted == 1 ? 0 : 1;
}

static void test_threads_and_fork(void) {
  enum { kThreads = 3, kChildren = 60 };
  pthread_t threads[kThreads];
  snprintf(shared_name, sizeof(shared_name), "%s", segment_name("fork"));
  brim_limiter* const kept = must_open(shared_name, NULL);
  for (int i = 0; i < kThreads; ++i) {
    CHECK(pthread_create(&threads[i], NULL, open_and_close, NULL) == 0);
  }
  for (int i = 0; i < kChildren; ++i) {
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) _exit(child());
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  }
  __atomic_store_n(&stopping, 1, __ATOMIC_RELEASE);
  for (int i = 0; i < kThreads; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(mappings(shared_name) == 1);  // this one, and nobody has lost count
  brim_close(kept);
  CHECK(mappings(shared_name) == 0);
  OK(brim_unlink(shared_name));
}

// One thread has it open for an instant at a time: whoever comes last unmaps.
static void test_last_close(void) {
  pthread_t threads[2];
  snprintf(shared_name, sizeof(shared_name), "%s", segment_name("last"));
  brim_close(must_open(shared_name, NULL));
  stopping = 0;
  for (int i = 0; i < 2; ++i) CHECK(pthread_create(&threads[i], NULL, open_and_close, NULL) == 0);
  for (int i = 0; i < 300; ++i) brim_close(must_open(shared_name, NULL));
  __atomic_store_n(&stopping, 1, __ATOMIC_RELEASE);
  for (int i = 0; i < 2; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(mappings(shared_name) == 0);
  OK(brim_unlink(shared_name));
}

// A handle from before fork() is good in the child, which takes of the same permits. It is killed
// amid its calls; those that remain are as many as it left.
static void test_killed_child(void) {
  const char* const name = segment_name("kill");
  brim_limiter* const limiter = must_open(name, NULL);
  const brim_policy* const policy = must_define(limiter, "p", "1000000/d");
  int ready[2];
  CHECK(pipe(ready) == 0);
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    for (int i = 0;; ++i) {
      if (ask(policy, "k").admitted != 1) _exit(1);
      if (i == 1000 && write(ready[1], "x", 1) != 1) _exit(1);
    }
  }
  char byte;
  CHECK(read(ready[0], &byte, 1) == 1 && kill(pid, SIGKILL) == 0);
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  close(ready[0]);
  close(ready[1]);
  const uint32_t left = ask(policy, "k").remaining;
  CHECK(left < 1000000 - 1000);
  const uint32_t then = ask(policy, "k").remaining;
  CHECK(then + 1 >= left && then < left + 1000);  // one less, and what flowed back meanwhile
  brim_verify_report report = BRIM_INIT(brim_verify_report);
  OK(brim_verify(name, NULL, NULL, NULL, &report));
  CHECK(report.errors == 0 && report.used >= 1);
  brim_close(limiter);
  OK(brim_unlink(name));
}

// A handle that made no call since the resize is the segment's nevertheless.
static void test_idle_resize(void) {
  const char* const name = segment_name("idle");
  brim_limiter* const limiter = must_open(name, NULL);
  brim_resize_options larger = BRIM_INIT(brim_resize_options);
  larger.capacity = 200000;
  OK(brim_resize(name, &larger, NULL));
  brim_options other = BRIM_OPTIONS_INIT;
  other.accept_stored = 1;
  CHECK(must_open(name, &other) == limiter);
  OK(brim_resize(name, &(brim_resize_options){.struct_size = sizeof(larger), .capacity = 100},
                 NULL));
  larger.capacity = 1000;
  OK(brim_resize(name, &larger, NULL));
  CHECK(must_open(name, &other) == limiter);
  for (int i = 0; i < 3; ++i) brim_close(limiter);
  CHECK(mappings(name) == 0);
  OK(brim_unlink(name));
}

static void* take_all(void* admitted) {
  const brim_policy* policy = NULL;
  brim_limiter* const limiter = must_open(shared_name, NULL);
  OK(brim_policy_get(limiter, "p", &policy));
  for (int i = 0; i < 4000; ++i) *(long*)admitted += ask(policy, "k").admitted;
  brim_close(limiter);
  return NULL;
}

static void count_progress(void* context, const brim_resize_progress* progress) {
  if (progress->struct_size >= sizeof(*progress) && progress->slots_total > 0) ++*(int*)context;
}

// Threads take permits while the table is replaced: no more than there are, and the handles go on.
static void test_resize(void) {
  enum { kThreads = 2, kPermits = 5000 };
  pthread_t threads[kThreads];
  long admitted[kThreads] = {0};
  snprintf(shared_name, sizeof(shared_name), "%s", segment_name("resize"));
  brim_options options = BRIM_OPTIONS_INIT;
  options.capacity = 1 << 17;  // enough to be told of
  brim_limiter* const limiter = must_open(shared_name, &options);
  const brim_policy* const policy = must_define(limiter, "p", "fixed-window 5000/365d first-hit");
  for (int i = 0; i < kThreads; ++i) {
    CHECK(pthread_create(&threads[i], NULL, take_all, &admitted[i]) == 0);
  }
  brim_resize_options larger = BRIM_INIT(brim_resize_options);
  brim_resize_report report = BRIM_INIT(brim_resize_report);
  int told = 0;
  larger.capacity = 1 << 18;
  larger.progress = count_progress;
  larger.context = &told;
  OK(brim_resize(shared_name, &larger, &report));
  CHECK(report.slots_after > report.slots_before && report.generation == 1 && told > 0);
  long sum = 0;
  for (int i = 0; i < kThreads; ++i) {
    CHECK(pthread_join(threads[i], NULL) == 0);
    sum += admitted[i];
  }
  // Too little by at most the calls in flight at the switch.
  CHECK(sum <= kPermits && sum >= kPermits - kThreads);
  CHECK(ask(policy, "k").admitted == 0);
  // The name leads to the new table, and to the same handle.
  CHECK(must_open(shared_name, &options) == limiter && brim_linked(limiter) == 1);
  options.accept_stored = 1;
  CHECK(must_open(shared_name, &options) == limiter);
  for (int i = 0; i < 3; ++i) brim_close(limiter);
  OK(brim_unlink(shared_name));
}

int main(void) {
  test_identity();
  test_threads_and_fork();
  test_last_close();
  test_killed_child();
  test_idle_resize();
  test_resize();
  return 0;
}
