/*
 * What an open Cache has here, and how a call finds it.
 */
#ifndef MEMSTREAM_CLIENTS_PYTHON_NATIVE_ACCELERATOR_H
#define MEMSTREAM_CLIENTS_PYTHON_NATIVE_ACCELERATOR_H

#include "clients/python/native/support.h"

/* The object of an open Cache, the `owner`: a new reference; NULL with an exception. It keeps `handle`, which keeps
 * `cache` open, until it is closed. Calls of the owner find it until it ends, or the owner gets another one or none. */
PyObject *make_accelerator(const memstream_python_calls_t *calls, memstream_t *cache, PyObject *handle,
                           PyObject *owner);
void forget_accelerator(const PyObject *owner);

/* The same for an open NearCache. `handle` keeps `near` open. */
PyObject *make_near_accelerator(near_peek_t peek, void *near, PyObject *handle, PyObject *owner);

/* Those that there are, by the address of their Cache: an attribute of the Cache would take longer to find. Inline, for
 * every call begins with it. */
#define ACCELERATOR_BUCKETS 64
extern accelerator_t *accelerators[ACCELERATOR_BUCKETS];

static inline accelerator_t **bucket_of(const PyObject *owner) {
  return &accelerators[(uintptr_t)owner / 16 % ACCELERATOR_BUCKETS];
}

static inline accelerator_t *find_accelerator(const PyObject *owner) {
  accelerator_t *accelerator = *bucket_of(owner);
  while (accelerator != NULL && accelerator->owner != owner) accelerator = accelerator->next;
  return accelerator;
}

/* Leaves every call to the Python functions, which say that the cache was closed. Doing so twice is fine. */
void close_accelerator(accelerator_t *accelerator);

/* Makes the type, before anything else: 0, or -1 with an exception. */
int make_accelerator_type(void);

#endif
