/* The C interface, metrics: why a hit ratio fell, which keys are hot, which size a cache should have. Include
   memstream.h for everything else. docs/abi.md explains them.

   Metrics are counted in the segment, for all processes together, from its creation on. Counting costs a get at most
   3 %. memstream_usage() and memstream_lock_holders() say what is in use now. */
#ifndef MEMSTREAM_API_MEMSTREAM_METRICS_H_
#define MEMSTREAM_API_MEMSTREAM_METRICS_H_

#include "memstream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Metrics ---- */

/**
 * What was asked for: the first index of memstream_metrics_t.outcomes.
 */
enum memstream_operation {
  MEMSTREAM_GET = 0,       /* Gets and views, also those of memstream_get_many() and memstream_get_and_touch(). */
  MEMSTREAM_SET = 1,       /* cache_put(), memstream_set(), memstream_set_many(). */
  MEMSTREAM_ADD = 2,       /* memstream_add(). */
  MEMSTREAM_REPLACE = 3,   /* memstream_replace(). */
  MEMSTREAM_CAS = 4,       /* memstream_cas(). */
  MEMSTREAM_INCREMENT = 5, /* memstream_incr(). */
  MEMSTREAM_DELETE = 6,    /* Deletes, also those of memstream_delete_many(). */
  MEMSTREAM_TOUCH = 7,     /* memstream_touch(), and the renewals of memstream_get_and_touch(). */
  MEMSTREAM_LEASE = 8,     /* Requests of a lease. */
  MEMSTREAM_FULFIL = 9,    /* Values stored with a lease. */
  MEMSTREAM_COMMIT = 10,   /* memstream_commit(). */
};

/**
 * What came of it: the second index of memstream_metrics_t.outcomes. Named after the statuses.
 */
enum memstream_outcome {
  MEMSTREAM_DONE = 0,       /* CACHE_OK. */
  MEMSTREAM_MISSED = 1,     /* CACHE_MISS. */
  MEMSTREAM_EXISTED = 2,    /* CACHE_EXISTS. */
  MEMSTREAM_CONFLICTED = 3, /* CACHE_CONFLICT. */
  MEMSTREAM_HELD = 4,       /* CACHE_HELD. */
  MEMSTREAM_TOO_LARGE = 5,  /* CACHE_TOO_LARGE. */
  MEMSTREAM_TOO_SMALL = 6,  /* CACHE_TOO_SMALL. */
  MEMSTREAM_FULL = 7,       /* CACHE_FULL. */
  MEMSTREAM_NO_MEMORY = 8,  /* CACHE_NO_MEMORY. */
  MEMSTREAM_BUSY = 9,       /* CACHE_BUSY. */
  MEMSTREAM_CORRUPT = 10,   /* CACHE_CORRUPT. */
  MEMSTREAM_FAILED = 11,    /* Another failure. */
};

/**
 * Why an entry was removed: the index of memstream_metrics_t.removals. The first four together are
 * cache_stats_t.evictions.
 */
enum memstream_removal {
  MEMSTREAM_REMOVED_FOR_ROOM = 0,   /* Evicted by the policy, for room. */
  MEMSTREAM_REMOVED_FOR_LARGE = 1,  /* Evicted where a large value had to go. */
  MEMSTREAM_REMOVED_FOR_TABLE = 2,  /* Evicted where the table of entries had to grow. */
  MEMSTREAM_REMOVED_FROM_CHAIN = 3, /* Evicted because too many keys met in one bucket. */
  MEMSTREAM_REMOVED_BY_CLEAR = 4,   /* memstream_clear(). */
  MEMSTREAM_REMOVED_EXPIRED = 5,    /* Its time to live had passed: cache_stats_t.expirations. */
  MEMSTREAM_REMOVED_BY_DELETE = 6,  /* cache_stats_t.deletes. */
  MEMSTREAM_REMOVED_DAMAGED = 7,    /* cache_stats_t.damaged. */
};

/**
 * The metrics of a segment. In histograms each element counts the values from memstream_bucket_bound() of its index up
 * to that of the next one; the last element also counts all larger values.
 */
