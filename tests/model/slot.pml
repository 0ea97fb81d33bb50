/* SPDX-License-Identifier: MIT
 *
 * The slot protocol of shm/table.h: insertion, update, reclaim, adoption, the 1 s rule, eviction
 * and reach, for spin to explore completely. Run it with run_models.sh.
 *
 * Goal: under every interleaving of N callers that may stall for any time at any point,
 *   - no call is admitted that an exact GCRA of its key would refuse,
 *   - no call is refused that an exact GCRA of its key would admit,
 *   - a key never has two verified copies,
 *   - with LIVE: calls can not undo each other for ever.
 * Method: every load and every compare-and-swap of a shared word is one step. A killed process is
 * one that is never scheduled again; spin assumes no fairness, so each of its runs includes that.
 * A ghost g[] keeps the exact GCRA state of every key and is asked at every answer. The first
 * contents of the table are any that the protocol can leave behind, dead tentatives included.
 *
 * Memory is sequentially consistent here. The code has locked instructions, and a fence where a
 * load follows a claim. Its pairs of loads (id, then the whole slot) are one step here: whichever
 * of the two decides is the one that counts, so a single load at that moment does the same.
 *
 * Units: one permit costs one tick of refill. Burst B. The clock t runs from 0 to MAXT, at any
 * moment. Numbers of steps and of values are finite, so the number of calls need not be: with
 * OPS=0 callers call for ever.
 */

#ifndef N
#define N 2             /* callers */
#endif
#ifndef S
#define S 2             /* slots of the table; every key's window is all of them */
#endif
#ifndef G
#define G 1             /* slots of a group; divides S. A claim takes the best slot of a group */
#endif
#ifndef NK
#define NK 2            /* keys, at most 4 */
#endif
#ifndef B
#define B 1             /* burst, in permits */
#endif
#ifndef MAXT
#define MAXT 2          /* the clock stops here */
#endif
#ifndef OPS
#define OPS 0           /* calls of each caller; 0: without end */
#endif
#ifndef ROT
#define ROT 0           /* 1: key k's window begins at group k; 0: all begin at group 0 */
#endif
#ifndef FILLED
#define FILLED 1        /* 1: any legal first contents; 0: a table of virgin slots */
#endif
#ifndef EVICT
#define EVICT 0         /* 1: a full window gives up its key with the least debt */
#endif
#ifndef REACH
#define REACH 0         /* slots of each window in use at first, a multiple of G; grows to S.
                           0: always all of them */
#endif
#ifndef SKEW
#define SKEW 0          /* 1: readings of the clock may lie one tick ahead of each other */
#endif
#ifndef MARGIN
#define MARGIN SKEW     /* reclaim only what was idle so many ticks ago */
#endif
#ifndef GIVEUP
#define GIVEUP 0        /* 1: a call may end, unanswered, wherever it would start over */
#endif
#ifndef OVERTENT
#define OVERTENT 1      /* 1: a foreign tentative may be taken at any time (its age is free) */
#endif
#ifndef AGES
#define AGES 0          /* with OVERTENT=0: how many tentatives grow old enough to be taken */
#endif
#ifndef NONCEMOD
#define NONCEMOD 255    /* 255: tentative words never repeat; 0: they are all equal;
                           else caller number and a counter modulo NONCEMOD */
#endif
#ifndef MUT
#define MUT 0           /* 0: the protocol. Weakened variants, each of which must fail: */
#endif
#define M_NAIVE     1   /* a claim is at once verified */
#define M_RESCAN    2   /* ... after the window was scanned a second time */
#define M_NOKILL    3   /* a later tentative is left alone */
#define M_NOEARLIER 4   /* an earlier tentative is ignored */
#define M_NOVERIFIED 5  /* a verified copy is ignored */
#define M_NOIDLE    6   /* a verified copy that is idle at the moment of the look is ignored */
#define M_STALE     7   /* the clock is not read again before the slot is verified */
#define M_VIRGIN    8   /* a dropped slot becomes virgin again */
#define M_REACH     9   /* verification uses the reach that was read before the claim */
#define M_NORAISE  10   /* a claim beyond reach does not raise it */

