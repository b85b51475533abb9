/*
 * MemStream, the full C interface: any number of caches per process, binary keys, time to live, compare-and-set,
 * batches, leases, reading and writing without a copy, scans.
 *
 * START HERE:
 *
 *   #include <memstream/memstream.h>
 *
 *   memstream_t *cache;
 *   char value[64];
 *   size_t size = sizeof value;
 *   if (memstream_open(NULL, &cache) != CACHE_OK) return puts(cache_last_error());
 *   memstream_set(cache, "key", 3, "value", 5, 60000, 0);              (lives for 60,000 ms)
 *   if (memstream_get(cache, "key", 3, value, &size, NULL) == CACHE_OK) ...
 *   memstream_close(cache);
 *
 * Then read the section that you need: options (memstream_options.h), open and close, entries, batches, leases, views,
 * reservations, inspection, segments.
 *
 * Rules 1 to 11 at the top of cache.h hold here too. In addition:
 *
 * 12. A key is a pointer and a length: 1 to CACHE_MAX_KEY_SIZE bytes of any value. A value has 0 bytes to
 *     cache_stats_t.max_value_size bytes of any value.
 * 13. All threads of a process may use one handle at the same time. memstream_close() waits for the calls in progress.
 *     Using a handle after that is undefined, like using memory after free().
 * 14. A time to live is milliseconds from now, and 0 means for ever. A point in time is Unix time in milliseconds, and
 *     0 means never. A change of the system's clock expires nothing. Entries expire with a resolution of about 4 ms.
 * 15. A struct that begins with `struct_size` may grow in later versions. Set it to sizeof, or call the _init function.
 *     The other structs keep their size and their fields within the SONAME libcache.so.1.
 */
#ifndef MEMSTREAM_MEMSTREAM_H
#define MEMSTREAM_MEMSTREAM_H

#include "cache.h"
#include "memstream_options.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct memstream_handle memstream_t; /* An open cache. */

/* ---- Opening and closing ---- */

/**
 * Opens a cache.
 *
 * Creates the segment if it does not exist and attaches to it if it does, as cache_connect() does.
 *
 * @param options  Overrides the environment. NULL: the environment alone.
 * @param cache    Receives the handle. NULL is stored after an error.
 * @retval CACHE_OK  The cache is open.
 * @retval CACHE_INVALID  The options have an unknown size, unknown flags or an unknown owner.
 * @retval -20 to -39  An option or a variable is not valid: an error of the environment.
 * @retval CACHE_BUSY  Another process is creating or removing the segment, and was not done at the deadline.
 * @retval CACHE_PROCESS_TABLE_FULL  Live processes use every process slot.
 * @retval CACHE_NO_HUGE_PAGES  Huge pages are required, and the segment has none or cannot have any.
 * @retval -60 to -79  The process cannot use the segment that exists: an error of the segment that was found.
 * @threads Safe.
 * @processes Safe. Exactly one process creates the segment. If it is killed meanwhile, the next one completes it.
 * @ownership The caller closes the handle with memstream_close().
 */
CACHE_API int memstream_open(const memstream_options_t *options, memstream_t **cache);

/**
 * Tells how the segment differs from what the options and the environment asked for.
 *
 * A segment that existed before keeps its size, number of shards, mode, largest value and checksum choice.
 *
 * @param cache  An open cache. NULL is allowed.
 * @return A sentence. Never NULL. Empty if nothing differs, or if `cache` is NULL.
 * @threads Safe.
 * @processes Not shared: reads no segment.
 * @ownership The text belongs to the handle and lives as long.
 */
CACHE_API const char *memstream_open_note(memstream_t *cache);

/**
 * Closes a cache: detaches from the segment and frees the handle.
 *
 * Views and reservations of the handle end with it. The segment and its contents stay.
 *
 * @param cache  An open cache. NULL is allowed and does nothing.
 * @retval CACHE_OK  The handle is closed.
 * @threads Waits for the calls of other threads that are in progress. No thread may use the handle from then on.
 * @processes Safe. Leases of the handle end, and waiting processes notice that within about 50 ms.
 */
CACHE_API int memstream_close(memstream_t *cache);

/**
 * Destroys the segment of a handle. You must still close the handle afterwards.
 *
 * @param cache  An open cache.
 * @retval CACHE_OK  The segment is destroyed.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_NO_SEGMENT  The segment is gone already, or another segment has its name now.
 * @retval CACHE_NOT_OWNER  The segment belongs to another user.
 * @retval CACHE_NO_PERMISSION  Only the owner or root may remove the segment.
 * @retval CACHE_BUSY  Another process is creating or removing it, and was not done at the deadline.
 * @threads Safe.
 * @processes Safe. Attached processes get CACHE_GONE from their next calls, and may open the cache again.
 */
CACHE_API int memstream_destroy(memstream_t *cache);

/**
 * Destroys a segment by its name, without a handle. The segment may be damaged.
 *
 * @param options  Names the segment. NULL: the environment alone.
 * @retval CACHE_OK  The segment is destroyed.
 * @retval CACHE_NO_SEGMENT  No segment has this name.
 * @retval CACHE_BAD_MAGIC  System V: the bytes are not a segment of MemStream, so its key may be another program's.
 *                          cache_last_error() says how to remove it.
 * @retval CACHE_NOT_OWNER  The segment belongs to another user.
 * @retval CACHE_NO_PERMISSION  Only the owner or root may remove the segment.
 * @retval CACHE_BUSY  Another process is creating or removing it, and was not done at the deadline.
 * @retval -20 to -39  An option or a variable is not valid: an error of the environment.
 * @threads Safe.
 * @processes Safe. Attached processes get CACHE_GONE from their next calls, and may open the cache again.
 */
CACHE_API int memstream_destroy_named(const memstream_options_t *options);

/* ---- Entries ---- */

/**
 * What is known of an entry besides its bytes. The library fills it.
 */
typedef struct memstream_meta {
  uint64_t cas;           /* Token for memstream_cas(). Every write of the entry changes it. */
  uint64_t created_at_ms; /* When this value was stored. Not exact in a segment older than two years. */
  uint64_t expires_at_ms; /* When it expires. 0: never. */
  uint32_t flags;         /* The caller's 32 bits, as stored. */
  uint32_t reserved;      /* 0. */
} memstream_meta_t;

