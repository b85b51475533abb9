/*
 * memstream.so: the extension for PHP 8.2, with functions shaped like APCu's.
 *
 * Each process opens the cache at its first call, so the workers of FPM have handles of their own, and closes it when
 * the module shuts down. A failure is a warning with the library's message, and false; memstream_last_status() gives
 * its number.
 *
 * A string is stored as its bytes, so other languages read it. An int is stored as decimal text, so that they can count
 * with it, and its flags say that PHP gets an int back. Other values are serialized.
 */
#include <php.h>
/* After php.h, on which they build. */
#include <zend_smart_str.h>

#include <ext/spl/spl_exceptions.h>
#include <ext/standard/info.h>
#include <ext/standard/php_var.h>

#include "api/memstream.h"

enum {
  kIsInt = 0x50480001,        /* Flags of an int: "PH" and a number. */
  kIsSerialized = 0x50480002, /* Flags of what serialize() made. */
  kFirstTry = 4096,
  kEntryWaitMs = 10000 /* Longest wait of memstream_entry() for another process that computes. */
};

/* What one process, or one thread of a PHP with threads, has. All 0 at first. */
typedef struct zend_memstream_globals {
  memstream_t *handle; /* NULL: not opened yet. */
  int last_status;
  /* The settings of php.ini. */
  char *name;
  char *backend;
  char *group;
  char *mode;
  zend_long size;
  zend_long shards;
  zend_long timeout_ms;
} zend_memstream_globals;

ZEND_DECLARE_MODULE_GLOBALS(memstream)
#define MEMSTREAM_G(member) ZEND_MODULE_GLOBALS_ACCESSOR(memstream, member)

PHP_INI_BEGIN()
STD_PHP_INI_ENTRY("memstream.name", "", PHP_INI_SYSTEM, OnUpdateString, name, zend_memstream_globals, memstream_globals)
STD_PHP_INI_ENTRY("memstream.backend", "", PHP_INI_SYSTEM, OnUpdateString, backend, zend_memstream_globals,
                  memstream_globals)
STD_PHP_INI_ENTRY("memstream.group", "", PHP_INI_SYSTEM, OnUpdateString, group, zend_memstream_globals,
                  memstream_globals)
STD_PHP_INI_ENTRY("memstream.mode", "", PHP_INI_SYSTEM, OnUpdateString, mode, zend_memstream_globals, memstream_globals)
STD_PHP_INI_ENTRY("memstream.size", "0", PHP_INI_SYSTEM, OnUpdateLong, size, zend_memstream_globals, memstream_globals)
STD_PHP_INI_ENTRY("memstream.shards", "0", PHP_INI_SYSTEM, OnUpdateLong, shards, zend_memstream_globals,
                  memstream_globals)
STD_PHP_INI_ENTRY("memstream.timeout_ms", "-1", PHP_INI_SYSTEM, OnUpdateLong, timeout_ms, zend_memstream_globals,
                  memstream_globals)
PHP_INI_END()

/* ---- The handle, and failures ---- */

static const char *given(const char *setting) { return setting != NULL && setting[0] != '\0' ? setting : NULL; }

/* Reports an error as a warning. Returns whether the status is CACHE_OK. */
static bool succeeded(int status) {
  MEMSTREAM_G(last_status) = status;
  if (status >= 0) return status == CACHE_OK;
  php_error_docref(NULL, E_WARNING, "%s", cache_last_error());
  if (status == CACHE_GONE) { /* The next call opens the segment that has the name by then. */
    memstream_close(MEMSTREAM_G(handle));
    MEMSTREAM_G(handle) = NULL;
  }
  return false;
}

/* The open cache; NULL with a warning. */
static memstream_t *opened(void) {
  if (MEMSTREAM_G(handle) != NULL) return MEMSTREAM_G(handle);
  memstream_options_t options;
  memstream_options_init(&options);
  options.name = given(MEMSTREAM_G(name));
  options.backend = given(MEMSTREAM_G(backend));
  options.group = given(MEMSTREAM_G(group));
  if (given(MEMSTREAM_G(mode)) != NULL) options.mode = (uint32_t)strtoul(MEMSTREAM_G(mode), NULL, 8);
  options.size_bytes = (uint64_t)MEMSTREAM_G(size);
  options.shards = (uint32_t)MEMSTREAM_G(shards);
  options.timeout_ms = MEMSTREAM_G(timeout_ms);
  succeeded(memstream_open(&options, &MEMSTREAM_G(handle)));
  return MEMSTREAM_G(handle);
}

