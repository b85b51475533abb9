/*
 * The read without a lock, as Shard::lookup() in core/shard_read.cpp does it, against everything that a writer does to the
 * same key: replace, delete, insert with the same entry or another, the split of its bucket, the reuse of its block for
 * another key, and the rebuild of the shard. Names are those of the code.
 *
 * One writer, since W serialises writers; a writer that is killed is one that takes no further step, which is among the
 * interleavings anyway, and Rebuild is what the next one does. Two entries and three blocks are enough for each to be
 * reused while the reader still looks at it. Sequential consistency is assumed; that the code's fences give it where it
 * matters is not for this model to show.
 *
 * Checked: a value that was found is whole, and was the key's value at some moment of the read; a miss means that the key was
 * absent at some moment of the read.
 */

#ifndef STEPS
#define STEPS 3   /* Operations of the writer. */
#endif
#define ENTRIES 2
#define BLOCKS 3
#define NONE 0
#define KEY 1     /* The one that is read; it moves to bucket 1 when there are two cells. */
#define OTHER 2   /* It stays in bucket 0. */

/* ---- shared memory; index 0 of entries and blocks means none ---- */

byte seq;
byte cells = 1;
byte version[2];
byte slot[2 * ENTRIES];            /* Two of each bucket. */
byte entry_key[ENTRIES + 1];       /* The hash. */
bool ref_live[ENTRIES + 1];        /* ref: live bit, ... */
byte ref_generation[ENTRIES + 1];  /* ... generation, ... */
byte ref_block[ENTRIES + 1];       /* ... block. One word: read and written in one step. */
byte block_key[BLOCKS + 1];
byte block_low[BLOCKS + 1];        /* The two halves of the value. */
byte block_high[BLOCKS + 1];

/* ---- the writer's own, and what only the checks see ---- */

bool block_used[BLOCKS + 1];
byte value;           /* The last that was stored for KEY; 0 before the first. */
bool key_is_there;
byte oldest_value;    /* That KEY had when the read began; 0 if it was absent. */
bool was_absent;      /* At some moment of the read. */
bool read_ended;

#define bucket_of(key, count) (((key) == KEY && (count) == 2) -> 1 : 0)

/* ---- the writer ---- */

inline write_begin(b) { version[b] = version[b] | 1 }
inline write_end(b) { version[b] = version[b] + 1 }

inline find_entry(key) {
  d_step {
    id = NONE;
    if
    :: ref_live[1] && entry_key[1] == key -> id = 1
    :: ref_live[2] && entry_key[2] == key -> id = 2
    :: else
    fi
  }
}

inline fill_block(key) {
  if
  :: d_step { !block_used[1] -> block = 1; block_used[1] = true }
  :: d_step { block_used[1] && !block_used[2] -> block = 2; block_used[2] = true }
  :: d_step { block_used[1] && block_used[2] -> block = 3; block_used[3] = true }
  fi;
  block_key[block] = key;
  block_low[block] = value + 1;
  block_high[block] = value + 1
}

/* The commit of a put. */
inline store_ref(key) {
  d_step {
    old = ref_block[id];
    ref_generation[id]++; ref_block[id] = block; ref_live[id] = true;
    if
    :: key == KEY -> value++
    :: else
    fi
  }
}

inline link() {
#ifndef MUTANT_NO_VERSION
  write_begin(bucket_of(entry_key[id], cells));
#endif
  place = 2 * bucket_of(entry_key[id], cells);
  if
  :: slot[place] == NONE -> slot[place] = id
  :: else -> slot[place + 1] = id
  fi;
#ifndef MUTANT_NO_VERSION
  write_end(bucket_of(entry_key[id], cells))
#endif
}

/* The first moves into the gap of the other, as an overflow chain moves up. */
inline unlink() {
  place = 2 * bucket_of(entry_key[id], cells);
#ifndef MUTANT_NO_VERSION
  write_begin(bucket_of(entry_key[id], cells));
#endif
  if
  :: slot[place] == id -> slot[place] = slot[place + 1]
  :: else
  fi;
  slot[place + 1] = NONE;
#ifndef MUTANT_NO_VERSION
  write_end(bucket_of(entry_key[id], cells))
#endif
}

