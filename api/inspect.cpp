// The full C interface, third part: looking at the cache as a whole.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "api/arguments.h"
#include "api/describe.h"
#include "api/following.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/memstream.h"
#include "api/statistics.h"

using memstream::bytes_of;
using memstream::Cache;
using memstream::describe;
using memstream::fail;
using memstream::guarded;
using memstream::InFlightCalls;
using memstream::on_segment;
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
    return on_segment(*cache, [&](Cache& segment) {
      const Status status = segment.scan(cursor, [&](std::uint32_t shard, const memstream::ScannedEntry& scanned) {
        if (*count == capacity) return false;
        describe(segment, shard, scanned, &entries[(*count)++]);
        return true;
      });
      // A position in another segment says nothing: from the beginning, so that nothing is left out.
      if (status == Status::kGone && segment.is_superseded()) *cursor = *count = 0;
      return status;
    });
  });
}

int memstream_entry_info(memstream_t* cache, const void* key, size_t key_size, memstream_entry_t* entry) {
  return guarded([&] {
    if (const Status status = require("cache, key, entry", cache, key, entry); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) {
      return segment.inspect(bytes_of(key, key_size), [&](std::uint32_t shard, const memstream::ScannedEntry& scanned) {
        describe(segment, shard, scanned, entry);
      });
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
    // Of the segment that has the name now.
    while (cache->cache().is_superseded()) {
      if (const Status status = cache->follow(cache->cache()); status != Status::kOk) return status;
    }
    const Cache& segment = cache->cache();
    const memstream::AttachedHeader& attached = segment.attached();
    info->backend = cache->backend_name();
    info->name = cache->name();
    info->size_bytes = attached.geometry.size_bytes;
    info->layout_version = attached.layout_version;
    info->read_only = segment.read_only() ? 1 : 0;
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
    const Status status = on_segment(*cache, [&](Cache& segment) { return segment.processes(&found); });
    if (status != Status::kOk) return status;
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
    const Status status = on_segment(*cache, [&](Cache& segment) { return segment.repair(&found); });
    report->problems = found.problems;
    report->dropped_entries = found.dropped_entries;
    report->damaged_values = found.damaged_values;
    report->emptied_shards = found.emptied_shards;
    report->entries = found.entries;
    return status;
  });
}

int memstream_reap(memstream_t* cache, memstream_reap_report_t* report) {
  return guarded([&] {
    if (const Status status = require("cache, report", cache, report); status != Status::kOk) return status;
    if (report->struct_size != sizeof *report) {
      return fail(Status::kInvalid, fmt::format("Invalid memstream_reap_report_t.struct_size {}: expected {}. Set it "
                                                "to sizeof before the call.",
                                                report->struct_size, sizeof *report));
    }
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    memstream::ReapReport found;
    const Status status = on_segment(*cache, [&](Cache& segment) { return segment.reap(&found); });
    report->processes = found.processes;
    report->pins = found.pins;
    report->leases = found.leases;
    report->locks = found.locks;
    report->freed_bytes = found.freed_bytes;
    return status;
  });
}

int memstream_resize(memstream_t* cache, uint64_t size_bytes, memstream_resize_report_t* report) {
  return guarded([&] {
    if (const Status status = require("cache, report", cache, report); status != Status::kOk) return status;
    if (report->struct_size != sizeof *report) {
      return fail(Status::kInvalid, fmt::format("Invalid memstream_resize_report_t.struct_size {}: expected {}. Set it "
                                                "to sizeof before the call.",
                                                report->struct_size, sizeof *report));
    }
    return cache->resize(size_bytes, report);
  });
}

int memstream_check(memstream_t* cache, uint64_t* problems) {
  return guarded([&] {
    if (const Status status = require("cache, problems", cache, problems); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    std::vector<std::string> found;
    const Status status = on_segment(*cache, [&](Cache& segment) { return segment.check(&found); });
    if (status != Status::kOk) return status;
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
