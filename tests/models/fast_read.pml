/*
 * The read without a lock, as Shard::lookup() in core/shard/shard_lookup.h does it, and Shard::read_redo() in
 * core/shard/shard_read.cpp when the value is being overwritten; against everything that a writer does to the same key:
 * replace, overwrite in place, delete, insert with the same entry or another, the split of its bucket, the reuse of
 * its block for another key, and the rebuild of the shard; and against the death of the writer at any step. Names are
 * those of the code.
 *
 * One writer, since W serialises writers. When it is killed, the next one recovers, in which it may be killed too,
 * and goes on. A process uses its redo record for other shards as well, and whoever takes over its slot after its
 * death does: neither knows of this shard's W. Two entries and three blocks are enough for each to be reused while
 * the reader still looks at it. Sequential consistency is assumed; that the code's fences give it where it matters is
 * not for this model to show.
 *
 * Checked: a value that was found is whole, and was the key's value at some moment of the read; a miss means that the
 * key was absent at some moment of the read; after a recovery no entry is half overwritten, and each key has the
 * value that was committed last, and can be found.
 *
 * With deaths (DEATHS > 0) the first free entry is taken, not any, and the writer neither rebuilds without need nor
 * overwrites in another shard: the one is what follows a death anyway, and the other is what the new owner of its
 * slot does.
 */

#ifndef STEPS
#define STEPS 3   /* Operations of the writers. */
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#define ENTRIES 2
#define BLOCKS 3
#define RECORDS 2
#define NONE 0
#define KEY 1     /* The one that is read; it moves to bucket 1 when there are two cells. */
#define OTHER 2   /* It stays in bucket 0. */
#define ELSEWHERE 200  /* A value that belongs into another shard. */

/* ---- shared memory; index 0 of entries, blocks and records means none ---- */

byte seq;
byte cells = 1;
byte version[2];
byte slot[2 * ENTRIES];            /* Two of each bucket. */
byte entry_key[ENTRIES + 1];       /* The hash. */
bool ref_live[ENTRIES + 1];        /* ref: live bit, ... */
byte ref_generation[ENTRIES + 1];  /* ... generation, ... */
byte ref_block[ENTRIES + 1];       /* ... block. One word: read and written in one step. */
byte block_key[BLOCKS + 1];
byte block_low[BLOCKS + 1];        /* The two halves of the value, and of what the header says of it. */
byte block_high[BLOCKS + 1];
byte redo;                         /* The number of a process slot, whose redo record says what is being overwritten. */
byte record_generation[RECORDS + 1];  /* ref, which is one word and never live; ... */
byte record_block[RECORDS + 1];
byte record_entry[RECORDS + 1];       /* ... the entry; ... */
byte record_low[RECORDS + 1];         /* ... and what the block is to become. */
byte record_high[RECORDS + 1];

/* ---- under W, and what only the checks see ---- */

bool block_used[BLOCKS + 1];
byte me = 1;          /* The writer's process slot; 0 after a death, until the next writer has recovered. */
byte steps;
byte deaths;
bool killed;
bool slot_is_taken;   /* Slot 1, by a process that does not write here. */
byte value[3];        /* Of each key, the last that was committed. */
bool stored[3];       /* Whether it has one. */
bool key_is_there;    /* KEY, as far as anybody was told. */
byte oldest_value;    /* That KEY had when the read began; 0 if it was absent. */
bool was_absent;      /* At some moment of the read. */
bool read_ended;

#define bucket_of(key, count) (((key) == KEY && (count) == 2) -> 1 : 0)

#include "shard_writer.pml"

proctype Writer() provided (!read_ended) {
  byte key, id, block, place;
life:
  {
    if
    :: me == 0 ->
       rebuild();
       d_step { assert_shard_is_right(); key_is_there = stored[KEY]; me = (slot_is_taken -> 2 : 1) }
    :: d_step { me != 0 -> key = KEY }
       put()
    fi;
    do
    :: atomic {
         steps < STEPS -> steps++;
         if
         :: key = KEY
         :: key = OTHER
         fi;
         find_entry() }
       if
       :: put()
       :: overwrite()
       :: remove()
       :: split()
       :: d_step { DEATHS == 0 && key == KEY -> forget() }
          if
          :: rebuild()
          :: use_record_elsewhere(me)
          fi
       fi
    :: steps == STEPS -> break
    od
  } unless {
    atomic { killed -> killed = false; me = 0; forget(); goto life }
  }
}

