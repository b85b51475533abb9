/*
 * What a writer does to a shard while it holds W, for fast_read.pml, which has the shared memory: the operations of
 * core/shard/shard_write.cpp, core/shard/shard_overwrite.cpp and core/shard/index.cpp, and the recovery after a death,
 * core/shard/shard_rebuilder.cpp. What is a step here is a store of a shared word there. What a writer loads nobody else
 * changes, so that it goes with the next store, as does what only the writer or the checks see.
 */

inline write_begin(b) { version[b] = version[b] | 1 }
inline write_end(b) { version[b] = version[b] + 1 }

/* The variables of an operation, which are lost with the writer. */
inline forget() { key = NONE; id = NONE; block = NONE; place = 0 }

inline find_entry() {
  id = (ref_live[1] && entry_key[1] == key -> 1 : (ref_live[2] && entry_key[2] == key -> 2 : NONE))
}

inline find_place() { place = 2 * bucket_of(entry_key[id], cells) }

/* ---- one key: `key`, whose entry is `id` if it has one ---- */

/* The commit of a put. */
inline store_ref() {
  block_used[ref_block[id]] = false;
  ref_generation[id]++; ref_block[id] = block; ref_live[id] = true;
  value[key]++; stored[key] = true
}

inline link() {
  d_step {
    find_place();
    place = (slot[place] == NONE -> place : place + 1);
#ifndef MUTANT_NO_VERSION
    write_begin(place / 2)
#endif
  }
  slot[place] = id;
#ifndef MUTANT_NO_VERSION
  write_end(place / 2)
#endif
}

/* The first moves into the gap of the other, as an overflow chain moves up. */
inline unlink() {
#ifdef MUTANT_NO_VERSION
  d_step { find_place() }
#else
  d_step { find_place(); write_begin(place / 2) }
#endif
  slot[place] = (slot[place] == id -> slot[place + 1] : slot[place]);
  slot[place + 1] = NONE;
#ifndef MUTANT_NO_VERSION
  write_end(place / 2)
#endif
}

inline put() {
  d_step {
    block = (!block_used[1] -> 1 : (!block_used[2] -> 2 : 3));
    assert(!block_used[block]);
#ifdef MUTANT_OVERWRITE
    block = (id != NONE -> ref_block[id] : block);
#endif
    block_used[block] = true;
    block_key[block] = key
  }
  block_low[block] = value[key] + 1;
  block_high[block] = value[key] + 1;
  if
  :: d_step { id != NONE -> store_ref(); block_used[block] = true; forget() }
  :: id == NONE ->
     if
     :: d_step { !ref_live[1] -> id = 1; entry_key[1] = key }
     :: d_step { !ref_live[2] && (DEATHS == 0 || ref_live[1]) -> id = 2; entry_key[2] = key }
     fi;
     d_step { store_ref() }
     link();
     d_step { key_is_there = stored[KEY]; forget() }  /* Nobody was told of the put before. */
  fi
}

inline remove() {
#ifdef MUTANT_FREE_FIRST
  id != NONE;
  block_used[ref_block[id]] = false; block_key[ref_block[id]] = OTHER; block_low[ref_block[id]] = 99;
#endif
  d_step {
    id != NONE ->
    block = ref_block[id];
    ref_live[id] = false; ref_generation[id]++; ref_block[id] = NONE;
    stored[key] = false; key_is_there = stored[KEY]; was_absent = was_absent || !key_is_there
  }
  unlink();
  d_step { block_used[block] = false; forget() }
}

/* An overwrite in another shard by the process whose record it is. The ref and the entry are the same by chance. */
inline use_record_elsewhere(process) {
  record_low[process] = ELSEWHERE;
  record_high[process] = ELSEWHERE
}

inline apply(from) {
  block_low[ref_block[id]] = record_low[from];
  block_high[ref_block[id]] = record_high[from]
}