/* PROBE=n must fail: it shows that the exploration gets to event n at all. */
#ifndef PROBE
#define PROBE 0
#endif
#define REACHED(event) assert(PROBE != event)
#define P_RAISED   1    /* reach raised */
#define P_EVICTED  2    /* a live key evicted */
#define P_IDLE     3    /* an idle key reclaimed */
#define P_OLD      4    /* a foreign tentative taken */
#define P_ADOPTED  5    /* a tentative found by search() verified */
#define P_MOVED    6    /* ours undone for an earlier tentative */
#define P_UNDONE   7    /* a later tentative undone */
#define P_DROPPED  8    /* ours undone for a verified copy */
#define P_LOST     9    /* a verified slot lost: somebody else had verified or taken it */
#define P_FULL    10    /* a full window, and no eviction */

#define VIRGIN 0
#define FREE   1
#define KEY(k) (2 + (k))
#define TENT   128
#define NONE   255

/* Position i of key k's window, and back. */
#define SLOT(k, i)     ((((i) / G + ROT * (k)) % (S / G)) * G + (i) % G)
#define POSITION(k, s) ((((s) / G + S / G - (ROT * (k)) % (S / G)) % (S / G)) * G + (s) % G)
#define IS_TENT(word)     ((word) >= TENT)
#define LATER(a, b)       ((a) > (b) -> (a) : (b))
#define STEPPED(tat, now) (LATER(tat, now) + 1)
#define REFUSED(tat, now) (STEPPED(tat, now) > (now) + B)

/* The table. A slot changes only by a compare-and-swap of both halves. */
byte id[S];
byte word[S];
byte reach = S;

byte t;                 /* the clock */
byte g[NK];             /* ghost: the exact GCRA state of each key */
byte ages = AGES;

/* Words that callers remember; global because a fresh tentative differs from all of them. */
byte mine[N];           /* the tentative a caller wants to verify */
byte seen[N];           /* what it expects in its next compare-and-swap */

hidden byte a, b, c;    /* scratch of one step */

/* Steps of a call; the names are those of shm/table.h. */
#define CALL          0 /* update(): choose a key, read the clock */
#define SEARCH_REACH  1 /* search() */
#define SEARCH        2
#define SETTLE        3 /* settle(): load and decide */
#define SETTLE_CAS    4
#define BACK_OFF      5
#define CLAIM_REACH   6 /* claim() */
#define CLAIM         7
#define RAISE         8
#define CLAIM_CAS     9
#define OTHERS_REACH 10 /* check_others() */
#define OTHERS       11
#define DROP         12 /* ... a verified copy beats ours */
#define MOVE         13 /* ... an earlier tentative beats ours */
#define UNDO         14 /* ... a later tentative is undone */
#define REFRESH      15 /* verify(): the clock, then verify and charge */
#define VERIFY       16
#define RETRY        17 /* the end of a round */
#define RESCAN       18 /* weakened variants only */
#define NAIVE_CLOCK  19

/* Unused variables are zero, so that equal situations are equal states. */
#define FORGET(where)  at = NONE; other = 0; seen[me] = 0; i = 0; r = 0; pc = where
#define FORGET_OWN     own = NONE; mine[me] = 0
#define FORGET_TIME    n = 0
#if MUT == 7
#define FORGET_UNUSED_TIME skip
#else
#define FORGET_UNUSED_TIME n = 0
#endif
#if MUT == 9
#define KEEP_READ_REACH r = b
#else
#define KEEP_READ_REACH skip
#endif
#if NONCEMOD == 255
#define DEAD(s) (TENT + 1 + (s))
#elif NONCEMOD == 0
#define DEAD(s) (TENT + 1)
#else
#define DEAD(s) (TENT + 1 + N * NONCEMOD + (s))
#endif

#if REACH == 0
#define GO_SEARCH  FORGET_OWN; FORGET(SEARCH); r = S
#define GO_CLAIM   FORGET(CLAIM); r = S
#define GO_OTHERS  past = 0; FORGET(OTHERS); r = S
#else
#define GO_SEARCH  FORGET_OWN; FORGET(SEARCH_REACH)
#define GO_CLAIM   FORGET(CLAIM_REACH)
#if MUT == 9
#define GO_OTHERS  past = 0; b = r; FORGET(OTHERS); r = b
#else
#define GO_OTHERS  past = 0; FORGET(OTHERS_REACH)
#endif
#endif
#define GO_RETRY   past = 0; FORGET_OWN; FORGET(RETRY); FORGET_TIME
#define END_CALL   past = 0; FORGET_OWN; FORGET(CALL); FORGET_TIME; k = 0

