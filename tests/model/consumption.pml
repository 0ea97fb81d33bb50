/* SPDX-License-Identifier: MIT
 *
 * What the keys of policies `scope cluster` have used, beside one slot: shm/consumption.h. Run it
 * with run_models.sh.
 *
 * Goal: with W workers, of which any may be stopped for as long as others like and KILLS may be
 * killed at any step, a slot that is given to the other key MOVES times, and one agent at a time,
 * killed AGENTS times at any step and followed by another,
 *   - what was told of a key is never more than was charged to it,
 *   - a worker that was stopped until the slot was another key's takes nothing from that one's
 *     count, and no name,
 *   - when nobody can go on, every use that was answered was told: of the key that has the slot
 *     all; of a count that has ended what was counted before a look at its mark. By marks alone,
 *     but after a new agent's first round,
 *   - under a new secret no count keeps a name under the old one.
 * Method: each 16-byte access and each access to the bitmap's word is one step. A key may lose the
 * slot between any two steps. What the store knows is an array of totals, one a count: telling
 * again is harmless.
 */

#ifndef W
#define W 2             /* workers */
#endif
#ifndef CALLS
#define CALLS 2         /* each makes */
#endif
#ifndef MOVES
#define MOVES 1
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef AGENTS
#define AGENTS 1        /* agents that are killed */
#endif
#ifndef SECRETS
#define SECRETS 0       /* times the secret changes */
#endif
#ifndef BACK
#define BACK 0          /* 1: a worker's last call gives back what its first one used */
#endif
#ifndef MUT
#define MUT 0           /* 0: the protocol. Weakened variants; those in run_models.sh fail: */
#endif
#define M_MARKFIRST 1   /* the bit is set before the count */
#define M_LOOKFIRST 2   /* the agent looks before it clears the bit */
#define M_ANYNAME   3   /* a name is written whatever count goes on */
#define M_ONCE      4   /* ... and not tried again when that fails */
#define M_ANYSLOT   5   /* a new count begins without a look at the slot */
#define M_STORE     6   /* ... and by a store, not a compare-and-swap */
#define M_NOTFIRST  7   /* a new agent looks at marks only */
#define M_USEFIRST  8   /* `use` is read before `told` */
#define M_OLDNAME   9   /* the secret's version is not looked at again */
#define M_DIFF      10  /* differences are told, not totals */
#define M_ACKEARLY  11  /* acknowledged before it is told */
#define M_ACKNOW    12  /* what is acknowledged is read anew */
#define M_ANYACK    13  /* acknowledged whatever count goes on */

/* PROBE=n must fail: it shows that the exploration gets to event n at all. */
#ifndef PROBE
#define PROBE 0
#endif
#define REACHED(event) assert(PROBE != event)
#define P_GIVENUP   1   /* a count is given up: the slot is another key's */
#define P_LOSTNAME  2   /* the name is not written: another count has begun */
#define P_RETRYNAME 3   /* ... or is, in the second try */
#define P_UNNAMED   4   /* the agent finds a count without a name */
#define P_MIXED     5   /* ... or of two counts */
#define P_AGAIN     6   /* told twice */
#define P_SET       7   /* the bit is set already */
#define P_RENAMED   8   /* the secret was changed meanwhile */
#define P_OLDACK    9   /* the count has ended before it is acknowledged */

#define COUNTS 6        /* nonces 1 to COUNTS - 1 */
#define KEYS   2        /* ids 1 and 2 */

byte slot = 1;          /* id of the key that has it */
byte use_id, use_nonce, use_total;
byte told_id, told_nonce, told_acked;   /* told_id: secret * 4 + key */
bit near;
byte version = 1;       /* the secret's; it is its own version here */

/* Ghosts. */
byte charged[KEYS + 1];
byte given[KEYS + 1];   /* back, after its count */
byte answered[COUNTS];  /* of each count, on answered calls */
byte store[COUNTS];     /* totals that were told */
byte whose[COUNTS];     /* the key of each count */
bit over[COUNTS];       /* it has ended */
byte nonces;
byte moves = MOVES, kills = KILLS, agents = AGENTS, secrets = SECRETS;
byte running = W;

hidden byte x, y;

