// SPDX-License-Identifier: MIT
// Goal: what a key owes survives its segment, through C as through C++. Method: a snapshot once and
// by the thread, a segment removed, the file given back, and the file's contents visited.
#include <time.h>

#include "brim/brim_snapshot.h"
#include "check.h"

static const int64_t second = 1000000000;
static char file[200];

static void say(void* context, int level, const char* what) {
  if (level <= 4) fprintf(stderr, "told: %d %s\n", level, what);
  ++*(int*)context;
}

static brim_snapshot_options snapshots(void) {
  brim_snapshot_options options = BRIM_INIT(brim_snapshot_options);
  options.file = file;
  options.synchronous = BRIM_SYNC_OFF;
  return options;
}

struct seen {
  int files, policies, overrides, keys;
};

static int see_file(void* context, const brim_snapshot_file* head) {
  CHECK(head->struct_size == sizeof(*head) && head->rows >= 1 && head->wall_ns > 0);
  ++((struct seen*)context)->files;
  return 0;
}

static int see_policy(void* context, const brim_policy_state* policy) {
  CHECK(strcmp(policy->name, "p") == 0 && strcmp(policy->text, "10/d") == 0);
  CHECK(((struct seen*)context)->files == 1);
  ++((struct seen*)context)->policies;
  return 0;
}

static int see_override(void* context, const brim_override_state* entry) {
  CHECK(entry->key_size == 3 && memcmp(entry->key, "vip", 3) == 0 && !entry->ban);
  ++((struct seen*)context)->overrides;
  return 0;
}

static int see_key(void* context, const brim_key_state* key) {
  CHECK(key->kind == BRIM_STATE_BUCKET && key->used > 0 && key->key_size == key->key_length);
  ++((struct seen*)context)->keys;
  return 1;  // one is enough
}

static void test_once(const char* name) {
  brim_limiter* limiter = must_open(name, NULL);
  const brim_policy* policy = must_define(limiter, "p", "10/d");
  for (int i = 0; i < 8; ++i) CHECK(ask(policy, "a").admitted == 1);
  CHECK(ask(policy, "b").admitted == 1);
  OK(brim_set_override(limiter, "p", "vip", 3, "unlimited"));
  brim_snapshot_options options = snapshots();
  brim_snapshot_report report = BRIM_INIT(brim_snapshot_report);
  OK(brim_snapshot_once(name, &options, &report));
  CHECK(report.full == 1 && report.rows == 2 && report.written == 2 && report.generation == 1);
  OK(brim_snapshot_once(name, &options, NULL));

  struct seen seen = {0, 0, 0, 0};
  brim_snapshot_visits visits = BRIM_INIT(brim_snapshot_visits);
  OK(brim_read_snapshot(file, &visits, NULL));
  visits.on_file = see_file;
  visits.on_policy = see_policy;
  visits.on_override = see_override;
  visits.on_key = see_key;
  OK(brim_read_snapshot(file, &visits, &seen));
  CHECK(seen.files == 1 && seen.policies == 1 && seen.overrides == 1 && seen.keys == 1);

  // The segment is lost. What it owed is not.
  OK(brim_unlink(name));
  brim_close(limiter);
  int told = 0;
  OK(brim_open_restored(name, NULL, file, say, &told, &limiter));
  CHECK(told == 0 && must_open(name, NULL) == limiter);
  brim_close(limiter);
  OK(brim_policy_get(limiter, "p", &policy));
  CHECK(ask(policy, "a").remaining == 1);
  CHECK(ask(policy, "vip").reason == BRIM_REASON_EXEMPT);
  // Into a segment that lives, where the key owes less.
  OK(brim_reset(policy, "a", 1));
  brim_restore_report restored = BRIM_INIT(brim_restore_report);
  OK(brim_restore(limiter, file, &restored));
  CHECK(restored.merged == 2 && restored.failed == 0);
  CHECK(ask(policy, "a").remaining == 1);
  OK(brim_unlink(name));
  brim_close(limiter);
}

static void test_thread(const char* name) {
  brim_limiter* const limiter = must_open(name, NULL);
  const brim_policy* const policy = must_define(limiter, "p", "10/d");
  CHECK(ask(policy, "c").admitted == 1);
  CHECK(unlink(file) == 0);
  int told = 0;
  brim_snapshot_options options = snapshots();
  options.interval_ns = 3600 * second;  // but one is taken at the end
  options.say = say;
  options.say_context = &told;
  brim_snapshot_thread* thread = NULL;
  OK(brim_snapshot_start(name, &options, &thread));
  brim_snapshot_stop(thread);
  brim_snapshot_stop(NULL);
  CHECK(told >= 1);
  struct seen seen = {0, 0, 0, 0};
  brim_snapshot_visits visits = BRIM_INIT(brim_snapshot_visits);
  visits.on_key = see_key;
  OK(brim_read_snapshot(file, &visits, &seen));
  CHECK(seen.keys == 1);
  OK(brim_unlink(name));
  brim_close(limiter);
}