/* ---- Values ---- */

/* The bytes of a value, to be released; NULL after an exception. */
static zend_string *pack(zval *value, uint32_t *flags) {
  *flags = 0;
  if (Z_TYPE_P(value) == IS_STRING) return zend_string_copy(Z_STR_P(value));
  if (Z_TYPE_P(value) == IS_LONG) {
    *flags = kIsInt;
    return zend_long_to_str(Z_LVAL_P(value));
  }
  *flags = kIsSerialized;
  smart_str text = {NULL, 0};
  php_serialize_data_t data;
  PHP_VAR_SERIALIZE_INIT(data);
  php_var_serialize(&text, value, &data);
  PHP_VAR_SERIALIZE_DESTROY(data);
  if (EG(exception) != NULL) {
    smart_str_free(&text);
    return NULL;
  }
  smart_str_0(&text);
  return text.s;
}

/* Makes the value of its bytes. False with a warning if they are none. */
static bool unpack(const char *bytes, size_t size, uint32_t flags, zval *value) {
  if (flags == kIsInt) {
    ZVAL_LONG(value, ZEND_STRTOL(bytes, NULL, 10)); /* A NUL is behind the bytes. */
    return true;
  }
  if (flags != kIsSerialized) {
    ZVAL_STRINGL(value, bytes, size);
    return true;
  }
  const unsigned char *at = (const unsigned char *)bytes;
  php_unserialize_data_t data;
  PHP_VAR_UNSERIALIZE_INIT(data);
  ZVAL_NULL(value);
  const int done = php_var_unserialize(value, &at, at + size, &data);
  PHP_VAR_UNSERIALIZE_DESTROY(data);
  if (done) return true;
  zval_ptr_dtor(value);
  ZVAL_FALSE(value);
  if (EG(exception) == NULL) {
    php_error_docref(NULL, E_WARNING, "Invalid value: expected what serialize() makes. Store it again.");
  }
  return false;
}

/* Fetches a value into memory of its own. Returns the status; `value` is set with CACHE_OK. */
static int fetch(memstream_t *cache, const zend_string *key, zval *value, memstream_meta_t *meta) {
  char first[kFirstTry + 1];
  char *buffer = first;
  size_t capacity = kFirstTry;
  size_t size = capacity;
  int status;
  while ((status = memstream_get(cache, ZSTR_VAL(key), ZSTR_LEN(key), buffer, &size, meta)) == CACHE_TOO_SMALL) {
    capacity = size;
    buffer = erealloc(buffer == first ? NULL : buffer, capacity + 1);
  }
  if (status == CACHE_OK) {
    buffer[size] = '\0';
    if (!unpack(buffer, size, meta->flags, value)) status = CACHE_MISS;
  }
  if (buffer != first) efree(buffer);
  return status;
}

static uint64_t milliseconds(zend_long seconds) { return seconds > 0 ? (uint64_t)seconds * 1000 : 0; }

/* Reports a negative time to live as an error of the argument. */
static bool valid_ttl(zend_long ttl, uint32_t argument) {
  if (ttl >= 0) return true;
  zend_argument_value_error(argument, "must be 0 or more seconds; 0 is for ever");
  return false;
}

/* ---- The functions ---- */