/* The permits told of a key, over all its counts. */
inline check_told(key) {
  d_step {
    x = 1;
    y = 0;
    do
    :: x < COUNTS -> y = y + (whose[x] == key -> store[x] : 0); x++
    :: else -> break
    od;
    assert(y <= charged[key]);
    x = 0;
    y = 0
  }
}

#define MAY_DIE \
  if \
  :: kills > 0 -> kills--; goto dead \
  :: skip \
  fi

proctype worker(byte me) {
  byte call, key, sid, snonce, stotal, tid, tnonce, tacked, mine, nonce, ver;
  bit back;

  do
  :: call == CALLS -> break
  :: call < CALLS ->
     /* The charge, by compare-and-swap on the slot. */
     d_step {
       key = slot;
       back = (BACK && call == CALLS - 1 && call > 0 && mine == key);
       if
       :: back
       :: else -> charged[key]++
       fi;
       nonce = 0
     };
     MAY_DIE;
#if MUT == M_MARKFIRST
     near = 1;
#endif
count: skip;
     d_step { sid = use_id; snonce = use_nonce; stotal = use_total };
     if
     :: sid == key && snonce != 0
     :: else ->
#if MUT != M_ANYSLOT
        if
        :: slot == key
        :: else -> REACHED(P_GIVENUP); goto done
        fi
#else
        skip
#endif
     fi;
     d_step {
       if
       :: use_id == sid && use_nonce == snonce && (use_total == stotal) ||
          (MUT == M_STORE && !(sid == key && snonce != 0)) ->
          if
          :: sid == key && snonce != 0 -> nonce = snonce
          :: else ->
             assert(nonces < COUNTS - 1);
             /* Only a count whose key has lost the slot is ended. */
             /* (With two moves it may have got it back, and counted nothing yet.) */
             assert(MOVES > 1 || use_nonce == 0 || use_id != slot || use_id == key);
             if
             :: use_nonce != 0 -> over[use_nonce] = 1
             :: else
             fi;
             nonces++;
             nonce = nonces;
             whose[nonce] = key;
             stotal = 0
          fi;
          use_id = key;
          use_nonce = nonce;
          use_total = (back -> stotal - 1 : stotal + 1)
       :: else -> nonce = 0
       fi
     };
     if
     :: nonce == 0 -> goto count
     :: else
     fi;
     MAY_DIE;
     d_step { tid = told_id; tnonce = told_nonce };
     if
     :: tnonce == nonce && tid != 0 -> goto mark
     :: else
     fi;
name:
     ver = version;
identify: skip;
     d_step { tid = told_id; tnonce = told_nonce; tacked = told_acked };
     if
     :: tnonce == nonce && tid == ver * 4 + key -> goto named
     :: else
     fi;
#if MUT != M_ANYNAME
     if
     :: use_nonce != nonce -> REACHED(P_LOSTNAME); goto named
     :: else
     fi;
#endif
     d_step {
       if
       :: told_id == tid && told_nonce == tnonce && told_acked == tacked ->
          told_id = ver * 4 + key;
          told_nonce = nonce;
          told_acked = 0;
          tid = 255
       :: else
       fi
     };
     if
     :: tid == 255
     :: else ->
        REACHED(P_RETRYNAME);
#if MUT != M_ONCE
        goto identify
#else
        skip
#endif
     fi;
named:
     MAY_DIE;
#if MUT != M_OLDNAME
     if
     :: version != ver -> REACHED(P_RENAMED); goto name
     :: else
     fi;
#endif
mark:
#if MUT != M_MARKFIRST
     if
     :: near -> REACHED(P_SET)
     :: else -> near = 1
     fi;
#endif
done: skip;
     /* The answer. Of a count that was given up others do not hear. */
     d_step {
       if
       :: nonce != 0 && back -> given[key]++; answered[nonce]--
       :: nonce != 0 && !back -> answered[nonce]++; mine = key
       :: else
       fi;
       call++;
       sid = 0; snonce = 0; stotal = 0; tid = 0; tnonce = 0; tacked = 0; nonce = 0; ver = 0;
       key = 0; back = 0
     }
  od;
dead: skip;
  d_step {
    running--;
    mine = 0; call = 0; sid = 0; snonce = 0; stotal = 0; tid = 0; tnonce = 0; tacked = 0;
    nonce = 0; ver = 0; key = 0; back = 0
  }
}

