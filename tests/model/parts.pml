/* SPDX-License-Identifier: MIT
 *
 * The charge of two rates by one call, all or nothing, src/parts.cc and undo() of src/algo/step.h,
 * for spin to explore completely. Run it with run_models.sh.
 *
 * Goal: under every interleaving of N callers that may stall, and so be killed, at any step,
 *   - each rate admits, of the calls that were admitted as a whole, no more than its bound in every
 *     interval: burst + refill (a bucket), the limit in one window (a window),
 *   - what was given back is what the call itself had been charged, and no less of it than had not
 *     flowed back: while the clock stands a word is the sum of what was admitted and of what calls
 *     on the way hold.
 * Method: every load and every compare-and-swap of a shared word is one step. Nothing is asked of
 * refusals: a passing charge may cause one, which the header says. The ghosts know the timestamps
 * of admitted calls only.
 *
 * One slot for each rate; its insertion is slot.pml's: a call charges an absent key only if it read
 * the clock after the slot was last taken from the key. That happens at any moment at which it is
 * idle.
 * Assumption UNIQUE: while an undo waits between its load and its compare-and-swap, a bucket's word
 * does not leave and come back to the same value. (It would take another undo, and a charge at the
 * very unit of refill that brings the old value about.)
 * Units: a permit refills in one tick. The clock t runs from 0 to MAXT, at any moment.
 */

#ifndef N
#define N 2             /* callers */
#endif
#ifndef CALLS
#define CALLS 0         /* of each; 0: without end */
#endif
#ifndef SOLO
#define SOLO 0          /* so many calls of caller 0, each for one rate, as another policy's */
#endif
#ifndef PARTS
#define PARTS 2         /* rates */
#endif
#ifndef WINDOWS
#define WINDOWS 0       /* the first so many of them are fixed windows of W ticks; others buckets */
#endif
#ifndef W
#define W 2
#endif
#ifndef B0
#define B0 2            /* burst or limit of each rate */
#endif
#ifndef B1
#define B1 1
#endif
#ifndef B2
#define B2 1
#endif
#ifndef COST
#define COST 1          /* calls cost 1 to COST */
#endif
#ifndef TURNED
#define TURNED 0        /* 1: odd callers charge the rates in the other order, as by two keys */
#endif
#ifndef MAXT
#define MAXT 2          /* the clock stops here */
#endif
#ifndef UNIQUE
#define UNIQUE 1        /* 1: while an undo waits its word does not change and come back */
#endif
#ifndef MUT
#define MUT 0           /* 0: the protocol. Weakened variants, each of which must fail: */
#endif
#define M_REFUND    1   /* undo by refund: the cost, down to idle, whatever has flowed back */
#define M_NOUNDO    2   /* a late refusal gives nothing back */
#define M_BLIND     3   /* what the survey admitted is charged without asking again */
#define M_OLDTIME   4   /* the undo is judged at the time of the call */
#define M_RESTORE   5   /* undo stores what was there before the charge */
#define M_ANYWINDOW 6   /* undo takes from whatever window counts now */
#define M_HALF      7   /* a late refusal admits what was charged */
#define M_PLAIN     8   /* the charge is a store, not a compare-and-swap */
#define M_RECEIPT   9   /* undo by what is left of the word that the charge stored: others' undo
                           may have lowered the word since */
#define M_CLOCKFIRST 10 /* undo reads the clock before the word */

/* PROBE=n must fail: it shows that the exploration gets to event n at all. */
#ifndef PROBE
#define PROBE 0
#endif
#define REACHED(event) assert(PROBE != event)
#define P_SURVEY    1   /* refused at the first look */
#define P_LATE      2   /* refused when it was to be charged, after another part was */
#define P_LOST      3   /* a charge lost a race */
#define P_UNDONE    4   /* permits given back */
#define P_FLOWED    5   /* all of what was to be given back had flowed back */
#define P_UNDOLOST  6   /* an undo lost a race */
#define P_ABSENT    7   /* an idle bucket becomes absent */
#define P_OTHERS    8   /* given back while others' charges are in the word */

#define LATER(u, v)  ((u) > (v) -> (u) : (v))
#define LEAST(u, v)  ((u) < (v) -> (u) : (v))
#define BURST(p)     ((p) == 0 -> B0 : ((p) == 1 -> B1 : B2))
#define IS_WINDOW(p) ((p) < WINDOWS)
#define TIMES        (MAXT + 1)

/* A bucket's word is its TAT. A window's is {number, count}. */
#define COUNTS       16
byte word[PARTS];
byte t;
byte takes;             /* ghost: how often an idle key's slot was taken */

/* Ghosts. */
byte admitted[PARTS * TIMES];  /* permits of calls admitted as a whole, by timestamp at the part */
byte holds[PARTS];             /* permits of calls on the way */
byte all[PARTS];               /* permits admitted */
bit same[N];                   /* the word that an undo has loaded was not changed since */
byte undoes[N];                /* ... the rate it is about, and 1 */

hidden byte a, b, x, y;

