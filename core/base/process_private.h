// Memory that no other process shares or inherits. In a copy of this process's address space it holds zeros.
#pragma once

#include <new>
#include <type_traits>

#include "core/base/status.h"

namespace memstream {

// Maps a page; nullptr after an error, with the message in last_error(). fork(), _Fork() and clone() leave zeros in the
// child's copy, whether or not a handler runs there. A child that shares the address space (vfork(), CLONE_VM) shares
// the page too.
void* map_process_private_page() noexcept;
void unmap_process_private_page(void* page) noexcept;

// Holds a T whose bytes are all zero at first, and again in each child.
template <class T>
class ProcessPrivate {
 public:
  static_assert(std::is_trivially_destructible_v<T> && sizeof(T) <= 4096);

  ProcessPrivate() noexcept : value_(static_cast<T*>(map_process_private_page())) {}
  ProcessPrivate(const ProcessPrivate&) = delete;
  ProcessPrivate& operator=(const ProcessPrivate&) = delete;
  ~ProcessPrivate() {
    if (value_ != nullptr) unmap_process_private_page(value_);
  }

  // False if mapping the page failed: last_error() says why.
  explicit operator bool() const noexcept { return value_ != nullptr; }
  T& operator*() const noexcept { return *value_; }
  T* operator->() const noexcept { return value_; }

 private:
  T* value_;
};

}  // namespace memstream
