/* What libcache.so does for a near cache: copies of values of another server, in a segment that all processes of a
   machine use. near/memstream_near.h is the interface for Redis; this one is for code that speaks to the server itself.
   It is not installed and may change in any version. It serves nothing older than the caller's bound, as long as its
   callers do what is said here. docs/decisions/0024 has the proof.

   Of each server one process at a time, the agent, learns which keys change. It calls _lead() every 100 ms or so. While
   that gives CACHE_OK it keeps a subscription to the server's invalidations:
     1. It subscribes, then calls _advance(), and only then _heard().
     2. It calls _invalidate() for each key that it hears of, and _advance() for "all keys" and for a lost subscription.
     3. It calls _heard() with an instant when it has carried out all that the server's writers did before.

   A reader calls _get(). After CACHE_MISS it calls _begin(), asks the server, and calls _store() with the answer. After
   CACHE_CONFLICT it asks the server and stores nothing. A writer writes to the server, then calls _invalidate(). */
#ifndef MEMSTREAM_API_MEMSTREAM_NEAR_CORE_H_
#define MEMSTREAM_API_MEMSTREAM_NEAR_CORE_H_

#include "api/memstream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Values of `struct_size` are sizeof. Times are milliseconds. */
typedef struct {
  uint64_t struct_size;
  uint64_t lag_ms;        /* Since the latest instant of _heard(). UINT64_MAX: there was none. */
  uint64_t invalidations; /* Calls of _invalidate(), by all processes. */
  uint64_t advances;      /* Of the epoch. */
  uint64_t agent_idle_ms; /* Since the agent called _lead(). */
  uint32_t epoch;         /* That entries must have. 0: none has one yet. */
  uint32_t agent_pid;     /* 0: nobody is the agent. */
  uint32_t subscriptions; /* Of all agents that the server has had. */
  uint32_t reserved;
  char label[56]; /* The beginning of the first line of its name. It ends with 0. */
} memstream_near_core_state_t;

/* What all processes have counted, by _count(). */
typedef struct {
  uint64_t struct_size;
  uint64_t hits;
  uint64_t fetches;
  uint64_t fills;
  uint64_t conflicts;
  uint64_t merged;
  uint64_t bypasses;
  uint64_t stale;
  uint64_t errors;
} memstream_near_core_counts_t;

/* The number of a server in this segment, by a name of 1 to 1,024 bytes. Every handle calls it before all else.
   CACHE_INVALID: the segment is below 16 MiB, or has checksums. CACHE_FULL: it knows 64 servers. */
CACHE_API int memstream_near_core_claim(memstream_t *cache, const void *name, size_t name_size, uint32_t *server);

/* What _get() tells besides the value. */
typedef struct {
  uint64_t stale_cas; /* After CACHE_MISS: the token for memstream_lease() of an entry whose epoch is over. 0: none. */
  uint32_t flags;     /* As _store() was given them. */
  uint32_t reserved;
} memstream_near_core_meta_t;

/* As memstream_get(), of what _store() stored. CACHE_MISS also if its epoch is over. CACHE_CONFLICT if the latest
   instant of _heard() is more than max_lag_ms ago. */
CACHE_API int memstream_near_core_get(memstream_t *cache, uint32_t server, const void *key, size_t key_size,
                                      void *value, size_t *value_size, memstream_near_core_meta_t *meta,
                                      uint64_t max_lag_ms);

/* A token for _store(), taken before the server is asked. */
CACHE_API int memstream_near_core_begin(memstream_t *cache, uint32_t server, const void *key, size_t key_size,
                                        uint64_t *token);

/* The epoch in which the token was taken. 0: there was none yet, and nothing can be stored. */
CACHE_API uint32_t memstream_near_core_epoch_of(uint64_t token);

/* How many copies of the key, or of one that shares its counter, were removed in a row and had not been read: 15 or
   less, when the token was taken. */
CACHE_API uint32_t memstream_near_core_unread_of(uint64_t token);

/* As memstream_set(). CACHE_CONFLICT, and nothing is stored, if the key may have changed since the token was taken. */
CACHE_API int memstream_near_core_store(memstream_t *cache, uint32_t server, const void *key, size_t key_size,
                                        const void *value, size_t value_size, uint64_t ttl_ms, uint32_t flags,
                                        uint64_t token);

/* Ends the tokens and leases of the key, and removes its entry. Keys that no cache can have are no error. */
CACHE_API int memstream_near_core_invalidate(memstream_t *cache, uint32_t server, const void *key, size_t key_size);

/* Ends the tokens and entries of all keys of the server, in constant time. */
CACHE_API int memstream_near_core_advance(memstream_t *cache, uint32_t server);

/* Notes, for _state(), that an agent has subscribed. */
CACHE_API int memstream_near_core_note_subscription(memstream_t *cache, uint32_t server);

/* The segment's clock, for _heard(). It may be up to 10 ms behind. 0 after an error. */
CACHE_API uint64_t memstream_near_core_now(memstream_t *cache);

/* All that the server's writers did before that instant has been carried out. CACHE_INVALID: it lies in the future. */
CACHE_API int memstream_near_core_heard(memstream_t *cache, uint32_t server, uint64_t instant_ms);

/* Takes or keeps the agent's role. CACHE_HELD: another handle has it, lives, and was active in the last second. */
CACHE_API int memstream_near_core_lead(memstream_t *cache, uint32_t server);

/* Gives the role up, if this handle has it. */
CACHE_API int memstream_near_core_yield(memstream_t *cache, uint32_t server);

/* What is known of the server. */
CACHE_API int memstream_near_core_state(memstream_t *cache, uint32_t server, memstream_near_core_state_t *state);

/* The same for a handle that has claimed no server, and may be read-only: of the servers 0, 1 and so on, until it gives
   CACHE_MISS. A segment that is no near cache has none. */
CACHE_API int memstream_near_core_look(memstream_t *cache, uint32_t server, memstream_near_core_state_t *state);

/* Adds to what all processes have counted. */
CACHE_API int memstream_near_core_count(memstream_t *cache, const memstream_near_core_counts_t *more);

/* What they have counted. All is 0 in a segment that is no near cache. */
CACHE_API int memstream_near_core_counts(memstream_t *cache, memstream_near_core_counts_t *counts);

#ifdef __cplusplus
}
#endif

#endif /* MEMSTREAM_API_MEMSTREAM_NEAR_CORE_H_ */