/**
 * Copies the value of a key into the caller's buffer.
 *
 * Updates the entry's last_access_ms and access_count. The timestamp is approximate. A process with one thread may
 * reuse it for up to 15 consecutive gets. An entry that was read more than 64 times is updated at most once a second.
 * Of several gets of one entry at the same moment, some may not be counted.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param value       The buffer. May be NULL if `*value_size` is 0, which asks for the size alone.
 * @param value_size  In: capacity of the buffer in bytes. Out: size of the value in bytes.
 * @param meta        Receives what else is known of the entry. May be NULL.
 * @retval CACHE_OK  The value is copied.
 * @retval CACHE_MISS  The key has no live entry. `*value_size` is 0.
 * @retval CACHE_TOO_SMALL  The value does not fit. Nothing is copied; `*value_size` and `*meta` are filled.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_BUSY  A writer stood still at this value until the deadline.
 * @threads Safe. Usually takes no lock.
 * @processes Safe. The copy is one whole value, never a mixture of two.
 */
CACHE_API int memstream_get(memstream_t *cache, const void *key, size_t key_size, void *value, size_t *value_size,
                            memstream_meta_t *meta);

/**
 * Stores a value under a key and replaces the value that was there.
 *
 * A full cache evicts other entries to make space. A lease of the key ends.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param value       The bytes to store. May be NULL if `value_size` is 0.
 * @param value_size  Number of bytes, 0 to cache_stats_t.max_value_size.
 * @param ttl_ms      Time to live in milliseconds, counted while the machine runs: suspended time does not count, and
 *                    setting the wall clock changes nothing. 0: the entry never expires.
 * @param flags       32 bits of the caller, stored with the value.
 * @retval CACHE_OK  The value is stored.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_TOO_LARGE  The value is too large. Nothing was evicted for it.
 * @retval CACHE_FULL  Views and reservations pin all that could be evicted.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing is stored.
 * @threads Safe.
 * @processes Safe. Readers see the old value or the new one, never a mixture, even if the process is killed.
 */
CACHE_API int memstream_set(memstream_t *cache, const void *key, size_t key_size, const void *value, size_t value_size,
                            uint64_t ttl_ms, uint32_t flags);

/**
 * Stores a value if the key has none.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param value       The bytes to store. May be NULL if `value_size` is 0.
 * @param value_size  Number of bytes, 0 to cache_stats_t.max_value_size.
 * @param ttl_ms      Time to live in milliseconds. 0: the entry never expires.
 * @param flags       32 bits of the caller, stored with the value.
 * @retval CACHE_OK  The value is stored.
 * @retval CACHE_EXISTS  The key has an entry already. Nothing is stored.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_TOO_LARGE  The value is too large. Nothing was evicted for it.
 * @retval CACHE_FULL  Views and reservations pin all that could be evicted.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing is stored.
 * @threads Safe.
 * @processes Safe. Readers see the old value or the new one, never a mixture, even if the process is killed.
 */
CACHE_API int memstream_add(memstream_t *cache, const void *key, size_t key_size, const void *value, size_t value_size,
                            uint64_t ttl_ms, uint32_t flags);

/**
 * Stores a value if the key has one already.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param value       The bytes to store. May be NULL if `value_size` is 0.
 * @param value_size  Number of bytes, 0 to cache_stats_t.max_value_size.
 * @param ttl_ms      Time to live in milliseconds. 0: the entry never expires.
 * @param flags       32 bits of the caller, stored with the value.
 * @retval CACHE_OK  The value is stored.
 * @retval CACHE_MISS  The key has no live entry. Nothing is stored.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_TOO_LARGE  The value is too large. Nothing was evicted for it.
 * @retval CACHE_FULL  Views and reservations pin all that could be evicted.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing is stored.
 * @threads Safe.
 * @processes Safe. Readers see the old value or the new one, never a mixture, even if the process is killed.
 */
CACHE_API int memstream_replace(memstream_t *cache, const void *key, size_t key_size, const void *value,
                                size_t value_size, uint64_t ttl_ms, uint32_t flags);

/**
 * Stores a value if the entry has not changed since its token was taken (compare-and-set).
 *
 * CACHE_CONFLICT may also come without another write: if the cache moved the value more than 31 times to make space for
 * large values, or if the table of entries shrank. Read again, as after any conflict.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param value       The bytes to store. May be NULL if `value_size` is 0.
 * @param value_size  Number of bytes, 0 to cache_stats_t.max_value_size.
 * @param ttl_ms      Time to live in milliseconds. 0: the entry never expires.
 * @param flags       32 bits of the caller, stored with the value.
 * @param cas         The token: memstream_meta_t.cas of an earlier call.
 * @retval CACHE_OK  The value is stored.
 * @retval CACHE_CONFLICT  The entry has changed. Nothing is stored: read it again.
 * @retval CACHE_MISS  The key has no live entry. Nothing is stored.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_TOO_LARGE  The value is too large. Nothing was evicted for it.
 * @retval CACHE_FULL  Views and reservations pin all that could be evicted.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing is stored.
 * @threads Safe.
 * @processes Safe. Readers see the old value or the new one, never a mixture, even if the process is killed.
 */
CACHE_API int memstream_cas(memstream_t *cache, const void *key, size_t key_size, const void *value, size_t value_size,
                            uint64_t ttl_ms, uint32_t flags, uint64_t cas);

/**
 * Removes a key. A lease of the key ends.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @retval CACHE_OK  The key is removed.
 * @retval CACHE_MISS  The key had no live entry.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing has changed.
 * @threads Safe.
 * @processes Safe. Views of the value stay readable.
 */
CACHE_API int memstream_delete(memstream_t *cache, const void *key, size_t key_size);

/**
 * Gives an entry a new time to live. The value and the cas token stay.
 *
 * A value below 4,096 bytes that was stored without time to live and flags moves to a larger block.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param ttl_ms      Time to live in milliseconds, from now. 0: the entry never expires.
 * @retval CACHE_OK  The entry has the new time to live.
 * @retval CACHE_MISS  The key has no live entry.
 * @retval CACHE_FULL  The value must move, and views and reservations pin all that could be evicted. Nothing has
 *                     changed.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing has changed.
 * @threads Safe.
 * @processes Safe.
 */
CACHE_API int memstream_touch(memstream_t *cache, const void *key, size_t key_size, uint64_t ttl_ms);

