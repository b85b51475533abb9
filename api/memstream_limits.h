/* Rate limits and semaphores among all processes of a cache. What a dead process holds is free within 100 ms; a stopped
   process keeps it.

   A segment of at least 16 MiB has them. They are not entries: keys and names here have nothing to do with the keys of
   values, and nothing evicts or clears them. */
#ifndef MEMSTREAM_API_MEMSTREAM_LIMITS_H_
#define MEMSTREAM_API_MEMSTREAM_LIMITS_H_

#include "memstream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Rate limits ---- */

/*
 * A key may be used `rate` times in each `period_ms`, evenly, and `burst` times together after a pause (the generic
 * cell rate algorithm). In any `period_ms` at most `rate` + `burst` requests go on. A limit needs a place only until
 * its rate is restored. So idle keys cost nothing.
 */

/**
 * Asks whether a request may go on now, and counts it if so.
 *
 * All callers of a key should pass the same rate and burst. The call takes no lock once the key has a place.
 *
 * @param cache      An open cache.
 * @param key        What is limited: any bytes, such as the name of a user.
 * @param key_size   Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param rate       Requests in each period, at least 1.
 * @param period_ms  Milliseconds of a period, 1 to 31,622,400,000 (366 days).
 * @param burst      Requests that may go on together, at least 1. All of them must be restored within 400 days.
 * @param wait_ms    Receives the milliseconds to wait before the next try; 0 unless the status is CACHE_HELD.
 * @retval CACHE_OK  The request may go on, and is counted.
 * @retval CACHE_HELD  The request may not go on before `*wait_ms`, and is not counted.
 * @retval CACHE_FULL  Too many keys have used up a part of their rate. The request is not counted.
 * @retval CACHE_INVALID  An argument is out of range, or the segment is smaller than 16 MiB.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_NO_MEMORY  The system has no memory for the table of limits.
 * @retval CACHE_BUSY  A lock was held until the deadline, or the request is counted and a resize was not over.
 * @threads Safe.
 * @processes Safe. A process that is killed in the call has been counted once or not at all.
 */
CACHE_API int memstream_limit(memstream_t *cache, const void *key, size_t key_size, uint64_t rate, uint64_t period_ms,
                              uint64_t burst, uint64_t *wait_ms);

/**
 * Makes a key as if it was never used.
 *
 * @param cache     An open cache.
 * @param key       What is limited.
 * @param key_size  Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @retval CACHE_OK  All of its rate is restored.
 * @retval CACHE_MISS  It was already.
 * @retval CACHE_INVALID  The segment is smaller than 16 MiB.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_NO_MEMORY  The system has no memory for the table of limits.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing has changed.
 * @threads Safe.
 * @processes Safe.
 */
CACHE_API int memstream_limit_reset(memstream_t *cache, const void *key, size_t key_size);

/* ---- Semaphores ---- */

/*
 * A semaphore has a name and a number of permits; with one permit it is a lock. A permit belongs to the handle and the
 * process that took it. Any thread of the process may give it back. A thread that ends keeps the permit for its
 * process. A child of fork() has none of its parent's permits. Permits end when their handle is closed and when their
 * process ends in any way. A segment in which a process holds permits is not resized: CACHE_BUSY.
 */

/**
 * Takes a permit of a semaphore, and waits for one.
 *
 * All callers of a name should pass the same number of permits. There is no queue: those that wait get a permit in no
 * order. A process may hold several permits of one name. A thread that waits for a permit of its own never gets it.
 *
 * @param cache       An open cache.
 * @param name        Any bytes.
 * @param name_size   Number of bytes of the name, 1 to CACHE_MAX_KEY_SIZE.
 * @param permits     Permits of the semaphore in total, 1 to 65,535.
 * @param timeout_ms  Longest wait in milliseconds. 0: only try.
 * @param permit      Receives the permit. Never 0 with CACHE_OK, and 0 otherwise.
 * @retval CACHE_OK  The caller has a permit.
 * @retval CACHE_HELD  Living processes hold all permits after `timeout_ms`.
 * @retval CACHE_FULL  Too many processes hold permits of some names.
 * @retval CACHE_PROCESS_TABLE_FULL  The process has no process slot yet. Try again later.
 * @retval CACHE_INVALID  An argument is out of range, or the segment is smaller than 16 MiB.
 * @retval CACHE_BAD_KEY  The name is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_NO_MEMORY  The system has no memory for the table of limits.
 * @retval CACHE_BUSY  A lock was held until the deadline of the handle. The caller has no permit.
 * @threads Safe. memstream_close() waits for the threads that wait here.
 * @processes Safe. Returns immediately when a permit is given back, and within about 50 ms when a holder is killed or
 *            closes its handle.
 * @ownership The caller gives the permit back with memstream_semaphore_release().
 */
