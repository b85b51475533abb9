/*
 * The functions for one key, and those that the package calls through ctypes. api/memstream.h says what the calls do.
 */
#include "clients/python/native/accelerator.h"

#include <stdlib.h>

#define STACK_BUFFER ((size_t)4 * 1024) /* on the stack: values up to this size need one look-up */

#define ACCELERATOR_EXPORT __attribute__((visibility("default")))

pause_t unlock_interpreter(accelerator_t *accelerator) {
  pause_t pause = {NULL, new_reference(accelerator->handle)};
  pause.state = PyEval_SaveThread();
  return pause;
}

void lock_interpreter(pause_t pause) {
  PyEval_RestoreThread(pause.state);
  Py_DecRef(pause.handle);
}

/* ---- arguments ---- */

int parse_key(PyObject *key, const void **bytes, size_t *size) {
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

int parse_ttl(PyObject *ttl, uint64_t *ttl_ms) {
  *ttl_ms = 0;
  if (ttl == &_Py_NoneStruct) return 1;
  if (ttl->type == &PyLong_Type) {
    const long long seconds = PyLong_AsLongLong(ttl);
    if (seconds == -1) PyErr_Clear();
    if (seconds <= 0 || seconds >= INT64_MAX / 1000) return 0;
    *ttl_ms = (uint64_t)seconds * 1000;
    return 1;
  }
  if (ttl->type != &PyFloat_Type) return 0;
  const double milliseconds = PyFloat_AsDouble(ttl) * 1000;
  if (!(milliseconds > 0 && milliseconds < 9e18)) return 0;
  *ttl_ms = (uint64_t)milliseconds;
  if ((double)*ttl_ms < milliseconds) ++*ttl_ms;
  return 1;
}

int parse_flags(PyObject *flags, uint32_t *word) {
  if (flags->type != &PyLong_Type) return 0;
  const long long number = PyLong_AsLongLong(flags);
  if (number == -1) PyErr_Clear();
  if (number < 0 || number > UINT32_MAX) return 0;
  *word = (uint32_t)number;
  return *word < FIRST_RESERVED_FLAGS || *word > LAST_RESERVED_FLAGS;
}

/* ---- reading ---- */

int read_value(accelerator_t *accelerator, const void *key, size_t key_size, PyObject **value, uint32_t *flags) {
  char room[STACK_BUFFER];
  memstream_meta_t meta;
  size_t size = sizeof room;
  const int status = accelerator->calls.get(accelerator->cache, key, key_size, room, &size, &meta);
  if (status == CACHE_TOO_SMALL) return read_sized_value(accelerator, key, key_size, size, value, flags);
  *value = status == CACHE_OK ? PyBytes_FromStringAndSize(room, (Py_ssize_t)size) : NULL;
  *flags = meta.flags;
  return status;
}

int read_sized_value(accelerator_t *accelerator, const void *key, size_t key_size, size_t size, PyObject **value,
                     uint32_t *flags) {
  memstream_meta_t meta;
  int status = CACHE_TOO_SMALL;
  *value = NULL;
  /* Straight into the object; again, should another process store a larger value in between. */
  while (status == CACHE_TOO_SMALL) {
    const size_t room_size = size;
    *value = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room_size);
    if (*value == NULL) return CACHE_OK;
    char *bytes = PyBytes_AsString(*value);
    if (room_size <= LOCKED_COPY) {
      status = accelerator->calls.get(accelerator->cache, key, key_size, bytes, &size, &meta);
    } else {
      memstream_t *cache = accelerator->cache;
      const pause_t pause = unlock_interpreter(accelerator);
      status = accelerator->calls.get(cache, key, key_size, bytes, &size, &meta);
      lock_interpreter(pause);
    }
    if (status == CACHE_OK) {
      if (size != room_size && _PyBytes_Resize(value, (Py_ssize_t)size) != 0) *value = NULL;
    } else {
      Py_DecRef(*value);
      *value = NULL;
      /* Closed by another thread while the lock was free. */
      if (status == CACHE_TOO_SMALL && accelerator->cache == NULL) status = CACHE_NOT_CONNECTED;
    }
  }
  *flags = meta.flags;
  return status;
}