/**
 * Copies the value of a key as memstream_get() does, and gives the entry a new time to live as memstream_touch() does.
 *
 * It renews the entry that it has read. If another call replaces the entry between the two steps, the new entry keeps
 * the time to live that it was stored with. Counts as one get, and a renewal also as one touch.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param ttl_ms      Time to live in milliseconds, from now; it may be shorter than what is left. 0: the entry never
 *                    expires.
 * @param value       The buffer. May be NULL if `*value_size` is 0.
 * @param value_size  In: capacity of the buffer in bytes. Out: size of the value in bytes.
 * @param meta        Receives what else is known of the entry, with the new expiry. May be NULL.
 * @retval CACHE_OK  The value is copied.
 * @retval CACHE_MISS  The key has no live entry. `*value_size` is 0.
 * @retval CACHE_TOO_SMALL  The value does not fit. Nothing is copied or renewed; `*value_size` and `*meta` are filled.
 * @retval CACHE_FULL  The value must move, and views and reservations pin all that could be evicted. Nothing has
 *                     changed.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing has changed.
 * @threads Safe.
 * @processes Safe. The copy is one whole value, never a mixture of two.
 */
CACHE_API int memstream_get_and_touch(memstream_t *cache, const void *key, size_t key_size, uint64_t ttl_ms,
                                      void *value, size_t *value_size, memstream_meta_t *meta);

/**
 * Adds a number to a value that is a decimal integer in text, such as "-12", in one step.
 *
 * Keeps the time to live and the flags of an entry that exists.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param delta       The number to add. May be negative.
 * @param initial     The number to start from if the key has no live entry. NULL: do not create it.
 * @param ttl_ms      Time to live in milliseconds of an entry that the call creates. 0: it never expires.
 * @param result      Receives the new number. May be NULL.
 * @retval CACHE_OK  The sum is stored.
 * @retval CACHE_MISS  The key has no live entry, and `initial` is NULL.
 * @retval CACHE_NOT_NUMERIC  The value is not a decimal integer, or the sum leaves 64 bits. The entry has not changed.
 * @retval CACHE_FULL  Views and reservations pin all that could be evicted.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing has changed.
 * @threads Safe.
 * @processes Safe. No increment of another process is lost.
 */
CACHE_API int memstream_incr(memstream_t *cache, const void *key, size_t key_size, int64_t delta,
                             const int64_t *initial, uint64_t ttl_ms, int64_t *result);

/**
 * Tells whether a key has a live entry. Counts as no access, neither in the statistics nor in the entry.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @retval CACHE_OK  The key has a live entry.
 * @retval CACHE_MISS  The key has no live entry.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_BUSY  A lock was held until the deadline.
 * @threads Safe.
 * @processes Safe. Another process may remove the key right after the call.
 */
CACHE_API int memstream_exists(memstream_t *cache, const void *key, size_t key_size);

/**
 * Removes all entries, one shard after the other. Leases of their keys end.
 *
 * @param cache  An open cache.
 * @retval CACHE_OK  All entries that existed at the start of the call are removed.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. The shards before it are empty.
 * @threads Safe.
 * @processes Safe. Views stay readable. Other processes may store entries meanwhile.
 */
CACHE_API int memstream_clear(memstream_t *cache);

/* ---- Batches: many keys in one call ---- */

/*
 * The functions of this section do to each item what memstream_get(), memstream_set() and memstream_delete() do to one
 * key, in less time. The memory accesses of many keys overlap, and one hold of a lock serves a few dozen keys at most.
 *
 * A batch is not atomic, but each key is. Other processes may see some keys done and others not, and a kill may leave
 * them so. If a key is named twice, the later value stays. The order is otherwise undefined.
 *
 * Every item gets a status, and an item that fails does not stop the others. A status that concerns the whole cache,
 * such as CACHE_GONE or CACHE_READ_ONLY, is in every item. One deadline holds for the whole batch: items that it did
 * not reach are CACHE_BUSY, and nothing was done to them.
 */

/**
 * One key of a batch. The caller fills what the function reads, and the function fills the rest.
 */
typedef struct memstream_item {
  const void *key;        /* In: the key. */
  size_t key_size;        /* In: bytes of the key. */
  const void *value;      /* Set, in: the bytes to store. Get, out: the value in the buffer, NULL if it is not there. */
  size_t value_size;      /* Set, in: bytes to store. Get, out: bytes of the value, also with CACHE_TOO_SMALL. */
  uint64_t ttl_ms;        /* Set, in: time to live in milliseconds. 0: the entry never expires. */
  uint64_t cas;           /* Get, out: as in memstream_meta_t. */
  uint64_t created_at_ms; /* Get, out: as in memstream_meta_t. */
  uint64_t expires_at_ms; /* Get, out: as in memstream_meta_t. */
  uint32_t flags;         /* Set, in: the caller's 32 bits. Get, out: as stored. */
  int32_t status;         /* Out: what the function for one key would have returned. */
} memstream_item_t;

/**
 * Copies the values of many keys into one buffer.
 *
 * The values lie one behind the other, at multiples of 16 bytes from the start of the buffer, in the order of the
 * items. A value that does not fit is CACHE_TOO_SMALL, and the next one is tried. Ask again for those alone.
 *
 * @param cache        An open cache.
 * @param items        The keys. May be NULL if `count` is 0.
 * @param count        Number of items.
 * @param buffer       The buffer for the values. May be NULL if `*buffer_size` is 0.
 * @param buffer_size  In: capacity of the buffer in bytes. Out: bytes that all values together need.
 * @retval CACHE_OK  Every item is CACHE_OK or CACHE_MISS.
 * @retval CACHE_TOO_SMALL  The buffer is too small for one of the values, and no item has another error.
 * @retval Any error  The status of an item that failed. cache_last_error() is about that item.
 * @threads Safe.
 * @processes Safe. Each value is whole. The values are not a snapshot of one moment: memstream_get_many_consistent().
 * @ownership The buffer is the caller's. memstream_item_t.value points into it.
 */
CACHE_API int memstream_get_many(memstream_t *cache, memstream_item_t *items, size_t count, void *buffer,
                                 size_t *buffer_size);

/**
 * Stores the values of many keys and replaces the values that were there.
 *
 * @param cache  An open cache.
 * @param items  The keys and values. May be NULL if `count` is 0.
 * @param count  Number of items.
 * @retval CACHE_OK  Every item is CACHE_OK or CACHE_MISS.
 * @retval Any error  The status of an item that failed. cache_last_error() is about that item.
 * @threads Safe.
 * @processes Safe. For each key, readers see the old value or the new one. A kill leaves some keys done and others not.
 */
CACHE_API int memstream_set_many(memstream_t *cache, memstream_item_t *items, size_t count);

/**
 * Removes many keys. An item whose key had no live entry is CACHE_MISS.
 *
 * @param cache  An open cache.
 * @param items  The keys. The function reads nothing else of them. May be NULL if `count` is 0.
 * @param count  Number of items.
 * @retval CACHE_OK  Every item is CACHE_OK or CACHE_MISS.
 * @retval Any error  The status of an item that failed. cache_last_error() is about that item.
 * @threads Safe.
 * @processes Safe. Views of the values stay readable. A kill leaves some keys done and others not.
 */
