/*
 * The fast road: built-in functions for the calls of one open cache. What the files of this folder share.
 *
 * A road does what is common by itself: keys of exactly bytes or str, values with a buffer, numbers of exactly int or
 * float. Everything else, every argument that looks wrong, and every exception is left to the plain road, which is the
 * Python code of the package; so both roads mean and say the same.
 */
#ifndef MEMSTREAM_CLIENTS_PYTHON_NATIVE_FAST_ROAD_H
#define MEMSTREAM_CLIENTS_PYTHON_NATIVE_FAST_ROAD_H

#include "api/memstream.h"
#include "clients/python/native/python_abi.h"

/* What the package has loaded of libcache.so: the road calls just that, whatever else the process has loaded. */
typedef struct memstream_python_calls {
  int (*get)(memstream_t *, const void *, size_t, void *, size_t *, memstream_meta_t *);
  int (*set)(memstream_t *, const void *, size_t, const void *, size_t, uint64_t, uint32_t);
  int (*remove)(memstream_t *, const void *, size_t);
  int (*exists)(memstream_t *, const void *, size_t);
  int (*touch)(memstream_t *, const void *, size_t, uint64_t);
  int (*incr)(memstream_t *, const void *, size_t, int64_t, const int64_t *, uint64_t, int64_t *);
  int (*get_many)(memstream_t *, memstream_item_t *, size_t, void *, size_t *);
  int (*set_many)(memstream_t *, memstream_item_t *, size_t);
  int (*delete_many)(memstream_t *, memstream_item_t *, size_t);
  int (*view)(memstream_t *, const void *, size_t, memstream_view_t *);
  int (*release)(memstream_t *, memstream_view_t *);
} memstream_python_calls_t;

/* What the views of one cache have in common, and what ends them after their road was closed. */
typedef struct view_source view_source_t;

/* `self` of the built-in functions, in a capsule. */
typedef struct memstream_road {
  memstream_python_calls_t calls;
  memstream_t *cache;   /* NULL once the cache was closed: the plain road says so */
  PyObject *handle;     /* keeps `cache` open; calls that let the interpreter's lock go keep it themselves */
  PyObject *plain;      /* an object with the methods of the same names; it refers to the handle, not to the Cache */
  view_source_t *views; /* NULL once the cache was closed */
  void *batch_room;     /* road_get_many's, kept from call to call; NULL while one of them has it */
} memstream_road_t;

/* Values up to this size are copied with the interpreter's lock held: letting it go costs more. */
#define ROAD_LOCKED_COPY ((size_t)32 * 1024)
#define ROAD_FIRST_RESERVED 0xE0000000u /* flags that say how the package serialized a value: memstream/_kinds.py */
#define ROAD_LAST_RESERVED 0xEFFFFFFFu

memstream_road_t *road_of(PyObject *self);

/* The same call on the plain road. `name` is the method's. */
PyObject *road_plain(memstream_road_t *road, const char *name, PyObject *const *arguments, Py_ssize_t count,
                     PyObject *keyword_names);

/* Raises the exception of a status that the calling thread's last call returned. Always NULL. */
PyObject *road_fail(memstream_road_t *road, int status);

static inline PyObject *road_new(PyObject *object) {
  Py_IncRef(object);
  return object;
}

/* The bytes of a key of exactly bytes or str, valid as long as the object is. 0 for anything else, without an
 * exception. */
int road_key(PyObject *key, const void **bytes, size_t *size);

/* None, or a number of seconds above 0, in milliseconds rounded up. 0 for anything else. */
int road_ttl(PyObject *ttl, uint64_t *ttl_ms);

/* The caller's flags that need no look at what they mean. 0 for anything else. */
int road_flags(PyObject *flags, uint32_t *word);

/* A value of any size as a new bytes object; `*flags` is what was stored with it. The status; a miss is no exception,
 * with any other status than CACHE_OK none is set either, except NULL with CACHE_OK: no memory. */
int road_value(memstream_road_t *road, const void *key, size_t key_size, PyObject **value, uint32_t *flags);

/* The same for a value that was of `size` bytes a moment ago, which saves a look-up if it is large. */
int road_sized_value(memstream_road_t *road, const void *key, size_t key_size, size_t size, PyObject **value,
                     uint32_t *flags);

/* Lets the interpreter's lock go, and takes it back. The handle lives as long. */
typedef struct road_pause {
  PyThreadState *state;
  PyObject *handle;
} road_pause_t;
road_pause_t road_unlock(memstream_road_t *road);
void road_lock(road_pause_t pause);

/* The detour keeps the compiler from warning of a function type that the flags beside it make right. */
#define ROAD_METHOD(name, function) \
  { name, (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS, NULL }

/* A source of views for a cache that `handle` keeps open; NULL without memory. The road leaves it when it is closed,
 * and what is then left of it goes with the last view. */
view_source_t *road_view_source(const memstream_python_calls_t *calls, memstream_t *cache, PyObject *handle);
void road_leave_views(view_source_t *source);

/* The type of what road_view() gives: borrowed, made by the first call, which has to come before any other use of
 * views. NULL with an exception. */
PyObject *road_view_type(void);

/* In a forked child: the views that are there are the parent's. Their memoryviews are released, lest anybody reads
 * what nothing keeps in place, and the library is not told of their end. */
void road_leave_parent(void);

PyObject *road_view(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names);
PyObject *road_get_many(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names);
PyObject *road_set_many(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names);
PyObject *road_delete_many(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names);

#endif
