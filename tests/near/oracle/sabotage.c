/*
 * Seeded bugs of the near cache, to be preloaded: the oracle has to notice each. MEMSTREAM_TEST_SABOTAGE says which.
 *
 *   tokens      an answer is stored although its key was invalidated meanwhile
 *   epochs      entries of an epoch that is over are served
 *   heartbeat   entries are served however long nothing was heard
 *   delete      a writer does not remove the local copy
 *
 * libmemstream_near.so calls the functions below where it means those of libcache.so.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "api/memstream_near_core.h"

static int is_seeded(const char *bug) {
  const char *chosen = getenv("MEMSTREAM_TEST_SABOTAGE");
  return chosen != NULL && strcmp(chosen, bug) == 0;
}

/* The function of the libcache.so that the process has loaded already. */
static void *real(const char *name) {
  const char *path = getenv("MEMSTREAM_LIBRARY");
  void *library = path == NULL ? NULL : dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
  void *function = library == NULL ? NULL : dlsym(library, name);
  if (function != NULL) return function;
  fprintf(stderr, "no %s in MEMSTREAM_LIBRARY '%s'\n", name, path == NULL ? "" : path);
  abort();
}

#define REAL(name)                       \
  static __typeof__(&name) function;     \
  if (function == NULL) {                \
    *(void **)(&function) = real(#name); \
  }

int memstream_near_core_store(memstream_t *cache, uint32_t server, const void *key, size_t key_size, const void *value,
                              size_t value_size, uint64_t ttl_ms, uint32_t flags, uint64_t token) {
  REAL(memstream_near_core_store)
  if (is_seeded("tokens")) memstream_near_core_begin(cache, server, key, key_size, &token);
  return function(cache, server, key, key_size, value, value_size, ttl_ms, flags, token);
}

int memstream_near_core_begin(memstream_t *cache, uint32_t server, const void *key, size_t key_size, uint64_t *token) {
  REAL(memstream_near_core_begin)
  return function(cache, server, key, key_size, token);
}

int memstream_near_core_advance(memstream_t *cache, uint32_t server) {
  REAL(memstream_near_core_advance)
  if (is_seeded("epochs")) {
    static __typeof__(&memstream_near_core_state) state_of;
    memstream_near_core_state_t state = {.struct_size = sizeof state};
    if (state_of == NULL) *(void **)(&state_of) = real("memstream_near_core_state");
    if (state_of(cache, server, &state) == CACHE_OK && state.epoch != 0) return CACHE_OK;
  }
  return function(cache, server);
}

int memstream_near_core_get(memstream_t *cache, uint32_t server, const void *key, size_t key_size, void *value,
                            size_t *value_size, memstream_near_core_meta_t *meta, uint64_t max_lag_ms) {
  REAL(memstream_near_core_get)
  if (is_seeded("heartbeat")) max_lag_ms = (uint64_t)1 << 40;
  return function(cache, server, key, key_size, value, value_size, meta, max_lag_ms);
}

int memstream_near_core_invalidate(memstream_t *cache, uint32_t server, const void *key, size_t key_size) {
  REAL(memstream_near_core_invalidate)
  char thread[16] = "";
  prctl(PR_GET_NAME, thread);
  if (is_seeded("delete") && strncmp(thread, "memstream-near", sizeof thread - 1) != 0) return CACHE_OK;
  return function(cache, server, key, key_size);
}
