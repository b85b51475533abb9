/*
 * MemStream: a key-value cache that the processes of one machine share through one shared memory segment.
 *
 * This header is the small interface: one cache per process, configured by the environment.
 * api/memstream.h is the full one: several caches, binary keys, ttl, views without a copy, scans.
 *
 *   cache_connect();
 *   cache_put("key", "value", 5);
 *   char room[64]; size_t size = sizeof room;
 *   if (cache_get("key", room, &size) == CACHE_OK) ...        (size is now 5)
 *
 * Rules of this interface:
 *  1. Every function returns a status: 0 is success, positive values are expected outcomes (CACHE_MISS), negative
 *     values are errors. cache_strerror() gives a fixed sentence for a status, cache_last_error() the full story of the
 *     calling thread's last error.
 *  2. Every function may be called from any thread at any time, in any number of processes. No C++ exception leaves it.
 *  3. The library copies what it needs of the arguments before it returns; it never frees the caller's memory.
 *  4. A process may be killed at any instruction: completed writes stay, the others go on.
 *  5. After fork() the child goes on with the parent's connection; it need not connect again. A child of vfork() or
 *     clone(CLONE_VM) must not call the library. A child that a signal handler forks in the middle of a call gets
 *     CACHE_GONE and connects again; it must not return into that call.
 *  6. None of the functions is async-signal-safe.
 */
#ifndef MEMSTREAM_CACHE_H
#define MEMSTREAM_CACHE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define CACHE_API __attribute__((visibility("default")))
#else
#define CACHE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Limits that do not depend on the segment. */
#define CACHE_MAX_KEY_SIZE 1024 /* bytes; the least is 1 */

/* Statuses. The numbers never change. */
enum cache_status {
  CACHE_OK = 0,
  CACHE_MISS = 1,     /* no live entry has this key */
  CACHE_EXISTS = 2,   /* add: the key is there already */
  CACHE_CONFLICT = 3, /* cas: the entry changed since the token was taken; a lease: it ended before */
  CACHE_HELD = 4,     /* lease: another thread or process, alive, holds the lease of this key */

  CACHE_INVALID = -1,       /* NULL where a pointer is needed, or a struct of unknown size */
  CACHE_BAD_KEY = -2,       /* key of 0 bytes or of more than CACHE_MAX_KEY_SIZE */
  CACHE_TOO_LARGE = -3,     /* value above cache_stats_t.max_value_size; nothing was evicted for it */
  CACHE_TOO_SMALL = -4,     /* the buffer does not hold the value; *value_size says what is needed */
  CACHE_NOT_CONNECTED = -5, /* call cache_connect() first */
  CACHE_NOT_NUMERIC = -6,   /* incr: not a decimal integer, or the result leaves the 64-bit range */
  CACHE_READ_ONLY = -7,     /* this attach may only read */
  CACHE_BAD_HANDLE = -8,    /* a view or reservation that this process does not hold */

  CACHE_BAD_BACKEND = -20,   /* MEMSTREAM_BACKEND */
  CACHE_BAD_NAME = -21,      /* MEMSTREAM_NAME */
  CACHE_BAD_SIZE = -22,      /* MEMSTREAM_SIZE */
  CACHE_BAD_SHARDS = -23,    /* MEMSTREAM_SHARDS */
  CACHE_BAD_TIMEOUT = -24,   /* MEMSTREAM_TIMEOUT_MS */
  CACHE_BAD_MODE = -25,      /* MEMSTREAM_MODE */
  CACHE_BAD_HUGEPAGES = -26, /* MEMSTREAM_HUGEPAGES */
  CACHE_BAD_PREFAULT = -27,  /* MEMSTREAM_PREFAULT */
  CACHE_BAD_MAX_VALUE = -28, /* MEMSTREAM_MAX_VALUE */
  CACHE_BAD_GROUP = -29,     /* MEMSTREAM_GROUP */

  CACHE_BUSY = -40,               /* others held the shard until the deadline */
  CACHE_GONE = -41,               /* the segment was destroyed, or its name was removed; connect again for a new one */
  CACHE_NO_MEMORY = -42,          /* the machine or the container has no memory left for this */
  CACHE_PROCESS_TABLE_FULL = -43, /* every process slot of the segment is taken by a live process */
  CACHE_FULL = -44,               /* views and reservations hold so much that nothing can be evicted */
  CACHE_NO_HUGE_PAGES = -45,      /* huge pages are required, and not to be had */

