/*
 * The limit: what a C extension makes of the same calls, written for one version of Python with all that its headers
 * offer. `limit.Cache(address)` is put around a `memstream_t *` that somebody else keeps open; it has get, set and
 * get_many for keys of bytes or str and values of bytes, and no more.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "api/memstream.h"

#define LOCKED_COPY ((size_t)32 * 1024) /* larger values are copied without the interpreter's lock */
#define ROOM ((size_t)4 * 1024)
#define CHUNK 64
#define CHUNK_ROOM ((size_t)64 * 1024)

typedef struct {
  PyObject_HEAD memstream_t *cache;
} LimitCache;

static PyObject *fail(void) {
  PyErr_SetString(PyExc_RuntimeError, cache_last_error());
  return NULL;
}

static int take_key(PyObject *key, const char **bytes, Py_ssize_t *size) {
  if (PyBytes_CheckExact(key)) {
    *bytes = PyBytes_AS_STRING(key);
    *size = PyBytes_GET_SIZE(key);
    return 1;
  }
  if (PyUnicode_CheckExact(key)) return (*bytes = PyUnicode_AsUTF8AndSize(key, size)) != NULL;
  PyErr_SetString(PyExc_TypeError, "a key is bytes or str");
  return 0;
}

/* A value that is larger than the room, straight into its object. `size` is what the library said. */
static PyObject *get_large(LimitCache *self, const char *key, Py_ssize_t key_size, size_t size) {
  for (;;) {
    memstream_meta_t meta;
    PyObject *value = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (value == NULL) return NULL;
    const size_t room = size;
    int status;
    if (room <= LOCKED_COPY) {
      status = memstream_get(self->cache, key, (size_t)key_size, PyBytes_AS_STRING(value), &size, &meta);
    } else {
      Py_BEGIN_ALLOW_THREADS status =
          memstream_get(self->cache, key, (size_t)key_size, PyBytes_AS_STRING(value), &size, &meta);
      Py_END_ALLOW_THREADS
    }
    if (status == CACHE_OK) {
      if (size != room) _PyBytes_Resize(&value, (Py_ssize_t)size);
      return value;
    }
    Py_DECREF(value);
    if (status == CACHE_MISS) Py_RETURN_NONE;
    if (status != CACHE_TOO_SMALL) return fail();
  }
}

static PyObject *limit_get(PyObject *object, PyObject *const *arguments, Py_ssize_t count) {
  LimitCache *self = (LimitCache *)object;
  char room[ROOM];
  memstream_meta_t meta;
  size_t size = sizeof room;
  const char *key;
  Py_ssize_t key_size;
  if (count < 1 || count > 2) {
    PyErr_SetString(PyExc_TypeError, "get(key, default=None)");
    return NULL;
  }
  if (!take_key(arguments[0], &key, &key_size)) return NULL;
  const int status = memstream_get(self->cache, key, (size_t)key_size, room, &size, &meta);
  if (status == CACHE_OK) return PyBytes_FromStringAndSize(room, (Py_ssize_t)size);
  if (status == CACHE_TOO_SMALL) return get_large(self, key, key_size, size);
  if (status != CACHE_MISS) return fail();
  PyObject *absent = count == 2 ? arguments[1] : Py_None;
  Py_INCREF(absent);
  return absent;
}

static PyObject *limit_set(PyObject *object, PyObject *const *arguments, Py_ssize_t count) {
  LimitCache *self = (LimitCache *)object;
  const char *key;
  Py_ssize_t key_size;
  int status;
  if (count != 2 || !PyBytes_CheckExact(arguments[1])) {
    PyErr_SetString(PyExc_TypeError, "set(key, bytes)");
    return NULL;
  }
  if (!take_key(arguments[0], &key, &key_size)) return NULL;
  const char *value = PyBytes_AS_STRING(arguments[1]);
  const size_t size = (size_t)PyBytes_GET_SIZE(arguments[1]);
  if (size <= LOCKED_COPY) {
    status = memstream_set(self->cache, key, (size_t)key_size, value, size, 0, 0);
  } else {
    Py_BEGIN_ALLOW_THREADS status = memstream_set(self->cache, key, (size_t)key_size, value, size, 0, 0);
    Py_END_ALLOW_THREADS
  }
  if (status != CACHE_OK) return fail();
  Py_RETURN_NONE;
}

