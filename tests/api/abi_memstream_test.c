/*
 * api/memstream.h as a C program uses it: C11, no warnings, over whatever backend MEMSTREAM_BACKEND names.
 */
#define _POSIX_C_SOURCE 200809L

#include <time.h>

#include "api/memstream.h"
#include "tests/support/abi_check.h"

static memstream_t *open_with(uint32_t flags) {
  memstream_options_t options;
  memstream_t *cache = NULL;
  memstream_options_init(&options);
  options.flags = flags;
  EXPECT(memstream_open(&options, &cache), CACHE_OK);
  if (cache == NULL) exit(1);
  return cache;
}

static void opening(void) {
  memstream_options_t options;
  memstream_t *cache = (memstream_t *)&options;
  memstream_options_init(&options);
  options.name = "abi-test-absent";
  options.flags = MEMSTREAM_OPEN_EXISTING;
  EXPECT(memstream_open(&options, &cache), CACHE_NO_SEGMENT);
  CHECK(cache == NULL);
  EXPECT(memstream_destroy_named(&options), CACHE_NO_SEGMENT);
  options.struct_size = 1;
  EXPECT(memstream_open(&options, &cache), CACHE_INVALID);
  options.struct_size = sizeof options;
  options.flags = 64;
  EXPECT(memstream_open(&options, &cache), CACHE_INVALID);
  SAYS("Invalid options.flags 0x40: expected bits of 0x7.");
  EXPECT(memstream_open(NULL, NULL), CACHE_INVALID);
  EXPECT(memstream_close(NULL), CACHE_OK);
  memstream_options_init(NULL);
}

static void entries(memstream_t *cache) {
  const char key[] = {'a', '\0', 'b'};
  const int64_t initial = 40;
  char room[16];
  size_t size = sizeof room;
  int64_t number = 0;
  memstream_meta_t meta;
  memstream_entry_t entry;
  EXPECT(memstream_set(cache, key, 3, "1\0002", 3, 0, 77), CACHE_OK);
  EXPECT(memstream_get(cache, key, 3, room, &size, &meta), CACHE_OK);
  CHECK(size == 3 && memcmp(room, "1\0002", 3) == 0);
  CHECK(meta.flags == 77 && meta.expires_at_ms == 0 && meta.created_at_ms != 0);
  EXPECT(memstream_get(cache, key, 1, room, &size, NULL), CACHE_MISS);
  EXPECT(memstream_add(cache, key, 3, "x", 1, 0, 0), CACHE_EXISTS);
  EXPECT(memstream_cas(cache, key, 3, "y", 1, 60000, 5, meta.cas), CACHE_OK);
  EXPECT(memstream_cas(cache, key, 3, "z", 1, 0, 0, meta.cas), CACHE_CONFLICT);
  EXPECT(memstream_replace(cache, "absent", 6, "x", 1, 0, 0), CACHE_MISS);
  EXPECT(memstream_entry_info(cache, key, 3, &entry), CACHE_OK);
  CHECK(entry.key_size == 3 && memcmp(entry.key, key, 3) == 0 && entry.value_size == 1 && entry.flags == 5);
  CHECK(entry.expires_at_ms > entry.created_at_ms && entry.is_valid == 1 && entry.access_count == 1);
  EXPECT(memstream_touch(cache, key, 3, 0), CACHE_OK);
  EXPECT(memstream_entry_info(cache, key, 3, &entry), CACHE_OK);
  CHECK(entry.expires_at_ms == 0);
  size = sizeof room;
  EXPECT(memstream_get_and_touch(cache, key, 3, 60000, room, &size, &meta), CACHE_OK);
  CHECK(size == 1 && room[0] == 'y' && meta.flags == 5 && meta.expires_at_ms > meta.created_at_ms);
  EXPECT(memstream_exists(cache, key, 3), CACHE_OK);
  EXPECT(memstream_delete(cache, key, 3), CACHE_OK);
  EXPECT(memstream_exists(cache, key, 3), CACHE_MISS);
  EXPECT(memstream_entry_info(cache, key, 3, &entry), CACHE_MISS);
  EXPECT(memstream_incr(cache, "n", 1, 2, NULL, 0, &number), CACHE_MISS);
  EXPECT(memstream_incr(cache, "n", 1, 2, &initial, 0, &number), CACHE_OK);
  CHECK(number == 42);
  EXPECT(memstream_set(cache, "n", 1, "text", 4, 0, 0), CACHE_OK);
  EXPECT(memstream_incr(cache, "n", 1, 2, NULL, 0, NULL), CACHE_NOT_NUMERIC);
}

