// The object behind memstream_t: an open cache, and the views and reservations that the C interface keeps for callers.
#pragma once

#include <array>
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
#include "core/base/signal_block.h"
#include "core/cache/cache.h"

namespace memstream {

class WatchHub;

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
  std::uint32_t attachment = 0;      // Of the segment that it lies in.
  std::unique_ptr<OwnedBytes> copy;  // Used when nothing could be pinned.
  std::size_t size_bytes = 0;
};

}  // namespace memstream

// The handle. Its functions throw std::bad_alloc only, and the C functions catch it. It is outside the namespace
// because the C header names it.
struct memstream_handle final : private memstream::ForkAware, private memstream::Cache::LookListener {
 public:
  static memstream::Status open(const memstream_options_t* options, std::unique_ptr<memstream_handle>* handle);
  ~memstream_handle() = default;

  // The segment that has the name, as far as this handle knows. A call loads it once, after it was counted.
  memstream::Cache& cache() noexcept { return *current_.load(std::memory_order_acquire); }
  // After kGone from `gone`: attaches to the segment that took its place. kOk: cache() is another one now. kGone if
  // none did, and the message that there is; or if this process could not attach, with the reason.
  memstream::Status follow(memstream::Cache& gone);
  // From here on follow() returns kGone: the owner counts the calls itself, and opens another handle.
  void leave_following_to_owner() noexcept { follows_ = false; }
  // The thread that serves the watches of this handle, started if there is none.
  memstream::Status watch_hub(std::shared_ptr<memstream::WatchHub>* hub);
  // Opens the same name in the same way, if it exists.
  memstream::Status open_again(std::unique_ptr<memstream_handle>* handle) const;
  // Calls `operation(cache)` with the segment of that number, which stays attached meanwhile. kBadHandle if there is
  // none.
  template <class Operation>
  memstream::Status with_attachment(std::uint32_t number, const Operation& operation) {
    if (memstream::Cache& present = cache(); present.number() == number) [[likely]]
      return operation(present);
    const memstream::ForkSafeGuard guard(attachments_mutex_);
    if (number >= kAttachments || attachments_[number].cache == nullptr) return no_attachment();
    return operation(*attachments_[number].cache);
  }
  memstream::InFlightCalls& calls_in_flight() noexcept { return calls_in_flight_; }
  const char* backend_name() const noexcept { return backend_->name(); }
  const char* name() const noexcept { return spec_.name.c_str(); }
  const char* open_note() const noexcept { return open_note_.c_str(); }
  // Replaces the segment by one of another size. While others do that first, it tries again. Each attempt notes itself
  // in calls_in_flight(), so that the segments which it leaves can go at its end.
  memstream::Status resize(std::uint64_t size_bytes, memstream_resize_report_t* report);
  memstream::HugePages huge_pages() const noexcept { return spec_.huge_pages; }
  // Segment::kernel_page_size_bytes(), cached: asking the kernel costs more than all other statistics together.
  std::uint64_t page_size_bytes() noexcept;

  // Whether the segment was destroyed, or its name was removed.
  bool is_gone() noexcept {
    cache().look_for_name();
    return cache().is_gone();
  }
  // Marks the segment destroyed and removes its name. Tries again, and notes itself, as resize() does.
  memstream::Status destroy();

  // Keeps an item until take(). Returns its token, which is never 0 and always below kPinnedToken.
  std::uint64_t keep(memstream::PinnedItem item);
  // kBadHandle if this handle keeps no item of that kind under `token`.
  memstream::Status take(std::uint64_t token, memstream::PinnedItem::Kind kind, memstream::PinnedItem* item);

  // The token of a pinned view is the place of its pin, so it needs no memory.
  static constexpr std::uint64_t kPinnedToken = std::uint64_t{1} << 63;
  static constexpr std::uint32_t kAttachments = 8;  // The last one, and earlier ones in which views are held.
  static constexpr std::uint32_t kShardOfToken = 0xff;
  static constexpr std::uint32_t kPinOfToken = 0xf'ffff;
  static constexpr std::uint64_t pinned_token(const memstream::PinnedValue& block, std::uint32_t attachment) noexcept {
    static_assert(memstream::kPinsPerProcess + memstream::kMaxPinChunks * memstream::kPinsPerChunk <= kPinOfToken + 1 &&
                  memstream::kMaxShards <= kShardOfToken + 1);
    return kPinnedToken | std::uint64_t{attachment} << 60 | std::uint64_t{block.shard} << 52 |
           std::uint64_t{block.pin} << 32 | block.position;
  }
  static constexpr std::uint32_t attachment_of(std::uint64_t token) noexcept {
    return static_cast<std::uint32_t>(token >> 60) & (kAttachments - 1);
  }
  static constexpr memstream::PinnedValue pinned_block(std::uint64_t token) noexcept {
    memstream::PinnedValue block;
    block.shard = static_cast<std::uint32_t>(token >> 52) & kShardOfToken;
    block.pin = memstream::PinNumber{static_cast<std::uint32_t>(token >> 32) & kPinOfToken};
    block.position = memstream::BlockPosition{static_cast<std::uint32_t>(token)};
    return block;
  }

 private:
  memstream_handle() = default;

  // A segment to which this process is attached. All but the current one are retired: they go as soon as no view lies
  // in them and no call works with them.
  struct Attachment {
    std::unique_ptr<memstream::Cache> cache;
    memstream::InFlightCalls::Earlier calls;  // Those that may use it, once it is retired.
    bool is_viewed = false;                   // When the process forked last.
    bool is_inherited = false;                // With views of the parent, which this process cannot count.
  };

  void before_fork() noexcept override;
  void after_fork_in_parent() noexcept override;
  void after_fork_in_child() noexcept override;
  void on_look() noexcept override;
  // REQUIRES: attachments_mutex_ is held.
  bool drop_retired() noexcept;
  memstream::Status attach_again(const std::unique_ptr<memstream::SegmentBackend>& backend,
                                 std::unique_ptr<memstream::Cache>* cache, std::string* note) const;
  static memstream::Status no_attachment() noexcept;
  // One attempt. `*is_outrun`: another process has resized the segment first; nothing is changed.
  memstream::Status try_resize(std::uint64_t size_bytes, memstream_resize_report_t* report, bool* is_outrun);

  std::unique_ptr<memstream::SegmentBackend> backend_;
  memstream::SegmentSpec spec_;
  bool read_only_ = false;
  bool prefault_ = false;
  bool follows_ = true;
  std::mutex attachments_mutex_;
  std::array<Attachment, kAttachments> attachments_;
  std::atomic<memstream::Cache*> current_{nullptr};
  std::string open_note_;
  memstream::InFlightCalls calls_in_flight_;
  std::mutex items_mutex_;
  std::unordered_map<std::uint64_t, memstream::PinnedItem> items_;
  std::uint64_t next_token_ = 1;
  std::weak_ptr<memstream::WatchHub> watch_hub_;  // items_mutex_ guards it.
  std::atomic<std::uint64_t> page_size_bytes_{0};
  memstream::ForkRegistration fork_registration_{this};
};
