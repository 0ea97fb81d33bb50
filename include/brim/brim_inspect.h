/* SPDX-License-Identifier: MIT
 *
 * What tools need: a live segment seen from outside, its integrity, its size, and policies as
 * files. Belongs to libbrim.so.1; read the rules in brim/brim.h first.
 *
 * A visit is called with a struct that is valid during the call only, strings and all. Its
 * struct_size is what this library knows: look before you read a field of a later version. Where a
 * visit returns int, other than 0 ends the walk. It may call anything but the function that called
 * it, with the same inspector.
 */
#ifndef BRIM_BRIM_INSPECT_H_
#define BRIM_BRIM_INSPECT_H_

#include "brim/brim.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ----------------------------------------------------------------------------- inspecting */

/* A segment mapped for reading only. Not counted as attached; for one thread at a time. */
typedef struct brim_inspector brim_inspector;

/* Attaches for reading. Of the options only group, owner_uid, mode and the clock count; NULL will
 * do. */
int brim_inspect(const char* name, const brim_options* options, brim_inspector** inspector);
/* Ends the inspection; NULL is allowed. */
void brim_inspect_end(brim_inspector* inspector);

/* See brim::SegmentInfo in brim/inspect.h. */
typedef struct brim_segment_info {
  uint32_t struct_size;
  uint32_t layout_version;
  const char* name; /* the strings: valid until the inspector's next brim_inspect_info */
  const char* path;
  const char* uuid;
  uint64_t size_bytes;
  uint64_t capacity; /* as asked for */
  uint64_t slots;    /* as made */
  uint32_t probe_limit;
  uint32_t groups_in_use;
  uint32_t name_bytes;
  uint32_t max_policies;
  uint32_t mode;
  uint32_t owner_uid;
  uint32_t group_gid;
  uint32_t creator_pid;
  int64_t created_wall_ns; /* since 1970 */
  uint8_t hash;            /* BRIM_HASH_... */
  uint8_t on_full;         /* BRIM_FULL_... */
  uint8_t linked;          /* the name still leads to it */
  uint8_t paused;
  uint8_t superseded; /* another table took its place: attached processes decide there */
  uint8_t filling;    /* it takes another one's place, and has not got all its keys yet */
  uint8_t reserved[2];
  uint64_t generation;          /* resizes that led to this table */
  uint64_t snapshot_generation; /* 0: no snapshot was taken yet */
  int64_t snapshot_age_ns;
  int64_t snapshot_duration_ns;
  uint64_t snapshot_rows;
  uint64_t snapshot_failures; /* tries in a row that failed since */
} brim_segment_info;
/* Tells what the segment is. */
int brim_inspect_info(brim_inspector* inspector, brim_segment_info* info);

typedef struct brim_policy_info {
  uint32_t struct_size;
  uint32_t number; /* as keys name it */
  const char* name;
  const char* text;
  uint32_t factor_ppm; /* see brim_set_factor */
} brim_policy_info;
/* Visits the policies. */
int brim_inspect_policies(brim_inspector* inspector,
                          int (*visit)(void* context, const brim_policy_info* policy),
                          void* context);

typedef struct brim_counter {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t value;
  const char* name;
  const char* description;
} brim_counter;
/* Visits the counters of a policy, or (NULL) of the segment. */
int brim_inspect_counters(brim_inspector* inspector, const char* policy,
                          int (*visit)(void* context, const brim_counter* counter), void* context);

typedef struct brim_attached {
  uint32_t struct_size;
  uint32_t pid;
  int64_t attached_for_ns;
  uint8_t same_namespace; /* pid means the same here */
  uint8_t alive;          /* known only if so */
} brim_attached;
/* Visits the processes attached. */
int brim_inspect_attached(brim_inspector* inspector,
                          int (*visit)(void* context, const brim_attached* process), void* context);

typedef struct brim_occupancy {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t virgin;
  uint64_t free;
  uint64_t live;
  uint64_t idle;
  uint64_t tentative;
} brim_occupancy;
/* Counts the slots by what they hold: one pass over the table. */
int brim_inspect_occupancy(brim_inspector* inspector, brim_occupancy* occupancy);

enum { BRIM_SLOT_LIVE = 1, BRIM_SLOT_IDLE = 2, BRIM_SLOT_TENTATIVE = 3 };
#define BRIM_BAN_PART 7