static PyObject *native_get(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                            PyObject *keyword_names) {
  accelerator_t *accelerator = call->accelerator;
  const void *key;
  size_t key_size;
  PyObject *value;
  uint32_t flags;
  if (keyword_names != NULL || count < 1 || count > 2 || accelerator->cache == NULL ||
      !parse_key(arguments[0], &key, &key_size)) {
    return call_python(call, arguments, count, keyword_names);
  }
  const int status = read_value(accelerator, key, key_size, &value, &flags);
  if (status == CACHE_OK) {
    if (value == NULL || flags < FIRST_RESERVED_FLAGS || flags > LAST_RESERVED_FLAGS) return value;
    Py_DecRef(value); /* The Python function says what reads it. */
    return call_python(call, arguments, count, keyword_names);
  }
  if (status == CACHE_MISS) return new_reference(count == 2 ? arguments[1] : &_Py_NoneStruct);
  return raise_status(call, status);
}

/* ---- writing ---- */

static int put_bytes(accelerator_t *accelerator, const void *key, size_t key_size, const void *value, size_t value_size,
                     uint64_t ttl_ms, uint32_t flags) {
  if (value_size <= LOCKED_COPY) {
    return accelerator->calls.set(accelerator->cache, key, key_size, value, value_size, ttl_ms, flags);
  }
  memstream_t *cache = accelerator->cache;
  const pause_t pause = unlock_interpreter(accelerator);
  const int status = accelerator->calls.set(cache, key, key_size, value, value_size, ttl_ms, flags);
  lock_interpreter(pause);
  return status;
}

/* set(key, value, ttl=None, flags=0): the first two by position, the others either way. */
static int set_options(PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names, uint64_t *ttl_ms,
                       uint32_t *flags) {
  PyObject *ttl = count > 2 ? arguments[2] : NULL;
  PyObject *own_flags = count > 3 ? arguments[3] : NULL;
  const Py_ssize_t options = keyword_names == NULL ? 0 : PyTuple_Size(keyword_names);
  for (Py_ssize_t i = 0; i < options; ++i) {
    PyObject *name = PyTuple_GetItem(keyword_names, i);
    PyObject **option = NULL;
    if (PyUnicode_CompareWithASCIIString(name, "ttl") == 0) option = &ttl;
    if (PyUnicode_CompareWithASCIIString(name, "flags") == 0) option = &own_flags;
    if (option == NULL || *option != NULL) return 0; /* Unknown, or given twice. */
    *option = arguments[count + i];
  }
  return (ttl == NULL || parse_ttl(ttl, ttl_ms)) && (own_flags == NULL || parse_flags(own_flags, flags));
}

static PyObject *native_set(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                            PyObject *keyword_names) {
  accelerator_t *accelerator = call->accelerator;
  const void *key;
  size_t key_size;
  uint64_t ttl_ms = 0;
  uint32_t flags = 0;
  int status;
  if (count < 2 || count > 4 || accelerator->cache == NULL || !parse_key(arguments[0], &key, &key_size) ||
      ((count > 2 || keyword_names != NULL) && !set_options(arguments, count, keyword_names, &ttl_ms, &flags))) {
    return call_python(call, arguments, count, keyword_names);
  }
  if (arguments[1]->type == &PyBytes_Type) {
    const char *bytes = PyBytes_AsString(arguments[1]);
    status = put_bytes(accelerator, key, key_size, bytes, (size_t)PyBytes_Size(arguments[1]), ttl_ms, flags);
  } else {
    Py_buffer buffer;
    /* Whoever exports the buffer may run code of its own, which may close the cache. */
    if (PyObject_GetBuffer(arguments[1], &buffer, PyBUF_SIMPLE) != 0) {
      if (PyErr_ExceptionMatches(PyExc_Exception) == 0) return NULL;
      PyErr_Clear(); /* The method in Python says what is expected. */
      return call_python(call, arguments, count, keyword_names);
    }
    if (accelerator->cache == NULL) {
      PyBuffer_Release(&buffer);
      return raise_status(call, CACHE_NOT_CONNECTED);
    }
    status = put_bytes(accelerator, key, key_size, buffer.buf, (size_t)buffer.len, ttl_ms, flags);
    PyBuffer_Release(&buffer);
  }
  return status == CACHE_OK ? new_reference(&_Py_NoneStruct) : raise_status(call, status);
}

