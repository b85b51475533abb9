// See huge_pages.h. Files of the kernel are read line by line without allocating.
#include "backends/huge_pages.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>

#include "core/base/descriptors.h"
#include "core/base/retry_eintr.h"
#include "core/base/thread_cancel.h"

namespace memstream {
namespace {

constexpr std::size_t kKibibyte = 1024;
constexpr char kTransparentSize[] = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size";

// Calls visit(std::string_view) with each line until it returns false. Lines longer than the buffer come in pieces.
template <class Visit>
void for_each_line(const char* path, const Visit& visit) noexcept {
  const DisableCancelScope uncancelled;
  const FileDescriptor file = open_descriptor([&] { return ::open(path, O_RDONLY | O_CLOEXEC); });
  if (!file.is_open()) return;
  char buffer[4096];
  std::size_t filled = 0;
  bool goes_on = true;
  while (goes_on) {
    const ssize_t got = retry_on_eintr([&] { return ::read(file.number(), buffer + filled, sizeof buffer - filled); });
    if (got <= 0) break;
    filled += static_cast<std::size_t>(got);
    std::string_view text(buffer, filled);
    for (std::size_t end = text.find('\n'); goes_on && end != text.npos; end = text.find('\n')) {
      goes_on = visit(text.substr(0, end));
      text.remove_prefix(end + 1);
    }
    if (goes_on && text.size() == sizeof buffer) {
      goes_on = visit(text);
      text = {};
    }
    filled = text.size();
    std::memmove(buffer, text.data(), filled);
  }
  if (goes_on && filled != 0) visit(std::string_view(buffer, filled));
}

// The number behind "Name:" and blanks; false if the line begins otherwise.
bool read_field(std::string_view line, std::string_view name, std::uint64_t* number) noexcept {
  if (!line.starts_with(name)) return false;
  line.remove_prefix(std::min(line.find_first_not_of(' ', name.size()), line.size()));
  return std::from_chars(line.data(), line.data() + line.size(), *number).ec == std::errc{};
}

// Whether a line of smaps is the head of a mapping, "7f00-7f10 rw-s ...", and then from where to where it goes.
bool read_range(std::string_view line, std::uint64_t* begin, std::uint64_t* end) noexcept {
  const char* const last = line.data() + line.size();
  const auto first = std::from_chars(line.data(), last, *begin, 16);
  if (first.ec != std::errc{} || first.ptr == last || *first.ptr != '-') return false;
  return std::from_chars(first.ptr + 1, last, *end, 16).ec == std::errc{};
}

}  // namespace

std::size_t transparent_huge_page_size_bytes() noexcept {
  std::uint64_t size = 0;
  for_each_line(kTransparentSize, [&](std::string_view line) {
    (void)read_field(line, "", &size);
    return false;
  });
  return size;
}

HugePagePool huge_page_pool() noexcept {
  HugePagePool pool;
  std::uint64_t size_kib = 0;
  for_each_line("/proc/meminfo", [&](std::string_view line) {
    (void)(read_field(line, "HugePages_Total:", &pool.pages) || read_field(line, "HugePages_Free:", &pool.free_pages) ||
           read_field(line, "HugePages_Rsvd:", &pool.reserved_pages) || read_field(line, "Hugepagesize:", &size_kib));
    return true;
  });
  pool.page_size_bytes = size_kib * kKibibyte;
  return pool;
}

std::size_t mapped_page_size_bytes(const void* address) noexcept {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  bool is_inside = false;
  std::uint64_t page_kib = 0;
  std::uint64_t huge_kib = 0;  // In transparent huge pages. A field for memory without a file, one for that with one.
  for_each_line("/proc/self/smaps", [&](std::string_view line) {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    if (read_range(line, &begin, &end)) {
      if (is_inside) return false;
      is_inside = begin <= wanted && wanted < end;
    } else if (is_inside) {
      std::uint64_t kib = 0;
      (void)read_field(line, "KernelPageSize:", &page_kib);
      if (read_field(line, "ShmemPmdMapped:", &kib) || read_field(line, "FilePmdMapped:", &kib)) huge_kib += kib;
    }
    return true;
  });
  return huge_kib != 0 ? transparent_huge_page_size_bytes() : page_kib * kKibibyte;
}

bool is_chosen(const char* path, const char* word) noexcept {
  bool chosen = false;
  for_each_line(path, [&](std::string_view line) {
    const std::size_t begin = line.find('[');
    const std::size_t end = line.find(']');
    if (begin < end && end != line.npos) chosen = line.substr(begin + 1, end - begin - 1) == word;
    return false;
  });
  return chosen;
}

bool tmpfs_allows_huge_pages(const char* folder) noexcept {
  bool allows = false;
  for_each_line("/proc/self/mounts", [&](std::string_view line) {
    // "what where type options 0 0"; of several mounts on one folder the last is on top.
    const std::size_t where = line.find(' ') + 1;
    const std::size_t type = line.find(' ', where) + 1;
    if (line.substr(where, type - where - 1) == folder) {
      const std::size_t huge = line.find("huge=", type);
      allows = huge != line.npos && !line.substr(huge).starts_with("huge=never");
    }
    return true;
  });
  return allows;
}

}  // namespace memstream