CACHE_API int memstream_delete_many(memstream_t *cache, memstream_item_t *items, size_t count);

/*
 * The next three functions take the size of an item, so that items can grow.
 *
 * memstream_item_t itself keeps its size within the SONAME libcache.so.1. A later version may add fields behind it, in
 * a larger struct that begins with it. Set the fields that you do not use to 0. The library refuses an item whose bytes
 * behind the known fields are not 0.
 */

/**
 * Copies the values of many keys into one buffer, as memstream_get_many() does.
 *
 * @param cache        An open cache.
 * @param items        The first item. May be NULL if `count` is 0.
 * @param item_size    Bytes from one item to the next: sizeof the struct, 72 to 1024, a multiple of 8.
 * @param count        Number of items.
 * @param buffer       The buffer for the values. May be NULL if `*buffer_size` is 0.
 * @param buffer_size  In: capacity of the buffer in bytes. Out: bytes that all values together need.
 * @retval CACHE_OK  Every item is CACHE_OK or CACHE_MISS.
 * @retval CACHE_INVALID  `item_size` is not valid, or an item has bytes behind the known fields that are not 0.
 * @retval CACHE_TOO_SMALL  The buffer is too small for one of the values, and no item has another error.
 * @retval Any error  The status of an item that failed. cache_last_error() is about that item.
 * @threads Safe.
 * @processes Safe. Each value is whole. The values are not a snapshot of one moment.
 * @ownership The buffer is the caller's. memstream_item_t.value points into it.
 */
CACHE_API int memstream_get_many_sized(memstream_t *cache, memstream_item_t *items, size_t item_size, size_t count,
                                       void *buffer, size_t *buffer_size);

/**
 * Copies the values of many keys that all stood there at one instant, as memstream_get_many_sized() does.
 *
 * The function reads all keys, and then checks whether one of them has changed since it began. If so it reads all of
 * them again. It takes no lock, and holds up no writer. Each try counts as a get of each key. This is no transaction:
 * the instant may lie between two stores of a writer, also of one memstream_set_many().
 *
 * @param cache        An open cache.
 * @param items        The first item. May be NULL if `count` is 0.
 * @param item_size    Bytes from one item to the next: sizeof the struct, 72 to 1024, a multiple of 8.
 * @param count        Number of items.
 * @param buffer       The buffer for the values. May be NULL if `*buffer_size` is 0.
 * @param buffer_size  In: capacity of the buffer in bytes. Out: bytes that all values together need.
 * @param most_tries   How often to read the keys. 0: 16 times.
 * @retval CACHE_OK  Every item is CACHE_OK or CACHE_MISS. All of that was so at one instant during the call.
 * @retval CACHE_CONFLICT  A key changed during each of the tries. The items are those of the last one.
 * @retval CACHE_INVALID  `item_size` is not valid, or an item has bytes behind the known fields that are not 0.
 * @retval CACHE_TOO_SMALL  The buffer is too small for one of the values. Ask again for all of them.
 * @retval Any error  The status of an item that failed. cache_last_error() is about that item.
 * @threads Safe.
 * @processes Safe. Of the fields of an item, only expires_at_ms may be of another instant.
 * @ownership The buffer is the caller's. memstream_item_t.value points into it.
 */
CACHE_API int memstream_get_many_consistent(memstream_t *cache, memstream_item_t *items, size_t item_size, size_t count,
                                            void *buffer, size_t *buffer_size, uint32_t most_tries);

/**
 * Stores the values of many keys, as memstream_set_many() does.
 *
 * @param cache      An open cache.
 * @param items      The first item. May be NULL if `count` is 0.
 * @param item_size  Bytes from one item to the next: sizeof the struct, 72 to 1024, a multiple of 8.
 * @param count      Number of items.
 * @retval CACHE_OK  Every item is CACHE_OK or CACHE_MISS.
 * @retval CACHE_INVALID  `item_size` is not valid, or an item has bytes behind the known fields that are not 0.
 * @retval Any error  The status of an item that failed. cache_last_error() is about that item.
 * @threads Safe.
 * @processes Safe. For each key, readers see the old value or the new one. A kill leaves some keys done and others not.
 */
CACHE_API int memstream_set_many_sized(memstream_t *cache, memstream_item_t *items, size_t item_size, size_t count);

/**
 * Removes many keys, as memstream_delete_many() does.
 *
 * @param cache      An open cache.
 * @param items      The first item. May be NULL if `count` is 0.
 * @param item_size  Bytes from one item to the next: sizeof the struct, 72 to 1024, a multiple of 8.
 * @param count      Number of items.
 * @retval CACHE_OK  Every item is CACHE_OK or CACHE_MISS.
 * @retval CACHE_INVALID  `item_size` is not valid, or an item has bytes behind the known fields that are not 0.
 * @retval Any error  The status of an item that failed. cache_last_error() is about that item.
 * @threads Safe.
 * @processes Safe. Views of the values stay readable. A kill leaves some keys done and others not.
 */
CACHE_API int memstream_delete_many_sized(memstream_t *cache, memstream_item_t *items, size_t item_size, size_t count);

/* ---- Leases: one caller of many computes a value ---- */

/*
 * When a popular value is missing, every process that needs it would compute it at the same time. A lease lets one
 * caller compute it while the others wait:
 *
 *   uint64_t lease, followed = 0;
 *   for (;;) {
 *     if (memstream_get(...) == CACHE_OK) break;                         (use the value)
 *     status = memstream_lease(cache, key, key_size, 0, 60000, &lease);
 *     if (status == CACHE_OK) {
 *       ...                                                              (compute the value)
 *       memstream_lease_fulfil(..., lease);                              (or memstream_lease_release() after a failure)
 *     } else if (status == CACHE_HELD) {
 *       memstream_lease_follow(cache, key, key_size, &followed, 1000);
 *     }
 *   }
 *
 * A lease belongs to the handle and the process that took it. It ends
 *  - when its holder fulfils or releases it;
 *  - when any process writes, deletes or clears the key: such a write is newer, so the computed value is dropped;
 *  - when its handle is closed or its process ends in any way, which the kernel reports. A stopped process keeps it;
 *  - when its `lease_ms` have passed and another caller takes it. With 0 it lives as long as its process.
 *
 * Any thread of the process may fulfil the lease. A thread that asks for a lease which its own process holds gets
 * CACHE_HELD as well. A thread must not wait for a value that it is computing itself.
 *
 * You may serve a stale value while one caller computes a new one. Store values with a longer time to live than they
 * stay fresh. Tell by memstream_meta_t.created_at_ms that a value is stale, and pass its memstream_meta_t.cas to
 * memstream_lease().
 */

