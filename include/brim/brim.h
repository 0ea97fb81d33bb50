/* SPDX-License-Identifier: MIT
 *
 * The C interface of libbrim.so.1: what the other headers of this folder give C++, for C and for
 * every language that can call C. Each function has a man page. What tools need is in
 * brim/brim_inspect.h, snapshots are in brim/brim_snapshot.h (libbrim-sync.so.1).
 *
 *   brim_limiter *limiter;
 *   const brim_policy *per_ip;
 *   brim_decision decision = BRIM_DECISION_INIT;
 *   if (brim_open("api", NULL, &limiter) < 0 ||
 *       brim_define(limiter, "per_ip", "100/m burst 20", &per_ip) < 0)
 *     die(brim_last_error());
 *   brim_try_acquire(per_ip, address, strlen(address), 1, &decision);
 *   if (!decision.admitted) return too_many_requests();
 *
 * Rules that hold for all of it:
 *  - Handles are opaque. A limiter handle is the segment's in this process (one for reading only is
 *    another, and so is one of another clock): opening a name again gives the same handle and
 *    counts one more, so a script that opens it for every request maps it once. A call whose
 *    options were good once in this process is not judged again while the name leads there.
 *    A policy handle belongs to its limiter handle and is valid until that is closed for the last
 *    time. Both may be used from any thread, and in a child after fork().
 *  - A function returns 0, or a negative BRIM_E... code and then changes nothing that it was given
 *    but the thread's brim_last_error() (and a decision: see there).
 *  - A struct begins with its own size as its caller knows it. Later versions only append fields.
 *    All other fields zero means the defaults, so BRIM_INIT(type) will do. A size of less than the
 *    first version's is BRIM_E_STRUCT_SIZE, and so is a field that this library does not know yet
 *    and that is not zero.
 *  - Text in is UTF-8 or any bytes, ends with NUL where only a pointer is taken; keys are pointer
 *    and length and may hold any bytes. Text out goes into the caller's buffer of `size` bytes:
 *    written is what fits and a NUL, and *length (may be NULL) is the whole length; BRIM_E_BUFFER
 *    if it did not fit. A NULL buffer of size 0 asks for the length alone.
 *  - Durations and times are ns in int64_t. BRIM_NEVER is one that does not end.
 *  - No C++ exception leaves a function; without memory it is BRIM_E_NO_MEMORY. pthread_cancel() of
 *    a thread that is in one waits until it has returned: give brim_acquire a timeout.
 */
#ifndef BRIM_BRIM_H_
#define BRIM_BRIM_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BRIM_VERSION_MAJOR 1 /* of this interface: the number in libbrim.so.1 */
#define BRIM_VERSION_MINOR 0

/* A struct with its size and all else zero: brim_ticket ticket = BRIM_INIT(brim_ticket); */
#ifdef __cplusplus
#define BRIM_INIT(type)              \
  ([] {                              \
    type made{};                     \
    made.struct_size = sizeof(made); \
    return made;                     \
  }())
#else
#define BRIM_INIT(type) \
  { .struct_size = sizeof(type) }
#endif

#define BRIM_NEVER INT64_MAX
#define BRIM_MAX_COST (UINT32_C(1) << 31)
#define BRIM_MAX_ASKS 8

/* ------------------------------------------------------------------------------- errors */

/* What the caller should do; brim_last_error() says what happened, and begins with a stable name,
 * "segment_not_found: ..." (docs/reference/errors.md lists them). */
enum {
  BRIM_OK = 0,
  BRIM_E_INVALID = -1,    /* an argument is wrong: correct the call */
  BRIM_E_NOT_FOUND = -2,  /* no segment, policy, override or file of that name */
  BRIM_E_EXISTS = -3,     /* the name is taken, or means something else */
  BRIM_E_PERMISSION = -4, /* the system refuses, or the owner is not trusted */
  BRIM_E_UNFIT = -5,      /* not in this state: read-only, other version, not for this policy */
  BRIM_E_BUSY = -6,       /* another process is at it: try again */
  BRIM_E_FULL = -7,       /* no room: memory, table, file system */
  BRIM_E_DAMAGED = -8,    /* a segment or file is damaged */
  BRIM_E_INTERNAL = -9,   /* a fault of brim */
  BRIM_E_STRUCT_SIZE = -10,
  BRIM_E_BUFFER = -11, /* the caller's buffer is too small */
  BRIM_E_NO_MEMORY = -12
};

