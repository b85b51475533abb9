/*
 * MemStream: a key-value cache that the processes of one machine share through one shared memory segment.
 *
 * START HERE. This header is the small interface: one cache per process, configured by environment variables.
 * memstream.h is the full interface: several caches, binary keys, time to live, values in place, leases, scans.
 *
 *   #include <memstream/cache.h>
 *
 *   char value[64];
 *   size_t size = sizeof value;                                  (the capacity of the buffer, in bytes)
 *   if (cache_connect() != CACHE_OK) return puts(cache_last_error());
 *   cache_put("key", "value", 5);
 *   if (cache_get("key", value, &size) == CACHE_OK) ...          (size is now 5)
 *
 * Rules of the ABI. They hold for every function of all headers.
 *
 *  1. A function that can fail returns a status as an int. 0 is success, positive numbers are expected outcomes such as
 *     CACHE_MISS, negative numbers are errors. A number never changes its meaning.
 *  2. cache_strerror() gives a fixed sentence for a status. The message of the calling thread's last error is
 *     cache_last_error(): it names the values involved and the remedy.
 *  3. Any thread may call any function at any time, in any number of processes. No function is async-signal-safe.
 *  4. No C++ exception leaves the library. The library never ends the process.
 *  5. NULL where a pointer is needed is CACHE_INVALID. A pointer to bytes may be NULL if their number is 0.
 *  6. The library copies what it needs of the arguments before it returns. It never frees the caller's memory.
 *  7. Sizes are bytes, durations are milliseconds, points in time are Unix time in milliseconds.
 *  8. A process may be killed at any instruction. Completed writes stay, and the other processes continue.
 *  9. A stopped process is not a dead one. A call that needs a lock which another process holds waits until the
 *     deadline, MEMSTREAM_TIMEOUT_MS, and then returns CACHE_BUSY. It has changed nothing, and you may repeat it.
 * 10. After fork() the child uses its parent's connection and handles as a process of its own. A child of vfork() or of
 *     clone(CLONE_VM) must not call the library. A child that a signal handler forks in the middle of a call gets
 *     CACHE_GONE; it must connect again, and it must not return into that call.
 * 11. Besides the statuses that its comment lists, every function on a cache may return these: CACHE_INVALID,
 *     CACHE_GONE, CACHE_NO_MEMORY, CACHE_CORRUPT, CACHE_OS_ERROR and CACHE_INTERNAL. The first call of a forked child
 *     attaches the child, and may return the errors of cache_connect().
 *
 * All comments have the same parts: what the function does, parameters, result, thread safety, process safety.
 * @ownership follows where memory changes hands. docs/reference-c.md is generated from these comments.
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

/* ---- Version of these headers ---- */

/* cache_version() and memstream_version() give the version of the library that is loaded. */
#define MEMSTREAM_VERSION_MAJOR 0
#define MEMSTREAM_VERSION_MINOR 1
#define MEMSTREAM_VERSION_PATCH 0
/* For comparisons: 10203 is version 1.2.3. */
#define MEMSTREAM_VERSION_NUMBER \
  (MEMSTREAM_VERSION_MAJOR * 10000 + MEMSTREAM_VERSION_MINOR * 100 + MEMSTREAM_VERSION_PATCH)

/* ---- Limits ---- */

#define CACHE_MAX_KEY_SIZE 1024 /* Bytes of the longest key. The shortest key has 1 byte. */

/* ---- Statuses ---- */

/**
 * The result of a call. docs/troubleshooting.md gives the usual cause and the remedy of each.
 */
enum cache_status {
  CACHE_OK = 0,

  /* Expected outcomes: 1 to 19. They leave cache_last_error() alone. */
  CACHE_MISS = 1,     /* No live entry has this key. */
  CACHE_EXISTS = 2,   /* The key has an entry already. */
  CACHE_CONFLICT = 3, /* The entry changed since its token was taken, the lease ended, or keys did not stand still. */
  CACHE_HELD = 4,     /* Another thread or a live process holds the lease of this key. */

  /* Errors of a call: -1 to -19. */
  CACHE_INVALID = -1,       /* A pointer is NULL, or a struct has an unknown size. */
  CACHE_BAD_KEY = -2,       /* The key has 0 bytes or more than CACHE_MAX_KEY_SIZE. */
  CACHE_TOO_LARGE = -3,     /* The value exceeds cache_stats_t.max_value_size. Nothing was evicted for it. */
  CACHE_TOO_SMALL = -4,     /* The value does not fit into the buffer. *value_size is the size it needs. */
  CACHE_NOT_CONNECTED = -5, /* This process is not connected: call cache_connect() first. */
  CACHE_NOT_NUMERIC = -6,   /* The value is not a decimal integer, or the sum leaves the 64-bit range. */
  CACHE_READ_ONLY = -7,     /* This handle is open for reading only. */
  CACHE_BAD_HANDLE = -8,    /* This process does not hold that view or reservation. */

