/*
 * Methods that stand in a class in the place of Python functions.
 */
#ifndef MEMSTREAM_CLIENTS_PYTHON_NATIVE_METHODS_H
#define MEMSTREAM_CLIENTS_PYTHON_NATIVE_METHODS_H

#include "clients/python/native/support.h"

/* A function that stands in a class in the place of `function`, and behaves like it, but calls `native` where it can.
 * Its bit in `accelerator_t.left` is `bit`. NULL with an exception. */
PyObject *make_method(PyObject *function, native_function_t native, uint32_t bit);

/* Makes the type, before anything else: 0, or -1 with an exception. */
int make_method_type(void);

#endif
