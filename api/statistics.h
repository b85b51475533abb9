// Statistics of the engine as the C struct.
#pragma once

#include "api/cache.h"
#include "api/handle.h"

namespace memstream {

// kInvalid if stats->struct_size is not that of this library.
Status fill_statistics(memstream_handle& handle, cache_stats_t* stats);

}  // namespace memstream
