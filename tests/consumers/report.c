/* A program that embeds MemStream by the interface for C. */
#include <memstream/memstream.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void) {
  memstream_options_t options;
  memstream_t *cache = NULL;
  char name[32], value[8];
  size_t size = sizeof value;
  memstream_options_init(&options);
  snprintf(name, sizeof name, "report-%ld", (long)getpid());
  options.name = name;
  options.size_bytes = 1 << 20;
  if (memstream_open(&options, &cache) != CACHE_OK) return fprintf(stderr, "%s\n", cache_last_error());
  const int is_found = memstream_set(cache, "key", 3, "value", 5, 0, 0) == CACHE_OK &&
                       memstream_get(cache, "key", 3, value, &size, NULL) == CACHE_OK && memcmp(value, "value", 5) == 0;
  const int is_removed = memstream_destroy(cache) == CACHE_OK;
  memstream_close(cache);
  return is_found && is_removed ? 0 : 1;
}
