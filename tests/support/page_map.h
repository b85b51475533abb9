// What the kernel knows of the pages of this process, and kernels that know less.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "tests/support/child_process.h"

namespace memstream::test {

// How many of `count` ordinary pages from `data` on are mapped in this process: present in its page table.
std::size_t mapped_pages(const void* data, std::size_t count);

// Where the mappings of segments begin in this process.
std::set<std::uintptr_t> segment_mappings();

// For a child: from here on madvise() fails with `error` when asked for MADV_POPULATE_READ or MADV_POPULATE_WRITE.
// EINVAL is what kernels before 5.14 say, EFAULT what others say of a page that touching would make a SIGBUS of.
Complaint refuse_population(int error);

// For a child: from here on the system call `number` (SYS_...) fails with `error`, as under a filter of a container.
Complaint refuse_system_call(long number, int error);

// For a child: from here on nothing can claim pages of a mapping. A kernel before 5.14 in a container that also forbids
// process_vm_readv().
Complaint refuse_page_claims();

// For a child: from here on fallocate() of that much or more is always interrupted, as on a kernel that ends it at a
// signal, while signals arrive faster than it is done.
Complaint interrupt_large_fallocate(std::uint32_t at_least_bytes);

// The number in the first line of a file of the kernel; 0 if there is none.
std::uint64_t kernel_number(const std::string& path);

}  // namespace memstream::test
