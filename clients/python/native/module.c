/*
 * What the package calls through ctypes: memstream/_core/native.py declares it once more.
 */
#include "clients/python/native/accelerator.h"
#include "clients/python/native/batches.h"
#include "clients/python/native/entries.h"
#include "clients/python/native/methods.h"
#include "clients/python/native/near.h"
#include "clients/python/native/views.h"

#define ACCELERATOR_EXPORT __attribute__((visibility("default")))

typedef struct named_function {
  const char *name;
  native_function_t function;
} named_function_t;

static const named_function_t functions[] = {
    {"get", native_get},           {"set", native_set},
    {"delete", native_delete},     {"exists", native_exists},
    {"touch", native_touch},       {"incr", native_incr},
    {"view", native_view},         {"get_many", native_get_many},
    {"set_many", native_set_many}, {"delete_many", native_delete_many},
    {"near_get", native_near_get},
};

/* The index of a method that the package names; -1 with an exception. */
static int function_of(PyObject *name) {
  for (int i = 0; i < (int)(sizeof functions / sizeof functions[0]); ++i) {
    if (PyUnicode_CompareWithASCIIString(name, functions[i].name) == 0) return i;
  }
  PyErr_SetString(PyExc_TypeError, "no native function stands for this method");
  return -1;
}

/* The version of the project that this library is from. */
ACCELERATOR_EXPORT const char *memstream_python_version(void) { return MEMSTREAM_VERSION; }

/*
 * Whether the running interpreter is what this library takes it for: objects begin with a count and a type, and it is
 * the process's main interpreter. Called before anything else, with a bytes object.
 */
ACCELERATOR_EXPORT int memstream_python_fits(PyObject *bytes) {
  return bytes->type == &PyBytes_Type && PyInterpreterState_GetID(PyInterpreterState_Get()) == 0;
}

/* The type of the views, a new reference; NULL with an exception. To be called next. */
ACCELERATOR_EXPORT PyObject *memstream_python_prepare(void) {
  PyObject *type = make_accelerator_type() == 0 && make_method_type() == 0 ? make_view_type() : NULL;
  return type == NULL ? NULL : new_reference(type);
}

/* To be called in a forked child, before anything else there uses views. */
ACCELERATOR_EXPORT void memstream_python_after_fork(void) { leave_parent_views(); }

/* What takes the place of a Python function in its class: see make_method(). */
ACCELERATOR_EXPORT PyObject *memstream_python_method(PyObject *function, PyObject *name) {
  const int index = function_of(name);
  return index < 0 ? NULL : make_method(function, functions[index].function, (uint32_t)1 << index);
}

/* What an open Cache, the `owner`, keeps: see make_accelerator(). */
ACCELERATOR_EXPORT PyObject *memstream_python_open(const memstream_python_calls_t *calls, memstream_t *cache,
                                                   PyObject *handle, PyObject *owner) {
  return make_accelerator(calls, cache, handle, owner);
}

/* What an open NearCache, the `owner`, keeps: see make_near_accelerator(). */
ACCELERATOR_EXPORT PyObject *memstream_python_near_open(near_peek_t peek, void *near, PyObject *handle,
                                                        PyObject *owner) {
  return make_near_accelerator(peek, near, handle, owner);
}

/* Says that the values of a cache are objects, which the method _unpack of its owner makes of bytes. */
ACCELERATOR_EXPORT void memstream_python_objects(PyObject *self) { ((accelerator_t *)self)->has_objects = 1; }

/* Leaves every call of a Cache to the Python functions. */
ACCELERATOR_EXPORT void memstream_python_forget(PyObject *owner) { forget_accelerator(owner); }

/* Leaves a method to its Python function, for one cache. None, or NULL with an exception. */
ACCELERATOR_EXPORT PyObject *memstream_python_leave(PyObject *self, PyObject *name) {
  const int index = function_of(name);
  if (index < 0) return NULL;
  ((accelerator_t *)self)->left |= (uint32_t)1 << index;
  return new_reference(&_Py_NoneStruct);
}

/* Ends the native calls of a cache: see close_accelerator(). */
ACCELERATOR_EXPORT void memstream_python_close(PyObject *self) { close_accelerator((accelerator_t *)self); }
