#include "core/base/process_names.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>

#include "core/base/retry_eintr.h"
#include "core/base/thread_cancel.h"

namespace memstream {
namespace {

// /proc/<tid>/status, as far as the first lines go; empty if it cannot be read.
class StatusFile {
 public:
  explicit StatusFile(pid_t tid) noexcept {
    const DisableCancelScope uncancelled;
    char path[32] = "/proc/";
    char* end = std::to_chars(path + 6, path + 20, tid).ptr;
    std::memcpy(end, "/status", 8);
    const int file = retry_on_eintr([&] { return open(path, O_RDONLY | O_CLOEXEC); });
    if (file < 0) return;
    const ssize_t got = retry_on_eintr([&] { return read(file, text_, sizeof text_); });
    close(file);
    if (got > 0) size_ = static_cast<std::size_t>(got);
  }

  // What stands behind "name:" and a tab. A process cannot put a line of its own there: the kernel escapes its name.
  std::string_view field(std::string_view name) const noexcept {
    std::string_view rest(text_, size_);
    while (!rest.empty()) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      if (line.substr(0, name.size()) == name && line.substr(name.size(), 2) == ":\t") {
        return line.substr(name.size() + 2);
      }
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    }
    return {};
  }

 private:
  char text_[1024];
  std::size_t size_ = 0;
};

}  // namespace

pid_t process_of_thread(pid_t tid) noexcept {
  pid_t pid = 0;
  const StatusFile thread(tid);
  const std::string_view leader = thread.field("Tgid");
  std::from_chars(leader.data(), leader.data() + leader.size(), pid);
  return pid;
}

std::string describe_process(pid_t tid) {
  if (tid == 0) return "another process";
  const pid_t leader = process_of_thread(tid);
  const pid_t pid = leader != 0 ? leader : tid;
  if (pid == getpid()) return fmt::format("this process ({})", pid);
  const StatusFile process(pid);
  const std::string_view name = process.field("Name");
  const std::string_view state = process.field("State").substr(0, 1);
  const bool is_stopped = state == "T" || state == "t";
  return fmt::format("process {}{}{}", pid, name.empty() ? "" : fmt::format(" ({})", name),
                     is_stopped ? fmt::format(", which is stopped (kill -CONT {} lets it go on),", pid) : "");
}

}  // namespace memstream