/* A few words for a code; never NULL, and not to be freed. */
const char* brim_strerror(int code);
/* The message of the last call of this thread that returned a negative code; "" before that.
 * Valid until this thread's next such call. */
const char* brim_last_error(void);
/* Sets this thread's brim_last_error() to a copy of message (NULL: to words for the code), and
 * returns the code. For libraries beside this one, such as libbrim-sync. */
int brim_set_last_error(int code, const char* message);
/* The release, "0.1.0". */
const char* brim_version(void);

/* ----------------------------------------------------------------------------- segments */

typedef struct brim_limiter brim_limiter;
typedef struct brim_policy brim_policy;

enum { BRIM_HASH_DEFAULT = 0, BRIM_HASH_SIPHASH = 1, BRIM_HASH_XXH3 = 2 };
enum { BRIM_FULL_DEFAULT = 0, BRIM_FULL_EVICT_LEAST = 1, BRIM_FULL_ALLOW = 2, BRIM_FULL_DENY = 3 };
enum { BRIM_CLOCK_AUTO = 0, BRIM_CLOCK_MONOTONIC = 1, BRIM_CLOCK_MANUAL = 2 };
#define BRIM_NO_NAMES UINT32_C(0xffffffff)

/* One policy to be defined while opening. */
typedef struct brim_named_policy {
  const char* name;
  const char* text;
} brim_named_policy;

/* See brim::Options in brim/limiter.h. */
typedef struct brim_options {
  uint32_t struct_size;
  uint32_t name_bytes;    /* of key text kept for tools; BRIM_NO_NAMES: none; 0: 48 */
  uint64_t capacity;      /* slots for keys; 0: 65536 */
  uint32_t max_policies;  /* 0: 64 */
  uint32_t cells_per_key; /* 0: what the policies need */
  uint32_t overrides;     /* 0: 1024 */
  uint32_t probe_limit;   /* 0: 48 */
  uint8_t hash;           /* BRIM_HASH_... */
  uint8_t on_full;        /* BRIM_FULL_... */
  uint8_t clock;          /* BRIM_CLOCK_... */
  uint8_t accept_stored;  /* 1: on a mismatch attach with the stored values */
  uint8_t replace;        /* 1: brim_create takes the name over */
  uint8_t huge_pages;
  uint8_t reserved[2];
  uint32_t mode;      /* 0600, 0640 or 0660; 0: 0600 */
  uint32_t owner_uid; /* trust segments of this user besides one's own and root's; 0: none */
  const char* group;  /* owns a 0660 segment; NULL: none */
  const brim_named_policy* policies; /* defined if missing; copied during the call */
  size_t policy_count;
  const int64_t* manual_clock_ns; /* with BRIM_CLOCK_MANUAL; read atomically; outlives the handle */
  uint32_t
      cluster; /* 1: room for policies `scope cluster`; made anyway if one of policies is such */
  uint32_t reserved2;
} brim_options;
#define BRIM_OPTIONS_INIT BRIM_INIT(brim_options)

/* Attaches to the segment, creating it first if there is none. options may be NULL. */
int brim_open(const char* name, const brim_options* options, brim_limiter** limiter);
/* Creates; BRIM_E_EXISTS if the name is taken. */
int brim_create(const char* name, const brim_options* options, brim_limiter** limiter);
/* Attaches; BRIM_E_NOT_FOUND if there is none. */
int brim_attach(const char* name, const brim_options* options, brim_limiter** limiter);
/* Attaches for reading only: brim_peek works. */
int brim_attach_read_only(const char* name, const brim_options* options, brim_limiter** limiter);
/* Ends one opening; the last one unmaps, and frees the policy handles. NULL is allowed. */
void brim_close(brim_limiter* limiter);
/* Removes the name; attached processes go on among themselves. */
int brim_unlink(const char* name);
/* 1 while the name leads to this segment, 0 once it was removed or replaced. */
int brim_linked(const brim_limiter* limiter);
/* The name as first opened; valid as long as the handle. */
const char* brim_name(const brim_limiter* limiter);

