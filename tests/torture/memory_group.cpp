#include "tests/torture/memory_group.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace memstream::torture {
namespace {

struct Hierarchy {
  const char* root;
  const char* limit;
  const char* swap;        // Lest the limit be passed by swapping; may be missing.
  const char* swap_value;  // Null: the limit again.
};

constexpr Hierarchy kHierarchies[] = {
    {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", nullptr},
    {"/sys/fs/cgroup", "memory.max", "memory.swap.max", "0"},
};

bool write_line(const std::string& path, const std::string& line) {
  std::ofstream file(path);
  return static_cast<bool>(file << line << std::flush);
}

}  // namespace

MemoryGroup::MemoryGroup(std::uint64_t limit_bytes) {
  why_not_ = "there is no memory cgroup hierarchy under /sys/fs/cgroup";
  for (const Hierarchy& hierarchy : kHierarchies) {
    const std::string folder = std::string(hierarchy.root) + "/memstream-torture-" + std::to_string(::getpid());
    if (::mkdir(folder.c_str(), 0755) != 0) {
      if (errno != ENOENT) why_not_ = "mkdir " + folder + ": " + std::strerror(errno);
      continue;
    }
    folder_ = folder;
    const std::string limit = std::to_string(limit_bytes);
    if (!write_line(folder + "/" + hierarchy.limit, limit)) {
      why_not_ = "the group " + folder + " has no memory limit that could be set";
      ::rmdir(folder.c_str());
      folder_.clear();
      continue;
    }
    write_line(folder + "/" + hierarchy.swap, hierarchy.swap_value != nullptr ? hierarchy.swap_value : limit);
    why_not_.clear();
    return;
  }
}

MemoryGroup::~MemoryGroup() {
  // A process that was just killed may stay in the group for a moment.
  for (int tries = 0; !folder_.empty() && ::rmdir(folder_.c_str()) != 0 && tries < 1000; ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void MemoryGroup::join() const {
  if (!write_line(folder_ + "/cgroup.procs", std::to_string(::getpid()))) {
    throw std::runtime_error("cannot join the memory cgroup " + folder_);
  }
}

}  // namespace memstream::torture
