/*
 * Holding a value in place without a lock: Shard::pin() in core/shard/shard_lookup.h, against everything that a writer does to
 * the same key: replace, overwrite in place, move, delete, insert, the reuse of its block, the look at the orphans, and
 * the rebuild of the shard; and against the death of a viewer or of the writer at any step. Names are those of the code.
 *
 * One writer, since W serialises writers. When it is killed the next one recovers, in which it may be killed too. Two
 * viewers, each of which views once. Sequential consistency is assumed; that the code's fences give it where it matters
 * is not for this model to show.
 *
 * Checked: as long as a pin is confirmed, the block holds what it held; that was the key's value at some moment of the
 * call; when all pins have ended and the orphans have been looked at, every block is the key's or free.
 */

#ifndef STEPS
#define STEPS 3          /* Operations of the writer. */
#endif
#ifndef VIEWER_DEATHS
#define VIEWER_DEATHS 1
#endif
#ifndef WRITER_DEATHS
#define WRITER_DEATHS 0
#endif
#ifndef VIEWERS
#define VIEWERS 2        /* 1 or 2. */
#endif
#define BLOCKS 3
#define NONE 0
#define GARBAGE 99       /* What another key writes into a block that it has got. */

/* ---- shared memory; block 0 means none ---- */

byte seq;
bool live, viewed;       /* ref: one word, read and written in one step: live bit, viewed bit, ... */
byte generation;         /* ... generation, ... */
byte block;              /* ... block. */
byte content[BLOCKS + 1];
byte pin[2];             /* The word of the one pin of each process: the block, ... */
bool pin_is_new[2];/* ... and whether it is not confirmed yet. */

/* ---- under W, and what only the checks see ---- */

bool used[BLOCKS + 1];   /* The headers of the blocks: truth. */
bool orphan[BLOCKS + 1]; /* In the ring. */
byte value;              /* The last that was committed. */
byte steps, viewer_deaths, writer_deaths;
bool killed, dead[2], ended[2];
byte oldest[2];    /* The value when the call began. */

inline set_ref(is_live, to) { live = is_live; viewed = false; generation++; block = to }

inline holds(b, result) {
#ifdef MUTANT_NEW_PINS_IGNORED
  result = (pin[0] == b && !pin_is_new[0]) || (pin[1] == b && !pin_is_new[1])
#else
  result = pin[0] == b || pin[1] == b
#endif
}

/* A block that nobody has; what another key writes into it stands for all that may become of it. */
inline free_block(b) { d_step { used[b] = false; content[b] = GARBAGE } }

/* old: the block that the entry has let go of; was_viewed: what the exchange of the ref said. */
inline give_up() {
  if
  :: !was_viewed -> free_block(old)
  :: was_viewed ->
     d_step { holds(old, held) };
     if
     :: held -> orphan[old] = true
     :: !held -> free_block(old)
     fi
  fi
}

/* Each in two steps, between which a viewer may come. */
inline reclaim_retired() {
  b = 1;
  do
  :: d_step { b <= BLOCKS && orphan[b] -> holds(b, held) }
     if
     :: d_step { !held -> orphan[b] = false; used[b] = false; content[b] = GARBAGE; b++ }
     :: d_step { held -> b++ }
     fi
  :: d_step { b <= BLOCKS && !orphan[b] -> b++ }
  :: b > BLOCKS -> break
  od;
  skip
}

inline allocate() {
  d_step {
    fresh = NONE;
    if
    :: !used[1] -> fresh = 1
    :: used[1] && !used[2] -> fresh = 2
    :: used[1] && used[2] && !used[3] -> fresh = 3
    :: else
    fi;
    if
    :: fresh != NONE -> used[fresh] = true; orphan[fresh] = false
    :: else
    fi
  }
}

/* Another value, or the same one in another place, in a block of its own. */
inline replace(next) {
  allocate();
  if
  :: fresh == NONE
  :: fresh != NONE ->
     content[fresh] = next;
#ifdef MUTANT_BIT_READ_BEFORE
     d_step { old = block; was_viewed = viewed };
     d_step { set_ref(true, fresh); value = next };
#else
     d_step { old = block; was_viewed = viewed; set_ref(true, fresh); value = next };
#endif
     give_up()
  fi
}

inline remove() {
#ifdef MUTANT_LOOK_BEFORE_THE_REF
  d_step { old = block; was_viewed = viewed; holds(old, held) };
  d_step { set_ref(false, NONE) };
  if
  :: held -> orphan[old] = true
  :: !held -> free_block(old)
  fi
#else
  d_step { old = block; was_viewed = viewed; set_ref(false, NONE) };
  give_up()
#endif
}

inline insert(next) {
  allocate();
  if
  :: fresh == NONE
  :: fresh != NONE -> content[fresh] = next; d_step { set_ref(true, fresh); value = next }
  fi
}

/* The redo record is left out: that no half of a value is ever taken is for fast_read.pml to show. */
inline overwrite(next) {
#ifdef MUTANT_OVERWRITE_UNSEEN
  if
  :: viewed
  :: !viewed -> d_step { live = false; generation++; value = next };
#else
  if
  :: d_step { viewed -> skip }
  :: d_step { !viewed -> live = false; generation++; value = next };
#endif
     content[block] = next;
     d_step { live = true; viewed = false }
  fi
}