static void expiry(memstream_t *cache) {
  const struct timespec pause = {.tv_sec = 0, .tv_nsec = 80 * 1000 * 1000};
  EXPECT(memstream_set(cache, "short", 5, "v", 1, 20, 0), CACHE_OK);
  EXPECT(memstream_set(cache, "long", 4, "v", 1, UINT64_MAX, 0), CACHE_OK);
  nanosleep(&pause, NULL);
  EXPECT(memstream_exists(cache, "short", 5), CACHE_MISS);
  EXPECT(memstream_exists(cache, "long", 4), CACHE_OK);
}

static void null_pointers(memstream_t *cache) {
  char room[8];
  size_t size = sizeof room;
  uint64_t cursor = 0;
  memstream_view_t view;
  memstream_reservation_t reservation;
  memstream_entry_t entry;
  EXPECT(memstream_get(NULL, "k", 1, room, &size, NULL), CACHE_INVALID);
  EXPECT(memstream_get(cache, NULL, 1, room, &size, NULL), CACHE_INVALID);
  EXPECT(memstream_get(cache, "k", 1, NULL, &size, NULL), CACHE_INVALID);
  EXPECT(memstream_get(cache, "k", 1, room, NULL, NULL), CACHE_INVALID);
  EXPECT(memstream_set(cache, "k", 1, NULL, 1, 0, 0), CACHE_INVALID);
  EXPECT(memstream_set(cache, NULL, 1, "v", 1, 0, 0), CACHE_INVALID);
  EXPECT(memstream_delete(cache, NULL, 1), CACHE_INVALID);
  EXPECT(memstream_delete(cache, "k", 0), CACHE_BAD_KEY);
  EXPECT(memstream_touch(NULL, "k", 1, 0), CACHE_INVALID);
  EXPECT(memstream_get_and_touch(NULL, "k", 1, 0, room, &size, NULL), CACHE_INVALID);
  EXPECT(memstream_get_and_touch(cache, NULL, 1, 0, room, &size, NULL), CACHE_INVALID);
  EXPECT(memstream_get_and_touch(cache, "k", 1, 0, NULL, &size, NULL), CACHE_INVALID);
  EXPECT(memstream_get_and_touch(cache, "k", 1, 0, room, NULL, NULL), CACHE_INVALID);
  EXPECT(memstream_incr(NULL, "k", 1, 1, NULL, 0, NULL), CACHE_INVALID);
  EXPECT(memstream_exists(cache, NULL, 1), CACHE_INVALID);
  EXPECT(memstream_clear(NULL), CACHE_INVALID);
  EXPECT(memstream_view(cache, "k", 1, NULL), CACHE_INVALID);
  EXPECT(memstream_view(NULL, "k", 1, &view), CACHE_INVALID);
  EXPECT(memstream_release(cache, NULL), CACHE_INVALID);
  EXPECT(memstream_reserve(cache, NULL, 1, 1, &reservation), CACHE_INVALID);
  EXPECT(memstream_commit(cache, NULL, 0, 0), CACHE_INVALID);
  EXPECT(memstream_abort(cache, NULL), CACHE_INVALID);
  EXPECT(memstream_scan(cache, NULL, &entry, 1, &size), CACHE_INVALID);
  EXPECT(memstream_scan(cache, &cursor, NULL, 1, &size), CACHE_INVALID);
  EXPECT(memstream_scan(cache, &cursor, &entry, 0, &size), CACHE_INVALID);
  SAYS("Invalid capacity 0: expected an array of at least one entry.");
  EXPECT(memstream_stats(cache, NULL), CACHE_INVALID);
  EXPECT(memstream_info(cache, NULL), CACHE_INVALID);
  EXPECT(memstream_processes(cache, NULL, 1, &size), CACHE_INVALID);
  EXPECT(memstream_check(cache, NULL), CACHE_INVALID);
  EXPECT(memstream_destroy(NULL), CACHE_INVALID);
}