inline put(key) {
  find_entry(key);
  if
  :: id != NONE ->
     fill_block(key);
#ifdef MUTANT_OVERWRITE
     block_used[block] = false; block = ref_block[id];
     block_low[block] = value + 1; block_high[block] = value + 1;
#endif
     store_ref(key);
#ifdef MUTANT_OVERWRITE
     old = NONE;
#endif
     block_used[old] = false
  :: else ->
     if
     :: !ref_live[1] -> id = 1
     :: !ref_live[2] -> id = 2
     fi;
     fill_block(key);
     entry_key[id] = key;
     store_ref(key);
     link();  /* Nobody was told of the put before it can be found. */
     key_is_there = key_is_there || key == KEY
  fi;
  id = NONE; block = NONE; old = NONE; place = 0
}

inline remove(key) {
  find_entry(key);
  if
  :: id != NONE ->
#ifdef MUTANT_FREE_FIRST
     block_used[ref_block[id]] = false; block_key[ref_block[id]] = OTHER; block_low[ref_block[id]] = 99;
#endif
     d_step {
       old = ref_block[id];
       ref_live[id] = false; ref_generation[id]++; ref_block[id] = NONE;
       if
       :: key == KEY -> key_is_there = false; was_absent = true
       :: else
       fi
     }
     unlink();
     block_used[old] = false
  :: else
  fi;
  id = NONE; old = NONE; place = 0
}

/* Index::split() */
inline split() {
  if
  :: cells == 1 ->
     write_begin(0);
#ifndef MUTANT_NEW_BUCKET_EVEN
     write_begin(1);
#endif
     d_step { id = slot[0]; old = slot[1] }
     slot[0] = NONE; slot[1] = NONE;
     cells = 2;
     if
     :: id != NONE -> slot[2 * bucket_of(entry_key[id], 2)] = id
     :: else
     fi;
     if
     :: old != NONE -> slot[2 * bucket_of(entry_key[old], 2) + 1] = old
     :: else
     fi;
#ifndef MUTANT_NEW_BUCKET_EVEN
     write_end(1);
#endif
     write_end(0)
  :: else
  fi;
  id = NONE; old = NONE
}

/* Shard::rebuild(), from the refs. */
inline rebuild() {
#ifndef MUTANT_NO_SEQ
  seq = seq | 1;
#endif
  slot[0] = NONE; slot[1] = NONE; slot[2] = NONE; slot[3] = NONE;
  if
  :: ref_live[1] -> slot[2 * bucket_of(entry_key[1], cells)] = 1
  :: else
  fi;
  if
  :: ref_live[2] -> slot[2 * bucket_of(entry_key[2], cells) + 1] = 2
  :: else
  fi;
#ifndef MUTANT_NO_SEQ
  seq = seq + 1
#endif
}

proctype Writer() {
  byte steps, id, block, old, place;
  put(KEY);
  do
  :: steps < STEPS && !read_ended ->
     steps++;
     if
     :: put(KEY)
     :: remove(KEY)
     :: put(OTHER)
     :: remove(OTHER)
     :: split()
     :: rebuild()
     fi
  :: else -> break
  od
}

/* ---- the reader ---- */

proctype Reader() {
  byte my_seq, my_cells, my_version, b, i, id, generation, block, low, high;
  bool found, moved;
  d_step { oldest_value = (key_is_there -> value : 0); was_absent = !key_is_there };

  my_seq = seq;
  my_cells = cells;
  if
  :: my_seq & 1 -> goto unstable
  :: else
  fi;
  b = bucket_of(KEY, my_cells);
  my_version = version[b];
  do
  :: i < 2 && !found && !moved ->
     id = slot[2 * b + i];
     i++;
     if
     :: id != NONE && entry_key[id] == KEY ->
        d_step { generation = ref_generation[id]; block = (ref_live[id] -> ref_block[id] : NONE) };
        if
        :: block != NONE ->
           found = (block_key[block] == KEY);
           low = block_low[block];
           high = block_high[block];
#ifndef MUTANT_NO_RECHECK
           moved = (ref_generation[id] != generation)
#endif
        :: else
        fi
     :: else
     fi
  :: else -> break
  od;
  if
  :: moved || seq != my_seq -> goto unstable
  :: else
  fi;
  if
  :: found ->
     assert(low == high);
     assert(low >= oldest_value && low <= value)
  :: else ->
#ifndef MUTANT_BELIEVE_A_MISS
     if
     :: (my_version & 1) || version[b] != my_version || cells != my_cells -> goto unstable
     :: else
     fi;
#endif
     assert(was_absent)
  fi;
unstable:
  read_ended = true
}

init {
  atomic { run Writer(); run Reader() }
}
