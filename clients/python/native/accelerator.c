/*
 * What an open Cache has here, and how a call finds it.
 */
#include "clients/python/native/accelerator.h"

#include <stdlib.h>

#include "clients/python/native/views.h"

static PyTypeObject *accelerator_type;

/* ---- finding the accelerator of a Cache ---- */

accelerator_t *accelerators[ACCELERATOR_BUCKETS];

static void leave_bucket(accelerator_t *accelerator) {
  accelerator_t **place = bucket_of(accelerator->owner);
  while (*place != accelerator) place = &(*place)->next;
  *place = accelerator->next;
  accelerator->owner = NULL;
}

void forget_accelerator(const PyObject *owner) {
  accelerator_t *accelerator = find_accelerator(owner);
  if (accelerator != NULL) leave_bucket(accelerator);
}

static void enter_accelerator(accelerator_t *accelerator, PyObject *owner) {
  forget_accelerator(owner);
  accelerator_t **bucket = bucket_of(owner);
  accelerator->owner = owner;
  accelerator->next = *bucket;
  *bucket = accelerator;
}

/* ---- its life ---- */

static void accelerator_end(PyObject *self) {
  accelerator_t *accelerator = (accelerator_t *)self;
  PyTypeObject *type = self->type;
  if (accelerator->owner != NULL) leave_bucket(accelerator);
  if (accelerator->views != NULL) drop_view_source(accelerator->views);
  if (accelerator->handle != NULL) Py_DecRef(accelerator->handle);
  free(accelerator->batch_buffer);
  PyObject_Free(self);
  Py_DecRef((PyObject *)type);
}

static PyType_Slot accelerator_slots[] = {
    SLOT(Py_tp_new, refuse_new),
    SLOT(Py_tp_dealloc, accelerator_end),
    SLOT_DATA(Py_tp_doc, "What an open Cache needs for its native calls."),
    SLOT_DATA(0, NULL),
};

static PyType_Spec accelerator_spec = {"memstream.accelerator.Accelerator", sizeof(accelerator_t), 0,
                                       Py_TPFLAGS_HAVE_VERSION_TAG, accelerator_slots};

PyObject *make_accelerator(const memstream_python_calls_t *calls, memstream_t *cache, PyObject *handle,
                           PyObject *owner) {
  accelerator_t *accelerator = (accelerator_t *)PyType_GenericAlloc(accelerator_type, 0);
  if (accelerator == NULL) return NULL;
  accelerator->calls = *calls;
  accelerator->views = make_view_source(calls, cache, handle);
  if (accelerator->views == NULL) {
    Py_DecRef(&accelerator->object);
    return PyErr_NoMemory();
  }
  accelerator->cache = cache;
  accelerator->handle = new_reference(handle);
  enter_accelerator(accelerator, owner);
  return &accelerator->object;
}

PyObject *make_near_accelerator(near_peek_t peek, void *near, PyObject *handle, PyObject *owner) {
  accelerator_t *accelerator = (accelerator_t *)PyType_GenericAlloc(accelerator_type, 0);
  if (accelerator == NULL) return NULL;
  accelerator->peek = peek;
  accelerator->near = near;
  accelerator->handle = new_reference(handle);
  enter_accelerator(accelerator, owner);
  return &accelerator->object;
}

void close_accelerator(accelerator_t *accelerator) {
  PyObject *handle = accelerator->handle;
  view_source_t *views = accelerator->views;
  accelerator->cache = NULL;
  accelerator->near = NULL;
  accelerator->handle = NULL;
  accelerator->views = NULL;
  /* Last of all: the end of the handle runs code. */
  if (views != NULL) drop_view_source(views);
  if (handle != NULL) Py_DecRef(handle);
}

int make_accelerator_type(void) {
  if (accelerator_type == NULL) accelerator_type = (PyTypeObject *)PyType_FromSpec(&accelerator_spec);
  return accelerator_type == NULL ? -1 : 0;
}
