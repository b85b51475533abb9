// See page_map.h.
#include "tests/support/page_map.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <vector>

#include "backends/mapped_segment.h"

namespace memstream::test {

std::size_t mapped_pages(const void* data, std::size_t count) {
  constexpr std::uint64_t kIsPresent = std::uint64_t{1} << 63;
  // Not as a stream, which reads pieces that the kernel refuses.
  const int map = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  const std::size_t first = reinterpret_cast<std::uintptr_t>(data) / page_size_bytes();
  std::vector<std::uint64_t> words(count);
  const std::size_t size_bytes = count * sizeof(std::uint64_t);
  std::size_t done = 0;
  while (done < size_bytes) {
    const ssize_t got = ::pread(map, reinterpret_cast<char*>(words.data()) + done, size_bytes - done,
                                static_cast<off_t>(first * sizeof(std::uint64_t) + done));
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
  }
  ::close(map);
  if (done < size_bytes) throw std::runtime_error("/proc/self/pagemap cannot be read");
  return static_cast<std::size_t>(
      std::count_if(words.begin(), words.end(), [](std::uint64_t word) { return (word & kIsPresent) != 0; }));
}

std::set<std::uintptr_t> segment_mappings() {
  std::set<std::uintptr_t> starts;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/dev/shm/memstream.") != line.npos || line.find("/SYSV") != line.npos)
      starts.insert(std::stoull(line, nullptr, 16));
  }
  return starts;
}

namespace {

Complaint install(sock_filter* program, std::size_t size) {
  const sock_fprog filter{static_cast<unsigned short>(size), program};
  const bool is_done =
      ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
  return is_done ? "" : "prctl(PR_SET_SECCOMP)";
}

}  // namespace

Complaint refuse_population(int error) {
  constexpr auto kAdvice = static_cast<std::uint32_t>(offsetof(seccomp_data, args) + 2 * sizeof(std::uint64_t));
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 4),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kAdvice),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_POPULATE_READ, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_POPULATE_WRITE, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  return install(program, std::size(program));
}

Complaint refuse_system_call(long number, int error) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  return install(program, std::size(program));
}

Complaint refuse_page_claims() {
  if (Complaint obstacle = refuse_population(EINVAL); !obstacle.empty()) return obstacle;
  return refuse_system_call(SYS_process_vm_readv, EPERM);
}

Complaint interrupt_large_fallocate(std::uint32_t at_least_bytes) {
  constexpr auto kLength = static_cast<std::uint32_t>(offsetof(seccomp_data, args) + 3 * sizeof(std::uint64_t));
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fallocate, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kLength),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, at_least_bytes, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINTR),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  return install(program, std::size(program));
}

std::uint64_t kernel_number(const std::string& path) {
  std::uint64_t number = 0;
  std::ifstream(path) >> number;
  return number;
}

}  // namespace memstream::test
