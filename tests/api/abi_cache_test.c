/*
 * api/cache.h as a C program uses it: C11, no warnings, over whatever backend MEMSTREAM_BACKEND names.
 */
#define _POSIX_C_SOURCE 200809L

#include "tests/support/abi_check.h"

static cache_stats_t stats_of_connection(void) {
  cache_stats_t stats = {.struct_size = sizeof stats};
  EXPECT(cache_get_stats(&stats), CACHE_OK);
  return stats;
}

static void before_connect(void) {
  char room[8];
  size_t size = sizeof room;
  cache_stats_t stats = {.struct_size = sizeof stats};
  EXPECT(cache_put("key", "value", 5), CACHE_NOT_CONNECTED);
  SAYS("cache_connect()");
  EXPECT(cache_get("key", room, &size), CACHE_NOT_CONNECTED);
  CHECK(size == 0);
  EXPECT(cache_delete("key"), CACHE_NOT_CONNECTED);
  EXPECT(cache_get_stats(&stats), CACHE_NOT_CONNECTED);
  EXPECT(cache_disconnect(), CACHE_NOT_CONNECTED);
  EXPECT(cache_destroy(), CACHE_NO_SEGMENT);
}

static void get_from_another_process(void) {
  char room[64];
  size_t size = sizeof room;
  EXPECT(cache_disconnect(), CACHE_OK);
  EXPECT(cache_connect(), CACHE_OK);
  EXPECT(cache_get("key", room, &size), CACHE_OK);
  CHECK(size == 5 && memcmp(room, "value", 5) == 0);
}

static void original_example(void) {
  EXPECT(cache_connect(), CACHE_OK);
  EXPECT(cache_put("key", "value", 5), CACHE_OK);
  IN_CHILD(get_from_another_process);
}

static void small_buffers(void) {
  char room[8] = "......";
  size_t size = 4;
  EXPECT(cache_put("key", "value", 5), CACHE_OK);
  EXPECT(cache_put("", "value", 5), CACHE_BAD_KEY); /* whose message must not stand for what follows */
  EXPECT(cache_get("key", room, &size), CACHE_TOO_SMALL);
  SAYS("too small");
  CHECK(size == 5);
  CHECK(memcmp(room, "......", 6) == 0);
  EXPECT(cache_get("key", room, &size), CACHE_OK);
  CHECK(size == 5 && memcmp(room, "value.", 6) == 0);
  size = 0;
  EXPECT(cache_get("key", NULL, &size), CACHE_TOO_SMALL);
  CHECK(size == 5);
  size = sizeof room;
  EXPECT(cache_get("absent", room, &size), CACHE_MISS);
  CHECK(size == 0);
  EXPECT(cache_put("empty", NULL, 0), CACHE_OK);
  EXPECT(cache_get("empty", NULL, &size), CACHE_OK);
  CHECK(size == 0);
}

static void bad_arguments(void) {
  char long_key[CACHE_MAX_KEY_SIZE + 2];
  char room[8];
  size_t size = sizeof room;
  cache_stats_t stats = {.struct_size = sizeof stats - 1};
  memset(long_key, 'k', sizeof long_key);
  long_key[CACHE_MAX_KEY_SIZE + 1] = '\0';
  EXPECT(cache_put(NULL, "value", 5), CACHE_INVALID);
  SAYS("Invalid argument NULL: expected pointers for key.");
  EXPECT(cache_put("key", NULL, 5), CACHE_INVALID);
  SAYS("Invalid value NULL: expected a pointer to 5 bytes.");
  EXPECT(cache_put("", "value", 5), CACHE_BAD_KEY);
  EXPECT(cache_put(long_key, "value", 5), CACHE_BAD_KEY);
  SAYS("1025 bytes");
  EXPECT(cache_put(long_key + 1, "value", 5), CACHE_OK);
  EXPECT(cache_get(NULL, room, &size), CACHE_INVALID);
  EXPECT(cache_get("key", room, NULL), CACHE_INVALID);
  EXPECT(cache_get("key", NULL, &size), CACHE_INVALID);
  EXPECT(cache_get("", room, &size), CACHE_BAD_KEY);
  EXPECT(cache_delete(NULL), CACHE_INVALID);
  EXPECT(cache_delete(""), CACHE_BAD_KEY);
  EXPECT(cache_get_stats(NULL), CACHE_INVALID);
  EXPECT(cache_get_stats(&stats), CACHE_INVALID);
  SAYS("struct_size");
}

