/*
 * memstream.node: the class Cache of the Node.js package, in C over Node-API 8 (Node.js 18 and newer).
 *
 * Each call is synchronous and short: it reads or writes shared memory and returns. Nothing here waits for another
 * process longer than the handle's timeout; waiting for a lease is done by timers in lib/memoize.js.
 *
 * The addon is context-aware: it keeps nothing in static variables. Each environment (the main thread, each worker)
 * has a struct Instance of its own, and each Cache object a handle of its own, which its finalizer closes. Node.js runs
 * the finalizers of an environment that ends.
 */
#include "clients/node/src/arguments.h"

/* ---- Opening ---- */

static void close_handle(napi_env env, void *data, void *hint) {
  CacheObject *object = data;
  (void)env;
  (void)hint;
  memstream_close(object->handle);
  free(object);
}

/* A text option, to be freed. Absent: NULL. */
static bool option_text(napi_env env, napi_value options, const char *name, char **result) {
  napi_value value = NULL;
  Bytes bytes = {NULL, 0, NULL};
  *result = NULL;
  if (napi_get_named_property(env, options, name, &value) != napi_ok) return false;
  if (is_nothing(env, value)) return true;
  if (!text(env, value, &bytes)) {
    throw_type(env, "Invalid option: expected text for backend, name, group, owner, hugepages, prefault, checksum.");
    return false;
  }
  *result = bytes.owned;
  return true;
}

static bool option_number(napi_env env, napi_value options, const char *name, double most, double *result) {
  napi_value value = NULL;
  if (napi_get_named_property(env, options, name, &value) != napi_ok) return false;
  if (is_nothing(env, value)) return true;
  if (napi_get_value_double(env, value, result) != napi_ok || !(*result >= 0) || *result > most) {
    napi_throw_range_error(env, "ERR_OUT_OF_RANGE",
                           "Invalid option: expected a number from 0 on for size, maxValue, shards, mode, timeout.");
    return false;
  }
  return true;
}

static bool option_flag(napi_env env, napi_value options, const char *name, uint32_t bit, uint32_t *flags) {
  napi_value value = NULL;
  bool given = false;
  if (napi_get_named_property(env, options, name, &value) != napi_ok) return false;
  if (is_nothing(env, value)) return true;
  if (napi_get_value_bool(env, value, &given) != napi_ok) {
    throw_type(env, "Invalid option: expected true or false for readOnly, existing, anyOwner.");
    return false;
  }
  if (given) *flags |= bit;
  return true;
}

/* Reads the options of `new Cache(options)`. The texts are the caller's to free, also after a failure. */
static bool read_options(napi_env env, napi_value given, memstream_options_t *options, char *texts[7]) {
  static const char *const kTexts[7] = {"backend", "name", "hugepages", "prefault", "group", "owner", "checksum"};
  double size = 0;
  double shards = 0;
  double mode = 0;
  double timeout = -1;
  double max_value = 0;
  for (int i = 0; i < 7; ++i) {
    if (!option_text(env, given, kTexts[i], &texts[i])) return false;
  }
  if (!option_number(env, given, "size", 9007199254740991.0, &size) ||
      !option_number(env, given, "maxValue", 9007199254740991.0, &max_value) ||
      !option_number(env, given, "shards", 64, &shards) || !option_number(env, given, "mode", 07777, &mode) ||
      !option_number(env, given, "timeout", 3600000, &timeout) ||
      !option_flag(env, given, "readOnly", MEMSTREAM_OPEN_READ_ONLY, &options->flags) ||
      !option_flag(env, given, "existing", MEMSTREAM_OPEN_EXISTING, &options->flags) ||
      !option_flag(env, given, "anyOwner", MEMSTREAM_OPEN_ANY_OWNER, &options->flags)) {
    return false;
  }
  options->backend = texts[0];
  options->name = texts[1];
  options->hugepages = texts[2];
  options->prefault = texts[3];
  options->group = texts[4];
  options->owner = texts[5];
  options->checksum = texts[6];
  options->size_bytes = (uint64_t)size;
  options->max_value = (uint64_t)max_value;
  options->shards = (uint32_t)shards;
  options->mode = (uint32_t)mode;
  options->timeout_ms = (int64_t)timeout;
  return true;
}

