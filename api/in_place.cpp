// The full C interface, second part: reading and writing values without a copy.
#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

#include "api/arguments.h"
#include "api/following.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/memstream.h"
#include "core/cache/cache_lookup.h"

using memstream::bytes_of;
using memstream::Cache;
using memstream::GetResult;
using memstream::guarded;
using memstream::InFlightCalls;
using memstream::meta_of;
using memstream::on_segment;
using memstream::OwnedBytes;
using memstream::PinnedItem;
using memstream::PinnedValue;
using memstream::require;
using memstream::Status;
using memstream::StoreMode;

namespace {

// Takes a view as a copy in memory of the library: for a read-only handle, and when no place for a pin is free.
[[gnu::cold]] Status view_copy(memstream_t* cache, Cache& segment, std::string_view key, memstream_view_t* view) {
  *view = {};
  std::uint64_t capacity = memstream::Shard::kPinnedCopySize;
  for (;;) {
    PinnedItem item;
    item.copy = std::make_unique<OwnedBytes>(capacity);
    const GetResult got = segment.get(key, item.copy->data(), capacity);
    if (got.status == Status::kTooSmall) {
      capacity = got.read.value_size;
      continue;
    }
    if (got.status != Status::kOk) return got.status;
    view->data = item.copy->data();
    view->size = got.read.value_size;
    view->meta = meta_of(segment, got.read);
    view->token = cache->keep(std::move(item));
    return Status::kOk;
  }
}

// Where nothing was pinned: `status` says why.
[[gnu::cold]] Status view_otherwise(memstream_t* cache, Cache& segment, std::string_view key, memstream_view_t* view,
                                    Status status) {
  *view = {};
  if (status != Status::kFull) return status;
  const Status copied = view_copy(cache, segment, key, view);
  if (copied == Status::kOk) segment.count_view_copy();
  return copied;
}

[[gnu::always_inline]] inline Status view_in(memstream_t* cache, Cache& segment, std::string_view key,
                                             memstream_view_t* view) {
  if (segment.read_only()) return view_copy(cache, segment, key, view);
  PinnedValue held;
  const Status status = segment.pin(key, &held);
  if (status != Status::kOk) [[unlikely]]
    return view_otherwise(cache, segment, key, view, status);
  view->data = held.value;
  view->size = held.read.value_size;
  view->meta = meta_of(segment, held.read);
  view->token = memstream_handle::pinned_token(held, segment.number());
  return Status::kOk;
}

[[gnu::always_inline]] inline Status view_value(memstream_t* cache, const void* key, std::size_t key_size,
                                                memstream_view_t* view) {
  return view_in(cache, cache->cache(), bytes_of(key, key_size), view);
}

// After kGone: once more as a call of its own, in the segment that took the place of the one before if one did.
[[gnu::cold, gnu::noinline]] int view_again(memstream_t* cache, const void* key, std::size_t key_size,
                                            memstream_view_t* view) noexcept {
  return guarded([&] {
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return view_in(cache, segment, bytes_of(key, key_size), view); });
  });
}

// A copy, or a view in a segment that was resized since.
[[gnu::cold, gnu::noinline]] Status release_elsewhere(memstream_t* cache, std::uint64_t token, bool is_pinned) {
  if (is_pinned) {
    return cache->with_attachment(memstream_handle::attachment_of(token), [token](Cache& segment) {
      return segment.release(memstream_handle::pinned_block(token));
    });
  }
  PinnedItem copy;
  return cache->take(token, PinnedItem::Kind::kView, &copy);
}

[[gnu::always_inline]] inline Status release_view(memstream_t* cache, memstream_view_t* view) {
  const std::uint64_t token = view->token;
  const bool is_pinned = (token & memstream_handle::kPinnedToken) != 0;
  Cache& segment = cache->cache();
  const bool is_here = is_pinned && memstream_handle::attachment_of(token) == segment.number();
  const Status status =
      is_here ? segment.release(memstream_handle::pinned_block(token)) : release_elsewhere(cache, token, is_pinned);
  if (status == Status::kOk) *view = {};
  return status;
}

