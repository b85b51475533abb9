// The full C interface: argument checks, and translation between C structs and the engine.
#include "api/memstream.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>

#include "api/guarded.h"
#include "api/handle.h"
#include "api/statistics.h"
#include "core/format.h"

using memstream::Cache;
using memstream::CallGate;
using memstream::fail;
using memstream::guarded;
using memstream::HeldBlock;
using memstream::HeldItem;
using memstream::OwnedBytes;
using memstream::ReadResult;
using memstream::Status;
using memstream::StoreMode;

namespace {

template <class... Pointers>
Status require(const char* names, const Pointers*... pointers) {
  if (((pointers != nullptr) && ...)) [[likely]]
    return Status::kOk;
  return fail(Status::kInvalid, fmt::format("NULL where a pointer is needed: one of {}.", names));
}

// Bytes may be NULL only if there are none.
Status require_bytes(const char* name, const void* bytes, std::size_t size_bytes) {
  if (bytes != nullptr || size_bytes == 0) [[likely]]
    return Status::kOk;
  return fail(Status::kInvalid, fmt::format("{} is NULL, but its size is {}.", name, size_bytes));
}

std::string_view bytes_of(const void* bytes, std::size_t size_bytes) {
  return {static_cast<const char*>(bytes), size_bytes};
}

memstream_meta_t meta_of(const Cache& cache, const ReadResult& read) {
  return {.cas = read.cas,
          .created_at_ms = cache.to_unix_ms(read.created_ms),
          .expires_at_ms = read.expires_ms == 0 ? 0 : cache.to_unix_ms(read.expires_ms),
          .flags = read.caller_flags,
          .reserved = 0};
}

int store(memstream_t* cache, const void* key, size_t key_size, const void* value, size_t value_size, uint64_t ttl_ms,
          uint32_t flags, StoreMode mode, uint64_t cas) noexcept {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    if (const Status status = require_bytes("value", value, value_size); status != Status::kOk) return status;
    const CallGate::Pass pass(cache->gate());
    return cache->cache().store(bytes_of(key, key_size),
                                {static_cast<const std::byte*>(value), value_size, ttl_ms, flags}, mode, cas);
  });
}

void describe(const Cache& cache, std::uint32_t shard, const memstream::ScannedEntry& scanned,
              memstream_entry_t* entry) {
  *entry = {};
  entry->value_size = scanned.block.value_size;
  entry->stored_size = scanned.block.stored_size;
  entry->data_offset = cache.shard_offset(shard) + scanned.block.value_offset;
  entry->created_at_ms = cache.to_unix_ms(scanned.block.created_ms);
  entry->last_access_ms = cache.to_unix_ms(scanned.last_access_ms);
  entry->expires_at_ms = scanned.block.expires_ms == 0 ? 0 : cache.to_unix_ms(scanned.block.expires_ms);
  entry->access_count = scanned.access_count;
  entry->cas = scanned.cas;
  entry->flags = scanned.block.caller_flags;
  entry->key_size = scanned.block.key_size;
  entry->shard = shard;
  entry->is_valid = 1;
  memstream::copy_from_shared(entry->key, scanned.block.key, scanned.block.key_size);
}

}  // namespace

