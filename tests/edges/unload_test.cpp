// A program that loads the library at run time and unloads it again leaves nothing behind.
#include <dlfcn.h>
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

#include "api/cache.h"

namespace memstream::test {
namespace {

// Lines of this process's map that show a mapping of a segment.
int segment_mappings(const std::string& name) {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);) {
    const bool is_segment =
        line.find("memstream." + name) != std::string::npos || line.find("SYSV") != std::string::npos;
    count += is_segment ? 1 : 0;
  }
  return count;
}

class Library {
 public:
  Library() : handle_(::dlopen(MEMSTREAM_LIBRARY_FILE, RTLD_NOW | RTLD_LOCAL)) {}
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() { close(); }

  bool is_open() const { return handle_ != nullptr; }
  int call(const char* function) { return reinterpret_cast<int (*)()>(::dlsym(handle_, function))(); }
  std::uint64_t processes() {
    cache_stats_t stats{};
    stats.struct_size = sizeof stats;
    reinterpret_cast<int (*)(cache_stats_t*)>(::dlsym(handle_, "cache_get_stats"))(&stats);
    return stats.processes;
  }
  void close() {
    if (handle_ != nullptr) ::dlclose(handle_);
    handle_ = nullptr;
  }

 private:
  void* handle_;
};

TEST_CASE("unloading the library without a disconnect leaves no mapping and no process slot") {
  const std::string name = "test-" + std::to_string(::getpid()) + "-unload";
  ::setenv("MEMSTREAM_NAME", name.c_str(), 1);
  ::setenv("MEMSTREAM_SIZE", "1M", 1);  // 32 process slots.
  for (int round = 0; round < 40; ++round) {
    Library library;
    const char* error = library.is_open() ? "" : ::dlerror();
    REQUIRE_MESSAGE(library.is_open(), std::string(error));
    REQUIRE(library.call("cache_connect") == CACHE_OK);
    REQUIRE(segment_mappings(name) == 1);
    library.close();
    REQUIRE(::dlopen(MEMSTREAM_LIBRARY_FILE, RTLD_NOW | RTLD_NOLOAD) == nullptr);  // It is really gone.
    REQUIRE(segment_mappings(name) == 0);
  }
  Library library;
  REQUIRE(library.call("cache_connect") == CACHE_OK);
  CHECK(library.processes() == 1);
  CHECK(library.call("cache_destroy") == CACHE_OK);
}

}  // namespace
}  // namespace memstream::test