/* ----------------------------------------------------------------------------- policies */

/* Looks a policy up by its name. */
int brim_policy_get(brim_limiter* limiter, const char* name, const brim_policy** policy);
/* Adds a policy, or returns the existing one if its text means the same (else BRIM_E_EXISTS). */
int brim_define(brim_limiter* limiter, const char* name, const char* text,
                const brim_policy** policy);
/* The policy's name; valid as long as the handle. */
const char* brim_policy_name(const brim_policy* policy);
/* The policy's text as it is stored now. */
int brim_policy_text(const brim_policy* policy, char* buffer, size_t size, size_t* length);
/* Visits the names of all policies until visit returns other than 0. */
int brim_policy_names(const brim_limiter* limiter, int (*visit)(void* context, const char* name),
                      void* context);

enum { BRIM_SCOPE_NODE = 0, BRIM_SCOPE_CLUSTER = 1, BRIM_SCOPE_STRICT = 2 };
/* Whose requests the policy counts now: BRIM_SCOPE_... Of a strict one, calls that decide may take
 * as long as the store may (brim/brim_tier.h). As cheap as a decision. */
int brim_policy_scope(const brim_policy* policy);

enum { BRIM_CHANGE_KEEP = 0, BRIM_CHANGE_RESET = 1, BRIM_CHANGE_PROPORTIONAL = 2 };
/* Live change for all attached processes at once. */
int brim_change(brim_limiter* limiter, const char* policy, const char* text, int on_change);
/* Scales all rates of a policy; 1000000 is the policy as written. */
int brim_set_factor(brim_limiter* limiter, const char* policy, uint32_t parts_per_million);
/* Takes a policy out. Handles that exist go on deciding under its last text. */
int brim_remove_policy(brim_limiter* limiter, const char* policy);
/* All keys of the policy are as if never seen. */
int brim_reset_policy(brim_limiter* limiter, const char* policy);

/* ---------------------------------------------------------------------------- decisions */

enum { BRIM_DENIED = 0, BRIM_ALLOWED = 1, BRIM_UNAVAILABLE = 2 }; /* verdict */

enum { /* reason */
       BRIM_REASON_NONE = 0,
       BRIM_REASON_COST_ABOVE_BURST = 1,
       BRIM_REASON_FULL = 2,
       BRIM_REASON_CONTENDED = 3,
       BRIM_REASON_READ_ONLY = 4,
       BRIM_REASON_NO_POLICY = 5,
       BRIM_REASON_BARRED = 6,
       BRIM_REASON_SHADOW = 7,
       BRIM_REASON_EXEMPT = 8,
       BRIM_REASON_BLOCKED = 9,
       BRIM_REASON_UNSUPPORTED = 10,
       BRIM_REASON_TOO_LATE = 11,
       BRIM_REASON_PAUSED = 12,
       BRIM_REASON_MOVED = 13,
       BRIM_REASON_TIER_UNAVAILABLE = 14
};

enum { BRIM_LOW = 0, BRIM_NORMAL = 1, BRIM_HIGH = 2, BRIM_CRITICAL = 3 }; /* priority */

/* See brim::Decision in brim/decision.h. A function that returns a negative code leaves one that
 * is admitted, verdict BRIM_UNAVAILABLE: a caller that looks at the decision alone fails open.
 * (With BRIM_E_STRUCT_SIZE for the decision itself nothing is written.) */
typedef struct brim_decision {
  uint32_t struct_size;
  uint32_t remaining;     /* largest cost that would pass right after this call */
  int64_t retry_after_ns; /* 0 if admitted; BRIM_NEVER: no wait will help */
  int64_t reset_after_ns; /* until the key is as if never seen */
  int64_t delay_ns;       /* if admitted: wait this long before you start */
  uint8_t admitted;       /* 1: let the request pass */
  uint8_t verdict;        /* BRIM_DENIED, BRIM_ALLOWED, BRIM_UNAVAILABLE */
  uint8_t reason;         /* BRIM_REASON_... */
  uint8_t part;           /* which rate of the policy, or ask of the call, this is about */
  uint32_t granted;       /* permits taken; brim_try_acquire_up_to: from 0 to max */
} brim_decision;
#define BRIM_DECISION_INIT BRIM_INIT(brim_decision)