static napi_value construct(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value given = NULL;
  napi_value self = NULL;
  napi_value target = NULL;
  char *texts[7] = {NULL};
  memstream_options_t options;
  memstream_options_init(&options);
  napi_get_cb_info(env, info, &count, &given, &self, NULL);
  napi_get_new_target(env, info, &target);
  if (target == NULL) {
    throw_type(env, "Cache is a class: call it with new.");
    return NULL;
  }
  bool valid = true;
  if (count > 0 && !is_nothing(env, given)) {
    napi_valuetype type = napi_undefined;
    napi_typeof(env, given, &type);
    valid = type == napi_object && read_options(env, given, &options, texts);
    if (!valid) throw_type(env, "Invalid options: expected an object.");
  }
  CacheObject *object = valid ? calloc(1, sizeof *object) : NULL;
  int status = CACHE_OK;
  if (object != NULL) {
    status = memstream_open(&options, &object->handle);
    if (status != CACHE_OK) {
      throw_status(env, status);
    } else if (napi_wrap(env, self, object, close_handle, NULL, NULL) != napi_ok) {
      memstream_close(object->handle);
      status = CACHE_INTERNAL;
    }
    if (status != CACHE_OK) free(object);
  } else if (valid) {
    napi_throw_error(env, "CACHE_NO_MEMORY", "No memory is left for a Cache.");
  }
  for (int i = 0; i < 7; ++i) free(texts[i]);
  return self;
}

static napi_value close_cache(napi_env env, napi_callback_info info) {
  napi_value self = NULL;
  CacheObject *object = NULL;
  size_t count = 0;
  napi_get_cb_info(env, info, &count, NULL, &self, NULL);
  if (napi_unwrap(env, self, (void **)&object) != napi_ok || object == NULL) {
    throw_type(env, "Invalid receiver: expected a Cache. Call its methods on the object.");
    return NULL;
  }
  memstream_close(object->handle);
  object->handle = NULL;
  return undefined(env);
}

/* ---- Entries ---- */

/* A value from where it lies, once: for values that do not fit into the scratch buffer. */
typedef napi_value (*MakeValue)(napi_env env, const void *data, size_t size);

static napi_value make_buffer(napi_env env, const void *data, size_t size) {
  napi_value result = NULL;
  napi_create_buffer_copy(env, size, data, NULL, &result);
  return result;
}

static napi_value make_string(napi_env env, const void *data, size_t size) {
  napi_value result = NULL;
  napi_create_string_utf8(env, data, size, &result);
  return result;
}

/* The value of a key; undefined for a miss; NULL with an exception. */
static napi_value fetch(Call *call, const Key *key, MakeValue make, memstream_meta_t *meta) {
  size_t size = kScratchSize;
  int status = memstream_get(call->cache, key->bytes.data, key->bytes.size, call->instance->scratch, &size, meta);
  if (status == CACHE_OK) return make(call->env, call->instance->scratch, size);
  if (status == CACHE_TOO_SMALL) {
    memstream_view_t view;
    status = memstream_view(call->cache, key->bytes.data, key->bytes.size, &view);
    if (status == CACHE_OK) {
      napi_value result = make(call->env, view.data, view.size);
      if (meta != NULL) *meta = view.meta;
      memstream_release(call->cache, &view);
      return result;
    }
  }
  if (status == CACHE_MISS) return undefined(call->env);
  throw_status(call->env, status);
  return NULL;
}

static napi_value get_as(napi_env env, napi_callback_info info, MakeValue make) {
  Call call;
  Key key;
  if (!begin(env, info, &call) || !read_key(env, call.arguments[0], &key)) return NULL;
  napi_value result = fetch(&call, &key, make, NULL);
  end_key(&key);
  return result;
}

/*
 * _into(key, pool, offset, limit): copies the value into a Buffer of the caller, at most `limit` bytes. The size of the
 * value, -1 if it is larger, undefined for a miss. A Buffer for each value would cost ten times as much as the get.
 */
