/* SPDX-License-Identifier: MIT
 *
 * The cells at a slot's position: the sliding window log of shm/cells.h and the concurrency leases
 * of shm/leases.h, whose keys take turns in the same slots, for spin to explore completely. Run it
 * with run_models.sh.
 *
 * Goal: under every interleaving of LOGS callers of logs and LEASES callers of leases that may
 * stall for any time at any point,
 *   - no half-open window of one span holds more than `limit` admissions of a log's key,
 *   - no more than `limit` leases of a key are unexpired when one is granted or renewed,
 *   - a call is refused only if at some moment of it its key had no room at the call's timestamp,
 *   - with a limit of 1 the fence grows with every lease of a key that is not over when granted.
 * Method: every load and every compare-and-swap of a shared word is one step. A killed caller is
 * one that is never scheduled again; with KILL it is also known to be dead, so that others end its
 * lease. The ghosts know what was admitted when, and not what the cells say.
 *
 * A slot is found, or claimed and verified, in one step: slot.pml proves that a key has one.
 *
 * Units: a span, or a lease's life, is P ticks. The clock t runs from 0 to MAXT, at any moment; a
 * reading may be SKEW ahead of it. Callers call for ever.
 */

#ifndef LOGS
#define LOGS 2          /* callers of logs */
#endif
#ifndef LEASES
#define LEASES 0        /* callers of leases */
#endif
#define N (LOGS + LEASES)
#ifndef LK
#define LK 1            /* keys of logs; */
#endif
#define NK (LK + 1)     /* ... the last key has leases */
#ifndef NS
#define NS 1            /* slots */
#endif
#ifndef D
#define D 2             /* cells of a slot */
#endif
#ifndef L
#define L 1             /* permits in a span, or leases */
#endif
#ifndef P
#define P 2
#endif
#ifndef MAXT
#define MAXT 3          /* the clock stops here */
#endif
#ifndef SKEW
#define SKEW 0          /* readings of one instant differ by so much */
#endif
#ifndef MARGIN
#define MARGIN SKEW     /* a slot is taken only if it was idle so many ticks ago */
#endif
#ifndef SLACK
#define SLACK 0         /* idle_at is raised by so much more than needed */
#endif
#ifndef COST
#define COST 1          /* a call of a log takes 1 to COST permits */
#endif
#ifndef BACK
#define BACK 0          /* 1: logs refund the newest permit, and undo their last admission */
#endif
#ifndef KILL
#define KILL 0          /* so many callers may be killed and be known to be dead */
#endif
#ifndef LOWER
#define LOWER L         /* the limit of leases may be lowered to this, while no call runs */
#endif
#ifndef EXACT
#define EXACT 1         /* 0: refusals need no reason */
#endif
#ifndef UNIQUE
#define UNIQUE EXACT    /* 1: of one instant no permit is taken after one was given back */
#endif
#ifndef MUT
#define MUT 0           /* 0: the protocol. Weakened variants, each of which must fail: */
#endif
#define M_NORAISE   1   /* idle_at is not raised before a cell is written */
#define M_OLDCLOCK  2   /* the clock is read before the slot was seen */
#define M_NORECHECK 3   /* a refusal without looking at the slot again */
#define M_ANYFREE   4   /* a call takes any free cell */
#define M_ZERO      5   /* what a log gives back becomes 0 */
#define M_NOUNDO    6   /* a lost race for several permits keeps those it took */
#define M_NODOUBT   7   /* cells that are odd are free, without looking at the slot again */
#define M_NOFREE    8   /* expired leases behind the candidates are left for a late renewal */
#define M_NORENEW   9   /* a renewal does not raise idle_at */
#define M_REAP     10   /* a dead holder's pair is ended without looking at the slot again */
#define M_ONCE     11   /* a refusal after one look at the cells */
#define M_RELEASE  12   /* a released pair becomes {0, 0} */
#define M_HALF     13   /* a released pair becomes {fence, 0} */
#define M_SAME     14   /* a caller's leases all have one holder's value */
#define M_LATE     15   /* a lease that has expired is renewed */

