/*
 * A program that has functions of the library's names, as a second copy of the library in one process would bring them:
 * what the library calls of itself must stay in it. The functions here are exported by the program and end it.
 *
 *     second_copy_test LIBRARY
 */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define OTHER_COPY(name)                                              \
  __attribute__((visibility("default"))) int name(void);              \
  int name(void) {                                                    \
    fputs("the library called " #name "() of the program\n", stderr); \
    abort();                                                          \
  }
OTHER_COPY(cache_last_error)
OTHER_COPY(memstream_close)
OTHER_COPY(memstream_destroy)
OTHER_COPY(memstream_destroy_named)
OTHER_COPY(memstream_open)
OTHER_COPY(memstream_options_init)
OTHER_COPY(memstream_options_init_sized)

static void *library;

static int call(const char *name) {
  int (*function)(void) = (int (*)(void))(size_t)dlsym(library, name);
  return function != NULL ? function() : -1000;
}

/* Two copies of the library, one after the other: connect, destroy by name, and the options of old programs. */
int main(int argc, char **argv) {
  char name[64];
  char options[256] = {0};
  if (argc != 2) return 2;
  snprintf(name, sizeof name, "test-%d-second-copy", (int)getpid());
  setenv("MEMSTREAM_NAME", name, 1);
  setenv("MEMSTREAM_SIZE", "1M", 1);
  library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
  if (library == NULL) return puts(dlerror()), 1;
  void (*init)(void *) = (void (*)(void *))(size_t)dlsym(library, "memstream_options_init");
  init(options);
  if (*(size_t *)(void *)options != 56) return puts("the options have another size"), 1;
  if (call("cache_connect") != 0 || call("cache_disconnect") != 0) return puts("no connection"), 1;
  /* Not connected: the library destroys the segment by its name. */
  return call("cache_destroy") == 0 ? 0 : (puts("not destroyed"), 1);
}