static napi_value into(napi_env env, napi_callback_info info) {
  Call call;
  Key key;
  Bytes pool;
  uint32_t offset = 0;
  uint32_t limit = 0;
  if (!begin(env, info, &call)) return NULL;
  if (!binary(env, call.arguments[1], &pool) || napi_get_value_uint32(env, call.arguments[2], &offset) != napi_ok ||
      napi_get_value_uint32(env, call.arguments[3], &limit) != napi_ok || offset > pool.size ||
      limit > pool.size - offset) {
    throw_type(env, "Invalid pool: expected a Buffer, and an offset and a limit inside of it.");
    return NULL;
  }
  if (!read_key(env, call.arguments[0], &key)) return NULL;
  size_t size = limit;
  const int status = memstream_get(call.cache, key.bytes.data, key.bytes.size, (char *)pool.data + offset, &size, NULL);
  end_key(&key);
  if (status == CACHE_MISS) return undefined(env);
  if (status != CACHE_OK && status != CACHE_TOO_SMALL) {
    throw_status(env, status);
    return NULL;
  }
  napi_value result = NULL;
  napi_create_int32(env, status == CACHE_OK ? (int32_t)size : -1, &result);
  return result;
}

static napi_value get(napi_env env, napi_callback_info info) { return get_as(env, info, make_buffer); }
static napi_value get_string(napi_env env, napi_callback_info info) { return get_as(env, info, make_string); }

static void set_time(napi_env env, napi_value object, const char *name, uint64_t ms) {
  napi_value value = NULL;
  if (ms == 0) {
    napi_get_undefined(env, &value);
  } else {
    napi_create_double(env, (double)ms, &value);
  }
  napi_set_named_property(env, object, name, value);
}

static napi_value get_entry(napi_env env, napi_callback_info info) {
  Call call;
  Key key;
  memstream_meta_t meta = {0};
  if (!begin(env, info, &call) || !read_key(env, call.arguments[0], &key)) return NULL;
  napi_value value = fetch(&call, &key, make_buffer, &meta);
  end_key(&key);
  if (value == NULL || is_nothing(env, value)) return value;
  napi_value result = NULL;
  napi_value token = NULL;
  napi_value flags = NULL;
  napi_create_object(env, &result);
  napi_create_bigint_uint64(env, meta.cas, &token);
  napi_create_uint32(env, meta.flags, &flags);
  napi_set_named_property(env, result, "value", value);
  napi_set_named_property(env, result, "token", token);
  napi_set_named_property(env, result, "flags", flags);
  set_time(env, result, "createdAt", meta.created_at_ms);
  set_time(env, result, "expiresAt", meta.expires_at_ms);
  return result;
}

/* set(key, value, ttl, flags) and its kin: `store` is the function of the library, `refusal` answers false. */
typedef int (*Store)(memstream_t *, const void *, size_t, const void *, size_t, uint64_t, uint32_t);

static napi_value store(napi_env env, napi_callback_info info, Store function, int refusal) {
  Call call;
  Key key;
  Bytes value;
  uint64_t ttl_ms = 0;
  uint32_t flags = 0;
  if (!begin(env, info, &call) || !read_duration(env, call.arguments[2], TTL_EXPECTED, &ttl_ms) ||
      !read_flags(env, call.arguments[3], &flags) || !read_key(env, call.arguments[0], &key)) {
    return NULL;
  }
  napi_value result = NULL;
  if (read_value(env, call.arguments[1], &value)) {
    const int status = function(call.cache, key.bytes.data, key.bytes.size, value.data, value.size, ttl_ms, flags);
    if (status == CACHE_OK || status == refusal) {
      result = refusal == CACHE_OK ? undefined(env) : boolean(env, status == CACHE_OK);
    } else {
      throw_status(env, status);
    }
    end_bytes(&value);
  }
  end_key(&key);
  return result;
}

static napi_value set(napi_env env, napi_callback_info info) { return store(env, info, memstream_set, CACHE_OK); }
static napi_value add(napi_env env, napi_callback_info info) { return store(env, info, memstream_add, CACHE_EXISTS); }
static napi_value replace(napi_env env, napi_callback_info info) {
  return store(env, info, memstream_replace, CACHE_MISS);
}

/* cas(key, value, token, ttl, flags) and fulfil(key, value, lease, ttl, flags). */
typedef int (*StoreIf)(memstream_t *, const void *, size_t, const void *, size_t, uint64_t, uint32_t, uint64_t);