static void views(memstream_t *cache) {
  memstream_view_t view, copy, many[200];
  char *large = malloc(100000);
  size_t i;
  memset(large, 'x', 100000);
  EXPECT(memstream_set(cache, "key", 3, large, 100000, 0, 9), CACHE_OK);
  EXPECT(memstream_view(cache, "key", 3, &view), CACHE_OK);
  CHECK(view.size == 100000 && view.meta.flags == 9 && (uintptr_t)view.data % 64 == 0);
  EXPECT(memstream_delete(cache, "key", 3), CACHE_OK);
  CHECK(memcmp(view.data, large, 100000) == 0);
  copy = view;
  EXPECT(memstream_release(cache, &view), CACHE_OK);
  CHECK(view.data == NULL && view.size == 0);
  EXPECT(memstream_release(cache, &view), CACHE_BAD_HANDLE);
  EXPECT(memstream_release(cache, &copy), CACHE_BAD_HANDLE);
  EXPECT(memstream_view(cache, "key", 3, &view), CACHE_MISS);

  /* More views than the table of pins holds: the library copies what it cannot pin. */
  EXPECT(memstream_set(cache, "key", 3, large, 100000, 0, 0), CACHE_OK);
  for (i = 0; i < 200; ++i) EXPECT(memstream_view(cache, "key", 3, &many[i]), CACHE_OK);
  EXPECT(memstream_set(cache, "key", 3, "new", 3, 0, 0), CACHE_OK);
  for (i = 0; i < 200; ++i) {
    CHECK(many[i].size == 100000 && memcmp(many[i].data, large, 100000) == 0);
    EXPECT(memstream_release(cache, &many[i]), CACHE_OK);
  }
  free(large);
}

static void reservations(memstream_t *cache) {
  memstream_reservation_t first, second, used;
  char room[8];
  size_t size = sizeof room;
  EXPECT(memstream_reserve(cache, "r", 1, 5, &first), CACHE_OK);
  EXPECT(memstream_exists(cache, "r", 1), CACHE_MISS);
  memcpy(first.data, "value", 5);
  used = first;
  EXPECT(memstream_commit(cache, &first, 0, 3), CACHE_OK);
  CHECK(first.data == NULL && first.token == 0);
  EXPECT(memstream_get(cache, "r", 1, room, &size, NULL), CACHE_OK);
  CHECK(size == 5 && memcmp(room, "value", 5) == 0);
  EXPECT(memstream_commit(cache, &used, 0, 0), CACHE_BAD_HANDLE);
  EXPECT(memstream_reserve(cache, "r", 1, 100, &second), CACHE_OK);
  EXPECT(memstream_abort(cache, &second), CACHE_OK);
  EXPECT(memstream_abort(cache, &second), CACHE_BAD_HANDLE);
  EXPECT(memstream_get(cache, "r", 1, room, &size, NULL), CACHE_OK);
}

/* Tokens of the one kind where the other is meant, and a key size that no key has. */
static void mistaken_reservations(memstream_t *cache) {
  memstream_reservation_t reservation, mistaken = {0};
  memstream_view_t view = {0};
  EXPECT(memstream_reserve(cache, "r", 1, 5, &reservation), CACHE_OK);
  view.token = reservation.token;
  EXPECT(memstream_release(cache, &view), CACHE_BAD_HANDLE);
  memcpy(reservation.data, "whole", 5);
  EXPECT(memstream_commit(cache, &reservation, 0, 0), CACHE_OK);
  EXPECT(memstream_reserve(cache, "r", SIZE_MAX, 5, &mistaken), CACHE_BAD_KEY);
  EXPECT(memstream_reserve(cache, "r", 0, 5, &mistaken), CACHE_BAD_KEY);
}

