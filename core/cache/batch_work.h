// What a batch works with: too much for the stack of a small thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string_view>
#include <type_traits>

#include "core/base/status.h"
#include "core/shard/requests.h"

namespace memstream {

// One key of a batch: what is to be stored, or where the value was copied to and what else was read.
struct BatchItem {
  std::string_view key;
  const std::byte* value = nullptr;
  std::uint64_t value_size = 0;
  std::uint64_t ttl_ms = 0;
  std::uint32_t caller_flags = 0;
  Status status = Status::kOk;
  ReadResult read;

  bool failed() const noexcept { return status < Status::kOk && status != Status::kTooSmall; }
};

// Elements in memory that belongs to somebody else; they are never destroyed. REQUIRES: not more are pushed than fit.
template <class Element>
class VectorInRoom {
  static_assert(std::is_trivially_destructible_v<Element>);

 public:
  explicit VectorInRoom(std::byte* room) noexcept : room_(room) {}

  Element& push_back(const Element& element) noexcept {
    return *new (room_ + sizeof(Element) * size_++) Element(element);
  }
  void clear() noexcept { size_ = 0; }

  std::size_t size() const noexcept { return size_; }
  Element* data() noexcept { return std::launder(reinterpret_cast<Element*>(room_)); }
  Element& operator[](std::size_t index) noexcept { return data()[index]; }

 private:
  std::byte* room_;
  std::size_t size_ = 0;
};

// The room for one batch of items after the other. More than a few come from the heap, for the whole call; without
// memory there the batches are small.
class BatchWork {
 public:
  static constexpr std::size_t kMost = 128;

  explicit BatchWork(std::size_t items_in_all) noexcept
      : heap_(items_in_all > kFew ? new (std::nothrow) std::byte[kItemSize * std::min(items_in_all, kMost)] : nullptr),
        capacity_(heap_ != nullptr ? std::min(items_in_all, kMost) : kFew),
        room_(heap_ != nullptr ? heap_.get() : few_),
        items(room_),
        keys(room_ + sizeof(BatchItem) * capacity_),
        requests(room_ + (sizeof(BatchItem) + sizeof(Key)) * capacity_) {}
  BatchWork(const BatchWork&) = delete;
  BatchWork& operator=(const BatchWork&) = delete;

  std::size_t capacity() const noexcept { return capacity_; }

 private:
  static constexpr std::size_t kFew = 12;
  static constexpr std::size_t kItemSize = sizeof(BatchItem) + sizeof(Key) + sizeof(StoreRequest);
  static_assert(alignof(BatchItem) <= 8 && alignof(Key) <= 8 && alignof(StoreRequest) <= 8);

  alignas(8) std::byte few_[kItemSize * kFew];
  std::unique_ptr<std::byte[]> heap_;
  std::size_t capacity_;
  std::byte* room_;

 public:
  VectorInRoom<BatchItem> items;
  VectorInRoom<Key> keys;
  VectorInRoom<StoreRequest> requests;
};

}  // namespace memstream