struct stopper {
  brim_snapshot_thread* thread;  // set by the test once there is one
  int told, after;               // all of it atomic
};

static void stop_it(void* context, int level, const char* what) {
  (void)level;
  (void)what;
  struct stopper* const stopper = context;
  __atomic_add_fetch(&stopper->told, 1, __ATOMIC_ACQ_REL);
  brim_snapshot_thread* thread;
  while ((thread = __atomic_exchange_n(&stopper->thread, NULL, __ATOMIC_ACQ_REL)) == NULL) {
    if (__atomic_load_n(&stopper->after, __ATOMIC_ACQUIRE)) return;
  }
  brim_snapshot_stop(thread);
  __atomic_store_n(&stopper->after, 1, __ATOMIC_RELEASE);
}

static int threads_of_process(void) {
  char line[256];
  int count = 0;
  FILE* const status = fopen("/proc/self/status", "r");
  CHECK(status != NULL);
  while (fgets(line, sizeof(line), status) != NULL) sscanf(line, "Threads: %d", &count);
  fclose(status);
  return count;
}

// `say` ends the thread that calls it: what was there is in the file, and nothing more is said.
static void test_stopped_by_say(const char* name) {
  struct stopper stopper = {NULL, 0, 0};
  brim_limiter* limiter = must_open(name, NULL);
  const brim_policy* policy = must_define(limiter, "p", "10/d");
  CHECK(ask(policy, "a").admitted == 1);
  brim_snapshot_options options = snapshots();
  options.interval_ns = second / 100;
  options.say = stop_it;
  options.say_context = &stopper;
  const int before = threads_of_process();
  brim_snapshot_thread* thread = NULL;
  OK(brim_snapshot_start(name, &options, &thread));
  __atomic_store_n(&stopper.thread, thread, __ATOMIC_RELEASE);
  const struct timespec tick = {0, 1000000};
  while (!__atomic_load_n(&stopper.after, __ATOMIC_ACQUIRE)) {
    CHECK(ask(policy, "a").verdict != BRIM_UNAVAILABLE);
    nanosleep(&tick, NULL);
  }
  while (threads_of_process() > before) nanosleep(&tick, NULL);
  CHECK(stopper.told == 1);
  struct seen seen = {0, 0, 0, 0};
  brim_snapshot_visits visits = BRIM_INIT(brim_snapshot_visits);
  visits.on_key = see_key;
  OK(brim_read_snapshot(file, &visits, &seen));
  CHECK(seen.keys == 1);
  OK(brim_unlink(name));
  brim_close(limiter);
}

static void test_errors(const char* name) {
  brim_snapshot_options options = snapshots();
  brim_snapshot_thread* thread = NULL;
  brim_limiter* limiter = NULL;
  FAILS(brim_snapshot_once("nonesuch", &options, NULL), BRIM_E_NOT_FOUND, "segment_not_found");
  options.synchronous = 3;
  FAILS(brim_snapshot_once(name, &options, NULL), BRIM_E_INVALID, "invalid_argument");
  options.struct_size = 8;
  FAILS(brim_snapshot_start(name, &options, &thread), BRIM_E_STRUCT_SIZE, "struct_size");
  FAILS(brim_snapshot_start(name, NULL, &thread), BRIM_E_INVALID, "invalid_argument");
  FAILS(brim_restore(NULL, file, NULL), BRIM_E_INVALID, "invalid_argument");
  FAILS(brim_open_restored(name, NULL, NULL, NULL, NULL, &limiter), BRIM_E_INVALID,
        "invalid_argument");
  FAILS(brim_read_snapshot(file, NULL, NULL), BRIM_E_INVALID, "invalid_argument");
  CHECK(unlink(file) == 0);
  brim_snapshot_visits visits = BRIM_INIT(brim_snapshot_visits);
  FAILS(brim_read_snapshot(file, &visits, NULL), BRIM_E_NOT_FOUND, "snapshot_not_found");
  FILE* const damaged = fopen(file, "w");
  CHECK(damaged != NULL && fputs("this is no database at all\n", damaged) >= 0);
  fclose(damaged);
  CHECK(brim_read_snapshot(file, &visits, NULL) == BRIM_E_DAMAGED);
  int told = 0;
  OK(brim_open_restored(name, NULL, file, say, &told, &limiter));
  CHECK(told == 1);  // that the file was set aside
  OK(brim_unlink(name));
  brim_close(limiter);
}

int main(void) {
  char folder[] = "/tmp/brim-c-XXXXXX";
  CHECK(mkdtemp(folder) != NULL);
  snprintf(file, sizeof(file), "%s/state.db", folder);
  const char* const name = segment_name("snapshots");
  test_once(name);
  test_thread(name);
  test_stopped_by_say(name);
  test_errors(name);
  char command[300];
  snprintf(command, sizeof(command), "rm -r %s", folder);
  return system(command) == 0 ? 0 : 1;
}