static void scans(memstream_t *cache) {
  memstream_entry_t found[7];
  uint64_t cursor = 0;
  size_t count = 0, total = 0, i;
  char key[16];
  int seen[100] = {0};
  cache_stats_t stats = {.struct_size = sizeof stats};
  EXPECT(memstream_clear(cache), CACHE_OK);
  for (i = 0; i < 100; ++i) {
    const int length = snprintf(key, sizeof key, "%zu", i);
    EXPECT(memstream_set(cache, key, (size_t)length, "v", 1, 0, 0), CACHE_OK);
  }
  do {
    EXPECT(memstream_scan(cache, &cursor, found, 7, &count), CACHE_OK);
    for (i = 0; i < count; ++i) ++seen[atoi(found[i].key)];
    total += count;
  } while (cursor != 0);
  CHECK(total == 100);
  for (i = 0; i < 100; ++i) CHECK(seen[i] == 1);
  EXPECT(memstream_stats(cache, &stats), CACHE_OK);
  CHECK(stats.entries == 100 && stats.value_memory == 100 && stats.key_memory == 190);
}

static void looking(memstream_t *cache) {
  memstream_info_t info = {.struct_size = sizeof info};
  memstream_process_t processes[4];
  size_t count = 0, i;
  int is_there = 0;
  uint64_t problems = 1;
  const char *backend = getenv("MEMSTREAM_BACKEND");
  EXPECT(memstream_info(cache, &info), CACHE_OK);
  CHECK(strcmp(info.backend, backend == NULL ? "posix" : backend) == 0);
  CHECK(strcmp(info.name, getenv("MEMSTREAM_NAME")) == 0);
  CHECK(info.size_bytes == 4u << 20 && info.read_only == 0);
  info.struct_size = 0;
  EXPECT(memstream_info(cache, &info), CACHE_INVALID);
  SAYS("Invalid memstream_info_t.struct_size");
  EXPECT(memstream_processes(cache, NULL, 0, &count), CACHE_OK);
  CHECK(count >= 1 && count <= 4);
  EXPECT(memstream_processes(cache, processes, 4, &count), CACHE_OK);
  for (i = 0; i < count; ++i) is_there |= processes[i].pid == (uint32_t)getpid();
  CHECK(is_there);
  EXPECT(memstream_check(cache, &problems), CACHE_OK);
  CHECK(problems == 0);
}

static void reading_only(memstream_t *writer) {
  memstream_t *reader = open_with(MEMSTREAM_OPEN_READ_ONLY);
  memstream_view_t view;
  memstream_reservation_t reservation;
  memstream_entry_t found[4];
  cache_stats_t stats = {.struct_size = sizeof stats};
  uint64_t cursor = 0, problems = 0;
  char room[8];
  size_t size = sizeof room, count = 0;
  EXPECT(memstream_clear(writer), CACHE_OK);
  EXPECT(memstream_set(writer, "key", 3, "value", 5, 0, 4), CACHE_OK);
  EXPECT(memstream_get(reader, "key", 3, room, &size, NULL), CACHE_OK);
  CHECK(size == 5 && memcmp(room, "value", 5) == 0);
  EXPECT(memstream_view(reader, "key", 3, &view), CACHE_OK);
  EXPECT(memstream_set(writer, "key", 3, "other", 5, 0, 0), CACHE_OK);
  CHECK(view.size == 5 && memcmp(view.data, "value", 5) == 0 && view.meta.flags == 4);
  EXPECT(memstream_release(reader, &view), CACHE_OK);
  EXPECT(memstream_scan(reader, &cursor, found, 4, &count), CACHE_OK);
  CHECK(count == 1 && cursor == 0 && strcmp(found[0].key, "key") == 0);
  EXPECT(memstream_stats(reader, &stats), CACHE_OK);
  CHECK(stats.entries == 1);
  EXPECT(memstream_set(reader, "key", 3, "v", 1, 0, 0), CACHE_READ_ONLY);
  EXPECT(memstream_add(reader, "new", 3, "v", 1, 0, 0), CACHE_READ_ONLY);
  EXPECT(memstream_delete(reader, "key", 3), CACHE_READ_ONLY);
  EXPECT(memstream_touch(reader, "key", 3, 0), CACHE_READ_ONLY);
  EXPECT(memstream_incr(reader, "key", 3, 1, NULL, 0, NULL), CACHE_READ_ONLY);
  EXPECT(memstream_reserve(reader, "key", 3, 1, &reservation), CACHE_READ_ONLY);
  EXPECT(memstream_clear(reader), CACHE_READ_ONLY);
  EXPECT(memstream_check(reader, &problems), CACHE_READ_ONLY);
  EXPECT(memstream_destroy(reader), CACHE_READ_ONLY);
  EXPECT(memstream_close(reader), CACHE_OK);
}