#if OPS == 0
#define MAY_CALL   true
#define COUNT_CALL skip
#else
#define MAY_CALL   (calls < OPS)
#define COUNT_CALL calls++
#endif

#if SKEW
#define READS_CLOCK(where, action) \
  :: d_step { pc == where -> n = t; action } \
  :: d_step { pc == where -> n = t + 1; action }
#else
#define READS_CLOCK(where, action) :: d_step { pc == where -> n = t; action }
#endif

/* A tentative word that no slot holds and no caller remembers. To the callers, who only compare
 * words, it can not be told from one that was never used before. */
inline fresh_tentative() {
#if NONCEMOD == 0
  a = TENT + 1;
#elif NONCEMOD < 255
  a = TENT + 1 + me * NONCEMOD + made;
  made = (made + 1) % NONCEMOD;
#else
  a = TENT;
  do
  :: a++;
     c = 0;
     b = 0;
     do
     :: b < S -> c = (word[b] == a -> 1 : c); b++
     :: else -> break
     od;
     b = 0;
     do
     :: b < N -> c = (mine[b] == a || seen[b] == a -> 1 : c); b++
     :: else -> break
     od;
     if
     :: c == 0 -> break
     :: else
     fi
  od;
#endif
}

/* The key has one verified copy, and it holds the exact state. */
inline check_copies() {
  b = 0;
  c = 0;
  do
  :: b < S ->
     if
     :: id[b] == KEY(k) && !IS_TENT(word[b]) -> c++; assert(word[b] == g[k])
     :: else
     fi;
     b++
  :: else -> break
  od;
  assert(c == 1);                 /* uniqueness */
}

inline admit(where, next) {
  assert(!REFUSED(g[k], n));      /* no over-admission */
  g[k] = STEPPED(g[k], n);
  id[where] = KEY(k);
  word[where] = next;
  check_copies();
}

inline make_free(where) {
#if MUT == 8
  id[where] = VIRGIN;
#else
  id[where] = FREE;
#endif
  word[where] = 0;
}

#define HOLDS(s, k_id, k_word) (id[s] == (k_id) && word[s] == (k_word))
#define FOREIGN(s)  (id[s] >= KEY(0) && id[s] != KEY(k))
#define IDLE(w)     ((w) + MARGIN <= n)

/* The best slot of a claim's walk so far is `at`, which held other and seen[me]. Nobody loses
 * anything if it is unused or idle. Unused is better than idle, long idle better than just idle. */
#define FREE_TO_TAKE(k_id, w)  ((k_id) < KEY(0) || IS_TENT(w) || IDLE(w))
#define BEST_IS_FREE           (at != NONE && FREE_TO_TAKE(other, seen[me]))
#define LAST_USE(k_id, w)      ((k_id) < KEY(0) || IS_TENT(w) -> 0 : (w) + 1)
#define TAKE_AS_BEST(s)        at = s; other = id[s]; seen[me] = word[s]

#if MUT == 1
#define GO_CLAIM_CAS i = 0; r = 0; pc = NAIVE_CLOCK
#elif MUT == 2
#define GO_CLAIM_CAS i = 0; r = S; pc = RESCAN
#elif MUT == 9
#define GO_CLAIM_CAS i = 0; pc = CLAIM_CAS
#else
#define GO_CLAIM_CAS i = 0; r = 0; pc = CLAIM_CAS
#endif

/* A slot that may be taken at once: unused, idle, or a tentative that is old enough. */
inline claim_free(s) {
  if
  :: !BEST_IS_FREE || LAST_USE(id[s], word[s]) < LAST_USE(other, seen[me]) -> TAKE_AS_BEST(s)
  :: else
  fi;
  if
  :: id[s] == VIRGIN -> GO_CLAIM_CAS
  :: else -> claim_next()
  fi
}

