/*
 * The lock of a shard as core/shard/shard_lock.cpp implements it, for Spin: writers, slow readers, and the death of any of
 * them at any step. Names are those of the code.
 *
 * What is a step here is what is atomic there: a load or store of a shared word, a try-lock, a change of ownership of
 * a robust mutex. Sequential consistency is assumed, which the code asks for (seq_cst) on every word of this
 * protocol.
 *
 *   Death      the process Death marks a victim dead and the kernel's part follows in the same step: every robust
 *              mutex that it holds says so to the next owner. What it left in rwlocks and words stays, as in memory.
 *   SIGSTOP    needs no process: nothing is fair here, so that anyone may stand still anywhere for as long as the
 *              others like.
 *   Deadlines  whoever waits for a live process may give up instead, as long as the budget TIMEOUTS lasts. After that
 *              a wait that never ends is a deadlock, which EndOfAll reports.
 *
 * Checked: no writer is in the shard together with a live reader or another writer; no reader sees a shard half
 * written; no rwlock and no count of readers is laid anew while someone alive is counted or may still be let in
 * there; the counts never fall short of those who are; W is never unlocked inconsistent (that would make it
 * ENOTRECOVERABLE); who waits at the rwlock lays a fresh one only after a death; nobody waits for ever, and slow
 * readers are not kept away for ever.
 *
 * run.sh also checks that each of the mutants (MUTANT_...), which leaves out one part of the protocol, is found.
 */

#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef READERS
#define READERS 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef TIMEOUTS
#define TIMEOUTS 1
#endif
#define PROCESSES (WRITERS + READERS)
#define SLOTS 2
#define NOBODY 255

/* ---- shared memory ---- */

byte w_owner = NOBODY;     /* W. */
bool w_owner_died;         /* The next to lock it gets EOWNERDEAD. */
bool w_inconsistent;       /* Locked after a death, and pthread_mutex_consistent() not yet called. */
bool needs_recovery;
bool wait;                 /* A writer is in the shard or waits to be. */
byte epoch;
bool write_locked[2];      /* rw[2] ... */
byte read_locks[2];        /* ... and its count of readers, dead ones included. */
byte announced[2];         /* Readers at rw[2], or on their way there or back, dead ones included. */
byte slot_owner[SLOTS] = NOBODY;
bool slot_owner_died[SLOTS];
byte hold[SLOTS];          /* 0, or the epoch announced + 1. */
bool half_written;         /* The shard's contents. */

/* ---- what only the checks see ---- */

bool dead[PROCESSES];
bool done[PROCESSES];
bool reading[PROCESSES];   /* In read(), under the rwlock. */
bool writing[PROCESSES];   /* Changing the shard. */
byte counted[PROCESSES];   /* 0, or 1 + the element of announced[] that has it, around its use of the rwlock. */
byte deaths_left = DEATHS;
byte timeouts_left = TIMEOUTS;
byte i_;                   /* For loops inside one step. */

inline assert_alone() {
  i_ = 0;
  do
  :: i_ < PROCESSES -> assert(i_ == me || dead[i_] || (!reading[i_] && !writing[i_])); i_++
  :: else -> break
  od;
  i_ = 0
}

inline begin_writing() {
  d_step { assert_alone(); writing[me] = true; half_written = true }
}

inline end_writing() {
  d_step { assert_alone(); writing[me] = false; half_written = false }
}

inline assert_unused(rw) {
  i_ = 0;
  do
  :: i_ < PROCESSES -> assert(dead[i_] || counted[i_] != 1 + rw); i_++
  :: else -> break
  od;
  i_ = 0
}

#include "thread_slots.pml"

/* ---- W ---- */

