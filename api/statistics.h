// Statistics of the engine as the C struct.
#pragma once

#include "api/cache.h"
#include "api/handle.h"

namespace memstream {

// kInvalid if stats->struct_size is none that the struct ever had.
Status fill_statistics(memstream_handle& handle, cache_stats_t* callers_stats);

}  // namespace memstream