static napi_value store_if(napi_env env, napi_callback_info info, StoreIf function) {
  Call call;
  Key key;
  Bytes value;
  uint64_t ttl_ms = 0;
  uint64_t token = 0;
  uint32_t flags = 0;
  if (!begin(env, info, &call) || !read_token(env, call.arguments[2], &token) ||
      !read_duration(env, call.arguments[3], TTL_EXPECTED, &ttl_ms) || !read_flags(env, call.arguments[4], &flags) ||
      !read_key(env, call.arguments[0], &key)) {
    return NULL;
  }
  napi_value result = NULL;
  if (read_value(env, call.arguments[1], &value)) {
    const int status =
        function(call.cache, key.bytes.data, key.bytes.size, value.data, value.size, ttl_ms, flags, token);
    if (status == CACHE_OK || status == CACHE_CONFLICT || status == CACHE_MISS) {
      result = boolean(env, status == CACHE_OK);
    } else {
      throw_status(env, status);
    }
    end_bytes(&value);
  }
  end_key(&key);
  return result;
}

static napi_value cas(napi_env env, napi_callback_info info) { return store_if(env, info, memstream_cas); }
static napi_value fulfil(napi_env env, napi_callback_info info) { return store_if(env, info, memstream_lease_fulfil); }

/* True for CACHE_OK, false for CACHE_MISS. */
static napi_value answer(napi_env env, int status) {
  if (status == CACHE_OK || status == CACHE_MISS) return boolean(env, status == CACHE_OK);
  throw_status(env, status);
  return NULL;
}

static napi_value delete_key(napi_env env, napi_callback_info info) {
  Call call;
  Key key;
  if (!begin(env, info, &call) || !read_key(env, call.arguments[0], &key)) return NULL;
  const int status = memstream_delete(call.cache, key.bytes.data, key.bytes.size);
  end_key(&key);
  return answer(env, status);
}

static napi_value has(napi_env env, napi_callback_info info) {
  Call call;
  Key key;
  if (!begin(env, info, &call) || !read_key(env, call.arguments[0], &key)) return NULL;
  const int status = memstream_exists(call.cache, key.bytes.data, key.bytes.size);
  end_key(&key);
  return answer(env, status);
}

static napi_value touch(napi_env env, napi_callback_info info) {
  Call call;
  Key key;
  uint64_t ttl_ms = 0;
  if (!begin(env, info, &call) || !read_duration(env, call.arguments[1], TTL_EXPECTED, &ttl_ms) ||
      !read_key(env, call.arguments[0], &key)) {
    return NULL;
  }
  const int status = memstream_touch(call.cache, key.bytes.data, key.bytes.size, ttl_ms);
  end_key(&key);
  return answer(env, status);
}

/* A whole number of 64 bits: a bigint, or a number that is exact. */
static bool read_integer(napi_env env, napi_value value, int64_t *result, bool *is_bigint) {
  napi_valuetype type = napi_undefined;
  double given = 0;
  bool lossless = false;
  napi_typeof(env, value, &type);
  if (type == napi_bigint && napi_get_value_bigint_int64(env, value, result, &lossless) == napi_ok && lossless) {
    *is_bigint = true;
    return true;
  }
  if (type == napi_number && napi_get_value_double(env, value, &given) == napi_ok && given >= -9007199254740991.0 &&
      given <= 9007199254740991.0 && (double)(int64_t)given == given) {
    *result = (int64_t)given;
    return true;
  }
  napi_throw_range_error(env, "ERR_OUT_OF_RANGE",
                         "Invalid delta or initial: expected a safe integer, or a bigint of 64 bits.");
  return false;
}

