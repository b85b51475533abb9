/* What cmake/MemstreamPlatform.cmake compiles to ask whether MemStream runs on this platform. */
#include "core/base/platform.h"

int memstream_runs_here(void);
int memstream_runs_here(void) { return 1; }
