#include "core/identity.h"

#include <fcntl.h>
#include <gnu/libc-version.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>

namespace memstream {
namespace {

// Reads the beginning of a small file without allocating; empty if that fails.
std::string_view read_file(const char* path, char* buffer, std::size_t size_bytes) noexcept {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  ssize_t got = 0;
  do {
    got = read(file, buffer, size_bytes);
  } while (got < 0 && errno == EINTR);
  close(file);
  return {buffer, got > 0 ? static_cast<std::size_t>(got) : 0};
}

struct ProcessStat {
  char state = 0;
  std::uint64_t threads = 0;
  std::uint64_t start_time = 0;
};

// Fields 3, 20 and 22 of /proc/<pid>/stat. The name in field 2 may hold blanks and parentheses: fields count from its
// last ')'.
ProcessStat process_stat(pid_t pid) noexcept {
  char path[32] = "/proc/";
  char* end = std::to_chars(path + 6, path + 20, pid).ptr;
  std::memcpy(end, "/stat", 6);
  char buffer[1024];
  std::string_view text = read_file(path, buffer, sizeof buffer);
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos || name_end + 2 >= text.size()) return {};
  text.remove_prefix(name_end + 2);
  ProcessStat result;
  result.state = text.front();
  for (int field = 3; field < 22; ++field) {
    if (field == 20) std::from_chars(text.data(), text.data() + text.size(), result.threads);
    const std::size_t blank = text.find(' ');
    if (blank == std::string_view::npos) return {};
    text.remove_prefix(blank + 1);
  }
  std::from_chars(text.data(), text.data() + text.size(), result.start_time);
  return result;
}

}  // namespace

std::string boot_id() {
  char buffer[64];
  std::string_view text = read_file("/proc/sys/kernel/random/boot_id", buffer, sizeof buffer);
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  return std::string(text);
}

std::uint64_t pid_namespace_id() noexcept {
  struct stat status {};
  return stat("/proc/self/ns/pid", &status) == 0 ? static_cast<std::uint64_t>(status.st_ino) : 0;
}

std::string libc_id() { return std::string("glibc ") + gnu_get_libc_version(); }

std::uint64_t process_start_time(pid_t pid) noexcept { return process_stat(pid).start_time; }

bool process_is_alive(pid_t pid, std::uint64_t start_time) noexcept {
  if (kill(pid, 0) != 0 && errno == ESRCH) return false;
  const ProcessStat stat = process_stat(pid);
  // A process whose main thread has ended looks like a zombie while its other threads run on.
  if ((stat.state == 'Z' && stat.threads <= 1) || stat.state == 'X') return false;
  return stat.start_time == 0 || start_time == 0 || stat.start_time == start_time;
}

bool random_bytes(void* to, std::size_t size_bytes) noexcept {
  return getrandom(to, size_bytes, 0) == static_cast<ssize_t>(size_bytes);
}

}  // namespace memstream