/* Adds the values of some of the keys of a list or tuple to the dict. */
static int get_some(LimitCache *self, PyObject *const *keys, size_t count, PyObject *found) {
  memstream_item_t items[CHUNK];
  _Alignas(16) char room[CHUNK_ROOM];
  size_t room_size = sizeof room;
  for (size_t i = 0; i < count; ++i) {
    const char *key;
    Py_ssize_t key_size;
    if (!take_key(keys[i], &key, &key_size)) return 0;
    items[i].key = key;
    items[i].key_size = (size_t)key_size;
  }
  const int status = memstream_get_many(self->cache, items, count, room, &room_size);
  if (status != CACHE_OK && status != CACHE_TOO_SMALL) return fail() != NULL;
  for (size_t i = 0; i < count; ++i) {
    PyObject *value = NULL;
    if (items[i].status == CACHE_MISS) continue;
    if (items[i].status == CACHE_OK) {
      value = PyBytes_FromStringAndSize(items[i].value, (Py_ssize_t)items[i].value_size);
    } else {
      value = get_large(self, items[i].key, (Py_ssize_t)items[i].key_size, items[i].value_size);
    }
    if (value == NULL) return 0;
    const int failed = value != Py_None && PyDict_SetItem(found, keys[i], value) != 0;
    Py_DECREF(value);
    if (failed) return 0;
  }
  return 1;
}

static PyObject *limit_get_many(PyObject *object, PyObject *argument) {
  PyObject *keys = PySequence_Fast(argument, "get_many(keys)");
  if (keys == NULL) return NULL;
  PyObject *found = PyDict_New();
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(keys);
  for (Py_ssize_t begin = 0; found != NULL && begin < count; begin += CHUNK) {
    const size_t chunk = (size_t)(count - begin < CHUNK ? count - begin : CHUNK);
    if (!get_some((LimitCache *)object, PySequence_Fast_ITEMS(keys) + begin, chunk, found)) Py_CLEAR(found);
  }
  Py_DECREF(keys);
  return found;
}

static PyObject *limit_new(PyTypeObject *type, PyObject *arguments, PyObject *names) {
  (void)names;
  PyObject *address;
  if (!PyArg_ParseTuple(arguments, "O", &address)) return NULL;
  memstream_t *cache = PyLong_AsVoidPtr(address);
  if (cache == NULL) {
    if (PyErr_Occurred() == NULL) PyErr_SetString(PyExc_ValueError, "the address of an open cache is wanted");
    return NULL;
  }
  LimitCache *self = (LimitCache *)type->tp_alloc(type, 0);
  if (self != NULL) self->cache = cache;
  return (PyObject *)self;
}

/* The detour keeps the compiler from warning of a function type that the flags beside it make right. */
static PyMethodDef methods[] = {
    {"get", (PyCFunction)(void (*)(void))limit_get, METH_FASTCALL, NULL},
    {"set", (PyCFunction)(void (*)(void))limit_set, METH_FASTCALL, NULL},
    {"get_many", limit_get_many, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject cache_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "memstream_limit.Cache",
    .tp_basicsize = sizeof(LimitCache),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_methods = methods,
    .tp_new = limit_new,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "memstream_limit", .m_size = -1};

PyMODINIT_FUNC PyInit_memstream_limit(void);
PyMODINIT_FUNC PyInit_memstream_limit(void) {
  if (PyType_Ready(&cache_type) < 0) return NULL;
  PyObject *made = PyModule_Create(&module);
  if (made != NULL && PyModule_AddType(made, &cache_type) < 0) Py_CLEAR(made);
  return made;
}
