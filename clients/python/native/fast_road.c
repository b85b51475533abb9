/*
 * The functions for one key, and how a road is made. api/memstream.h says what the calls do, fast_road.h what a road
 * is.
 */
#include "clients/python/native/fast_road.h"

#include <stdlib.h>

#define ROAD_NAME "memstream.road"
#define ROAD_ROOM ((size_t)4 * 1024) /* on the stack: values up to this size need one look-up */

#define ROAD_EXPORT __attribute__((visibility("default")))

memstream_road_t *road_of(PyObject *self) { return PyCapsule_GetPointer(self, ROAD_NAME); }

/* A new tuple of the arguments by position; NULL with an exception. */
static PyObject *positional(PyObject *const *arguments, Py_ssize_t count) {
  PyObject *tuple = PyTuple_New(count);
  for (Py_ssize_t i = 0; tuple != NULL && i < count; ++i) {
    if (PyTuple_SetItem(tuple, i, road_new(arguments[i])) == 0) continue;
    Py_DecRef(tuple);
    tuple = NULL;
  }
  return tuple;
}

/* A new dict of the arguments by name; NULL with an exception. */
static PyObject *named(PyObject *const *arguments, PyObject *keyword_names) {
  PyObject *dict = PyDict_New();
  const Py_ssize_t count = keyword_names == NULL ? 0 : PyTuple_Size(keyword_names);
  for (Py_ssize_t i = 0; dict != NULL && i < count; ++i) {
    if (PyDict_SetItem(dict, PyTuple_GetItem(keyword_names, i), arguments[i]) == 0) continue;
    Py_DecRef(dict);
    dict = NULL;
  }
  return dict;
}

PyObject *road_plain(memstream_road_t *road, const char *name, PyObject *const *arguments, Py_ssize_t count,
                     PyObject *keyword_names) {
  PyObject *method = PyObject_GetAttrString(road->plain, name);
  PyObject *tuple = method == NULL ? NULL : positional(arguments, count);
  PyObject *dict = tuple == NULL ? NULL : named(arguments + count, keyword_names);
  PyObject *result = dict == NULL ? NULL : PyObject_Call(method, tuple, dict);
  if (method != NULL) Py_DecRef(method);
  if (tuple != NULL) Py_DecRef(tuple);
  if (dict != NULL) Py_DecRef(dict);
  return result;
}

PyObject *road_fail(memstream_road_t *road, int status) {
  PyObject *result = PyObject_CallMethod(road->plain, "_fail", "i", status);
  if (result != NULL) Py_DecRef(result); /* It always raises. */
  return NULL;
}

road_pause_t road_unlock(memstream_road_t *road) {
  road_pause_t pause = {NULL, road_new(road->handle)};
  pause.state = PyEval_SaveThread();
  return pause;
}

void road_lock(road_pause_t pause) {
  PyEval_RestoreThread(pause.state);
  Py_DecRef(pause.handle);
}

/* ---- arguments ---- */

