// Lists of objects, for the policies: links by object number, and the bytes of what is in the list.
#pragma once

#include <cstdint>
#include <vector>

namespace memstream::bench {

inline constexpr std::uint32_t kNone = 0xffff'ffff;

// The links of lists that share no object with one another.
struct Links {
  explicit Links(std::size_t objects) : newer(objects, kNone), older(objects, kNone) {}
  std::vector<std::uint32_t> newer;
  std::vector<std::uint32_t> older;
};

class ObjectList {
 public:
  ObjectList(Links* links, const std::vector<std::uint32_t>* sizes) : links_(*links), sizes_(*sizes) {}

  bool empty() const noexcept { return newest_ == kNone; }
  std::uint32_t newest() const noexcept { return newest_; }
  std::uint32_t oldest() const noexcept { return oldest_; }
  std::uint32_t newer(std::uint32_t object) const noexcept { return links_.newer[object]; }
  std::uint64_t bytes() const noexcept { return bytes_; }
  std::size_t count() const noexcept { return count_; }

  void push(std::uint32_t object) noexcept {
    links_.older[object] = newest_;
    links_.newer[object] = kNone;
    (newest_ == kNone ? oldest_ : links_.newer[newest_]) = object;
    newest_ = object;
    bytes_ += sizes_[object];
    ++count_;
  }
  void remove(std::uint32_t object) noexcept {
    const std::uint32_t above = links_.newer[object];
    const std::uint32_t below = links_.older[object];
    (above == kNone ? newest_ : links_.older[above]) = below;
    (below == kNone ? oldest_ : links_.newer[below]) = above;
    bytes_ -= sizes_[object];
    --count_;
  }
  void renew(std::uint32_t object) noexcept {
    remove(object);
    push(object);
  }
  // REQUIRES: not empty().
  std::uint32_t pop_oldest() noexcept {
    const std::uint32_t object = oldest_;
    remove(object);
    return object;
  }

 private:
  Links& links_;
  const std::vector<std::uint32_t>& sizes_;
  std::uint32_t newest_ = kNone;
  std::uint32_t oldest_ = kNone;
  std::uint64_t bytes_ = 0;
  std::size_t count_ = 0;
};

}  // namespace memstream::bench