static void too_large(void) {
  const cache_stats_t before = stats_of_connection();
  const size_t limit = (size_t)before.max_value_size;
  char *value = calloc(1, limit + 1);
  EXPECT(cache_put("k", value, limit + 1), CACHE_TOO_LARGE);
  CHECK(stats_of_connection().evictions == before.evictions);
  CHECK(stats_of_connection().entries == before.entries);
  EXPECT(cache_put("k", value, limit), CACHE_OK);
  EXPECT(cache_delete("k"), CACHE_OK);
  free(value);
}

static void connecting_twice(void) {
  char room[8];
  size_t size = sizeof room;
  EXPECT(cache_put("kept", "1", 1), CACHE_OK);
  EXPECT(cache_connect(), CACHE_OK);
  CHECK(stats_of_connection().processes == 1);
  EXPECT(cache_disconnect(), CACHE_OK);
  EXPECT(cache_disconnect(), CACHE_NOT_CONNECTED);
  EXPECT(cache_connect(), CACHE_OK);
  EXPECT(cache_get("kept", room, &size), CACHE_OK);
  EXPECT(cache_delete("kept"), CACHE_OK);
  EXPECT(cache_delete("kept"), CACHE_MISS);
}

static void destroy_it(void) { EXPECT(cache_destroy(), CACHE_OK); }

static void gone_and_again(void) {
  char room[8];
  size_t size = sizeof room;
  EXPECT(cache_put("key", "value", 5), CACHE_OK);
  IN_CHILD(destroy_it);
  EXPECT(cache_get("key", room, &size), CACHE_GONE);
  EXPECT(cache_put("key", "value", 5), CACHE_GONE);
  SAYS("Connect again");
  EXPECT(cache_connect(), CACHE_OK);
  size = sizeof room;
  EXPECT(cache_get("key", room, &size), CACHE_MISS);
  EXPECT(cache_put("key", "value", 5), CACHE_OK);
  CHECK(stats_of_connection().entries == 1);
}

static void use_inherited_connection(void) {
  char room[8];
  size_t size = sizeof room;
  EXPECT(cache_get("key", room, &size), CACHE_OK);
  EXPECT(cache_put("from child", "1", 1), CACHE_OK);
  CHECK(stats_of_connection().processes == 2);
}

static void after_fork(void) {
  char room[8];
  size_t size = sizeof room;
  IN_CHILD(use_inherited_connection);
  EXPECT(cache_get("from child", room, &size), CACHE_OK);
  CHECK(stats_of_connection().processes == 1);
  CHECK(stats_of_connection().dead_processes >= 1);
}

/* The headers and the library, which has its version from CMakeLists.txt, are of one release. */
static void versions_agree(void) {
  char text[32];
  snprintf(text, sizeof text, "%d.%d.%d", MEMSTREAM_VERSION_MAJOR, MEMSTREAM_VERSION_MINOR, MEMSTREAM_VERSION_PATCH);
  CHECK(strcmp(cache_version(), text) == 0);
  CHECK(memstream_version() == MEMSTREAM_VERSION_NUMBER);
  CHECK(MEMSTREAM_VERSION_NUMBER ==
        MEMSTREAM_VERSION_MAJOR * 10000 + MEMSTREAM_VERSION_MINOR * 100 + MEMSTREAM_VERSION_PATCH);
}

int main(void) {
  use_own_cache("abi-cache-test");
  before_connect();
  original_example();
  small_buffers();
  bad_arguments();
  too_large();
  connecting_twice();
  gone_and_again();
  after_fork();
  EXPECT(cache_destroy(), CACHE_OK);
  EXPECT(cache_disconnect(), CACHE_NOT_CONNECTED);
  versions_agree();
  CHECK(strcmp(cache_strerror(12345), cache_strerror(-12345)) == 0);
  return finish();
}