/**
 * Asks for the lease of a key: the right to compute its value.
 *
 * A shard has places for 48 leases. When none is free, the call still succeeds, and others may get a lease of the same
 * key. Use the lease as usual. The first of them that is fulfilled ends the others. Another write or delete of the key
 * ends them too, and about one in 32 writes of other keys in the shard does so too.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param stale_cas   0: grant the lease only if the key has no live entry. Otherwise the cas token of a stale entry:
 *                    grant it also if the entry has not changed since.
 * @param lease_ms    Milliseconds after which another caller may take the lease. 0: it lives as long as its process.
 * @param lease       Receives the lease. Never 0 with CACHE_OK, and 0 otherwise.
 * @retval CACHE_OK  The caller has the lease: compute the value.
 * @retval CACHE_EXISTS  The key has an entry, and not the stale one: get it.
 * @retval CACHE_HELD  A live process holds the lease: wait for it, or use the stale value.
 * @retval CACHE_PROCESS_TABLE_FULL  The process has no process slot yet, as may happen in a forked child. Compute
 *                                   without a lease, or try again later.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing has changed.
 * @threads Safe.
 * @processes Safe. Exactly one caller gets the lease while a place is free.
 * @ownership The caller ends the lease with memstream_lease_fulfil() or memstream_lease_release().
 */
CACHE_API int memstream_lease(memstream_t *cache, const void *key, size_t key_size, uint64_t stale_cas,
                              uint64_t lease_ms, uint64_t *lease);

/**
 * Waits until no live process holds a lease of a key. It does not tell what happened to the key.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param timeout_ms  Longest wait in milliseconds. 0: only check.
 * @retval CACHE_OK  No live process holds a lease of the key.
 * @retval CACHE_HELD  A live process holds one after `timeout_ms`.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @threads Safe. memstream_close() waits for the threads that wait here.
 * @processes Safe. Returns immediately when the lease ends, and within about 50 ms when its holder is killed or closes
 *            its handle.
 */
CACHE_API int memstream_lease_wait(memstream_t *cache, const void *key, size_t key_size, uint64_t timeout_ms);

/**
 * Waits for the end of one lease, and tells how it ended.
 *
 * If another caller takes the lease over from a holder that died, the call follows that one.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param followed    The lease to follow. Set it to 0 after memstream_lease() has returned CACHE_HELD, and pass it on
 *                    unchanged in the next calls.
 * @param timeout_ms  Longest wait in milliseconds. 0: only check.
 * @retval CACHE_OK  The lease was ended: get the value. If there is none, compute it without asking for a lease, so
 *                   that waiters do not compute one after the other.
 * @retval CACHE_MISS  The holder died or its time has passed, and no caller has taken the lease yet: ask for it.
 * @retval CACHE_HELD  A live process holds the lease after `timeout_ms`.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @threads Safe. memstream_close() waits for the threads that wait here.
 * @processes Safe. Notices within about 50 ms when the holder is killed or closes its handle.
 */
CACHE_API int memstream_lease_follow(memstream_t *cache, const void *key, size_t key_size, uint64_t *followed,
                                     uint64_t timeout_ms);

/**
 * Stores the computed value if the lease has not ended, and ends the lease, in one step. Wakes all waiters.
 *
 * After an error other than CACHE_CONFLICT the lease continues: release it, or try again.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param value       The bytes to store. May be NULL if `value_size` is 0.
 * @param value_size  Number of bytes, 0 to cache_stats_t.max_value_size.
 * @param ttl_ms      Time to live in milliseconds. 0: the entry never expires.
 * @param flags       32 bits of the caller, stored with the value.
 * @param lease       The lease, from memstream_lease().
 * @retval CACHE_OK  The value is stored.
 * @retval CACHE_CONFLICT  The lease has ended, or `lease` is 0. Nothing is stored: the computed value may be outdated.
 * @retval CACHE_PROCESS_TABLE_FULL  The process has no process slot.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_TOO_LARGE  The value is too large. Nothing was evicted for it.
 * @retval CACHE_FULL  Views and reservations pin all that could be evicted.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing is stored.
 * @threads Safe.
 * @processes Safe. Readers see the old value or the new one, never a mixture, even if the process is killed.
 */
CACHE_API int memstream_lease_fulfil(memstream_t *cache, const void *key, size_t key_size, const void *value,
                                     size_t value_size, uint64_t ttl_ms, uint32_t flags, uint64_t lease);

/**
 * Ends a lease without a value. Wakes all waiters.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param lease       The lease, from memstream_lease().
 * @retval CACHE_OK  The lease is ended.
 * @retval CACHE_CONFLICT  The lease has ended before, or `lease` is 0.
 * @retval CACHE_PROCESS_TABLE_FULL  The process has no process slot.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing has changed.
 * @threads Safe.
 * @processes Safe.
 */
CACHE_API int memstream_lease_release(memstream_t *cache, const void *key, size_t key_size, uint64_t lease);

/* ---- Waiting for a change ---- */

/**
 * Waits until the entry of a key is another one than the caller knows.
 *
 *   memstream_get(cache, key, key_size, value, &size, &meta);
 *   while (memstream_wait(cache, key, key_size, meta.cas, 1000) == CACHE_EXISTS) ...       (unchanged for a second)
 *
 * Every write of the entry is a change, also one with the same bytes; memstream_touch() is none. Expiry, delete, clear,
 * eviction and an invalidated tag end the entry, and wake as writes do. A waiter of a segment that is resized goes on
 * in its successor, where every token is new: the entry counts as changed there.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param cas         The cas token of the entry that the caller knows, memstream_meta_t.cas. 0: it knows of none, and
 *                    waits until the key has an entry.
 * @param timeout_ms  Longest wait in milliseconds. 0: only check.
 * @retval CACHE_OK  The key has an entry, and its token is not `cas`.
 * @retval CACHE_MISS  The key has no entry. With `cas` 0: it has had none for `timeout_ms`.
 * @retval CACHE_EXISTS  The token is still `cas` after `timeout_ms`.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing has changed.
 * @retval CACHE_GONE  The segment was destroyed.
 * @threads Safe. memstream_close() waits for the threads that wait here.
 * @processes Safe. A change wakes all waiters. A waiter also looks by itself, every 50 ms. By then it notices what
 *            a killed writer has changed, a time to live that is shortened, and that the segment is destroyed.
 */
