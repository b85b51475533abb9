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

#include "core/cancellation.h"
#include "core/descriptors.h"
#include "core/interruptions.h"

namespace memstream {
namespace {

constexpr const char* kProcRemedy = "It is read from /proc: mount it, and see the limits on open files (ulimit -n).";

// The beginning of a small file, read without allocating.
struct FileText {
  std::string_view text;
  const char* failed_call = nullptr;
  int error = 0;
};

FileText read_file(const char* path, char* buffer, std::size_t size_bytes) noexcept {
  const UncancelledScope uncancelled;
  const FileDescriptor file = open_descriptor([&] { return open(path, O_RDONLY | O_CLOEXEC); });
  if (!file.is_open()) return {{}, "open", errno};
  const ssize_t got = uninterrupted([&] { return read(file.number(), buffer, size_bytes); });
  return got < 0 ? FileText{{}, "read", errno} : FileText{{buffer, static_cast<std::size_t>(got)}};
}

struct ProcessStat {
  char state = 0;
  std::uint64_t threads = 0;
  std::uint64_t start_time = 0;
};

// Fields 3, 20 and 22 of /proc/<pid>/stat. The name in field 2 may hold blanks and parentheses: fields count from its
// last ')'.
ProcessStat process_stat(pid_t pid, FileText* file) noexcept {
  char path[32] = "/proc/";
  char* end = std::to_chars(path + 6, path + 20, pid).ptr;
  std::memcpy(end, "/stat", 6);
  char buffer[1024];
  *file = read_file(path, buffer, sizeof buffer);
  std::string_view text = file->text;
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

Status find_home(Home* home) {
  char buffer[64];
  const FileText file = read_file("/proc/sys/kernel/random/boot_id", buffer, sizeof buffer);
  if (file.failed_call != nullptr) {
    return fail_errno(Status::kOsError, (std::string(file.failed_call) + " of the machine's boot id").c_str(), "",
                      file.error, kProcRemedy);
  }
  struct stat status {};
  if (stat("/proc/self/ns/pid", &status) != 0) {
    return fail_errno(Status::kOsError, "stat of this process's pid namespace", "", errno, kProcRemedy);
  }
  home->boot_id = file.text.substr(0, file.text.find('\n'));
  home->pid_namespace = static_cast<std::uint64_t>(status.st_ino);
  return Status::kOk;
}

std::string libc_id() { return std::string("glibc ") + gnu_get_libc_version(); }

Status own_start_time(std::uint64_t* start_time) noexcept {
  FileText file;
  *start_time = process_stat(getpid(), &file).start_time;
  if (*start_time != 0) return Status::kOk;
  const bool is_open = file.failed_call == nullptr || std::string_view(file.failed_call) == "read";
  return fail_errno(Status::kOsError,
                    is_open ? "read of this process's start time" : "open of this process's start time", "",
                    file.error != 0 ? file.error : EBADMSG, kProcRemedy);
}

std::uint64_t process_start_time(pid_t pid) noexcept {
  FileText file;
  return process_stat(pid, &file).start_time;
}

bool process_is_alive(pid_t pid, std::uint64_t start_time) noexcept {
  if (kill(pid, 0) != 0 && errno == ESRCH) return false;
  FileText file;
  const ProcessStat stat = process_stat(pid, &file);
  // A process whose main thread has ended looks like a zombie while its other threads run on.
  if ((stat.state == 'Z' && stat.threads <= 1) || stat.state == 'X') return false;
  return stat.start_time == 0 || start_time == 0 || stat.start_time == start_time;
}

bool random_bytes(void* to, std::size_t size_bytes) noexcept {
  return uninterrupted([&] { return getrandom(to, size_bytes, 0); }) == static_cast<ssize_t>(size_bytes);
}

}  // namespace memstream
