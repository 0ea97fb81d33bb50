/* SPDX-License-Identifier: MIT
 *
 * The election of the one process that writes snapshots, for spin to explore completely. Run it
 * with run_models.sh. This is the protocol that the writer of snapshots has to follow:
 *
 *   1. open the lock file by name (made if absent), flock(LOCK_EX | LOCK_NB); if it is held, close
 *      it and try again after a while;
 *   2. compare the inode under the name with that of the descriptor; another: close, go to 1. The
 *      same before every snapshot: another (the file was unlinked): close, go to 1;
 *   3. a snapshot: BEGIN IMMEDIATE; read the last generation; read the segment; write all rows with
 *      generation + 1; COMMIT. Busy: go to 2 after a while. Nothing is read before BEGIN;
 *   4. a fork child closes its copy of the descriptor at once, and never unlocks it.
 *
 * Goal: with N processes of which KILLS may be killed at any step, a lock file that others unlink
 * UNLINKS times at any moment, and FORKS fork children of a holder,
 *   - as long as nobody unlinks the file at most one process believes that it is the writer,
 *   - at most one is in a transaction; generations grow by one; a later generation was read from
 *     the segment later; what is in the database is one whole generation,
 *   - a process whose file was unlinked completes at most the snapshot it is in,
 *   - when nobody can go on, all snapshots were written or nobody is left who could.
 * Method: every system call is one step. A stopped process is one that is never scheduled again;
 * a killed one loses its locks and its transaction at that moment, in one step, but for a lock
 * whose description a child still has. A process that finds the lock held waits for it to be free,
 * which stands for trying again.
 */

#ifndef N
#define N 2             /* processes, at most 4 */
#endif
#ifndef UNLINKS
#define UNLINKS 1
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef FORKS
#define FORKS 1
#endif
#ifndef LAST
#define LAST 3          /* generations; then all stop */
#endif
#ifndef MUT
#define MUT 0           /* 0: the protocol. Weakened variants, each of which must fail: */
#endif
#define M_NOINODE   1   /* the inode is not compared after the lock was obtained */
#define M_NEVER     2   /* ... and not before a snapshot */
#define M_CHILD     3   /* a fork child keeps its copy of the descriptor */
#define M_CHILDFREE 4   /* a fork child unlocks it */
#define M_PIDFILE   5   /* the lock is a file with a pid; whoever finds its owner dead takes it */
#define M_TIMELEASE 6   /* the lock may be taken when its holder was silent for long */
#define M_GENFIRST  7   /* the generation is read before BEGIN */
#define M_ROWSFIRST 8   /* the segment is read before BEGIN */
#define M_NOTX      9   /* rows are written without a transaction */

/* PROBE=n must fail: it shows that the exploration gets to event n at all. */
#ifndef PROBE
#define PROBE 0
#endif
#define REACHED(event) assert(PROBE != event)
#define P_HELD      1   /* the lock was held */
#define P_STALE     2   /* locked a file that has no name any more */
#define P_NOTICED   3   /* a writer finds its file unlinked */
#define P_BUSY      4   /* another is in a transaction */
#define P_TWO       5   /* two believe that they are the writer, after an unlink */
#define P_ROLLBACK  6   /* killed in a transaction */
#define P_SUCCESSOR 7   /* a snapshot of another writer than the last one's */
#define P_ORPHAN    8   /* killed while a child still has the description */
#define P_LATER     9   /* the child of a killed holder closes: the lock is free */

#define NOBODY  255
#define INODES  (UNLINKS + 2)   /* 0: none */

byte name;              /* the inode under the name, or 0 */
byte inodes;            /* made so far */
byte holder[INODES] = NOBODY;   /* of the flock on each inode */
byte shared[INODES];    /* children that have the holder's description */
byte tx = NOBODY;       /* who is in a transaction */
byte gen;               /* the database: generation, and the segment's state in its two rows */
byte row1, row2;
byte segment;           /* its state grows with every snapshot of it */

/* Ghosts. */
bit writer[N];          /* believes to be the writer */
bit dead[N];
bit stale[N];           /* its file was unlinked before its last snapshot, or its election, ended */
byte lastwriter = NOBODY;
byte unlinks = UNLINKS;
byte kills = KILLS;
byte forks = FORKS;
byte child_has;         /* the inode of a child's descriptor */

hidden byte a, b;

#define FREE_LOCK(inode) \
  if \
  :: inode != 0 && holder[inode] == me && shared[inode] == 0 -> holder[inode] = NOBODY \
  :: else \
  fi

inline check_writers() {
  a = 0;
  b = 0;
  do
  :: a < N -> b = b + (writer[a] && !dead[a] -> 1 : 0); a++
  :: else -> break
  od;
  if
  :: b > 1 -> REACHED(P_TWO); assert(unlinks < UNLINKS)     /* one writer */
  :: else
  fi;
  a = 0;
  b = 0
}

inline check_whole() {
  assert(row1 == row2 || tx != NOBODY)
}

/* close(): the lock goes with the last copy of the description. */
#define STEP_DOWN writer[me] = 0; stale[me] = 0; FREE_LOCK(mine); mine = 0; old = 0; rows = 0; \
                  pc = 1

