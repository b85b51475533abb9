// The full C interface, last part: which segments there are.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "api/arguments.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/memstream.h"
#include "backends/open_segment.h"
#include "core/base/thread_cancel.h"
#include "core/cache/format.h"

using memstream::fail;
using memstream::guarded;
using memstream::require;
using memstream::require_bytes;
using memstream::Status;

namespace {

template <std::size_t kSize>
void copy_text(char (&to)[kSize], const std::string& text) {
  const std::size_t length = std::min(text.size(), kSize - 1);
  std::memcpy(to, text.data(), length);
  to[length] = '\0';
}

// Fills what a read-only attach by the segment's name sees. A segment without a name is described from outside only.
void look_inside(const char* backend, memstream_segment_t* segment) {
  segment->status = static_cast<std::int32_t>(Status::kBadMagic);
  if (segment->name[0] == '\0') return;
  memstream_options_t options;
  memstream_options_init(&options);
  options.backend = backend;
  options.name = segment->name;
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  std::unique_ptr<memstream_handle> handle;
  const Status status = memstream_handle::open(&options, &handle);
  segment->status = static_cast<std::int32_t>(status);
  if (status != Status::kOk) return;
  memstream::CacheStatistics statistics;
  segment->layout_version = handle->cache().attached().layout_version;
  segment->created_at_ms = handle->cache().to_unix_ms(0);
  if (handle->cache().statistics(&statistics) != Status::kOk) return;
  segment->entries = statistics.shards.entries;
  segment->processes = statistics.processes;
}

}  // namespace

extern "C" const char* memstream_backend_name(size_t number) { return memstream::backend_name(number); }

extern "C" int memstream_segments(const char* backend, memstream_segment_t* segments, size_t segment_size,
                                  size_t capacity, size_t* count) {
  return guarded([&] {
    if (const Status status = require("backend, count", backend, count); status != Status::kOk) return status;
    if (const Status status = require_bytes("segments", segments, capacity); status != Status::kOk) return status;
    if (segment_size != sizeof(memstream_segment_t)) {
      return fail(Status::kInvalid,
                  fmt::format("Invalid segment_size {}: expected sizeof(memstream_segment_t), which is {} here.",
                              segment_size, sizeof(memstream_segment_t)));
    }
    const memstream::DisableCancelScope uncancelled;  // Reading a directory is a cancellation point.
    std::unique_ptr<memstream::SegmentBackend> maker;
    if (const Status status = memstream::make_backend(backend, &maker); status != Status::kOk) return status;
    std::vector<memstream::SegmentInfo> found;
    memstream::SegmentFormat format({}, 0);  // Only reads headers here.
    if (const Status status = maker->list(format, &found); status != Status::kOk) return status;
    *count = found.size();
    for (std::size_t i = 0; i < std::min(capacity, found.size()); ++i) {
      memstream_segment_t& segment = segments[i];
      segment = {};
      copy_text(segment.name, found[i].name);
      copy_text(segment.system_id, found[i].system_id);
      segment.size_bytes = found[i].size_bytes;
      segment.attached = found[i].attached;
      segment.mode = found[i].mode;
      segment.owner_uid = found[i].owner_uid;
      look_inside(backend, &segment);
    }
    return Status::kOk;
  });
}
