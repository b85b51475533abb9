// The working memory of a batch, which is too large for the stack of a small thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>

#include "core/base/status.h"
#include "core/shard/shard_types.h"

namespace memstream {

// One key of a batch: the value to store, or the copied value and what else was read.
struct BatchItem {
  std::string_view key;
  const std::byte* value = nullptr;
  std::uint64_t value_size = 0;
  std::uint64_t ttl_ms = 0;
  std::uint32_t caller_flags = 0;
  Status status = Status::kOk;
  ReadResult read;
  const TagSet* tags = nullptr;  // Of a value to store.

  bool failed() const noexcept { return status < Status::kOk && status != Status::kTooSmall; }
};

// Room for one batch of items after the other. Room for more than kFew items comes from the heap, for the whole call.
// Without memory there the batches are small.
class BatchWork {
 public:
  static constexpr std::size_t kMost = 128;

  explicit BatchWork(std::size_t items_in_all) noexcept
      : heap_(items_in_all > kFew ? allocate(kItemSize * std::min(items_in_all, kMost)) : nullptr),
        capacity_(heap_ != nullptr ? std::min(items_in_all, kMost) : kFew),
        room_(heap_ != nullptr ? heap_.get() : few_) {}
  BatchWork(const BatchWork&) = delete;
  BatchWork& operator=(const BatchWork&) = delete;

  std::size_t capacity() const noexcept { return capacity_; }

  // The caller constructs the objects that these point to; nobody destroys them.
  BatchItem* items() noexcept { return reinterpret_cast<BatchItem*>(room_); }
  Key* keys() noexcept { return reinterpret_cast<Key*>(room_ + sizeof(BatchItem) * capacity_); }
  StoreRequest* requests() noexcept {
    return reinterpret_cast<StoreRequest*>(room_ + (sizeof(BatchItem) + sizeof(Key)) * capacity_);
  }

  // The items of the current batch.
  std::span<BatchItem> filled() noexcept { return {items(), count_}; }
  void set_count(std::size_t count) noexcept { count_ = count; }

 private:
  static constexpr std::size_t kFew = 16;
  static constexpr std::size_t kItemSize = sizeof(BatchItem) + sizeof(Key) + sizeof(StoreRequest);
  static_assert(alignof(BatchItem) <= 8 && alignof(Key) <= 8 && alignof(StoreRequest) <= 8);
  static_assert(std::is_trivially_destructible_v<BatchItem> && std::is_trivially_destructible_v<Key> &&
                std::is_trivially_destructible_v<StoreRequest>);

  struct Deallocate {
    void operator()(std::byte* bytes) const noexcept { ::operator delete(bytes); }
  };
  // nullptr without memory.
  static std::byte* allocate(std::size_t size_bytes) noexcept {
    try {
      return static_cast<std::byte*>(::operator new(size_bytes));
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }

  std::unique_ptr<std::byte, Deallocate> heap_;
  std::size_t capacity_;
  std::size_t count_ = 0;
  std::byte* room_;
  alignas(8) std::byte few_[kItemSize * kFew];
};

}  // namespace memstream
