// The common part of the mappings of all backends: address, size, access, commit() and prefault() in whole pages.
#pragma once

#include <cstddef>
#include <string>

#include "core/base/segment.h"

namespace memstream {

std::size_t page_size_bytes() noexcept;
std::size_t round_up_to_page(std::size_t size_bytes) noexcept;
// A cache holds values of other users.
void keep_out_of_core_dumps(std::byte* data, std::size_t size_bytes) noexcept;

// A derived class makes the mapping, and unmaps it in its destructor.
class MappedSegment : public Segment {
 public:
  std::byte* data() const noexcept final { return data_; }
  std::size_t size_bytes() const noexcept final { return size_bytes_; }
  Access access() const noexcept final { return access_; }
  Status commit(std::size_t offset_bytes, std::size_t size_bytes) noexcept final;
  Status prefault(std::size_t offset_bytes, std::size_t size_bytes) const noexcept final;
  Status look_for_memory(std::size_t offset_bytes, std::size_t size_bytes) const noexcept override;
  std::size_t kernel_page_size_bytes() const noexcept final;
  void abandon() noexcept final;

 protected:
  // Keeps the mapping out of core dumps, and asks for huge pages if the segment wants them. kernel_page_size_bytes()
  // tells whether it got any.
  MappedSegment(std::string name, std::byte* data, std::size_t size_bytes, Access access,
                HugePages huge_pages = HugePages::kOff) noexcept;

  // Commits whole pages of the mapping. `memory_remedy` says how to let the system give more.
  Status commit_by_touch(std::size_t offset_bytes, std::size_t size_bytes, const char* memory_remedy) noexcept;

  // The user's name, for messages.
  const std::string& name() const noexcept { return name_; }

 private:
  // commit() for whole pages.
  virtual Status commit_pages(std::size_t offset_bytes, std::size_t size_bytes) noexcept = 0;

  std::string name_;
  std::byte* data_;
  std::size_t size_bytes_;
  Access access_;
};

}  // namespace memstream