extern "C" {

// ---- open, close, destroy ----

void memstream_options_init(memstream_options_t* options) {
  if (options == nullptr) return;
  *options = {};
  options->struct_size = sizeof *options;
  options->timeout_ms = -1;
}

int memstream_open(const memstream_options_t* options, memstream_t** cache) {
  return guarded([&] {
    if (const Status status = require("cache", cache); status != Status::kOk) return status;
    *cache = nullptr;
    std::unique_ptr<memstream_handle> handle;
    const Status status = memstream_handle::open(options, &handle);
    *cache = handle.release();
    return status;
  });
}

int memstream_close(memstream_t* cache) {
  return guarded([&] {
    if (cache != nullptr) cache->gate().wait_until_empty();
    delete cache;
    return Status::kOk;
  });
}

int memstream_destroy(memstream_t* cache) {
  return guarded([&] {
    if (const Status status = require("cache", cache); status != Status::kOk) return status;
    const CallGate::Pass pass(cache->gate());
    return cache->destroy();
  });
}

int memstream_destroy_named(const memstream_options_t* options) {
  return guarded([&] {
    memstream::OpenOptions open_options;
    if (const Status status = memstream::read_options(options, &open_options); status != Status::kOk) return status;
    memstream::SegmentFormat format(open_options.spec.name, 0);
    return open_options.backend->remove(open_options.spec, format, nullptr, memstream::mark_destroyed);
  });
}

// ---- entries ----

int memstream_get(memstream_t* cache, const void* key, size_t key_size, void* value, size_t* value_size,
                  memstream_meta_t* meta) {
  return guarded([&] {
    if (const Status status = require("cache, key, value_size", cache, key, value_size); status != Status::kOk)
      return status;
    if (const Status status = require_bytes("value", value, *value_size); status != Status::kOk) return status;
    const CallGate::Pass pass(cache->gate());
    ReadResult read;
    const Status status =
        cache->cache().get(bytes_of(key, key_size), static_cast<std::byte*>(value), *value_size, &read);
    if (status != Status::kOk && status != Status::kTooSmall) {
      *value_size = 0;
      return status;
    }
    *value_size = read.value_size;
    if (meta != nullptr) *meta = meta_of(cache->cache(), read);
    return status;
  });
}

int memstream_set(memstream_t* cache, const void* key, size_t key_size, const void* value, size_t value_size,
                  uint64_t ttl_ms, uint32_t flags) {
  return store(cache, key, key_size, value, value_size, ttl_ms, flags, StoreMode::kSet, 0);
}

int memstream_add(memstream_t* cache, const void* key, size_t key_size, const void* value, size_t value_size,
                  uint64_t ttl_ms, uint32_t flags) {
  return store(cache, key, key_size, value, value_size, ttl_ms, flags, StoreMode::kAdd, 0);
}

int memstream_replace(memstream_t* cache, const void* key, size_t key_size, const void* value, size_t value_size,
                      uint64_t ttl_ms, uint32_t flags) {
  return store(cache, key, key_size, value, value_size, ttl_ms, flags, StoreMode::kReplace, 0);
}

int memstream_cas(memstream_t* cache, const void* key, size_t key_size, const void* value, size_t value_size,
                  uint64_t ttl_ms, uint32_t flags, uint64_t cas) {
  return store(cache, key, key_size, value, value_size, ttl_ms, flags, StoreMode::kCas, cas);
}

int memstream_delete(memstream_t* cache, const void* key, size_t key_size) {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    const CallGate::Pass pass(cache->gate());
    return cache->cache().remove(bytes_of(key, key_size));
  });
}

int memstream_touch(memstream_t* cache, const void* key, size_t key_size, uint64_t ttl_ms) {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    const CallGate::Pass pass(cache->gate());
    return cache->cache().touch(bytes_of(key, key_size), ttl_ms);
  });
}

int memstream_incr(memstream_t* cache, const void* key, size_t key_size, int64_t delta, const int64_t* initial,
                   uint64_t ttl_ms, int64_t* result) {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    const CallGate::Pass pass(cache->gate());
    return cache->cache().increment(bytes_of(key, key_size), delta, initial, ttl_ms, result);
  });
}

int memstream_exists(memstream_t* cache, const void* key, size_t key_size) {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    const CallGate::Pass pass(cache->gate());
    return cache->cache().exists(bytes_of(key, key_size));
  });
}

int memstream_clear(memstream_t* cache) {
  return guarded([&] {
    if (const Status status = require("cache", cache); status != Status::kOk) return status;
    const CallGate::Pass pass(cache->gate());
    return cache->cache().clear();
  });
}

// ---- reading without a copy ----

namespace {

// The view as a copy of the library's own: for a read-only attach, and when the table of pins is full.
Status view_copy(memstream_t* cache, std::string_view key, memstream_view_t* view) {
  std::uint64_t room_bytes = memstream::Shard::kPinnedCopySize;
  for (;;) {
    HeldItem item;
    item.copy = std::make_unique<OwnedBytes>(room_bytes);
    ReadResult read;
    const Status status = cache->cache().get(key, item.copy->data(), room_bytes, &read);
    if (status == Status::kTooSmall) {
      room_bytes = read.value_size;
      continue;
    }
    if (status != Status::kOk) return status;
    view->data = item.copy->data();
    view->size = read.value_size;
    view->meta = meta_of(cache->cache(), read);
    view->token = cache->keep(std::move(item));
    return Status::kOk;
  }
}

}  // namespace

int memstream_view(memstream_t* cache, const void* key, size_t key_size, memstream_view_t* view) {
  return guarded([&] {
    if (const Status status = require("cache, key, view", cache, key, view); status != Status::kOk) return status;
    const CallGate::Pass pass(cache->gate());
    *view = {};
    if (cache->cache().read_only()) return view_copy(cache, bytes_of(key, key_size), view);
    HeldBlock held;
    const Status status = cache->cache().hold(bytes_of(key, key_size), &held);
    if (status == Status::kFull) return view_copy(cache, bytes_of(key, key_size), view);
    if (status != Status::kOk) return status;
    view->data = held.value;
    view->size = held.read.value_size;
    view->meta = meta_of(cache->cache(), held.read);
    view->token = memstream_handle::pinned_token(held);
    return Status::kOk;
  });
}

int memstream_release(memstream_t* cache, memstream_view_t* view) {
  return guarded([&] {
    if (const Status status = require("cache, view", cache, view); status != Status::kOk) return status;
    const CallGate::Pass pass(cache->gate());
    HeldItem item;
    const Status status = (view->token & memstream_handle::kPinnedToken) != 0
                              ? cache->cache().release(memstream_handle::pinned_block(view->token))
                              : cache->take(view->token, &item);
    if (status == Status::kOk) *view = {};
    return status;
  });
}

