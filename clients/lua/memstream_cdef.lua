-- The C interface for LuaJIT, as far as memstream.lua uses it. tests/lua_cdef_test.py compares each declaration with
-- api/*.h.
local ffi = require "ffi"

ffi.cdef [[
typedef struct memstream_handle memstream_t;

typedef struct memstream_options {
  size_t struct_size;
  const char *backend;
  const char *name;
  uint64_t size_bytes;
  uint32_t shards;
  uint32_t mode;
  int64_t timeout_ms;
  uint32_t flags;
  uint32_t reserved;
  const char *hugepages;
  const char *prefault;
  const char *group;
  uint64_t max_value;
  const char *owner;
  const char *checksum;
} memstream_options_t;

typedef struct memstream_meta {
  uint64_t cas;
  uint64_t created_at_ms;
  uint64_t expires_at_ms;
  uint32_t flags;
  uint32_t reserved;
} memstream_meta_t;

typedef struct memstream_item {
  const void *key;
  size_t key_size;
  const void *value;
  size_t value_size;
  uint64_t ttl_ms;
  uint64_t cas;
  uint64_t created_at_ms;
  uint64_t expires_at_ms;
  uint32_t flags;
  int32_t status;
} memstream_item_t;

typedef struct memstream_process {
  uint32_t pid;
  uint32_t pins;
  uint64_t start_time;
  uint64_t hits;
  uint64_t misses;
  uint64_t puts;
} memstream_process_t;

const char *cache_strerror(int status);
const char *cache_last_error(void);
const char *cache_version(void);

void memstream_options_init_sized(memstream_options_t *options, size_t size);
int memstream_open(const memstream_options_t *options, memstream_t **cache);
const char *memstream_open_note(memstream_t *cache);
int memstream_close(memstream_t *cache);
int memstream_destroy(memstream_t *cache);

int memstream_get(memstream_t *cache, const void *key, size_t key_size, void *value, size_t *value_size, memstream_meta_t *meta);
int memstream_set(memstream_t *cache, const void *key, size_t key_size, const void *value, size_t value_size, uint64_t ttl_ms, uint32_t flags);
int memstream_add(memstream_t *cache, const void *key, size_t key_size, const void *value, size_t value_size, uint64_t ttl_ms, uint32_t flags);
int memstream_replace(memstream_t *cache, const void *key, size_t key_size, const void *value, size_t value_size, uint64_t ttl_ms, uint32_t flags);
int memstream_cas(memstream_t *cache, const void *key, size_t key_size, const void *value, size_t value_size, uint64_t ttl_ms, uint32_t flags, uint64_t cas);
int memstream_delete(memstream_t *cache, const void *key, size_t key_size);
int memstream_touch(memstream_t *cache, const void *key, size_t key_size, uint64_t ttl_ms);
int memstream_get_and_touch(memstream_t *cache, const void *key, size_t key_size, uint64_t ttl_ms, void *value, size_t *value_size, memstream_meta_t *meta);
int memstream_incr(memstream_t *cache, const void *key, size_t key_size, int64_t delta, const int64_t *initial, uint64_t ttl_ms, int64_t *result);
int memstream_exists(memstream_t *cache, const void *key, size_t key_size);
int memstream_clear(memstream_t *cache);

int memstream_get_many(memstream_t *cache, memstream_item_t *items, size_t count, void *buffer, size_t *buffer_size);
int memstream_set_many(memstream_t *cache, memstream_item_t *items, size_t count);
int memstream_delete_many(memstream_t *cache, memstream_item_t *items, size_t count);

int memstream_lease(memstream_t *cache, const void *key, size_t key_size, uint64_t stale_cas, uint64_t lease_ms, uint64_t *lease);
int memstream_lease_fulfil(memstream_t *cache, const void *key, size_t key_size, const void *value, size_t value_size, uint64_t ttl_ms, uint32_t flags, uint64_t lease);
int memstream_lease_release(memstream_t *cache, const void *key, size_t key_size, uint64_t lease);

int memstream_processes(memstream_t *cache, memstream_process_t *processes, size_t capacity, size_t *count);
]]
