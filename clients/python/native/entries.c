/*
 * The functions for one key. api/memstream.h says what the calls do.
 */
#include "clients/python/native/entries.h"

#define STACK_BUFFER ((size_t)4 * 1024) /* on the stack: values up to this size need one look-up */

/* ---- reading ---- */

/*
 * A value as a new bytes object; `*flags` is what was stored with it. Returns the status, as read_sized_value() does.
 * CACHE_TOO_SMALL: it is a large value of a cache with objects, which the Python function decodes in place.
 */
static int read_value(accelerator_t *accelerator, const void *key, size_t key_size, PyObject **value, uint32_t *flags) {
  char buffer[STACK_BUFFER];
  memstream_meta_t meta;
  size_t size = sizeof buffer;
  const int status = accelerator->calls.get(accelerator->cache, key, key_size, buffer, &size, &meta);
  if (status == CACHE_TOO_SMALL) {
    if (accelerator->has_objects && size > LOCKED_COPY) return status;
    return read_sized_value(accelerator, key, key_size, size, value, flags);
  }
  *value = status == CACHE_OK ? PyBytes_FromStringAndSize(buffer, (Py_ssize_t)size) : NULL;
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
    const size_t capacity = size;
    *value = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)capacity);
    if (*value == NULL) return CACHE_OK;
    char *bytes = PyBytes_AsString(*value);
    if (capacity <= LOCKED_COPY) {
      status = accelerator->calls.get(accelerator->cache, key, key_size, bytes, &size, &meta);
    } else {
      memstream_t *cache = accelerator->cache;
      const pause_t pause = unlock_interpreter(accelerator);
      status = accelerator->calls.get(cache, key, key_size, bytes, &size, &meta);
      lock_interpreter(pause);
    }
    if (status == CACHE_OK) {
      if (size != capacity && _PyBytes_Resize(value, (Py_ssize_t)size) != 0) *value = NULL;
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

PyObject *native_get(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names) {
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
    PyObject *object = NULL;
    if (accelerator->has_objects) {
      object = PyObject_CallMethod(call->self, "_unpack", "OOI", arguments[0], value, (unsigned int)flags);
    } else {
      object = call_python(call, arguments, count, NULL); /* It says what reads this value. */
    }
    Py_DecRef(value);
    return object;
  }
  if (status == CACHE_MISS) return new_reference(count == 2 ? arguments[1] : &_Py_NoneStruct);
  if (status == CACHE_TOO_SMALL) return call_python(call, arguments, count, NULL);
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

PyObject *native_set(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names) {
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
  } else if (accelerator->has_objects) {
    return call_python(call, arguments, count, keyword_names);
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

/* A call that takes a key alone, and says whether it was there. */
static inline PyObject *call_with_key(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                                      PyObject *keyword_names, int (*function)(memstream_t *, const void *, size_t)) {
  const void *key;
  size_t key_size;
  memstream_t *cache = call->accelerator->cache;
  if (keyword_names != NULL || count != 1 || cache == NULL || !parse_key(arguments[0], &key, &key_size)) {
    return call_python(call, arguments, count, keyword_names);
  }
  return found(call, function(cache, key, key_size));
}

PyObject *native_delete(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                        PyObject *keyword_names) {
  return call_with_key(call, arguments, count, keyword_names, call->accelerator->calls.remove);
}

PyObject *native_exists(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                        PyObject *keyword_names) {
  return call_with_key(call, arguments, count, keyword_names, call->accelerator->calls.exists);
}

PyObject *native_touch(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
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
PyObject *native_incr(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
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
