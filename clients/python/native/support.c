/*
 * From the arguments of Python to those of C, and back to Python where native code does not serve.
 */
#include "clients/python/native/support.h"

/* ---- the interpreter's lock ---- */

pause_t unlock_interpreter(accelerator_t *accelerator) {
  pause_t pause = {NULL, new_reference(accelerator->handle)};
  pause.state = PyEval_SaveThread();
  return pause;
}

void lock_interpreter(pause_t pause) {
  PyEval_RestoreThread(pause.state);
  Py_DecRef(pause.handle);
}

/* ---- arguments ---- */

int parse_ttl(PyObject *ttl, uint64_t *ttl_ms) {
  *ttl_ms = 0;
  if (ttl == &_Py_NoneStruct) return 1;
  if (ttl->type == &PyLong_Type) {
    const long long seconds = PyLong_AsLongLong(ttl);
    if (seconds == -1) PyErr_Clear();
    if (seconds <= 0 || seconds >= INT64_MAX / 1000) return 0;
    *ttl_ms = (uint64_t)seconds * 1000;
    return 1;
  }
  if (ttl->type != &PyFloat_Type) return 0;
  const double milliseconds = PyFloat_AsDouble(ttl) * 1000;
  if (!(milliseconds > 0 && milliseconds < 9e18)) return 0;
  *ttl_ms = (uint64_t)milliseconds;
  if ((double)*ttl_ms < milliseconds) ++*ttl_ms;
  return 1;
}

int parse_flags(PyObject *flags, uint32_t *word) {
  if (flags->type != &PyLong_Type) return 0;
  const long long number = PyLong_AsLongLong(flags);
  if (number == -1) PyErr_Clear();
  if (number < 0 || number > UINT32_MAX) return 0;
  *word = (uint32_t)number;
  return *word < FIRST_RESERVED_FLAGS || *word > LAST_RESERVED_FLAGS;
}

/* ---- calls of Python ---- */

/* A new tuple of self, if there is one, and the arguments by position; NULL with an exception. */
static PyObject *positional(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
  const Py_ssize_t first = self != NULL;
  PyObject *tuple = PyTuple_New(first + count);
  for (Py_ssize_t i = 0; tuple != NULL && i < first + count; ++i) {
    if (PyTuple_SetItem(tuple, i, new_reference(i < first ? self : arguments[i - first])) == 0) continue;
    Py_DecRef(tuple);
    tuple = NULL;
  }
  return tuple;
}

/* A new dict of the arguments by name; NULL with an exception. */
static PyObject *named(PyObject *const *arguments, PyObject *keyword_names) {
  PyObject *dict = PyDict_New();
  const Py_ssize_t count = keyword_names == NULL ? 0 : PyTuple_Size(keyword_names);
  for (Py_ssize_t i = 0; dict != NULL && i < count; ++i) {
    if (PyDict_SetItem(dict, PyTuple_GetItem(keyword_names, i), arguments[i]) == 0) continue;
    Py_DecRef(dict);
    dict = NULL;
  }
  return dict;
}

#define MOST_DIRECT 5 /* arguments that PyObject_CallFunctionObjArgs passes on without a tuple */

PyObject *call_function(PyObject *function, PyObject *self, PyObject *const *arguments, Py_ssize_t count,
                        PyObject *keyword_names) {
  const Py_ssize_t first = self != NULL;
  if (keyword_names == NULL && first + count <= MOST_DIRECT) {
    PyObject *direct[MOST_DIRECT + 1] = {self}; /* The first NULL ends the list. */
    for (Py_ssize_t i = 0; i < count; ++i) direct[first + i] = arguments[i];
    return PyObject_CallFunctionObjArgs(function, direct[0], direct[1], direct[2], direct[3], direct[4], NULL);
  }
  PyObject *tuple = positional(self, arguments, count);
  PyObject *dict = tuple == NULL ? NULL : named(arguments + count, keyword_names);
  PyObject *result = dict == NULL ? NULL : PyObject_Call(function, tuple, dict);
  if (tuple != NULL) Py_DecRef(tuple);
  if (dict != NULL) Py_DecRef(dict);
  return result;
}

PyObject *call_python(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                      PyObject *keyword_names) {
  return call_function(call->function, call->self, arguments, count, keyword_names);
}

PyObject *raise_status(const method_call_t *call, int status) {
  PyObject *result = PyObject_CallMethod(call->self, "_fail", "i", status);
  if (result != NULL) Py_DecRef(result); /* It always raises. */
  return NULL;
}

PyObject *refuse_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
  (void)type;
  (void)arguments;
  (void)keywords;
  PyErr_SetString(PyExc_TypeError, "only a Cache makes objects of this type");
  return NULL;
}
