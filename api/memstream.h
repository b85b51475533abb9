/*
 * MemStream, the full C interface: any number of caches per process, binary keys, time to live, compare-and-set,
 * reading and writing without a copy, scans.
 *
 * The rules at the top of api/cache.h hold here too. In addition:
 *  7. Keys are (pointer, length), 1 to CACHE_MAX_KEY_SIZE bytes of any value; values are 0 bytes to
 *     cache_stats_t.max_value_size bytes of any value.
 *  8. A handle may be used by all threads of a process. memstream_close() waits for calls under way; what is called
 *     with a closed handle is undefined, like a use after free().
 *  9. Times to live are milliseconds from now, 0 means for ever; instants are Unix time in milliseconds, 0 means never.
 *     The clock of a segment is monotonic: setting the system's clock expires nothing. Its resolution is some 4 ms.
 * 10. Structs that begin with `struct_size` may grow in later versions: set it to sizeof, or use the _init function.
 */
#ifndef MEMSTREAM_MEMSTREAM_H
#define MEMSTREAM_MEMSTREAM_H

#include "api/cache.h"
#include "api/memstream_options.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct memstream_handle memstream_t; /* an open cache */

/* ---- open, close, destroy ---- */

/*
 * Opens a cache as cache_connect() does, with the environment overridden by `options` (NULL: environment alone).
 * On CACHE_OK `*cache` is a handle that memstream_close() frees; otherwise it is NULL.
 */
CACHE_API int memstream_open(const memstream_options_t *options, memstream_t **cache);

/*
 * What was asked for, by an option or the environment, and is otherwise in the segment, which existed already and keeps
 * what it was made with: its size, number of shards, mode and largest value. Never NULL; empty if all is as wanted. The
 * text lives as long as the handle.
 */
CACHE_API const char *memstream_open_note(memstream_t *cache);

/* Detaches and frees the handle, and with it its views and reservations that are still held. NULL is allowed. */
CACHE_API int memstream_close(memstream_t *cache);

/* Destroys the segment under the handle: others get CACHE_GONE. The handle stays to be closed. */
CACHE_API int memstream_destroy(memstream_t *cache);

/*
 * Destroys the segment that `options` (NULL: the environment) names, without a handle; also one that is damaged. On
 * System V a segment without our magic is left alone, since its key may be another program's: CACHE_BAD_MAGIC says how
 * to remove it.
 */
CACHE_API int memstream_destroy_named(const memstream_options_t *options);

/* ---- entries ---- */

/* What is known of an entry besides its bytes. */
typedef struct memstream_meta {
  uint64_t cas;           /* token for memstream_cas(): another one after every write of the entry */
  uint64_t created_at_ms; /* when this value was stored; in a segment older than two years not exact */
  uint64_t expires_at_ms; /* 0: never */
  uint32_t flags;         /* the caller's own 32 bits, as set */
  uint32_t reserved;
} memstream_meta_t;

/*
 * Copies the value of `key` to `value`; `*value_size` is the room on entry and the size of the value on return.
 * `value` may be NULL if the room is 0. `meta` may be NULL.
 * The last_access_ms that it leaves with the entry is now. Only in a process with one thread, which has just got values
 * faster than the kernel's coarse clock ticks (1 to 10 ms), the next 15 gets may leave the instant of those before.
 * With an entry that has had 64 accesses it may lag by a second, lest each reader write to a line that others read.
 * Returns CACHE_OK; CACHE_MISS (*value_size is 0 then); CACHE_TOO_SMALL (nothing copied; *value_size, *meta are
 * filled).
 */
CACHE_API int memstream_get(memstream_t *cache, const void *key, size_t key_size, void *value, size_t *value_size,
                            memstream_meta_t *meta);

/* Stores a value whatever was there. Returns CACHE_OK or an error. */
CACHE_API int memstream_set(memstream_t *cache, const void *key, size_t key_size, const void *value, size_t value_size,
                            uint64_t ttl_ms, uint32_t flags);

/* Stores a value only if the key is absent; CACHE_EXISTS otherwise. */
CACHE_API int memstream_add(memstream_t *cache, const void *key, size_t key_size, const void *value, size_t value_size,
                            uint64_t ttl_ms, uint32_t flags);