/* One after another; all of one's memory is gone when it is killed. */
proctype agent() {
  byte tid, tnonce, tacked, unonce, utotal, uid;
  bit all = (MUT != M_NOTFIRST);

again:
  do
  :: agents > 0 ->
     d_step {
       agents--;
       tid = 0; tnonce = 0; tacked = 0; unonce = 0; utotal = 0; uid = 0;
       all = (MUT != M_NOTFIRST)
     }
  :: secrets > 0 && version == SECRETS + 1 - secrets ->
     d_step { secrets--; version++ };
     d_step { tid = told_id; tnonce = told_nonce; tacked = told_acked };
     d_step {
       if
       :: tid != 0 && told_id == tid && told_nonce == tnonce && told_acked == tacked ->
          told_id = 0; told_nonce = 0; told_acked = 0
       :: else
       fi;
       tid = 0; tnonce = 0; tacked = 0
     }
  :: near || all ->
#if MUT != M_LOOKFIRST
     near = 0;
#endif
     if
     :: agents > 0 -> goto killed
     :: skip
     fi;
#if MUT == M_USEFIRST
     d_step { uid = use_id; unonce = use_nonce; utotal = use_total };
#endif
     d_step { tid = told_id; tnonce = told_nonce; tacked = told_acked };
#if MUT != M_USEFIRST
     d_step { uid = use_id; unonce = use_nonce; utotal = use_total };
#endif
#if MUT == M_LOOKFIRST
     near = 0;
#endif
     if
     :: unonce == 0 || tnonce != unonce || tid == 0 ->
        d_step {
          if
          :: unonce != 0 && tnonce != 0 -> REACHED(P_MIXED)
          :: unonce != 0 && tnonce == 0 -> REACHED(P_UNNAMED)
          :: else
          fi
        }
     :: else ->
#if MUT == M_ACKEARLY
        d_step {
          if
          :: told_id == tid && told_nonce == tnonce -> told_acked = utotal
          :: else
          fi
        };
        if
        :: agents > 0 -> goto killed
        :: skip
        fi;
        if
        :: utotal == tacked -> goto round
        :: else
        fi;
#endif
        /* Told: by then it may be late. */
        d_step {
          assert(tid % 4 == whose[unonce]);
          if
          :: store[unonce] == utotal -> REACHED(P_AGAIN)
          :: else
          fi;
          store[unonce] = (MUT == M_DIFF -> store[unonce] + utotal - tacked : utotal)
        };
        check_told(whose[unonce]);
        if
        :: agents > 0 -> goto killed
        :: skip
        fi;
#if MUT == M_ACKNOW
        utotal = use_total;
#endif
        d_step {
          if
          :: told_id == tid && told_nonce == tnonce || MUT == M_ANYACK ->
             told_acked = utotal
          :: else -> REACHED(P_OLDACK)
          fi
        }
     fi;
round: skip;
     d_step {
       all = 0;
       tid = 0; tnonce = 0; tacked = 0; unonce = 0; utotal = 0; uid = 0
     }
  :: running == 0 && !near && !all && secrets == 0 -> break
  od;
  goto quiet;
killed: skip;
  d_step {
    agents--;
    tid = 0; tnonce = 0; tacked = 0; unonce = 0; utotal = 0; uid = 0;
    all = (MUT != M_NOTFIRST)
  };
  goto again;
quiet: skip;
  /* Nobody works, nothing is marked. */
  d_step {
    if
    :: use_nonce != 0 && use_id == slot && version == 1 ->
       assert(store[use_nonce] >= answered[use_nonce]);
       assert(KILLS || store[use_nonce] == use_total);
       assert(KILLS || told_nonce == use_nonce && told_acked == use_total)
    :: else
    fi;
    assert(told_nonce == 0 || told_nonce != use_nonce || told_id / 4 == version)
  }
}

/* The slot goes to the other key: its key was idle, or is evicted. */
proctype mover() {
end:
  do
  :: d_step { moves > 0 -> moves--; slot = 3 - slot }
  od
}

init {
  atomic {
    byte p;
    do
    :: p < W -> run worker(p); p++
    :: else -> break
    od;
    p = 0;
    run agent();
    run mover()
  }
}