/* The key may lose its place: when its bucket is full of others, or what leads to it is damaged. Its block is given up in
   the walk then, and its entry, which still names it, after that; a second rebuild finds it so. */
inline rebuild() {
#ifdef MUTANT_CENSUS_BEFORE_SEQ
  d_step { holds(1, held1); holds(2, held2); holds(3, held3) };
  seq = seq | 1;
#else
  seq = seq | 1;
  d_step { holds(1, held1); holds(2, held2); holds(3, held3) };
#endif
  if
  :: d_step { !live && block != NONE -> live = true; content[block] = value }
  :: else
  fi;
  if
  :: used[block] -> drops = false
  :: drops = true
  fi;
  /* The walk: nobody looks at these words while it lasts. */
  d_step {
    b = 1;
    do
    :: b <= BLOCKS ->
       if
       :: live && block == b && !drops -> orphan[b] = false
       :: !(live && block == b && !drops) && ((b == 1 && held1) || (b == 2 && held2) || (b == 3 && held3)) ->
          used[b] = true; orphan[b] = true
       :: else -> orphan[b] = false; used[b] = false; content[b] = GARBAGE
       fi;
       b++
    :: b > BLOCKS -> break
    od;
    held1 = false; held2 = false; held3 = false; b = 0
  };
  if
  :: d_step { drops && live -> set_ref(false, NONE) }
  :: d_step { else -> skip }
  fi;
  seq++
}

proctype Writer() {
  byte fresh, old, b, next = 1;
  bool was_viewed, held, held1, held2, held3, drops, recovers;
life:
  {
    if
    :: recovers -> rebuild(); recovers = false
    :: !recovers
    fi;
    do
    :: atomic { steps < STEPS -> steps++; next = steps + 1 }
       if
       :: live -> replace(next)
       :: live -> replace(value)
       :: live -> overwrite(next)
       :: live -> remove()
       :: !live -> insert(next)
       :: rebuild()
       :: reclaim_retired()
       fi
    :: steps == STEPS -> break
    od;
    /* All are gone, and their pins are ended. */
    (ended[0] && ended[1]);
    reclaim_retired();
    d_step {
      b = 1;
      do
      :: b <= BLOCKS -> assert(!used[b] || (live && block == b)); assert(!orphan[b]); b++
      :: b > BLOCKS -> break
      od
    }
  } unless {
    atomic { killed -> killed = false; recovers = true; goto life }
  }
}

proctype Death() {
  do
  :: atomic { writer_deaths < WRITER_DEATHS && !killed -> writer_deaths++; killed = true }
  :: atomic { viewer_deaths < VIEWER_DEATHS -> viewer_deaths++;
       if
       :: !ended[0] -> dead[0] = true
       :: !ended[1] -> dead[1] = true
       fi }
  od
}

/* Takes the dead out of the process table. */
proctype Cleaner(byte me) {
  dead[me];
  pin[me] = NONE;
  ended[me] = true
}

proctype Viewer(byte me) {
  byte my_seq, my_generation, my_block, found;
  bool was_viewed;
  {
    d_step { oldest[me] = value; my_seq = seq };
    if
    :: my_seq & 1 -> goto end
    :: else
    fi;
    d_step { my_generation = generation; my_block = block; was_viewed = viewed;
      if
      :: live -> found = 1
      :: !live -> found = 0
      fi };
    if
    :: found == 0 -> goto end    /* Absent, or being overwritten: pin_locked() waits for W. */
    :: else
    fi;
#ifndef MUTANT_PIN_AFTER_THE_LAST_LOOK
    d_step { pin[me] = my_block; pin_is_new[me] = true };
#endif
#ifndef MUTANT_NO_BIT
    if
    :: !was_viewed -> d_step {
         if
         :: live && generation == my_generation && block == my_block && !viewed -> viewed = true
         :: else
         fi }
    :: was_viewed
    fi;
#endif
#ifndef MUTANT_NO_LAST_LOOK
    if
    :: d_step { !live || generation != my_generation || block != my_block -> skip }; goto drop
    :: else
    fi;
#endif
#ifndef MUTANT_NO_SEQ
    if
    :: seq != my_seq -> goto drop
    :: else
    fi;
#endif
#ifdef MUTANT_PIN_AFTER_THE_LAST_LOOK
    d_step { pin[me] = my_block; pin_is_new[me] = true };
#endif
    pin_is_new[me] = false;
    found = content[my_block];
    assert(found >= oldest[me] && found <= value);
    assert(content[my_block] == found);
drop:
    pin[me] = NONE;
end:
    ended[me] = true
  } unless {
    dead[me]
  }
}

init {
  atomic {
    content[1] = 1; used[1] = true; live = true; block = 1; value = 1;
    run Writer();
    run Viewer(0); run Cleaner(0);
    if
    :: VIEWERS > 1 -> run Viewer(1); run Cleaner(1)
    :: else -> ended[1] = true
    fi;
    if
    :: VIEWER_DEATHS + WRITER_DEATHS > 0 -> run Death()
    :: else
    fi
  }
}