typedef struct memstream_metrics_t {
  size_t struct_size;        /* In: sizeof(memstream_metrics_t). The struct may grow. */
  uint64_t outcomes[16][16]; /* By memstream_operation and memstream_outcome. */
  uint64_t removals[16];     /* By memstream_removal. */

  uint64_t lock_waits;          /* Times that a writer, or a slow read, found the lock of its shard taken. */
  uint64_t lock_wait_ns;        /* Time of these waits in nanoseconds. */
  uint64_t longest_wait_ns;     /* The longest of them. */
  uint64_t lock_timeouts;       /* Waits that ended at the deadline, with CACHE_BUSY. */
  uint64_t recoveries;          /* cache_stats_t.recoveries. */
  uint64_t recovery_ns;         /* Time of all recoveries in nanoseconds. */
  uint64_t longest_recovery_ns; /* The longest of them. */
  uint64_t slow_reads;          /* Reads that took a lock, or the redo record of a writer. */
  uint64_t read_retries;        /* Looks without a lock that had to be repeated. */

  uint64_t sample_step;        /* One key in so many is sampled. */
  uint64_t sampled_keys;       /* Keys that the sample knows now. */
  uint64_t sampled_references; /* Gets of sampled keys. */
  uint64_t references;         /* The same, each times the step that it had: about the gets of all keys. */
  uint64_t first_references;   /* Of `references`, those of keys that the sample did not know. */

  uint64_t evicted_age_ms[160];  /* Evicted entries by the time since their value was stored. */
  uint64_t evicted_idle_ms[160]; /* Evicted entries by the time since their last get. */
  uint64_t get_ns[120];          /* Gets of sampled keys by their time in nanoseconds. */
  uint64_t set_ns[120];          /* Calls of set, add, replace and cas of sampled keys, likewise. */
  uint64_t reuse_distances[160]; /* `references` by how many other keys were asked for since the last get of the key.
                                    A cache of n entries that evicts the coldest key would hit those below n. */
} memstream_metrics_t;

/**
 * Fills a struct with the metrics of the segment.
 *
 * @param cache    An open cache.
 * @param metrics  The struct to fill. Set `metrics->struct_size` to sizeof(memstream_metrics_t) before the call.
 * @retval CACHE_OK  The struct is filled. A segment that was made without metrics has zeros.
 * @retval CACHE_INVALID  `metrics->struct_size` is not the size of this version or of an earlier one.
 * @threads Safe.
 * @processes Safe. Takes the locks that memstream_stats() takes.
 */
CACHE_API int memstream_metrics(memstream_t *cache, memstream_metrics_t *metrics);

/**
 * Gives the lowest value that an element of a histogram counts.
 *
 * @param bucket  The index of the element, from 0 on. There are four for each power of two.
 * @return The value. UINT64_MAX past the last power of two.
 * @threads Safe.
 * @processes Not shared: reads no segment.
 */
CACHE_API uint64_t memstream_bucket_bound(size_t bucket);

/**
 * Lists the entries that are read most often now, the hottest first.
 *
 * A sample finds them: one in 1,024 gets of entries that were read 64 times. A list of 64 keeps those that came up most
 * lately. For a rate call twice and compare memstream_entry_t.access_count.
 *
 * @param cache     An open cache.
 * @param entries   The array to fill. May be NULL if `capacity` is 0.
 * @param capacity  Number of elements of the array.
 * @param count     Receives the number of hot entries, at most 64. The first `capacity` of them are filled.
 * @retval CACHE_OK  The elements are filled.
 * @retval CACHE_BUSY  A lock was held until the deadline.
 * @threads Safe.
 * @processes Safe. Counts as no access.
 */
CACHE_API int memstream_hot_keys(memstream_t *cache, memstream_entry_t *entries, size_t capacity, size_t *count);

/* ---- What is in use now ---- */

/**
 * What is in use at one moment: places of limits, permits, threads that wait. What dead processes held is not in use.
 */
typedef struct memstream_usage_t {
  size_t struct_size;       /* In: sizeof(memstream_usage_t). The struct may grow. */
  uint64_t rates;           /* Keys that have used up a part of their rate. */
  uint64_t rate_capacity;   /* Places for such keys. 0 in a segment below 16 MiB. */
  uint64_t semaphores;      /* Names of several permits of which a process holds at least one. */
  uint64_t locks;           /* Names of one permit that a process holds. */
  uint64_t permits;         /* Permits held, of all names. */
  uint64_t holders;         /* Places taken: one for each name that a handle holds. */
  uint64_t holder_capacity; /* Places for holders. 0 in a segment below 16 MiB. */
  uint64_t change_waiters;  /* Threads that sleep in memstream_wait(). */
  uint64_t permit_waiters;  /* Threads that sleep in memstream_semaphore_acquire(). */
  uint64_t lease_waiters;   /* Threads that sleep until a lease ends. */
} memstream_usage_t;

/**
 * Fills a struct with what is in use now.
 *
 * @param cache  An open cache, also one for reading only.
 * @param usage  The struct to fill. Set `usage->struct_size` to sizeof(memstream_usage_t) before the call.
 * @retval CACHE_OK  The struct is filled. Other processes may change it at any moment.
 * @retval CACHE_INVALID  `usage->struct_size` is not the size of this version or of an earlier one.
 * @threads Safe.
 * @processes Safe. Takes no lock. A stopped process that waits is a waiter; one without a process slot is not counted.
 */
CACHE_API int memstream_usage(memstream_t *cache, memstream_usage_t *usage);