  CACHE_NO_SEGMENT = -60,        /* there is no such segment */
  CACHE_NOT_OWNER = -61,         /* it belongs to another user */
  CACHE_NO_PERMISSION = -62,     /* the system refuses access */
  CACHE_BAD_MAGIC = -63,         /* not a MemStream segment */
  CACHE_BAD_VERSION = -64,       /* made by a version with another layout */
  CACHE_SIZE_MISMATCH = -65,     /* header and system disagree about the size */
  CACHE_NAME_MISMATCH = -66,     /* it carries another name */
  CACHE_BAD_CHECKSUM = -67,      /* its header is damaged */
  CACHE_BAD_STATE = -68,         /* its state is none that exists */
  CACHE_TRUNCATED = -69,         /* smaller than its header says */
  CACHE_NOT_SHARED_MEMORY = -70, /* a directory, FIFO or other file stands under its name */
  CACHE_OTHER_NAMESPACE = -71,   /* another IPC or time namespace, or a pid namespace beside live ones */
  CACHE_OTHER_LIBC = -72,        /* made with another C library or other pthread types */
  CACHE_OTHER_BYTE_ORDER = -73,  /* made on a machine of other byte order */
  CACHE_OTHER_BOOT = -74,        /* made before the last reboot */
  CACHE_CORRUPT = -75,           /* damaged bytes were met */

  CACHE_OS_ERROR = -90, /* a system call failed; cache_last_error() names it */
  CACHE_INTERNAL = -91  /* a defect of the library; please report cache_last_error() */
};

/*
 * A snapshot of the whole segment. Counters run from the creation of the segment and cover all processes, also those
 * that have ended; sizes are bytes. Sampled shard by shard: while others write, the sum may be a few operations old.
 */
typedef struct cache_stats {
  size_t struct_size; /* in: sizeof(cache_stats_t), so that the struct may grow */

  uint64_t max_memory;       /* size of the segment: the number the user gave, rounded up to whole pages */
  uint64_t used_memory;      /* blocks of live entries: keys, values, block headers, rounding */
  uint64_t table_memory;     /* entry tables and buckets as they stand now */
  uint64_t committed_memory; /* memory that the system has really given */
  uint64_t pinned_memory;    /* blocks kept only by views, and reservations */
  uint64_t value_memory;     /* bytes of the live values alone */
  uint64_t key_memory;       /* bytes of the live keys alone */
  uint64_t max_value_size;   /* largest value that a put accepts, for a key of 1 byte */

  uint64_t entries;        /* live entries (an expired one counts until it is noticed) */
  uint64_t entry_capacity; /* entries that the tables hold without growing */
  uint64_t shards;
  uint64_t processes; /* attached processes that are alive */

  uint64_t hits;
  uint64_t misses;
  uint64_t puts;            /* set, add, replace, cas, incr and commit that stored something */
  uint64_t deletes;         /* deletes that found their key */
  uint64_t evictions;       /* entries removed to make room */
  uint64_t expirations;     /* entries removed because their time had come */
  uint64_t recoveries;      /* shards put right after a holder of the lock had died */
  uint64_t damaged;         /* entries dropped because their bytes made no sense */
  uint64_t commit_failures; /* times the system refused more memory and the cache evicted instead */
  uint64_t dead_processes;  /* processes that ended without disconnecting and were cleaned up after */

  uint64_t created_at_ms; /* creation of the segment, Unix time in ms */
  uint64_t now_ms;        /* the segment's clock, Unix time in ms */

  uint64_t page_size;  /* bytes of the pages this process sees the segment in, as the kernel says; 0: it does not */
  uint64_t huge_pages; /* what this process asked for (MEMSTREAM_HUGEPAGES): 0 off, 1 try, 2 require */

  uint64_t view_copies; /* views that the library had to copy because no place for one more was free */
  /*
   * Of max_memory, what the system can give at all: less where the /dev/shm is smaller than the segment. The cache is
   * full at about that size.
   */
  uint64_t reachable_memory;
  uint64_t busy_shards; /* shards that somebody held until the deadline: their numbers may contradict each other */
} cache_stats_t;