PHP_FUNCTION(memstream_fetch) {
  zend_string *key = NULL;
  HashTable *keys = NULL;
  zval *success = NULL;
  ZEND_PARSE_PARAMETERS_START(1, 2)
  Z_PARAM_ARRAY_HT_OR_STR(keys, key)
  Z_PARAM_OPTIONAL
  Z_PARAM_ZVAL(success)
  ZEND_PARSE_PARAMETERS_END();
  memstream_t *cache = opened();
  memstream_meta_t meta;
  bool done = cache != NULL;
  if (keys == NULL) {
    done = done && succeeded(fetch(cache, key, return_value, &meta));
    if (!done) RETVAL_FALSE;
  } else {
    array_init(return_value);
    zval *element;
    ZEND_HASH_FOREACH_VAL(keys, element) {
      zend_string *one = zval_get_string(element);
      zval value;
      const int status = cache != NULL ? fetch(cache, one, &value, &meta) : CACHE_NOT_CONNECTED;
      if (status == CACHE_OK) {
        zend_symtable_update(Z_ARRVAL_P(return_value), one, &value);
      } else if (cache != NULL && !succeeded(status) && status < 0) {
        done = false;
        cache = MEMSTREAM_G(handle);
      }
      zend_string_release(one);
    }
    ZEND_HASH_FOREACH_END();
  }
  if (success != NULL) ZEND_TRY_ASSIGN_REF_BOOL(success, done);
}

typedef int (*Store)(memstream_t *, const void *, size_t, const void *, size_t, uint64_t, uint32_t);

static bool store_one(Store function, zend_string *key, zval *value, zend_long ttl) {
  memstream_t *cache = opened();
  uint32_t flags;
  zend_string *bytes = cache != NULL ? pack(value, &flags) : NULL;
  if (bytes == NULL) return false;
  const bool done = succeeded(
      function(cache, ZSTR_VAL(key), ZSTR_LEN(key), ZSTR_VAL(bytes), ZSTR_LEN(bytes), milliseconds(ttl), flags));
  zend_string_release(bytes);
  return done;
}

/* memstream_store() and its kin: with an array of keys and values, returns an array of the keys that failed. */
static void store(INTERNAL_FUNCTION_PARAMETERS, Store function) {
  zend_string *key = NULL;
  HashTable *values = NULL;
  zval *value = NULL;
  zend_long ttl = 0;
  ZEND_PARSE_PARAMETERS_START(1, 3)
  Z_PARAM_ARRAY_HT_OR_STR(values, key)
  Z_PARAM_OPTIONAL
  Z_PARAM_ZVAL(value)
  Z_PARAM_LONG(ttl)
  ZEND_PARSE_PARAMETERS_END();
  if (!valid_ttl(ttl, 3)) RETURN_THROWS();
  if (values == NULL) {
    zval nothing;
    ZVAL_NULL(&nothing);
    RETURN_BOOL(store_one(function, key, value != NULL ? value : &nothing, ttl));
  }
  array_init(return_value);
  zend_ulong number;
  ZEND_HASH_FOREACH_KEY_VAL(values, number, key, value) {
    zend_string *name = key != NULL ? zend_string_copy(key) : zend_long_to_str((zend_long)number);
    ZVAL_DEREF(value);
    if (!store_one(function, name, value, ttl)) add_assoc_long_ex(return_value, ZSTR_VAL(name), ZSTR_LEN(name), -1);
    zend_string_release(name);
    if (EG(exception) != NULL) return;
  }
  ZEND_HASH_FOREACH_END();
}

PHP_FUNCTION(memstream_store) { store(INTERNAL_FUNCTION_PARAM_PASSTHRU, memstream_set); }
PHP_FUNCTION(memstream_add) { store(INTERNAL_FUNCTION_PARAM_PASSTHRU, memstream_add); }
PHP_FUNCTION(memstream_replace) { store(INTERNAL_FUNCTION_PARAM_PASSTHRU, memstream_replace); }

typedef int (*Ask)(memstream_t *, const void *, size_t);

static bool ask(Ask function, zend_string *key) {
  memstream_t *cache = opened();
  return cache != NULL && succeeded(function(cache, ZSTR_VAL(key), ZSTR_LEN(key)));
}