/* One used slot; see brim::KeyInfo in brim/inspect.h. */
typedef struct brim_key_info {
  uint32_t struct_size;
  uint16_t policy;      /* its number */
  uint8_t part;         /* which rate of the policy; BRIM_BAN_PART: its bans */
  uint8_t state;        /* BRIM_SLOT_... */
  uint64_t slot;        /* its position */
  uint64_t fingerprint; /* 49 bits */
  const void* name;     /* the key; NULL if only the fingerprint is known */
  size_t name_size;     /* bytes at name */
  uint64_t name_length; /* of the whole key: more than name_size if it was cut */
  int64_t retry_after_ns;
  const brim_decision* decision; /* what a call of cost 0 would answer now */
} brim_key_info;
/* Visits every used slot in order, in constant memory. */
int brim_inspect_keys(brim_inspector* inspector,
                      int (*visit)(void* context, const brim_key_info* key), void* context);
/* The same from a slot on: a walk can be left and taken up again at the next one. */
int brim_inspect_keys_from(brim_inspector* inspector, uint64_t slot,
                           int (*visit)(void* context, const brim_key_info* key), void* context);

typedef struct brim_override_info {
  uint32_t struct_size;
  uint8_t network; /* the key is a network, "10.0.0.0/8" */
  uint8_t ban;     /* made by brim_ban */
  uint8_t reserved[2];
  const char* policy;  /* "*": all */
  const char* use;     /* a policy, "unlimited", "deny" or "banned" */
  const void* key;     /* NULL if its text is not known */
  size_t key_size;     /* bytes at key */
  uint64_t key_length; /* of the whole key */
  int64_t ends_in_ns;  /* BRIM_NEVER: it stays */
} brim_override_info;
/* Visits the overrides and bans in force, in no order. */
int brim_inspect_overrides(brim_inspector* inspector,
                           int (*visit)(void* context, const brim_override_info* entry),
                           void* context);

typedef struct brim_audit_entry {
  uint32_t struct_size;
  uint32_t pid;
  uint32_t uid;
  uint32_t reserved;
  uint64_t sequence; /* a gap is an entry that its writer did not finish */
  int64_t wall_ns;   /* since 1970 */
  const char* what;  /* any bytes, and a NUL */
  size_t what_size;
} brim_audit_entry;
/* Visits what tools and people did (brim_record), oldest first. */
int brim_inspect_audit(brim_inspector* inspector,
                       int (*visit)(void* context, const brim_audit_entry* entry), void* context);

/* One decision out of about 1024. For display: any process may write anything there. */
typedef struct brim_hot_sample {
  uint32_t struct_size;
  uint16_t policy;
  uint8_t admitted;
  uint8_t reserved;
  uint64_t slot;
  uint64_t fingerprint;
  const void* name; /* NULL if only the fingerprint is known; maybe cut */
  size_t name_size;
} brim_hot_sample;
/* Visits the samples written since a position (0: all that are kept), and says where to go on;
 * position may be NULL. */
int brim_inspect_hot_samples(brim_inspector* inspector, uint64_t since, uint64_t* position,
                             int (*visit)(void* context, const brim_hot_sample* sample),
                             void* context);

typedef struct brim_listed_segment {
  uint32_t struct_size;
  int32_t code;        /* 0, or why it can not be attached */
  const char* message; /* of that code; "" */
  const char* name;
  uint64_t size_bytes;
  uint32_t owner_uid;
  uint32_t mode;
  int64_t created_wall_ns;     /* since 1970; 0: not known */
  uint32_t attached;           /* processes alive */
  uint32_t attached_elsewhere; /* in pid namespaces from which that can not be told */
} brim_listed_segment;
/* Visits the segments in /dev/shm that this user may read. */
int brim_list_segments(int (*visit)(void* context, const brim_listed_segment* segment),
                       void* context);

/* ----------------------------------------------------------------------------- integrity */

enum { BRIM_NOTE = 1, BRIM_WARNING = 2, BRIM_ERROR = 3 };
#define BRIM_NO_SLOT UINT64_MAX

/* See brim::Finding in brim/verify.h. */
typedef struct brim_finding {
  uint32_t struct_size;
  uint8_t severity; /* BRIM_NOTE ... */
  uint8_t part;
  uint8_t repaired;
  uint8_t reserved;
  uint64_t slot; /* BRIM_NO_SLOT: it is about none */
  uint64_t fingerprint;
  const char* name;   /* stable, such as "duplicate" */
  const char* policy; /* "": about none */
  const char* value;  /* what was found */
  const char* remedy;
  const void* key; /* NULL if its text is not known */
  size_t key_size;
} brim_finding;

typedef struct brim_verify_options {
  uint32_t struct_size;
  uint32_t repair;            /* 1: repair what is safe to repair under traffic */
  uint64_t memory_bytes;      /* for the comparison of copies; 0: 256 MiB */
  const brim_options* attach; /* as for brim_inspect; may be NULL */
} brim_verify_options;

