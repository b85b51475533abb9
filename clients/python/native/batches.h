/*
 * The functions for many keys.
 */
#ifndef MEMSTREAM_CLIENTS_PYTHON_NATIVE_BATCHES_H
#define MEMSTREAM_CLIENTS_PYTHON_NATIVE_BATCHES_H

#include "clients/python/native/support.h"

PyObject *native_get_many(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                          PyObject *keyword_names);
PyObject *native_set_many(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                          PyObject *keyword_names);
PyObject *native_delete_many(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                             PyObject *keyword_names);

#endif