/* With an array: the keys that failed, of memstream_delete(); the keys that are there, of memstream_exists(). */
static void for_keys(INTERNAL_FUNCTION_PARAMETERS, Ask function, bool listed) {
  zend_string *key = NULL;
  HashTable *keys = NULL;
  ZEND_PARSE_PARAMETERS_START(1, 1)
  Z_PARAM_ARRAY_HT_OR_STR(keys, key)
  ZEND_PARSE_PARAMETERS_END();
  if (keys == NULL) RETURN_BOOL(ask(function, key));
  array_init(return_value);
  zval *element;
  ZEND_HASH_FOREACH_VAL(keys, element) {
    zend_string *one = zval_get_string(element);
    const bool done = ask(function, one);
    if (done == listed) {
      zval value;
      if (listed) {
        ZVAL_TRUE(&value);
        zend_symtable_update(Z_ARRVAL_P(return_value), one, &value);
      } else {
        ZVAL_STR_COPY(&value, one);
        add_next_index_zval(return_value, &value);
      }
    }
    zend_string_release(one);
  }
  ZEND_HASH_FOREACH_END();
}

PHP_FUNCTION(memstream_delete) { for_keys(INTERNAL_FUNCTION_PARAM_PASSTHRU, memstream_delete, false); }
PHP_FUNCTION(memstream_exists) { for_keys(INTERNAL_FUNCTION_PARAM_PASSTHRU, memstream_exists, true); }

PHP_FUNCTION(memstream_touch) {
  zend_string *key;
  zend_long ttl = 0;
  ZEND_PARSE_PARAMETERS_START(1, 2)
  Z_PARAM_STR(key)
  Z_PARAM_OPTIONAL
  Z_PARAM_LONG(ttl)
  ZEND_PARSE_PARAMETERS_END();
  if (!valid_ttl(ttl, 2)) RETURN_THROWS();
  memstream_t *cache = opened();
  RETURN_BOOL(cache != NULL && succeeded(memstream_touch(cache, ZSTR_VAL(key), ZSTR_LEN(key), milliseconds(ttl))));
}

/* Adds to a number. A missing one begins at 0, as an int of PHP. */
static int add_to(memstream_t *cache, zend_string *key, zend_long step, zend_long ttl, int64_t *sum) {
  for (;;) {
    int status = memstream_incr(cache, ZSTR_VAL(key), ZSTR_LEN(key), step, NULL, 0, sum);
    if (status != CACHE_MISS) return status;
    zend_string *text = zend_long_to_str(step);
    status =
        memstream_add(cache, ZSTR_VAL(key), ZSTR_LEN(key), ZSTR_VAL(text), ZSTR_LEN(text), milliseconds(ttl), kIsInt);
    zend_string_release(text);
    *sum = step;
    if (status != CACHE_EXISTS) return status; /* Else another process was faster: count on its number. */
  }
}

static void count(INTERNAL_FUNCTION_PARAMETERS, bool up) {
  zend_string *key;
  zend_long step = 1;
  zval *success = NULL;
  zend_long ttl = 0;
  ZEND_PARSE_PARAMETERS_START(1, 4)
  Z_PARAM_STR(key)
  Z_PARAM_OPTIONAL
  Z_PARAM_LONG(step)
  Z_PARAM_ZVAL(success)
  Z_PARAM_LONG(ttl)
  ZEND_PARSE_PARAMETERS_END();
  if (!valid_ttl(ttl, 4)) RETURN_THROWS();
  if (!up && step == ZEND_LONG_MIN) {
    zend_argument_value_error(2, "must be greater than the least int");
    RETURN_THROWS();
  }
  memstream_t *cache = opened();
  int64_t sum = 0;
  const bool done = cache != NULL && succeeded(add_to(cache, key, up ? step : -step, ttl, &sum));
  if (success != NULL) ZEND_TRY_ASSIGN_REF_BOOL(success, done);
  if (!done) RETURN_FALSE;
  RETURN_LONG(sum);
}

PHP_FUNCTION(memstream_inc) { count(INTERNAL_FUNCTION_PARAM_PASSTHRU, true); }
PHP_FUNCTION(memstream_dec) { count(INTERNAL_FUNCTION_PARAM_PASSTHRU, false); }

