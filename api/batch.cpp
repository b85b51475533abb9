// The full C interface, third part: many keys in one call.
#include <algorithm>
#include <cstddef>
#include <span>

#include "api/arguments.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/memstream.h"
#include "core/base/inplace_vector.h"

using memstream::BatchItem;
using memstream::BatchRoom;
using memstream::bytes_of;
using memstream::Cache;
using memstream::guarded;
using memstream::InFlightCalls;
using memstream::require;
using memstream::require_bytes;
using memstream::Status;

namespace {

enum class Reads { kKeysOnly, kKeysAndValues };

// The engine's form of a caller's item. A pointer that is missing is this item's failure alone.
BatchItem item_of(const memstream_item_t& item, Reads reads, Status* failure) {
  BatchItem result;
  result.status = require("key of an item", item.key);
  if (result.status == Status::kOk && reads == Reads::kKeysAndValues) {
    result.status = require_bytes("value of an item", item.value, item.value_size);
    result.value = static_cast<const std::byte*>(item.value);
    result.value_size = item.value_size;
    result.ttl_ms = item.ttl_ms;
    result.caller_flags = item.flags;
  }
  if (result.status != Status::kOk) *failure = result.status;
  result.key = bytes_of(item.key, item.key_size);
  return result;
}

// Runs `operation(engine's items, deadline)` over the items, a batch of the engine's size at a time, and `finish` over
// each of them after. Returns what the engine failed with last, which is what last_error() tells of.
template <class Operation, class Finish>
Status for_all(memstream_t* cache, memstream_item_t* items, size_t count, Reads reads, Operation operation,
               Finish finish) {
  if (count == 0) return Status::kOk;
  if (const Status status = require("cache, items", cache, items); status != Status::kOk) return status;
  const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
  const memstream::Deadline deadline = cache->cache().deadline();
  Status failure = Status::kOk;
  memstream::InplaceVector<BatchItem, Cache::kBatchSize> batch;
  for (size_t begin = 0; begin < count; begin += Cache::kBatchSize) {
    batch.clear();
    const size_t end = std::min(begin + Cache::kBatchSize, count);
    for (size_t i = begin; i < end; ++i) batch.push_back(item_of(items[i], reads, &failure));
    const std::span<BatchItem> part(batch.data(), batch.size());
    if (const Status status = operation(part, deadline); status != Status::kOk) failure = status;
    for (size_t i = 0; i < part.size(); ++i) {
      items[begin + i].status = static_cast<int32_t>(part[i].status);
      finish(items[begin + i], part[i]);
    }
  }
  return failure;
}

}  // namespace

extern "C" {

int memstream_get_many(memstream_t* cache, memstream_item_t* items, size_t count, void* room, size_t* room_size) {
  return guarded([&] {
    if (const Status status = require("room_size", room_size); status != Status::kOk) return status;
    if (const Status status = require_bytes("room", room, *room_size); status != Status::kOk) return status;
    BatchRoom left{.data = static_cast<std::byte*>(room), .size_bytes = *room_size};
    bool too_small = false;
    const Status failure = for_all(
        cache, items, count, Reads::kKeysOnly,
        [&](std::span<BatchItem> batch, const memstream::Deadline& deadline) {
          return cache->cache().get_many(batch, deadline, &left);
        },
        [&](memstream_item_t& item, const BatchItem& got) {
          const bool is_there = got.status == Status::kOk || got.status == Status::kTooSmall;
          const memstream_meta_t meta = is_there ? meta_of(cache->cache(), got.read) : memstream_meta_t{};
          too_small |= got.status == Status::kTooSmall;
          item.value = got.status == Status::kOk ? got.value : nullptr;
          item.value_size = is_there ? got.read.value_size : 0;
          item.cas = meta.cas;
          item.created_at_ms = meta.created_at_ms;
          item.expires_at_ms = meta.expires_at_ms;
          item.flags = meta.flags;
        });
    *room_size = left.needed_bytes;
    return failure == Status::kOk && too_small ? Status::kTooSmall : failure;
  });
}

int memstream_set_many(memstream_t* cache, memstream_item_t* items, size_t count) {
  return guarded([&] {
    return for_all(
        cache, items, count, Reads::kKeysAndValues,
        [&](std::span<BatchItem> batch, const memstream::Deadline& deadline) {
          return cache->cache().store_many(batch, deadline);
        },
        [](memstream_item_t&, const BatchItem&) {});
  });
}

int memstream_delete_many(memstream_t* cache, memstream_item_t* items, size_t count) {
  return guarded([&] {
    return for_all(
        cache, items, count, Reads::kKeysOnly,
        [&](std::span<BatchItem> batch, const memstream::Deadline& deadline) {
          return cache->cache().remove_many(batch, deadline);
        },
        [](memstream_item_t&, const BatchItem&) {});
  });
}

}  // extern "C"
