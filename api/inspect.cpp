// The full C interface, third part: looking at the cache as a whole.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "api/arguments.h"
#include "api/describe.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/memstream.h"
#include "api/statistics.h"

using memstream::bytes_of;
using memstream::describe;
using memstream::fail;
using memstream::guarded;
using memstream::InFlightCalls;
using memstream::require;
using memstream::require_bytes;
using memstream::Status;

extern "C" {

int memstream_scan(memstream_t* cache, uint64_t* cursor, memstream_entry_t* entries, size_t capacity, size_t* count) {
  return guarded([&] {
    if (const Status status = require("cache, cursor, entries, count", cache, cursor, entries, count);
        status != Status::kOk) {
      return status;
    }
    if (capacity == 0) return fail(Status::kInvalid, "Invalid capacity 0: expected an array of at least one entry.");
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    *count = 0;
    return cache->cache().scan(cursor, [&](std::uint32_t shard, const memstream::ScannedEntry& scanned) {
      if (*count == capacity) return false;
      describe(cache->cache(), shard, scanned, &entries[(*count)++]);
      return true;
    });
  });
}

int memstream_entry_info(memstream_t* cache, const void* key, size_t key_size, memstream_entry_t* entry) {
  return guarded([&] {
    if (const Status status = require("cache, key, entry", cache, key, entry); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return cache->cache().inspect(bytes_of(key, key_size),
                                  [&](std::uint32_t shard, const memstream::ScannedEntry& scanned) {
                                    describe(cache->cache(), shard, scanned, entry);
                                  });
  });
}

int memstream_stats(memstream_t* cache, cache_stats_t* stats) {
  return guarded([&] {
    if (const Status status = require("cache, stats", cache, stats); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return memstream::fill_statistics(*cache, stats);
  });
}

int memstream_info(memstream_t* cache, memstream_info_t* info) {
  return guarded([&] {
    if (const Status status = require("cache, info", cache, info); status != Status::kOk) return status;
    if (info->struct_size != sizeof *info) {
      return fail(Status::kInvalid,
                  fmt::format("Invalid memstream_info_t.struct_size {}: expected {}. Set it to sizeof before the call.",
                              info->struct_size, sizeof *info));
    }
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    const memstream::AttachedHeader& attached = cache->cache().attached();
    info->backend = cache->backend_name();
    info->name = cache->name();
    info->size_bytes = attached.geometry.size_bytes;
    info->layout_version = attached.layout_version;
    info->read_only = cache->cache().read_only() ? 1 : 0;
    std::memcpy(info->uuid, attached.uuid, sizeof info->uuid);
    return Status::kOk;
  });
}

int memstream_processes(memstream_t* cache, memstream_process_t* processes, size_t capacity, size_t* count) {
  return guarded([&] {
    if (const Status status = require("cache, count", cache, count); status != Status::kOk) return status;
    if (const Status status = require_bytes("processes", processes, capacity); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    std::vector<memstream::ProcessInfo> found;
    if (const Status status = cache->cache().processes(&found); status != Status::kOk) return status;
    for (std::size_t i = 0; i < std::min(capacity, found.size()); ++i) {
      processes[i] = {.pid = found[i].pid,
                      .pins = found[i].pins,
                      .start_time = found[i].start_time,
                      .hits = found[i].hits,
                      .misses = found[i].misses,
                      .puts = found[i].puts};
    }
    *count = found.size();
    return Status::kOk;
  });
}

int memstream_repair(memstream_t* cache, memstream_repair_report_t* report) {
  return guarded([&] {
    if (const Status status = require("cache, report", cache, report); status != Status::kOk) return status;
    if (report->struct_size != sizeof *report) {
      return fail(Status::kInvalid, fmt::format("Invalid memstream_repair_report_t.struct_size {}: expected {}. Set it "
                                                "to sizeof before the call.",
                                                report->struct_size, sizeof *report));
    }
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    memstream::RepairReport found;
    const Status status = cache->cache().repair(&found);
    report->problems = found.problems;
    report->dropped_entries = found.dropped_entries;
    report->damaged_values = found.damaged_values;
    report->emptied_shards = found.emptied_shards;
    report->entries = found.entries;
    return status;
  });
}

int memstream_check(memstream_t* cache, uint64_t* problems) {
  return guarded([&] {
    if (const Status status = require("cache, problems", cache, problems); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    std::vector<std::string> found;
    if (const Status status = cache->cache().check(&found); status != Status::kOk) return status;
    *problems = found.size();
    if (found.empty()) return Status::kOk;
    constexpr std::size_t kShown = 8;
    const auto shown = found.begin() + static_cast<std::ptrdiff_t>(std::min(kShown, found.size()));
    return fail(Status::kCorrupt,
                fmt::format("{} problems: {}. Destroy the segment, or store the damaged entries again.", found.size(),
                            fmt::join(found.begin(), shown, "; ")));
  });
}

}  // extern "C"