/* a = what is owed in `w` at time n, in permits. */
inline owed(p, w, n) {
  if
  :: IS_WINDOW(p) -> a = ((w) / COUNTS == (n) / W -> (w) % COUNTS : 0)
  :: else -> a = ((w) > (n) -> (w) - (n) : 0)
  fi
}

/* a = the word after `cost` more, or 255: refused. A later window than n's stays as it is. */
inline charged(p, w, n) {
  if
  :: IS_WINDOW(p) ->
     b = LATER((w) / COUNTS, (n) / W);                 /* the window that counts */
     a = ((w) / COUNTS == b -> (w) % COUNTS : 0);
     a = (a + cost > BURST(p) && !(MUT == M_BLIND) -> 255 : b * COUNTS + a + cost)
  :: else ->
     a = LATER(w, n) + cost;
     a = (a > (n) + BURST(p) && !(MUT == M_BLIND) -> 255 : a)
  fi;
  b = 0
}

/* a = the word without the charge of `cost` at time v that stored r. What refilled since might have
 * been the charge's own. */
inline undone(p, w, r, v, n) {
  if
  :: IS_WINDOW(p) ->
     b = LATER((w) / COUNTS, (n) / W);
     a = ((w) / COUNTS == b -> (w) % COUNTS : 0);
     a = (a > 0 && (b == (r) / COUNTS || MUT == M_ANYWINDOW) ->
          b * COUNTS + a - LEAST(a, cost) : (w))
  :: else ->
     a = ((n) > (v) -> (n) - (v) : 0);                  /* refilled since the charge */
     a = cost - LEAST(cost, a);
     a = (MUT == M_REFUND -> cost : a);
     a = (MUT == M_RECEIPT -> LEAST(cost, ((r) > (n) -> (r) - (n) : 0)) : a);
     a = (w) - LEAST(a, ((w) > (n) -> (w) - (n) : 0))
  fi;
  b = 0
}

inline check_bounds() {
  a = 0;
  do
  :: a < PARTS ->
     x = 0;
     do
     :: x < TIMES ->
        b = 0;
        y = x;
        do
        :: y < TIMES && !(IS_WINDOW(a) && y / W != x / W) ->
           b = b + admitted[a * TIMES + y];
           assert(b <= BURST(a) + (IS_WINDOW(a) -> 0 : y - x));    /* no over-admission */
           y++
        :: else -> break
        od;
        x++
     :: else -> break
     od;
     a++
  :: else -> break
  od;
  a = 0;
  b = 0;
  x = 0;
  y = 0
}

/* The word of p was changed: who waits to undo a charge there will lose the race. */
inline change(p) {
  x = 0;
  do
  :: x < N -> same[x] = same[x] && undoes[x] != 1 + p; x++
  :: else -> break
  od;
  x = 0
}

/* Nothing has flowed back while the clock stands. */
inline check_sum(p) {
  assert(t > 0 || word[p] % COUNTS == all[p] + holds[p])
}

#define PART(i)  (turned -> PARTS - 1 - (i) : (i))
#define END_CALL i = 0; n = 0; seen = 0; cost = 0; at[0] = 0; at[1] = 0; r[0] = 0; r[1] = 0; \
                 was[0] = 0; was[1] = 0; third(); n0 = 0; took = 0; took0 = 0; turned = 0; pc = 0
#if PARTS > 2
#define third() at[2] = 0; r[2] = 0; was[2] = 0
#else
#define third() skip
#endif
#if CALLS == 0
#define MAY_CALL   true
#define COUNT_CALL skip
#else
#define MAY_CALL   (calls < (SOLO && me == 0 -> SOLO : CALLS))
#define COUNT_CALL calls++
#endif
/* The rates that the call is about. */
#define MANY       (SOLO && me == 0 -> 1 : PARTS)
#define GO_CALL    COUNT_CALL; n0 = t; n = t; took = takes; took0 = takes; pc = 1

inline let_go() {
  do
  :: i > 0 -> i--; holds[PART(i)] = holds[PART(i)] - cost; check_sum(PART(i))
  :: else -> break
  od
}

/* Of parts 0 to count - 1 what was charged is the call's. */
inline admit(count) {
  x = 0;
  do
  :: x < count ->
     admitted[PART(x) * TIMES + at[x]] = admitted[PART(x) * TIMES + at[x]] + cost;
     all[PART(x)] = (t == 0 -> all[PART(x)] + cost : all[PART(x)]);
     holds[PART(x)] = holds[PART(x)] - cost;
     x++
  :: else -> break
  od;
  x = 0;
  if
  :: count < MANY -> assert(false)               /* all or nothing */
  :: else -> check_bounds()
  fi
}