// ---- writing without a copy ----

int memstream_reserve(memstream_t* cache, const void* key, size_t key_size, size_t value_size,
                      memstream_reservation_t* reservation) {
  return guarded([&] {
    if (const Status status = require("cache, key, reservation", cache, key, reservation); status != Status::kOk)
      return status;
    const CallGate::Pass pass(cache->gate());
    *reservation = {};
    HeldItem item;
    item.key = bytes_of(key, key_size);
    item.size_bytes = value_size;
    const Status status = cache->cache().reserve(item.key, value_size, &item.block);
    if (status == Status::kFull) {
      item.copy = std::make_unique<OwnedBytes>(value_size);
    } else if (status != Status::kOk) {
      return status;
    }
    reservation->data = item.copy ? item.copy->data() : item.block.value;
    reservation->size = value_size;
    reservation->token = cache->keep(std::move(item));
    return Status::kOk;
  });
}

int memstream_commit(memstream_t* cache, memstream_reservation_t* reservation, uint64_t ttl_ms, uint32_t flags) {
  return guarded([&] {
    if (const Status status = require("cache, reservation", cache, reservation); status != Status::kOk) return status;
    const CallGate::Pass pass(cache->gate());
    HeldItem item;
    if (const Status status = cache->take(reservation->token, &item); status != Status::kOk) return status;
    const Cache::Value value{item.copy ? item.copy->data() : nullptr, item.size_bytes, ttl_ms, flags};
    const Status status = item.copy ? cache->cache().store(item.key, value, StoreMode::kSet, 0)
                                    : cache->cache().commit(item.key, item.block, value, StoreMode::kSet, 0);
    if (status == Status::kBusy) {
      // Nothing has happened: the caller may try again with what it filled.
      reservation->token = cache->keep(std::move(item));
      return status;
    }
    *reservation = {};
    return status;
  });
}

int memstream_abort(memstream_t* cache, memstream_reservation_t* reservation) {
  return guarded([&] {
    if (const Status status = require("cache, reservation", cache, reservation); status != Status::kOk) return status;
    const CallGate::Pass pass(cache->gate());
    HeldItem item;
    if (const Status status = cache->take(reservation->token, &item); status != Status::kOk) return status;
    const Status status = item.copy ? Status::kOk : cache->cache().release(item.block);
    if (status == Status::kBusy) {
      reservation->token = cache->keep(std::move(item));
      return status;
    }
    *reservation = {};
    return status;
  });
}

// ---- looking at the cache ----

int memstream_scan(memstream_t* cache, uint64_t* cursor, memstream_entry_t* entries, size_t capacity, size_t* count) {
  return guarded([&] {
    if (const Status status = require("cache, cursor, entries, count", cache, cursor, entries, count);
        status != Status::kOk) {
      return status;
    }
    if (capacity == 0) return fail(Status::kInvalid, "A scan needs room for at least one entry.");
    const CallGate::Pass pass(cache->gate());
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
    const CallGate::Pass pass(cache->gate());
    return cache->cache().inspect(bytes_of(key, key_size),
                                  [&](std::uint32_t shard, const memstream::ScannedEntry& scanned) {
                                    describe(cache->cache(), shard, scanned, entry);
                                  });
  });
}

int memstream_stats(memstream_t* cache, cache_stats_t* stats) {
  return guarded([&] {
    if (const Status status = require("cache, stats", cache, stats); status != Status::kOk) return status;
    const CallGate::Pass pass(cache->gate());
    return memstream::fill_statistics(cache->cache(), stats);
  });
}

int memstream_info(memstream_t* cache, memstream_info_t* info) {
  return guarded([&] {
    if (const Status status = require("cache, info", cache, info); status != Status::kOk) return status;
    if (info->struct_size != sizeof *info) {
      return fail(Status::kInvalid, fmt::format("memstream_info_t.struct_size is {}, this library knows {}.",
                                                info->struct_size, sizeof *info));
    }
    const CallGate::Pass pass(cache->gate());
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
    const CallGate::Pass pass(cache->gate());
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

int memstream_check(memstream_t* cache, uint64_t* problems) {
  return guarded([&] {
    if (const Status status = require("cache, problems", cache, problems); status != Status::kOk) return status;
    const CallGate::Pass pass(cache->gate());
    std::vector<std::string> found;
    if (const Status status = cache->cache().check(&found); status != Status::kOk) return status;
    *problems = found.size();
    if (found.empty()) return Status::kOk;
    constexpr std::size_t kShown = 8;
    const auto shown = found.begin() + static_cast<std::ptrdiff_t>(std::min(kShown, found.size()));
    return fail(Status::kCorrupt, fmt::format("{} problems: {}", found.size(), fmt::join(found.begin(), shown, "; ")));
  });
}

}  // extern "C"
