/* The thread slots of the lock's model, lock.pml, which has their variables. Names are those of core/shard/shard_lock.cpp. */

/* What follows a try-lock that succeeded. */
inline take_slot(s) {
  slot_owner[s] = me;
  hold[s] = (slot_owner_died[s] -> 0 : hold[s]);
  slot_owner_died[s] = false
}

/* wait_for_slots(): each until slot_is_live() says no. `ok` is false if the deadline passed. The look itself locks the
 * slot for a moment. */
inline wait_for_slots(up_to, ok) {
#ifdef MUTANT_NO_WAIT_FOR_SLOTS
  skip
#else
  do
  :: d_step { ok && s < SLOTS && slot_owner[s] == NOBODY -> take_slot(s) }
     d_step { slot_owner[s] = NOBODY; s++ }
  :: d_step { ok && s < SLOTS && slot_owner[s] != NOBODY && hold[s] != 0 && hold[s] - 1 > up_to -> s++ }
  :: d_step { ok && s < SLOTS && slot_owner[s] != NOBODY && (hold[s] == 0 || hold[s] - 1 <= up_to) &&
       timeouts_left > 0 -> timeouts_left--; ok = false }
  :: atomic { !ok || s == SLOTS -> s = 0; break }
  od
#endif
}

/* any_slot_is_live() */
inline look_for_live_slot(up_to, found) {
#ifdef MUTANT_COUNT_IS_DEAD
  found = false
#else
  do
  :: d_step { !found && s < SLOTS && slot_owner[s] == NOBODY -> take_slot(s) }
     d_step { slot_owner[s] = NOBODY; s++ }
  :: d_step { !found && s < SLOTS && slot_owner[s] != NOBODY -> found = (hold[s] == 0 || hold[s] - 1 <= up_to); s++ }
  :: atomic { found || s == SLOTS -> s = 0; break }
  od
#endif
}