inline overwrite() {
  d_step { id != NONE -> record_generation[me] = ref_generation[id] + 1; record_block[me] = ref_block[id] }
  record_entry[me] = id;
  record_low[me] = value[key] + 1;
  record_high[me] = value[key] + 1;
#ifndef MUTANT_COMMIT_FIRST
  redo = me;
#endif
#ifdef MUTANT_BLOCK_FIRST
  apply(me);
#endif
  d_step { ref_generation[id]++; ref_live[id] = false; value[key]++ }  /* The commit. */
#ifdef MUTANT_COMMIT_FIRST
  redo = me;
#endif
  apply(me);
#ifdef MUTANT_REUSE_RECORD_EARLY
  use_record_elsewhere(me);
#endif
#ifdef MUTANT_REDO_FIRST
  redo = 0;
#endif
  ref_live[id] = true;
  d_step { redo = 0; forget() }
}

/* ---- the shard ---- */

/* Index::split() */
inline split() {
  d_step { key == KEY && cells == 1 -> id = slot[0]; block = slot[1]; write_begin(0) }
#ifndef MUTANT_NEW_BUCKET_EVEN
  write_begin(1);
#endif
  slot[0] = NONE; slot[1] = NONE;
  cells = 2;
  if
  :: id != NONE -> slot[2 * bucket_of(entry_key[id], 2)] = id
  :: else
  fi;
  if
  :: block != NONE -> slot[2 * bucket_of(entry_key[block], 2) + 1] = block
  :: else
  fi;
#ifndef MUTANT_NEW_BUCKET_EVEN
  write_end(1);
#endif
  d_step { write_end(0); forget() }
}

/* Shard::finish_overwrite() */
#if defined(MUTANT_NO_ROLL_FORWARD)
#define is_to_be_finished false
#elif defined(MUTANT_FINISH_UNCOMMITTED)
#define is_to_be_finished redo != 0
#else
#define is_to_be_finished (redo != 0 && !ref_live[record_entry[redo]] && \
  ref_generation[record_entry[redo]] == record_generation[redo] && ref_block[record_entry[redo]] == record_block[redo])
#endif

inline finish_overwrite() {
  if
  :: atomic { is_to_be_finished -> id = record_entry[redo] }
     apply(redo);
#ifdef MUTANT_REDO_FIRST
     d_step { place = redo; redo = 0 }
     d_step { ref_generation[id] = record_generation[place]; ref_live[id] = true; forget() }
#else
     d_step { ref_generation[id] = record_generation[redo]; ref_live[id] = true; forget() }
#endif
  :: else
  fi;
  redo = 0
}

/* Shard::repair_after_damage(): from the refs. */
inline rebuild() {
#ifndef MUTANT_NO_SEQ
  seq = seq | 1;
#endif
  finish_overwrite();
  write_begin(0);
  slot[0] = NONE; slot[1] = NONE;
  write_end(0);
  if
  :: cells == 2 ->
     write_begin(1);
     slot[2] = NONE; slot[3] = NONE;
     write_end(1)
  :: else
  fi;
  if
  :: ref_live[1] -> slot[2 * bucket_of(entry_key[1], cells)] = 1
  :: else
  fi;
  if
  :: ref_live[2] -> slot[2 * bucket_of(entry_key[2], cells) + 1] = 2
  :: else
  fi;
  d_step {
    block_used[1] = false; block_used[2] = false; block_used[3] = false;
    block_used[ref_block[1]] = true; block_used[ref_block[2]] = true; block_used[NONE] = false;
#ifndef MUTANT_NO_SEQ
    seq = seq + 1;
#endif
    forget()
  }
}

/* ---- after a recovery: nothing is half done, and what was committed is there ---- */

inline assert_entry_is_whole(e) {
  assert(ref_live[e] == (ref_block[e] != NONE));
  assert(!ref_live[e] || block_key[ref_block[e]] == entry_key[e]);
  assert(!ref_live[e] || block_low[ref_block[e]] == value[entry_key[e]]);
  assert(!ref_live[e] || block_high[ref_block[e]] == value[entry_key[e]])
}

inline assert_is_stored(k) {
  key = k;
  find_entry();
  assert(stored[key] == (id != NONE));
  find_place();
  assert(id == NONE || slot[place] == id || slot[place + 1] == id)
}

inline assert_shard_is_right() {
  assert_entry_is_whole(1);
  assert_entry_is_whole(2);
  assert(redo == 0);
  assert_is_stored(KEY);
  assert_is_stored(OTHER);
  forget()
}