proctype process(byte me) {
  byte pc = 1;
  byte mine;            /* the inode of its descriptor */
  byte old, rows;       /* generation and segment as read */

  do
  :: d_step { pc == 1 && gen < LAST ->      /* open(O_CREAT) */
       if
       :: name == 0 -> inodes++; name = inodes
       :: else
       fi;
       mine = name;
       pc = 2
     }
  :: gen == LAST && pc == 1 -> break
  /* ---- flock(LOCK_EX | LOCK_NB) */
#if MUT == 5
  :: d_step { pc == 2 && holder[mine] == NOBODY -> pc = 10 }
  :: d_step { pc == 2 && holder[mine] != NOBODY && dead[holder[mine]] -> pc = 10 }
  :: d_step { pc == 10 -> holder[mine] = me; pc = 3 }
#elif MUT == 6
  :: d_step { pc == 2 -> holder[mine] = me; pc = 3 }
#else
  :: d_step { pc == 2 && holder[mine] == NOBODY -> holder[mine] = me; pc = 3 }
#endif
  :: d_step { pc == 2 && (holder[mine] != NOBODY || gen == LAST) && (mine != name || gen == LAST) ->
       REACHED(P_HELD); mine = 0; pc = 1
     }
  /* ---- fstat and stat */
  :: d_step { pc == 3 ->
       if
       :: mine == name || MUT == M_NOINODE || MUT == M_NEVER ->
          writer[me] = 1; stale[me] = (mine != name); check_writers(); pc = 5
       :: else -> REACHED(P_STALE); STEP_DOWN
       fi
     }
  :: d_step { pc == 4 ->
       if
       :: gen == LAST -> STEP_DOWN
       :: gen < LAST && (mine == name || MUT == M_NEVER) -> pc = 5
       :: else -> REACHED(P_NOTICED); STEP_DOWN
       fi
     }
  /* ---- a snapshot */
  :: d_step { pc == 5 ->
       if
       :: MUT == M_GENFIRST -> old = gen
       :: MUT == M_ROWSFIRST -> segment++; rows = segment
       :: else
       fi;
       pc = 6
     }
  :: d_step { pc == 6 && gen == LAST -> STEP_DOWN }
  :: d_step { pc == 6 && gen < LAST ->
       if
       :: tx == NOBODY || MUT == M_NOTX -> tx = (MUT == M_NOTX -> NOBODY : me); pc = 7
       :: else -> REACHED(P_BUSY); old = 0; rows = 0; pc = 4
       fi
     }
  :: d_step { pc == 7 ->
       if
       :: MUT != M_GENFIRST -> old = gen
       :: else
       fi;
       if
       :: MUT != M_ROWSFIRST -> segment++; rows = segment
       :: else
       fi;
       pc = 8
     }
#if MUT == 9
  :: d_step { pc == 8 -> row1 = rows; pc = 9 }
  :: d_step { pc == 9 -> row2 = rows; gen = old + 1; check_whole(); old = 0; rows = 0; pc = 4 }
#else
  :: d_step { pc == 8 ->                    /* COMMIT */
       assert(old + 1 == gen + 1);          /* generations grow by one */
       assert(rows > row1);                 /* and so does what they hold */
       assert(!stale[me]);                  /* no second snapshot after the unlink */
       gen = old + 1;
       row1 = rows;
       row2 = rows;
       tx = NOBODY;
       if
       :: lastwriter != NOBODY && lastwriter != me -> REACHED(P_SUCCESSOR)
       :: else
       fi;
       lastwriter = me;
       stale[me] = (mine != name);
       old = 0;
       rows = 0;
       pc = 4
     }
#endif
  /* ---- fork: the child has the description too */
  :: d_step { forks > 0 && child_has == 0 && mine != 0 && holder[mine] == me ->
       forks--; shared[mine]++; child_has = mine
     }
  /* ---- killed */
  :: d_step { kills > 0 && pc != 20 ->
       kills--;
       dead[me] = 1;
       if
       :: tx == me -> REACHED(P_ROLLBACK); tx = NOBODY
       :: else
       fi;
       check_whole();
       if
       :: mine != 0 && holder[mine] == me && shared[mine] > 0 -> REACHED(P_ORPHAN)
       :: else
       fi;
       if
       :: MUT != M_PIDFILE -> FREE_LOCK(mine)
       :: else
       fi;
       writer[me] = 0;
       stale[me] = 0;
       mine = 0;
       old = 0;
       rows = 0;
       pc = 20
     }
  :: pc == 20 -> break
  od
}

/* The fork child. It closes its copy in the fork handler; MUT: it does not, or unlocks it. */
#if FORKS > 0
proctype child() {
end:
  do
#if MUT != 3
  :: d_step { child_has != 0 ->
       a = holder[child_has];
       shared[child_has]--;
       if
       :: MUT == M_CHILDFREE -> holder[child_has] = NOBODY
       :: MUT != M_CHILDFREE && a != NOBODY && dead[a] && shared[child_has] == 0 ->
          REACHED(P_LATER);
          holder[child_has] = NOBODY
       :: else
       fi;
       child_has = 0;
       a = 0
     }
#else
  :: false
#endif
  od
}
#endif

/* Someone removes the lock file. */
proctype cleaner() {
end:
  do
  :: d_step { unlinks > 0 && name != 0 -> unlinks--; name = 0 }
  :: break
  od
}

/* When nobody can go on, all was written. */
proctype watcher() {
  d_step {
    timeout -> a = 0;
    b = 0;
    do
    :: a < N -> b = b + dead[a]; a++
    :: else -> break
    od;
    assert(gen == LAST || b == N);
    a = 0;
    b = 0
  }
}

init {
  atomic {
    byte p;
    do
    :: p < N -> run process(p); p++
    :: else -> break
    od;
    p = 0;
#if FORKS > 0
    run child();
#endif
    run cleaner();
    run watcher()
  }
}
