/*
 * Methods that stand in a class in the place of Python functions.
 *
 * To the interpreter such a method is what a Python function is in a class: `cache.get(key)` calls it without making an
 * object in between, and `cache.get` alone is an ordinary bound method, which can be compared, pickled and patched. The
 * Python function answers what is asked of the method itself: its name, signature, documentation, code.
 */
#include "clients/python/native/methods.h"

#include "clients/python/native/accelerator.h"

typedef struct method {
  PyObject object;
  vectorcallfunc call;
  PyObject *function;
  native_function_t native;
  uint32_t bit;
  PyObject *weak_references;
} method_t;

static PyTypeObject *method_type;

/* ---- the method ---- */

static PyObject *method_call(PyObject *self, PyObject *const *arguments, size_t flagged_count,
                             PyObject *keyword_names) {
  const method_t *method = (const method_t *)self;
  const Py_ssize_t count = (Py_ssize_t)(flagged_count & ~PY_VECTORCALL_ARGUMENTS_OFFSET);
  accelerator_t *accelerator = count == 0 ? NULL : find_accelerator(arguments[0]);
  if (accelerator == NULL || (accelerator->left & method->bit) != 0) {
    return call_function(method->function, NULL, arguments, count, keyword_names);
  }
  const method_call_t call = {accelerator, arguments[0], method->function};
  return method->native(&call, arguments + 1, count - 1, keyword_names);
}

static PyObject *method_bind(PyObject *self, PyObject *object, PyObject *type) {
  (void)type;
  if (object == NULL || object == &_Py_NoneStruct) return new_reference(self);
  return PyMethod_New(self, object);
}

/* Pickled and copied by its name, as functions are. */
static PyObject *method_reduce(PyObject *self, PyObject *protocol) {
  (void)protocol;
  return PyObject_GetAttrString(((method_t *)self)->function, "__qualname__");
}

static PyObject *method_attribute(PyObject *self, PyObject *name) {
  if (PyUnicode_CompareWithASCIIString(name, "__reduce_ex__") == 0) return PyObject_GenericGetAttr(self, name);
  return PyObject_GetAttr(((method_t *)self)->function, name);
}

static int method_set_attribute(PyObject *self, PyObject *name, PyObject *value) {
  return PyObject_SetAttr(((method_t *)self)->function, name, value);
}

static PyObject *method_text(PyObject *self) { return PyObject_Repr(((method_t *)self)->function); }

static void method_end(PyObject *self) {
  method_t *method = (method_t *)self;
  PyTypeObject *type = self->type;
  if (method->weak_references != NULL) PyObject_ClearWeakRefs(self);
  Py_DecRef(method->function);
  PyObject_Free(self);
  Py_DecRef((PyObject *)type);
}

PyObject *make_method(PyObject *function, native_function_t native, uint32_t bit) {
  method_t *method = (method_t *)PyType_GenericAlloc(method_type, 0);
  if (method == NULL) return NULL;
  method->call = method_call;
  method->function = new_reference(function);
  method->native = native;
  method->bit = bit;
  return &method->object;
}

/* ---- the type ---- */

static PyMethodDef method_methods[] = {
    {"__reduce_ex__", method_reduce, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef method_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(method_t, call), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(method_t, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot method_slots[] = {
    SLOT(Py_tp_new, refuse_new),
    SLOT(Py_tp_dealloc, method_end),
    SLOT(Py_tp_call, PyVectorcall_Call),
    SLOT(Py_tp_descr_get, method_bind),
    SLOT(Py_tp_getattro, method_attribute),
    SLOT(Py_tp_setattro, method_set_attribute),
    SLOT(Py_tp_repr, method_text),
    SLOT_DATA(Py_tp_methods, method_methods),
    SLOT_DATA(Py_tp_members, method_members),
    SLOT_DATA(Py_tp_doc, "A Python function whose common calls native code serves."),
    SLOT_DATA(0, NULL),
};

/* Immutable: otherwise the interpreter does not remember where it has found a method. */
static PyType_Spec method_spec = {
    "memstream.accelerator.Method", sizeof(method_t), 0,
    Py_TPFLAGS_HAVE_VERSION_TAG | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    method_slots};

int make_method_type(void) {
  if (method_type == NULL) method_type = (PyTypeObject *)PyType_FromSpec(&method_spec);
  return method_type == NULL ? -1 : 0;
}
