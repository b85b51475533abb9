/*
 * Reading copies of what a Redis has. near/memstream_near.h says what the call does.
 */
#include "clients/python/native/near.h"

#define STACK_BUFFER ((size_t)4 * 1024) /* on the stack: values up to this size need one look-up */

/* The interpreter's lock is held all the time: so nobody closes the near cache meanwhile. */
PyObject *native_near_get(const method_call_t *call, PyObject *const *arguments, Py_ssize_t count,
                          PyObject *keyword_names) {
  const accelerator_t *accelerator = call->accelerator;
  char buffer[STACK_BUFFER];
  size_t size = sizeof buffer;
  const void *key;
  size_t key_size;
  if (keyword_names != NULL || count < 1 || count > 2 || accelerator->near == NULL ||
      !parse_key(arguments[0], &key, &key_size)) {
    return call_python(call, arguments, count, keyword_names);
  }
  int status = accelerator->peek(accelerator->near, key, key_size, buffer, &size);
  if (status == CACHE_OK) return PyBytes_FromStringAndSize(buffer, (Py_ssize_t)size);
  if (status == CACHE_MISS) return new_reference(count == 2 ? arguments[1] : &_Py_NoneStruct);
  if (status != CACHE_TOO_SMALL || size > LOCKED_COPY) return call_python(call, arguments, count, NULL);
  const size_t capacity = size;
  PyObject *value = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)capacity);
  if (value == NULL) return NULL;
  status = accelerator->peek(accelerator->near, key, key_size, PyBytes_AsString(value), &size);
  if (status == CACHE_OK) {
    if (size != capacity && _PyBytes_Resize(&value, (Py_ssize_t)size) != 0) return NULL;
    return value;
  }
  Py_DecRef(value); /* It has changed in between. */
  return call_python(call, arguments, count, NULL);
}
