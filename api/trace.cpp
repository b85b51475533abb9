// The full C interface: tracing accesses.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "api/arguments.h"
#include "api/following.h"
#include "api/grown_struct.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/memstream_metrics.h"

using memstream::AccessKind;
using memstream::AccessTrace;
using memstream::Cache;
using memstream::fail;
using memstream::guarded;
using memstream::InFlightCalls;
using memstream::on_segment;
using memstream::require;
using memstream::Status;
using memstream::TracedAccess;

namespace {

constexpr std::size_t kFirstTraceSize = sizeof(memstream_trace_t);
constexpr std::size_t kAtOnce = 64;  // Accesses that are copied together.

static_assert(static_cast<int>(AccessKind::kHit) == MEMSTREAM_ACCESS_HIT);
static_assert(static_cast<int>(AccessKind::kStore) == MEMSTREAM_ACCESS_STORE);

Status read_trace(Cache& segment, memstream_trace_t* trace, std::span<memstream_access_t> accesses, size_t* count) {
  AccessTrace::Cursor cursor{trace->position, trace->lost, trace->waits_since, trace->noted_until, trace->gaps};
  std::array<TracedAccess, kAtOnce> some;
  *count = 0;
  for (std::size_t got = some.size(); got == some.size() && *count < accesses.size();) {
    std::uint32_t shift = 0;
    const std::size_t room = std::min(some.size(), accesses.size() - *count);
    const Status status = segment.trace(&cursor, std::span(some).first(room), &got, &shift);
    if (status != Status::kOk) return status;
    for (const TracedAccess& access : std::span(some).first(got)) {
      accesses[(*count)++] = {.key_hash = access.hash,
                              .time_ms = segment.to_unix_ms(access.at_ms),
                              .size = access.size,
                              .what = access.what,
                              .reserved = 0};
    }
    trace->sample_step = std::uint64_t{1} << shift;
  }
  trace->position = cursor.next;
  trace->lost = cursor.lost;
  trace->waits_since = cursor.stuck_since_ms;
  trace->noted_until = cursor.noted_until_ms;
  trace->gaps = cursor.gaps;
  return Status::kOk;
}

}  // namespace

extern "C" int memstream_trace(memstream_t* cache, memstream_trace_t* trace, memstream_access_t* accesses,
                               size_t capacity, size_t* count) {
  return guarded([&] {
    if (const Status status = require("cache, trace, accesses, count", cache, trace, accesses, count);
        status != Status::kOk) {
      return status;
    }
    if (capacity == 0) return fail(Status::kInvalid, "Invalid capacity 0: expected an array of at least one access.");
    if (!memstream::is_size_of<memstream_trace_t>(trace->struct_size, kFirstTraceSize)) {
      return fail(
          Status::kInvalid,
          fmt::format("Invalid memstream_trace_t.struct_size {}: expected {}. Set it to sizeof before the call, "
                      "and do not use a library older than your program.",
                      trace->struct_size, sizeof(memstream_trace_t)));
    }
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return read_trace(segment, trace, {accesses, capacity}, count); });
  });
}
