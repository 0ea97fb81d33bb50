/* SPDX-License-Identifier: MIT
 *
 * The change of a policy in use, src/change.cc, src/compile.cc, shm/registry.h, and the calls that
 * it meets, src/call.h and src/algo/quota.h, for spin to explore completely. Run it with
 * run_models.sh.
 *
 * Goal: under every interleaving of CALLERS callers of one key and WRITERS writers that may be
 * killed at any step,
 *   - a call uses the words of one version of the policy only,
 *   - the clock value it uses is the one that the policies in force had reached at the call's time
 *     (or at the beginning of the slope, if that is later): never what an old slope would make of
 *     a later time, never less than was reached,
 *   - no call is admitted or refused that an exact GCRA on that clock would not; a slot is taken
 *     from the key only when nothing is owed,
 *   - after a reset every word that was stored under an earlier policy is idle,
 *   - a killed writer stops no other.
 * Method: every load, store and compare-and-swap of a shared word is one step, and so are flock,
 * its release by the kernel when a writer is killed, and every reading of the clock. The ghost is
 * the token clock as an observer would draw it: at each tick it goes on by the slope in force.
 *
 * Assumption PROMPT: a writer reads the clock and publishes within one tick. Without it (x_stopped)
 * the new slope holds from the reading on, also for the time until it was published.
 *
 * The slot's insertion is slot.pml's: it succeeds only if the clock was read after the slot was
 * last taken from the key.
 *
 * Units: a permit costs C units. Slopes are 1 or 2 units a tick. Skew is none.
 */

#ifndef CALLERS
#define CALLERS 1
#endif
#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef MAXT
#define MAXT 3          /* the clock stops here */
#endif
#ifndef CHANGES
#define CHANGES 1       /* of each writer */
#endif
#ifndef CALLS
#define CALLS 2         /* of each caller */
#endif
#ifndef C
#define C 2             /* units of a permit */
#endif
#ifndef BURST
#define BURST 2         /* permits */
#endif
#ifndef RESET
#define RESET 0         /* 1: a change may be a reset */
#endif
#ifndef KILLS
#define KILLS 1         /* writers that may be killed */
#endif
#ifndef PROMPT
#define PROMPT 1
#endif
#ifndef MUT
#define MUT 0           /* 0: the protocol. Weakened variants, each of which must fail: */
#endif
#define M_POLICYFIRST 1 /* a call reads the policy, and then the clock */
#define M_NOCHECK   2   /* the version is not looked at again */
#define M_EARLY     3   /* the version is stored before the words */
#define M_NOLOCK    4   /* writers do not exclude each other */
#define M_NOCARRY   5   /* the new slope begins at the old v0 */
#define M_BEFORE    6   /* a time before the slope's beginning is taken as it is */
#define M_ONECOPY   7   /* the copy in use is overwritten */
#define M_LOCKBIT   8   /* the lock is not freed when its holder is killed */
#define M_NOTOP     9   /* a reset sets the clock to where the old one is */
#define M_LATELOCK 10   /* the old words are read before the lock is held */
#define M_UNLOCK   11   /* the lock is given up before the version is stored */
#define M_OLDQUOTA 12   /* after a lost race the clock is read again, and not the policy */

/* PROBE=n must fail: it shows that the exploration gets to event n at all. */
#ifndef PROBE
#define PROBE 0
#endif
#define REACHED(event) assert(PROBE != event)
#define P_AGAIN     1   /* the version had changed */
#define P_CLAMPED   2   /* a time before the slope's beginning */
#define P_LOST      3   /* a lost race for the word */
#define P_REFUSED   4
#define P_KILLED    5   /* a writer killed with the lock */
#define P_SECOND    6   /* a change after another writer's change */
#define P_RESET     7
#define P_OLDWORD   8   /* a word of before a reset, found after it */
#define P_TAKEN     9   /* an idle slot taken */
#define P_SPANS    10   /* a call decided by a policy that is no longer in force */

#define NONE     255
#define CAPACITY (BURST * C)

/* The record: words of two copies, and the version. */
byte t0[2], v0[2], slope[2];
byte version;
byte word;              /* the key's */
byte t;                 /* the clock */
byte lock = NONE;       /* its holder; the kernel's */

/* Ghosts. */
byte clock_at[MAXT + 1];/* the observer's token clock */
byte made_for[6];             /* the version that each word of a copy was written for */
byte owed;              /* exact TAT */
byte resets;            /* how many were published */
byte word_of;           /* how many had been when the key's word was stored */
byte epoch[2];          /* how many had been, with the version of this copy */
byte takes;             /* how often the slot was taken from the key */
byte kills = KILLS;
byte ready;             /* writers between their clock reading and their store: no tick */

