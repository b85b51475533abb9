/*
 * The part of CPython's C interface that the fast road uses, declared here so that building it needs no Python headers.
 * All of it is in the stable ABI, or has been exported with the same meaning by every CPython from 3.9 on (noted where
 * that is so). The symbols are those of the interpreter that loads the library; nothing is linked.
 *
 * What a stable ABI does not promise, the place of the type in an object, is looked at before it is used:
 * memstream_python_fits() in fast_road.c.
 */
#ifndef MEMSTREAM_CLIENTS_PYTHON_NATIVE_PYTHON_ABI_H
#define MEMSTREAM_CLIENTS_PYTHON_NATIVE_PYTHON_ABI_H

#include <stddef.h>
#include <stdint.h>

typedef ptrdiff_t Py_ssize_t;
typedef struct python_type PyTypeObject;
typedef struct python_thread_state PyThreadState;

typedef struct python_object {
  Py_ssize_t reference_count; /* never touched here: Py_IncRef and Py_DecRef know what is in it */
  PyTypeObject *type;
} PyObject;

typedef PyObject *(*PyCFunction)(PyObject *self, PyObject *argument);
typedef PyObject *(*PyCFunctionFastWithKeywords)(PyObject *self, PyObject *const *arguments, Py_ssize_t count,
                                                 PyObject *keyword_names);
typedef struct PyMethodDef {
  const char *name;
  PyCFunction function;
  int flags;
  const char *documentation;
} PyMethodDef;

/* The calling convention of METH_FASTCALL | METH_KEYWORDS is the same since 3.7, and in the stable ABI since 3.10. */
enum { METH_KEYWORDS = 0x0002, METH_NOARGS = 0x0004, METH_FASTCALL = 0x0080 };

/* In the stable ABI since 3.11, and laid out like this since 3.3. */
typedef struct Py_buffer {
  void *buf;
  PyObject *obj;
  Py_ssize_t len;
  Py_ssize_t itemsize;
  int readonly;
  int ndim;
  char *format;
  Py_ssize_t *shape;
  Py_ssize_t *strides;
  Py_ssize_t *suboffsets;
  void *internal;
} Py_buffer;
enum { PyBUF_SIMPLE = 0 };

extern PyTypeObject PyBytes_Type, PyUnicode_Type, PyLong_Type, PyFloat_Type, PyDict_Type;
extern PyObject _Py_NoneStruct, _Py_TrueStruct, _Py_FalseStruct;

void Py_IncRef(PyObject *object);
void Py_DecRef(PyObject *object);

PyObject *PyBytes_FromStringAndSize(const char *bytes, Py_ssize_t size);
char *PyBytes_AsString(PyObject *bytes);
Py_ssize_t PyBytes_Size(PyObject *bytes);
int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size);
const char *PyUnicode_AsUTF8AndSize(PyObject *text, Py_ssize_t *size); /* stable since 3.10, the same since 3.3 */
int PyUnicode_CompareWithASCIIString(PyObject *text, const char *ascii);
PyObject *PyLong_FromLongLong(long long number);
PyObject *PyLong_FromSsize_t(Py_ssize_t number);
long long PyLong_AsLongLong(PyObject *number);
double PyFloat_AsDouble(PyObject *number);

PyObject *PySequence_List(PyObject *iterable);
Py_ssize_t PyList_Size(PyObject *list);
PyObject *PyList_GetItem(PyObject *list, Py_ssize_t index);   /* borrowed */
PyObject *PyTuple_GetItem(PyObject *tuple, Py_ssize_t index); /* borrowed */
Py_ssize_t PyTuple_Size(PyObject *tuple);
PyObject *PyTuple_New(Py_ssize_t size);
int PyTuple_SetItem(PyObject *tuple, Py_ssize_t index, PyObject *item); /* takes the reference, also if it fails */
PyObject *PyDict_New(void);
PyObject *PyDict_Items(PyObject *dict);
int PyDict_SetItem(PyObject *dict, PyObject *key, PyObject *value);
int PyDict_SetItemString(PyObject *dict, const char *key, PyObject *value);

int PyObject_GetBuffer(PyObject *exporter, Py_buffer *view, int flags);
void PyBuffer_Release(Py_buffer *view);
PyObject *PyObject_GetAttrString(PyObject *object, const char *name);
int PyObject_SetAttrString(PyObject *object, const char *name, PyObject *value);
PyObject *PyObject_CallMethod(PyObject *object, const char *name, const char *format, ...);
PyObject *PyObject_Call(PyObject *callable, PyObject *arguments, PyObject *keywords);
PyObject *PyCFunction_NewEx(PyMethodDef *method, PyObject *self, PyObject *module);

PyObject *PyCapsule_New(void *pointer, const char *name, void (*destructor)(PyObject *));
void *PyCapsule_GetPointer(PyObject *capsule, const char *name);

PyObject *PyErr_NoMemory(void);
PyObject *PyErr_Occurred(void);
void PyErr_Clear(void);

PyThreadState *PyEval_SaveThread(void);
void PyEval_RestoreThread(PyThreadState *state);

struct python_interpreter;
struct python_interpreter *PyInterpreterState_Get(void); /* since 3.9 */
int64_t PyInterpreterState_GetID(struct python_interpreter *interpreter);

#endif
