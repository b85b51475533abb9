/* Where lines are counted: a process that ends by quick_exit() writes its counters, too. The children of the tests
 * end that way, lest they run the exit handlers of their parent. */
#define _GNU_SOURCE
#include <gcov.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static void write_counters(void) {
  /* The files belong to who built the tree, and a test may have given up more than they allow. */
  static const int kLimits[] = {RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_AS};
  uid_t real, effective, saved;
  if (getresuid(&real, &effective, &saved) == 0 && saved != effective && seteuid(saved) != 0) return;
  for (size_t i = 0; i < sizeof kLimits / sizeof *kLimits; ++i) {
    struct rlimit limit;
    if (getrlimit(kLimits[i], &limit) != 0) continue;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(kLimits[i], &limit);
  }
  __gcov_dump();
}

__attribute__((constructor)) static void write_counters_at_quick_exit(void) { at_quick_exit(write_counters); }
