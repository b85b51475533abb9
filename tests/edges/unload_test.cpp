// A program that loads the library at run time and unloads it again leaves nothing behind.
#include <dlfcn.h>
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "api/memstream.h"

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
  explicit Library(const std::string& file = MEMSTREAM_LIBRARY_FILE)
      : handle_(::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) {}
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() { close(); }

  bool is_open() const { return handle_ != nullptr; }
  // A function by its name, of the type that `Function` has in the header.
  template <class Function>
  Function* function(const char* name) {
    return reinterpret_cast<Function*>(::dlsym(handle_, name));
  }
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

TEST_CASE("a second copy of the library in the process leaves the first one its slot and its views") {
  const std::string name = "test-" + std::to_string(::getpid()) + "-copies";
  ::setenv("MEMSTREAM_NAME", name.c_str(), 1);
  ::setenv("MEMSTREAM_SIZE", "1M", 1);
  const std::filesystem::path file = std::filesystem::temp_directory_path() / (name + ".so");
  std::filesystem::copy_file(MEMSTREAM_LIBRARY_FILE, file);
  Library first;
  Library second(file.string());
  std::filesystem::remove(file);
  REQUIRE(first.is_open());
  REQUIRE(second.is_open());
  memstream_t* cache = nullptr;
  REQUIRE(first.function<decltype(memstream_open)>("memstream_open")(nullptr, &cache) == CACHE_OK);
  const std::string value(10'000, 'v');
  const auto set = first.function<decltype(memstream_set)>("memstream_set");
  REQUIRE(set(cache, "held", 4, value.data(), value.size(), 0, 0) == CACHE_OK);
  memstream_view_t view{};
  REQUIRE(first.function<decltype(memstream_view)>("memstream_view")(cache, "held", 4, &view) == CACHE_OK);

  REQUIRE(second.call("cache_connect") == CACHE_OK);
  CHECK(second.processes() == 1);  // One process, whatever it has loaded.
  const auto put = second.function<decltype(cache_put)>("cache_put");
  const std::string other(10'000, 'o');
  for (int i = 0; i < 300; ++i) {  // More than the cache holds.
    REQUIRE(put(("key" + std::to_string(i % 200)).c_str(), other.data(), other.size()) == CACHE_OK);
    REQUIRE(put("held", other.data(), other.size()) == CACHE_OK);
  }
  CHECK(std::memcmp(view.data, value.data(), value.size()) == 0);
  REQUIRE(second.call("cache_disconnect") == CACHE_OK);
  CHECK(first.function<decltype(memstream_release)>("memstream_release")(cache, &view) == CACHE_OK);
  CHECK(first.function<decltype(memstream_destroy)>("memstream_destroy")(cache) == CACHE_OK);
  CHECK(first.function<decltype(memstream_close)>("memstream_close")(cache) == CACHE_OK);
}

}  // namespace
}  // namespace memstream::test