inline switch_epoch(ok) {
  e = epoch;
#ifdef MUTANT_RESET_COUNT_FIRST
  announced[(e + 1) & 1] = 0;
#endif
  if
  :: e > 0 -> wait_for_slots(e - 1, ok)
  :: else
  fi;
  if
  :: ok ->
     d_step {  /* Nobody alive is there, so that nobody sees one of them laid anew without the others. */
       assert_unused((e + 1) & 1);
       write_locked[(e + 1) & 1] = false;
       read_locks[(e + 1) & 1] = 0;
#ifndef MUTANT_RESET_COUNT_FIRST
       announced[(e + 1) & 1] = 0
#endif
     }
     epoch = e + 1;
     wait_for_slots(e, ok)
  :: else
  fi
}

/* lock(): `ok` is false if recovery met its deadline; W is not held then. */
inline lock_w(ok) {
  d_step { w_owner == NOBODY ->
    w_owner = me; w_inconsistent = w_inconsistent || w_owner_died; w_owner_died = false; ok = true }
  if
#ifdef MUTANT_NO_FLAG
  :: w_inconsistent ->
#else
  :: w_inconsistent || needs_recovery ->
#endif
#ifdef MUTANT_CONSISTENT_FIRST
     w_inconsistent = false;
#endif
#if !defined(MUTANT_NO_FLAG) && !defined(MUTANT_CONSISTENT_FIRST)
     needs_recovery = true;
#endif
     wait = true;
     switch_epoch(ok);
     if
     :: ok ->
        begin_writing();
        end_writing();
        wait = false;
        needs_recovery = false
     :: else
     fi;
     d_step { w_inconsistent = false; e = 0 }
     if
     :: ok
     :: else -> unlock_w()
     fi
  :: else
  fi
}

inline unlock_w() {
  atomic { assert(!w_inconsistent); w_owner = NOBODY }
}

/* exclude_readers(): `got` says whether the rwlock was taken too. */
inline exclude_readers(ok) {
#ifdef MUTANT_LOOK_BEFORE_WAIT
  found = (announced[epoch & 1] != 0);
  wait = true;
  if
  :: !found
#else
  wait = true;
  if
  :: announced[epoch & 1] == 0
#endif
  :: else ->
     if  /* Now and then it asks first whether the dead left the count. */
     :: look_for_live_slot(epoch, found);
        if
        :: !found -> switch_epoch(ok)
        :: d_step { found -> found = false }
        fi
     :: true
     fi;
     do
     :: atomic {
          ok && !write_locked[epoch & 1] && read_locks[epoch & 1] == 0 ->
          write_locked[epoch & 1] = true; got = true; break
        }
     :: ok && (write_locked[epoch & 1] || read_locks[epoch & 1] != 0) ->
        look_for_live_slot(epoch, found);
        if
#ifdef MUTANT_NO_SECOND_TRY
        :: !found -> assert(deaths_left < DEATHS); switch_epoch(ok)
#else
        :: atomic {
             !found && !write_locked[epoch & 1] && read_locks[epoch & 1] == 0 ->
             write_locked[epoch & 1] = true; got = true; break
           }
        :: !found && (write_locked[epoch & 1] || read_locks[epoch & 1] != 0) ->
           assert(deaths_left < DEATHS);
           switch_epoch(ok)
#endif
        :: d_step { found && read_locks[epoch & 1] == 0 -> found = false }
        :: d_step { found && (slot_owner[0] == NOBODY || hold[0] - 1 > epoch) &&
             (slot_owner[1] == NOBODY || hold[1] - 1 > epoch) -> found = false }
        :: d_step { found && timeouts_left > 0 -> timeouts_left--; ok = false; found = false }
        fi
     :: atomic { !ok -> wait = false; break }
     od;
     e = 0
  fi
}

/* ---- processes ---- */

/* The kernel's part: robust mutexes tell their next owner. */
inline die(victim) {
  dead[victim] = true;
  if
  :: w_owner == victim -> w_owner = NOBODY; w_owner_died = true; w_inconsistent = false
  :: else
  fi;
  if
  :: slot_owner[0] == victim -> slot_owner[0] = NOBODY; slot_owner_died[0] = true
  :: else
  fi;
  if
  :: slot_owner[1] == victim -> slot_owner[1] = NOBODY; slot_owner_died[1] = true
  :: else
  fi
}

