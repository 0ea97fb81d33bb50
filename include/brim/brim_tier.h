/* SPDX-License-Identifier: MIT
 *
 * One limit across machines: policies `scope cluster` count what all nodes admit that share a
 * Redis. For C; brim/tier.h says what is promised. Needs libbrim-sync.so.1 beside libbrim.so.1;
 * read the rules in brim/brim.h first.
 *
 *   brim_tier_options tier = BRIM_INIT(brim_tier_options);
 *   tier.url = "redis://10.0.0.5:6379";
 *   brim_tier_thread_start("api", &tier, &thread);   after every fork, in any number of workers
 */
#ifndef BRIM_BRIM_TIER_H_
#define BRIM_BRIM_TIER_H_

#include "brim/brim.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where the store is, and how this node speaks with it. See brim::TierOptions in brim/tier.h. */
typedef struct brim_tier_options {
  uint32_t struct_size;
  uint8_t insecure; /* 1: TLS without looking at the certificate */
  uint8_t texts;    /* 1: keys' texts are kept in the store beside the hashes, for people */
  uint8_t reserved[2];
  const char* url; /* redis://host:port/db, rediss://, unix:///path, ...: see brim/tier.h */
  const char* user;
  const char* password; /* or file:PATH, or env:NAME; never shown */
  const char* ca_file;
  const char* cert_file;
  const char* key_file;
  const char* prefix;    /* of all names in the store; NULL: brim */
  const char* secret;    /* 32 hex digits; NULL: the nodes agree on one */
  const char* node_name; /* for people; NULL: host name and segment */
  int64_t interval_ns;   /* longest time between exchanges of a key that matters; 0: 200 ms */
  int64_t timeout_ns;    /* of one exchange; 0: 500 ms; strict: of one request; 0: 50 ms */
  int64_t hold_ns;       /* the store is away: others are taken to go on so long; 0: 10 s */
  int64_t forget_ns;     /* a node that is not heard of for so long is gone; 0: 30 s */
  uint32_t share_ppm;    /* of each rate after hold_ns; 0: one part of as many as there are nodes */
  uint32_t reserved2;
  const brim_options* attach; /* group, owner_uid, mode, clock; may be NULL */
  /* Told what happened, in words; 3 an error, 4 a warning, 6 information (syslog's numbers). A
   * thread calls it from itself. May be NULL. */
  void (*say)(void* context, int level, const char* what);
  void* say_context;
} brim_tier_options;

/* A thread that follows a segment by its name and exchanges what its keys use with the other nodes;
 * all signals are blocked in it. Of all that do so for a segment one exchanges, and another when
 * that one ends. */
typedef struct brim_tier_thread brim_tier_thread;
/* Starts it. Start it after fork(): a child has none. */
int brim_tier_thread_start(const char* segment, const brim_tier_options* options,
                           brim_tier_thread** thread);
/* Tells what is left to tell, if this process is the one that exchanges, and ends the thread. In a
 * child of the process that started it: only frees. Called by `say` in the thread itself it returns
 * at once; the thread ends by itself. NULL is allowed. */
void brim_tier_thread_stop(brim_tier_thread* thread);

/* From now on this process, in all its threads and in children that it forks, asks the store for
 * policies `scope cluster strict` of the segment: one round trip for each request that this node
 * would admit, for at most timeout_ns. BRIM_E_UNFIT: the segment has no room for what nodes share.
 * Without this call, and while the store does not answer, such a decision is BRIM_UNAVAILABLE with
 * BRIM_REASON_TIER_UNAVAILABLE; so it is until an agent or thread of the segment has met the others
 * for the first time. */
int brim_tier_answer_strict(brim_limiter* limiter, const brim_tier_options* options);

/* What the node's agent leaves in the segment; see brim::TierStatus in brim/cluster.h. Times are
 * CLOCK_MONOTONIC; counters only grow. */
typedef struct brim_tier_report {
  uint32_t struct_size;
  uint8_t kept; /* 1: the segment has room for it */
  uint8_t up;   /* 1: the last exchange was answered */
  uint8_t reserved[2];
  uint64_t agent_pid; /* 0: there never was one */
  int64_t alive_ns;   /* the agent was at work */
  int64_t exchanged_ns;
  int64_t down_since_ns; /* 0: up */
  int64_t lag_ns;        /* from a use being counted to the answer about it */
  int64_t round_trip_ns;
  uint64_t nodes;
  uint64_t calls;
  uint64_t pushes; /* of keys */
  uint64_t errors;
  uint64_t unknown;           /* pushes of which nobody knows whether they were done */
  uint64_t healed;            /* buckets that the store had lost */
  uint64_t overshoot_permits; /* the most by which any key was found over its burst */
  uint64_t keys_near;         /* keys looked after now */
  uint64_t strict_calls;
  uint64_t strict_errors;
  uint32_t share_ppm; /* of the rates, while the store is away */
  uint32_t reserved2;
  char store[256]; /* where, without passwords; cut to fit */
  char error[512]; /* the last one; empty while up; cut to fit */
} brim_tier_report;
/* Reads it; needs no store. attach may be NULL. */
int brim_tier_status(const char* segment, const brim_options* attach, brim_tier_report* report);

typedef struct brim_tier_node {
  uint32_t struct_size;
  uint32_t self; /* 1: of this segment */
  const char* uuid;
  const char* name;
  int64_t seen_ago_ns;
} brim_tier_node;
/* Asks the store who is there, and visits them until visit returns other than 0. */
int brim_tier_nodes(const char* segment, const brim_tier_options* options,
                    int (*visit)(void* context, const brim_tier_node* node), void* context);
/* Removes a node that will not come back, at once: its share returns to the others. */
int brim_tier_remove_node(const brim_tier_options* options, const char* uuid);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* BRIM_BRIM_TIER_H_ */