/* incr(key, delta, initial, ttl): the sum; undefined if there is no entry and no initial number. */
static napi_value incr(napi_env env, napi_callback_info info) {
  Call call;
  Key key;
  int64_t delta = 1;
  int64_t initial = 0;
  int64_t sum = 0;
  uint64_t ttl_ms = 0;
  bool is_bigint = false;
  if (!begin(env, info, &call)) return NULL;
  const bool has_initial = !is_nothing(env, call.arguments[2]);
  if ((!is_nothing(env, call.arguments[1]) && !read_integer(env, call.arguments[1], &delta, &is_bigint)) ||
      (has_initial && !read_integer(env, call.arguments[2], &initial, &is_bigint)) ||
      !read_duration(env, call.arguments[3], TTL_EXPECTED, &ttl_ms) || !read_key(env, call.arguments[0], &key)) {
    return NULL;
  }
  const int status =
      memstream_incr(call.cache, key.bytes.data, key.bytes.size, delta, has_initial ? &initial : NULL, ttl_ms, &sum);
  end_key(&key);
  napi_value result = NULL;
  if (status == CACHE_MISS) return undefined(env);
  if (status != CACHE_OK) {
    throw_status(env, status);
  } else if (is_bigint) {
    napi_create_bigint_int64(env, sum, &result);
  } else if (sum > 9007199254740991 || sum < -9007199254740991) {
    napi_throw_range_error(env, "ERR_OUT_OF_RANGE",
                           "The sum is stored, but it is no safe integer. Pass delta as a bigint to get a bigint.");
  } else {
    napi_create_int64(env, sum, &result);
  }
  return result;
}

static napi_value clear(napi_env env, napi_callback_info info) {
  Call call;
  if (!begin(env, info, &call)) return NULL;
  const int status = memstream_clear(call.cache);
  if (status != CACHE_OK) throw_status(env, status);
  return undefined(env);
}

static napi_value destroy(napi_env env, napi_callback_info info) {
  Call call;
  if (!begin(env, info, &call)) return NULL;
  const int status = memstream_destroy(call.cache);
  if (status != CACHE_OK) {
    throw_status(env, status);
    return NULL;
  }
  memstream_close(call.cache);
  call.object->handle = NULL;
  return undefined(env);
}

/* ---- Many keys ---- */

/* The items of a batch. Text is copied, binary keys and values stay the caller's. */
typedef struct Batch {
  memstream_item_t *items;
  char **owned; /* One or two for each item; NULL where nothing was copied. */
  uint32_t count;
  uint32_t owned_count;
} Batch;

static void end_batch(Batch *batch) {
  for (uint32_t i = 0; i < batch->owned_count; ++i) free(batch->owned[i]);
  free(batch->owned);
  free(batch->items);
}

static bool begin_batch(napi_env env, napi_value keys, uint32_t texts_each, Batch *batch) {
  bool is_array = false;
  memset(batch, 0, sizeof *batch);
  if (napi_is_array(env, keys, &is_array) != napi_ok || !is_array) {
    throw_type(env, "Invalid keys: expected an array.");
    return false;
  }
  napi_get_array_length(env, keys, &batch->count);
  batch->items = calloc(batch->count + 1, sizeof *batch->items);
  batch->owned = calloc((size_t)texts_each * batch->count + 1, sizeof *batch->owned);
  if (batch->items != NULL && batch->owned != NULL) return true;
  end_batch(batch);
  napi_throw_error(env, "CACHE_NO_MEMORY", "No memory is left for so many keys.");
  return false;
}

static bool item_bytes(napi_env env, napi_value value, Batch *batch, const char *message, Bytes *bytes) {
  bytes->owned = NULL;
  if (!binary(env, value, bytes) && !text(env, value, bytes)) {
    throw_type(env, message);
    return false;
  }
  batch->owned[batch->owned_count++] = bytes->owned;
  return true;
}

static bool read_keys(napi_env env, napi_value keys, Batch *batch) {
  for (uint32_t i = 0; i < batch->count; ++i) {
    napi_value value = NULL;
    Bytes bytes;
    if (napi_get_element(env, keys, i, &value) != napi_ok ||
        !item_bytes(env, value, batch, "Invalid key: expected a string, a Buffer or another view of bytes.", &bytes)) {
      return false;
    }
    batch->items[i].key = bytes.data;
    batch->items[i].key_size = bytes.size;
  }
  return true;
}

/* The values of a batch that was fetched; those that did not fit into the buffer are asked for one by one. */
static napi_value batch_values(Call *call, const Batch *batch, MakeValue make) {
  napi_value result = NULL;
  napi_create_array_with_length(call->env, batch->count, &result);
  for (uint32_t i = 0; i < batch->count; ++i) {
    const memstream_item_t *item = &batch->items[i];
    napi_value value = NULL;
    if (item->status == CACHE_OK) {
      value = make(call->env, item->value, item->value_size);
    } else if (item->status == CACHE_TOO_SMALL) {
      Key key;
      key.bytes.data = item->key;
      key.bytes.size = item->key_size;
      value = fetch(call, &key, make, NULL);
      if (value == NULL) return NULL;
    } else {
      value = undefined(call->env);
    }
    napi_set_element(call->env, result, i, value);
  }
  return result;
}