CACHE_API int memstream_wait(memstream_t *cache, const void *key, size_t key_size, uint64_t cas, uint64_t timeout_ms);

/* ---- Views: reading without a copy ---- */

/**
 * A value where it lies. The library fills it.
 */
typedef struct memstream_view_t {
  const void *data; /* The value, read-only. Aligned to 16 bytes, and from 4,096 bytes on to 64 bytes. */
  size_t size;      /* Bytes of the value. */
  memstream_meta_t meta;
  uint64_t token; /* The library's. */
} memstream_view_t;

/**
 * Gives the value of a key in place.
 *
 * The bytes do not change until memstream_release(), even if any process replaces, deletes or evicts the key. A process
 * can hold about a thousand views in place, and many more in a large segment. When no place for another pin is free,
 * the library copies the value to its own memory instead. cache_stats_t.view_copies counts these copies. A handle that
 * is open for reading only always copies.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param view        Receives the view. Zeroed unless CACHE_OK.
 * @retval CACHE_OK  The view is taken.
 * @retval CACHE_MISS  The key has no live entry.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_BUSY  A writer stood still at this value until the deadline.
 * @threads Safe. Takes no lock unless the value is being written. Any thread may read and release the view.
 * @processes Safe. A view belongs to the process that took it: a forked child must not use or release it. It ends with
 *            the process, even if it is killed.
 * @ownership The caller ends the view with memstream_release(), or by closing the handle. Release only one
 *            copy of the struct.
 */
CACHE_API int memstream_view(memstream_t *cache, const void *key, size_t key_size, memstream_view_t *view);

/**
 * Ends a view.
 *
 * @param cache  The cache that the view is from.
 * @param view   The view. Zeroed with CACHE_OK.
 * @retval CACHE_OK  The view is ended.
 * @retval CACHE_BAD_HANDLE  This process does not hold the view: it was released before, or taken before a fork.
 * @threads Safe. Takes no lock on the segment and waits for no writer.
 * @processes Safe. The memory of a value that was replaced or deleted becomes free.
 */
CACHE_API int memstream_release(memstream_t *cache, memstream_view_t *view);

/**
 * Tells whether a view shows the value in the segment or a copy of it.
 *
 * @param cache     The cache that the view is from.
 * @param view      A view that is not released.
 * @param in_place  Receives 1 if the view shows the segment. Receives 0 if the library has copied the value, because
 *                  the handle is read-only or no place for a pin was free.
 * @retval CACHE_OK  `*in_place` is set.
 * @threads Safe.
 * @processes Not shared: reads no segment.
 */
CACHE_API int memstream_view_in_place(memstream_t *cache, const memstream_view_t *view, int *in_place);

/* ---- Reservations: writing without a copy ---- */

/**
 * Memory for a value that is not stored yet. The library fills it.
 */
typedef struct memstream_reservation {
  void *data;     /* `size` bytes for the caller to fill. Undefined at first. Aligned like a view. */
  size_t size;    /* Bytes of the value. */
  uint64_t token; /* The library's. */
} memstream_reservation_t;

/**
 * Reserves memory in the segment for a value. No reader sees it before memstream_commit().
 *
 * When no place for another pin is free, or nothing more can be evicted, the library gives memory of its own, and
 * memstream_commit() copies it.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param value_size  Bytes of the value, 0 to cache_stats_t.max_value_size.
 * @param reservation Receives the reservation. Zeroed unless CACHE_OK.
 * @retval CACHE_OK  The memory is reserved.
 * @retval CACHE_TOO_LARGE  The value is too large. Nothing was evicted for it.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing has changed.
 * @threads Safe. Any thread may fill, commit or abort the reservation.
 * @processes Safe. A reservation belongs to the process that made it, and ends with it, even if it is killed.
 * @ownership The caller ends it with memstream_commit() or memstream_abort(), or by closing the handle.
 */
CACHE_API int memstream_reserve(memstream_t *cache, const void *key, size_t key_size, size_t value_size,
                                memstream_reservation_t *reservation);

/**
 * Makes a filled reservation the value of its key, in one step, as memstream_set() would.
 *
 * After CACHE_BUSY the reservation continues: commit or abort it again later. After CACHE_BAD_HANDLE it is unchanged.
 * After any other error it has ended.
 *
 * @param cache        The cache that the reservation is from.
 * @param reservation  The reservation. Zeroed when it ends.
 * @param ttl_ms       Time to live in milliseconds. 0: the entry never expires.
 * @param flags        32 bits of the caller, stored with the value.
 * @retval CACHE_OK  The value is stored.
 * @retval CACHE_BAD_HANDLE  This process does not hold it: it was committed or aborted before, or made before a fork.
 * @retval CACHE_FULL  The library had to copy, and views and reservations pin all that could be evicted.
 * @retval CACHE_CORRUPT  Other bytes were written over the reservation. Its value is lost.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing is stored.
 * @threads Safe.
 * @processes Safe. Readers see the old value or the new one, never a mixture, even if the process is killed.
 */
CACHE_API int memstream_commit(memstream_t *cache, memstream_reservation_t *reservation, uint64_t ttl_ms,
                               uint32_t flags);

/**
 * Ends a reservation without storing it.
 *
 * @param cache        The cache that the reservation is from.
 * @param reservation  The reservation. Zeroed when it ends.
 * @retval CACHE_OK  The memory is free again.
 * @retval CACHE_BAD_HANDLE  This process does not hold it: it was committed or aborted before, or made before a fork.
 * @threads Safe. Takes no lock on the segment and waits for no writer.
 * @processes Safe.
 */
CACHE_API int memstream_abort(memstream_t *cache, memstream_reservation_t *reservation);

/* ---- Inspection ---- */

/**
 * One entry, as a scan reports it. The library fills it.
 */
typedef struct memstream_entry {
  uint64_t value_size;              /* Bytes of the value. */
  uint64_t stored_size;             /* Bytes of its block: key, value, header, rounding. Their sum is used_memory. */
  uint64_t data_offset;             /* Position of the value's first byte, in bytes from the start of the segment. */
  uint64_t created_at_ms;           /* When this value was stored. */
  uint64_t last_access_ms;          /* Last get or view, or the store if there was none. See memstream_get(). */
  uint64_t expires_at_ms;           /* When it expires. 0: never. */
  uint64_t access_count;            /* Gets and views: see memstream_get(). Beyond 64 an estimate within a tenth. */
  uint64_t cas;                     /* Token for memstream_cas(). */
  uint32_t flags;                   /* The caller's 32 bits, as stored. */
  uint32_t key_size;                /* Bytes of the key. */
  uint32_t shard;                   /* Number of the shard that holds it, from 0. */
  uint32_t is_valid;                /* Always 1: no function reports an expired entry. */
  char key[CACHE_MAX_KEY_SIZE + 8]; /* `key_size` bytes, then a NUL. */
} memstream_entry_t;

