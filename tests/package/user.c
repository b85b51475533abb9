/* A user's program: it has to find the installed headers and the installed library. */
#include <stdio.h>
#include <string.h>

#include "api/cache.h"
#include "api/memstream.h"

int main(void) {
  memstream_options_t options;
  memstream_options_init(&options);
  if (options.struct_size != sizeof options) {
    printf("the library knows options of %zu bytes, its header of %zu\n", options.struct_size, sizeof options);
    return 1;
  }
  if (strcmp(cache_version(), EXPECTED_VERSION) != 0) {
    printf("version %s, expected %s\n", cache_version(), EXPECTED_VERSION);
    return 1;
  }
  return 0;
}
