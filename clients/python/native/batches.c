/*
 * The functions for many keys: one call into the library each, or one for each chunk. A key or a value that is not
 * common makes the whole call that of the Python function; where it writes, before anything was done.
 */
#include "clients/python/native/batches.h"

#include <stdlib.h>

#include "clients/python/native/entries.h"

#define LOCKED_KEYS 64 /* With more of them, or more bytes than LOCKED_COPY, a write lets the interpreter's lock go. */

static memstream_item_t *make_items(size_t count) { return calloc(count == 0 ? 1 : count, sizeof(memstream_item_t)); }

/* The keys of a part of a list, which must stay as it is for as long as the items are used. 0 if one of them is not
 * common. */
static int take_keys(PyObject *keys, size_t first, memstream_item_t *items, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (!parse_key(PyList_GetItem(keys, (Py_ssize_t)(first + i)), &items[i].key, &items[i].key_size)) return 0;
  }
  return 1;
}

/* The result of a call whose keys make no list: what an iterator raised, or what the method in Python says of no
 * iterable. */
static PyObject *without_list(const method_call_t *call, PyObject *const *keys) {
  PyObject *type;
  PyObject *value;
  PyObject *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyObject *iterator = PyObject_GetIter(*keys);
  if (iterator != NULL) {
    Py_DecRef(iterator);
    PyErr_Restore(type, value, traceback);
    return NULL;
  }
  PyErr_Clear();
  Py_DecRef(type);
  if (value != NULL) Py_DecRef(value);
  if (traceback != NULL) Py_DecRef(traceback);
  return call_python(call, keys, 1, NULL);
}

/* ---- reading ---- */

/*
 * Keys are read in chunks, into one buffer that stays in the processor's caches: the values are small for most, and go
 * from there into their objects. What does not fit into the buffer is got by itself, straight into its object.
 */
#define CHUNK ((size_t)64)
#define FIRST_CHUNK ((size_t)16) /* shows how large the values are */
#define CHUNK_BUFFER ((size_t)64 * 1024)
/* So many keys are read between two times that other threads get the interpreter's lock. To let it go for each chunk
 * would cost a batch the interpreter's switch interval each time, as soon as another thread has something to do. */
#define LOCKED_READS ((size_t)1024)

typedef struct batch_buffer {
  memstream_item_t items[CHUNK];
  _Alignas(16) char bytes[CHUNK_BUFFER];
} batch_buffer_t;

/* Adds what was found to the dict; 0 with an exception. `*foreign` is set if something needs the Python function. */
static int collect(const method_call_t *call, PyObject *keys, size_t first, const memstream_item_t *items, size_t count,
                   PyObject *found, int *foreign) {
  accelerator_t *accelerator = call->accelerator;
  for (size_t i = 0; i < count; ++i) {
    const memstream_item_t *item = &items[i];
    PyObject *value = NULL;
    uint32_t flags = item->flags;
    int status = item->status;
    if (status == CACHE_MISS) continue;
    if (status == CACHE_OK) {
      value = PyBytes_FromStringAndSize(item->value, (Py_ssize_t)item->value_size);
    } else {
      /* Too large for the buffer. Another thread may have closed the cache while the last one was copied. */
      if (accelerator->cache == NULL) return raise_status(call, CACHE_NOT_CONNECTED) != NULL;
      status = read_sized_value(accelerator, item->key, item->key_size, item->value_size, &value, &flags);
      if (status == CACHE_MISS) continue;
      if (status != CACHE_OK) return raise_status(call, status) != NULL;
    }
    if (value == NULL) return 0;
    *foreign |= flags >= FIRST_RESERVED_FLAGS && flags <= LAST_RESERVED_FLAGS;
    const int failed = PyDict_SetItem(found, PyList_GetItem(keys, (Py_ssize_t)(first + i)), value);
    Py_DecRef(value);
    if (failed != 0) return 0;
  }
  return 1;
}

/* How many values of a chunk's mean size the buffer has space for. */
static size_t next_chunk(size_t needed, size_t count) {
  const size_t mean = needed / count + 1;
  const size_t fitting = CHUNK_BUFFER / mean;
  if (fitting > CHUNK) return CHUNK;
  return fitting < FIRST_CHUNK ? FIRST_CHUNK : fitting;
}

/* Reads the keys into the dict, until something is foreign. 0 with an exception; with `*foreign` set there may be
 * none, and the Python function has to do it all. */
static int get_chunks(const method_call_t *call, PyObject *keys, size_t count, batch_buffer_t *buffer, PyObject *found,
                      int *foreign) {
  accelerator_t *accelerator = call->accelerator;
  size_t chunk = FIRST_CHUNK;
  size_t next_pause = LOCKED_READS;
  for (size_t first = 0; first < count && !*foreign;) {
    if (chunk > count - first) chunk = count - first;
    if (accelerator->cache == NULL || !take_keys(keys, first, buffer->items, chunk)) {
      *foreign = 1;
      return 1;
    }
    memstream_t *cache = accelerator->cache;
    size_t needed = sizeof buffer->bytes;
    int status;
    if (first < next_pause) {
      status = accelerator->calls.get_many(cache, buffer->items, chunk, buffer->bytes, &needed);
    } else {
      next_pause = first + LOCKED_READS;
      const pause_t pause = unlock_interpreter(accelerator);
      status = accelerator->calls.get_many(cache, buffer->items, chunk, buffer->bytes, &needed);
      lock_interpreter(pause);
    }
    if (status != CACHE_OK && status != CACHE_TOO_SMALL) return raise_status(call, status) != NULL;
    if (!collect(call, keys, first, buffer->items, chunk, found, foreign)) return 0;
    first += chunk;
    chunk = next_chunk(needed, chunk);
  }
  return 1;
}

