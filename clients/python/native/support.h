/*
 * What the files of this folder share. Together they are the accelerator: native code for the methods of the Python
 * package that are called most.
 *
 *     support.h       arguments, the interpreter's lock, calls of Python, errors
 *     entries.h       the functions for one key
 *     batches.h       the functions for many keys
 *     views.h         values in place
 *     near.h          copies of what a Redis has
 *     accelerator.h   what an open Cache has here, and how a call finds it
 *     methods.h       the methods that stand in the class
 *     module.c        what the package calls through ctypes
 *
 * The native code does what is common by itself: keys of exactly bytes or str, values with a buffer, numbers of exactly
 * int or float. It leaves everything else, every argument that looks wrong, and every exception to the Python function
 * that it stands for; so both mean and say the same.
 */
#ifndef MEMSTREAM_CLIENTS_PYTHON_NATIVE_SUPPORT_H
#define MEMSTREAM_CLIENTS_PYTHON_NATIVE_SUPPORT_H

#include "api/memstream.h"
#include "clients/python/native/python_abi.h"

/*
 * The functions of libcache.so. Native code calls just these, whatever else the process has loaded. The package fills
 * the struct in this order, and takes a library of the same MAJOR and MINOR version. So only a new MINOR version may
 * change this struct or what the functions of this library take.
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
  int (*view_in_place)(memstream_t *, const memstream_view_t *, int *);
} memstream_python_calls_t;

/* What the views of one cache have in common, and what ends them after their accelerator was closed. */
typedef struct view_source view_source_t;

/* memstream_near_peek() of libmemstream_near.so. */
typedef int (*near_peek_t)(void *near, const void *key, size_t key_size, void *value, size_t *value_size);

/* What a Cache needs for its native calls. An object of Python, which the Cache keeps for as long as it is there. */
typedef struct accelerator {
  PyObject object;
  memstream_python_calls_t calls;
  memstream_t *cache;   /* NULL once the cache was closed: the Python function says so */
  PyObject *handle;     /* keeps `cache` open; calls that let the interpreter's lock go keep it themselves */
  view_source_t *views; /* NULL once the cache was closed */
  void *batch_buffer;   /* native_get_many's, kept from call to call; NULL while one of them has it */
  uint32_t left;        /* bits, in the order of the methods: what this Cache leaves to its Python functions */
  int has_objects;      /* its values are objects, which its method _unpack makes of bytes */
  PyObject *owner;      /* the Cache, by which a call finds this; an address, which is never followed */
  struct accelerator *next;
  near_peek_t peek;
  void *near; /* of a NearCache, which has no `cache`; NULL once it was closed */
} accelerator_t;

/* One call of a method. */
typedef struct method_call_arguments {
  accelerator_t *accelerator;
  PyObject *self;     /* the Cache */
  PyObject *function; /* the Python function that the native one stands for */
} method_call_t;

/* A native function: the arguments are those after self, by position and then by name. */
typedef PyObject *(*native_function_t)(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                                       PyObject *keyword_names);

/* Values up to this size are copied with the interpreter's lock held: letting it go costs more. */
#define LOCKED_COPY ((size_t)32 * 1024)
#define FIRST_RESERVED_FLAGS \
  0xE0000000u /* flags that say how the package serialized a value: memstream/_core/kinds.py */
#define LAST_RESERVED_FLAGS 0xEFFFFFFFu

/* Calls a Python function; `self` is its first argument unless it is NULL. */
PyObject *call_function(PyObject *function, PyObject *self, PyObject *const *arguments, Py_ssize_t count,
                        PyObject *keyword_names);

/* The same call of the Python function. */
PyObject *call_python(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names);

/* Raises the exception of a status that the calling thread's last call returned. Always NULL. */
PyObject *raise_status(const method_call_t *call, int status);

static inline PyObject *new_reference(PyObject *object) {
  Py_IncRef(object);
  return object;
}

/* The bytes of a key of exactly bytes or str, valid as long as the object is. 0 for anything else, without an
 * exception. */
static inline int parse_key(PyObject *key, const void **bytes, size_t *size) {
  Py_ssize_t length = 0;
  if (key->type == &PyBytes_Type) {
    *bytes = PyBytes_AsString(key);
    length = PyBytes_Size(key);
  } else if (key->type == &PyUnicode_Type) {
    *bytes = PyUnicode_AsUTF8AndSize(key, &length);
    if (*bytes == NULL) {
      PyErr_Clear(); /* Lone surrogates. */
      return 0;
    }
  } else {
    return 0;
  }
  *size = (size_t)length;
  return 1;
}

/* None, or a number of seconds above 0, in milliseconds rounded up. 0 for anything else. */
int parse_ttl(PyObject *ttl, uint64_t *ttl_ms);

/* The caller's flags that need no look at what they mean. 0 for anything else. */
int parse_flags(PyObject *flags, uint32_t *word);

/* Lets the interpreter's lock go, and takes it back. The handle lives as long. */
typedef struct pause {
  PyThreadState *state;
  PyObject *handle;
} pause_t;
pause_t unlock_interpreter(accelerator_t *accelerator);
void lock_interpreter(pause_t pause);

/* Of a type that PyType_FromSpec has made: a `tp_new` that refuses. */
PyObject *refuse_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords);

#endif
