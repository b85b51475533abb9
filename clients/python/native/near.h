/*
 * Reading copies of what a Redis has.
 */
#ifndef MEMSTREAM_CLIENTS_PYTHON_NATIVE_NEAR_H
#define MEMSTREAM_CLIENTS_PYTHON_NATIVE_NEAR_H

#include "clients/python/native/support.h"

/* NearCache.get(): answers what is in the segment, and leaves everything else to the Python function. */
PyObject *native_near_get(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                          PyObject *keyword_names);

#endif
