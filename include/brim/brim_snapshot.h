/* SPDX-License-Identifier: MIT
 *
 * Snapshots: what a segment's keys owe, kept in a SQLite file, so that limits survive a reboot.
 * For C; brim/snapshot.h says what is promised. Needs libbrim-sync.so.1 beside libbrim.so.1; read
 * the rules in brim/brim.h first.
 *
 *   brim_open_restored("api", &options, "/var/lib/brim/api.db", &limiter);
 *   brim_snapshot_start("api", &snapshots, &thread);   after every fork, in any number of workers
 */
#ifndef BRIM_BRIM_SNAPSHOT_H_
#define BRIM_BRIM_SNAPSHOT_H_

#include "brim/brim.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -------------------------------------------------------------------------------- saving */

/* When the file is forced to the disk: what a power cut may lose. */
enum { BRIM_SYNC_FULL = 0, BRIM_SYNC_NORMAL = 1, BRIM_SYNC_OFF = 2 };

typedef struct brim_snapshot_options {
  uint32_t struct_size;
  uint8_t synchronous; /* BRIM_SYNC_FULL: nothing; _NORMAL: the last ones; _OFF: the file */
  uint8_t restore;     /* thread: 1 makes the segment from the file if there is none */
  uint8_t reserved[2];
  const char* file;        /* made with mode 0600 */
  int64_t busy_timeout_ns; /* wait so long for another program that holds the file; 0: 5 s */
  int64_t interval_ns;     /* thread: between snapshots; at least 10 ms; 0: 10 s */
  int64_t sweep_idle_ns;   /* thread: free the slots of keys idle so long; 0: leave them */
  uint32_t keep;           /* copies of earlier segments' files */
  uint32_t reserved2;
  const brim_options* attach; /* group, owner_uid, mode, clock; may be NULL */
  /* Told what happened, in words; 3 an error, 4 a warning, 6 information (syslog's numbers). A
   * thread calls it from itself. May be NULL. */
  void (*say)(void* context, int level, const char* what);
  void* say_context;
} brim_snapshot_options;

typedef struct brim_snapshot_report {
  uint32_t struct_size;
  uint32_t full; /* 1: every key was written, not only what has changed */
  uint64_t generation;
  uint64_t written; /* rows */
  uint64_t removed;
  uint64_t rows;     /* in the file now */
  uint64_t restored; /* keys taken over from an earlier segment's file first */
  int64_t duration_ns;
} brim_snapshot_report;
/* Writes a snapshot. BRIM_E_BUSY if another process is the one that writes this file. report may be
 * NULL. */
int brim_snapshot_once(const char* segment, const brim_snapshot_options* options,
                       brim_snapshot_report* report);

/* A thread that follows a segment by its name and writes snapshots; all signals are blocked in it.
 * Of all that do so for a file one writes, and another when that one ends. */
typedef struct brim_snapshot_thread brim_snapshot_thread;
/* Starts it. Start it after fork(): a child has none. */
int brim_snapshot_start(const char* segment, const brim_snapshot_options* options,
                        brim_snapshot_thread** thread);
/* Takes a last snapshot, if this process is the one that writes, and ends the thread. In a child of
 * the process that started it: only frees. Called by `say` in the thread itself it returns at once;
 * the thread says nothing more, and ends by itself. NULL is allowed. */
void brim_snapshot_stop(brim_snapshot_thread* thread);

/* ------------------------------------------------------------------------------ restoring */

/* How many states met which end; see brim::RestoreReport in brim/snapshot.h. */
typedef struct brim_restore_report {
  uint32_t struct_size;
  uint32_t clock_behind;
  uint64_t generation;
  int64_t elapsed_ns;
  uint64_t merged;
  uint64_t idle;
  uint64_t no_policy;
  uint64_t no_key;
  uint64_t unfit;
  uint64_t failed;
  uint64_t overrides;
  uint64_t overrides_lost;
} brim_restore_report;
/* Gives the file's states, overrides and factors to a live segment; what is stricter wins. report
 * may be NULL. */
int brim_restore(brim_limiter* limiter, const char* file, brim_restore_report* report);
/* Attaches, or makes the segment from the file. Without a file, or with a damaged one (which is set
 * aside), it begins empty; say (may be NULL) is told so, with level 4. */
int brim_open_restored(const char* name, const brim_options* options, const char* file,
                       void (*say)(void* context, int level, const char* what), void* context,
                       brim_limiter** limiter);

/* ---------------------------------------------------------------------------- what is in it */

typedef struct brim_snapshot_file {
  uint32_t struct_size;
  uint32_t layout_version;
  const char* segment; /* its name */
  const char* uuid;
  uint64_t generation;
  uint64_t rows;
  int64_t wall_ns; /* when it was taken, since 1970 */
  uint64_t capacity;
} brim_snapshot_file;

typedef struct brim_policy_state {
  uint32_t struct_size;
  uint32_t number; /* as the keys name it */
  const char* name;
  const char* text;
  uint32_t factor_ppm;
} brim_policy_state;

typedef struct brim_override_state {
  uint32_t struct_size;
  uint32_t ban;
  const char* policy; /* "*": any */
  const char* use;
  const void* key;     /* NULL if its text is not known */
  size_t key_size;     /* bytes at key */
  uint64_t key_length; /* of the whole key */
  int64_t ends_in_ns;  /* from the time of the snapshot */
} brim_override_state;

enum { /* kind */
       BRIM_STATE_BUCKET = 1,
       BRIM_STATE_WINDOW = 2,
       BRIM_STATE_COUNTER = 3,
       BRIM_STATE_LOG = 4,
       BRIM_STATE_BAN = 5
};

/* What one rate of a policy remembers of one key; see brim::KeyState in brim/state.h. */
typedef struct brim_key_state {
  uint32_t struct_size;
  uint16_t policy;
  uint8_t part;
  uint8_t kind; /* BRIM_STATE_... */
  uint8_t barred;
  uint8_t reserved[7];
  uint64_t slot;
  uint64_t fingerprint;
  const void* key; /* NULL if its text is not known */
  size_t key_size;
  uint64_t key_length;
  uint64_t used;
  uint64_t before;
  int64_t until_ns;
  int64_t as_of_ns;
  const int64_t* left_ns;
  size_t left_count;
} brim_key_state;

/* Each may be NULL. The file comes first, its keys last. */
typedef struct brim_snapshot_visits {
  uint32_t struct_size;
  int (*on_file)(void* context, const brim_snapshot_file* file);
  int (*on_policy)(void* context, const brim_policy_state* policy);
  int (*on_override)(void* context, const brim_override_state* entry);
  int (*on_key)(void* context, const brim_key_state* key);
} brim_snapshot_visits;
/* Checks the whole file, then visits all of one snapshot, whatever a writer does meanwhile. */
int brim_read_snapshot(const char* file, const brim_snapshot_visits* visits, void* context);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* BRIM_BRIM_SNAPSHOT_H_ */