PHP_FUNCTION(memstream_cas) {
  zend_string *key;
  zend_long old_number;
  zend_long new_number;
  ZEND_PARSE_PARAMETERS_START(3, 3)
  Z_PARAM_STR(key)
  Z_PARAM_LONG(old_number)
  Z_PARAM_LONG(new_number)
  ZEND_PARSE_PARAMETERS_END();
  memstream_t *cache = opened();
  if (cache == NULL) RETURN_FALSE;
  zend_string *text = zend_long_to_str(new_number);
  int status;
  do {
    zval present;
    memstream_meta_t meta;
    status = fetch(cache, key, &present, &meta);
    if (status != CACHE_OK) break;
    const bool is_old = Z_TYPE(present) == IS_LONG && Z_LVAL(present) == old_number;
    zval_ptr_dtor(&present);
    if (!is_old) {
      status = CACHE_CONFLICT;
      break;
    }
    /* The new number lives as long as the old one would have. */
    cache_stats_t stats = {.struct_size = sizeof stats};
    if (meta.expires_at_ms != 0) status = memstream_stats(cache, &stats);
    if (status != CACHE_OK) break;
    uint64_t ttl = 0;
    if (meta.expires_at_ms != 0) ttl = meta.expires_at_ms > stats.now_ms ? meta.expires_at_ms - stats.now_ms : 1;
    status = memstream_cas(cache, ZSTR_VAL(key), ZSTR_LEN(key), ZSTR_VAL(text), ZSTR_LEN(text), ttl, kIsInt, meta.cas);
  } while (status == CACHE_CONFLICT); /* It has changed since: is it the old number still? */
  zend_string_release(text);
  RETURN_BOOL(succeeded(status));
}

/* Calls the generator with the key. False after an exception. */
static bool generate(zend_fcall_info *call, zend_fcall_info_cache *known, zend_string *key, zval *value) {
  zval argument;
  ZVAL_STR(&argument, key);
  call->retval = value;
  call->params = &argument;
  call->param_count = 1;
  ZVAL_UNDEF(value);
  return zend_call_function(call, known) == SUCCESS && EG(exception) == NULL && Z_TYPE_P(value) != IS_UNDEF;
}

/* Computes under the lease, or without one if it is 0, and stores the value. */
static void compute(memstream_t *cache, zend_fcall_info *call, zend_fcall_info_cache *known, zend_string *key,
                    zend_long ttl, uint64_t lease, zval *value) {
  uint32_t flags = 0;
  zend_string *bytes = generate(call, known, key, value) ? pack(value, &flags) : NULL;
  int status = CACHE_OK;
  if (bytes == NULL) {
    if (lease != 0) memstream_lease_release(cache, ZSTR_VAL(key), ZSTR_LEN(key), lease);
    return;
  }
  if (lease != 0) {
    status = memstream_lease_fulfil(cache, ZSTR_VAL(key), ZSTR_LEN(key), ZSTR_VAL(bytes), ZSTR_LEN(bytes),
                                    milliseconds(ttl), flags, lease);
    if (status < 0) {
      succeeded(status); /* The value is right, though it is not stored. */
      if (MEMSTREAM_G(handle) != NULL) memstream_lease_release(cache, ZSTR_VAL(key), ZSTR_LEN(key), lease);
    }
  } else {
    succeeded(
        memstream_add(cache, ZSTR_VAL(key), ZSTR_LEN(key), ZSTR_VAL(bytes), ZSTR_LEN(bytes), milliseconds(ttl), flags));
  }
  zend_string_release(bytes);
}