/* Stores a value only if the key is present; CACHE_MISS otherwise. */
CACHE_API int memstream_replace(memstream_t *cache, const void *key, size_t key_size, const void *value,
                                size_t value_size, uint64_t ttl_ms, uint32_t flags);

/*
 * Stores a value only if the entry is still the one that `cas` was taken from: CACHE_CONFLICT if not, CACHE_MISS if it
 * is gone. In a full cache that makes room for large values CACHE_CONFLICT may come without another write, if the value
 * was moved out of their way more than 31 times since it was written, or if the table of entries has shrunk: read
 * again, as after any conflict.
 */
CACHE_API int memstream_cas(memstream_t *cache, const void *key, size_t key_size, const void *value, size_t value_size,
                            uint64_t ttl_ms, uint32_t flags, uint64_t cas);

/* Removes the key; CACHE_MISS if it was not there. */
CACHE_API int memstream_delete(memstream_t *cache, const void *key, size_t key_size);

/*
 * Gives the entry a new time to live (0: for ever) and leaves its value and its cas token alone; CACHE_MISS if it is
 * not there. A value below 4,096 bytes that was stored without time to live and flags moves to a block with room for
 * them: CACHE_FULL, and nothing has changed, if views and reservations hold all that could make way for it.
 */
CACHE_API int memstream_touch(memstream_t *cache, const void *key, size_t key_size, uint64_t ttl_ms);

/*
 * Adds `delta` to a value that is a decimal integer in text ("-12"), in one step. Keeps ttl and flags of the entry.
 * If the key is absent: CACHE_MISS when `initial` is NULL, otherwise the value becomes *initial + delta with `ttl_ms`.
 * `*result` (may be NULL) is the new value. CACHE_NOT_NUMERIC leaves the entry as it was.
 */
CACHE_API int memstream_incr(memstream_t *cache, const void *key, size_t key_size, int64_t delta,
                             const int64_t *initial, uint64_t ttl_ms, int64_t *result);

/* CACHE_OK if the key is there, CACHE_MISS if not. Counts no access, neither in the statistics nor in the entry. */
CACHE_API int memstream_exists(memstream_t *cache, const void *key, size_t key_size);

/* Removes all entries. Views that are held stay readable. */
CACHE_API int memstream_clear(memstream_t *cache);

/* ---- many keys in one call ---- */

/* One key of a batch. The caller fills what the function reads, the function fills the rest. */
typedef struct memstream_item {
  const void *key;
  size_t key_size;
  const void *value; /* set: the bytes to store; get: where the value lies in the room, NULL if it is not there */
  size_t value_size; /* set: of these bytes; get: of the value, also with CACHE_TOO_SMALL */
  uint64_t ttl_ms;   /* set: 0: for ever */
  uint64_t cas;      /* get: this and the rest as in memstream_meta_t */
  uint64_t created_at_ms;
  uint64_t expires_at_ms;
  uint32_t flags; /* set: the caller's 32 bits to store; get: as stored */
  int32_t status; /* what came of this key: as the function for one key would have returned */
} memstream_item_t;

/*
 * The three functions below do to each of `count` items what memstream_get, _set and _delete do to one key, for less:
 * the memory accesses of many keys overlap, and one hold of a lock serves several (a few dozen at most, so that nobody
 * waits long). The batch is not atomic: each key is, by itself; others may see some done and some not, and a process
 * that is killed leaves some done and some not. A key that is named twice is set to the later value; the order is
 * otherwise open. `items` may be NULL if `count` is 0.
 *
 * Every item gets a status, and one that fails keeps none of the others from being done. The call returns CACHE_OK if
 * every item is CACHE_OK or CACHE_MISS; otherwise an error of one of them, which cache_last_error() tells about
 * (CACHE_TOO_SMALL only if there was none worse). What concerns all (CACHE_GONE, CACHE_READ_ONLY) is every item's.
 * MEMSTREAM_TIMEOUT_MS is for the whole batch: what was not reached by then is CACHE_BUSY, and was not done.
 */

/*
 * Copies the values into `room`, which is the caller's, one behind the other at multiples of 16 bytes from its start,
 * in the order of the items; `*room_size` is its size on entry and what all values would have needed on return. A value
 * that does not fit is CACHE_TOO_SMALL, and the next one is tried: ask again for those alone. The values stay until the
 * caller does something else with the room. `room` may be NULL if its size is 0.
 */
