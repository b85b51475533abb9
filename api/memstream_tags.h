/* The C interface, tags: one call makes all entries of a group misses, however many there are. Include memstream.h for
   everything else. docs/abi.md explains them.

     memstream_tags_t tags = {0};
     memstream_tag(cache, "user:7", 6, &tags);                          (before the value is computed)
     memstream_store_tagged(cache, key, key_size, value, value_size, 0, 0, MEMSTREAM_SET, 0, &tags);
     memstream_invalidate(cache, "user:7", 6);                          (the next get of the key is a miss) */
#ifndef MEMSTREAM_API_MEMSTREAM_TAGS_H_
#define MEMSTREAM_API_MEMSTREAM_TAGS_H_

#include "memstream.h"
#include "memstream_metrics.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Tags ---- */

/**
 * The most tags that an entry can have.
 */
#define MEMSTREAM_MAX_TAGS 4

/**
 * A set of tags as they were when memstream_tag() added them. Set it to 0 before the first. The words are the
 * library's.
 */
typedef struct memstream_tags {
  uint64_t words[8];
} memstream_tags_t;

/**
 * A key of a batch, with tags: for memstream_set_many_sized(), with sizeof(memstream_tagged_item_t).
 */
typedef struct memstream_tagged_item {
  memstream_item_t item;        /* As in other batches. */
  const memstream_tags_t *tags; /* Set, in: the tags of the entry. NULL: none. Other functions do not read it. */
} memstream_tagged_item_t;

/**
 * Adds a tag to a set, for values that you store later with the set.
 *
 * Call it before you compute the value. Then an invalidation that comes while you compute ends that value too. A set
 * may serve for many values.
 *
 * @param cache     An open cache.
 * @param tag       The tag: any bytes.
 * @param tag_size  Number of bytes of the tag, 1 to CACHE_MAX_KEY_SIZE.
 * @param tags      The set. All words of an empty set are 0.
 * @retval CACHE_OK  The set has the tag.
 * @retval CACHE_INVALID  The tag is empty or too long, or the set has MEMSTREAM_MAX_TAGS others.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_NO_MEMORY  The system has no memory for the table of tags.
 * @threads Safe. Two threads must not add to one set at the same time.
 * @processes Safe.
 * @ownership The set is the caller's. It needs no release.
 */
CACHE_API int memstream_tag(memstream_t *cache, const void *tag, size_t tag_size, memstream_tags_t *tags);

/**
 * Stores a value with tags, in any of the ways in which values are stored.
 *
 * A later write of the key without tags takes the tags away. memstream_incr() and memstream_touch() keep them. A set of
 * another segment, such as one that was resized since, makes an entry that is a miss from the start.
 *
 * @param cache       An open cache.
 * @param key         The key: any bytes.
 * @param key_size    Number of bytes of the key, 1 to CACHE_MAX_KEY_SIZE.
 * @param value       The bytes to store. May be NULL if `value_size` is 0.
 * @param value_size  Number of bytes, 0 to cache_stats_t.max_value_size less 32.
 * @param ttl_ms      Time to live in milliseconds. 0: the entry never expires.
 * @param flags       32 bits of the caller, stored with the value.
 * @param operation   MEMSTREAM_SET, MEMSTREAM_ADD, MEMSTREAM_REPLACE, MEMSTREAM_CAS or MEMSTREAM_FULFIL: as
 *                    memstream_set() and so on, up to memstream_lease_fulfil().
 * @param token       The cas token with MEMSTREAM_CAS, the lease with MEMSTREAM_FULFIL, else 0.
 * @param tags        The tags of the entry: a set that is not empty.
 * @retval CACHE_OK  The value is stored. If one of the tags was invalidated since it was added, gets miss the value.
 * @retval CACHE_INVALID  The set is empty, or `operation` is another one.
 * @retval CACHE_EXISTS  MEMSTREAM_ADD: the key has an entry already. Nothing is stored.
 * @retval CACHE_MISS  MEMSTREAM_REPLACE, MEMSTREAM_CAS: the key has no live entry. Nothing is stored.
 * @retval CACHE_CONFLICT  MEMSTREAM_CAS: the entry has changed. MEMSTREAM_FULFIL: the lease has ended.
 * @retval CACHE_BAD_KEY  The key is empty or too long.
 * @retval CACHE_TOO_LARGE  The value is too large. Nothing was evicted for it.
 * @retval CACHE_FULL  Views and reservations pin all that could be evicted.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_BUSY  A lock was held until the deadline. Nothing is stored.
 * @threads Safe.
 * @processes Safe. Readers see the old value or the new one, never a mixture, even if the process is killed.
 */
CACHE_API int memstream_store_tagged(memstream_t *cache, const void *key, size_t key_size, const void *value,
                                     size_t value_size, uint64_t ttl_ms, uint32_t flags, int operation, uint64_t token,
                                     const memstream_tags_t *tags);

/**
 * Makes all entries misses that have a tag, in constant time: no entry is looked at, and no lock is taken.
 *
 * Entries whose tags were added later stay. Two tags may share a word of the table: then the entries of both become
 * misses. No invalidation is ever lost. The room of the entries goes to new ones, before other entries are evicted.
 *
 * @param cache     An open cache.
 * @param tag       The tag: any bytes.
 * @param tag_size  Number of bytes of the tag, 1 to CACHE_MAX_KEY_SIZE.
 * @retval CACHE_OK  Every get that begins from now on misses them.
 * @retval CACHE_INVALID  The tag is empty or too long.
 * @retval CACHE_READ_ONLY  The cache is open for reading only.
 * @retval CACHE_NO_MEMORY  The system has no memory for the table of tags.
 * @threads Safe.
 * @processes Safe. A kill leaves it done or not done. Views of the values stay readable.
 */
CACHE_API int memstream_invalidate(memstream_t *cache, const void *tag, size_t tag_size);

/**
 * Tells how often tags of the segment were invalidated.
 *
 * @param cache  An open cache.
 * @param count  Receives the number of calls of memstream_invalidate() of all processes.
 * @retval CACHE_OK  The number is stored.
 * @threads Safe.
 * @processes Safe.
 */
CACHE_API int memstream_invalidations(memstream_t *cache, uint64_t *count);

/**
 * Tells whether an entry has tags. Nothing can name them: the segment has numbers of them alone.
 *
 * @param entry  What memstream_inspect() or memstream_scan() has filled. NULL is allowed.
 * @return 1 if it has, else 0.
 * @threads Safe.
 * @processes Not shared: reads no segment.
 */
CACHE_API int memstream_entry_has_tags(const memstream_entry_t *entry);

#ifdef __cplusplus
}
#endif

#endif
