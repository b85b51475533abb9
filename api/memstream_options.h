/*
 * How a cache is opened: a part of api/memstream.h, which includes it.
 */
#ifndef MEMSTREAM_MEMSTREAM_OPTIONS_H
#define MEMSTREAM_MEMSTREAM_OPTIONS_H

#include "api/cache.h"

#ifdef __cplusplus
extern "C" {
#endif

enum memstream_open_flags {
  MEMSTREAM_OPEN_READ_ONLY = 1, /* map for reading only; takes no lock, survives any bytes; implies EXISTING */
  MEMSTREAM_OPEN_EXISTING = 2,  /* never create: CACHE_NO_SEGMENT if there is none */
  MEMSTREAM_OPEN_ANY_OWNER = 4  /* write to a segment that another user made, too */
};

typedef struct memstream_options {
  size_t struct_size;
  const char *backend; /* "sysv" or "posix"; NULL: MEMSTREAM_BACKEND */
  const char *name;    /* NULL: MEMSTREAM_NAME */
  uint64_t size_bytes; /* of a new segment; 0: MEMSTREAM_SIZE */
  uint32_t shards;     /* of a new segment; 0: MEMSTREAM_SHARDS */
  uint32_t mode;       /* of a new segment; 0: MEMSTREAM_MODE */
  int64_t timeout_ms;  /* longest wait for a lock; -1: MEMSTREAM_TIMEOUT_MS */
  uint32_t flags;      /* of memstream_open_flags */
  uint32_t reserved;   /* 0 */
  /*
   * Whether the segment is to be in huge pages: "off", "try" or "require"; NULL: MEMSTREAM_HUGEPAGES. "try" and
   * "require" round the size of a new segment up to whole huge pages. With "try" it gets ordinary pages where there are
   * no others; cache_stats_t.page_size says what came of it. With "require" that is CACHE_NO_HUGE_PAGES, and so is
   * attaching to a segment without them: a segment keeps the pages that it was made with.
   */
  const char *hugepages;
  /*
   * Whether pages are mapped before they are needed: "off" or "on"; NULL: MEMSTREAM_PREFAULT. With "on" a new segment
   * takes all its memory from the system at once, or is not made: CACHE_NO_MEMORY. An attach maps what it has by then.
   */
  const char *prefault;
  /*
   * Group of a new segment, by name or number; NULL: MEMSTREAM_GROUP, or the effective group of its creator, who has to
   * be a member of it or root: CACHE_NO_PERMISSION otherwise. With a mode such as 0660, only segments of this group are
   * then shared with other users.
   */
  const char *group;
  /*
   * Bytes of the largest value that a new segment must accept, at most a quarter of it; 0: MEMSTREAM_MAX_VALUE, or a
   * sixteenth of it at least, up to 1 GiB. It chooses the number of shards: fewer hold larger values.
   */
  uint64_t max_value;
  /*
   * User id or name of the user whose segment is wanted, for a look without writing: implies READ_ONLY.
   * CACHE_NOT_OWNER if it belongs to somebody else. It gives no rights: root may look at every segment, others as far
   * as the mode allows. NULL: this user's own, or one that its mode lets this user into.
   */
  const char *owner;
} memstream_options_t;

/* Sets struct_size to `size`, which is that of the caller's struct, and every field to "from the environment". */
CACHE_API void memstream_options_init_sized(memstream_options_t *options, size_t size);

/*
 * The same for programs that were compiled when the function did not take the size: it sets the fields that the struct
 * had first, up to `reserved`, and those behind them do not count. The macro passes the size.
 */
CACHE_API void memstream_options_init(memstream_options_t *options);
#define memstream_options_init(options) memstream_options_init_sized((options), sizeof(memstream_options_t))

#ifdef __cplusplus
}
#endif

#endif