CACHE_API int memstream_get_many(memstream_t *cache, memstream_item_t *items, size_t count, void *room,
                                 size_t *room_size);

/* Stores every value whatever was there. */
CACHE_API int memstream_set_many(memstream_t *cache, memstream_item_t *items, size_t count);

/* Removes every key; CACHE_MISS is the status of those that were not there. Reads nothing but the keys. */
CACHE_API int memstream_delete_many(memstream_t *cache, memstream_item_t *items, size_t count);

/* ---- leases: one of many computes ---- */

/*
 * When a value is missing, all that want it would compute it at the same time. A lease lets one of them do so:
 *
 *   for (;;) {
 *     if (memstream_get(...) == CACHE_OK) use it;
 *     status = memstream_lease(cache, key, key_size, 0, 60000, &lease);
 *     if (status == CACHE_OK) compute it; memstream_lease_fulfil(..., lease), or memstream_lease_release(..., lease);
 *     if (status == CACHE_HELD) memstream_lease_follow(cache, key, key_size, &followed, 1000);
 *   }
 *
 * A lease belongs to the handle and the process that took it. It ends
 *  - when it is fulfilled or released;
 *  - when anybody writes, deletes or clears the key: that is newer than what is being computed, which is not stored;
 *  - when its handle is closed or its process ends, however that happens: the kernel tells, and a process that is
 *    merely stopped keeps it;
 *  - when its `lease_ms` are over and somebody else takes it. 0: it stands as long as its process does.
 * Which thread fulfils it is of no account. A thread that asks for a lease which its own process holds is told so like
 * any other: whoever computes a value must not wait for the same value on the way.
 *
 * A stale value may be served while a new one is computed: store it for longer than it is fresh, tell by its
 * memstream_meta_t.created_at_ms that it is stale, and ask for the lease with its memstream_meta_t.cas.
 */

/*
 * Asks for the lease of `key`. `stale_cas` 0: only if the key is absent; otherwise also if its entry is still the one
 * that the token was taken from.
 * Returns CACHE_OK: compute the value; `*lease` is the proof, never 0. When the library has no place for another lease
 * (48 for each shard), others may get one of the same key. Use it like any other: the first that is fulfilled, and any
 * other write or delete of the key, ends them all, and one in 32 writes of other keys of the shard does too.
 * CACHE_EXISTS: there is an entry, and not the stale one: get it. CACHE_HELD: somebody who is alive has the lease:
 * wait, or use what is stale. CACHE_PROCESS_TABLE_FULL: this process has no process slot yet, as a child may find after
 * fork(); compute without a lease, or try again later. `*lease` is 0 unless CACHE_OK.
 */
CACHE_API int memstream_lease(memstream_t *cache, const void *key, size_t key_size, uint64_t stale_cas,
                              uint64_t lease_ms, uint64_t *lease);

/*
 * Waits until nobody alive holds a lease of `key`: CACHE_OK, within some 50 ms if the holder is killed or closes its
 * handle, at once otherwise; CACHE_HELD after `timeout_ms`. What has become of the key is for the caller to see.
 * memstream_close() waits for those who wait here.
 */
CACHE_API int memstream_lease_wait(memstream_t *cache, const void *key, size_t key_size, uint64_t timeout_ms);

/*
 * Waits for the end of one lease: set `*followed` to 0 after memstream_lease() has said CACHE_HELD, and pass it on
 * unchanged in the next calls. When another takes over from a holder that died, the call goes on with that one.
 * CACHE_OK: it was ended. Get the value; if there is none, the holder stored none (it failed, or somebody deleted the
 * key), and waiting for the next one would make all waiters compute one after the other: compute at once.
 * CACHE_MISS: the holder died or its time is over, and nobody has taken the lease yet: ask for it.
 * CACHE_HELD: it stands after `timeout_ms`. 0 only looks.
 */
CACHE_API int memstream_lease_follow(memstream_t *cache, const void *key, size_t key_size, uint64_t *followed,
                                     uint64_t timeout_ms);

/*
 * Stores the value if the lease still stands, and ends it, in one step; wakes all that wait. CACHE_CONFLICT if it has
 * ended, or if `lease` is 0: nothing is stored, and what was computed is as old as the caller knows it to be. After any
 * other error the lease stands: release it, or try again.
 */
