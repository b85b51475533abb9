/* A program of the time of the record. tests/abi/abi_test.py compiles it with the recorded headers, links it
 * against the recorded functions and runs it with the library of the tree. It uses each kind of call and struct. */
#include <memstream/memstream.h>
#include <memstream/memstream_metrics.h>
#include <stdio.h>
#include <string.h>

#define CHECK(condition)                                                     \
  do {                                                                       \
    if (!(condition)) {                                                      \
      printf("line %d: %s: %s\n", __LINE__, #condition, cache_last_error()); \
      return 1;                                                              \
    }                                                                        \
  } while (0)

static int single_keys(memstream_t *cache) {
  char value[16];
  size_t size = sizeof value;
  int64_t counted = 0;
  CHECK(memstream_set(cache, "key", 3, "value", 5, 0, 0) == CACHE_OK);
  CHECK(memstream_get(cache, "key", 3, value, &size, NULL) == CACHE_OK && size == 5 && memcmp(value, "value", 5) == 0);
  CHECK(memstream_get(cache, "none", 4, value, &size, NULL) == CACHE_MISS);
  CHECK(memstream_set(cache, "count", 5, "41", 2, 0, 0) == CACHE_OK);
  CHECK(memstream_incr(cache, "count", 5, 1, NULL, 0, &counted) == CACHE_OK && counted == 42);
  CHECK(memstream_delete(cache, "count", 5) == CACHE_OK);
  return 0;
}

static int in_place(memstream_t *cache) {
  memstream_view_t view;
  memstream_reservation_t space;
  CHECK(memstream_view(cache, "key", 3, &view) == CACHE_OK && view.size == 5 && memcmp(view.data, "value", 5) == 0);
  CHECK(memstream_release(cache, &view) == CACHE_OK);
  CHECK(memstream_reserve(cache, "made", 4, 3, &space) == CACHE_OK);
  memcpy(space.data, "new", 3);
  CHECK(memstream_commit(cache, &space, 0, 0) == CACHE_OK);
  return 0;
}

static int many_keys(memstream_t *cache) {
  char buffer[64];
  size_t buffer_size = sizeof buffer;
  memstream_item_t items[2] = {{.key = "one", .key_size = 3, .value = "first", .value_size = 5},
                               {.key = "two", .key_size = 3, .value = "second", .value_size = 6, .ttl_ms = 60000}};
  CHECK(memstream_set_many(cache, items, 2) == CACHE_OK);
  CHECK(memstream_get_many(cache, items, 2, buffer, &buffer_size) == CACHE_OK);
  CHECK(items[1].status == CACHE_OK && items[1].value_size == 6 && memcmp(items[1].value, "second", 6) == 0);
  return 0;
}

static int statistics(memstream_t *cache) {
  cache_stats_t stats = {.struct_size = sizeof stats};
  memstream_metrics_t metrics = {.struct_size = sizeof metrics};
  CHECK(memstream_stats(cache, &stats) == CACHE_OK && stats.entries == 4);
  CHECK(memstream_metrics(cache, &metrics) == CACHE_OK);
  return 0;
}

int main(void) {
  memstream_options_t options;
  memstream_t *cache;
  memstream_options_init(&options);
  CHECK(options.struct_size == sizeof options);
  options.size_bytes = 4 << 20;
  CHECK(memstream_open(&options, &cache) == CACHE_OK);
  const int wrong = single_keys(cache) || in_place(cache) || many_keys(cache) || statistics(cache);
  CHECK(memstream_destroy(cache) == CACHE_OK);
  CHECK(memstream_close(cache) == CACHE_OK);
  if (!wrong) printf("a program of %d serves with %s\n", MEMSTREAM_VERSION_NUMBER, cache_version());
  return wrong;
}