/*
 * Connects the process to its cache: creates the segment if it is absent, attaches if it is present; never shrinks,
 * wipes or unlinks one. Reads the environment:
 *   MEMSTREAM_BACKEND     sysv or posix                            (posix)
 *   MEMSTREAM_NAME        1 to 64 of A-Z a-z 0-9 . _ -             (default)
 *   MEMSTREAM_SIZE        1M to the machine's limit; K, M, G       (256M)
 *   MEMSTREAM_SHARDS      1 to 64                                  (one per 32 MiB up to 6, then one
 *                                                                  per 170 MiB; of the /dev/shm, if
 *                                                                  that is smaller)
 *   MEMSTREAM_MAX_VALUE   1 to a quarter of the size; K, M, G      (as the shards allow: a sixteenth
 *                                                                  of the size at least, up to 1G)
 *   MEMSTREAM_TIMEOUT_MS  0 to 3600000: longest wait for a lock    (1000)
 *   MEMSTREAM_MODE        octal permission bits of a new segment   (0600)
 *   MEMSTREAM_GROUP       group of a new segment: name or number   (the creator's)
 *   MEMSTREAM_HUGEPAGES   off, try or require                      (off)
 *   MEMSTREAM_PREFAULT    off or on                                (off)
 * A value that does not parse is an error that names the variable. Connecting twice is the same as once; connecting
 * after CACHE_GONE gives a new segment.
 * Returns CACHE_OK or an error of the groups "environment", "moment", "segment found".
 */
CACHE_API int cache_connect(void);

/*
 * Stores `value_size` bytes at `value` under the NUL-terminated string `key`, instead of what was there. It never
 * expires. `value` may be NULL if `value_size` is 0. A full cache evicts; it does not refuse.
 * Returns CACHE_OK; CACHE_BAD_KEY, CACHE_TOO_LARGE, CACHE_NOT_CONNECTED, CACHE_INVALID, CACHE_BUSY, CACHE_GONE, ...
 */
CACHE_API int cache_put(const char *key, const void *value, size_t value_size);

/*
 * Copies the value of `key` to `value`. `*value_size` is the room in bytes on entry and the size of the value on
 * return. `value` may be NULL if the room is 0: a way to ask for the size.
 * Returns CACHE_OK; CACHE_MISS (*value_size is 0 then); CACHE_TOO_SMALL (nothing copied, *value_size says what is
 * needed).
 */
CACHE_API int cache_get(const char *key, void *value, size_t *value_size);

/* Removes `key`. Returns CACHE_OK, or CACHE_MISS if it was not there. */
CACHE_API int cache_delete(const char *key);

/*
 * Fills `*stats`; waits for others until the deadline at most, and then reads without the lock what they hold.
 * REQUIRES: stats->struct_size is sizeof(cache_stats_t), of this version or of an earlier one.
 */
CACHE_API int cache_get_stats(cache_stats_t *stats);

/*
 * Detaches the process; waits for calls of other threads that are under way. The segment and its contents stay.
 * Returns CACHE_OK or CACHE_NOT_CONNECTED.
 */
CACHE_API int cache_disconnect(void);

/*
 * Destroys the segment that the process is connected to, or, when it is not connected, the one that the environment
 * names; then disconnects. Other processes that are attached get CACHE_GONE from then on, and may connect again.
 * Returns CACHE_OK or CACHE_NO_SEGMENT, CACHE_NOT_OWNER, ...
 */
CACHE_API int cache_destroy(void);

/* A fixed English sentence for a status. Never NULL; the memory belongs to the library. */
CACHE_API const char *cache_strerror(int status);

/*
 * What the calling thread's last error was about, with the names and numbers of the case and what to do. Never NULL;
 * empty if there was none. Valid until the thread's next failing call.
 */
CACHE_API const char *cache_last_error(void);

/* The version of the library, "MAJOR.MINOR.PATCH". */
CACHE_API const char *cache_version(void);

#ifdef __cplusplus
}
#endif

#endif