/* Copies all values of a batch into one Buffer, and writes the offset (-1: a miss) and size of each into `spans`. */
static napi_value batch_in_one(napi_env env, const Batch *batch, const char *buffer, size_t size, int32_t *spans) {
  for (uint32_t i = 0; i < batch->count; ++i) {
    const memstream_item_t *item = &batch->items[i];
    const bool is_there = item->status == CACHE_OK;
    spans[2 * i] = is_there ? (int32_t)((const char *)item->value - buffer) : -1;
    spans[2 * i + 1] = is_there ? (int32_t)item->value_size : 0;
  }
  return make_buffer(env, buffer, size);
}

/*
 * getMany(keys, asString, spans): an array of values and undefined, in the order of the keys. With `spans`, an
 * Int32Array of two numbers for each key, and if the values are small: one Buffer of all.
 */
static napi_value get_many(napi_env env, napi_callback_info info) {
  Call call;
  Batch batch;
  bool as_string = false;
  napi_value result = NULL;
  if (!begin(env, info, &call) || !begin_batch(env, call.arguments[0], 1, &batch)) return NULL;
  napi_get_value_bool(env, call.arguments[1], &as_string);
  size_t size = (size_t)batch.count * 1024;
  if (size < kScratchSize) size = kScratchSize;
  if (size > (size_t)8 << 20) size = (size_t)8 << 20;
  char *buffer = malloc(size); /* Not the scratch buffer: values that do not fit are fetched through that one. */
  if (buffer == NULL) {
    napi_throw_error(env, "CACHE_NO_MEMORY", "No memory is left for so many values.");
  } else if (read_keys(env, call.arguments[0], &batch)) {
    const int status = memstream_get_many(call.cache, batch.items, batch.count, buffer, &size);
    if (status == CACHE_OK || status == CACHE_TOO_SMALL) {
      Bytes spans = {NULL, 0, NULL};
      const bool in_one = status == CACHE_OK && size <= (size_t)batch.count * kSmallAverage &&
                          binary(env, call.arguments[2], &spans) && spans.size >= 2 * sizeof(int32_t) * batch.count;
      result = in_one ? batch_in_one(env, &batch, buffer, size, (int32_t *)(void *)(uintptr_t)spans.data)
                      : batch_values(&call, &batch, as_string ? make_string : make_buffer);
    } else {
      throw_status(env, status);
    }
  }
  free(buffer);
  end_batch(&batch);
  return result;
}

/* setMany(keys, values, ttl, flags): two arrays of the same length. */
static napi_value set_many(napi_env env, napi_callback_info info) {
  Call call;
  Batch batch;
  uint64_t ttl_ms = 0;
  uint32_t flags = 0;
  napi_value result = NULL;
  if (!begin(env, info, &call) || !read_duration(env, call.arguments[2], TTL_EXPECTED, &ttl_ms) ||
      !read_flags(env, call.arguments[3], &flags) || !begin_batch(env, call.arguments[0], 2, &batch)) {
    return NULL;
  }
  bool valid = read_keys(env, call.arguments[0], &batch);
  for (uint32_t i = 0; valid && i < batch.count; ++i) {
    napi_value value = NULL;
    Bytes bytes;
    valid = napi_get_element(env, call.arguments[1], i, &value) == napi_ok &&
            item_bytes(env, value, &batch, VALUE_EXPECTED, &bytes);
    if (!valid) break;
    batch.items[i].value = bytes.data;
    batch.items[i].value_size = bytes.size;
    batch.items[i].ttl_ms = ttl_ms;
    batch.items[i].flags = flags;
  }
  if (valid) {
    const int status = memstream_set_many(call.cache, batch.items, batch.count);
    if (status == CACHE_OK) {
      result = undefined(env);
    } else {
      throw_status(env, status);
    }
  }
  end_batch(&batch);
  return result;
}