PHP_FUNCTION(memstream_entry) {
  zend_string *key;
  zend_fcall_info call;
  zend_fcall_info_cache known;
  zend_long ttl = 0;
  ZEND_PARSE_PARAMETERS_START(2, 3)
  Z_PARAM_STR(key)
  Z_PARAM_FUNC(call, known)
  Z_PARAM_OPTIONAL
  Z_PARAM_LONG(ttl)
  ZEND_PARSE_PARAMETERS_END();
  if (!valid_ttl(ttl, 3)) RETURN_THROWS();
  memstream_t *cache = opened();
  if (cache == NULL) {
    generate(&call, &known, key, return_value);
    return;
  }
  bool alone = false;
  for (;;) {
    memstream_meta_t meta;
    uint64_t lease = 0;
    int status = fetch(cache, key, return_value, &meta);
    if (status == CACHE_OK || EG(exception) != NULL) return;
    if (status == CACHE_MISS && !alone) status = memstream_lease(cache, ZSTR_VAL(key), ZSTR_LEN(key), 0, 0, &lease);
    if (status == CACHE_EXISTS) continue;
    if (status == CACHE_HELD) {
      uint64_t followed = 0;
      status = memstream_lease_follow(cache, ZSTR_VAL(key), ZSTR_LEN(key), &followed, kEntryWaitMs);
      /* CACHE_MISS: the holder died. Otherwise the value is there, or the holder had none or is too slow. */
      alone = status != CACHE_MISS;
      if (status >= 0) continue;
    }
    if (status < 0) {
      succeeded(status);
      generate(&call, &known, key, return_value);
    } else {
      compute(cache, &call, &known, key, ttl, lease, return_value);
    }
    return;
  }
}

PHP_FUNCTION(memstream_clear_cache) {
  ZEND_PARSE_PARAMETERS_NONE();
  memstream_t *cache = opened();
  RETURN_BOOL(cache != NULL && succeeded(memstream_clear(cache)));
}

PHP_FUNCTION(memstream_key_info) {
  zend_string *key;
  ZEND_PARSE_PARAMETERS_START(1, 1)
  Z_PARAM_STR(key)
  ZEND_PARSE_PARAMETERS_END();
  memstream_t *cache = opened();
  memstream_entry_t entry;
  if (cache == NULL || !succeeded(memstream_entry_info(cache, ZSTR_VAL(key), ZSTR_LEN(key), &entry))) RETURN_NULL();
  array_init(return_value);
  add_assoc_long(return_value, "size", (zend_long)entry.value_size);
  add_assoc_long(return_value, "access_count", (zend_long)entry.access_count);
  add_assoc_double(return_value, "creation_time", (double)entry.created_at_ms / 1000);
  add_assoc_double(return_value, "expiration_time", (double)entry.expires_at_ms / 1000);
}

PHP_FUNCTION(memstream_cache_info) {
  ZEND_PARSE_PARAMETERS_NONE();
  memstream_t *cache = opened();
  cache_stats_t stats = {.struct_size = sizeof stats};
  if (cache == NULL || !succeeded(memstream_stats(cache, &stats))) RETURN_FALSE;
  array_init(return_value);
  add_assoc_long(return_value, "num_entries", (zend_long)stats.entries);
  add_assoc_long(return_value, "num_hits", (zend_long)stats.hits);
  add_assoc_long(return_value, "num_misses", (zend_long)stats.misses);
  add_assoc_long(return_value, "num_inserts", (zend_long)stats.puts);
  add_assoc_long(return_value, "mem_size", (zend_long)stats.used_memory);
  add_assoc_long(return_value, "max_value_size", (zend_long)stats.max_value_size);
  add_assoc_long(return_value, "processes", (zend_long)stats.processes);
  add_assoc_long(return_value, "dead_processes", (zend_long)stats.dead_processes);
}

PHP_FUNCTION(memstream_destroy) {
  ZEND_PARSE_PARAMETERS_NONE();
  memstream_t *cache = opened();
  if (cache == NULL || !succeeded(memstream_destroy(cache))) RETURN_FALSE;
  memstream_close(MEMSTREAM_G(handle));
  MEMSTREAM_G(handle) = NULL;
  RETURN_TRUE;
}

PHP_FUNCTION(memstream_last_status) {
  ZEND_PARSE_PARAMETERS_NONE();
  RETURN_LONG(MEMSTREAM_G(last_status));
}

/* ---- The module ---- */