  /* Errors of the environment and the options: -20 to -39. */
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

  CACHE_BAD_CHECKSUM_CHOICE = -30, /* MEMSTREAM_CHECKSUM */

  /* Transient errors: -40 to -59. */
  CACHE_BUSY = -40,               /* Another process held the lock until the deadline. */
  CACHE_GONE = -41,               /* The segment was destroyed, or its name was removed. Connect again. */
  CACHE_NO_MEMORY = -42,          /* The machine or the container has no memory left for this. */
  CACHE_PROCESS_TABLE_FULL = -43, /* Live processes use every process slot of the segment. */
  CACHE_FULL = -44,               /* Views and reservations pin so much that nothing can be evicted. */
  CACHE_NO_HUGE_PAGES = -45,      /* Huge pages are required, and none are available. */

  /* Errors of the segment that was found: -60 to -79. */
  CACHE_NO_SEGMENT = -60,        /* The segment does not exist. */
  CACHE_NOT_OWNER = -61,         /* The segment belongs to another user. */
  CACHE_NO_PERMISSION = -62,     /* The system refuses access. */
  CACHE_BAD_MAGIC = -63,         /* The bytes are not a MemStream segment. */
  CACHE_BAD_VERSION = -64,       /* A version with another layout made the segment. */
  CACHE_SIZE_MISMATCH = -65,     /* The header and the system disagree about the size. */
  CACHE_NAME_MISMATCH = -66,     /* The segment carries another name. */
  CACHE_BAD_CHECKSUM = -67,      /* The header is damaged. */
  CACHE_BAD_STATE = -68,         /* The state in the header does not exist. */
  CACHE_TRUNCATED = -69,         /* The segment is smaller than its header says. */
  CACHE_NOT_SHARED_MEMORY = -70, /* A directory, a FIFO or another file has the segment's name. */
  CACHE_OTHER_NAMESPACE = -71,   /* Another IPC or time namespace, or live processes of another pid namespace. */
  CACHE_OTHER_LIBC = -72,        /* A process with another C library, or with other pthread types, made it. */
  CACHE_OTHER_BYTE_ORDER = -73,  /* A machine of other byte order made it. */
  CACHE_OTHER_BOOT = -74,        /* It was made before the last reboot. */
  CACHE_CORRUPT = -75,           /* Damaged bytes were found. */

  /* Other errors: -90 to -99. */
  CACHE_OS_ERROR = -90, /* A system call failed. cache_last_error() names it. */
  CACHE_INTERNAL = -91  /* A defect of the library. Please report cache_last_error(). */
};

/* ---- Statistics ---- */

/**
 * A snapshot of the whole segment. Counters run from the creation of the segment and cover all processes, including
 * those that have ended. The library reads one shard after the other, so under load the sums may be a few operations
 * old.
 */
typedef struct cache_stats {
  size_t struct_size; /* In: sizeof(cache_stats_t). The struct may grow. */

  uint64_t max_memory;       /* Size of the segment in bytes: what its creator asked for, rounded up to whole pages. */
  uint64_t used_memory;      /* Bytes of the blocks of live entries: keys, values, block headers, rounding. */
  uint64_t table_memory;     /* Bytes of the tables of entries, at their present size. */
  uint64_t committed_memory; /* Bytes of memory that the system has given to the segment. */
  uint64_t pinned_memory;    /* Bytes of reservations, and of blocks that only views keep. */
  uint64_t value_memory;     /* Bytes of the live values alone. */
  uint64_t key_memory;       /* Bytes of the live keys alone. */
  uint64_t max_value_size;   /* Bytes of the largest value that the cache accepts, for a key of 1 byte. */

  uint64_t entries;        /* Live entries. An expired entry counts until an operation notices it. */
  uint64_t entry_capacity; /* Entries that the tables hold without growing. */
  uint64_t shards;         /* Parts of the segment with a lock each. */
  uint64_t processes;      /* Attached processes that are alive. */

  uint64_t hits;            /* Gets and views that found their key. */
  uint64_t misses;          /* Gets and views that did not find their key. */
  uint64_t puts;            /* Calls of set, add, replace, cas, incr, commit and fulfil that stored a value. */
  uint64_t deletes;         /* Deletes that found their key. */
  uint64_t evictions;       /* Entries that were removed to make space. */
  uint64_t expirations;     /* Entries removed because their time to live had passed, or a tag was invalidated. */
  uint64_t recoveries;      /* Repairs of a shard after the holder of its lock had died. */
  uint64_t damaged;         /* Entries that were dropped because their bytes were corrupt. */
  uint64_t commit_failures; /* Times the system refused more memory and the cache evicted instead. */
  uint64_t dead_processes;  /* Processes that ended without disconnecting and were cleaned up after. */

  uint64_t created_at_ms; /* Creation of the segment, Unix time in milliseconds. */
  uint64_t now_ms;        /* The segment's clock, Unix time in milliseconds. */

  uint64_t page_size;  /* Bytes of the pages in which this process sees the segment. 0: the kernel does not say. */
  uint64_t huge_pages; /* What this process asked for (MEMSTREAM_HUGEPAGES). 0: off, 1: try, 2: require. */

  uint64_t view_copies;      /* Views that the library copied because no place for another pin was free. */
  uint64_t reachable_memory; /* Bytes of max_memory that the system can give; less if /dev/shm is smaller. */
  uint64_t busy_shards;      /* Shards whose lock was held until the deadline; their numbers may be inconsistent. */
} cache_stats_t;

