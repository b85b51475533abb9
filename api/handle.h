// The object behind memstream_t: an open cache, and the views and reservations that the C interface keeps for callers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>

#include "api/in_flight_calls.h"
#include "api/memstream.h"
#include "api/options.h"
#include "core/base/fork_guard.h"
#include "core/cache/cache.h"

namespace memstream {

// Value bytes in memory of the library, for values that could not be pinned. Aligned like a block in the segment.
class OwnedBytes {
 public:
  explicit OwnedBytes(std::size_t size_bytes)
      : bytes_(static_cast<std::byte*>(::operator new (size_bytes + 1, std::align_val_t{kCacheLineSize}))) {}
  std::byte* data() const noexcept { return bytes_.get(); }

 private:
  struct Delete {
    void operator()(std::byte* bytes) const noexcept { ::operator delete (bytes, std::align_val_t{kCacheLineSize}); }
  };
  std::unique_ptr<std::byte, Delete> bytes_;
};

// A reservation, or a view that is a copy. A pinned view needs no item: its token says where the pin is.
struct PinnedItem {
  enum class Kind { kView, kReservation };

  Kind kind = Kind::kView;
  std::string key;
  PinnedValue block;                 // Used unless `copy` is set.
  std::unique_ptr<OwnedBytes> copy;  // Used when nothing could be pinned.
  std::size_t size_bytes = 0;
};

}  // namespace memstream

// The handle. Its functions throw std::bad_alloc only, and the C functions catch it. It is outside the namespace
// because the C header names it.
struct memstream_handle final : private memstream::ForkAware {
 public:
  static memstream::Status open(const memstream_options_t* options, std::unique_ptr<memstream_handle>* handle);
  ~memstream_handle() = default;

  memstream::Cache& cache() noexcept { return *cache_; }
  memstream::InFlightCalls& calls_in_flight() noexcept { return calls_in_flight_; }
  const char* backend_name() const noexcept { return backend_->name(); }
  const char* name() const noexcept { return spec_.name.c_str(); }
  const char* open_note() const noexcept { return open_note_.c_str(); }
  memstream::HugePages huge_pages() const noexcept { return spec_.huge_pages; }
  // Segment::kernel_page_size_bytes(), cached: asking the kernel costs more than all other statistics together.
  std::uint64_t page_size_bytes() noexcept;

  // Whether the segment was destroyed, or its name was removed.
  bool is_gone() noexcept {
    cache_->look_for_name();
    return cache_->is_gone();
  }
  // Marks the segment destroyed and removes its name.
  memstream::Status destroy();

  // Keeps an item until take(). Returns its token, which is never 0 and always below kPinnedToken.
  std::uint64_t keep(memstream::PinnedItem item);
  // kBadHandle if this handle keeps no item of that kind under `token`.
  memstream::Status take(std::uint64_t token, memstream::PinnedItem::Kind kind, memstream::PinnedItem* item);

  // The token of a pinned view is the place of its pin, so it needs no memory.
  static constexpr std::uint64_t kPinnedToken = std::uint64_t{1} << 63;
  static constexpr std::uint32_t kShardOfToken = 0xff;
  static constexpr std::uint32_t kPinOfToken = 0xf'ffff;
  static constexpr std::uint64_t pinned_token(const memstream::PinnedValue& block) noexcept {
    static_assert(memstream::kPinsPerProcess + memstream::kMaxPinChunks * memstream::kPinsPerChunk <= kPinOfToken + 1 &&
                  memstream::kMaxShards <= kShardOfToken + 1);
    return kPinnedToken | std::uint64_t{block.shard} << 52 | std::uint64_t{block.pin} << 32 | block.position;
  }
  static constexpr memstream::PinnedValue pinned_block(std::uint64_t token) noexcept {
    memstream::PinnedValue block;
    block.shard = static_cast<std::uint32_t>(token >> 52) & kShardOfToken;
    block.pin = memstream::PinNumber{static_cast<std::uint32_t>(token >> 32) & kPinOfToken};
    block.position = static_cast<std::uint32_t>(token);
    return block;
  }

 private:
  memstream_handle() = default;

  void before_fork() noexcept override { items_mutex_.lock(); }
  void after_fork_in_parent() noexcept override { items_mutex_.unlock(); }
  void after_fork_in_child() noexcept override {
    if (calls_in_flight_.has_operation_of_this_thread()) cache_->abandon();
    calls_in_flight_.reset();
    items_mutex_.unlock();
  }

  std::unique_ptr<memstream::SegmentBackend> backend_;
  memstream::SegmentSpec spec_;
  std::unique_ptr<memstream::Cache> cache_;
  std::string open_note_;
  memstream::InFlightCalls calls_in_flight_;
  std::mutex items_mutex_;
  std::unordered_map<std::uint64_t, memstream::PinnedItem> items_;
  std::uint64_t next_token_ = 1;
  std::atomic<std::uint64_t> page_size_bytes_{0};
  memstream::ForkRegistration fork_registration_{this};
};