int road_key(PyObject *key, const void **bytes, size_t *size) {
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

int road_ttl(PyObject *ttl, uint64_t *ttl_ms) {
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

int road_flags(PyObject *flags, uint32_t *word) {
  if (flags->type != &PyLong_Type) return 0;
  const long long number = PyLong_AsLongLong(flags);
  if (number == -1) PyErr_Clear();
  if (number < 0 || number > UINT32_MAX) return 0;
  *word = (uint32_t)number;
  return *word < ROAD_FIRST_RESERVED || *word > ROAD_LAST_RESERVED;
}

/* ---- reading ---- */

int road_value(memstream_road_t *road, const void *key, size_t key_size, PyObject **value, uint32_t *flags) {
  char room[ROAD_ROOM];
  memstream_meta_t meta;
  size_t size = sizeof room;
  const int status = road->calls.get(road->cache, key, key_size, room, &size, &meta);
  if (status == CACHE_TOO_SMALL) return road_sized_value(road, key, key_size, size, value, flags);
  *value = status == CACHE_OK ? PyBytes_FromStringAndSize(room, (Py_ssize_t)size) : NULL;
  *flags = meta.flags;
  return status;
}

int road_sized_value(memstream_road_t *road, const void *key, size_t key_size, size_t size, PyObject **value,
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
    if (room_size <= ROAD_LOCKED_COPY) {
      status = road->calls.get(road->cache, key, key_size, bytes, &size, &meta);
    } else {
      memstream_t *cache = road->cache;
      const road_pause_t pause = road_unlock(road);
      status = road->calls.get(cache, key, key_size, bytes, &size, &meta);
      road_lock(pause);
    }
    if (status == CACHE_OK) {
      if (size != room_size && _PyBytes_Resize(value, (Py_ssize_t)size) != 0) *value = NULL;
    } else {
      Py_DecRef(*value);
      *value = NULL;
      /* Closed by another thread while the lock was free. */
      if (status == CACHE_TOO_SMALL && road->cache == NULL) status = CACHE_NOT_CONNECTED;
    }
  }
  *flags = meta.flags;
  return status;
}

static PyObject *road_get(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names) {
  memstream_road_t *road = road_of(self);
  const void *key;
  size_t key_size;
  PyObject *value;
  uint32_t flags;
  if (keyword_names != NULL || count < 1 || count > 2 || road->cache == NULL ||
      !road_key(arguments[0], &key, &key_size)) {
    return road_plain(road, "get", arguments, count, keyword_names);
  }
  const int status = road_value(road, key, key_size, &value, &flags);
  if (status == CACHE_OK) {
    if (value == NULL || flags < ROAD_FIRST_RESERVED || flags > ROAD_LAST_RESERVED) return value;
    Py_DecRef(value); /* The plain road says what reads it. */
    return road_plain(road, "get", arguments, count, keyword_names);
  }
  if (status == CACHE_MISS) return road_new(count == 2 ? arguments[1] : &_Py_NoneStruct);
  return road_fail(road, status);
}

/* ---- writing ---- */

static int put_bytes(memstream_road_t *road, const void *key, size_t key_size, const void *value, size_t value_size,
                     uint64_t ttl_ms, uint32_t flags) {
  if (value_size <= ROAD_LOCKED_COPY) {
    return road->calls.set(road->cache, key, key_size, value, value_size, ttl_ms, flags);
  }
  memstream_t *cache = road->cache;
  const road_pause_t pause = road_unlock(road);
  const int status = road->calls.set(cache, key, key_size, value, value_size, ttl_ms, flags);
  road_lock(pause);
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
  return (ttl == NULL || road_ttl(ttl, ttl_ms)) && (own_flags == NULL || road_flags(own_flags, flags));
}

static PyObject *road_set(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names) {
  memstream_road_t *road = road_of(self);
  const void *key;
  size_t key_size;
  uint64_t ttl_ms = 0;
  uint32_t flags = 0;
  int status;
  if (count < 2 || count > 4 || road->cache == NULL || !road_key(arguments[0], &key, &key_size) ||
      ((count > 2 || keyword_names != NULL) && !set_options(arguments, count, keyword_names, &ttl_ms, &flags))) {
    return road_plain(road, "set", arguments, count, keyword_names);
  }
  if (arguments[1]->type == &PyBytes_Type) {
    const char *bytes = PyBytes_AsString(arguments[1]);
    status = put_bytes(road, key, key_size, bytes, (size_t)PyBytes_Size(arguments[1]), ttl_ms, flags);
  } else {
    Py_buffer buffer;
    /* Whoever exports the buffer may run code of its own, which may close the cache. */
    if (PyObject_GetBuffer(arguments[1], &buffer, PyBUF_SIMPLE) != 0) return NULL;
    if (road->cache == NULL) {
      PyBuffer_Release(&buffer);
      return road_fail(road, CACHE_NOT_CONNECTED);
    }
    status = put_bytes(road, key, key_size, buffer.buf, (size_t)buffer.len, ttl_ms, flags);
    PyBuffer_Release(&buffer);
  }
  return status == CACHE_OK ? road_new(&_Py_NoneStruct) : road_fail(road, status);
}

static PyObject *found(memstream_road_t *road, int status) {
  if (status == CACHE_OK) return road_new(&_Py_TrueStruct);
  if (status == CACHE_MISS) return road_new(&_Py_FalseStruct);
  return road_fail(road, status);
}

static PyObject *road_delete(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names) {
  memstream_road_t *road = road_of(self);
  const void *key;
  size_t key_size;
  if (keyword_names != NULL || count != 1 || road->cache == NULL || !road_key(arguments[0], &key, &key_size)) {
    return road_plain(road, "delete", arguments, count, keyword_names);
  }
  return found(road, road->calls.remove(road->cache, key, key_size));
}

static PyObject *road_exists(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names) {
  memstream_road_t *road = road_of(self);
  const void *key;
  size_t key_size;
  if (keyword_names != NULL || count != 1 || road->cache == NULL || !road_key(arguments[0], &key, &key_size)) {
    return road_plain(road, "exists", arguments, count, keyword_names);
  }
  return found(road, road->calls.exists(road->cache, key, key_size));
}

static PyObject *road_touch(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names) {
  memstream_road_t *road = road_of(self);
  const void *key;
  size_t key_size;
  uint64_t ttl_ms = 0;
  if (keyword_names != NULL || count < 1 || count > 2 || road->cache == NULL ||
      !road_key(arguments[0], &key, &key_size) || (count == 2 && !road_ttl(arguments[1], &ttl_ms))) {
    return road_plain(road, "touch", arguments, count, keyword_names);
  }
  return found(road, road->calls.touch(road->cache, key, key_size, ttl_ms));
}

/* incr(key, delta=1): with a value for an absent key, or a time to live, it is the plain road's. */
static PyObject *road_incr(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names) {
  memstream_road_t *road = road_of(self);
  const void *key;
  size_t key_size;
  long long delta = 1;
  int64_t result = 0;
  int is_common = keyword_names == NULL && (count == 1 || count == 2) && road->cache != NULL;
  if (is_common && count == 2) {
    is_common = arguments[1]->type == &PyLong_Type;
    if (is_common) delta = PyLong_AsLongLong(arguments[1]);
    if (is_common && delta == -1 && PyErr_Occurred() != NULL) {
      PyErr_Clear();
      is_common = 0;
    }
  }
  if (!is_common || !road_key(arguments[0], &key, &key_size)) {
    return road_plain(road, "incr", arguments, count, keyword_names);
  }
  const int status = road->calls.incr(road->cache, key, key_size, delta, NULL, 0, &result);
  if (status == CACHE_OK) return PyLong_FromLongLong(result);
  /* The plain road raises CacheMiss with the key. Should the key have come meanwhile, it counts. */
  return status == CACHE_MISS ? road_plain(road, "incr", arguments, count, NULL) : road_fail(road, status);
}

/* ---- the life of a road ---- */

static PyObject *road_close(PyObject *self, PyObject *unused) {
  memstream_road_t *road = road_of(self);
  PyObject *handle = road->handle;
  view_source_t *views = road->views;
  (void)unused;
  road->cache = NULL;
  road->handle = NULL;
  road->views = NULL;
  if (PyObject_SetAttrString(road->plain, "_handle", &_Py_NoneStruct) != 0) PyErr_Clear();
  /* Last of all: the end of the handle runs code. */
  if (views != NULL) road_leave_views(views);
  if (handle != NULL) Py_DecRef(handle);
  return road_new(&_Py_NoneStruct);
}

static void free_road(PyObject *capsule) {
  memstream_road_t *road = road_of(capsule);
  if (road->views != NULL) road_leave_views(road->views);
  if (road->handle != NULL) Py_DecRef(road->handle);
  Py_DecRef(road->plain);
  free(road->batch_room);
  free(road);
}

static PyMethodDef methods[] = {
    ROAD_METHOD("get", road_get),
    ROAD_METHOD("set", road_set),
    ROAD_METHOD("put", road_set),
    ROAD_METHOD("delete", road_delete),
    ROAD_METHOD("exists", road_exists),
    ROAD_METHOD("touch", road_touch),
    ROAD_METHOD("incr", road_incr),
    ROAD_METHOD("view", road_view),
    ROAD_METHOD("get_many", road_get_many),
    ROAD_METHOD("set_many", road_set_many),
    ROAD_METHOD("delete_many", road_delete_many),
    {"close", road_close, METH_NOARGS, NULL},
};

/* Which of the package's versions this library goes with. */
ROAD_EXPORT const char *memstream_python_version(void) { return MEMSTREAM_VERSION; }

/*
 * Whether the running interpreter is what this library takes it for: objects begin with a count and a type, and it is
 * the process's main interpreter. Called before anything else, with a bytes object.
 */
ROAD_EXPORT int memstream_python_fits(PyObject *bytes) {
  return bytes->type == &PyBytes_Type && PyInterpreterState_GetID(PyInterpreterState_Get()) == 0;
}

/* The type of the views, a new reference; NULL with an exception. Called before the first cache is bound. */
ROAD_EXPORT PyObject *memstream_python_view_type(void) {
  PyObject *type = road_view_type();
  return type == NULL ? NULL : road_new(type);
}

/* To be called in a forked child, before anything else there uses views. */
ROAD_EXPORT void memstream_python_after_fork(void) { road_leave_parent(); }

/*
 * Makes the functions for one open cache: a dict of name and built-in function, NULL with an exception. The functions
 * keep `handle`, which keeps `cache` open, until "close" is called, and `plain` for as long as one of them is there.
 */
ROAD_EXPORT PyObject *memstream_python_bind(const memstream_python_calls_t *calls, memstream_t *cache, PyObject *handle,
                                            PyObject *plain) {
  memstream_road_t *road = malloc(sizeof *road);
  if (road == NULL) return PyErr_NoMemory();
  view_source_t *views = road_view_source(calls, cache, handle);
  *road = (memstream_road_t){*calls, cache, road_new(handle), road_new(plain), views, NULL};
  PyObject *self = views == NULL ? PyErr_NoMemory() : PyCapsule_New(road, ROAD_NAME, free_road);
  if (self == NULL) {
    if (views != NULL) road_leave_views(views);
    Py_DecRef(handle);
    Py_DecRef(plain);
    free(road);
    return NULL;
  }
  PyObject *functions = PyDict_New();
  for (size_t i = 0; functions != NULL && i < sizeof methods / sizeof methods[0]; ++i) {
    PyObject *function = PyCFunction_NewEx(&methods[i], self, NULL);
    const int failed = function == NULL || PyDict_SetItemString(functions, methods[i].name, function) != 0;
    if (function != NULL) Py_DecRef(function);
    if (!failed) continue;
    Py_DecRef(functions);
    functions = NULL;
  }
  Py_DecRef(self);
  return functions;
}