CACHE_API int memstream_lease_fulfil(memstream_t *cache, const void *key, size_t key_size, const void *value,
                                     size_t value_size, uint64_t ttl_ms, uint32_t flags, uint64_t lease);

/* Ends the lease without a value; wakes all that wait. CACHE_CONFLICT if it has ended before, or if it is 0. */
CACHE_API int memstream_lease_release(memstream_t *cache, const void *key, size_t key_size, uint64_t lease);

/* ---- reading without a copy ---- */

typedef struct memstream_view_t {
  const void *data; /* the value, read-only; aligned to 16 bytes, to 64 from 4,096 bytes on */
  size_t size;
  memstream_meta_t meta;
  uint64_t token; /* the library's */
} memstream_view_t;

/*
 * Gives the value of `key` in place. The bytes stay as they are, through replace, delete and eviction by anyone, until
 * memstream_release(). No lock is taken, unless the value is being written at that moment: CACHE_BUSY says that whoever
 * writes it stood still until the deadline. A process can hold a thousand views in place, many more in a large segment.
 * When there is no place for one more the library copies the value to its own memory instead, so that the call does not
 * fail, and counts that in cache_stats_t.view_copies. A view belongs to the process that took it: a forked child must
 * not use or release it.
 */
CACHE_API int memstream_view(memstream_t *cache, const void *key, size_t key_size, memstream_view_t *view);

/*
 * Ends a view; `*view` is zeroed. Waits for nobody. CACHE_BAD_HANDLE if this process does not hold it.
 */
CACHE_API int memstream_release(memstream_t *cache, memstream_view_t *view);

/*
 * Sets `*in_place` to 1 if the view shows the value where it lies in the segment, and to 0 if the library has copied
 * it: for a read-only handle, or because no place for a view was free.
 */
CACHE_API int memstream_view_in_place(memstream_t *cache, const memstream_view_t *view, int *in_place);

/* ---- writing without a copy ---- */

typedef struct memstream_reservation {
  void *data; /* `size` bytes to fill; contents are undefined at first; aligned like a view */
  size_t size;
  uint64_t token; /* the library's */
} memstream_reservation_t;

/*
 * Gives room for a value of `value_size` bytes. Nobody sees it before memstream_commit(). When the table of pins is
 * full, or nothing more can be evicted, the library gives memory of its own, and memstream_commit() copies: the call
 * does not fail for that.
 */
CACHE_API int memstream_reserve(memstream_t *cache, const void *key, size_t key_size, size_t value_size,
                                memstream_reservation_t *reservation);

/*
 * Makes the filled reservation the value of its key, as memstream_set() would; `*reservation` is zeroed. CACHE_BUSY
 * leaves the reservation as it is: commit or abort it again later.
 */
CACHE_API int memstream_commit(memstream_t *cache, memstream_reservation_t *reservation, uint64_t ttl_ms,
                               uint32_t flags);

/* Gives the room back; `*reservation` is zeroed. Waits for nobody. */
CACHE_API int memstream_abort(memstream_t *cache, memstream_reservation_t *reservation);

/* ---- looking at the cache ---- */

/* One entry as a scan reports it. */
typedef struct memstream_entry {
  uint64_t value_size;     /* bytes */
  uint64_t stored_size;    /* bytes of its block: key, value, header, rounding; their sum is used_memory */
  uint64_t data_offset;    /* of the value's first byte from the start of the segment */
  uint64_t created_at_ms;  /* when this value was stored */
  uint64_t last_access_ms; /* last get or view, or the store if there was none; see memstream_get() */
  uint64_t expires_at_ms;  /* 0: never */
  uint64_t access_count;   /* gets and views; exact up to 64, then sampled, to a tenth of it */
  uint64_t cas;
  uint32_t flags;
  uint32_t key_size; /* bytes */
  uint32_t shard;
  uint32_t is_valid;                /* 1; 0 if its time has come and nobody has removed it yet */
  char key[CACHE_MAX_KEY_SIZE + 8]; /* key_size bytes, then a NUL */
} memstream_entry_t;

