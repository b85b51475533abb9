/* A user's program in C: it has to find the installed headers, by new and old names, and the installed library. */
#include <memstream/cache.h>
#include <memstream/memstream.h>
#include <stdio.h>
#include <string.h>

#ifdef USES_OLD_NAMES
#include "api/cache.h"
#include "api/memstream.h"
#endif

int main(void) {
  memstream_options_t options;
  memstream_options_init(&options);
  if (options.struct_size != sizeof options) {
    printf("the library knows options of %zu bytes, its header of %zu\n", options.struct_size, sizeof options);
    return 1;
  }
  if (strcmp(cache_version(), EXPECTED_VERSION) != 0 || memstream_version() != MEMSTREAM_VERSION_NUMBER) {
    printf("version %s, expected %s\n", cache_version(), EXPECTED_VERSION);
    return 1;
  }
  return 0;
}