/* PROBE=n must fail: it shows that the exploration gets to event n at all. */
#ifndef PROBE
#define PROBE 0
#endif
#define REACHED(event) assert(PROBE != event)
#define P_REFUSED   1   /* a log refuses */
#define P_TAKEOVER  2   /* a slot changes hands */
#define P_RAISED    3   /* idle_at raised */
#define P_LOST      4   /* a race for a cell lost */
#define P_UNDONE    5   /* a permit given back after a lost race */
#define P_REFUND    6   /* a permit refunded */
#define P_TAKENBACK 7   /* an admission undone */
#define P_CHANGED   8   /* the second look at the slot differs from the first */
#define P_AGAIN     9   /* the second look at the cells finds room that the first did not */
#define P_ODD      10   /* a log takes a cell that a lease left behind */
#define P_FULL     11   /* leases refused */
#define P_RELEASED 12   /* a lease released */
#define P_RENEWED  13   /* a lease renewed */
#define P_TOOLATE  14   /* a lease found expired, or another's, when it is to be renewed */
#define P_REAPED   15   /* a dead holder's lease ended */
#define P_FREED    16   /* an expired lease behind the candidates ended */
#define P_MISSED   17   /* a permit that was to be given back is gone */

#define NONE     255
#define HOLDER   128
#define TIMES    (MAXT + SKEW + 1)
#define LEASEKEY LK
#define PAIRS    (D / 2)
#define LEAST(u, v) ((u) < (v) -> (u) : (v))
#define MOST     LEAST(L, PAIRS)        /* leases */
#define CELL(s, i)  c[(s) * D + (i)]
#define AT(i)       at[me * D + (i)]
#define EXPIRY      (now[me] + P)
#define IDLE(w, n)  ((w) + MARGIN <= (n))
#define OWNER(h)    (((h) - HOLDER) % N)

/* The shared words. */
byte id[NS] = NONE;     /* key, or NONE */
byte word[NS];          /* idle_at */
byte c[NS * D];         /* log: expiry; leases: pairs {expiry or fence, holder or fence} */

byte t;                 /* the clock */

/* Of each call; global for the ghosts. */
byte key[N];
byte now[N];            /* its timestamp */
byte cost[N];
bit looks[N];           /* it looks for room; ghost: ... */
bit lacked[N];            /* ... and has seen a moment without */
byte at[N * D];         /* what the cells held */

/* Ghosts. */
byte g[LK * TIMES];     /* permits admitted and not given back, by timestamp */
#if COST > 1
byte h[LK * TIMES];     /* the same and those of calls that are not decided */
#else
#define h g
#endif
#if BACK
bit holds[NS * D];      /* the cell holds a permit, and not the time at which one was given back */
#endif
#if BACK && UNIQUE
bit gone[LK * TIMES];   /* a permit of that time was given back */
#endif
#if LEASES
byte ends[N];           /* the expiry of each caller's lease, 0: none */
byte lastfence;
byte limit = L;
bit lowered;            /* ghost: a lease was granted under the lower limit */
#define LIMIT limit
byte kills = KILL;
bit dead[N];
#else
#define LIMIT L
#endif

hidden byte a, b, x, y; /* scratch of one step */

#if LEASES
byte most[N];           /* the limit as a call knows it */
#define LIMIT_OF(y) (key[y] == LEASEKEY -> most[y] : L)
#else
#define LIMIT_OF(y) L
#endif

#if SKEW
#define READS_CLOCK(where, into, action) \
  :: d_step { pc == where -> into = t; action } \
  :: d_step { pc == where -> into = t + SKEW; action }
#else
#define READS_CLOCK(where, into, action) :: d_step { pc == where -> into = t; action }
#endif

/* b = what key k has at time n. */
inline count_live(k, n) {
  b = 0;
  x = 0;
  if
  :: k < LEASEKEY ->
     do
     :: x < TIMES -> b = b + (x + P > n -> h[k * TIMES + x] : 0); x++
     :: else -> break
     od
  :: else ->
#if LEASES
     do
     :: x < N -> b = b + (ends[x] > n -> 1 : 0); x++
     :: else -> break
     od
#endif
  fi;
  x = 0
}

/* After something was taken: every call that looks for room sees this moment. */
inline tell_all() {
  skip;
#if EXACT
  y = 0;
  do
  :: y < N ->
     if
     :: looks[y] && !lacked[y] ->
        count_live(key[y], now[y]);
        lacked[y] = (b + cost[y] > LIMIT_OF(y))
     :: else
     fi;
     y++
  :: else -> break
  od;
  y = 0
#endif
}
inline begin_look() {
  skip;
#if EXACT
  looks[me] = 1;
  count_live(key[me], now[me]);
  lacked[me] = (b + cost[me] > LIMIT_OF(me))
#endif
}

