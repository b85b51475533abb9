/*
 * MemStream as a near cache of Redis: all processes of a machine share one copy of what they read, and nothing that
 * they get is older than a bound that you choose.
 *
 * START HERE:
 *
 *   #include <memstream/memstream_near.h>
 *
 *   memstream_t *cache;
 *   memstream_near_t *near;
 *   memstream_near_options_t options = {.struct_size = sizeof options, .redis = "127.0.0.1:6379"};
 *   if (memstream_open(NULL, &cache) != CACHE_OK) return puts(cache_last_error());
 *   if (memstream_near_open(cache, &options, &near) != CACHE_OK) return puts(memstream_near_last_error());
 *   if (memstream_near_get(near, "key", 3, value, &size) == CACHE_OK) ...
 *   memstream_near_close(near);
 *   memstream_close(cache);
 *
 * docs/near_cache.md says what is promised and why it holds. All functions are safe from all threads, except for
 * memstream_near_close(), which no other call may overlap. They return a status of cache.h or one of those below.
 */
#ifndef MEMSTREAM_NEAR_MEMSTREAM_NEAR_H_
#define MEMSTREAM_NEAR_MEMSTREAM_NEAR_H_

#include "memstream.h"

#ifdef __cplusplus
extern "C" {
#endif

enum memstream_near_status {
  MEMSTREAM_NEAR_FETCH = 100,        /* memstream_near_begin(): ask Redis, then end the fill. */
  MEMSTREAM_NEAR_HELD = 101,         /* memstream_near_try(): another caller asks Redis now. */
  MEMSTREAM_NEAR_UNREACHABLE = -200, /* Redis cannot be reached, or did not answer in time. */
  MEMSTREAM_NEAR_REFUSED = -201      /* Redis answered with an error. */
};

enum memstream_near_flag {
  MEMSTREAM_NEAR_NO_AGENT = 1,       /* This process never becomes the agent: another one has to. */
  MEMSTREAM_NEAR_STALE_ON_ERROR = 2, /* With Redis out of reach, memstream_near_get() serves what it has, of any age. */
  MEMSTREAM_NEAR_CLUSTER = 4         /* `redis` names nodes of a cluster, with commas between: "HOST:PORT,HOST:PORT". */
};

typedef struct memstream_near memstream_near_t;

/* Fields that are 0 or NULL have their defaults. All processes of a machine should use the same ones. */
typedef struct {
  uint64_t struct_size;        /* sizeof (memstream_near_options_t). */
  const char *redis;           /* "HOST:PORT", "[IPV6]:PORT" or "unix:/PATH". Default: 127.0.0.1:6379. Of a cluster:
                                  some nodes that know the others, with commas between. */
  const char *user;            /* For AUTH. Default: none. */
  const char *password;        /* For AUTH. Default: none. */
  const char *const *prefixes; /* Keys that begin with one of these are cached. Default: all keys. */
  uint64_t prefix_count;
  uint64_t max_lag_ms;    /* Nothing that is served is older: 250 or more. Default: 1,000. */
  uint64_t local_ttl_ms;  /* A copy is kept no longer. Default: 60,000. */
  uint64_t absent_ttl_ms; /* That a key is absent is remembered no longer. Default: 1,000. */
  uint64_t timeout_ms;    /* For each answer of Redis. Default: 1,000. */
  uint64_t flags;         /* MEMSTREAM_NEAR_... */
} memstream_near_options_t;

/* Calls of this handle; `lag_ms` and the fields behind it are of all processes together. Of a cluster `lag_ms` is the
   largest of its masters, and counts are sums. */
typedef struct {
  uint64_t struct_size;   /* sizeof (memstream_near_stats_t). */
  uint64_t hits;          /* Answered from the segment, also that a key is absent. */
  uint64_t fetches;       /* Redis was asked, by the functions of this library. */
  uint64_t fills;         /* Answers that were stored. */
  uint64_t conflicts;     /* Answers that were not, since their key was invalidated meanwhile. */
  uint64_t merged;        /* Misses that waited for the fetch of another caller and found its answer. */
  uint64_t bypasses;      /* Redis was asked and nothing stored: too much lag, another prefix, an unusable segment. */
  uint64_t stale;         /* Served beyond the bound, with MEMSTREAM_NEAR_STALE_ON_ERROR. */
  uint64_t errors;        /* Redis could not be reached, or answered with an error. */
  uint64_t subscriptions; /* That the agent of this handle has made. */
  uint64_t lag_ms;        /* What the bound is compared with now. UINT64_MAX: Redis was never heard. */
  uint64_t invalidations; /* Of single keys. */
  uint64_t epochs;        /* All copies were given up: a lost connection, FLUSHALL, a new agent. */
  uint32_t agent_pid;     /* Of the process with the agent. 0: there is none. */
  uint32_t is_agent;      /* 1: the agent is of this handle. */
} memstream_near_stats_t;

/* A fetch that a caller makes itself. Its fields are for the library. */
typedef struct {
  uint64_t token;
  uint64_t lease;
  uint64_t begun_ns;
  uint32_t may_store;
  uint32_t server;
} memstream_near_fill_t;

/* Opens a near cache over an open cache, which must be writable, of at least 16 MiB and without checksums, and which
   the caller closes later. It starts a thread that may become the agent, and does not wait for Redis. */
CACHE_API int memstream_near_open(memstream_t *cache, const memstream_near_options_t *options, memstream_near_t **near);

/* Stops the agent and frees the handle. NULL does nothing. */
CACHE_API int memstream_near_close(memstream_near_t *near);

/* The value of a string key. CACHE_MISS: Redis has no such key. CACHE_TOO_SMALL: *value_size is what it needs. */
CACHE_API int memstream_near_get(memstream_near_t *near, const void *key, size_t key_size, void *value,
                                 size_t *value_size);

/* The same for a caller that asks Redis by its own client. CACHE_OK, CACHE_MISS and CACHE_TOO_SMALL are answers from
   the segment. After MEMSTREAM_NEAR_FETCH the caller asks Redis, then ends the fill by _store(), _store_absent() or
   _abandon(). Until then other callers that miss the key wait. */
CACHE_API int memstream_near_begin(memstream_near_t *near, const void *key, size_t key_size, void *value,
                                   size_t *value_size, memstream_near_fill_t *fill);

/* As memstream_near_begin(), for event loops: it never waits. MEMSTREAM_NEAR_HELD: another caller fetches the key. Try
   again later, or ask Redis and store nothing. */
CACHE_API int memstream_near_try(memstream_near_t *near, const void *key, size_t key_size, void *value,
                                 size_t *value_size, memstream_near_fill_t *fill);

/* What the segment alone answers, in the least time: CACHE_OK, CACHE_MISS, or CACHE_TOO_SMALL. MEMSTREAM_NEAR_FETCH: it
   has no answer, and memstream_near_begin() comes next. */
CACHE_API int memstream_near_peek(memstream_near_t *near, const void *key, size_t key_size, void *value,
                                  size_t *value_size);

/* What the segment has, however old: for a caller that cannot reach Redis and prefers that to an error. Returns what
   memstream_near_peek() does. */
CACHE_API int memstream_near_peek_stale(memstream_near_t *near, const void *key, size_t key_size, void *value,
                                        size_t *value_size);

/* Stores what Redis answered. `pttl_ms` is its answer to PTTL: -1 means no expiry. CACHE_CONFLICT: it was not stored,
   and is still the right answer for this caller. */
CACHE_API int memstream_near_store(memstream_near_t *near, const void *key, size_t key_size, const void *value,
                                   size_t value_size, int64_t pttl_ms, memstream_near_fill_t *fill);

/* Stores that Redis has no such key. */
CACHE_API int memstream_near_store_absent(memstream_near_t *near, const void *key, size_t key_size,
                                          memstream_near_fill_t *fill);

/* Ends a fill without a value. */
CACHE_API int memstream_near_abandon(memstream_near_t *near, const void *key, size_t key_size,
                                     memstream_near_fill_t *fill);

/* Writes to Redis, then removes the local copy, also if the outcome in Redis is not known. `ttl_ms` 0: for ever. */
CACHE_API int memstream_near_set(memstream_near_t *near, const void *key, size_t key_size, const void *value,
                                 size_t value_size, uint64_t ttl_ms);

/* Deletes in Redis, then removes the local copy. CACHE_MISS: Redis had no such key. */
CACHE_API int memstream_near_delete(memstream_near_t *near, const void *key, size_t key_size);

/* Removes the local copy. For callers that have written to Redis by their own client. */
CACHE_API int memstream_near_invalidate(memstream_near_t *near, const void *key, size_t key_size);

CACHE_API int memstream_near_stats(memstream_near_t *near, memstream_near_stats_t *stats);

/* The message of the calling thread's last error: what was refused, why, and the remedy. Never NULL. */
CACHE_API const char *memstream_near_last_error(void);

/* Why the agent of this handle has no subscription at present. Never NULL; empty if it has one, or is not the agent. It
   is valid until the calling thread calls this again. */
CACHE_API const char *memstream_near_agent_error(memstream_near_t *near);

#ifdef __cplusplus
}
#endif

#endif /* MEMSTREAM_NEAR_MEMSTREAM_NEAR_H_ */