CACHE_API int memstream_semaphore_acquire(memstream_t *cache, const void *name, size_t name_size, uint64_t permits,
                                          uint64_t timeout_ms, uint64_t *permit);

/**
 * Gives a permit back, and wakes those that wait for one. Takes no lock.
 *
 * @param cache      An open cache.
 * @param name       The name of the semaphore.
 * @param name_size  Number of bytes of the name, 1 to CACHE_MAX_KEY_SIZE.
 * @param permit     The permit, from memstream_semaphore_acquire(). Its threads share those of one handle and name.
 * @retval CACHE_OK  The permit is given back.
 * @retval CACHE_CONFLICT  This handle holds no permit of that name, or `permit` is 0 or that of another handle.
 * @retval CACHE_INVALID  The segment is smaller than 16 MiB.
 * @retval CACHE_BAD_KEY  The name is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_NO_MEMORY  The system has no memory for the table of limits.
 * @threads Safe.
 * @processes Safe.
 */
CACHE_API int memstream_semaphore_release(memstream_t *cache, const void *name, size_t name_size, uint64_t permit);

/**
 * Counts the permits of a semaphore that living processes hold.
 *
 * @param cache      An open cache.
 * @param name       The name of the semaphore.
 * @param name_size  Number of bytes of the name, 1 to CACHE_MAX_KEY_SIZE.
 * @param held       Receives the number.
 * @retval CACHE_OK  `*held` is set. Other processes may change it at any moment.
 * @retval CACHE_INVALID  The segment is smaller than 16 MiB.
 * @retval CACHE_BAD_KEY  The name is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_NO_MEMORY  The system has no memory for the table of limits.
 * @threads Safe.
 * @processes Safe.
 */
CACHE_API int memstream_semaphore_held(memstream_t *cache, const void *name, size_t name_size, uint64_t *held);

/* ---- What is in use ---- */

enum {
  MEMSTREAM_LIMIT_RATE = 1,   /* A key that has used up a part of its rate. */
  MEMSTREAM_LIMIT_PERMITS = 2 /* The permits that one handle of a process holds of a semaphore. */
};

/**
 * A rate limit or a holder of permits. The library fills it.
 */
typedef struct memstream_limit_info {
  uint32_t kind;           /* MEMSTREAM_LIMIT_RATE or MEMSTREAM_LIMIT_PERMITS. */
  uint32_t pid;            /* Of the process that holds the permits. 0 for a rate. */
  uint64_t used;           /* Requests of the rate that are not restored yet, or permits held. */
  uint64_t most;           /* The burst, or all permits of the semaphore, as the last caller named them. */
  uint64_t interval_ns;    /* Nanoseconds that restore one request, as the last caller named them. 0 for permits. */
  uint64_t restored_in_ms; /* Until all of the rate is restored. 0 for permits. */
  uint64_t held_for_ms;    /* Since the handle took its first permit. 0 for a rate. */
  uint64_t reserved[2];    /* 0. */
  char label[32];          /* The first 24 bytes of the key or name. It ends with 0. */
} memstream_limit_info_t;

/**
 * Lists the rate limits and permits that are in use, in no order. What dead processes held is not in use.
 *
 * @param cache     An open cache, also one for reading only.
 * @param limits    The array to fill. May be NULL if `capacity` is 0.
 * @param capacity  Number of elements of the array.
 * @param count     Receives the number of limits. The first `capacity` of them are filled. 0 in a small segment.
 * @retval CACHE_OK  The elements are filled. Other processes may change them at any moment.
 * @threads Safe.
 * @processes Safe. Takes no lock.
 */
CACHE_API int memstream_limits(memstream_t *cache, memstream_limit_info_t *limits, size_t capacity, size_t *count);

#ifdef __cplusplus
}
#endif

#endif