/* On to the next slot, or to the end of the walk. */
inline claim_next() {
  i++;
  if
  :: BEST_IS_FREE && i % G == 0 -> GO_CLAIM_CAS
  :: !(BEST_IS_FREE && i % G == 0) && i < r
#if MUT == 10
  :: !BEST_IS_FREE && i == r && r < S -> r = r + G
#else
  :: !BEST_IS_FREE && i == r && r < S -> b = r; FORGET(RAISE); r = b
#endif
  :: !BEST_IS_FREE && i == r && r == S && EVICT == 0 -> REACHED(P_FULL); END_CALL
  :: !BEST_IS_FREE && i == r && r == S && EVICT == 1 && at == NONE -> GO_RETRY
  :: !BEST_IS_FREE && i == r && r == S && EVICT == 1 && at != NONE -> GO_CLAIM_CAS
  fi
}

inline others_next() {
  i++;
  if
  :: i < r
  :: i >= r -> past = 0; FORGET((MUT == 7 -> VERIFY : REFRESH))
  fi
}

proctype caller(byte me) {
  byte pc = CALL;
  byte k;               /* the key */
  byte n;               /* the time last read */
  byte i;               /* position in the window */
  byte r;               /* positions this walk visits */
  byte own = NONE;      /* the tentative slot to verify; its word is mine[me] */
  byte at = NONE;       /* another slot: to settle, claim, move to or undo; its id and word are */
  byte other;           /* ... other and seen[me] */
  bit past;             /* check_others() has passed its own slot */
#if OPS > 0
  byte calls;
#endif
#if NONCEMOD > 0 && NONCEMOD < 255
  byte made;
#endif

  do
  /* ---- a call begins */
#ifdef LIVE
  :: pc == CALL && MAY_CALL ->
progress:
     if
     :: d_step { k = 0; n = t; COUNT_CALL; GO_SEARCH }
#if NK > 1
     :: d_step { k = 1; n = t; COUNT_CALL; GO_SEARCH }
#endif
#if NK > 2
     :: d_step { k = 2; n = t; COUNT_CALL; GO_SEARCH }
#endif
     fi
#else
  READS_CLOCK(CALL && MAY_CALL, k = 0; COUNT_CALL; GO_SEARCH)
#if NK > 1
  READS_CLOCK(CALL && MAY_CALL, k = 1; COUNT_CALL; GO_SEARCH)
#endif
#if NK > 2
  READS_CLOCK(CALL && MAY_CALL, k = 2; COUNT_CALL; GO_SEARCH)
#endif
#if NK > 3
  READS_CLOCK(CALL && MAY_CALL, k = 3; COUNT_CALL; GO_SEARCH)
#endif
#endif
#if OPS > 0
  :: pc == CALL && !MAY_CALL -> break
#endif

  /* ---- search(): a verified copy, or else the first tentative */
#if REACH > 0
  :: d_step { pc == SEARCH_REACH -> r = reach; pc = SEARCH }
#endif
  :: d_step {
       pc == SEARCH ->
       a = SLOT(k, i);
       if
       :: id[a] == KEY(k) && !IS_TENT(word[a]) -> FORGET_OWN; FORGET(SETTLE); at = a
       :: id[a] == KEY(k) && IS_TENT(word[a]) && own == NONE -> own = a; mine[me] = word[a]; i++
       :: id[a] == VIRGIN -> i = r
       :: else -> i++
       fi;
       if
       :: pc == SEARCH && i >= r && own != NONE ->
          REACHED(P_ADOPTED); GO_OTHERS; FORGET_UNUSED_TIME
       :: pc == SEARCH && i >= r && own == NONE -> GO_CLAIM
       :: else
       fi
     }

  /* ---- settle(): a slot that held the key verified */
  :: d_step {
       pc == SETTLE ->
       if
       :: id[at] != KEY(k) || IS_TENT(word[at]) -> GO_SEARCH
       :: id[at] == KEY(k) && !IS_TENT(word[at]) && REFUSED(word[at], n) ->
          assert(REFUSED(g[k], n));     /* no spurious refusal */
          END_CALL
       :: else -> seen[me] = word[at]; pc = SETTLE_CAS
       fi
     }
  :: d_step {
       pc == SETTLE_CAS ->
       if
       :: HOLDS(at, KEY(k), seen[me]) -> a = STEPPED(seen[me], n); admit(at, a); END_CALL
       :: else -> seen[me] = 0; FORGET_TIME; pc = BACK_OFF
       fi
     }
  READS_CLOCK(BACK_OFF, pc = SETTLE)

  /* ---- claim(): a slot of the first group that has one to give becomes tentative */
#if REACH > 0
  :: d_step { pc == CLAIM_REACH -> r = reach; pc = CLAIM }
  :: d_step { pc == RAISE -> REACHED(P_RAISED); reach = (reach == r -> r + G : reach); GO_CLAIM }
#endif
  :: d_step {
       pc == CLAIM && !(FOREIGN(SLOT(k, i)) && IS_TENT(word[SLOT(k, i)])) ->
       a = SLOT(k, i);
       if
       :: id[a] == KEY(k) -> GO_RETRY
       :: id[a] < KEY(0) || (FOREIGN(a) && IDLE(word[a])) -> claim_free(a)
       :: FOREIGN(a) && !IDLE(word[a]) ->
          if
          :: EVICT == 1 && (at == NONE || (!BEST_IS_FREE && word[a] < seen[me])) -> TAKE_AS_BEST(a)
          :: else
          fi;
          claim_next()
       fi
     }
     /* A foreign tentative: young ... */
  :: d_step { pc == CLAIM && FOREIGN(SLOT(k, i)) && IS_TENT(word[SLOT(k, i)]) -> claim_next() }
     /* ... or older than 1 s. */
#if OVERTENT == 1
  :: d_step {
       pc == CLAIM && FOREIGN(SLOT(k, i)) && IS_TENT(word[SLOT(k, i)]) ->
       a = SLOT(k, i);
       claim_free(a)
     }
#elif AGES > 0
  :: d_step {
       pc == CLAIM && ages > 0 && FOREIGN(SLOT(k, i)) && IS_TENT(word[SLOT(k, i)]) ->
       ages--;
       a = SLOT(k, i);
       claim_free(a)
     }
#endif
  :: d_step {
       pc == CLAIM_CAS ->
       if
       :: HOLDS(at, other, seen[me]) ->
          if
          :: other < KEY(0)
          :: other >= KEY(0) && IS_TENT(seen[me]) -> REACHED(P_OLD)
          :: other >= KEY(0) && !IS_TENT(seen[me]) && IDLE(seen[me]) -> REACHED(P_IDLE)
             /* ... and keeps its ghost: nothing may be forgiven. */
          :: other >= KEY(0) && !IS_TENT(seen[me]) && !IDLE(seen[me]) ->
             REACHED(P_EVICTED);
             g[other - KEY(0)] = 0
          fi;
#if MUT == 1 || MUT == 2
          a = n + 1;
          admit(at, a);
          END_CALL
#else
          fresh_tentative();
          own = at;
          id[own] = KEY(k);
          word[own] = a;
          mine[me] = a;
          GO_OTHERS;
          FORGET_UNUSED_TIME
#endif
       :: else -> GO_RETRY
       fi
     }

  /* ---- verify(), check_others() */
#if REACH > 0 && MUT != 9
  :: d_step { pc == OTHERS_REACH -> r = reach; pc = OTHERS }
#endif
  :: d_step {
       pc == OTHERS ->
       a = SLOT(k, i);
       if
       :: a == own -> past = 1; others_next()
       :: a != own && id[a] == VIRGIN -> i = r; others_next()
       :: a != own && id[a] != VIRGIN && id[a] != KEY(k) -> others_next()
       :: a != own && id[a] == KEY(k) && !IS_TENT(word[a]) ->
          if
          :: MUT == 5 || (MUT == 6 && word[a] <= t) -> others_next()
          :: else -> FORGET(DROP)
          fi
       :: a != own && id[a] == KEY(k) && IS_TENT(word[a]) && !past ->
          if
          :: MUT == 4 -> others_next()
          :: else -> b = r; FORGET(MOVE); at = a; seen[me] = word[a]; KEEP_READ_REACH
          fi
       :: a != own && id[a] == KEY(k) && IS_TENT(word[a]) && past ->
          if
          :: MUT == 3 -> others_next()
          :: else -> at = a; seen[me] = word[a]; pc = UNDO
          fi
       fi
     }
  :: d_step {
       pc == DROP ->
       if
       :: HOLDS(own, KEY(k), mine[me]) -> REACHED(P_DROPPED); make_free(own)
       :: else
       fi;
       GO_RETRY
     }
  :: d_step {
       pc == MOVE ->
       if
       :: HOLDS(own, KEY(k), mine[me]) -> REACHED(P_MOVED); make_free(own)
       :: else
       fi;
       own = at;
       mine[me] = seen[me];
       GO_OTHERS
     }
  :: d_step {
       pc == UNDO ->
       if
       :: HOLDS(at, KEY(k), seen[me]) ->
          REACHED(P_UNDONE); make_free(at); at = NONE; seen[me] = 0; pc = OTHERS; others_next()
       :: else -> at = NONE; seen[me] = 0; pc = OTHERS        /* look again */
       fi
     }
  READS_CLOCK(REFRESH, pc = VERIFY)
  :: d_step {
       pc == VERIFY ->
       if
       :: HOLDS(own, KEY(k), mine[me]) -> a = n + 1; admit(own, a); END_CALL
       :: else -> REACHED(P_LOST); GO_RETRY
       fi
     }

  /* ---- the end of a round */
  READS_CLOCK(RETRY, GO_SEARCH)
#if GIVEUP
  :: d_step { pc == RETRY -> END_CALL }       /* the last round: Outcome::kContended */
  :: d_step { pc == UNDO -> GO_RETRY }        /* the last look: our tentative stays behind */
  :: d_step { pc == VERIFY ->                 /* refused at the later time */
       if
       :: HOLDS(own, KEY(k), mine[me]) -> make_free(own)
       :: else
       fi;
       END_CALL
     }
#endif

#if MUT == 2
  :: d_step {
       pc == RESCAN ->
       a = SLOT(k, i);
       if
       :: id[a] == KEY(k) -> GO_RETRY
       :: id[a] == VIRGIN -> i = r
       :: else -> i++
       fi;
       if
       :: pc == RESCAN && i >= r -> i = 0; r = 0; pc = NAIVE_CLOCK
       :: else
       fi
     }
#endif
#if MUT == 1 || MUT == 2
  READS_CLOCK(NAIVE_CLOCK, pc = CLAIM_CAS)
#endif
  od
}

