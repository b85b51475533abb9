/*
 * Checks for the C programs that test the C interface. Every check prints what failed and counts; the program goes on.
 */
#ifndef MEMSTREAM_TESTS_SUPPORT_ABI_CHECK_H
#define MEMSTREAM_TESTS_SUPPORT_ABI_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/cache.h"

static int failures;

static void check(int holds, const char *text, int line) {
  if (holds) return;
  ++failures;
  fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, line, text);
}
#define CHECK(condition) check((condition) != 0, #condition, __LINE__)

static void expect(int status, int wanted, const char *call, int line) {
  if (status == wanted) return;
  ++failures;
  fprintf(stderr, "%s:%d: %s gave %d instead of %d: %s\n", __FILE__, line, call, status, wanted, cache_last_error());
}
#define EXPECT(call, wanted) expect((call), (wanted), #call, __LINE__)

#define SAYS(part) CHECK(strstr(cache_last_error(), (part)) != NULL)

/* Runs `body` in a forked child and counts what failed there. */
static void in_child(void (*body)(void), int line) {
  const pid_t child = fork();
  int status = -1;
  if (child == 0) {
    failures = 0;
    body();
    quick_exit(failures == 0 ? 0 : 1);
  }
  check(child > 0 && waitpid(child, &status, 0) == child && status == 0, "the child", line);
}
#define IN_CHILD(body) in_child((body), __LINE__)

/* A cache of this process alone, over the backend that MEMSTREAM_BACKEND names. */
static void use_own_cache(const char *purpose) {
  char name[64];
  snprintf(name, sizeof name, "%s-%ld", purpose, (long)getpid());
  setenv("MEMSTREAM_NAME", name, 1);
  setenv("MEMSTREAM_SIZE", "4M", 1);
}

/* What main() returns; nothing is left behind whatever failed. */
static int finish(void) {
  if (failures == 0) return 0;
  (void)cache_destroy();
  fprintf(stderr, "%d failures\n", failures);
  return 1;
}

#endif