/**
 * Lists the entries of the cache, a part in each call.
 *
 * Reports an entry exactly once if it exists during the whole scan. An entry that is stored or removed meanwhile may be
 * missing, or be reported twice. Any entry may be reported twice if the table of entries shrinks meanwhile. Leaves out
 * expired entries and counts as no access.
 *
 * @param cache     An open cache.
 * @param cursor    0 for the first call, then what the last call stored, unchanged. It is 0 again when the scan is
 *                  complete.
 * @param entries   The array to fill.
 * @param capacity  Number of elements of the array, at least 1.
 * @param count     Receives the number of elements that were filled.
 * @retval CACHE_OK  The elements are filled.
 * @retval CACHE_INVALID  A pointer is NULL, or `capacity` is 0.
 * @retval CACHE_BUSY  A lock was held until the deadline. The elements before it are filled, `*cursor` is unchanged.
 * @threads Safe. Each scan needs a cursor of its own.
 * @processes Safe. Others read and write meanwhile.
 */
CACHE_API int memstream_scan(memstream_t *cache, uint64_t *cursor, memstream_entry_t *entries, size_t capacity,
                             size_t *count);

/**
 * Describes the entry of one key, as a scan would. Counts as no access.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param entry       The struct to fill.
 * @retval CACHE_OK  The struct is filled.
 * @retval CACHE_MISS  The key has no live entry.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_BUSY  A lock was held until the deadline.
 * @threads Safe.
 * @processes Safe.
 */
CACHE_API int memstream_entry_info(memstream_t *cache, const void *key, size_t key_size, memstream_entry_t *entry);

/**
 * Fills a struct with the statistics of the segment, as cache_get_stats() does.
 *
 * @param cache  An open cache.
 * @param stats  The struct to fill. Set `stats->struct_size` to sizeof(cache_stats_t) before the call.
 * @retval CACHE_OK  The struct is filled. `stats->busy_shards` counts the shards that were read without a lock.
 * @retval CACHE_INVALID  `stats->struct_size` is not the size of this version or of an earlier one.
 * @threads Safe.
 * @processes Safe. Cleans up after processes that have died, unless the handle is read-only.
 */
CACHE_API int memstream_stats(memstream_t *cache, cache_stats_t *stats);

/**
 * The segment that a handle is open on. The library fills it.
 */
typedef struct memstream_info_t {
  size_t struct_size;      /* In: sizeof(memstream_info_t). */
  const char *backend;     /* "posix" or "sysv". Lives as long as the handle. */
  const char *name;        /* The name of the cache. Lives as long as the handle. */
  uint64_t size_bytes;     /* Size of the segment in bytes. */
  uint32_t layout_version; /* Version of the layout of its bytes. */
  uint32_t read_only;      /* 1 if the handle is open for reading only, else 0. */
  uint8_t uuid[16];        /* Identifies the segment: a segment that is created again gets a new one. */
} memstream_info_t;

/**
 * Describes the segment that a handle is open on.
 *
 * @param cache  An open cache.
 * @param info   The struct to fill. Set `info->struct_size` to sizeof(memstream_info_t) before the call.
 * @retval CACHE_OK  The struct is filled.
 * @retval CACHE_INVALID  `info->struct_size` is not sizeof(memstream_info_t).
 * @threads Safe.
 * @processes Not shared: reads what the handle knows since it was opened.
 * @ownership The texts belong to the handle and live as long.
 */
CACHE_API int memstream_info(memstream_t *cache, memstream_info_t *info);

/**
 * An attached process. The library fills it.
 */
typedef struct memstream_process {
  uint32_t pid;        /* Process id. */
  uint32_t pins;       /* Views and reservations that it holds in the segment. */
  uint64_t start_time; /* Start of the process, in clock ticks since boot. */
  uint64_t hits;       /* Its gets and views that found their key. */
  uint64_t misses;     /* Its gets and views that did not find their key. */
  uint64_t puts;       /* Its calls that stored a value. */
} memstream_process_t;

/**
 * Lists the live processes that are attached. All handles of a process count together.
 *
 * @param cache      An open cache.
 * @param processes  The array to fill. May be NULL if `capacity` is 0.
 * @param capacity   Number of elements of the array.
 * @param count      Receives the number of processes. The first `capacity` of them are filled.
 * @retval CACHE_OK  The elements are filled.
 * @threads Safe.
 * @processes Safe. Cleans up after processes that have died, unless the handle is read-only. Handles that are open for
 *            reading only are not listed.
 */
CACHE_API int memstream_processes(memstream_t *cache, memstream_process_t *processes, size_t capacity, size_t *count);

/**
 * Verifies every invariant of the segment, shard by shard, under the lock of the shard. Changes no entry.
 *
 * A shard with more than 2,048 blocks or entries takes several holds of the lock. If other processes change it between
 * them three times, the call verifies its entries one by one and leaves out sums and free blocks.
 *
 * @param cache     An open cache.
 * @param problems  Receives the number of problems.
 * @retval CACHE_OK  No problem was found.
 * @retval CACHE_CORRUPT  Problems were found. cache_last_error() describes the first ones.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. `*problems` is not set.
 * @threads Safe.
 * @processes Safe. Writers of a shard wait for one slice of the work at most.
 */
CACHE_API int memstream_check(memstream_t *cache, uint64_t *problems);

/** What memstream_repair() found and dropped, in all shards together. The caller sets struct_size. */
typedef struct memstream_repair_report {
  size_t struct_size;       /* In: sizeof(memstream_repair_report_t). The struct may grow. */
  uint64_t problems;        /* Problems that memstream_check() would have reported before. */
  uint64_t dropped_entries; /* Entries dropped because their block was damaged, or another entry's. */
  uint64_t damaged_values;  /* Entries dropped because the value did not match its checksum. */
  uint64_t emptied_shards;  /* Shards of which nothing could be rebuilt. */
  uint64_t entries;         /* Entries that are left. */
} memstream_repair_report_t;

