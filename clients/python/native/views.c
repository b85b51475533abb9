/*
 * Views: values where they stand in the segment. What cache.view() gives here behaves as the View of
 * memstream/_core/views.py does, and is registered as one.
 *
 * A view has two objects. The window exports the bytes: the memoryview keeps it, and so does everything that is made
 * of the memoryview, so that the end of the window is the end of the last use. The view, which the caller gets, keeps
 * the memoryview. View and window know of each other without keeping each other: there is no circle, and what is
 * dropped ends at once. All of this is touched with the interpreter's lock held only.
 */
#include "clients/python/native/views.h"

#include <stdlib.h>

/* So many views find a place in every segment, if other processes hold few. Beyond, the library may have to copy: that
 * is left to the Python function, which lets the interpreter's lock go meanwhile. */
#define MOST_VIEWS 1000

struct view_source {
  size_t users; /* the accelerator, and the windows */
  int (*release)(memstream_t *, memstream_view_t *);
  memstream_t *cache;
  PyObject *handle; /* keeps `cache` open, and with it the memory of the windows */
};

typedef struct window {
  PyObject object;
  view_source_t *source;
  memstream_view_t raw;
  uint64_t forks;    /* those of the process that took it */
  struct view *view; /* NULL: dropped before the memoryview was */
  PyObject *memory;  /* a weak reference to the memoryview, for when `view` is NULL; NULL: nobody has seen it */
  struct window *previous, *next;
} window_t;

typedef struct view {
  PyObject object;
  PyObject *memory;
  window_t *window; /* NULL: it has ended */
  memstream_meta_t meta;
  int in_place;
  int is_memory_known; /* somebody else may refer to `memory` */
  PyObject *attributes;
  PyObject *weak_references;
} view_t;

static PyTypeObject *window_type, *view_type;
static PyObject *release_memory; /* memoryview.release */
static window_t *windows;        /* all there are */
static size_t window_count;
static uint64_t forks; /* how often this process has become a child */

/* ---- the source ---- */

view_source_t *make_view_source(const memstream_python_calls_t *calls, memstream_t *cache, PyObject *handle) {
  view_source_t *source = malloc(sizeof *source);
  if (source != NULL) *source = (view_source_t){1, calls->release, cache, new_reference(handle)};
  return source;
}

void drop_view_source(view_source_t *source) {
  if (--source->users > 0) return;
  PyObject *handle = source->handle;
  free(source);
  Py_DecRef(handle);
}

/* Gives the block back. It waits for nobody; a failure means that it is gone already. */
static void end_view(view_source_t *source, const memstream_view_t *raw) {
  memstream_view_t held = *raw;
  source->release(source->cache, &held);
}

/* ---- the window ---- */

static int window_export(PyObject *self, Py_buffer *buffer, int flags) {
  window_t *window = (window_t *)self;
  return PyBuffer_FillInfo(buffer, self, (void *)(uintptr_t)window->raw.data, (Py_ssize_t)window->raw.size, 1, flags);
}

static int is_of_parent(const window_t *window) { return window->forks != forks; }

static void window_end(PyObject *self) {
  window_t *window = (window_t *)self;
  view_source_t *source = window->source;
  PyTypeObject *type = self->type;
  if (window->previous != NULL) window->previous->next = window->next;
  if (window->next != NULL) window->next->previous = window->previous;
  if (windows == window) windows = window->next;
  --window_count;
  if (window->view != NULL) window->view->window = NULL;
  if (window->memory != NULL) Py_DecRef(window->memory);
  if (!is_of_parent(window)) end_view(source, &window->raw);
  PyObject_Free(window);
  Py_DecRef((PyObject *)type);
  drop_view_source(source);
}

/* A memoryview of what the library gave; NULL with an exception, and then it was given back. */
static PyObject *open_window(view_source_t *source, const memstream_view_t *raw, window_t **opened) {
  window_t *window = (window_t *)PyType_GenericAlloc(window_type, 0);
  if (window == NULL) {
    end_view(source, raw);
    return NULL;
  }
  ++source->users;
  window->source = source;
  window->raw = *raw;
  window->forks = forks;
  window->next = windows;
  if (windows != NULL) windows->previous = window;
  windows = window;
  ++window_count;
  *opened = window;
  PyObject *memory = PyMemoryView_FromObject(&window->object);
  Py_DecRef(&window->object);
  return memory;
}

/* ---- the view ---- */

