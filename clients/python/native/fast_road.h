/*
 * The accelerator: native code for the methods of the Python package that are called most. What the files of this
 * folder share.
 *
 * The native code does what is common by itself: keys of exactly bytes or str, values with a buffer, numbers of exactly
 * int or float. It leaves everything else, every argument that looks wrong, and every exception to the Python function
 * that it stands for; so both mean and say the same.
 */
#ifndef MEMSTREAM_CLIENTS_PYTHON_NATIVE_FAST_ROAD_H
#define MEMSTREAM_CLIENTS_PYTHON_NATIVE_FAST_ROAD_H

#include "api/memstream.h"
#include "clients/python/native/python_abi.h"

/*
 * What the package has loaded of libcache.so: the road calls just that, whatever else the process has loaded. The
 * package fills it in this order, and takes a library of the same MAJOR and MINOR version: only with one of them may
 * this struct, or what a function of this library takes, change.
 */
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

/* What a Cache needs for its native calls. An object of Python, which the Cache keeps for as long as it is there. */
typedef struct memstream_road {
  PyObject object;
  memstream_python_calls_t calls;
  memstream_t *cache;   /* NULL once the cache was closed: the Python function says so */
  PyObject *handle;     /* keeps `cache` open; calls that let the interpreter's lock go keep it themselves */
  view_source_t *views; /* NULL once the cache was closed */
  void *batch_room;     /* road_get_many's, kept from call to call; NULL while one of them has it */
  uint32_t left;        /* bits, in the order of the methods: what this Cache leaves to its Python functions */
} memstream_road_t;

/* One call of a method. */
typedef struct road_call {
  memstream_road_t *road;
  PyObject *self;     /* the Cache */
  PyObject *function; /* the Python function that the native one stands for */
} road_call_t;

/* A native function: the arguments are those after self, by position and then by name. */
typedef PyObject *(*road_function_t)(const road_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                                     PyObject *keyword_names);

/* Values up to this size are copied with the interpreter's lock held: letting it go costs more. */
#define ROAD_LOCKED_COPY ((size_t)32 * 1024)
#define ROAD_FIRST_RESERVED 0xE0000000u /* flags that say how the package serialized a value: memstream/_kinds.py */
#define ROAD_LAST_RESERVED 0xEFFFFFFFu

/* The same call of the Python function. */
PyObject *road_plain(const road_call_t *call, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names);

/* Raises the exception of a status that the calling thread's last call returned. Always NULL. */
PyObject *road_fail(const road_call_t *call, int status);

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

/* A function that stands in a class in the place of `function`, and behaves like it, but calls `native` where it can.
 * Its bit in `memstream_road_t.left` is `bit`. NULL with an exception. */
PyObject *road_method(PyObject *function, road_function_t native, uint32_t bit);

/* What an instance of the class of caches has in its first slot, borrowed; NULL: nothing. */
PyObject *road_slot(PyObject *cache);

/* Makes the types; what is an instance of `cache_class` has its road in its first slot. 0, or -1 with an exception. */
int road_make_types(PyTypeObject *cache_class);
extern PyTypeObject *road_type;

/* Of a type that PyType_FromSpec has made: a `tp_new` that refuses. */
PyObject *road_refuse_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords);

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

PyObject *road_view(const road_call_t *call, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names);
PyObject *road_get_many(const road_call_t *call, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names);
PyObject *road_set_many(const road_call_t *call, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names);
PyObject *road_delete_many(const road_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                           PyObject *keyword_names);

#endif
