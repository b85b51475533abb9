// The full C interface, last part: tags.
#include <fmt/format.h>

#include <cstddef>

#include "api/arguments.h"
#include "api/following.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/memstream_tags.h"

using memstream::bytes_of;
using memstream::Cache;
using memstream::fail;
using memstream::guarded;
using memstream::InFlightCalls;
using memstream::on_segment;
using memstream::require;
using memstream::require_bytes;
using memstream::Status;
using memstream::StoreMode;
using memstream::TagSet;

static_assert(sizeof(memstream_tags_t) == sizeof(TagSet));

namespace {

Status mode_of(int operation, StoreMode* mode) {
  switch (operation) {
    case MEMSTREAM_SET:
      *mode = StoreMode::kSet;
      return Status::kOk;
    case MEMSTREAM_ADD:
      *mode = StoreMode::kAdd;
      return Status::kOk;
    case MEMSTREAM_REPLACE:
      *mode = StoreMode::kReplace;
      return Status::kOk;
    case MEMSTREAM_CAS:
      *mode = StoreMode::kCas;
      return Status::kOk;
    case MEMSTREAM_FULFIL:
      *mode = StoreMode::kLease;
      return Status::kOk;
    default:
      return fail(Status::kInvalid, fmt::format("Invalid operation {}: expected MEMSTREAM_SET, MEMSTREAM_ADD, "
                                                "MEMSTREAM_REPLACE, MEMSTREAM_CAS or MEMSTREAM_FULFIL.",
                                                operation));
  }
}

}  // namespace

extern "C" {

int memstream_tag(memstream_t* cache, const void* tag, size_t tag_size, memstream_tags_t* tags) {
  return guarded([&] {
    if (const Status status = require("cache, tag, tags", cache, tag, tags); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) {
      return segment.add_tag(bytes_of(tag, tag_size), reinterpret_cast<TagSet*>(tags));
    });
  });
}

int memstream_store_tagged(memstream_t* cache, const void* key, size_t key_size, const void* value, size_t value_size,
                           uint64_t ttl_ms, uint32_t flags, int operation, uint64_t token,
                           const memstream_tags_t* tags) {
  return guarded([&] {
    if (const Status status = require("cache, key, tags", cache, key, tags); status != Status::kOk) return status;
    if (const Status status = require_bytes("value", value, value_size); status != Status::kOk) return status;
    StoreMode mode{};
    if (const Status status = mode_of(operation, &mode); status != Status::kOk) return status;
    const TagSet& set = *reinterpret_cast<const TagSet*>(tags);
    if (set.segment == 0)
      return fail(Status::kInvalid, "Invalid tags: expected a set with one at least. Add it by memstream_tag().");
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    const Cache::Value stored{static_cast<const std::byte*>(value), value_size, ttl_ms, flags};
    return on_segment(*cache, [&](Cache& segment) {
      const uint64_t own_token = mode == StoreMode::kCas ? token ^ segment.token_salt() : token;
      return segment.store_tagged(bytes_of(key, key_size), stored, mode, own_token, set);
    });
  });
}

int memstream_invalidate(memstream_t* cache, const void* tag, size_t tag_size) {
  return guarded([&] {
    if (const Status status = require("cache, tag", cache, tag); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.invalidate(bytes_of(tag, tag_size)); });
  });
}

int memstream_invalidations(memstream_t* cache, uint64_t* count) {
  return guarded([&] {
    if (const Status status = require("cache, count", cache, count); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.invalidations(count); });
  });
}

int memstream_entry_has_tags(const memstream_entry_t* entry) {
  return entry != nullptr && entry->key[sizeof entry->key - 1] != 0 ? 1 : 0;
}

}  // extern "C"