PyObject *native_view(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                      PyObject *keyword_names) {
  accelerator_t *accelerator = call->accelerator;
  const void *key;
  size_t key_size;
  memstream_view_t raw;
  window_t *window;
  if (keyword_names != NULL || count != 1 || accelerator->cache == NULL || window_count >= MOST_VIEWS ||
      !parse_key(arguments[0], &key, &key_size)) {
    return call_python(call, arguments, count, keyword_names);
  }
  const int status = accelerator->calls.view(accelerator->cache, key, key_size, &raw);
  /* The Python function raises CacheMiss with the key. Should the key have come meanwhile, there is a view of it. */
  if (status == CACHE_MISS) return call_python(call, arguments, count, NULL);
  if (status != CACHE_OK) return raise_status(call, status);
  PyObject *memory = open_window(accelerator->views, &raw, &window);
  if (memory == NULL) return NULL;
  view_t *view = (view_t *)PyType_GenericAlloc(view_type, 0);
  if (view == NULL) {
    Py_DecRef(memory);
    return NULL;
  }
  view->memory = memory;
  view->meta = raw.meta;
  accelerator->calls.view_in_place(accelerator->cache, &raw, &view->in_place); /* fails only on NULL */
  view->window = window;
  window->view = view;
  return &view->object;
}

/* Lets the window find its memoryview without the view, as a forked child has to. Without memory for that a child of
 * this process is not kept from reading. */
static void watch_memory(window_t *window, PyObject *memory) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  window->memory = PyWeakref_NewRef(memory, NULL);
  PyErr_Restore(type, value, traceback);
}

static void view_end(PyObject *self) {
  view_t *view = (view_t *)self;
  PyTypeObject *type = self->type;
  PyObject_GC_UnTrack(self);
  if (view->weak_references != NULL) PyObject_ClearWeakRefs(self);
  if (view->window != NULL) {
    view->window->view = NULL;
    if (view->is_memory_known) watch_memory(view->window, view->memory);
  }
  if (view->memory != NULL) Py_DecRef(view->memory);
  if (view->attributes != NULL) Py_DecRef(view->attributes);
  PyObject_GC_Del(self);
  Py_DecRef((PyObject *)type);
}

/* The memoryview needs no visit: nothing that it keeps leads back to a view. Nor is there anything to clear: a circle
 * goes through the attributes, and the collector clears a dict by itself. */
static int view_traverse(PyObject *self, visitproc visit, void *argument) {
  view_t *view = (view_t *)self;
  const int outcome = view->attributes == NULL ? 0 : visit(view->attributes, argument);
  return outcome != 0 ? outcome : visit((PyObject *)self->type, argument);
}

static PyObject *view_memory(PyObject *self, void *unused) {
  view_t *view = (view_t *)self;
  (void)unused;
  view->is_memory_known = 1;
  return new_reference(view->memory);
}

static PyObject *view_enter(PyObject *self, PyObject *unused) {
  (void)unused;
  return view_memory(self, NULL);
}

static PyObject *view_release(PyObject *self, PyObject *unused) {
  view_t *view = (view_t *)self;
  (void)unused;
  if (view->window == NULL) return new_reference(&_Py_NoneStruct);
  /* Raises BufferError by itself for what exports it, such as a numpy array. */
  PyObject *done = PyObject_CallFunctionObjArgs(release_memory, view->memory, NULL);
  if (done == NULL || view->window == NULL || is_of_parent(view->window)) return done;
  Py_DecRef(done);
  PyErr_SetString(PyExc_BufferError, "a slice of this memoryview is still in use: release or delete it first");
  return NULL;
}

/* __exit__(kind, error, traceback): the frames of an exception that is on its way may hold slices; it is worth more
 * than ours. */
static PyObject *view_exit(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keyword_names) {
  if (keyword_names != NULL || count != 3) {
    PyErr_SetString(PyExc_TypeError, "__exit__ takes an exception's type, the exception and its traceback");
    return NULL;
  }
  PyObject *done = view_release(self, NULL);
  if (done != NULL || arguments[1] == &_Py_NoneStruct || !PyErr_ExceptionMatches(PyExc_BufferError)) return done;
  PyErr_Clear();
  return new_reference(&_Py_NoneStruct);
}

static PyObject *view_token(PyObject *self, void *unused) {
  (void)unused;
  return PyLong_FromUnsignedLongLong(((view_t *)self)->meta.cas);
}

static PyObject *view_flags(PyObject *self, void *unused) {
  (void)unused;
  return PyLong_FromUnsignedLongLong(((view_t *)self)->meta.flags);
}

static PyObject *view_in_place(PyObject *self, void *unused) {
  (void)unused;
  return PyBool_FromLong(((view_t *)self)->in_place);
}