#define INDEX(v) (MUT == M_ONECOPY -> 0 : (v) & 1)
#define START    (MUT == M_POLICYFIRST -> 2 : 1)
/* Unused variables are zero, so that equal situations are equal states. */
#define FORGET   n = 0; at = 0; q_t0 = 0; q_v0 = 0; q_slope = 0; of0 = 0; of1 = 0; of2 = 0; \
                 mine = 0; took = 0; v = 0; used = 0; seen = 0
#define END_CALL FORGET; pc = 0
#define LATER(u, v) ((u) > (v) -> (u) : (v))

proctype caller(byte me) {
  byte pc;
  byte n, at, calls;
  byte q_t0, q_v0, q_slope;   /* as read */
  byte of0, of1, of2;         /* ghost: the versions of the three */
  byte v, used, seen;
  byte mine;                  /* ghost: resets before the version */
  byte took;                  /* takes before the clock was read */
  bit again;                  /* M_OLDQUOTA: keep the policy */

  do
  :: calls == CALLS && pc == 0 -> break
  :: d_step { pc == 0 && calls < CALLS -> calls++; pc = START }
  /* ---- begin(): the clock, then the policy */
  :: d_step { pc == 1 -> n = t; took = takes; pc = (again -> 6 : 2); again = 0 }
  :: d_step { pc == 2 -> at = version; mine = epoch[INDEX(at)]; pc = 3 }
  :: d_step { pc == 3 -> q_t0 = t0[INDEX(at)]; of0 = made_for[INDEX(at) * 3]; pc = 4 }
  :: d_step { pc == 4 -> q_v0 = v0[INDEX(at)]; of1 = made_for[INDEX(at) * 3 + 1]; pc = 5 }
  :: d_step {
       pc == 5 -> q_slope = slope[INDEX(at)]; of2 = made_for[INDEX(at) * 3 + 2];
       pc = (MUT == M_NOCHECK -> 6 : 7)
     }
  :: d_step {
       pc == 7 ->
       if
       :: version == at -> pc = 6
       :: else -> REACHED(P_AGAIN); pc = 2
       fi;
       if
       :: MUT == M_POLICYFIRST && pc == 6 -> pc = 8
       :: else
       fi
     }
  :: d_step { pc == 8 -> n = t; took = takes; pc = 6 }      /* M_POLICYFIRST */
  /* ---- the word, and the step */
  :: d_step {
       pc == 6 ->
       assert(of0 == at && of1 == at && of2 == at);       /* words of one version */
       used = LATER(n, q_t0);
       if
       :: n < q_t0 -> REACHED(P_CLAMPED)
       :: else
       fi;
       if
       :: MUT == M_BEFORE && n < q_t0 && q_v0 >= q_slope * (q_t0 - n) ->
          v = q_v0 - q_slope * (q_t0 - n);
          used = n
       :: else -> v = q_v0 + q_slope * (used - q_t0)
       fi;
       if
       :: mine == resets ->
          assert(used <= t && v == clock_at[used])        /* the clock that was in force */
       :: else                                            /* a reset came since */
       fi;
       seen = word;
       if
       :: word_of < mine && seen > 0 ->
          REACHED(P_OLDWORD);
          assert(seen <= v)                               /* idle after a reset */
       :: else
       fi;
       if
       :: seen > v + CAPACITY ->                          /* ceiling(): not of this clock */
          FORGET;
          pc = START
       :: seen <= v + CAPACITY && LATER(seen, v) + C > v + CAPACITY ->
          if
          :: mine == resets && word_of == resets ->
             assert(LATER(owed, v) + C > v + CAPACITY)    /* no spurious refusal */
          :: else
          fi;
          REACHED(P_REFUSED);
          END_CALL
       :: else -> pc = 9
       fi
     }
  :: d_step {
       pc == 9 ->
       if
       :: word == seen && (seen > 0 || took == takes) ->     /* an insertion: slot.pml */
          if
          :: version != at -> REACHED(P_SPANS)
          :: else
          fi;
          word = LATER(seen, v) + C;
          if
          :: mine == resets ->
             assert(LATER(owed, v) + C <= v + CAPACITY);  /* no over-admission */
             owed = LATER(owed, v) + C;
             word_of = resets
          :: else -> word_of = mine         /* decided by the policy before */
          fi;
          END_CALL
       :: else ->
          REACHED(P_LOST);
          if
          :: MUT == M_OLDQUOTA -> again = 1; n = 0; seen = 0; v = 0; used = 0; pc = 1
          :: else -> FORGET; pc = START
          fi
       fi
     }
  /* ---- another key takes the slot if it is idle; same reading of clock and policy */
  :: d_step {
       pc == 9 && seen > 0 && seen <= v ->
       if
       :: word == seen -> REACHED(P_TAKEN); word = 0; word_of = resets; takes++
       :: else
       fi;
       END_CALL
     }
  od
}