inline check_windows(k) {
  x = 0;
  do
  :: x < TIMES ->
     b = 0;
     y = x;
     do
     :: y < TIMES && y < x + P -> b = b + g[k * TIMES + y]; y++
     :: else -> break
     od;
     assert(b <= L);              /* no over-admission */
     x++
  :: else -> break
  od;
  x = 0;
  y = 0
}

/* Unused variables are zero, so that equal situations are equal states. */
inline clear_at() {
  a = 0;
  do
  :: a < D -> AT(a) = 0; a++
  :: else -> break
  od;
  a = 0
}
#if EXACT
#define LOOK_OVER   looks[me] = 0; lacked[me] = 0
#else
#define LOOK_OVER   skip
#endif
#define FORGET_LOOK LOOK_OVER; clear_at(); i = 0; live = 0; odd = 0; w = 0; pos = 0
#if MUT == 2
#define GO_FIND     FORGET_LOOK; pc = FIND
#define AFTER_FIND  SCAN; begin_look()
#else
#define GO_FIND     FORGET_LOOK; now[me] = 0; pc = FIND
#define AFTER_FIND  TIME
#endif

/* Steps of a call of either kind. */
#define CALL        0
#define FIND        1   /* the slot of the key */
#define INSERT_TIME 2
#define INSERT      3
#define TIME        4   /* the clock, after the slot was seen */
#define SCAN        5
#define CONFIRM     6   /* the cells again, before a refusal */
#define RECHECK     7   /* the slot again, before a refusal or if a cell was odd */
#define RAISE       8
#define TAKE        9
/* ... of a log */
#define UNDO       10   /* what a lost race had taken */
#define SINCE      11   /* refund(): the clock after the cells, then the newest permit */
#define GIVE       12
#define BACK_TIME  13   /* undo() of an admission */
#define BACK_GIVE  14
/* ... of leases */
#define FREE       15
#define RENEW_LOOK 16
#define RENEW_TIME 17
#define RENEW      18
#define REAP_LOOK  19
#define REAP_TIME  20
#define REAP_LOAD  21
#define REAP_SEE   22
#define REAP_FENCE 23
#define REAP       24
#define DEAD       25

/* a = the key's slot, or NONE. */
inline find_slot(k) {
  a = NONE;
  b = 0;
  do
  :: b < NS -> a = (id[b] == k -> b : a); b++
  :: else -> break
  od;
  b = 0
}

/* The key's slot, or one that may be taken. `absent`: what to do if the call needs none. */
#define FINDS(absent) \
  :: d_step { \
       pc == FIND -> \
       find_slot(key[me]); \
       if \
       :: a != NONE -> pos = a; w = word[a]; a = 0; i = 0; live = 0; odd = 0; pc = AFTER_FIND \
       :: a == NONE -> absent \
       fi; \
       a = 0 \
     } \
  READS_CLOCK(INSERT_TIME, now[me], pc = INSERT) \
  :: d_step { pc == INSERT && MAY_TAKE(0) -> insert(0) } \
  INSERT_MORE \
  :: d_step { \
       pc == INSERT && !MAY_TAKE(0) && !MAY_TAKE(NS - 1) -> \
       find_slot(key[me]); \
       if \
       :: a == NONE -> END_CALL            /* a full window */ \
       :: else -> GO_FIND \
       fi; \
       a = 0 \
     }
#define MAY_TAKE(s) (id[s] == NONE || (id[s] != key[me] && IDLE(word[s], now[me])))
#if NS > 1
#define INSERT_MORE :: d_step { pc == INSERT && MAY_TAKE(1) -> insert(1) }
#else
#define INSERT_MORE
#endif

inline insert(s) {
  find_slot(key[me]);
  if
  :: a == NONE ->
     if
     :: id[s] != NONE -> REACHED(P_TAKEOVER)
     :: else
     fi;
     id[s] = key[me];
     word[s] = EXPIRY + SLACK
  :: else
  fi;
  a = 0;
  GO_FIND
}

#define UNCHANGED (id[pos] == key[me] && word[pos] == w)

/* Raise idle_at if it is needed, then `next`. */
#define RAISES(next) \
  :: d_step { \
       pc == RAISE -> \
       if \
       :: UNCHANGED -> REACHED(P_RAISED); w = EXPIRY + SLACK; word[pos] = w; next \
       :: else -> GO_FIND \
       fi \
     }
#define IS_RAISED (MUT == M_NORAISE || w >= EXPIRY)

/* ==== the log */

