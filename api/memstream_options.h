/*
 * How a cache is opened: a part of memstream.h, which includes it.
 */
#ifndef MEMSTREAM_MEMSTREAM_OPTIONS_H
#define MEMSTREAM_MEMSTREAM_OPTIONS_H

#include "cache.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Options ---- */

/**
 * Bits of memstream_options_t.flags.
 */
enum memstream_open_flags {
  MEMSTREAM_OPEN_READ_ONLY = 1, /* Map for reading only: take no lock, tolerate any bytes. Implies EXISTING. */
  MEMSTREAM_OPEN_EXISTING = 2,  /* Never create: CACHE_NO_SEGMENT if the segment does not exist. */
  MEMSTREAM_OPEN_ANY_OWNER = 4  /* Also write to a segment that another user made. */
};

/**
 * How to open a cache. A field that is not given takes its value from the environment variable of its comment.
 *
 * Call memstream_options_init() before you set fields. The struct may grow.
 */
typedef struct memstream_options {
  size_t struct_size;  /* In: sizeof(memstream_options_t). memstream_options_init() sets it. */
  const char *backend; /* "sysv" or "posix". NULL: MEMSTREAM_BACKEND. */
  const char *name;    /* Which cache. NULL: MEMSTREAM_NAME. */
  uint64_t size_bytes; /* Size of a new segment in bytes. 0: MEMSTREAM_SIZE. */
  uint32_t shards;     /* Shards of a new segment, 1 to 64. 0: MEMSTREAM_SHARDS. */
  uint32_t mode;       /* Permission bits of a new segment. 0: MEMSTREAM_MODE. */
  int64_t timeout_ms;  /* Longest wait for a lock in milliseconds. -1: MEMSTREAM_TIMEOUT_MS. */
  uint32_t flags;      /* Bits of memstream_open_flags. */
  uint32_t reserved;   /* Must be 0. */
  /*
   * Pages of the segment: "off", "try" or "require" huge pages. NULL: MEMSTREAM_HUGEPAGES. "try" falls back to ordinary
   * pages, and cache_stats_t.page_size tells which it got. "require" fails with CACHE_NO_HUGE_PAGES instead, also where
   * an existing segment has none: a segment keeps the pages that it was made with. Both round the size of a new segment
   * up to whole huge pages.
   */
  const char *hugepages;
  /*
   * Pre-faulting: "off" or "on". NULL: MEMSTREAM_PREFAULT. With "on" a new segment takes all its memory from the system
   * immediately, or fails with CACHE_NO_MEMORY. Attaching maps the memory that the segment has by then.
   */
  const char *prefault;
  /*
   * Group of a new segment, by name or number. NULL: MEMSTREAM_GROUP, or the effective group of the creator. The
   * creator must be root or a member of the group, or gets CACHE_NO_PERMISSION. With a mode such as 0660, other users
   * share only segments of this group.
   */
  const char *group;
  /*
   * Bytes of the largest value that a new segment must accept, at most a quarter of its size. 0: MEMSTREAM_MAX_VALUE,
   * or at least a sixteenth of the size, up to 1 GiB. It influences the number of shards: fewer shards hold larger
   * values.
   */
  uint64_t max_value;
  /*
   * User whose segment is wanted, by name or number. It implies MEMSTREAM_OPEN_READ_ONLY and gives no rights: root may
   * read every segment, other users as far as the mode allows. CACHE_NOT_OWNER if the segment belongs to another user.
   * NULL: this user's own segment, or one whose mode admits this user.
   */
  const char *owner;
  /*
   * Whether each value of a new segment has a checksum: "off" or "on"; NULL: MEMSTREAM_CHECKSUM. A get, a view or an
   * increment of an overwritten value then returns CACHE_CORRUPT and drops the entry.
   */
  const char *checksum;
} memstream_options_t;

/**
 * Sets every field of the options to "take it from the environment".
 *
 * Call it as it stands: a macro of the same name passes the size of the struct to memstream_options_init_sized(). The
 * function itself serves programs that were compiled before the macro existed. It sets the fields up to `reserved`.
 *
 * @param options  The struct to set. NULL is allowed and does nothing.
 * @return Nothing.
 * @threads Safe for different structs.
 * @processes Not shared: reads no segment.
 */
CACHE_API void memstream_options_init(memstream_options_t *options);

/**
 * Sets every field of the options to "take it from the environment", and `struct_size` to the caller's size.
 *
 * @param options  The struct to set. NULL is allowed and does nothing.
 * @param size     sizeof(memstream_options_t) of the caller. The library writes no byte behind it.
 * @return Nothing.
 * @threads Safe for different structs.
 * @processes Not shared: reads no segment.
 */
CACHE_API void memstream_options_init_sized(memstream_options_t *options, size_t size);
#define memstream_options_init(options) memstream_options_init_sized((options), sizeof(memstream_options_t))

#ifdef __cplusplus
}
#endif

#endif
