// A vector with inline storage: it takes no heap memory and does not touch unused elements.
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>

namespace memstream {

// Up to `kCapacity` elements, which are never destroyed. REQUIRES: size() < kCapacity before push_back().
template <class Element, std::size_t kCapacity>
class InplaceVector {
  static_assert(std::is_trivially_destructible_v<Element>);

 public:
  // Not defaulted: `{}` would then clear the whole storage.
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