static PyObject *found(const method_call_t *call, int status) {
  if (status == CACHE_OK) return new_reference(&_Py_TrueStruct);
  if (status == CACHE_MISS) return new_reference(&_Py_FalseStruct);
  return raise_status(call, status);
}

static PyObject *native_delete(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                               PyObject *keyword_names) {
  accelerator_t *accelerator = call->accelerator;
  const void *key;
  size_t key_size;
  if (keyword_names != NULL || count != 1 || accelerator->cache == NULL || !parse_key(arguments[0], &key, &key_size)) {
    return call_python(call, arguments, count, keyword_names);
  }
  return found(call, accelerator->calls.remove(accelerator->cache, key, key_size));
}

static PyObject *native_exists(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                               PyObject *keyword_names) {
  accelerator_t *accelerator = call->accelerator;
  const void *key;
  size_t key_size;
  if (keyword_names != NULL || count != 1 || accelerator->cache == NULL || !parse_key(arguments[0], &key, &key_size)) {
    return call_python(call, arguments, count, keyword_names);
  }
  return found(call, accelerator->calls.exists(accelerator->cache, key, key_size));
}

static PyObject *native_touch(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                              PyObject *keyword_names) {
  accelerator_t *accelerator = call->accelerator;
  const void *key;
  size_t key_size;
  uint64_t ttl_ms = 0;
  if (keyword_names != NULL || count < 1 || count > 2 || accelerator->cache == NULL ||
      !parse_key(arguments[0], &key, &key_size) || (count == 2 && !parse_ttl(arguments[1], &ttl_ms))) {
    return call_python(call, arguments, count, keyword_names);
  }
  return found(call, accelerator->calls.touch(accelerator->cache, key, key_size, ttl_ms));
}

/* incr(key, delta=1): with a value for an absent key, or a time to live, it is the Python function's. */
static PyObject *native_incr(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                             PyObject *keyword_names) {
  accelerator_t *accelerator = call->accelerator;
  const void *key;
  size_t key_size;
  long long delta = 1;
  int64_t result = 0;
  int is_common = keyword_names == NULL && (count == 1 || count == 2) && accelerator->cache != NULL;
  if (is_common && count == 2) {
    is_common = arguments[1]->type == &PyLong_Type;
    if (is_common) delta = PyLong_AsLongLong(arguments[1]);
    if (is_common && delta == -1 && PyErr_Occurred() != NULL) {
      PyErr_Clear();
      is_common = 0;
    }
  }
  if (!is_common || !parse_key(arguments[0], &key, &key_size)) {
    return call_python(call, arguments, count, keyword_names);
  }
  const int status = accelerator->calls.incr(accelerator->cache, key, key_size, delta, NULL, 0, &result);
  if (status == CACHE_OK) return PyLong_FromLongLong(result);
  /* The Python function raises CacheMiss with the key. Should the key have come meanwhile, it counts. */
  return status == CACHE_MISS ? call_python(call, arguments, count, NULL) : raise_status(call, status);
}

/* ---- what the package calls ---- */

typedef struct named_function {
  const char *name;
  native_function_t function;
} named_function_t;

