/*
 * The lock of a shard as core/shard_lock.cpp implements it, for Spin: writers, slow readers, and the death of any of them at
 * any step. Names are those of the code.
 *
 * What is a step here is what is atomic there: a load or store of a shared word, a try-lock, a change of ownership of a robust
 * mutex. Sequential consistency is assumed, which the code asks for (seq_cst) on every word of this protocol.
 *
 *   Death      the process Death marks a victim dead and the kernel's part follows in the same step: every robust mutex that it
 *              holds says so to the next owner. What it left in rwlocks and words stays, as in memory.
 *   SIGSTOP    needs no process: nothing is fair here, so that anyone may stand still anywhere for as long as the others like.
 *   Deadlines  whoever waits for a live process may give up instead, as long as the budget TIMEOUTS lasts. After that a wait
 *              that never ends is a deadlock, which EndOfAll reports.
 *
 * Checked: no writer is in the shard together with a live reader or another writer; no reader sees a shard half written; no
 * rwlock is laid anew while someone alive holds it or may still take it for good; W is never unlocked inconsistent (that would
 * make it ENOTRECOVERABLE); nobody waits for ever.
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
#define TRIES 1   /* Of an announcement, before a reader goes under W. */
#define NOBODY 255

/* ---- shared memory ---- */

byte w_owner = NOBODY;     /* W. */
bool w_owner_died;         /* The next to lock it gets EOWNERDEAD. */
bool w_inconsistent;       /* Locked after a death, and pthread_mutex_consistent() not yet called. */
bool needs_recovery;
bool wait;
byte epoch;
bool write_locked[2];      /* rw[2] ... */
byte read_locks[2];        /* ... and its count of readers, dead ones included. */
byte slot_owner[SLOTS] = NOBODY;
bool slot_owner_died[SLOTS];
byte hold[SLOTS];          /* 0, or the epoch announced + 1. */
bool half_written;         /* The shard's contents. */

/* ---- what only the checks see ---- */

bool dead[PROCESSES];
bool done[PROCESSES];
bool reading[PROCESSES];   /* In read(), under the rwlock. */
bool writing[PROCESSES];   /* Changing the shard. */
byte holds_rw[PROCESSES];  /* 0, or 1 + the rwlock that it has locked for reading. */
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
  d_step {
    i_ = 0;
    do
    :: i_ < PROCESSES -> assert(dead[i_] || holds_rw[i_] != 1 + rw); i_++
    :: else -> break
    od;
    i_ = 0
  }
}

/* ---- the thread slots ---- */

/* What follows a try-lock that succeeded. */
inline take_slot(s) {
  slot_owner[s] = me;
  hold[s] = (slot_owner_died[s] -> 0 : hold[s]);
  slot_owner_died[s] = false
}

/* slot_is_live() until it says no. `ok` is false if the deadline passed. The look itself locks the slot for a moment. */
inline wait_for_slot(s, up_to, ok) {
  if
  :: d_step { slot_owner[s] == NOBODY -> take_slot(s) }
     slot_owner[s] = NOBODY
  :: slot_owner[s] != NOBODY && hold[s] != 0 && hold[s] - 1 > up_to
  :: d_step { slot_owner[s] != NOBODY && (hold[s] == 0 || hold[s] - 1 <= up_to) && timeouts_left > 0 ->
       timeouts_left--; ok = false }
  fi
}

/* wait_for_slots() */
inline wait_for_slots(up_to, ok) {
#ifdef MUTANT_NO_WAIT_FOR_SLOTS
  skip
#else
  s = 0;
  do
  :: ok && s < SLOTS -> wait_for_slot(s, up_to, ok); s++
  :: else -> break
  od;
  s = 0
#endif
}

/* any_slot_is_live() */
inline look_for_live_slot(up_to, found) {
  found = false;
#ifndef MUTANT_COUNT_IS_DEAD
  s = 0;
  do
  :: !found && s < SLOTS ->
     if
     :: d_step { slot_owner[s] == NOBODY -> take_slot(s) }
        d_step { slot_owner[s] = NOBODY; s++ }
     :: d_step { slot_owner[s] != NOBODY -> found = (hold[s] == 0 || hold[s] - 1 <= up_to); s++ }
     fi
  :: else -> break
  od;
  s = 0
#endif
}

/* ---- W ---- */