ZEND_BEGIN_ARG_INFO_EX(arguments_fetch, 0, 0, 1)
ZEND_ARG_INFO(0, key)
ZEND_ARG_INFO_WITH_DEFAULT_VALUE(1, success, "null")
ZEND_END_ARG_INFO()
ZEND_BEGIN_ARG_INFO_EX(arguments_store, 0, 0, 1)
ZEND_ARG_INFO(0, key)
ZEND_ARG_INFO_WITH_DEFAULT_VALUE(0, value, "null")
ZEND_ARG_INFO_WITH_DEFAULT_VALUE(0, ttl, "0")
ZEND_END_ARG_INFO()
ZEND_BEGIN_ARG_INFO_EX(arguments_key, 0, 0, 1)
ZEND_ARG_INFO(0, key)
ZEND_END_ARG_INFO()
ZEND_BEGIN_ARG_INFO_EX(arguments_touch, 0, 0, 1)
ZEND_ARG_INFO(0, key)
ZEND_ARG_INFO_WITH_DEFAULT_VALUE(0, ttl, "0")
ZEND_END_ARG_INFO()
ZEND_BEGIN_ARG_INFO_EX(arguments_count, 0, 0, 1)
ZEND_ARG_INFO(0, key)
ZEND_ARG_INFO_WITH_DEFAULT_VALUE(0, step, "1")
ZEND_ARG_INFO_WITH_DEFAULT_VALUE(1, success, "null")
ZEND_ARG_INFO_WITH_DEFAULT_VALUE(0, ttl, "0")
ZEND_END_ARG_INFO()
ZEND_BEGIN_ARG_INFO_EX(arguments_cas, 0, 0, 3)
ZEND_ARG_INFO(0, key)
ZEND_ARG_INFO(0, old)
ZEND_ARG_INFO(0, new)
ZEND_END_ARG_INFO()
ZEND_BEGIN_ARG_INFO_EX(arguments_entry, 0, 0, 2)
ZEND_ARG_INFO(0, key)
ZEND_ARG_INFO(0, generator)
ZEND_ARG_INFO_WITH_DEFAULT_VALUE(0, ttl, "0")
ZEND_END_ARG_INFO()
ZEND_BEGIN_ARG_INFO_EX(arguments_none, 0, 0, 0)
ZEND_END_ARG_INFO()

static const zend_function_entry kFunctions[] = {
    PHP_FE(memstream_fetch, arguments_fetch) PHP_FE(memstream_store, arguments_store)
        PHP_FE(memstream_add, arguments_store) PHP_FE(memstream_replace, arguments_store)
            PHP_FE(memstream_delete, arguments_key) PHP_FE(memstream_exists, arguments_key)
                PHP_FE(memstream_touch, arguments_touch) PHP_FE(memstream_inc, arguments_count)
                    PHP_FE(memstream_dec, arguments_count) PHP_FE(memstream_cas, arguments_cas)
                        PHP_FE(memstream_entry, arguments_entry) PHP_FE(memstream_clear_cache, arguments_none)
                            PHP_FE(memstream_key_info, arguments_key) PHP_FE(memstream_cache_info, arguments_none)
                                PHP_FE(memstream_destroy, arguments_none) PHP_FE(memstream_last_status, arguments_none)
                                    PHP_FE_END};

static PHP_MINIT_FUNCTION(memstream) {
  (void)type;
  REGISTER_INI_ENTRIES();
  return SUCCESS;
}

static PHP_MSHUTDOWN_FUNCTION(memstream) {
  (void)type;
  memstream_close(MEMSTREAM_G(handle));
  MEMSTREAM_G(handle) = NULL;
  UNREGISTER_INI_ENTRIES();
  return SUCCESS;
}

static PHP_MINFO_FUNCTION(memstream) {
  php_info_print_table_start();
  php_info_print_table_row(2, "MemStream", cache_version());
  php_info_print_table_end();
  DISPLAY_INI_ENTRIES();
}

zend_module_entry memstream_module_entry = {
    STANDARD_MODULE_HEADER,
    "memstream",
    kFunctions,
    PHP_MINIT(memstream),
    PHP_MSHUTDOWN(memstream),
    NULL,
    NULL,
    PHP_MINFO(memstream),
    MEMSTREAM_VERSION,
    PHP_MODULE_GLOBALS(memstream),
    NULL,
    NULL,
    NULL,
    STANDARD_MODULE_PROPERTIES_EX,
};

ZEND_GET_MODULE(memstream)
