/*
 * The process table: entering it, leaving it, cleaning up after the dead, and the passing of a segment from one pid
 * namespace to another, against the death of any process at any step and a damaged slot. Names are those of
 * core/cache/residence.cpp and core/cache/processes.cpp.
 *
 * Process 1 is a child of process 0, forked while that has a slot. Process 2 is of another pid namespace. One operation
 * of the kernel on several semaphores is one step, and so is what it does when a process ends.
 *
 * Checked: two live processes never have one slot; all that may lock are of one pid namespace.
 */

#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef ROUNDS
#define ROUNDS 1          /* How often each process enters. */
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef DAMAGE
#define DAMAGE 1          /* Slots that are overwritten by zeros. */
#endif
#ifndef CHILD_NAMESPACE
#define CHILD_NAMESPACE 0 /* 1: the child is the first process of a new one. */
#endif
#define PROCESSES 3
#define NONE 0            /* Processes and slots are stored as their number + 1. */

#define namespace(p) ((p) == 2 || ((p) == 1 && CHILD_NAMESPACE == 1))

/* ---- shared memory ---- */

byte owner[SLOTS];         /* The pid in each slot. */
bool pid_namespace;
byte registry;            /* The robust mutex: who holds it. */

/* ---- the kernel's semaphores, and what it takes back when a process ends ---- */

byte mark[SLOTS];         /* Who set it. */
byte present;             /* How many have arrived. */
bool counted[PROCESSES];  /* Who of them. */
byte moving;              /* Who takes over. */

/* ---- what each process believes of itself ---- */

bool alive[PROCESSES] = true;
bool may_lock[PROCESSES];
byte slot_of[PROCESSES];

byte deaths, damages;

inline check(me) {
  d_step {
    other = 0;
    do
    :: other < PROCESSES ->
       assert(other == me || !alive[other] || slot_of[me] == NONE || slot_of[other] != slot_of[me]);
       assert(other == me || !alive[other] || !may_lock[me] || !may_lock[other] || namespace(other) == namespace(me));
       other++
    :: else -> break
    od;
    other = 0
  }
}

inline leave() { d_step { may_lock[me] = false; counted[me] = false; present-- } }

/* arrive() with take_over(). `ok` is false if this process is refused. */
inline arrive() {
  do
#ifdef MUTANT_UNCHECKED
  :: d_step { present++; counted[me] = true } ok = true; break
#else
  :: pid_namespace != namespace(me) ->
     ok = false;
     d_step {
       if
#ifdef MUTANT_TAKE_FROM_THE_LIVING
       :: moving == NONE -> present++; counted[me] = true; moving = me + 1; ok = true
#else
       :: present == 0 && moving == NONE -> present++; counted[me] = true; moving = me + 1; ok = true
#endif
       :: else -> skip
       fi
     }
     if
     :: !ok -> break
     :: ok -> pid_namespace = namespace(me); moving = NONE; break
     fi
#ifdef MUTANT_ARRIVE_WHILE_MOVING
  :: pid_namespace == namespace(me) -> d_step { present++; counted[me] = true }
#else
  :: pid_namespace == namespace(me) -> atomic { moving == NONE -> present++; counted[me] = true }
#endif
#ifdef MUTANT_NO_SECOND_LOOK
     ok = true; break
#else
     if
     :: pid_namespace == namespace(me) -> ok = true; break
     :: else -> leave()
     fi
#endif
#endif
  od
}

#ifdef MUTANT_PID_DECIDES
/* A pid says nothing to a process of another namespace. */
#define is_dead(s) (mark[s] == NONE || namespace(owner[s] - 1) != namespace(me))
#define is_free(s) true
#elif defined(MUTANT_MARK_UNSEEN)
#define is_dead(s) (mark[s] == NONE)
#define is_free(s) true
#else
#define is_dead(s) (mark[s] == NONE)
#define is_free(s) (mark[s] == NONE)
#endif

inline retire_dead() {
  s = 0;
  do
  :: s < SLOTS && owner[s] != NONE && is_dead(s) -> owner[s] = NONE; s++
  :: s < SLOTS && (owner[s] == NONE || !is_dead(s)) -> s++
  :: s == SLOTS -> s = 0; break
  od
}

/* enter(): `entered` is the slot + 1. */
inline enter() {
  s = 0;
  do
  :: s < SLOTS && owner[s] != NONE -> s++
  :: s < SLOTS && owner[s] == NONE ->
     d_step { if :: is_free(s) -> mark[s] = me + 1; entered = s + 1 :: else -> s++ fi }
     if
     :: entered != NONE -> owner[s] = me + 1; s = 0; break
     :: else -> skip
     fi
  :: s == SLOTS -> s = 0; break
  od
}

proctype process(byte me) provided (alive[me]) {
  byte rounds, s, entered, other;
  bool ok;
  if
  :: me == 1 ->
     slot_of[0] != NONE;
#ifdef MUTANT_NOT_WIPED
     slot_of[1] = slot_of[0]; check(me)
#endif
  :: else -> skip
  fi;
  do
  :: rounds < ROUNDS ->
     rounds++;
     arrive();
     if
     :: !ok -> goto next
     :: ok -> may_lock[me] = true; check(me)
     fi;
     atomic { registry == NONE -> registry = me + 1 }
     enter();
     if
     :: entered == NONE -> retire_dead(); enter()
     :: else -> skip
     fi;
     if
     :: entered != NONE -> slot_of[me] = entered; check(me); entered = NONE
     :: else -> skip
     fi;
     registry = NONE;
     /* Works. */
     if
     :: slot_of[me] != NONE ->
        atomic { registry == NONE -> registry = me + 1 }
        s = slot_of[me] - 1; slot_of[me] = NONE;
        owner[s] = NONE;
        mark[s] = NONE; registry = NONE;
        s = 0
     :: else -> skip
     fi;
     skip; leave();
next: skip
  :: else -> break
  od
}

proctype kernel() {
  byte p, s;
  do
  :: deaths < DEATHS ->
     select (p : 0 .. 2); skip;
     d_step {
       if
       :: alive[p] ->
          alive[p] = false; deaths++;
          registry = (registry == p + 1 -> NONE : registry);
          moving = (moving == p + 1 -> NONE : moving);
          present = (counted[p] -> present - 1 : present);
          counted[p] = false;
          s = 0;
          do
          :: s < SLOTS -> mark[s] = (mark[s] == p + 1 -> NONE : mark[s]); s++
          :: else -> break
          od;
          s = 0
       :: else -> skip
       fi
     }
  :: damages < DAMAGE -> select (s : 0 .. SLOTS - 1); skip; d_step { owner[s] = NONE; damages++; s = 0 }
  :: true -> break
  od
}

init { atomic { run process(0); run process(1); run process(2); run kernel() } }