typedef struct brim_verify_report {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t slots;
  uint64_t used;
  uint64_t tentative;
  uint64_t checked;
  uint64_t errors;
  uint64_t warnings;
  uint64_t notes;
  uint64_t repaired;
  uint64_t errors_remaining;
  uint64_t warnings_remaining;
} brim_verify_report;
/* Looks at every byte of a live segment that has a rule, and visits what breaks one. options,
 * visit and report may be NULL. The walk goes on when visit returns other than 0, in silence. */
int brim_verify(const char* name, const brim_verify_options* options,
                int (*visit)(void* context, const brim_finding* finding), void* context,
                brim_verify_report* report);

/* -------------------------------------------------------------------------------- resize */

typedef struct brim_resize_progress {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t slots_done;
  uint64_t slots_total;
  uint64_t keys; /* carried over so far */
} brim_resize_progress;

/* 0: as it is. With nothing set a resize that was killed is finished. */
typedef struct brim_resize_options {
  uint32_t struct_size;
  uint32_t name_bytes;
  uint64_t capacity;
  uint32_t max_policies;
  uint32_t cells_per_key;
  uint32_t overrides;
  uint32_t probe_limit;
  const brim_options* attach; /* as for brim_inspect; may be NULL */
  void (*progress)(void* context, const brim_resize_progress* progress); /* may be NULL */
  void* context;
  uint32_t cluster; /* 1: room for policies `scope cluster`, if there was none */
  uint32_t reserved;
} brim_resize_options;

typedef struct brim_resize_report {
  uint32_t struct_size;
  uint32_t finished_earlier; /* 1: a resize that was killed has been finished first */
  uint64_t keys;             /* states carried over */
  uint64_t slots_before;
  uint64_t slots_after;
  uint64_t generation;
  uint64_t evicted;  /* live keys that had to make room in the new table */
  int64_t moving_ns; /* while calls had to look at both tables */
} brim_resize_report;
/* Makes a larger or smaller table for a segment in use; attached processes move to it with their
 * next call. Runs for as long as it takes to copy the keys. report may be NULL. */
int brim_resize(const char* name, const brim_resize_options* options, brim_resize_report* report);

/* ---------------------------------------------------------------- what a policy guarantees */

#define BRIM_UNBOUNDED UINT64_MAX

/* See brim::RateReport in brim/policy_report.h. */
typedef struct brim_rate_report {
  uint32_t struct_size;
  uint32_t any_cost; /* 1: one call of c permits may add c - 1 */
  const char* text;
  const char* period; /* as text, "10s" */
  int64_t period_ns;
  uint64_t bytes_per_key;
  uint64_t admitted;  /* at most, within any period, by this rate alone; or BRIM_UNBOUNDED */
  uint64_t started;   /* the same, if each call waits as told (queue) */
  uint64_t by_policy; /* the same, by all rates together */
  uint64_t at_once;   /* concurrency: leases */
} brim_rate_report;

typedef struct brim_policy_finding {
  uint32_t struct_size;
  uint32_t warning; /* 1; else a note */
  const char* name; /* stable, such as "never_binds" */
  const char* what;
} brim_policy_finding;
/* Works out what a policy costs and guarantees, without a segment: its rates, and what a reader may
 * not expect. Each visit, and *bytes_per_key (with name_bytes of text for each slot), may be
 * NULL. */
int brim_report_policy(const char* text, uint32_t name_bytes,
                       int (*on_rate)(void* context, const brim_rate_report* rate),
                       int (*on_finding)(void* context, const brim_policy_finding* finding),
                       void* context, uint64_t* bytes_per_key);

/* -------------------------------------------------------------------------- policy files */

typedef struct brim_file_policy {
  uint32_t struct_size;
  uint32_t line; /* where it begins */
  const char* name;
  const char* text; /* canonical */
} brim_file_policy;

typedef struct brim_file_override {
  uint32_t struct_size;
  uint32_t line;
  const char* policy; /* "*": all, as brim_set_override takes it */
  const char* use;
  const void* match; /* the key, or the network's text, which ends with NUL */
  size_t match_size;
  uint32_t network;
} brim_file_override;

/* Each may be NULL. The options come first, without policies. */
typedef struct brim_policy_file_visits {
  uint32_t struct_size;
  int (*on_options)(void* context, const brim_options* options);
  int (*on_policy)(void* context, const brim_file_policy* policy);
  int (*on_override)(void* context, const brim_file_override* entry);
} brim_policy_file_visits;
/* Reads a file of policies (TOML, docs/reference/policies.md); nothing is visited unless all of it
 * is right. */
int brim_read_policy_file(const char* path, const brim_policy_file_visits* visits, void* context);
/* The same of a text; name stands for it in messages. */
int brim_parse_policy_file(const char* text, size_t text_length, const char* name,
                           const brim_policy_file_visits* visits, void* context);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* BRIM_BRIM_INSPECT_H_ */
