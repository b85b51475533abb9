/*
 * The part of CPython's C interface that the accelerator uses, declared here so that building it needs no Python
 * headers. All of it is in the stable ABI, or has been exported with the same meaning by every CPython from 3.9 on
 * (noted where that is so). The symbols are those of the interpreter that loads the library; nothing is linked.
 *
 * What a stable ABI does not promise, the place of the type in an object, is looked at before it is used:
 * memstream_python_fits() in module.c.
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
enum { METH_KEYWORDS = 0x0002, METH_NOARGS = 0x0004, METH_O = 0x0008, METH_FASTCALL = 0x0080 };

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

/* What a type is made of. The numbers of the slots never change; those of the buffer are taken from 3.9 on. A function
 * and an address are the same to the interpreter. */
typedef struct PyType_Slot {
  int slot;
  union {
    const void *data;
    void (*function)(void);
  };
} PyType_Slot;
#define SLOT(number, function_) \
  { .slot = (number), .function = (void (*)(void))(function_) }
#define SLOT_DATA(number, data_) \
  { .slot = (number), .data = (data_) }
typedef struct PyType_Spec {
  const char *name;
  int basicsize;
  int itemsize;
  unsigned int flags;
  PyType_Slot *slots;
} PyType_Spec;
typedef struct PyMemberDef {
  const char *name;
  int type;
  Py_ssize_t offset;
  int flags;
  const char *documentation;
} PyMemberDef;
typedef struct PyGetSetDef {
  const char *name;
  PyObject *(*get)(PyObject *self, void *closure);
  int (*set)(PyObject *self, PyObject *value, void *closure);
  const char *documentation;
  void *closure;
} PyGetSetDef;
typedef int (*visitproc)(PyObject *object, void *argument);
enum {
  Py_bf_getbuffer = 1,
  Py_tp_call = 50,
  Py_tp_dealloc = 52,
  Py_tp_descr_get = 54,
  Py_tp_doc = 56,
  Py_tp_getattro = 58,
  Py_tp_methods = 64,
  Py_tp_new = 65,
  Py_tp_repr = 66,
  Py_tp_setattro = 69,
  Py_tp_traverse = 71,
  Py_tp_members = 72,
  Py_tp_getset = 73
};
enum {
  Py_TPFLAGS_IMMUTABLETYPE = 1 << 8,    /* since 3.10, of no effect before */
  Py_TPFLAGS_HAVE_VECTORCALL = 1 << 11, /* public since 3.12, the same since 3.8 */
  Py_TPFLAGS_HAVE_GC = 1 << 14,
  Py_TPFLAGS_METHOD_DESCRIPTOR = 1 << 17, /* since 3.8 */
  Py_TPFLAGS_HAVE_VERSION_TAG = 1 << 18   /* of no effect after 3.9 */
};
/* How a type with the flag above is called: `count` is that of the arguments by position, and may have the top bit set.
 * The type names the place of the function in its objects as the member __vectorcalloffset__. Since 3.9. */
typedef PyObject *(*vectorcallfunc)(PyObject *callable, PyObject *const *arguments, size_t count,
                                    PyObject *keyword_names);
#define PY_VECTORCALL_ARGUMENTS_OFFSET ((size_t)1 << (8 * sizeof(size_t) - 1))
enum { T_PYSSIZET = 19, READONLY = 1 };

extern PyTypeObject PyBytes_Type, PyUnicode_Type, PyLong_Type, PyFloat_Type, PyDict_Type, PyMemoryView_Type;
extern PyObject _Py_NoneStruct, _Py_TrueStruct, _Py_FalseStruct;
extern PyObject *PyExc_BufferError, *PyExc_Exception, *PyExc_TypeError;

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
PyObject *PyLong_FromUnsignedLongLong(unsigned long long number);
PyObject *PyBool_FromLong(long number);
long long PyLong_AsLongLong(PyObject *number);
PyObject *PyFloat_FromDouble(double number);
double PyFloat_AsDouble(PyObject *number);

PyObject *PyObject_GetIter(PyObject *iterable);
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

int PyObject_GetBuffer(PyObject *exporter, Py_buffer *view, int flags);
void PyBuffer_Release(Py_buffer *view);
int PyBuffer_FillInfo(Py_buffer *view, PyObject *exporter, void *bytes, Py_ssize_t size, int readonly,
                      int flags); /* stable since 3.11, the same since 3.0 */
PyObject *PyMemoryView_FromObject(PyObject *exporter);
PyObject *PyMethod_New(PyObject *function, PyObject *self); /* the same since 3.0 */
PyObject *PyVectorcall_Call(PyObject *callable, PyObject *arguments,
                            PyObject *names); /* stable since 3.12, since 3.8 */
PyObject *PyWeakref_NewRef(PyObject *object, PyObject *callback);
void PyObject_ClearWeakRefs(PyObject *object);
PyObject *PyObject_GetAttr(PyObject *object, PyObject *name);
PyObject *PyObject_GetAttrString(PyObject *object, const char *name);
PyObject *PyObject_GenericGetAttr(PyObject *object, PyObject *name);
int PyObject_SetAttr(PyObject *object, PyObject *name, PyObject *value); /* deletes it without a value */
PyObject *PyObject_Repr(PyObject *object);
PyObject *PyObject_CallMethod(PyObject *object, const char *name, const char *format, ...);
PyObject *PyObject_Call(PyObject *callable, PyObject *arguments, PyObject *keywords);
PyObject *PyObject_CallFunctionObjArgs(PyObject *callable, ...); /* up to a NULL */

/* An object of a type that PyType_FromSpec has made refers to it, and drops that reference when it is freed. */
PyObject *PyType_FromSpec(PyType_Spec *spec);
PyObject *PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t items); /* filled with zeros */
void PyObject_Free(void *object);
void PyObject_GC_UnTrack(void *object);
void PyObject_GC_Del(void *object);

PyObject *PyErr_NoMemory(void);
void PyErr_SetString(PyObject *type, const char *text);
int PyErr_ExceptionMatches(PyObject *type);
void PyErr_Fetch(PyObject **type, PyObject **value, PyObject **traceback);
void PyErr_Restore(PyObject *type, PyObject *value, PyObject *traceback);
PyObject *PyErr_Occurred(void);
void PyErr_Clear(void);

PyThreadState *PyEval_SaveThread(void);
void PyEval_RestoreThread(PyThreadState *state);

struct python_interpreter;
struct python_interpreter *PyInterpreterState_Get(void); /* since 3.9 */
int64_t PyInterpreterState_GetID(struct python_interpreter *interpreter);

#endif