/* deleteMany(keys): how many of them were there. */
static napi_value delete_many(napi_env env, napi_callback_info info) {
  Call call;
  Batch batch;
  napi_value result = NULL;
  if (!begin(env, info, &call) || !begin_batch(env, call.arguments[0], 1, &batch)) return NULL;
  if (read_keys(env, call.arguments[0], &batch)) {
    const int status = memstream_delete_many(call.cache, batch.items, batch.count);
    if (status == CACHE_OK) {
      uint32_t removed = 0;
      for (uint32_t i = 0; i < batch.count; ++i) removed += batch.items[i].status == CACHE_OK;
      napi_create_uint32(env, removed, &result);
    } else {
      throw_status(env, status);
    }
  }
  end_batch(&batch);
  return result;
}

/* ---- Leases ---- */

/* lease(key, duration, stale): a bigint, "held" or "exists". */
static napi_value lease(napi_env env, napi_callback_info info) {
  Call call;
  Key key;
  uint64_t duration_ms = 0;
  uint64_t stale = 0;
  uint64_t token = 0;
  if (!begin(env, info, &call) ||
      !read_duration(env, call.arguments[1], "Invalid duration: expected milliseconds above 0, or undefined.",
                     &duration_ms) ||
      (!is_nothing(env, call.arguments[2]) && !read_token(env, call.arguments[2], &stale)) ||
      !read_key(env, call.arguments[0], &key)) {
    return NULL;
  }
  const int status = memstream_lease(call.cache, key.bytes.data, key.bytes.size, stale, duration_ms, &token);
  end_key(&key);
  napi_value result = NULL;
  switch (status) {
    case CACHE_OK:
      napi_create_bigint_uint64(env, token, &result);
      break;
    case CACHE_HELD:
      napi_create_string_utf8(env, "held", NAPI_AUTO_LENGTH, &result);
      break;
    case CACHE_EXISTS:
      napi_create_string_utf8(env, "exists", NAPI_AUTO_LENGTH, &result);
      break;
    default:
      throw_status(env, status);
  }
  return result;
}

/* followLease(key, followed): [state, followed]. It never waits. State: "ended", "lost" or "held". */
static napi_value follow_lease(napi_env env, napi_callback_info info) {
  Call call;
  Key key;
  uint64_t followed = 0;
  if (!begin(env, info, &call) || !read_token(env, call.arguments[1], &followed) ||
      !read_key(env, call.arguments[0], &key)) {
    return NULL;
  }
  const int status = memstream_lease_follow(call.cache, key.bytes.data, key.bytes.size, &followed, 0);
  end_key(&key);
  if (status < 0) {
    throw_status(env, status);
    return NULL;
  }
  const char *state = status == CACHE_OK ? "ended" : status == CACHE_MISS ? "lost" : "held";
  napi_value result = NULL;
  napi_value name = NULL;
  napi_value number = NULL;
  napi_create_array_with_length(env, 2, &result);
  napi_create_string_utf8(env, state, NAPI_AUTO_LENGTH, &name);
  napi_create_bigint_uint64(env, followed, &number);
  napi_set_element(env, result, 0, name);
  napi_set_element(env, result, 1, number);
  return result;
}

static napi_value release_lease(napi_env env, napi_callback_info info) {
  Call call;
  Key key;
  uint64_t token = 0;
  if (!begin(env, info, &call) || !read_token(env, call.arguments[1], &token) ||
      !read_key(env, call.arguments[0], &key)) {
    return NULL;
  }
  const int status = memstream_lease_release(call.cache, key.bytes.data, key.bytes.size, token);
  end_key(&key);
  if (status == CACHE_OK || status == CACHE_CONFLICT) return boolean(env, status == CACHE_OK);
  throw_status(env, status);
  return NULL;
}

/* ---- Inspection ---- */