/* Takes `cost` permits for the key, or none. Never blocks, allocates or makes a system call; may
 * be called in a signal handler. */
int brim_try_acquire(const brim_policy* policy, const void* key, size_t key_length, uint32_t cost,
                     brim_decision* decision);
/* The same for a class of requests (BRIM_LOW ... BRIM_CRITICAL). */
int brim_try_acquire_priority(const brim_policy* policy, const void* key, size_t key_length,
                              uint32_t cost, int priority, brim_decision* decision);
/* The same with the caller's CLOCK_MONOTONIC ns, at most 1 ms ahead of the clock. */
int brim_try_acquire_at(const brim_policy* policy, int64_t now_ns, const void* key,
                        size_t key_length, uint32_t cost, brim_decision* decision);
/* Takes as many permits as there are, at least `min`, at most `max`, or none. */
int brim_try_acquire_up_to(const brim_policy* policy, const void* key, size_t key_length,
                           uint32_t min, uint32_t max, brim_decision* decision);

typedef struct brim_key {
  const void* bytes;
  size_t length;
} brim_key;
/* Decides keys[i] into decisions[i], one permit each. decisions[0].struct_size is the size of
 * each element, and a multiple of 8. */
int brim_try_acquire_batch(const brim_policy* policy, const brim_key* keys, size_t count,
                           brim_decision* decisions);

typedef struct brim_ask {
  const brim_policy* policy; /* of one segment */
  brim_key key;
  uint32_t cost;
} brim_ask;
/* All of the asks (at most BRIM_MAX_ASKS) or none of them, at one instant. */
int brim_try_acquire_all(const brim_ask* asks, size_t count, brim_decision* decision);

/* What brim_try_acquire would answer now; writes nothing. */
int brim_peek(const brim_policy* policy, const void* key, size_t key_length, uint32_t cost,
              brim_decision* decision);
/* Waits for the permits, at most timeout_ns; blocks. */
int brim_acquire(const brim_policy* policy, const void* key, size_t key_length, uint32_t cost,
                 int64_t timeout_ns, brim_decision* decision);

typedef struct brim_ticket {
  uint32_t struct_size;
  uint32_t cost;
  uint64_t end;
} brim_ticket;
/* Books permits for a start within max_delay_ns; decision->delay_ns says when. */
int brim_reserve(const brim_policy* policy, const void* key, size_t key_length, uint32_t cost,
                 int64_t max_delay_ns, brim_ticket* ticket, brim_decision* decision);
/* Gives a booking back. This and the others that give back or settle return BRIM_E_UNFIT if nothing
 * (or, brim_commit, not all) could be done; that is no error of the program, and leaves
 * brim_last_error() as it is. */
int brim_cancel(const brim_policy* policy, const void* key, size_t key_length,
                const brim_ticket* ticket);
/* Settles what a call that took `held` did cost. */
int brim_commit(const brim_policy* policy, const void* key, size_t key_length, uint32_t held,
                uint32_t actual);
/* Gives back up to `cost` permits of the key. */
int brim_refund(const brim_policy* policy, const void* key, size_t key_length, uint32_t cost);
/* Forgets what the key owes, and the bans that the policy made. */
int brim_reset(const brim_policy* policy, const void* key, size_t key_length);

/* One of at most N leases of a key (policies `concurrency`). */
typedef struct brim_lease {
  uint32_t struct_size;
  uint32_t place;
  int64_t expires_ns; /* CLOCK_MONOTONIC */
  uint64_t fence;     /* grows with every lease of one place */
  uint64_t holder;
  uint64_t id;
  uint64_t slot;
} brim_lease;
/* Takes a lease of the key; ttl_ns 0: for the policy's time. */
int brim_acquire_lease(const brim_policy* policy, const void* key, size_t key_length,
                       int64_t ttl_ns, brim_lease* lease, brim_decision* decision);
/* Prolongs it from now on. */
int brim_renew(const brim_policy* policy, brim_lease* lease, int64_t ttl_ns);
/* Ends it. */
int brim_release(const brim_policy* policy, const brim_lease* lease);

/* ------------------------------------------------------------------- overrides and bans */

