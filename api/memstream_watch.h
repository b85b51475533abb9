/* The C interface, watches: a descriptor that becomes readable when keys under a prefix change, in whatever process,
   and the names of these keys. Include memstream.h for everything else. docs/abi.md explains them.

     memstream_watch_t *watch;
     memstream_watch(cache, "config:", 7, &watch);
     ... read all keys under "config:" ...
     struct pollfd event = {memstream_watch_fd(watch), POLLIN, 0};
     int status = CACHE_MISS;
     while (status == CACHE_MISS && poll(&event, 1, -1) > 0) {
       char key[CACHE_MAX_KEY_SIZE];
       size_t size = sizeof key;
       while ((status = memstream_watch_next(watch, key, &size, 0)) == CACHE_OK) {
         if (size == 0) ... any key under "config:" may have changed: read all of them ...
         else ... read this key ...
         size = sizeof key;
       }
     }
     ... CACHE_GONE: the segment was destroyed. The descriptor stays readable ... */
#ifndef MEMSTREAM_API_MEMSTREAM_WATCH_H_
#define MEMSTREAM_API_MEMSTREAM_WATCH_H_

#include "memstream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Watches ---- */

/**
 * A watch on the keys under a prefix.
 */
typedef struct memstream_watch_handle memstream_watch_t;

/**
 * Begins to watch the keys that begin with a prefix.
 *
 * A thread of the library reads what writers note. It serves all watches of a handle, and ends with the last of them.
 * Writers note keys only while somebody watches, and otherwise pay nothing.
 *
 * A key changes when it is stored, deleted, evicted, cleared or touched. An entry that expires is not named until
 * something removes it: keep its expires_at_ms. What changes entries together makes the watch say "look again": an
 * invalidated tag, a resize, a repair after a killed writer, a near cache that has lost its server. So do more changes
 * than the segment holds.
 *
 * @param cache        An open cache, of at least 16 MiB. It may be closed before the watch.
 * @param prefix       The first bytes of the keys to watch. May be NULL if `prefix_size` is 0.
 * @param prefix_size  Number of bytes, 0 to CACHE_MAX_KEY_SIZE. 0: all keys.
 * @param watch        Receives the watch. End it by memstream_watch_end().
 * @retval CACHE_OK  Each change that begins from now on is told.
 * @retval CACHE_INVALID  The prefix is too long, or the segment does not name changes: it is smaller than 16 MiB.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline.
 * @retval CACHE_NO_MEMORY  The system has no memory for the names of the keys.
 * @retval CACHE_OS_ERROR  The system has no descriptor or no thread left for the watch.
 * @threads Safe.
 * @processes Safe. A child of fork() begins a watch of its own.
 */
CACHE_API int memstream_watch(memstream_t *cache, const void *prefix, size_t prefix_size, memstream_watch_t **watch);

/**
 * Returns the descriptor of a watch, for poll() and the like.
 *
 * It is readable as long as memstream_watch_next() has something to tell. Do not read from it, and do not close it.
 *
 * @param watch  A watch.
 * @return The descriptor, or -1 if `watch` is NULL.
 * @threads Safe.
 * @processes Not shared: reads no segment.
 */
CACHE_API int memstream_watch_fd(const memstream_watch_t *watch);

/**
 * Tells which key has changed, and forgets it.
 *
 * A key that changes often is told once, until you have asked for it. Keys come in no particular order.
 *
 * @param watch       A watch.
 * @param key         Receives the key.
 * @param key_size    In: the room at `key`; CACHE_MAX_KEY_SIZE suffices for every key. Out: the size of the key. 0 says
 *                    "look again": any key under the prefix may have changed, more than the watch can name.
 * @param timeout_ms  How long to wait for a change. 0: not at all.
 * @retval CACHE_OK  A key has changed, or `*key_size` is 0.
 * @retval CACHE_MISS  Nothing has changed within that time.
 * @retval CACHE_TOO_SMALL  The key does not fit. `*key_size` is its size, and the key stays.
 * @retval CACHE_GONE  The segment was destroyed, or this process is a child of the one that began the watch. End the
 *                     watch and begin another one.
 * @threads Safe. Each change is told to one of the callers.
 * @processes Not shared: a child of fork() gets CACHE_GONE.
 */
CACHE_API int memstream_watch_next(memstream_watch_t *watch, void *key, size_t *key_size, uint64_t timeout_ms);

/**
 * Ends a watch, and closes its descriptor.
 *
 * @param watch  The watch, which becomes NULL. It may be NULL already. No other thread may use it any more.
 * @retval CACHE_OK  The watch has ended.
 * @threads Not safe for one watch.
 * @processes Safe. In a child of fork() it leaves the parent's watch alone.
 */
CACHE_API int memstream_watch_end(memstream_watch_t **watch);

#ifdef __cplusplus
}
#endif

#endif
