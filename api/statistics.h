// Statistics of the engine as the C struct.
#pragma once

#include "api/cache.h"
#include "api/handle.h"

namespace memstream {

// kInvalid if `callers_stats->struct_size` is not the size of this version or of an earlier one.
Status fill_statistics(memstream_handle& handle, cache_stats_t* callers_stats);

}  // namespace memstream
