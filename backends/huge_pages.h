// What the kernel tells about huge pages. There are two kinds. Pages of a reserved pool (hugetlb) can make up a System
// V segment. The kernel gives transparent huge pages to ordinary shared memory if its settings allow that. No function
// here fails: a number that cannot be read is 0.
#pragma once

#include <cstddef>
#include <cstdint>

namespace memstream {

// Of a transparent huge page; 0 if the kernel has none.
std::size_t transparent_huge_page_size_bytes() noexcept;

// The pool of huge pages of the default size.
struct HugePagePool {
  std::size_t page_size_bytes = 0;  // 0: the kernel has none.
  std::uint64_t pages = 0;
  std::uint64_t free_pages = 0;
  std::uint64_t reserved_pages = 0;  // Free pages that are promised to a mapping.
};
HugePagePool huge_page_pool() noexcept;

// Size in bytes of the largest page in the mapping at `address` of this process. 0: unknown.
std::size_t mapped_page_size_bytes(const void* address) noexcept;

// Whether a settings file of the kernel, such as "always [never] deny", has this word chosen.
bool is_chosen(const char* path, const char* word) noexcept;

// Whether the tmpfs on `folder` may use transparent huge pages: it has a mount option huge= other than never.
bool tmpfs_allows_huge_pages(const char* folder) noexcept;

}  // namespace memstream