proctype Death() provided (!read_ended) {
  do
  :: atomic { deaths < DEATHS && !killed -> deaths++; killed = true }
  od
}

/* Whoever takes over the slot of a dead process makes sure first that no shard names it: Shard::replay_redo(). */
proctype Successor() provided (!killed && !read_ended) {
#ifdef MUTANT_TAKE_OVER_AT_ONCE
  d_step { me != 1 -> slot_is_taken = true }
#else
  d_step { me != 1 && redo != 1 -> slot_is_taken = true }
#endif
  use_record_elsewhere(1)
}

/* ---- the reader ---- */

proctype Reader() provided (!killed) {
  byte my_seq, my_cells, my_version, b, i, id, generation, block, from, low, high;
  bool live, found;
  d_step {
    oldest_value = (key_is_there -> value[KEY] : 0); was_absent = !key_is_there;
    my_seq = seq
  };
  atomic {
    my_cells = cells; b = bucket_of(KEY, my_cells);
    if
    :: my_seq & 1 -> goto end
    :: else
    fi
  };
  my_version = version[b];
  do
  :: d_step { i < 2 && !found -> id = slot[2 * b + i]; i++ }
     if
     :: id == NONE || entry_key[id] != KEY
     :: else ->
        d_step {
#ifdef MUTANT_BUSY_IS_LIVE
          live = ref_live[id] || ref_block[id] != NONE;
#else
          live = ref_live[id];
#endif
          generation = ref_generation[id]; block = ref_block[id] };
        if
        :: d_step { live -> found = (block_key[block] == KEY) }
           if
           :: d_step { found -> low = block_low[block] }
              high = block_high[block]
           :: d_step { !found -> skip }
           fi
        :: !live && block == NONE
#ifdef MUTANT_BUSY_IS_ABSENT
        :: !live && block != NONE
#else
        :: !live && block != NONE -> goto end
        :: atomic { !live && block != NONE ->
             from = redo;
             if
             :: from == 0 -> goto end
             :: else
             fi }
           if
           :: record_generation[from] != generation || record_block[from] != block -> goto end
           :: else
           fi;
           if
           :: record_entry[from] != id -> goto end
           :: else
           fi;
#ifndef MUTANT_RECORD_OF_ANY_KEY
           if
           :: block_key[block] != KEY -> goto end
           :: else
           fi;
#endif
           d_step { low = record_low[from]; found = true };
           high = record_high[from]
#endif
        fi;
        /* The ref again. */
        if
#ifndef MUTANT_NO_RECHECK
        :: live && (!ref_live[id] || ref_generation[id] != generation) -> goto end
#endif
#ifndef MUTANT_NO_RECORD_RECHECK
        :: !live && block != NONE && (ref_live[id] || ref_generation[id] != generation) -> goto end
#endif
        :: else
        fi
     fi
  :: atomic {
       i == 2 || found ->
       if
       :: seq != my_seq -> goto end
       :: else
       fi;
       if
       :: found -> assert(low == high && low >= oldest_value && low <= value[KEY]); goto end
       :: else
       fi }
     break
  od;
#ifndef MUTANT_BELIEVE_A_MISS
  if
  :: (my_version & 1) || version[b] != my_version -> goto end
  :: else
  fi;
  if
  :: cells != my_cells -> goto end
  :: else
  fi;
#endif
  assert(was_absent);
end:
  read_ended = true
}

init {
  value[OTHER] = 100;
  atomic {
    run Writer();
    run Reader();
    if
    :: DEATHS > 0 -> run Death(); run Successor()
    :: else
    fi
  }
}
