// The full C interface, third part: many keys in one call.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <vector>

#include "api/arguments.h"
#include "api/following.h"
#include "api/grown_struct.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/memstream.h"
#include "api/memstream_tags.h"

using memstream::BatchBuffer;
using memstream::BatchItem;
using memstream::BatchWork;
using memstream::bytes_of;
using memstream::Cache;
using memstream::fail;
using memstream::guarded;
using memstream::InFlightCalls;
using memstream::is_item_size;
using memstream::kFirstItemSize;
using memstream::kMaxItemSize;
using memstream::require;
using memstream::require_bytes;
using memstream::Status;
using memstream::TagSet;

namespace {

enum class Reads { kKeysOnly, kKeysAndValues };
// Where a call is counted as one in flight.
enum class Counted { kHere, kByCaller };

// Of memstream_get_many_consistent() by default.
constexpr std::uint32_t kConsistentTries = 16;

// The caller's items, each `item_size` bytes behind the one before. A newer program may have larger ones than this
// library knows: what it leaves behind the known fields must be zero.
class CallersItems {
 public:
  CallersItems(memstream_item_t* items, std::size_t item_size) noexcept
      : begin_(reinterpret_cast<std::byte*>(items)), item_size_(item_size) {}

  memstream_item_t& operator[](std::size_t index) const noexcept {
    return *reinterpret_cast<memstream_item_t*>(begin_ + index * item_size_);
  }
  // Null if the items are smaller, or this one has none.
  const memstream_tags_t* tags_of(std::size_t index) const noexcept {
    if (item_size_ < sizeof(memstream_tagged_item_t)) [[likely]]
      return nullptr;
    return reinterpret_cast<const memstream_tagged_item_t*>(begin_ + index * item_size_)->tags;
  }
  bool has_unknown_fields(std::size_t index) const noexcept {
    if (item_size_ <= sizeof(memstream_tagged_item_t)) [[likely]]
      return false;
    const std::byte* item = begin_ + index * item_size_;
    return std::any_of(item + sizeof(memstream_tagged_item_t), item + item_size_,
                       [](std::byte byte) { return byte != std::byte{0}; });
  }

