// What a core dump holds of a cache: nothing that the segment holds. Copies that the library or its caller made on the
// heap are in it, as all memory of the process is.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/child_process.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::size_t kMarkSize = 64;

// Bytes that are nowhere in memory unless somebody wrote them there. Made one by one, so that no constant holds them.
std::byte mark_byte(std::uint32_t seed, std::size_t i) {
  return static_cast<std::byte>((seed + i) * (2654435761U + seed) >> 11);
}

__attribute__((noinline)) void write_mark(std::uint32_t seed, volatile std::byte* to) {
  for (std::size_t i = 0; i < kMarkSize; ++i) to[i] = mark_byte(seed, i);
}

constexpr std::uint32_t kOnHeap = 101;
constexpr std::uint32_t kInOtherSharedMemory = 202;
constexpr std::uint32_t kInCache = 303;

bool holds_mark(const std::string& text, std::uint32_t seed) {
  std::string mark(kMarkSize, '\0');
  write_mark(seed, reinterpret_cast<std::byte*>(mark.data()));
  return text.find(mark) != std::string::npos;
}

// A folder of this test alone, removed with what is in it.
struct Folder {
  Folder() {
    std::string name = std::filesystem::temp_directory_path() / "memstream-core-XXXXXX";
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

// Stores a mark as a value, holds it by a view, and leaves two more where a core dump must have them.
Complaint fill_memory(const CacheSpec& spec, const OpenCache& cache) {
  auto* page =
      static_cast<std::byte*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (page == MAP_FAILED) return "mmap";
  write_mark(kInOtherSharedMemory, page);
  auto* heap = static_cast<std::byte*>(std::malloc(kMarkSize));
  write_mark(kInCache, heap);
  if (memstream_set(cache, "key", 3, heap, kMarkSize, 0, 0) != CACHE_OK) return cache_last_error();
  write_mark(kOnHeap, heap);
  const OpenCache again(spec);
  memstream_view_t view{};
  if (memstream_view(cache, "key", 3, &view) != CACHE_OK) return cache_last_error();
  return std::to_integer<int>(static_cast<const std::byte*>(view.data)[0]) ==
                 std::to_integer<int>(mark_byte(kInCache, 0))
             ? ""
             : "the value is another one";
}

[[noreturn]] void die_with_core(const std::filesystem::path& folder) {
  const rlimit unlimited{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  if (::setrlimit(RLIMIT_CORE, &unlimited) != 0) (void)limit_resource(RLIMIT_CORE, RLIM_INFINITY);
  std::ofstream("/proc/self/coredump_filter") << "0xff";  // All that can be dumped, shared memory of each kind, too.
  std::filesystem::current_path(folder);
  std::signal(SIGABRT, SIG_DFL);  // Not the test framework's.
  std::abort();
}

std::string read_core(const std::filesystem::path& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::string core(entry.file_size(), '\0');
    std::ifstream(entry.path(), std::ios::binary).read(core.data(), static_cast<std::streamsize>(core.size()));
    return core;
  }
  return "";
}

TEST_CASE("a core dump holds the memory of the process and no value of the cache") {
  const TemporarySegment segment("core", 4 << 20, 1);
  const Folder folder;
  CHECK(in_child([&]() -> Complaint {
          const OpenCache cache(segment.spec());
          if (Complaint failed = fill_memory(segment.spec(), cache); !failed.empty()) return failed;
          die_with_core(folder.path);
        }) == "killed by signal 6");
  const std::string core = read_core(folder.path);
  if (core.empty()) {
    std::string pattern;
    std::getline(std::ifstream("/proc/sys/kernel/core_pattern"), pattern);
    MESSAGE("skipped: no core file is written into the current folder here (kernel.core_pattern is '"
            << pattern << "', or the hard limit on cores is 0); the flags of the mappings are checked all the same");
    return;
  }
  CHECK(holds_mark(core, kOnHeap));
  CHECK(holds_mark(core, kInOtherSharedMemory));
  CHECK_FALSE(holds_mark(core, kInCache));
}

TEST_CASE("every mapping of a segment is marked as not to be dumped, also in a forked child") {
  const TemporarySegment segment("flags", 4 << 20, 1);
  const OpenCache cache(segment.spec());
  memstream_options_t options = segment.spec().options();
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  memstream_t* reader = nullptr;
  REQUIRE(memstream_open(&options, &reader) == CACHE_OK);
  const auto look = []() -> Complaint {
    std::ifstream file("/proc/self/smaps");
    int mappings = 0;
    bool is_ours = false;
    for (std::string line; std::getline(file, line);) {
      // "7f3c5a000000-7f3c5a400000 rw-s 00000000 00:1b 5   /dev/shm/memstream.NAME", or /SYSV01234567 as its file.
      if (line.find('-') < line.find(' ') && line.find(" rw-s ") + line.find(" r--s ") != 2 * std::string::npos) {
        is_ours = line.find("/memstream.test-") != std::string::npos || line.find("/SYSV") != std::string::npos;
        mappings += is_ours ? 1 : 0;
      }
      if (is_ours && line.starts_with("VmFlags:")) {
        if (line.find(" dd") == std::string::npos) return line;
        is_ours = false;
      }
    }
    return mappings == 2 ? "" : std::to_string(mappings) + " mappings";
  };
  CHECK(look() == "");
  CHECK(in_child(look) == "");
  memstream_close(reader);
}

}  // namespace
}  // namespace memstream::test