/*
 * Fills up to `capacity` entries and `*count`. `*cursor` is 0 for the first call and whatever the last call left for
 * the next; it is 0 again when the scan is complete. An entry that is there during the whole scan is reported exactly
 * once; one that comes or goes meanwhile may or may not be, so that a key which goes and comes back may be reported
 * twice, and so may any key if the table of entries shrinks meanwhile. Counts no access. Expired entries are left out.
 */
CACHE_API int memstream_scan(memstream_t *cache, uint64_t *cursor, memstream_entry_t *entries, size_t capacity,
                             size_t *count);

/* Fills `*entry` for one key, as a scan would. */
CACHE_API int memstream_entry_info(memstream_t *cache, const void *key, size_t key_size, memstream_entry_t *entry);

/* Fills `*stats`. REQUIRES: stats->struct_size is sizeof(cache_stats_t), of this version or of an earlier one. */
CACHE_API int memstream_stats(memstream_t *cache, cache_stats_t *stats);

/* What the handle is open on. The strings live as long as the handle. */
typedef struct memstream_info_t {
  size_t struct_size;
  const char *backend;
  const char *name;
  uint64_t size_bytes;
  uint32_t layout_version;
  uint32_t read_only; /* 0 or 1 */
  uint8_t uuid[16];   /* of the segment: another one after destroy and create */
} memstream_info_t;

CACHE_API int memstream_info(memstream_t *cache, memstream_info_t *info);

/* A process that is attached. */
typedef struct memstream_process {
  uint32_t pid;
  uint32_t pins;       /* views and reservations it holds */
  uint64_t start_time; /* of the process, in clock ticks since boot */
  uint64_t hits;
  uint64_t misses;
  uint64_t puts;
} memstream_process_t;

/*
 * Fills up to `capacity` live processes; `*count` is how many there are. All handles of one process count together.
 * Cleans up after those that have died.
 */
CACHE_API int memstream_processes(memstream_t *cache, memstream_process_t *processes, size_t capacity, size_t *count);

/*
 * Verifies every invariant of the segment, shard by shard, under the shard's lock. `*problems` is how many were found;
 * the first ones are described in cache_last_error(). CACHE_OK if none, CACHE_CORRUPT otherwise. Changes nothing.
 */
CACHE_API int memstream_check(memstream_t *cache, uint64_t *problems);

/* ---- which segments there are ---- */

/*
 * The name of the backend with that number, from 0 on: "posix", "sysv". NULL behind the last. The text belongs to the
 * library. Any thread may call it at any time.
 */
CACHE_API const char *memstream_backend_name(size_t number);

/* A segment of this machine, seen from outside and by a read-only attach. */
typedef struct memstream_segment {
  char name[72];      /* the user's name; empty if the segment carries none */
  char system_id[88]; /* what the system calls it: "/memstream.default", "shmid 3" */
  uint64_t size_bytes;
  uint64_t attached;       /* attachments that the system counts; 0 on POSIX, which counts none */
  uint64_t entries;        /* this and the next three only if `status` is CACHE_OK */
  uint64_t processes;      /* attached processes, dead ones included until somebody cleans up */
  uint64_t created_at_ms;  /* Unix time */
  uint32_t layout_version; /* of the bytes */
  uint32_t mode;           /* permission bits */
  uint32_t owner_uid;
  int32_t status;       /* what a read-only attach returns: CACHE_OK, CACHE_NO_PERMISSION, CACHE_BAD_VERSION, ... */
  uint64_t reserved[4]; /* 0 */
} memstream_segment_t;

/*
 * Lists the segments of MemStream on a backend, also other users' and damaged ones.
 *
 * backend       as memstream_backend_name() names it.
 * segments      the caller's array; may be NULL if `capacity` is 0.
 * segment_size  sizeof(memstream_segment_t).
 * capacity      how many fit.
 * count         receives how many there are; the first `capacity` of them are filled.
 *
 * Returns CACHE_OK; CACHE_BAD_BACKEND, CACHE_INVALID, CACHE_OS_ERROR. Takes no lock and changes nothing. Any thread may
 * call it at any time. A segment that is made or removed meanwhile may or may not be listed.
 */
CACHE_API int memstream_segments(const char *backend, memstream_segment_t *segments, size_t segment_size,
                                 size_t capacity, size_t *count);

#ifdef __cplusplus
}
#endif

#endif
