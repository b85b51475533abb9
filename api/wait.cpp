// The full C interface, another part: waiting until an entry changes.
#include <algorithm>
#include <chrono>
#include <cstddef>

#include "api/arguments.h"
#include "api/following.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/memstream.h"

using memstream::bytes_of;
using memstream::Cache;
using memstream::Deadline;
using memstream::guarded;
using memstream::InFlightCalls;
using memstream::kLongestWaitMs;
using memstream::on_segment;
using memstream::require;
using memstream::Status;

extern "C" {

int memstream_wait(memstream_t* cache, const void* key, size_t key_size, uint64_t cas, uint64_t timeout_ms) {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    const Deadline deadline(std::chrono::milliseconds(std::min(timeout_ms, kLongestWaitMs)));
    return on_segment(*cache, [&](Cache& segment) {
      return segment.wait_for_change(bytes_of(key, key_size), cas == 0 ? 0 : cas ^ segment.token_salt(), deadline);
    });
  });
}

}  // extern "C"