#define CELL_FREE(i) (AT(i) <= now[me] || AT(i) >= HOLDER)
#define FITS         (live + cost[me] <= L)
#define END_CALL     FORGET_LOOK; now[me] = 0; key[me] = 0; cost[me] = 0; act = 0; got = 0; \
                     left = 0; taken = 0; pc = CALL
#define GOES_TAKE    if \
                     :: IS_RAISED -> go_take() \
                     :: else -> odd = 0; pc = RAISE \
                     fi

#define ACQUIRE 0
#define REFUND  1

/* The first `limit - live` free cells are candidates. i: the next of them, left: how many. */
inline go_take() {
  LOOK_OVER;
  odd = 0;
  w = 0;
  i = 0;
  left = (MUT == M_ANYFREE -> D : L - live);
  live = 0;
  next_free();
  pc = TAKE
}

inline next_free() {
  do
  :: i < D && !CELL_FREE(i) -> i++
  :: else -> break
  od
}

inline lose_race() {
  left = 0;
  if
  :: got == 0 -> GO_FIND
  :: got > 0 && MUT != M_NOUNDO -> i = D - 1; pc = UNDO
  :: got > 0 && MUT == M_NOUNDO ->
#if COST > 1
     h[key[me] * TIMES + now[me]] = h[key[me] * TIMES + now[me]] - got;
#endif
     got = 0;
     taken = 0;
     GO_FIND
  fi
}

/* What was in the cell is given back, if it was a permit: a time of giving back may by chance be
 * the expiry of one that was given back before. Nothing is lost then. */
inline give_back(k, cell, n) {
  skip;
#if BACK
  if
  :: holds[cell] ->
     holds[cell] = 0;
     g[k * TIMES + n]--;
#if COST > 1
     h[k * TIMES + n]--;
#endif
#if UNIQUE
     gone[k * TIMES + n] = 1
#endif
  :: else
  fi
#endif
}
#if BACK
#define NOW_HOLDS(cell, what) holds[cell] = what
#else
#define NOW_HOLDS(cell, what) skip
#endif
#if BACK && UNIQUE
#define UNUSABLE gone[key[me] * TIMES + now[me]]
#else
#define UNUSABLE false
#endif
#define AFTER_BACK(seen) (MUT == M_ZERO -> 0 : seen)

#define GO_CALL(k) key[me] = k; pc = FIND; \
  if \
  :: MUT == M_OLDCLOCK -> now[me] = t \
  :: else \
  fi
#define GO_ABSENT \
  if \
  :: act == ACQUIRE -> pc = INSERT_TIME \
  :: else -> END_CALL \
  fi

/* i = the cell of the newest live permit that ends after w, or NONE. */
inline choose_newest() {
  i = NONE;
  a = 0;
  do
  :: a < D ->
     if
     :: !CELL_FREE(a) && AT(a) > w && (i == NONE || AT(a) > AT(i)) -> i = a
     :: else
     fi;
     a++
  :: else -> break
  od;
  a = 0
}

/* i = the next cell that held the same, or NONE. */
inline choose_equal() {
  i = NONE;
  b = 0;
  do
  :: b < D -> i = (AT(b) == a && i == NONE -> b : i); b++
  :: else -> break
  od;
  a = 0;
  b = 0
}