PyObject *native_get_many(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                          PyObject *keyword_names) {
  accelerator_t *accelerator = call->accelerator;
  if (keyword_names != NULL || count != 1) return call_python(call, arguments, count, keyword_names);
  /* A list of our own: nobody changes it, and an iterator is walked over once only. */
  PyObject *keys = PySequence_List(arguments[0]);
  if (keys == NULL) return without_list(call, arguments);
  /* Another call, in another thread or in a finalizer, makes a buffer of its own meanwhile. */
  batch_buffer_t *buffer = accelerator->batch_buffer != NULL ? accelerator->batch_buffer : malloc(sizeof *buffer);
  accelerator->batch_buffer = NULL;
  PyObject *result = buffer == NULL ? PyErr_NoMemory() : PyDict_New();
  int foreign = 0;
  if (result != NULL && !get_chunks(call, keys, (size_t)PyList_Size(keys), buffer, result, &foreign)) {
    Py_DecRef(result);
    result = NULL;
  }
  if (accelerator->batch_buffer == NULL) {
    accelerator->batch_buffer = buffer;
  } else {
    free(buffer);
  }
  if (foreign && result != NULL) {
    Py_DecRef(result);
    result = call_python(call, &keys, 1, NULL);
  }
  Py_DecRef(keys);
  return result;
}

/* ---- writing ---- */

static int call_unlocked(accelerator_t *accelerator, int (*function)(memstream_t *, memstream_item_t *, size_t),
                         memstream_item_t *items, size_t count, size_t bytes) {
  memstream_t *cache = accelerator->cache;
  if (count <= LOCKED_KEYS && bytes <= LOCKED_COPY) return function(cache, items, count);
  const pause_t pause = unlock_interpreter(accelerator);
  const int status = function(cache, items, count);
  lock_interpreter(pause);
  return status;
}

/* The (key, value) pairs of a list; 0 if one of them is not common. */
static int take_pairs(PyObject *pairs, memstream_item_t *items, size_t count, uint64_t ttl_ms, size_t *bytes) {
  for (size_t i = 0; i < count; ++i) {
    PyObject *pair = PyList_GetItem(pairs, (Py_ssize_t)i);
    PyObject *value = PyTuple_GetItem(pair, 1);
    if (value->type != &PyBytes_Type) return 0;
    if (!parse_key(PyTuple_GetItem(pair, 0), &items[i].key, &items[i].key_size)) return 0;
    items[i].value = PyBytes_AsString(value);
    items[i].value_size = (size_t)PyBytes_Size(value);
    items[i].ttl_ms = ttl_ms;
    *bytes += items[i].value_size;
  }
  return 1;
}

/* set_many(mapping, ttl=None): of a dict; other mappings, flags and names of arguments are the Python function's. */
PyObject *native_set_many(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                          PyObject *keyword_names) {
  accelerator_t *accelerator = call->accelerator;
  uint64_t ttl_ms = 0;
  if (keyword_names != NULL || count < 1 || count > 2 || arguments[0]->type != &PyDict_Type ||
      accelerator->cache == NULL || (count == 2 && !parse_ttl(arguments[1], &ttl_ms))) {
    return call_python(call, arguments, count, keyword_names);
  }
  PyObject *pairs = PyDict_Items(arguments[0]);
  if (pairs == NULL) return NULL;
  const size_t size = (size_t)PyList_Size(pairs);
  memstream_item_t *items = make_items(size);
  PyObject *result = NULL;
  size_t bytes = 0;
  if (items == NULL) {
    (void)PyErr_NoMemory();
  } else if (take_pairs(pairs, items, size, ttl_ms, &bytes)) {
    const int status = call_unlocked(accelerator, accelerator->calls.set_many, items, size, bytes);
    result = status == CACHE_OK ? new_reference(&_Py_NoneStruct) : raise_status(call, status);
  } else {
    result = call_python(call, arguments, count, NULL);
  }
  free(items);
  Py_DecRef(pairs);
  return result;
}

PyObject *native_delete_many(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                             PyObject *keyword_names) {
  accelerator_t *accelerator = call->accelerator;
  if (keyword_names != NULL || count != 1) return call_python(call, arguments, count, keyword_names);
  PyObject *keys = PySequence_List(arguments[0]);
  if (keys == NULL) return without_list(call, arguments);
  const size_t size = (size_t)PyList_Size(keys);
  memstream_item_t *items = make_items(size);
  PyObject *result = NULL;
  if (items == NULL) {
    (void)PyErr_NoMemory();
  } else if (accelerator->cache == NULL || !take_keys(keys, 0, items, size)) {
    result = call_python(call, &keys, 1, NULL);
  } else {
    const int status = call_unlocked(accelerator, accelerator->calls.delete_many, items, size, 0);
    if (status == CACHE_OK) {
      Py_ssize_t removed = 0;
      for (size_t i = 0; i < size; ++i) removed += items[i].status == CACHE_OK;
      result = PyLong_FromSsize_t(removed);
    } else {
      result = raise_status(call, status);
    }
  }
  free(items);
  Py_DecRef(keys);
  return result;
}