enum {
  MEMSTREAM_LOCK_WRITE = 1,    /* The write lock of a shard. */
  MEMSTREAM_LOCK_READ = 2,     /* A shard against writers, for a read that could not go without. */
  MEMSTREAM_LOCK_PROCESSES = 3 /* The process table. */
};

/**
 * A lock that a thread holds. The library fills it.
 */
typedef struct memstream_lock_holder {
  uint32_t kind;  /* MEMSTREAM_LOCK_WRITE, MEMSTREAM_LOCK_READ or MEMSTREAM_LOCK_PROCESSES. */
  uint32_t shard; /* 0 for MEMSTREAM_LOCK_PROCESSES. */
  uint32_t pid;   /* Of the process. 0 if the system does not tell: its pid namespace is another one, for example. */
  uint32_t tid;   /* Of the thread, in the pid namespace of the processes that write. */
  uint64_t reserved[2]; /* 0. */
} memstream_lock_holder_t;

/**
 * Lists the locks of a segment that threads hold now.
 *
 * A hold mostly takes less than a microsecond. A process that holds the same lock in several looks is stopped, slow, or
 * busy with a large value.
 *
 * @param cache     An open cache, also one for reading only.
 * @param holders   The array to fill. May be NULL if `capacity` is 0.
 * @param capacity  Number of elements of the array.
 * @param count     Receives the number of locks that are held. The first `capacity` of them are filled.
 * @retval CACHE_OK  The elements are filled. None on a processor other than x86-64.
 * @threads Safe.
 * @processes Safe. Takes no lock.
 */
CACHE_API int memstream_lock_holders(memstream_t *cache, memstream_lock_holder_t *holders, size_t capacity,
                                     size_t *count);

/* ---- Tracing accesses ---- */

enum {
  MEMSTREAM_ACCESS_HIT = 1,  /* A get or view that found its key. */
  MEMSTREAM_ACCESS_MISS = 2, /* A get or view that did not. */
  MEMSTREAM_ACCESS_STORE = 3 /* A value that set, add, replace, cas or a lease has stored. */
};

/**
 * An access to a key of the sample. The library fills it.
 */
typedef struct memstream_access {
  uint64_t key_hash; /* Of the key, in this segment. One key in 2^n has 0 in the bits 32 to 31 + n. */
  uint64_t time_ms;  /* Unix time in milliseconds. */
  uint64_t size;     /* Bytes of the value; 0 for a miss. */
  uint32_t what;     /* MEMSTREAM_ACCESS_HIT, MEMSTREAM_ACCESS_MISS or MEMSTREAM_ACCESS_STORE. */
  uint32_t reserved; /* 0. */
} memstream_access_t;

/**
 * How far a trace has come. Zeros begin one; the library fills the rest.
 */
typedef struct memstream_trace_t {
  size_t struct_size;   /* In: sizeof(memstream_trace_t). The struct may grow. */
  uint64_t position;    /* In, out: 0 begins with the next access. */
  uint64_t lost;        /* In, out: accesses that the caller came too late for, or whose process died in between. */
  uint64_t gaps;        /* In, out: calls that came more than a second late. Accesses before them may be missing. */
  uint64_t waits_since; /* In, out: for the library. */
  uint64_t noted_until; /* In, out: for the library. */
  uint64_t sample_step; /* Out: one key in so many is sampled now, a power of two. It may double, and never falls. */
} memstream_trace_t;

/**
 * Gives the accesses to sampled keys since the last call, of all processes, in about their order.
 *
 * Call it every few milliseconds. Each call lets the processes note accesses for one more second, in a ring of 2,046.
 * An access to a sampled key takes them about 130 instructions more meanwhile, and any other none. Accesses are gets,
 * views, memstream_get_many() and what stores one value. Batches of stores, commits, increments and deletes are none.
 * After a resize the same key has another hash. `memstream trace` writes the accesses into a file for simulators.
 *
 * @param cache     An open cache.
 * @param trace     The state of the trace. Set `trace->struct_size`, and 0 for the rest before the first call.
 * @param accesses  The array to fill.
 * @param capacity  Number of elements of the array, at least 1.
 * @param count     Receives the number of elements that are filled. If it is `capacity`, call again immediately.
 * @retval CACHE_OK  The elements are filled.
 * @retval CACHE_INVALID  `trace->struct_size` is wrong, `capacity` is 0, or the segment has no ring: it is smaller
 *                         than 16 MiB, or another version of the library made it.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_NO_MEMORY  The system has no memory for the ring.
 * @threads Safe. Each thread has a trace of its own.
 * @processes Safe. Takes no lock. Any number of processes may trace at the same time.
 */
CACHE_API int memstream_trace(memstream_t *cache, memstream_trace_t *trace, memstream_access_t *accesses,
                              size_t capacity, size_t *count);

#ifdef __cplusplus
}
#endif

#endif