static const named_function_t functions[] = {
    {"get", native_get},           {"set", native_set},
    {"delete", native_delete},     {"exists", native_exists},
    {"touch", native_touch},       {"incr", native_incr},
    {"view", native_view},         {"get_many", native_get_many},
    {"set_many", native_set_many}, {"delete_many", native_delete_many},
};

/* The index of a method that the package names; -1 with an exception. */
static int function_of(PyObject *name) {
  for (int i = 0; i < (int)(sizeof functions / sizeof functions[0]); ++i) {
    if (PyUnicode_CompareWithASCIIString(name, functions[i].name) == 0) return i;
  }
  PyErr_SetString(PyExc_TypeError, "no native function stands for this method");
  return -1;
}

/* The version of the project that this library is from. */
ACCELERATOR_EXPORT const char *memstream_python_version(void) { return MEMSTREAM_VERSION; }

/*
 * Whether the running interpreter is what this library takes it for: objects begin with a count and a type, and it is
 * the process's main interpreter. Called before anything else, with a bytes object.
 */
ACCELERATOR_EXPORT int memstream_python_fits(PyObject *bytes) {
  return bytes->type == &PyBytes_Type && PyInterpreterState_GetID(PyInterpreterState_Get()) == 0;
}

/* The type of the views, a new reference; NULL with an exception. To be called next. */
ACCELERATOR_EXPORT PyObject *memstream_python_prepare(void) {
  PyObject *type = make_accelerator_types() == 0 ? make_view_type() : NULL;
  return type == NULL ? NULL : new_reference(type);
}

/* To be called in a forked child, before anything else there uses views. */
ACCELERATOR_EXPORT void memstream_python_after_fork(void) { leave_parent_views(); }

/* What takes the place of a Python function in its class: see make_method(). */
ACCELERATOR_EXPORT PyObject *memstream_python_method(PyObject *function, PyObject *name) {
  const int index = function_of(name);
  return index < 0 ? NULL : make_method(function, functions[index].function, (uint32_t)1 << index);
}

/* What an open Cache, the `owner`, keeps: a new reference; NULL with an exception. It keeps `handle`, which keeps
 * `cache` open, until it is closed. */
ACCELERATOR_EXPORT PyObject *memstream_python_open(const memstream_python_calls_t *calls, memstream_t *cache,
                                                   PyObject *handle, PyObject *owner) {
  accelerator_t *accelerator = (accelerator_t *)PyType_GenericAlloc(accelerator_type, 0);
  if (accelerator == NULL) return NULL;
  accelerator->calls = *calls;
  accelerator->views = make_view_source(calls, cache, handle);
  if (accelerator->views == NULL) {
    Py_DecRef(&accelerator->object);
    return PyErr_NoMemory();
  }
  accelerator->cache = cache;
  accelerator->handle = new_reference(handle);
  enter_accelerator(accelerator, owner);
  return &accelerator->object;
}

/* Leaves every call of a Cache to the Python functions. */
ACCELERATOR_EXPORT void memstream_python_forget(PyObject *owner) { forget_accelerator(owner); }

/* Leaves a method to its Python function, for one cache. None, or NULL with an exception. */
ACCELERATOR_EXPORT PyObject *memstream_python_leave(PyObject *self, PyObject *name) {
  const int index = function_of(name);
  if (index < 0) return NULL;
  ((accelerator_t *)self)->left |= (uint32_t)1 << index;
  return new_reference(&_Py_NoneStruct);
}

/* Leaves every call to the Python functions, which say that the cache was closed. Doing so twice is fine. */
ACCELERATOR_EXPORT void memstream_python_close(PyObject *self) {
  accelerator_t *accelerator = (accelerator_t *)self;
  PyObject *handle = accelerator->handle;
  view_source_t *views = accelerator->views;
  accelerator->cache = NULL;
  accelerator->handle = NULL;
  accelerator->views = NULL;
  /* Last of all: the end of the handle runs code. */
  if (views != NULL) drop_view_source(views);
  if (handle != NULL) Py_DecRef(handle);
}
