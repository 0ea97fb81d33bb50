// SPDX-License-Identifier: MIT
// Goal: what a tool sees of a segment through C is what was done to it. Method: a segment with
// known keys, policies, overrides and notes; each visit counts and looks at what it is given, and
// one that has had enough is not called again.
#include "brim/brim_inspect.h"
#include "check.h"

static int visits;
static int enough;  // visits until a walk is ended

static int seen(int right) {
  CHECK(right);
  return ++visits == enough;
}

static int see_policy(void* context, const brim_policy_info* policy) {
  CHECK(context == &visits && policy->struct_size == sizeof(*policy));
  return seen(strcmp(policy->name, "p") == 0 && strcmp(policy->text, "100/h burst 20") == 0 &&
              policy->factor_ppm == 500000);
}

static int see_counter(void* context, const brim_counter* counter) {
  if (strcmp(counter->name, "allowed") == 0) *(uint64_t*)context = counter->value;
  return seen(counter->name[0] != 0 && counter->description[0] != 0);
}

static int see_process(void* context, const brim_attached* process) {
  (void)context;
  return seen(process->pid == (uint32_t)getpid() && process->same_namespace && process->alive);
}

static uint64_t last_slot;

static int see_key(void* context, const brim_key_info* key) {
  (void)context;
  last_slot = key->slot;
  CHECK(key->struct_size == sizeof(*key) && key->decision->struct_size == sizeof(brim_decision));
  return seen(key->name_size == 4 && memcmp(key->name, "key", 3) == 0 && key->name_length == 4 &&
              key->state == BRIM_SLOT_LIVE && key->decision->remaining == 19 && key->part == 0);
}

static int see_override(void* context, const brim_override_info* entry) {
  (void)context;
  CHECK(entry->key_size == entry->key_length);
  if (entry->ban) {
    return seen(memcmp(entry->key, "bad", 3) == 0 && strcmp(entry->policy, "*") == 0 &&
                entry->ends_in_ns > 0 && entry->ends_in_ns != BRIM_NEVER);
  }
  return seen(entry->network && strcmp(entry->use, "deny") == 0 &&
              memcmp(entry->key, "10.0.0.0/8", 10) == 0 && entry->ends_in_ns == BRIM_NEVER);
}

static int see_note(void* context, const brim_audit_entry* entry) {
  (void)context;
  if (strcmp(entry->what, "test: a line") != 0) return 0;
  return seen(entry->what_size == 12 && entry->pid == (uint32_t)getpid() &&
              entry->uid == (uint32_t)getuid() && entry->wall_ns > 0);
}

static int see_sample(void* context, const brim_hot_sample* sample) {
  (void)context;
  return seen(sample->admitted <= 1);
}

static int see_listed(void* context, const brim_listed_segment* segment) {
  if (strcmp(segment->name, context) != 0) return 0;
  return seen(segment->code == 0 && segment->message[0] == 0 && segment->attached == 1 &&
              segment->mode == 0600 && segment->size_bytes > 0);
}

#define VISITS(count, call) \
  do {                      \
    visits = 0;             \
    OK(call);               \
    CHECK(visits == count); \
  } while (0)