static PyObject *view_created_at(PyObject *self, void *unused) {
  (void)unused;
  return PyFloat_FromDouble((double)((view_t *)self)->meta.created_at_ms / 1000);
}

static PyObject *view_expires_at(PyObject *self, void *unused) {
  const uint64_t expires_at_ms = ((view_t *)self)->meta.expires_at_ms;
  (void)unused;
  if (expires_at_ms == 0) return new_reference(&_Py_NoneStruct);
  return PyFloat_FromDouble((double)expires_at_ms / 1000);
}

/* ---- the types ---- */

static PyType_Slot window_slots[] = {
    SLOT(Py_tp_new, refuse_new),
    SLOT(Py_tp_dealloc, window_end),
    SLOT(Py_bf_getbuffer, window_export),
    SLOT_DATA(Py_tp_doc, "The bytes of a value, in place: what the memoryviews of a view keep."),
    SLOT_DATA(0, NULL),
};

static PyMethodDef view_methods[] = {
    {"release", view_release, METH_NOARGS, "Ends the view, as memstream.View.release does."},
    {"__enter__", view_enter, METH_NOARGS, "Gives the memoryview."},
    /* The detour keeps the compiler from warning of a function type that the flags beside it make right. */
    {"__exit__", (PyCFunction)(void (*)(void))view_exit, METH_FASTCALL | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef view_properties[] = {
    {"memory", view_memory, NULL, "The bytes, in place. Using it after the end raises ValueError.", NULL},
    {"token", view_token, NULL, "For Cache.cas.", NULL},
    {"flags", view_flags, NULL, "The caller's 32 bits.", NULL},
    {"in_place", view_in_place, NULL, "Whether the bytes are those in the segment, and not a copy.", NULL},
    {"created_at", view_created_at, NULL, "When the value was stored, Unix time in seconds.", NULL},
    {"expires_at", view_expires_at, NULL, "The same; None: never.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef view_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(view_t, attributes), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(view_t, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot view_slots[] = {
    SLOT(Py_tp_new, refuse_new),
    SLOT(Py_tp_dealloc, view_end),
    SLOT(Py_tp_traverse, view_traverse),
    SLOT_DATA(Py_tp_methods, view_methods),
    SLOT_DATA(Py_tp_getset, view_properties),
    SLOT_DATA(Py_tp_members, view_members),
    SLOT_DATA(Py_tp_doc, "The memstream.View of accelerated calls."),
    SLOT_DATA(0, NULL),
};

static PyType_Spec window_spec = {"memstream.views.AcceleratedWindow", sizeof(window_t), 0, Py_TPFLAGS_HAVE_VERSION_TAG,
                                  window_slots};
static PyType_Spec view_spec = {"memstream.views.AcceleratedView", sizeof(view_t), 0,
                                Py_TPFLAGS_HAVE_VERSION_TAG | Py_TPFLAGS_HAVE_GC, view_slots};

PyObject *make_view_type(void) {
  if (release_memory == NULL) release_memory = PyObject_GetAttrString((PyObject *)&PyMemoryView_Type, "release");
  if (release_memory == NULL) return NULL;
  if (window_type == NULL) window_type = (PyTypeObject *)PyType_FromSpec(&window_spec);
  if (window_type == NULL) return NULL;
  if (view_type == NULL) view_type = (PyTypeObject *)PyType_FromSpec(&view_spec);
  return (PyObject *)view_type;
}

/* ---- fork ---- */

/* The memoryview of a window, if anybody has it: a new reference or NULL. */
static PyObject *memory_of(const window_t *window) {
  if (window->view != NULL) return new_reference(window->view->memory);
  PyObject *memory = window->memory == NULL ? NULL : PyObject_CallFunctionObjArgs(window->memory, NULL);
  if (memory != &_Py_NoneStruct) return memory;
  Py_DecRef(memory);
  return NULL;
}

void leave_parent_views(void) {
  ++forks;
  window_t *window = windows;
  if (window != NULL) Py_IncRef(&window->object);
  while (window != NULL) {
    PyObject *memory = memory_of(window);
    PyObject *done = memory == NULL ? NULL : PyObject_CallFunctionObjArgs(release_memory, memory, NULL);
    if (done != NULL) Py_DecRef(done);
    if (memory != NULL) Py_DecRef(memory);
    PyErr_Clear(); /* Slices and arrays are left as they are. */
    window_t *next = window->next;
    if (next != NULL) Py_IncRef(&next->object); /* The end of this one may run code, if it is the cache's too. */
    Py_DecRef(&window->object);
    window = next;
  }
}
