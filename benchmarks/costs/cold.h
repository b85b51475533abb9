// What happens once: connecting, creating, the first get, and putting a shard right after a death.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "benchmarks/support/open_cache.h"

namespace memstream::bench {

// Microseconds, each the median of `rounds`: connect to a segment that exists, create one of 1 GiB, the first get after
// connecting.
nlohmann::json measure_connecting(const std::string& backend, unsigned rounds);

// Kills a writer until its death leaves a shard of `entries` entries to be rebuilt, and times the next set.
nlohmann::json measure_rebuild(const std::string& backend, unsigned entries, unsigned rounds);

// Kills writers of one key until a death leaves its shard to be repaired. The next set, which repairs it, takes so many
// microseconds of the processor.
double recovery_us(const OpenCache& cache, std::size_t value_size);

}  // namespace memstream::bench
