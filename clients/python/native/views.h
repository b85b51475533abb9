/*
 * Values where they stand in the segment.
 */
#ifndef MEMSTREAM_CLIENTS_PYTHON_NATIVE_VIEWS_H
#define MEMSTREAM_CLIENTS_PYTHON_NATIVE_VIEWS_H

#include "clients/python/native/support.h"

/* A source of views for a cache that `handle` keeps open; NULL without memory. The accelerator drops it when it is
 * closed, and what is then left of it goes with the last view. */
view_source_t *make_view_source(const memstream_python_calls_t *calls, memstream_t *cache, PyObject *handle);
void drop_view_source(view_source_t *source);

/* The type of what native_view() gives: borrowed, made by the first call, which has to come before any other use of
 * views. NULL with an exception. */
PyObject *make_view_type(void);

/* In a forked child: the views that are there are the parent's. Their memoryviews are released, lest anybody reads
 * what nothing keeps in place, and the library is not told of their end. */
void leave_parent_views(void);

PyObject *native_view(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names);

#endif