/* Gives a key another rule. `policy` may be "*" for all; `use` is a policy, "unlimited" or "deny".
 */
int brim_set_override(brim_limiter* limiter, const char* policy, const void* key, size_t key_length,
                      const char* use);
/* The same for all addresses of a network, "10.0.0.0/8". */
int brim_set_network_override(brim_limiter* limiter, const char* policy, const char* network,
                              const char* use);
/* Takes a key's override away. */
int brim_clear_override(brim_limiter* limiter, const char* policy, const void* key,
                        size_t key_length);
/* Takes a network's override away. */
int brim_clear_network_override(brim_limiter* limiter, const char* policy, const char* network);
/* Bars a key for a time; duration_ns may be BRIM_NEVER. */
int brim_ban(brim_limiter* limiter, const char* policy, const void* key, size_t key_length,
             int64_t duration_ns);
/* The same for all addresses of a network. */
int brim_ban_network(brim_limiter* limiter, const char* policy, const char* network,
                     int64_t duration_ns);
/* Ends a key's ban, whether made by hand or by the policy; what it owes stays. */
int brim_unban(brim_limiter* limiter, const char* policy, const void* key, size_t key_length);
/* Ends a network's ban. */
int brim_unban_network(brim_limiter* limiter, const char* policy, const char* network);

/* ---------------------------------------------------------------------------- operation */

/* While paused every decision admits with BRIM_REASON_PAUSED. */
int brim_pause(brim_limiter* limiter);
/* Ends the pause. */
int brim_resume(brim_limiter* limiter);
/* 1 while the segment is paused, or 0. */
int brim_paused(const brim_limiter* limiter);
/* A line for people in the segment's ring of changes. */
int brim_record(brim_limiter* limiter, const char* what);
/* Frees the slots of keys idle for idle_ns; *freed (may be NULL): how many. */
int brim_sweep(brim_limiter* limiter, int64_t idle_ns, uint64_t* freed);

/* --------------------------------------------------------------------- policies as text */

enum {
  BRIM_GCRA = 1,
  BRIM_TOKEN_BUCKET = 2,
  BRIM_LEAKY_BUCKET = 3,
  BRIM_QUEUE = 4,
  BRIM_FIXED_WINDOW = 5,
  BRIM_CALENDAR_WINDOW = 6,
  BRIM_SLIDING_LOG = 7,
  BRIM_SLIDING_COUNTER = 8,
  BRIM_CONCURRENCY = 9,
  BRIM_UNLIMITED = 10,
  BRIM_DENY = 11
};

/* One rate of a policy; see brim::Rate in brim/policy.h. */
typedef struct brim_rate {
  uint32_t struct_size;
  uint8_t algorithm; /* BRIM_GCRA ... */
  uint8_t forward;
  uint8_t first_hit;
  uint8_t inclusive;
  uint8_t count_denied;
  uint8_t floor_weight;
  uint8_t calendar; /* 0, or 1 hour, 2 day, 3 week, 4 month, 5 year */
  uint8_t reserved;
  uint32_t limit;
  int64_t period_ns;
  uint32_t burst;
  uint32_t debt;
  uint32_t undelayed;
  int32_t utc_offset_s;
  int64_t ahead_ns;
} brim_rate;
/* Reads a policy's text, without a segment. The canonical text goes into the buffer (may be NULL
 * with size 0); up to `most` rates into rates[] (rates[0].struct_size is each one's size), and how
 * many there are into *count. rates, count and length may be NULL. */
int brim_parse_policy(const char* text, char* buffer, size_t size, size_t* length, brim_rate* rates,
                      size_t most, size_t* count);

/* ---------------------------------------------------------------------------- addresses */

/* The key of a client's address: canonical, cut to v4_prefix or v6_prefix bits (0: 32 and 64).
 * BRIM_E_INVALID if the text is no address: use the text itself then. */
int brim_address_key(const char* text, size_t text_length, int v4_prefix, int v6_prefix,
                     char* buffer, size_t size, size_t* length);
/* 1 if the address is in the network, "10.0.0.0/8"; 0 if not; negative: one can not be read. */
int brim_network_contains(const char* network, const char* address, size_t address_length);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* BRIM_BRIM_H_ */