proctype caller(byte me) {
  byte pc, i, n, seen, cost;
  bit turned;           /* the rates in the other order */
  byte n0;              /* the call's time */
  byte took, took0;     /* ghost: takes before n and n0 were read */
  byte at[PARTS];       /* timestamps of the charges */
  byte r[PARTS];        /* their receipts: the words they stored */
  byte was[PARTS];      /* M_RESTORE */
#if CALLS > 0
  byte calls;
#endif

  do
#if CALLS > 0
  :: pc == 0 && !MAY_CALL -> break
#endif
  :: d_step { pc == 0 && MAY_CALL -> cost = 1; turned = TURNED & me & 1; GO_CALL }
#if SOLO
  :: d_step { pc == 0 && MAY_CALL && me == 0 -> cost = 1; turned = 1; GO_CALL }
#endif
#if COST > 1
  :: d_step { pc == 0 && MAY_CALL -> cost = 2; GO_CALL }
#endif
  /* ---- survey(): look at every part, at the call's time */
  :: d_step {
       pc == 1 ->
       charged(PART(i), word[PART(i)], n);
       if
       :: a == 255 -> REACHED(P_SURVEY); END_CALL
       :: a != 255 && i + 1 < MANY -> i++
       :: a != 255 && i + 1 == MANY -> i = 0; pc = 2
       fi;
       a = 0
     }
  /* ---- charge(): load and decide, compare and swap; after a lost race the clock again */
  :: d_step {
       pc == 2 ->
       seen = word[PART(i)];
       charged(PART(i), seen, n);
       if
       :: a != 255 -> pc = 3
       :: a == 255 && i == 0 -> END_CALL
       :: a == 255 && i > 0 ->
          REACHED(P_LATE);
          seen = 0;
          if
          :: MUT == M_NOUNDO -> let_go(); END_CALL
          :: MUT == M_HALF -> admit(i); END_CALL
          :: MUT != M_NOUNDO && MUT != M_HALF -> i--; n = 0; pc = 5
          fi
       fi;
       a = 0
     }
  :: d_step {
       pc == 3 ->
       if
       :: (word[PART(i)] == seen && (seen != 0 || took == takes)) || MUT == M_PLAIN ->
          charged(PART(i), seen, n);
          word[PART(i)] = a;
          change(PART(i));
          r[i] = a;
          a = 0;
          /* A window is charged at its beginning, if the call's time is before it. */
          at[i] = (IS_WINDOW(PART(i)) -> LATER(n, r[i] / COUNTS * W) : n);
          was[i] = (MUT == M_RESTORE -> seen : 0);
          holds[PART(i)] = holds[PART(i)] + cost;
          check_sum(PART(i));
          seen = 0;
          i++;
          n = n0;
          took = took0;
          if
          :: i < MANY -> pc = 2
          :: else -> admit(MANY); END_CALL
          fi
       :: else -> REACHED(P_LOST); seen = 0; n = 0; pc = 4
       fi
     }
  :: d_step { pc == 4 -> n = t; took = takes; pc = 2 }
  /* ---- undo(): part i, the word and then the clock; down to part 0 */
  :: d_step {
       pc == 5 ->
       if
       :: MUT == M_CLOCKFIRST -> n = t
       :: else -> seen = word[PART(i)]; same[me] = 1; undoes[me] = 1 + PART(i)
       fi;
       pc = 6
     }
  :: d_step {
       pc == 6 ->
       if
       :: MUT == M_CLOCKFIRST -> seen = word[PART(i)]; same[me] = 1; undoes[me] = 1 + PART(i)
       :: MUT == M_OLDTIME -> n = n0
       :: else -> n = t
       fi;
       pc = 7
     }
  :: d_step {
       pc == 7 ->
       undone(PART(i), seen, r[i], at[i], n);
       if
       :: MUT == M_RESTORE -> a = was[i]
       :: else
       fi;
       if
       :: MUT == M_RESTORE ||
          (word[PART(i)] == seen && (same[me] || !UNIQUE || IS_WINDOW(PART(i)))) ->
          if
          :: a == seen -> REACHED(P_FLOWED)
          :: else -> REACHED(P_UNDONE)
          fi;
          if
          :: a != seen && seen != r[i] -> REACHED(P_OTHERS)
          :: else
          fi;
          if
          :: a != seen -> word[PART(i)] = a; change(PART(i))
          :: else
          fi;
          holds[PART(i)] = holds[PART(i)] - cost;
          check_sum(PART(i));
          seen = 0;
          n = 0;
          if
          :: i > 0 -> i--; pc = 5
          :: else -> END_CALL
          fi
       :: else -> REACHED(P_UNDOLOST); seen = 0; n = 0; pc = 5
       fi;
       same[me] = 0;
       undoes[me] = 0;
       a = 0
     }
  od
}

#define IS_IDLE(p) (word[p] != 0 && \
                    (IS_WINDOW(p) -> word[p] / COUNTS < t / W : word[p] <= t))

proctype clock() {
end:
  do
  :: d_step { t < MAXT -> t++; all[0] = 0; all[1] = 0 }
  :: d_step { IS_IDLE(0) -> REACHED(P_ABSENT); word[0] = 0; change(0); takes++ }
  :: d_step { IS_IDLE(1) -> REACHED(P_ABSENT); word[1] = 0; change(1); takes++ }
  od
}

init {
  atomic {
    byte p;
    do
    :: p < N -> run caller(p); p++
    :: else -> break
    od;
    p = 0;
    run clock()
  }
}
