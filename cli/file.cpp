#include "cli/file.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "cli/failure.h"
#include "cli/text.h"

namespace memstream::cli {
namespace {

// One call writes 2 GiB at most.
bool write_all(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

[[noreturn]] void fail_to_write(const std::string& path, int error) {
  throw Failure(CACHE_OS_ERROR,
                fmt::format("Writing {} failed: {}. Choose another file.", path_in_quotes(path), std::strerror(error)));
}

}  // namespace

void require_writable(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) fail_to_write(path, EISDIR);
  std::string draft = path + ".XXXXXX";
  const int file = mkstemp(draft.data());
  if (file < 0) fail_to_write(path, errno);
  close(file);
  unlink(draft.c_str());
}

void write_file(const std::string& path, const std::string& bytes) {
  std::string draft = path + ".XXXXXX";
  const int file = mkstemp(draft.data());
  const bool is_written = file >= 0 && write_all(file, bytes) && fchmod(file, 0600) == 0;
  const int error = errno;
  if (file >= 0) close(file);
  if (is_written && rename(draft.c_str(), path.c_str()) == 0) return;
  const int reason = is_written ? errno : error;
  if (file >= 0) unlink(draft.c_str());
  fail_to_write(path, reason);
}

}  // namespace memstream::cli
