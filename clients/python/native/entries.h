/*
 * The functions for one key.
 */
#ifndef MEMSTREAM_CLIENTS_PYTHON_NATIVE_ENTRIES_H
#define MEMSTREAM_CLIENTS_PYTHON_NATIVE_ENTRIES_H

#include "clients/python/native/support.h"

/*
 * A value of any size as a new bytes object; `*flags` is what was stored with it. It was of `size` bytes a moment ago.
 * Returns the status. A miss is no exception, and any other status than CACHE_OK sets none either. CACHE_OK with NULL:
 * no memory.
 */
int read_sized_value(accelerator_t *accelerator, const void *key, size_t key_size, size_t size, PyObject **value,
                     uint32_t *flags);

PyObject *native_get(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names);
PyObject *native_set(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names);
PyObject *native_delete(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                        PyObject *keyword_names);
PyObject *native_exists(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                        PyObject *keyword_names);
PyObject *native_touch(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                       PyObject *keyword_names);
PyObject *native_incr(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names);

#endif