inline switch_epoch(ok) {
  e = epoch;
  if
  :: e > 0 -> wait_for_slots(e - 1, ok)
  :: else
  fi;
  if
  :: ok ->
     assert_unused((e + 1) & 1);
     d_step { write_locked[(e + 1) & 1] = false; read_locks[(e + 1) & 1] = 0 }
     epoch = e + 1;
     wait_for_slots(e, ok)
  :: else
  fi
}

/* lock(): `ok` is false if recovery met its deadline; W is not held then. */
inline lock_w(ok) {
  atomic { w_owner == NOBODY ->
    w_owner = me; died = w_owner_died; w_owner_died = false; w_inconsistent = w_inconsistent || died }
  ok = true;
  if
#ifdef MUTANT_NO_FLAG
  :: died ->
#else
  :: died || needs_recovery ->
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
     w_inconsistent = false;
     if
     :: ok
     :: else -> unlock_w()
     fi
  :: else
  fi;
  died = false; e = 0
}

inline unlock_w() {
  atomic { assert(!w_inconsistent); w_owner = NOBODY }
}

inline try_write_lock(got) {
  atomic {
    got = !write_locked[epoch & 1] && read_locks[epoch & 1] == 0;
    write_locked[epoch & 1] = write_locked[epoch & 1] || got
  }
}

/* exclude_readers() */
inline exclude_readers(ok) {
  try_write_lock(got);
  if
  :: got
  :: else ->
     wait = true;
     do
     :: ok ->
        try_write_lock(got);
        if
        :: got -> break
        :: else
        fi;
        look_for_live_slot(epoch, found);
        if
        :: !found -> switch_epoch(ok)
        :: else ->
           if
           :: read_locks[epoch & 1] == 0
           :: (slot_owner[0] == NOBODY || hold[0] - 1 > epoch) && (slot_owner[1] == NOBODY || hold[1] - 1 > epoch)
           :: atomic { timeouts_left > 0 -> timeouts_left--; ok = false }
           fi
        fi
     :: else -> break
     od;
     wait = false
  fi;
  e = 0; got = false; found = false
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
  bool ok, died, got, found;
  byte e, s;
  lock_w(ok);
  if
  :: ok ->
     exclude_readers(ok);
     if
     :: ok ->
        assert(!half_written);
        begin_writing();
        end_writing();
        write_locked[epoch & 1] = false
     :: else
     fi;
     unlock_w()
  :: else
  fi;
  atomic { done[me] = true; ok = false }
}

proctype Reader(byte me) provided (!dead[me]) {
  bool ok, died, got;
  byte e, s, mine, tries;
  do
  :: !got && tries < TRIES ->
     tries++;
     /* lock_any_slot() */
     if
     :: d_step { slot_owner[0] == NOBODY -> mine = 0; take_slot(mine) }
     :: d_step { slot_owner[1] == NOBODY -> mine = 1; take_slot(mine) }
     :: slot_owner[0] != NOBODY && slot_owner[1] != NOBODY -> break
     fi;
     e = epoch;
#ifdef MUTANT_LOOK_BEFORE_ANNOUNCING
     if
     :: epoch != e || wait || needs_recovery -> goto withdraw
     :: else
     fi;
     hold[mine] = e + 1;
#else
     hold[mine] = e + 1;
#ifndef MUTANT_NO_LOOK
     if
     :: epoch != e -> goto withdraw
     :: else
     fi;
#endif
#ifndef MUTANT_IGNORE_WAIT
     if
     :: wait -> goto withdraw
     :: else
     fi;
#endif
     if
     :: needs_recovery -> goto withdraw
     :: else
     fi;
#endif
     if  /* tryrdlock */
     :: write_locked[e & 1] -> goto withdraw
     :: d_step { !write_locked[e & 1] -> read_locks[e & 1]++; holds_rw[me] = 1 + (e & 1) }
     fi;
#ifndef MUTANT_NO_SECOND_LOOK
     if
     :: epoch != e -> goto give_back
     :: else
     fi;
#endif
     d_step { assert(!half_written); reading[me] = true };
     d_step { assert(!half_written); reading[me] = false };
     got = true;
give_back:
     atomic { read_locks[e & 1]--; holds_rw[me] = 0 };
withdraw:
     hold[mine] = 0;
     slot_owner[mine] = NOBODY
  :: else -> break
  od;
  e = 0; mine = 0;
  if
  :: got
  :: else ->
     lock_w(ok);
     if
     :: ok ->
        assert(!half_written);
        unlock_w()
     :: else
     fi
  fi;
  atomic { done[me] = true; ok = false; got = false; e = 0; mine = 0; tries = 0 }
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
    od
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