/* One word of the new copy. Killed before or after: nobody reads it. */
#define WRITE(what, index, value, next) \
  :: d_step { \
       pc == 10 + index -> \
       what[INDEX(to)] = value; \
       made_for[INDEX(to) * 3 + index] = from + 1; \
       pc = next \
     }

/* The new slope goes on from where the old one is. */
inline recompile() {
  to = from + 1;
  n_t0 = t;
  n_slope = 3 - slope[INDEX(from)];
  n_v0 = v0[INDEX(from)];
  if
  :: MUT != M_NOCARRY && t > t0[INDEX(from)] ->
     n_v0 = n_v0 + slope[INDEX(from)] * (t - t0[INDEX(from)])
  :: else
  fi;
  ready = ready + PROMPT;
  prompt = PROMPT;
  pc = (MUT == M_EARLY -> 13 : 10)
}

inline publish() {
  if
  :: version > 1 -> REACHED(P_SECOND)
  :: else
  fi;
  if
  :: reset ->
     REACHED(P_RESET);
     resets++;
     owed = 0;
     clock_at[t] = n_v0 + n_slope * (t - n_t0)
  :: else
  fi;
  epoch[INDEX(to)] = resets;
  version = to;
  ready = ready - prompt;
  prompt = 0
}

proctype writer(byte me) {
  byte pc, made;
  byte from, to;              /* versions */
  byte n_t0, n_v0, n_slope;   /* the new words */
  bit reset, prompt;

  do
  :: made == CHANGES && pc == 0 -> break
  :: d_step { pc == 0 && made < CHANGES && (lock == NONE || MUT == M_NOLOCK) && MUT != M_LATELOCK ->
       made++;
       lock = (MUT == M_NOLOCK -> NONE : me);
       pc = 1
     }
  :: d_step { pc == 0 && made < CHANGES && MUT == M_LATELOCK -> made++; pc = 1 }
  /* ---- find(): the old words, stable under the lock. Then the clock. */
  :: d_step { pc == 1 -> from = version; pc = (MUT == M_LATELOCK -> 2 : 3) }
  :: d_step { pc == 2 && lock == NONE -> lock = me; pc = 3 }
  :: d_step { pc == 3 -> recompile() }
#if RESET
  :: d_step {
       pc == 3 ->
       recompile();
       reset = 1;
       n_v0 = (MUT == M_NOTOP -> n_v0 : n_v0 + CAPACITY + 1)
     }
#endif
  WRITE(t0, 0, n_t0, 11)
  WRITE(v0, 1, n_v0, 12)
  WRITE(slope, 2, n_slope, (MUT == M_UNLOCK -> 14 : (MUT == M_EARLY -> 15 : 13)))
  :: d_step { pc == 13 -> publish(); pc = (MUT == M_EARLY -> 10 : 15) }
  :: d_step { pc == 14 -> lock = NONE; pc = 13 }
  :: d_step {
       pc == 15 ->
       lock = (lock == me -> NONE : lock);
       from = 0; to = 0; n_t0 = 0; n_v0 = 0; n_slope = 0; reset = 0; pc = 0
     }
  /* ---- killed: the kernel frees the lock */
  :: d_step {
       pc != 0 && pc != 20 && kills > 0 ->
       kills--;
       ready = ready - prompt;
       prompt = 0;
       if
       :: lock == me -> REACHED(P_KILLED); lock = (MUT == M_LOCKBIT -> me : NONE)
       :: else
       fi;
       from = 0; to = 0; n_t0 = 0; n_v0 = 0; n_slope = 0; reset = 0; pc = 20
     }
  :: pc == 20 -> break
  od
}

proctype clock() {
  do
  :: d_step {
       t < MAXT && ready == 0 ->
       t++;
       clock_at[t] = clock_at[t - 1] + slope[version & 1]
     }
  :: t == MAXT -> break
  od
}

/* When nobody can go on, nobody holds the lock. */
proctype watcher() {
  timeout -> assert(lock == NONE)
}

init {
  atomic {
    byte p;
    version = 1;
    slope[INDEX(1)] = 1;
    made_for[INDEX(1) * 3] = 1;
    made_for[INDEX(1) * 3 + 1] = 1;
    made_for[INDEX(1) * 3 + 2] = 1;
    do
    :: p < CALLERS -> run caller(p); p++
    :: p >= CALLERS && p < CALLERS + WRITERS -> run writer(p); p++
    :: else -> break
    od;
    p = 0;
    run clock();
    run watcher()
  }
}
