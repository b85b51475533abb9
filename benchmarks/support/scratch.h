// A folder in memory for the servers and files of one benchmark; it goes with everything in it.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <system_error>

namespace memstream::bench {

class Scratch {
 public:
  // `purpose` and the process id name it.
  explicit Scratch(const char* purpose) : path_(fmt::format("/dev/shm/memstream-{}-{}", purpose, ::getpid())) {
    std::filesystem::create_directory(path_);
    std::filesystem::permissions(path_, std::filesystem::perms::all);  // memcached gives up being root.
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

}  // namespace memstream::bench
