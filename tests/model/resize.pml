// SPDX-License-Identifier: MIT
// A resize as its callers and the copier see it, for one key with a counter that only grows (a
// bucket whose refill takes for ever): design 0009. One step of the model is one access to shared
// memory. `old` and `new` are the key's words, LIMIT the policy's; a word is charged by
// compare-and-swap and only if it stays within the limit.
//
//   MUT 1  the flags are not looked at again after a charge
//   MUT 2  the copier reads the old table before it supersedes it
//   MUT 3  a call does not carry its key over before it charges the new table
//   MUT 4  filling ends before the copy
#ifndef MUT
#define MUT 0
#endif
#ifndef N
#define N 3  // processes: the copier and callers
#endif
#ifndef LIMIT
#define LIMIT 2
#endif
#ifndef CALLS
#define CALLS 2
#endif

byte old = 0;
byte new = 0;
bool superseded = false;
bool filling = true;
byte admitted = 0;
byte killed = 0;

inline max_into(seen, mine) {
  // new = max(new, seen), a loop of compare-and-swap
  do
  :: mine = new;
     if
     :: mine >= seen -> break
     :: else
     fi;
     atomic {
       if
       :: new == mine -> new = seen; break
       :: else
       fi
     }
  od
}

// May be killed anywhere: then it never goes on.
proctype Caller() {
  byte calls = 0;
  byte seen = 0;
  byte mine = 0;
  bool passed = false;
  bool fills = false;
  do
  :: calls < CALLS ->
     calls++;
     passed = false;
     if
     :: !superseded ->
        do
        :: mine = old;
           if
           :: mine >= LIMIT -> break
           :: else
           fi;
           atomic {
             if
             :: old == mine -> old++; passed = true; break
             :: else
             fi
           }
        od;
#if MUT == 1
        atomic { admitted = admitted + (passed -> 1 : 0); assert(admitted <= LIMIT) };
        goto next;
#else
        atomic {
          if
          :: !superseded ->
             admitted = admitted + (passed -> 1 : 0);
             assert(admitted <= LIMIT);
             goto next
          :: else
          fi
        }
#endif
     :: else
     fi;
#if MUT != 3
     fills = filling;
     if
     :: fills -> seen = old; max_into(seen, mine)
     :: else
     fi;
#endif
     passed = false;
     do
     :: mine = new;
        if
        :: mine >= LIMIT -> break
        :: else
        fi;
        atomic {
          if
          :: new == mine -> new++; passed = true; break
          :: else
          fi
        }
     od;
     atomic { admitted = admitted + (passed -> 1 : 0); assert(admitted <= LIMIT) };
next:
     passed = false; mine = 0; seen = 0; fills = false
  :: else -> break
  :: killed < 1 -> killed++; break
  od
}

// Killed at any step and begun anew by the next one.
proctype Copier() {
  byte seen = 0;
  byte mine = 0;
  byte tries = 0;
  do
  :: tries < 2 ->
     tries++;
#if MUT == 2
     seen = old;
     superseded = true;
#else
     superseded = true;
     if
     :: tries == 1 -> goto again  // killed here
     :: true
     fi;
#if MUT == 4
     filling = false;
#endif
     seen = old;
#endif
     max_into(seen, mine);
     if
     :: tries == 1 -> goto again
     :: true
     fi;
     filling = false;
     break;
again:
     seen = 0; mine = 0
  :: else -> break
  od
}

init {
  atomic {
    byte i = 0;
    run Copier();
    do
    :: i < N - 1 -> run Caller(); i++
    :: else -> break
    od
  }
}