/* ---- Connecting ---- */

/**
 * Connects the process to the cache that the environment names.
 *
 * Creates the segment if it does not exist and attaches to it if it does. An existing segment keeps its size, shards,
 * mode and contents. The call does nothing if the process is connected already. After CACHE_GONE, call it again to
 * connect to a new segment. A variable whose value is not valid is an error that names the variable:
 *
 *  - MEMSTREAM_BACKEND: sysv or posix. Default: posix.
 *  - MEMSTREAM_NAME: 1 to 64 characters from A-Z a-z 0-9 . _ - without a dot in front. Default: default.
 *  - MEMSTREAM_SIZE: size of a new segment, 1M to 4096G bytes, with an optional K, M or G. Default: 256M.
 *  - MEMSTREAM_SHARDS: parts of a new segment, 1 to 64. Default: one per 32 MiB up to 6, then one per 170 MiB. If
 *    /dev/shm is smaller than the segment, the size of /dev/shm is used.
 *  - MEMSTREAM_MAX_VALUE: bytes of the largest value that a new segment must accept, 1 to a quarter of its size, with
 *    an optional K, M or G. Default: a sixteenth of the size or more; in a segment above 1G, 64M or more.
 *  - MEMSTREAM_TIMEOUT_MS: longest wait for a lock, 0 to 3600000 milliseconds. Default: 1000.
 *  - MEMSTREAM_MODE: octal permission bits of a new segment. Default: 0600.
 *  - MEMSTREAM_GROUP: group of a new segment, by name or number. Default: the group of its creator.
 *  - MEMSTREAM_HUGEPAGES: off, try or require. Default: off.
 *  - MEMSTREAM_PREFAULT: off or on. Default: off.
 *  - MEMSTREAM_CHECKSUM: off, or on: each value of a new segment has a checksum. Default: off.
 *
 * @retval CACHE_OK  The process is connected.
 * @retval -20 to -39  A variable is not valid: an error of the environment.
 * @retval CACHE_BUSY  Another process is creating or removing the segment, and was not done at the deadline.
 * @retval CACHE_PROCESS_TABLE_FULL  Live processes use every process slot.
 * @retval CACHE_NO_HUGE_PAGES  MEMSTREAM_HUGEPAGES is require, and the segment has none or cannot have any.
 * @retval -60 to -79  The process cannot use the segment that exists: an error of the segment that was found.
 * @threads Safe. One thread connects, and the others wait for it.
 * @processes Safe. Exactly one process creates the segment. If it is killed meanwhile, the next one completes it.
 */
CACHE_API int cache_connect(void);

/**
 * Disconnects the process. The segment and its contents stay.
 *
 * @retval CACHE_OK  The process is disconnected.
 * @retval CACHE_NOT_CONNECTED  It was not connected.
 * @threads Safe. Waits for the calls of other threads that are in progress.
 * @processes Safe. Other processes stay connected.
 */
CACHE_API int cache_disconnect(void);

/**
 * Destroys the segment that the process is connected to, and disconnects.
 *
 * A process that is not connected destroys the segment that the environment names.
 *
 * @retval CACHE_OK  The segment is destroyed.
 * @retval CACHE_NO_SEGMENT  No segment has this name, or another segment has it now.
 * @retval CACHE_NOT_OWNER  The segment belongs to another user.
 * @retval CACHE_NO_PERMISSION  Only the owner or root may remove the segment.
 * @retval CACHE_BUSY  Another process is creating or removing it, and was not done at the deadline.
 * @threads Safe. Waits for the calls of other threads that are in progress.
 * @processes Safe. Other attached processes get CACHE_GONE from their next calls, and may connect again.
 */
CACHE_API int cache_destroy(void);

/* ---- Entries ---- */