 private:
  std::byte* begin_;
  std::size_t item_size_;
};

[[gnu::cold]] Status refuse_item_size(std::size_t item_size) {
  return fail(
      Status::kInvalid,
      fmt::format("Invalid item_size {}: expected a multiple of {} from {} to {}. Pass sizeof(memstream_item_t).",
                  item_size, alignof(memstream_item_t), sizeof(memstream_item_t), kMaxItemSize));
}

[[gnu::cold]] Status refuse_unknown_fields() noexcept {
  return fail(Status::kInvalid,
              "Invalid item: expected zeros behind the fields that this library knows. Clear them, or do not use a "
              "library older than your program.");
}

[[gnu::cold]] Status refuse_empty_tags() noexcept {
  return fail(Status::kInvalid,
              "Invalid tags of an item: expected a set with one at least. Add it by memstream_tag().");
}

// Converts a caller's item to the engine's. A missing pointer fails this item alone.
[[gnu::always_inline]] inline BatchItem item_of(const memstream_item_t& item, const memstream_tags_t* tags, Reads reads,
                                                Status* failure) {
  BatchItem result;
  result.status = require("key of an item", item.key);
  if (result.status == Status::kOk && reads == Reads::kKeysAndValues) {
    result.status = require_bytes("value of an item", item.value, item.value_size);
    result.value = static_cast<const std::byte*>(item.value);
    result.value_size = item.value_size;
    result.ttl_ms = item.ttl_ms;
    result.caller_flags = item.flags;
    if (tags != nullptr) [[unlikely]] {
      result.tags = reinterpret_cast<const TagSet*>(tags);
      if (result.status == Status::kOk && result.tags->segment == 0) result.status = refuse_empty_tags();
    }
  }
  if (result.status != Status::kOk) *failure = result.status;
  result.key = bytes_of(item.key, item.key_size);
  return result;
}

// Runs one item in the segment that took the place of the one that its batch was meant for. Those of the batch that
// were done before stay so: they were copied.
template <class Operation, class Finish>
[[gnu::noinline, gnu::cold]] Status run_again(memstream_t* cache, memstream_item_t& item, const memstream_tags_t* tags,
                                              Reads reads, Operation operation, Finish finish) {
  Status failure = Status::kOk;
  BatchItem done;
  const Status status = memstream::on_segment(*cache, [&](Cache& segment) {
    BatchWork work(1);
    new (work.items()) BatchItem(item_of(item, tags, reads, &failure));
    work.set_count(1);
    const Status run = operation(segment, work, segment.deadline());
    done = work.filled().front();
    if (run != Status::kGone) finish(segment, item, done);
    return run;
  });
  if (status == Status::kGone) {
    done.status = status;
    finish(cache->cache(), item, done);
  }
  item.status = static_cast<int32_t>(done.status);
  return status;
}

// Runs `operation(segment, engine's items, deadline)` over the items, one batch of the engine's size at a time, then
// `finish(segment, item, engine's item)` over each one. Returns the engine's last failure, which is the one that
// last_error() describes.
template <Counted kCounted = Counted::kHere, class Operation, class Finish>
Status for_all(memstream_t* cache, memstream_item_t* first, std::size_t item_size, size_t count, Reads reads,
               Operation operation, Finish finish) {
  if (!is_item_size(item_size)) [[unlikely]]
    return refuse_item_size(item_size);
  if (count == 0) return Status::kOk;
  if (const Status status = require("cache, items", cache, first); status != Status::kOk) return status;
  std::optional<InFlightCalls::OperationGuard> guard;
  if constexpr (kCounted == Counted::kHere) guard.emplace(cache->calls_in_flight());
  const CallersItems items(first, item_size);
  const memstream::Deadline deadline = cache->cache().deadline();
  Status failure = Status::kOk;
  BatchWork work(count);
  for (size_t begin = 0; begin < count; begin += work.capacity()) {
    const size_t end = std::min(begin + work.capacity(), count);
    BatchItem* next = work.items();
    for (size_t i = begin; i < end; ++i, ++next) {
      new (next) BatchItem(item_of(items[i], items.tags_of(i), reads, &failure));
      if (items.has_unknown_fields(i)) [[unlikely]]
        next->status = failure = refuse_unknown_fields();
    }
    work.set_count(end - begin);
    const std::span<BatchItem> part = work.filled();
    Cache& segment = cache->cache();
    const Status status = operation(segment, work, deadline);
    const bool is_superseded = status == Status::kGone && segment.is_superseded();
    if (status != Status::kOk && !is_superseded) failure = status;
    for (size_t i = 0; i < part.size(); ++i) {
      memstream_item_t& item = items[begin + i];
      item.status = static_cast<int32_t>(part[i].status);
      finish(segment, item, part[i]);
    }
    for (size_t i = 0; is_superseded && i < part.size(); ++i) {  // From here on `segment` may be closed.
      if (part[i].status != Status::kGone) continue;
      const Status again = run_again(cache, items[begin + i], items.tags_of(begin + i), reads, operation, finish);
      if (again != Status::kOk) failure = again;
    }
  }
  return failure;
}

int set_many(memstream_t* cache, memstream_item_t* items, size_t item_size, size_t count) noexcept {
  return guarded([&] {
    return for_all(
        cache, items, item_size, count, Reads::kKeysAndValues,
        [&](Cache& segment, BatchWork& batch, const memstream::Deadline& deadline) {
          return segment.store_many(batch, deadline);
        },
        [](const Cache&, memstream_item_t&, const BatchItem&) {});
  });
}

int delete_many(memstream_t* cache, memstream_item_t* items, size_t item_size, size_t count) noexcept {
  return guarded([&] {
    return for_all(
        cache, items, item_size, count, Reads::kKeysOnly,
        [&](Cache& segment, BatchWork& batch, const memstream::Deadline& deadline) {
          return segment.remove_many(batch, deadline);
        },
        [](const Cache&, memstream_item_t&, const BatchItem&) {});
  });
}

template <Counted kCounted = Counted::kHere>
int get_many(memstream_t* cache, memstream_item_t* items, size_t item_size, size_t count, void* buffer,
             size_t* buffer_size) noexcept {
  return guarded([&] {
    if (const Status status = require("buffer_size", buffer_size); status != Status::kOk) return status;
    if (const Status status = require_bytes("buffer", buffer, *buffer_size); status != Status::kOk) return status;
    BatchBuffer left{.data = static_cast<std::byte*>(buffer), .size_bytes = *buffer_size};
    bool too_small = false;
    const Status failure = for_all<kCounted>(
        cache, items, item_size, count, Reads::kKeysOnly,
        [&](Cache& segment, BatchWork& batch, const memstream::Deadline& deadline) {
          return segment.get_many(batch, deadline, &left);
        },
        [&](const Cache& segment, memstream_item_t& item, const BatchItem& got) {
          const bool is_there = got.status == Status::kOk || got.status == Status::kTooSmall;
          const memstream_meta_t meta = is_there ? meta_of(segment, got.read) : memstream_meta_t{};
          too_small |= got.status == Status::kTooSmall;
          item.value = got.status == Status::kOk ? got.value : nullptr;
          item.value_size = is_there ? got.read.value_size : 0;
          item.cas = meta.cas;
          item.created_at_ms = meta.created_at_ms;
          item.expires_at_ms = meta.expires_at_ms;
          item.flags = meta.flags;
        });
    *buffer_size = left.needed_bytes;
    return failure == Status::kOk && too_small ? Status::kTooSmall : failure;
  });
}

// What stood under each key at one moment: Cache::stamp(), which other segments have of their own.
class Stamps {
 public:
  Stamps(memstream_t* cache, memstream_item_t* items, std::size_t item_size, std::size_t count)
      : cache_(cache), items_(items, item_size), stamps_(count) {}

