/*
 * What the calls of the addon share: the objects behind JavaScript's, reading arguments, throwing errors.
 */
#ifndef MEMSTREAM_NODE_ARGUMENTS_H
#define MEMSTREAM_NODE_ARGUMENTS_H

#define NAPI_VERSION 8
#include <node_api.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/memstream.h"
#include "clients/common/status_names.h"

enum {
  kScratchSize = 16384, /* A value up to this size takes one call of the library. */
  kSmallAverage = 1024, /* Up to this many bytes each, the values of a batch come in one Buffer. */
  kMaxArguments = 6,
  kScanBatch = 64
};

/* What one environment owns. */
typedef struct Instance {
  char scratch[kScratchSize];
} Instance;

/* What one Cache object owns. */
typedef struct CacheObject {
  memstream_t *handle; /* NULL: closed. */
} CacheObject;

/* Bytes that an argument gave. */
typedef struct Bytes {
  const char *data;
  size_t size;
  char *owned; /* To be freed; NULL if the bytes are the caller's or in `inside`. */
} Bytes;

/* A key: most fit into the struct itself. */
typedef struct Key {
  Bytes bytes;
  char inside[CACHE_MAX_KEY_SIZE + 8];
} Key;

/* One call from JavaScript. */
typedef struct Call {
  napi_env env;
  size_t count;
  napi_value arguments[kMaxArguments];
  memstream_t *cache;
  CacheObject *object;
  Instance *instance;
} Call;

/* ---- Errors ---- */

static inline napi_value undefined(napi_env env) {
  napi_value result = NULL;
  napi_get_undefined(env, &result);
  return result;
}

static inline napi_value boolean(napi_env env, bool value) {
  napi_value result = NULL;
  napi_get_boolean(env, value, &result);
  return result;
}

static inline void throw_type(napi_env env, const char *message) {
  bool pending = false;
  if (napi_is_exception_pending(env, &pending) == napi_ok && !pending) {
    napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", message);
  }
}

/* Throws an Error with the library's message, `code` as "CACHE_BUSY" and `status` as -40. */
static inline void throw_status(napi_env env, int status) {
  const char *name = memstream_status_name(status);
  const char *text = status < 0 ? cache_last_error() : cache_strerror(status);
  napi_value code = NULL;
  napi_value message = NULL;
  napi_value error = NULL;
  napi_value number = NULL;
  napi_create_string_utf8(env, name ? name : "CACHE_UNKNOWN", NAPI_AUTO_LENGTH, &code);
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message);
  if (napi_create_error(env, code, message, &error) != napi_ok) return;
  napi_create_int32(env, status, &number);
  napi_set_named_property(env, error, "status", number);
  napi_throw(env, error);
}

/* ---- Arguments ---- */

#define VALUE_EXPECTED "Invalid value: expected a string, a Buffer or another view of bytes. Encode others first."
#define TTL_EXPECTED "Invalid ttl: expected milliseconds above 0, or undefined for an entry that never expires."

static inline bool begin(napi_env env, napi_callback_info info, Call *call) {
  napi_value self = NULL;
  call->env = env;
  call->count = kMaxArguments;
  call->object = NULL;
  if (napi_get_cb_info(env, info, &call->count, call->arguments, &self, NULL) != napi_ok ||
      napi_unwrap(env, self, (void **)&call->object) != napi_ok || call->object == NULL) {
    throw_type(env, "Invalid receiver: expected a Cache. Call its methods on the object.");
    return false;
  }
  call->cache = call->object->handle;
  if (call->cache == NULL) {
    napi_throw_error(env, "CACHE_NOT_CONNECTED", "The cache is closed. Make a new Cache.");
    return false;
  }
  return napi_get_instance_data(env, (void **)&call->instance) == napi_ok;
}

static inline bool is_nothing(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  return type == napi_undefined || type == napi_null;
}

/* The bytes of a Buffer, another typed array, a DataView or an ArrayBuffer. They stay the caller's. */
static inline bool binary(napi_env env, napi_value value, Bytes *bytes) {
  bool is = false;
  void *data = NULL;
  size_t size = 0;
  if (napi_is_buffer(env, value, &is) == napi_ok && is) { /* True for every view of an ArrayBuffer. */
    if (napi_get_buffer_info(env, value, &data, &size) != napi_ok) return false;
  } else if (napi_is_arraybuffer(env, value, &is) == napi_ok && is) {
    if (napi_get_arraybuffer_info(env, value, &data, &size) != napi_ok) return false;
  } else {
    return false;
  }
  bytes->data = data;
  bytes->size = size;
  bytes->owned = NULL;
  return true;
}

/* The UTF-8 of a string, in memory to be freed. */
static inline bool text(napi_env env, napi_value value, Bytes *bytes) {
  size_t size = 0;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &size) != napi_ok) return false;
  bytes->owned = malloc(size + 1);
  if (bytes->owned == NULL) return false;
  napi_get_value_string_utf8(env, value, bytes->owned, size + 1, &size);
  bytes->data = bytes->owned;
  bytes->size = size;
  return true;
}

static inline void end_bytes(Bytes *bytes) {
  free(bytes->owned);
  bytes->owned = NULL;
}

static inline void end_key(Key *key) { end_bytes(&key->bytes); }

static inline bool read_key(napi_env env, napi_value value, Key *key) {
  size_t size = 0;
  key->bytes.owned = NULL;
  if (napi_get_value_string_utf8(env, value, key->inside, sizeof key->inside, &size) == napi_ok) {
    key->bytes.data = key->inside;
    key->bytes.size = size;
    /* A longer one is cut off: the library shall see how long it is. */
    if (size <= CACHE_MAX_KEY_SIZE || text(env, value, &key->bytes)) return true;
  } else if (binary(env, value, &key->bytes)) {
    return true;
  }
  throw_type(env, "Invalid key: expected a string, a Buffer or another view of bytes.");
  return false;
}

static inline bool read_value(napi_env env, napi_value value, Bytes *bytes) {
  bytes->owned = NULL;
  if (binary(env, value, bytes) || text(env, value, bytes)) return true;
  throw_type(env, "Invalid value: expected a string, a Buffer or another view of bytes. Encode it first.");
  return false;
}

/* A duration in milliseconds; a fraction counts as a whole one. Absent: 0. */
static inline bool read_duration(napi_env env, napi_value value, const char *message, uint64_t *ms) {
  double given = 0;
  *ms = 0;
  if (is_nothing(env, value)) return true;
  if (napi_get_value_double(env, value, &given) != napi_ok || !(given > 0) || given > 9007199254740991.0) {
    napi_throw_range_error(env, "ERR_OUT_OF_RANGE", message);
    return false;
  }
  *ms = (uint64_t)given;
  if ((double)*ms < given) ++*ms;
  return true;
}

static inline bool read_flags(napi_env env, napi_value value, uint32_t *flags) {
  double given = 0;
  *flags = 0;
  if (is_nothing(env, value)) return true;
  if (napi_get_value_double(env, value, &given) != napi_ok || !(given >= 0) || given > 4294967295.0 ||
      (double)(uint32_t)given != given) {
    napi_throw_range_error(env, "ERR_OUT_OF_RANGE", "Invalid flags: expected a whole number, 0 to 4294967295.");
    return false;
  }
  *flags = (uint32_t)given;
  return true;
}

static inline bool read_token(napi_env env, napi_value value, uint64_t *token) {
  bool lossless = false;
  if (napi_get_value_bigint_uint64(env, value, token, &lossless) == napi_ok && lossless) return true;
  throw_type(env, "Invalid token: expected the bigint that getEntry() or a lease gave.");
  return false;
}

#endif
