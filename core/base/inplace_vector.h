// A vector whose room is part of it: no memory from the heap, and no work for elements that are not there.
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>

namespace memstream {

// Up to `kCapacity` elements, which are never destroyed. REQUIRES: not one more is pushed.
template <class Element, std::size_t kCapacity>
class InplaceVector {
  static_assert(std::is_trivially_destructible_v<Element>);

 public:
  // Not defaulted: that would write over all of the room where `{}` stands.
  InplaceVector() noexcept {}  // NOLINT(modernize-use-equals-default)

  Element& push_back(const Element& element) noexcept {
    return *new (room_ + sizeof(Element) * size_++) Element(element);
  }
  void clear() noexcept { size_ = 0; }

  std::size_t size() const noexcept { return size_; }
  Element* data() noexcept { return std::launder(reinterpret_cast<Element*>(room_)); }
  Element& operator[](std::size_t index) noexcept { return data()[index]; }

 private:
  alignas(Element) std::byte room_[sizeof(Element) * kCapacity];
  std::size_t size_ = 0;
};

}  // namespace memstream