  void take() noexcept {
    const memstream::Deadline deadline = cache_->cache().deadline();
    for (std::size_t i = 0; i < stamps_.size(); ++i) stamps_[i] = stamp_of(i, deadline);
  }
  // Whether each key has stood still since take(). Otherwise takes them anew.
  bool stood_still() noexcept {
    const memstream::Deadline deadline = cache_->cache().deadline();
    bool all_stood = true;
    for (std::size_t i = 0; i < stamps_.size(); ++i) {
      const std::uint64_t stamp = stamp_of(i, deadline);
      all_stood = all_stood && stamp == stamps_[i] && stamp != kUnsettled;
      stamps_[i] = stamp;
    }
    return all_stood;
  }

 private:
  static constexpr std::uint64_t kUnsettled = 0;

  // A bad key has none: get_many() reports it.
  std::uint64_t stamp_of(std::size_t index, const memstream::Deadline& deadline) const noexcept {
    const memstream_item_t& item = items_[index];
    if (item.key == nullptr) return kUnsettled;
    std::uint64_t stamp = kUnsettled;
    std::uint64_t salt = 0;
    const Status status = memstream::on_segment(*cache_, [&](Cache& segment) {
      salt = segment.token_salt();
      return segment.stamp(bytes_of(item.key, item.key_size), deadline, &stamp);
    });
    return status == Status::kOk && stamp != kUnsettled ? stamp ^ salt : kUnsettled;
  }

  memstream_t* cache_;
  CallersItems items_;
  std::vector<std::uint64_t> stamps_;
};

// Every key has its stamp before the first value is read, and the same one after the last: between the two there was an
// instant at which all of these values stood under their keys.
int get_many_consistent(memstream_t* cache, memstream_item_t* items, std::size_t item_size, std::size_t count,
                        void* buffer, std::size_t* buffer_size, std::uint32_t most_tries) noexcept {
  return guarded([&] {
    if (const Status status = require("cache, buffer_size", cache, buffer_size); status != Status::kOk) return status;
    if (count != 0) {
      if (const Status status = require("items", items); status != Status::kOk) return status;
    }
    if (!is_item_size(item_size)) [[unlikely]]
      return refuse_item_size(item_size);
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    const std::size_t capacity = *buffer_size;
    const std::uint32_t tries = most_tries != 0 ? most_tries : kConsistentTries;
    Stamps stamps(cache, items, item_size, count);
    stamps.take();
    for (std::uint32_t i = 0; i < tries; ++i) {
      *buffer_size = capacity;
      const int status = get_many<Counted::kByCaller>(cache, items, item_size, count, buffer, buffer_size);
      if (status != CACHE_OK) return static_cast<Status>(status);
      if (stamps.stood_still()) return Status::kOk;
    }
    return Status::kConflict;
  });
}

}  // namespace

extern "C" {

int memstream_get_many(memstream_t* cache, memstream_item_t* items, size_t count, void* buffer, size_t* buffer_size) {
  return get_many(cache, items, kFirstItemSize, count, buffer, buffer_size);
}

int memstream_set_many(memstream_t* cache, memstream_item_t* items, size_t count) {
  return set_many(cache, items, kFirstItemSize, count);
}

int memstream_delete_many(memstream_t* cache, memstream_item_t* items, size_t count) {
  return delete_many(cache, items, kFirstItemSize, count);
}

int memstream_get_many_sized(memstream_t* cache, memstream_item_t* items, size_t item_size, size_t count, void* buffer,
                             size_t* buffer_size) {
  return get_many(cache, items, item_size, count, buffer, buffer_size);
}

int memstream_get_many_consistent(memstream_t* cache, memstream_item_t* items, size_t item_size, size_t count,
                                  void* buffer, size_t* buffer_size, uint32_t most_tries) {
  return get_many_consistent(cache, items, item_size, count, buffer, buffer_size, most_tries);
}

int memstream_set_many_sized(memstream_t* cache, memstream_item_t* items, size_t item_size, size_t count) {
  return set_many(cache, items, item_size, count);
}

int memstream_delete_many_sized(memstream_t* cache, memstream_item_t* items, size_t item_size, size_t count) {
  return delete_many(cache, items, item_size, count);
}

}  // extern "C"