Status store_bytes(memstream_t* cache, const PinnedItem& item, const std::byte* bytes, uint64_t ttl_ms,
                   uint32_t flags) {
  const Cache::Value value{bytes, item.size_bytes, ttl_ms, flags};
  return on_segment(*cache, [&](Cache& segment) { return segment.store(item.key, value, StoreMode::kSet, 0); });
}

// A reservation in a segment that was resized since has the value, but cannot become an entry there.
Status commit_item(memstream_t* cache, const PinnedItem& item, uint64_t ttl_ms, uint32_t flags) {
  if (item.copy) return store_bytes(cache, item, item.copy->data(), ttl_ms, flags);
  const Cache::Value value{nullptr, item.size_bytes, ttl_ms, flags};
  bool is_superseded = false;
  const Status status = cache->with_attachment(item.attachment, [&](Cache& segment) {
    const Status committed = segment.commit(item.key, item.block, value, StoreMode::kSet, 0);
    is_superseded = committed == Status::kGone && segment.is_superseded();
    return committed;
  });
  if (!is_superseded) return status;
  const Status stored = store_bytes(cache, item, item.block.value, ttl_ms, flags);
  if (stored == Status::kBusy) return stored;
  const std::string reason = memstream::last_error();
  static_cast<void>(
      cache->with_attachment(item.attachment, [&](Cache& segment) { return segment.release(item.block); }));
  return stored < Status::kOk ? memstream::fail(stored, reason) : stored;
}

}  // namespace

extern "C" {

// ---- reading ----

int memstream_view(memstream_t* cache, const void* key, size_t key_size, memstream_view_t* view) {
  const int status = guarded([&] {
    if (const Status missing = require("cache, key, view", cache, key, view); missing != Status::kOk) return missing;
    return cache->calls_in_flight().operation<view_value>(cache, key, key_size, view);
  });
  return status != CACHE_GONE ? status : view_again(cache, key, key_size, view);
}

int memstream_release(memstream_t* cache, memstream_view_t* view) {
  return guarded([&] {
    if (const Status status = require("cache, view", cache, view); status != Status::kOk) return status;
    return cache->calls_in_flight().operation<release_view>(cache, view);
  });
}

int memstream_view_in_place(memstream_t* cache, const memstream_view_t* view, int* in_place) {
  return guarded([&] {
    if (const Status status = require("cache, view, in_place", cache, view, in_place); status != Status::kOk)
      return status;
    *in_place = (view->token & memstream_handle::kPinnedToken) != 0 ? 1 : 0;
    return Status::kOk;
  });
}

// ---- writing ----

int memstream_reserve(memstream_t* cache, const void* key, size_t key_size, size_t value_size,
                      memstream_reservation_t* reservation) {
  return guarded([&] {
    if (const Status status = require("cache, key, reservation", cache, key, reservation); status != Status::kOk)
      return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    *reservation = {};
    PinnedItem item;
    item.kind = PinnedItem::Kind::kReservation;
    item.size_bytes = value_size;
    if (key_size <= memstream::kMaxKeySize) item.key = bytes_of(key, key_size);  // reserve() refuses a longer key.
    const Status status = on_segment(*cache, [&](Cache& segment) {
      item.attachment = segment.number();
      return segment.reserve(bytes_of(key, key_size), value_size, &item.block);
    });
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
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    PinnedItem item;
    if (const Status status = cache->take(reservation->token, PinnedItem::Kind::kReservation, &item);
        status != Status::kOk)
      return status;
    const Status status = commit_item(cache, item, ttl_ms, flags);
    if (status == Status::kBusy) {
      // Nothing has changed: the caller may commit the filled reservation again.
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
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    PinnedItem item;
    if (const Status status = cache->take(reservation->token, PinnedItem::Kind::kReservation, &item);
        status != Status::kOk)
      return status;
    *reservation = {};
    if (item.copy) return Status::kOk;
    return cache->with_attachment(item.attachment, [&](Cache& segment) { return segment.release(item.block); });
  });
}

}  // extern "C"