proctype log_caller(byte me) {
  byte pc = CALL;
  byte act;
  byte pos;             /* the slot's position */
  byte w;               /* its word as seen */
  byte i, live, got, left;
  byte taken;           /* cells, as bits */
  bit odd;
#if BACK
  byte undo_n = NONE;   /* the last admission: its time, key and cell */
  byte undo_key, undo_cell;
#endif

  do
  :: d_step { pc == CALL -> cost[me] = 1; GO_CALL(0) }
#if COST > 1
  :: d_step { pc == CALL -> cost[me] = 2; GO_CALL(0) }
#endif
#if LK > 1
  :: d_step { pc == CALL -> cost[me] = 1; GO_CALL(1) }
#endif
#if BACK
  :: d_step { pc == CALL -> act = REFUND; cost[me] = 1; GO_CALL(0) }
  :: d_step { pc == CALL && undo_n != NONE ->
       key[me] = undo_key;
       find_slot(undo_key);
       if
       :: a == NONE -> undo_n = NONE; undo_key = 0; undo_cell = 0; END_CALL
       :: else -> pos = a; pc = BACK_TIME
       fi;
       a = 0
     }
  :: d_step { pc == CALL && undo_n != NONE -> undo_n = NONE; undo_key = 0; undo_cell = 0 }
#endif

  FINDS(GO_ABSENT)

  READS_CLOCK(TIME, now[me], begin_look(); pc = SCAN)
  :: d_step {
       pc == SCAN ->
       AT(i) = CELL(pos, i);
       if
       :: CELL_FREE(i) -> odd = odd || AT(i) > now[me]
       :: else -> live++
       fi;
       i++;
       if
       :: i < D
       :: i == D && act == REFUND -> i = 0; pc = RECHECK
       :: i == D && act == ACQUIRE && !FITS && MUT != M_ONCE -> i = 0; live = 0; pc = CONFIRM
       :: i == D && act == ACQUIRE && !FITS && MUT == M_ONCE -> i = 0; pc = RECHECK
       :: i == D && act == ACQUIRE && FITS && odd && MUT != M_NODOUBT -> i = 0; pc = RECHECK
       :: i == D && act == ACQUIRE && FITS && !(odd && MUT != M_NODOUBT) -> GOES_TAKE
       fi
     }
  :: d_step {
       pc == CONFIRM ->
       live = live + (CELL_FREE(i) || CELL(pos, i) != AT(i) -> 0 : 1);
       i++;
       if
       :: i < D
       :: i == D && FITS -> REACHED(P_AGAIN); GO_FIND
       :: i == D && !FITS -> i = 0; pc = RECHECK
       fi
     }
  :: d_step {
       pc == RECHECK ->
       if
       :: act == ACQUIRE && !FITS && (UNCHANGED || MUT == M_NORECHECK) ->
          REACHED(P_REFUSED);
          assert(!EXACT || lacked[me]);     /* no spurious refusal */
          END_CALL
       :: act == ACQUIRE && FITS && UNCHANGED -> REACHED(P_ODD); GOES_TAKE
       :: act == REFUND && UNCHANGED -> LOOK_OVER; live = 0; odd = 0; w = 0; pc = SINCE
       :: else -> REACHED(P_CHANGED); GO_FIND
       fi
     }
  RAISES(go_take())
  :: d_step {
       pc == TAKE ->
       if
       :: UNUSABLE -> lose_race()
       :: !UNUSABLE && CELL(pos, i) == AT(i) ->
          CELL(pos, i) = EXPIRY;
          NOW_HOLDS(pos * D + i, 1);
          taken = taken | (1 << i);
          got++;
          h[key[me] * TIMES + now[me]]++;
          tell_all()
       :: else -> REACHED(P_LOST)
       fi;
       if
       :: pc == TAKE && got == cost[me] ->
#if COST > 1
          g[key[me] * TIMES + now[me]] = g[key[me] * TIMES + now[me]] + got;
#endif
          check_windows(key[me]);
#if BACK
          undo_n = now[me];
          undo_key = key[me];
          undo_cell = i;
#endif
          END_CALL
       :: pc == TAKE && got < cost[me] ->
          i++;
          left--;
          next_free();
          if
          :: i == D || left < cost[me] - got -> lose_race()
          :: else
          fi
       :: else
       fi
     }
#if COST > 1
  :: d_step {
       pc == UNDO ->
       if
       :: taken & (1 << i) ->
          if
          :: CELL(pos, i) == EXPIRY ->
             REACHED(P_UNDONE);
             CELL(pos, i) = AFTER_BACK(AT(i));
             NOW_HOLDS(pos * D + i, 0);
             h[key[me] * TIMES + now[me]]--
          :: else
          fi;
          taken = taken & ~(1 << i);
          got--
       :: else
       fi;
       if
       :: got == 0 -> GO_FIND
       :: else -> i--
       fi
     }
#endif

#if BACK
  /* ---- refund(1), after a whole look */
  READS_CLOCK(SINCE, w, choose_newest(); pc = GIVE)
  :: d_step {
       pc == GIVE ->
       if
       :: i == NONE -> END_CALL
       :: i != NONE && CELL(pos, i) == AT(i) ->
          REACHED(P_REFUND);
          CELL(pos, i) = AFTER_BACK(w);
          give_back(key[me], pos * D + i, AT(i) - P);
          END_CALL
       :: else -> REACHED(P_MISSED); a = AT(i); AT(i) = 0; choose_equal()
       fi
     }
  /* ---- undo() of an admission */
  READS_CLOCK(BACK_TIME, w, pc = BACK_GIVE)
  :: d_step {
       pc == BACK_GIVE ->
       if
       :: undo_n + P > w && CELL(pos, undo_cell) == undo_n + P ->
          REACHED(P_TAKENBACK);
          CELL(pos, undo_cell) = AFTER_BACK(w);
          give_back(undo_key, pos * D + undo_cell, undo_n)
       :: else -> REACHED(P_MISSED)
       fi;
       undo_n = NONE;
       undo_key = 0;
       undo_cell = 0;
       END_CALL
     }
#endif
  od
}
/* ==== leases */
#if LEASES
#undef END_CALL
#undef GOES_TAKE
#undef GO_ABSENT
#undef FITS
#define LOW(i)       AT(2 * (i))
#define HIGH(i)      AT(2 * (i) + 1)
#define PAIR_FREE(i) (HIGH(i) < HOLDER || LOW(i) <= now[me])
#define PAIR_ODD(i)  (LOW(i) > now[me] || (HIGH(i) < HOLDER && HIGH(i) > now[me]))
#define PAIR_IS(s, i, low, high) (CELL(s, 2 * (i)) == (low) && CELL(s, 2 * (i) + 1) == (high))
#define SET_PAIR(s, i, low, high) CELL(s, 2 * (i)) = low; CELL(s, 2 * (i) + 1) = high
#define FITS         (live < most[me])
#define END_CALL     FORGET_LOOK; now[me] = 0; key[me] = 0; cost[me] = 0; most[me] = 0; left = 0; \
                     reap = 0; pc = CALL