static void closing_with_views(memstream_t *other) {
  memstream_t *cache = open_with(0);
  memstream_view_t view;
  memstream_reservation_t reservation;
  cache_stats_t stats = {.struct_size = sizeof stats};
  EXPECT(memstream_set(cache, "key", 3, "value", 5, 0, 0), CACHE_OK);
  EXPECT(memstream_view(cache, "key", 3, &view), CACHE_OK);
  EXPECT(memstream_delete(cache, "key", 3), CACHE_OK);
  EXPECT(memstream_reserve(cache, "r", 1, 1000, &reservation), CACHE_OK);
  EXPECT(memstream_stats(other, &stats), CACHE_OK);
  CHECK(stats.pinned_memory > 1000);
  EXPECT(memstream_close(cache), CACHE_OK);
  EXPECT(memstream_stats(other, &stats), CACHE_OK);
  CHECK(stats.pinned_memory == 0);
}

static memstream_t *inherited;
static memstream_view_t inherited_view;
static memstream_reservation_t inherited_reservation;

static void use_what_the_parent_holds(void) {
  memstream_view_t view = inherited_view;
  memstream_reservation_t reservation = inherited_reservation;
  EXPECT(memstream_release(inherited, &view), CACHE_BAD_HANDLE);
  EXPECT(memstream_commit(inherited, &reservation, 0, 0), CACHE_BAD_HANDLE);
  EXPECT(memstream_view(inherited, "key", 3, &view), CACHE_OK);
  EXPECT(memstream_release(inherited, &view), CACHE_OK);
}

static void views_and_fork(memstream_t *cache) {
  inherited = cache;
  EXPECT(memstream_set(cache, "key", 3, "value", 5, 0, 0), CACHE_OK);
  EXPECT(memstream_view(cache, "key", 3, &inherited_view), CACHE_OK);
  EXPECT(memstream_reserve(cache, "r", 1, 10, &inherited_reservation), CACHE_OK);
  IN_CHILD(use_what_the_parent_holds);
  CHECK(memcmp(inherited_view.data, "value", 5) == 0);
  EXPECT(memstream_release(cache, &inherited_view), CACHE_OK);
  EXPECT(memstream_abort(cache, &inherited_reservation), CACHE_OK);
}

static void destroying(memstream_t *cache) {
  memstream_view_t view;
  EXPECT(memstream_set(cache, "key", 3, "value", 5, 0, 0), CACHE_OK);
  EXPECT(memstream_view(cache, "key", 3, &view), CACHE_OK);
  EXPECT(memstream_destroy(cache), CACHE_OK);
  EXPECT(memstream_exists(cache, "key", 3), CACHE_GONE);
  EXPECT(memstream_destroy(cache), CACHE_NO_SEGMENT);
  CHECK(memcmp(view.data, "value", 5) == 0); /* The memory goes with the handle. */
  EXPECT(memstream_close(cache), CACHE_OK);
}

int main(void) {
  memstream_t *cache;
  use_own_cache("abi-memstream-test");
  opening();
  cache = open_with(0);
  entries(cache);
  expiry(cache);
  null_pointers(cache);
  views(cache);
  reservations(cache);
  mistaken_reservations(cache);
  scans(cache);
  looking(cache);
  reading_only(cache);
  closing_with_views(cache);
  views_and_fork(cache);
  looking(cache);
  destroying(cache);
  return finish();
}