/* scan(cursor): [next cursor, keys]; the cursor is 0n at first and at the end. Keys are Buffers. */
static napi_value scan(napi_env env, napi_callback_info info) {
  Call call;
  uint64_t cursor = 0;
  size_t count = 0;
  if (!begin(env, info, &call) || !read_token(env, call.arguments[0], &cursor)) return NULL;
  memstream_entry_t *entries = malloc(kScanBatch * sizeof *entries);
  if (entries == NULL) {
    napi_throw_error(env, "CACHE_NO_MEMORY", "No memory is left for a scan.");
    return NULL;
  }
  const int status = memstream_scan(call.cache, &cursor, entries, kScanBatch, &count);
  napi_value result = NULL;
  if (status == CACHE_OK) {
    napi_value next = NULL;
    napi_value keys = NULL;
    napi_create_array_with_length(env, 2, &result);
    napi_create_array_with_length(env, count, &keys);
    napi_create_bigint_uint64(env, cursor, &next);
    for (uint32_t i = 0; i < count; ++i) {
      napi_set_element(env, keys, i, make_buffer(env, entries[i].key, entries[i].key_size));
    }
    napi_set_element(env, result, 0, next);
    napi_set_element(env, result, 1, keys);
  } else {
    throw_status(env, status);
  }
  free(entries);
  return result;
}

static napi_value stats(napi_env env, napi_callback_info info) {
  Call call;
  cache_stats_t all;
  if (!begin(env, info, &call)) return NULL;
  all.struct_size = sizeof all;
  const int status = memstream_stats(call.cache, &all);
  if (status != CACHE_OK) {
    throw_status(env, status);
    return NULL;
  }
  const struct {
    const char *name;
    uint64_t value;
  } fields[] = {
      {"maxMemory", all.max_memory},
      {"usedMemory", all.used_memory},
      {"entries", all.entries},
      {"maxValueSize", all.max_value_size},
      {"shards", all.shards},
      {"processes", all.processes},
      {"hits", all.hits},
      {"misses", all.misses},
      {"puts", all.puts},
      {"deletes", all.deletes},
      {"evictions", all.evictions},
      {"expirations", all.expirations},
      {"deadProcesses", all.dead_processes},
      {"pinnedMemory", all.pinned_memory},
  };
  napi_value result = NULL;
  napi_create_object(env, &result);
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; ++i) {
    napi_value value = NULL;
    napi_create_double(env, (double)fields[i].value, &value);
    napi_set_named_property(env, result, fields[i].name, value);
  }
  return result;
}

/* How the segment differs from what was asked for; empty if it does not. */
static napi_value open_note(napi_env env, napi_callback_info info) {
  Call call;
  if (!begin(env, info, &call)) return NULL;
  const char *note = memstream_open_note(call.cache);
  return make_string(env, note, strlen(note));
}

/* ---- The module ---- */

static void free_instance(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  free(data);
}

#define METHOD(name, function) \
  { name, NULL, function, NULL, NULL, NULL, napi_default_method, NULL }

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  const napi_property_descriptor methods[] = {
      METHOD("_get", get),
      METHOD("_into", into),
      METHOD("getString", get_string),
      METHOD("getEntry", get_entry),
      METHOD("_set", set),
      METHOD("_add", add),
      METHOD("_replace", replace),
      METHOD("_cas", cas),
      METHOD("_fulfil", fulfil),
      METHOD("delete", delete_key),
      METHOD("has", has),
      METHOD("touch", touch),
      METHOD("_incr", incr),
      METHOD("clear", clear),
      METHOD("destroy", destroy),
      METHOD("close", close_cache),
      METHOD("_getMany", get_many),
      METHOD("_setMany", set_many),
      METHOD("deleteMany", delete_many),
      METHOD("_lease", lease),
      METHOD("_followLease", follow_lease),
      METHOD("_releaseLease", release_lease),
      METHOD("_scan", scan),
      METHOD("stats", stats),
      METHOD("openNote", open_note),
  };
  Instance *instance = malloc(sizeof *instance);
  napi_value class = NULL;
  if (instance == NULL || napi_set_instance_data(env, instance, free_instance, NULL) != napi_ok ||
      napi_define_class(env, "Cache", NAPI_AUTO_LENGTH, construct, NULL, sizeof methods / sizeof methods[0], methods,
                        &class) != napi_ok ||
      napi_set_named_property(env, exports, "Cache", class) != napi_ok) {
    napi_throw_error(env, NULL, "The addon cannot be set up.");
    return NULL;
  }
  const char *version = cache_version();
  napi_set_named_property(env, exports, "version", make_string(env, version, strlen(version)));
  return exports;
}