#define GOES_TAKE    if \
                     :: IS_RAISED -> go_take_pair() \
                     :: else -> odd = 0; pc = RAISE \
                     fi
#define FORGET_LEASE lpos = 0; lunit = NONE; lholder = 0; lends = 0; lfence = 0

inline go_take_pair() {
  LOOK_OVER;
  odd = 0;
  w = 0;
  left = most[me] - live;
  live = 0;
  next_to_free();
  if
  :: i < PAIRS -> pc = FREE
  :: else -> i = 0; next_free_pair(); pc = TAKE
  fi
}

/* i = the first free pair from i on, or PAIRS. */
inline next_free_pair() {
  do
  :: i < PAIRS && !PAIR_FREE(i) -> i++
  :: else -> break
  od
}

/* i = the next pair behind the candidates that names a holder and has expired, or PAIRS. */
inline next_to_free() {
  a = 0;
  x = PAIRS;
  y = 0;
  do
  :: y < PAIRS ->
     x = (x == PAIRS && y >= i && PAIR_FREE(y) && a >= left && HIGH(y) >= HOLDER &&
          MUT != M_NOFREE -> y : x);
     a = a + (PAIR_FREE(y) -> 1 : 0);
     y++
  :: else -> break
  od;
  i = x;
  a = 0;
  x = 0;
  y = 0
}

/* a = a holder's value of this caller that no pair has and nobody remembers. */
inline new_holder() {
  a = HOLDER + me;
#if MUT != 14
  do
  :: b = 0;
     x = 0;
     do
     :: x < NS * D -> b = (c[x] == a -> 1 : b); x++
     :: else -> break
     od;
     x = 0;
     do
     :: x < N * D -> b = (at[x] == a -> 1 : b); x++
     :: else -> break
     od;
     x = 0;
     if
     :: b == 0 -> break
     :: else -> a = a + N
     fi
  od;
  b = 0
#endif
}

/* The leases that surely have not expired are within the limit. */
inline check_leases() {
  count_live(LEASEKEY, t + SKEW);
  assert(b <= MOST)
}

#define AFTER_RELEASE (MUT == M_RELEASE -> 0 : lfence)

inline next_reap() {
  LOW(i) = 0;
  HIGH(i) = 0;
  now[me] = 0;
  w = 0;
  i++;
  pc = REAP_LOOK
}