/**
 * Rebuilds every shard from its authoritative state, and drops what is damaged.
 *
 * The call does what the next process does after the death of a writer. In a segment with checksums
 * (MEMSTREAM_CHECKSUM) it verifies all values. Other processes wait while their shard is rebuilt: about 0.2 s for a
 * million entries. With checksums they wait as long as it takes to read all values of the shard.
 *
 * @param cache  An open cache.
 * @param report  The caller's struct. Holds what the call found and dropped.
 * @retval CACHE_OK  The segment is valid, whatever the call found.
 * @retval CACHE_INVALID  A pointer is NULL, or struct_size is unknown.
 * @retval CACHE_READ_ONLY  The handle may only read.
 * @retval CACHE_BUSY  A shard was locked until the deadline. The shards before it are done.
 * @threads Safe.
 * @processes Safe. Takes the write lock of one shard after the other.
 */
CACHE_API int memstream_repair(memstream_t *cache, memstream_repair_report_t *report);

/**
 * What memstream_reap() found and freed.
 */
typedef struct memstream_reap_report_t {
  size_t struct_size;   /* In: sizeof(memstream_reap_report_t). The struct may grow. */
  uint64_t processes;   /* Processes that ended without leaving, found since `cache` was opened. */
  uint64_t pins;        /* Views and reservations that these held. */
  uint64_t leases;      /* Leases of dead processes. */
  uint64_t locks;       /* Shards that were repaired, because a holder of their lock had died. */
  uint64_t freed_bytes; /* Of blocks that only pins had kept. */
} memstream_reap_report_t;

/**
 * Frees everything that dead processes still hold. Otherwise each is freed by the first process that meets it.
 *
 * @param cache   An open cache, not read-only.
 * @param report  The struct to fill. Set `report->struct_size` before the call.
 * @retval CACHE_OK  Dead processes hold nothing any more.
 * @retval CACHE_BUSY  A live process held a lock until the deadline. The shards before are done.
 * @retval CACHE_READ_ONLY  The cache was opened for reading only.
 * @retval CACHE_INVALID  `report->struct_size` is not the size of this version.
 * @threads Safe.
 * @processes Safe. Takes the write lock of one shard after the other.
 */
CACHE_API int memstream_reap(memstream_t *cache, memstream_reap_report_t *report);

/**
 * What memstream_resize() did.
 */
typedef struct memstream_resize_report_t {
  size_t struct_size;  /* In: sizeof(memstream_resize_report_t). The struct may grow. */
  uint64_t old_bytes;  /* Size of the segment before. */
  uint64_t new_bytes;  /* Size of the segment now: as asked for, rounded up to whole pages. */
  uint64_t copies;     /* Entries that were copied. One that others wrote meanwhile counts again. */
  uint64_t passes;     /* Looks at what others had changed meanwhile. */
  uint64_t stopped_ns; /* For how long writers waited at the end, in nanoseconds. */
} memstream_resize_report_t;

/**
 * Replaces the segment by one of another size, while other processes go on using it.
 *
 * The new segment takes the entries, the hottest first; a smaller one takes as many as fit. Both exist until the last
 * process has attached to the new one, which each does by itself in its next call. Views stay valid, leases end, and a
 * compare-and-set with a token of the old segment gets CACHE_CONFLICT. Gets go on meanwhile; writers wait at the end,
 * for a quarter of a second at most. Of two calls at a time the second waits for the first, and then resizes the
 * segment that the first has made.
 *
 * @param cache       An open cache, not read-only.
 * @param size_bytes  The new size, as memstream_options_t.size_bytes has it.
 * @param report      The struct to fill. Set `report->struct_size` before the call.
 * @retval CACHE_OK  The new segment has the name of the old one, and `cache` uses it.
 * @retval CACHE_BAD_SIZE  There cannot be a segment of that size.
 * @retval CACHE_NO_MEMORY  The system has no memory for both segments. The old one is unchanged.
 * @retval CACHE_BUSY  Others wrote faster than entries could be copied, held a lock until the deadline, or create,
 *                     remove or resize the segment themselves. The old one is unchanged.
 * @retval CACHE_READ_ONLY  The cache was opened for reading only.
 * @retval CACHE_INVALID  `report->struct_size` is not the size of this version.
 * @threads Safe.
 * @processes Safe. A process that is killed in this call leaves the old segment or the new one, whole.
 */
CACHE_API int memstream_resize(memstream_t *cache, uint64_t size_bytes, memstream_resize_report_t *report);

/* ---- Segments of this machine ---- */

/**
 * Gives the name of a backend by its number.
 *
 * @param number  From 0 on: "posix", then "sysv".
 * @return The name. NULL past the last one.
 * @threads Safe.
 * @processes Not shared: reads no segment.
 * @ownership The text belongs to the library and is constant.
 */
CACHE_API const char *memstream_backend_name(size_t number);

/**
 * A segment of this machine, seen from outside and by a read-only attach. The library fills it.
 */
typedef struct memstream_segment {
  char name[72];           /* The name of the cache. Empty if the segment carries none. */
  char system_id[88];      /* The system's name for it, such as "/memstream.default" or "shmid 3". */
  uint64_t size_bytes;     /* Size in bytes. */
  uint64_t attached;       /* Attachments that the system counts. 0 on POSIX, which counts none. */
  uint64_t entries;        /* Live entries. Set only if `status` is CACHE_OK, like the next two. */
  uint64_t processes;      /* Attached processes, including dead ones that nobody has cleaned up after. */
  uint64_t created_at_ms;  /* Creation, Unix time in milliseconds. */
  uint32_t layout_version; /* Version of the layout of its bytes. Set only if `status` is CACHE_OK. */
  uint32_t mode;           /* Permission bits. */
  uint32_t owner_uid;      /* User id of the owner. */
  int32_t status;          /* The result of a read-only attach: CACHE_OK, CACHE_NO_PERMISSION, CACHE_BAD_VERSION, ... */
  uint64_t reserved[4];    /* 0. */
} memstream_segment_t;

/**
 * Lists the segments of MemStream on a backend, including damaged ones and those of other users.
 *
 * @param backend       A name that memstream_backend_name() gives.
 * @param segments      The array to fill. May be NULL if `capacity` is 0.
 * @param segment_size  sizeof(memstream_segment_t).
 * @param capacity      Number of elements of the array.
 * @param count         Receives the number of segments. The first `capacity` of them are filled.
 * @retval CACHE_OK  The elements are filled.
 * @retval CACHE_BAD_BACKEND  No backend has this name.
 * @retval CACHE_INVALID  A pointer is NULL, or `segment_size` is not sizeof(memstream_segment_t).
 * @threads Safe.
 * @processes Safe. Takes no lock and changes nothing. A segment that is created or removed meanwhile may be missing.
 */
CACHE_API int memstream_segments(const char *backend, memstream_segment_t *segments, size_t segment_size,
                                 size_t capacity, size_t *count);

#ifdef __cplusplus
}
#endif

#endif