proctype Writer(byte me) provided (!dead[me]) {
  bool ok, got, found;
  byte e, s;
  lock_w(ok);
  if
  :: ok ->
     exclude_readers(ok);
     if
     :: ok ->
#ifdef MUTANT_LOWER_WAIT_FIRST
        wait = false;
#endif
        atomic { assert(!half_written); begin_writing() };
        end_writing();
        /* let_readers_in() */
        if
        :: got -> write_locked[epoch & 1] = false
        :: else
        fi;
        wait = false
     :: else
     fi;
     unlock_w()
  :: else
  fi;
  d_step { done[me] = true; ok = false; got = false }
}

proctype Reader(byte me) provided (!dead[me]) {
  bool ok, got;
  byte e, s, mine;
  if  /* lock_any_slot() */
  :: d_step { slot_owner[0] == NOBODY -> mine = 0; take_slot(mine) }
  :: d_step { slot_owner[1] == NOBODY -> mine = 1; take_slot(mine) }
  :: slot_owner[0] != NOBODY && slot_owner[1] != NOBODY -> goto under_w
  fi;
  e = epoch;
  hold[mine] = e + 1;
  if
  :: epoch != e -> goto withdraw
  :: else
  fi;
#ifdef MUTANT_LOOK_BEFORE_COUNTING
  if
  :: wait -> goto withdraw
  :: else
  fi;
#endif
  d_step { announced[e & 1]++; counted[me] = 1 + (e & 1) };
#if !defined(MUTANT_IGNORE_WAIT) && !defined(MUTANT_LOOK_BEFORE_COUNTING)
  if
  :: wait -> goto uncount
  :: else
  fi;
#endif
  if
  :: needs_recovery -> goto uncount
  :: else
  fi;
  if  /* tryrdlock */
  :: write_locked[e & 1] -> goto uncount
  :: d_step { !write_locked[e & 1] -> read_locks[e & 1]++ }
  fi;
#ifndef MUTANT_NO_SECOND_LOOK
  if
  :: epoch != e -> goto give_back
  :: else
  fi;
#endif
  d_step { assert(!half_written); reading[me] = true };
  d_step { assert(!half_written); reading[me] = false; got = true };
give_back:
  read_locks[e & 1]--;
uncount:
  atomic { assert(announced[e & 1] > 0); announced[e & 1]--; counted[me] = 0 };
withdraw:
  hold[mine] = 0;
  atomic {
    slot_owner[mine] = NOBODY; e = 0; mine = 0;
    if
    :: got -> goto end
    :: else
    fi
  };
under_w:
  lock_w(ok);
  if
  :: ok -> atomic { assert(!half_written); unlock_w() }
  :: else
  fi;
end:
  atomic { done[me] = true; ok = false; got = false }
}

proctype Death() {
  byte victim;
  do
  :: atomic { deaths_left > 0 ->
       if  /* Writers are alike, and readers are: the first that dies may as well be the first of its kind. */
       :: victim = 0
       :: victim = WRITERS
       :: deaths_left < DEATHS -> victim = WRITERS - 1
       :: deaths_left < DEATHS -> victim = PROCESSES - 1
       fi;
       if
       :: dead[victim] || done[victim]
       :: else -> deaths_left--; die(victim)
       fi;
       victim = 0 }
  od
}

/* Runs when nobody else can. */
proctype EndOfAll() {
  timeout;
  d_step {
    i_ = 0;
    do
    :: i_ < PROCESSES -> assert(dead[i_] || done[i_]); i_++
    :: else -> break
    od;
    /* Slow readers can come in again, or somebody will see to it; and only the dead are counted for ever. */
    assert(!wait || needs_recovery || w_owner_died);
    assert(deaths_left < DEATHS || announced[0] + announced[1] == 0)
  }
}

init {
  byte next;
  atomic {
    do
    :: next < WRITERS -> run Writer(next); next++
    :: next >= WRITERS && next < PROCESSES -> run Reader(next); next++
    :: else -> break
    od;
    next = 0;
    run Death();
    run EndOfAll()
  }
}