inline go_renew() {
  if
  :: lends <= now[me] && MUT != M_LATE -> REACHED(P_TOOLATE); FORGET_LEASE; END_CALL
  :: else -> pc = (w >= EXPIRY || MUT == M_NORENEW -> RENEW : RAISE)
  fi
}
proctype lease_caller(byte me) {
  byte pc = CALL;
  byte pos, w, i, live, left;
  bit odd;
  byte lpos, lunit = NONE, lholder, lends, lfence;    /* the caller's lease */
  byte reap;            /* 1: it has looked for the dead, 2: and found one */

end:
  do
  :: d_step { pc == CALL && (lunit == NONE || lends <= t) && ends[me] <= t ->
       FORGET_LEASE;
       ends[me] = 0;
       key[me] = LEASEKEY;
       cost[me] = 1;
       most[me] = LEAST(limit, PAIRS);
       pc = FIND;
       if
       :: MUT == M_OLDCLOCK -> now[me] = t
       :: else
       fi
     }

  FINDS(pc = INSERT_TIME)

  READS_CLOCK(TIME, now[me], begin_look(); pc = SCAN)
  :: d_step {
       pc == SCAN ->
       LOW(i) = CELL(pos, 2 * i);
       HIGH(i) = CELL(pos, 2 * i + 1);
       if
       :: PAIR_FREE(i) -> odd = odd || PAIR_ODD(i)
       :: else -> live++
       fi;
       i++;
       if
       :: i < PAIRS
       :: i == PAIRS && !FITS && MUT != M_ONCE -> i = 0; live = 0; pc = CONFIRM
       :: i == PAIRS && !FITS && MUT == M_ONCE -> i = 0; pc = RECHECK
       :: i == PAIRS && FITS && odd && MUT != M_NODOUBT -> i = 0; pc = RECHECK
       :: i == PAIRS && FITS && !(odd && MUT != M_NODOUBT) -> i = 0; GOES_TAKE
       fi
     }
  :: d_step {
       pc == CONFIRM ->
       /* The same lease, renewed or not. */
       live = live + (!PAIR_FREE(i) && CELL(pos, 2 * i + 1) == HIGH(i) &&
                      CELL(pos, 2 * i) > now[me] -> 1 : 0);
       i++;
       if
       :: i < PAIRS
       :: i == PAIRS && FITS -> REACHED(P_AGAIN); GO_FIND
       :: i == PAIRS && !FITS -> i = 0; pc = RECHECK
       fi
     }
  :: d_step {
       pc == RECHECK ->
       if
       :: !FITS && (UNCHANGED || MUT == M_NORECHECK) ->
          REACHED(P_FULL);
          assert(!EXACT || lacked[me]);     /* no spurious refusal */
          if
          :: KILL > 0 && reap == 0 -> y = pos; FORGET_LOOK; now[me] = 0; pos = y; y = 0;
             reap = 1; pc = REAP_LOOK
          :: else -> END_CALL
          fi
       :: FITS && UNCHANGED -> GOES_TAKE
       :: else -> REACHED(P_CHANGED); GO_FIND
       fi
     }
  :: d_step {
       pc == RAISE ->
       if
       :: UNCHANGED ->
          REACHED(P_RAISED);
          w = EXPIRY + SLACK;
          word[pos] = w;
          if
          :: lunit == NONE -> i = 0; go_take_pair()
          :: else -> pc = RENEW
          fi
       :: !UNCHANGED && lunit == NONE -> GO_FIND
       :: !UNCHANGED && lunit != NONE -> w = 0; now[me] = 0; pc = RENEW_LOOK
       fi
     }
  :: d_step {
       pc == FREE ->
       if
       :: PAIR_IS(pos, i, LOW(i), HIGH(i)) ->
          REACHED(P_FREED);
          SET_PAIR(pos, i, LOW(i), LOW(i));
          i++;
          next_to_free();
          if
          :: i < PAIRS
          :: else -> i = 0; next_free_pair(); pc = TAKE
          fi
       :: else -> left = 0; GO_FIND
       fi
     }
  :: d_step {
       pc == TAKE ->
       x = (now[me] > LOW(i) + 1 -> now[me] : LOW(i) + 1);
       if
       :: x < EXPIRY && PAIR_IS(pos, i, LOW(i), HIGH(i)) ->
          lfence = x;
          new_holder();
          lpos = pos;
          lunit = i;
          lholder = a;
          lends = EXPIRY;
          SET_PAIR(pos, i, lends, lholder);
          ends[me] = lends;
          a = 0;
          x = 0;
          check_leases();
          assert(b <= most[me]);
          lowered = lowered || most[me] < MOST;
#if L == 1 && KILL == 0
          /* The fence grows; a stopped call may get an old one, and a lease that is over. */
          assert(lfence > lastfence || lends <= t);
          lastfence = (lfence > lastfence -> lfence : lastfence);
#endif
          tell_all();
          b = 0;
          END_CALL
       :: else ->
          REACHED(P_LOST);
          x = 0;
          left--;
          i++;
          next_free_pair();
          if
          :: left > 0 && i < PAIRS
          :: else -> left = 0; GO_FIND
          fi
       fi
     }

  /* ---- release(): by value, without a look at the slot */
  :: d_step {
       pc == CALL && lunit != NONE ->
       if
       :: PAIR_IS(lpos, lunit, lends, lholder) ->
          REACHED(P_RELEASED);
          SET_PAIR(lpos, lunit, AFTER_RELEASE, (MUT == M_HALF -> 0 : AFTER_RELEASE));
          ends[me] = 0
       :: else -> REACHED(P_MISSED)
       fi;
       FORGET_LEASE
     }
  /* ---- renew() */
  :: d_step { pc == CALL && lunit != NONE -> key[me] = LEASEKEY; pc = RENEW_LOOK }
  :: d_step {
       pc == RENEW_LOOK ->
       if
       :: id[lpos] == LEASEKEY -> pos = lpos; w = word[pos]; pc = RENEW_TIME
       :: else -> FORGET_LEASE; END_CALL
       fi
     }
  READS_CLOCK(RENEW_TIME, now[me], go_renew())
  :: d_step {
       pc == RENEW ->
       if
       :: PAIR_IS(lpos, lunit, lends, lholder) ->
          REACHED(P_RENEWED);
          lends = EXPIRY;
          SET_PAIR(lpos, lunit, lends, lholder);
          count_live(LEASEKEY, t + SKEW);
          a = b;
          ends[me] = lends;
          count_live(LEASEKEY, t + SKEW);
          assert(b <= MOST);
          assert(b == a || b <= limit || !lowered);   /* what had expired does not come back */
          a = 0;
          b = 0;
          tell_all();
          END_CALL
       :: else -> REACHED(P_TOOLATE); FORGET_LEASE; END_CALL
       fi
     }

#if KILL
  /* ---- reap(): the dead, after a refusal; i is the pair */
  :: d_step {
       pc == REAP_LOOK ->
       if
       :: id[pos] == LEASEKEY && i < PAIRS -> w = word[pos]; pc = REAP_TIME
       :: else ->
          if
          :: reap == 2 -> GO_FIND
          :: else -> END_CALL
          fi
       fi
     }
  READS_CLOCK(REAP_TIME, now[me], pc = REAP_LOAD)
  :: d_step {
       pc == REAP_LOAD ->
       LOW(i) = CELL(pos, 2 * i);
       HIGH(i) = CELL(pos, 2 * i + 1);
       if
       :: !PAIR_FREE(i) && dead[OWNER(HIGH(i))] -> pc = (MUT == M_REAP -> REAP_FENCE : REAP_SEE)
       :: else -> next_reap()
       fi
     }
  :: d_step {
       pc == REAP_SEE ->
       if
       :: UNCHANGED -> pc = REAP_FENCE
       :: else -> next_reap()
       fi
     }
  READS_CLOCK(REAP_FENCE, now[me], pc = REAP)
  :: d_step {
       pc == REAP ->
       if
       :: PAIR_IS(pos, i, LOW(i), HIGH(i)) ->
          REACHED(P_REAPED);
          a = OWNER(HIGH(i));
          if
          :: ends[a] == LOW(i) -> ends[a] = 0       /* not the half that a log has written */
          :: else
          fi;
          a = (LOW(i) - 1 < now[me] + SKEW -> LOW(i) - 1 : now[me] + SKEW);
          SET_PAIR(pos, i, a, a);
          a = 0;
          reap = 2
       :: else
       fi;
       next_reap()
     }
  :: d_step { pc != DEAD && kills > 0 ->
       kills--;
       dead[me] = 1;
       FORGET_LEASE;
       END_CALL;
       pc = DEAD
     }
#endif
  od
}
#endif

#if LEASES > 2
#define NOBODY_CALLS (key[N - 1] == 0 && key[N - 2] == 0 && key[N - 3] == 0)
#else
#define NOBODY_CALLS (key[N - 1] == 0 && key[N - LEASES] == 0)
#endif

proctype clock() {
end:
  do
  :: d_step { t < MAXT -> t++ }
#if LEASES && LOWER < L
  /* Calls that have the old limit are over; leases of it are not. */
  :: d_step { limit == L && NOBODY_CALLS -> limit = LOWER }
#endif
  od
}
init {
  atomic {
    byte p;
    do
    :: p < LOGS -> run log_caller(p); p++
#if LEASES
    :: p >= LOGS && p < N -> run lease_caller(p); p++
#endif
    :: p >= N -> break
    od;
    p = 0;
    run clock()
  }
}