static void test_inspect(void) {
  const char* const name = segment_name("inspect");
  brim_options options = BRIM_OPTIONS_INIT;
  options.capacity = 4096;
  brim_limiter* const limiter = must_open(name, &options);
  const brim_policy* const policy = must_define(limiter, "p", "100/h burst 20");
  OK(brim_set_factor(limiter, "p", 500000));
  for (int i = 0; i < 5; ++i) {
    char key[8];
    snprintf(key, sizeof(key), "key%d", i);
    CHECK(ask(policy, key).admitted == 1);
  }
  OK(brim_ban(limiter, "*", "bad", 3, INT64_C(3600000000000)));
  OK(brim_set_network_override(limiter, "p", "10.0.0.0/8", "deny"));
  OK(brim_record(limiter, "test: a line"));

  brim_inspector* inspector = NULL;
  OK(brim_inspect(name, NULL, &inspector));
  brim_segment_info info = BRIM_INIT(brim_segment_info);
  OK(brim_inspect_info(inspector, &info));
  CHECK(strcmp(info.name, name) == 0 && strncmp(info.path, "/dev/shm/", 9) == 0);
  CHECK(info.capacity == 4096 && info.slots >= 4096 && info.mode == 0600 && info.linked == 1);
  CHECK(info.hash == BRIM_HASH_SIPHASH && info.on_full == BRIM_FULL_EVICT_LEAST);
  CHECK(info.creator_pid == (uint32_t)getpid() && info.paused == 0 && info.generation == 0);
  OK(brim_pause(limiter));
  OK(brim_inspect_info(inspector, &info));
  CHECK(info.paused == 1);
  OK(brim_resume(limiter));

  uint64_t allowed = 0;
  VISITS(1, brim_inspect_policies(inspector, see_policy, &visits));
  OK(brim_inspect_counters(inspector, "p", see_counter, &allowed));
  CHECK(allowed == 5);
  visits = 0;
  OK(brim_inspect_counters(inspector, NULL, see_counter, &allowed));
  CHECK(visits > 1);
  FAILS(brim_inspect_counters(inspector, "q", see_counter, &allowed), BRIM_E_NOT_FOUND,
        "policy_not_found");
  VISITS(1, brim_inspect_attached(inspector, see_process, NULL));
  brim_occupancy occupancy = BRIM_INIT(brim_occupancy);
  OK(brim_inspect_occupancy(inspector, &occupancy));
  CHECK(occupancy.live == 5 && occupancy.virgin == info.slots - 5);
  VISITS(5, brim_inspect_keys(inspector, see_key, NULL));
  // Slot by slot it is the same keys, each once.
  enough = 1;
  uint64_t from = 0;
  for (int i = 0; i < 5; ++i, from = last_slot + 1) {
    VISITS(1, brim_inspect_keys_from(inspector, from, see_key, NULL));
    CHECK(last_slot >= from);
  }
  VISITS(0, brim_inspect_keys_from(inspector, from, see_key, NULL));
  enough = 2;
  VISITS(2, brim_inspect_keys(inspector, see_key, NULL));
  enough = 1;
  VISITS(1, brim_inspect_overrides(inspector, see_override, NULL));
  enough = 0;
  VISITS(2, brim_inspect_overrides(inspector, see_override, NULL));
  VISITS(1, brim_inspect_audit(inspector, see_note, NULL));
  uint64_t position = 99;
  for (int i = 0; i < 20000; ++i) ask(policy, "key0");
  visits = 0;
  OK(brim_inspect_hot_samples(inspector, 0, &position, see_sample, NULL));
  CHECK(visits > 0 && position >= (uint64_t)visits);
  VISITS(0, brim_inspect_hot_samples(inspector, position, NULL, see_sample, NULL));
  VISITS(1, brim_list_segments(see_listed, (void*)name));
  brim_inspect_end(inspector);
  FAILS(brim_inspect("nonesuch", NULL, &inspector), BRIM_E_NOT_FOUND, "segment_not_found");
  brim_close(limiter);
  OK(brim_unlink(name));
}

static int see_rate(void* context, const brim_rate_report* rate) {
  (void)context;
  return seen(rate->period_ns == INT64_C(60000000000) && strcmp(rate->period, "1m") == 0 &&
              rate->admitted >= 100 && rate->admitted <= 120 && rate->any_cost <= 1);
}

static int see_finding(void* context, const brim_policy_finding* finding) {
  if (finding->warning) *(int*)context += strcmp(finding->name, "never_binds") == 0;
  return 0;
}

static void test_report(void) {
  uint64_t bytes = 0;
  int warned = 0;
  VISITS(1, brim_report_policy("100/m burst 20", 0, see_rate, NULL, NULL, &bytes));
  CHECK(bytes >= 16);
  OK(brim_report_policy("10/s; 1000000/s", 0, NULL, see_finding, &warned, NULL));
  CHECK(warned == 1);
  FAILS(brim_report_policy("10/", 0, NULL, NULL, NULL, NULL), BRIM_E_INVALID, "invalid_policy");
}

static int see_options(void* context, const brim_options* options) {
  (void)context;
  return seen(options->struct_size == sizeof(*options) && options->capacity == 2048 &&
              options->policies == NULL);
}

static int see_file_policy(void* context, const brim_file_policy* policy) {
  (void)context;
  return seen(strcmp(policy->name, "api") == 0 && strcmp(policy->text, "10/s burst 20") == 0 &&
              policy->line == 4);
}

static int see_file_override(void* context, const brim_file_override* entry) {
  (void)context;
  return seen(strcmp(entry->policy, "*") == 0 && strcmp(entry->use, "unlimited") == 0 &&
              entry->network == 1 && strcmp(entry->match, "10.0.0.0/8") == 0);
}

static void test_policy_file(void) {
  const char* const text =
      "[segment]\ncapacity = 2048\n[policies]\napi = \"10/s burst 20\"\n"
      "[[override]]\ncidr = \"10.0.0.0/8\"\nuse = \"unlimited\"\n";
  brim_policy_file_visits all = BRIM_INIT(brim_policy_file_visits);
  OK(brim_parse_policy_file(text, strlen(text), "t.toml", &all, NULL));
  all.on_options = see_options;
  all.on_policy = see_file_policy;
  all.on_override = see_file_override;
  VISITS(3, brim_parse_policy_file(text, strlen(text), "t.toml", &all, NULL));
  enough = 2;
  VISITS(2, brim_parse_policy_file(text, strlen(text), "t.toml", &all, NULL));
  enough = 0;
  visits = 0;
  FAILS(brim_parse_policy_file(text, strlen(text) - 5, "t.toml", &all, NULL), BRIM_E_INVALID,
        "policy_file_invalid");
  CHECK(visits == 0 && strstr(brim_last_error(), "t.toml:7:") != NULL);
  FAILS(brim_read_policy_file("/nonesuch/x.toml", &all, NULL), BRIM_E_NOT_FOUND,
        "policy_file_not_found");
}

int main(void) {
  test_inspect();
  test_report();
  test_policy_file();
  return 0;
}