/**
 * Stores a value under a key and replaces the value that was there. The entry never expires.
 *
 * A full cache evicts other entries to make space.
 *
 * @param key         NUL-terminated string of 1 to CACHE_MAX_KEY_SIZE bytes.
 * @param value       The bytes to store. May be NULL if `value_size` is 0.
 * @param value_size  Number of bytes, 0 to cache_stats_t.max_value_size.
 * @retval CACHE_OK  The value is stored.
 * @retval CACHE_BAD_KEY  The key is too long or empty.
 * @retval CACHE_TOO_LARGE  The value is too large. Nothing was evicted for it.
 * @retval CACHE_FULL  Views and reservations pin all that could be evicted.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing is stored.
 * @retval CACHE_NOT_CONNECTED  The process is not connected.
 * @threads Safe.
 * @processes Safe. Readers see the old value or the new one, never a mixture, even if the process is killed.
 */
CACHE_API int cache_put(const char *key, const void *value, size_t value_size);

/**
 * Copies the value of a key into the caller's buffer.
 *
 * @param key         NUL-terminated string of 1 to CACHE_MAX_KEY_SIZE bytes.
 * @param value       The buffer. May be NULL if `*value_size` is 0, which asks for the size alone.
 * @param value_size  In: capacity of the buffer in bytes. Out: size of the value in bytes.
 * @retval CACHE_OK  The value is copied.
 * @retval CACHE_MISS  The key has no live entry. `*value_size` is 0.
 * @retval CACHE_TOO_SMALL  The value does not fit. Nothing is copied, and `*value_size` is the size it needs.
 * @retval CACHE_BAD_KEY  The key is too long or empty.
 * @retval CACHE_BUSY  A writer was stalled on this value until the deadline.
 * @retval CACHE_NOT_CONNECTED  The process is not connected.
 * @threads Safe. Usually takes no lock.
 * @processes Safe. The copy is one whole value, never a mixture of two.
 */
CACHE_API int cache_get(const char *key, void *value, size_t *value_size);

/**
 * Removes a key.
 *
 * @param key  NUL-terminated string of 1 to CACHE_MAX_KEY_SIZE bytes.
 * @retval CACHE_OK  The key is removed.
 * @retval CACHE_MISS  The key had no live entry.
 * @retval CACHE_BAD_KEY  The key is too long or empty.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing is removed.
 * @retval CACHE_NOT_CONNECTED  The process is not connected.
 * @threads Safe.
 * @processes Safe. Views of the value stay readable.
 */
CACHE_API int cache_delete(const char *key);

/* ---- Diagnostics ---- */

/**
 * Fills a struct with the statistics of the segment.
 *
 * Waits for locks until the deadline at most, then reads the remaining shards without their locks.
 *
 * @param stats  The struct to fill. Set `stats->struct_size` to sizeof(cache_stats_t) before the call.
 * @retval CACHE_OK  The struct is filled. `stats->busy_shards` counts the shards that were read without a lock.
 * @retval CACHE_INVALID  `stats->struct_size` is not the size of this version or of an earlier one.
 * @retval CACHE_NOT_CONNECTED  The process is not connected.
 * @threads Safe.
 * @processes Safe. Cleans up after processes that have died.
 */
CACHE_API int cache_get_stats(cache_stats_t *stats);

/**
 * Gives a fixed English sentence for a status.
 *
 * @param status  A member of cache_status. For another number the sentence says that it is unknown.
 * @return The sentence. Never NULL.
 * @threads Safe.
 * @processes Not shared: reads no segment.
 * @ownership The text belongs to the library and is constant.
 */
CACHE_API const char *cache_strerror(int status);

/**
 * Gives the message of the calling thread's last error: what was refused, why, and the remedy.
 *
 * Success and expected outcomes do not change it.
 *
 * @return The message. Never NULL. Empty if the thread has had no error.
 * @threads Safe. Each thread has a message of its own.
 * @processes Not shared: reads no segment.
 * @ownership The text belongs to the library. It is valid until the thread's next error.
 */
CACHE_API const char *cache_last_error(void);

/**
 * Gives the version of the library as text.
 *
 * @return "MAJOR.MINOR.PATCH". Never NULL.
 * @threads Safe.
 * @processes Not shared: reads no segment.
 * @ownership The text belongs to the library and is constant.
 */
CACHE_API const char *cache_version(void);

/**
 * Gives the version of the library as a number, to compare with MEMSTREAM_VERSION_NUMBER of the headers.
 *
 * @return MAJOR * 10000 + MINOR * 100 + PATCH.
 * @threads Safe.
 * @processes Not shared: reads no segment.
 */
CACHE_API uint32_t memstream_version(void);

#ifdef __cplusplus
}
#endif

#endif
