// What the kernel tells of huge pages. There are two kinds: pages of a pool that is set aside and reserved from
// (hugetlb; System V segments can be made of them), and transparent ones, which the kernel gives ordinary shared memory
// if its settings let it. Nothing here fails: what cannot be read is 0.
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
  std::uint64_t reserved_pages = 0;  // Of the free ones: promised to somebody.
};
HugePagePool huge_page_pool() noexcept;

// Bytes of the page at `address` of this process: the largest that its mapping has. 0: unknown.
std::size_t mapped_page_size_bytes(const void* address) noexcept;

// Whether a setting file of the kernel, "always [never] deny", has that word chosen.
bool is_chosen(const char* path, const char* word) noexcept;

// Whether the tmpfs mounted on `folder` may use transparent huge pages: its mount option huge= is there and not never.
bool tmpfs_allows_huge_pages(const char* folder) noexcept;

}  // namespace memstream