proctype clock() {
  do
  :: d_step { t < MAXT -> t++ }
  :: t == MAXT -> break
  od
}

/* Any first contents that are legal: a key has at most one verified copy; it lies within reach;
 * no virgin slot lies before it in its window. */
inline fill(s) {
  if
  :: id[s] = VIRGIN
  :: id[s] = FREE
  :: id[s] = KEY(0)
#if NK > 1
  :: id[s] = KEY(1)
#endif
#if NK > 2
  :: id[s] = KEY(2)
#endif
#if NK > 3
  :: id[s] = KEY(3)
#endif
  fi;
  if
  :: id[s] >= KEY(0) ->
     if
     :: word[s] = DEAD(s)
     :: x = 0;
        do
        :: x < B -> x++
        :: break
        od;
        word[s] = x;
        g[id[s] - KEY(0)] = x;
        x = 0
     fi
  :: else
  fi
}

inline check_legal() {
  x = 0;
  do
  :: x < S ->
     if
     :: id[x] >= KEY(0) ->
        legal = legal && POSITION(id[x] - KEY(0), x) < reach;
        y = 0;
        do
        :: y < S ->
           legal = legal && !(id[y] == VIRGIN &&
                              POSITION(id[x] - KEY(0), y) < POSITION(id[x] - KEY(0), x));
           legal = legal && !(y != x && id[y] == id[x] && !IS_TENT(word[x]) && !IS_TENT(word[y]));
           y++
        :: else -> break
        od
     :: else
     fi;
     x++
  :: else -> break
  od;
  x = 0;
  y = 0
}

init {
  byte x, y;
  bool legal = true;
  atomic {
#if REACH > 0
    reach = REACH;
#endif
#if FILLED
    fill(0);
#if S > 1
    fill(1);
#endif
#if S > 2
    fill(2);
#endif
#if S > 3
    fill(3);
#endif
    check_legal();
    if
    :: !legal -> goto finish
    :: else
    fi;
#endif
    do
    :: x < N -> run caller(x); x++
    :: else -> break
    od;
    x = 0;
    run clock()
  }
finish:
  skip
}
