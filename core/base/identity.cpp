#include "core/base/identity.h"

#include <fcntl.h>
#include <gnu/libc-version.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>
#include <system_error>

#include "core/base/descriptors.h"
#include "core/base/retry_eintr.h"
#include "core/base/thread_cancel.h"

namespace memstream {
namespace {

constexpr const char* kProcRemedy = "Mount /proc, or raise the limit on open files (ulimit -n).";

// The beginning of a small file, read without allocating.
struct FileText {
  std::string_view text;
  const char* failed_call = nullptr;
  int error = 0;
};

FileText read_file(const char* path, char* buffer, std::size_t size_bytes) noexcept {
  const DisableCancelScope uncancelled;
  const FileDescriptor file = open_descriptor([&] { return open(path, O_RDONLY | O_CLOEXEC); });
  if (!file.is_open()) return {{}, "open", errno};
  const ssize_t got = retry_on_eintr([&] { return read(file.number(), buffer, size_bytes); });
  return got < 0 ? FileText{{}, "read", errno} : FileText{{buffer, static_cast<std::size_t>(got)}};
}

// The numbers of a text, as far as `numbers` has room. Returns how many there are.
template <std::size_t kRoom>
std::size_t read_numbers(std::string_view text, std::uint64_t (&numbers)[kRoom]) noexcept {
  std::size_t count = 0;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (count < kRoom) {
    while (at != end && (*at == ' ' || *at == '\n')) ++at;
    const auto [next, error] = std::from_chars(at, end, numbers[count]);
    if (error != std::errc{}) break;
    at = next;
    ++count;
  }
  return count;
}

// `map` and `overflow` are the files that say which ids a namespace maps, and which number the others have.
bool is_shared_id(std::uint64_t id, const char* map, const char* overflow) noexcept {
  constexpr std::uint64_t kDefaultOverflow = 65534;
  constexpr std::uint64_t kEveryId = 0xffff'ffff;
  char buffer[128];
  std::uint64_t shown[1] = {kDefaultOverflow};
  static_cast<void>(read_numbers(read_file(overflow, buffer, sizeof buffer).text, shown));
  if (id != shown[0]) return false;
  // First id inside, first id outside, number of ids. One line with all of them leaves none that is not mapped.
  std::uint64_t mapped[3] = {};
  const std::size_t count = read_numbers(read_file(map, buffer, sizeof buffer).text, mapped);
  return count != 3 || mapped[0] != 0 || mapped[2] != kEveryId;
}

}  // namespace

bool is_shared_user_id(uid_t user) noexcept {
  return is_shared_id(user, "/proc/self/uid_map", "/proc/sys/kernel/overflowuid");
}

bool is_shared_group_id(gid_t group) noexcept {
  return is_shared_id(group, "/proc/self/gid_map", "/proc/sys/kernel/overflowgid");
}

Status read_host_id(HostId* home) {
  char buffer[64];
  const FileText file = read_file("/proc/sys/kernel/random/boot_id", buffer, sizeof buffer);
  if (file.failed_call != nullptr) {
    return fail_errno(Status::kOsError, (std::string(file.failed_call) + " of the machine's boot id").c_str(), "",
                      file.error, kProcRemedy);
  }
  home->boot_id = file.text.substr(0, file.text.find('\n'));
  home->pid_namespace = own_namespace("/proc/self/ns/pid");
  if (home->pid_namespace == 0) {
    return fail_errno(Status::kOsError, "stat of this process's pid namespace", "", errno, kProcRemedy);
  }
  home->ipc_namespace = own_namespace("/proc/self/ns/ipc");
  if (home->ipc_namespace == 0) {
    return fail_errno(Status::kOsError, "stat of this process's IPC namespace", "", errno, kProcRemedy);
  }
  home->time_namespace = own_namespace("/proc/self/ns/time");
  if (home->time_namespace == 0 && errno != ENOENT) {
    return fail_errno(Status::kOsError, "stat of this process's time namespace", "", errno, kProcRemedy);
  }
  return Status::kOk;
}

std::uint64_t own_namespace(const char* path) noexcept {
  struct stat status {};
  return stat(path, &status) == 0 ? static_cast<std::uint64_t>(status.st_ino) : 0;
}

std::string libc_id() { return std::string("glibc ") + gnu_get_libc_version(); }

// Field 22 of /proc/self/stat. The name in field 2 may hold blanks and parentheses: fields count from its last ')'.
std::uint64_t own_start_time() noexcept {
  char buffer[1024];
  std::string_view text = read_file("/proc/self/stat", buffer, sizeof buffer).text;
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos || name_end + 2 >= text.size()) return 0;
  text.remove_prefix(name_end + 2);
  for (int field = 3; field < 22; ++field) {
    const std::size_t blank = text.find(' ');
    if (blank == std::string_view::npos) return 0;
    text.remove_prefix(blank + 1);
  }
  std::uint64_t start_time = 0;
  std::from_chars(text.data(), text.data() + text.size(), start_time);
  return start_time;
}

// The kernel gives each program 16 random bytes at its start, and all libraries in it see the same. The C library makes
// secrets of them, so that only a part of their product leaves the process.
std::uint64_t program_image() noexcept {
  static std::atomic<std::uint64_t> image{0};
  std::uint64_t known = image.load(std::memory_order_relaxed);
  if (known != 0) return known;
  constexpr std::uint64_t kShown = 0xffff'ffff;
  std::uint64_t halves[2] = {};
  const auto address = static_cast<std::uintptr_t>(getauxval(AT_RANDOM));
  if (address != 0) std::memcpy(halves, reinterpret_cast<const void*>(address), sizeof halves);
  known = ((((halves[0] | 1) * (halves[1] | 1)) >> 32 & kShown) << 1) | 1;
  image.store(known, std::memory_order_relaxed);
  return known;
}

bool random_bytes(void* to, std::size_t size_bytes) noexcept {
  return retry_on_eintr([&] { return getrandom(to, size_bytes, 0); }) == static_cast<ssize_t>(size_bytes);
}

}  // namespace memstream
