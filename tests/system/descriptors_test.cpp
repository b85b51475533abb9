// Programs that close descriptors which they do not know, or run without standard ones: the library keeps no descriptor
// and never takes the numbers 0, 1 and 2.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

std::ptrdiff_t open_descriptors() {
  const std::filesystem::directory_iterator folder("/proc/self/fd");
  return std::distance(begin(folder), end(folder));
}

// Puts values enough that the cache claims more memory.
Complaint put_values(memstream_t* cache) {
  const std::string value(4000, 'v');
  for (int i = 0; i < 3000; ++i) {
    const std::string key = "key-" + std::to_string(i);
    if (memstream_set(cache, key.data(), key.size(), value.data(), value.size(), 0, 0) != CACHE_OK)
      return cache_last_error();
  }
  return problems_of(cache);
}

TEST_CASE("a cache that is open holds no descriptor") {
  const TemporarySegment segment("descriptors", 32 * kMiB);
  const std::ptrdiff_t before = open_descriptors();
  const OpenCache creator(segment.spec());
  CHECK(open_descriptors() == before);
  const OpenCache other(segment.spec());
  CHECK(put_values(other) == "");
  CHECK(open_descriptors() == before);
}

TEST_CASE("a daemon that closes what it does not know keeps the files that it opens after that") {
  const TemporarySegment segment("daemon", 32 * kMiB);
  CHECK(in_child([&]() -> Complaint {
          int log = -1;
          {
            const OpenCache cache(segment.spec());
            // The child's pipe to its parent stays: it is the newest of a few.
            for (int number = 3; number < 256; ++number) {
              char path[32] = "/proc/self/fd/000";
              std::snprintf(path, sizeof path, "/proc/self/fd/%d", number);
              std::error_code error;
              if (std::filesystem::read_symlink(path, error).string().find("pipe:") != 0) ::close(number);
            }
            log = ::open("/tmp", O_TMPFILE | O_RDWR, 0600);
            if (::write(log, "line 1\n", 7) != 7) return "cannot write a log";
            if (Complaint wrong = put_values(cache); !wrong.empty()) return wrong;
          }
          if (const off_t size = ::lseek(log, 0, SEEK_END); size != 7)
            return "the log has " + std::to_string(size) + " bytes";
          return "";
        }) == "");
}

// What one of the numbers 0, 1 and 2 stands for although the program closed it. Empty: for nothing that could be read
// or written.
Complaint misused_standard_number(int numbers = 3) {
  for (int number = 0; number < numbers; ++number) {
    const int flags = ::fcntl(number, F_GETFL);
    if (flags < 0 || (flags & O_PATH) != 0) continue;
    std::error_code error;
    const std::string path = "/proc/self/fd/" + std::to_string(number);
    return "descriptor " + std::to_string(number) +
           " can be used: " + std::filesystem::read_symlink(path, error).string();
  }
  return "";
}

// The address sanitizer opens /proc/self/maps itself, by the lowest free number.
#if !defined(__SANITIZE_ADDRESS__)
Complaint open_and_close(const CacheSpec& spec) {
  const OpenCache cache(spec);
  const cache_stats_t stats = stats_of(cache);  // Reads /proc for the size of the pages.
  return stats.page_size == 0 ? "no page size" : put_values(cache);
}

TEST_CASE("a program without standard descriptors gets none of them back as a file of the library") {
  const TemporarySegment segment("standard", 32 * kMiB);
  CHECK(in_child([&]() -> Complaint {
          for (int number = 0; number < 3; ++number) ::close(number);
          std::atomic<bool> is_done{false};
          Complaint seen;
          std::thread watcher([&] {
            while (!is_done && seen.empty()) seen = misused_standard_number();
          });
          std::vector<std::thread> threads;
          std::vector<Complaint> complaints(3);
          for (Complaint& complaint : complaints) {
            threads.emplace_back([&] {
              try {
                for (int round = 0; round < scaled(20); ++round) complaint += open_and_close(segment.spec());
              } catch (const std::exception& error) {
                complaint = error.what();
              }
            });
          }
          for (std::thread& thread : threads) thread.join();
          is_done = true;
          watcher.join();
          for (const Complaint& complaint : complaints) seen += complaint;
          return seen + misused_standard_number();
        }) == "");
}
#endif

TEST_CASE("a file that the program puts on a standard number while the library opens files stays there") {
  const TemporarySegment segment("reopened", 32 * kMiB);
  const OpenCache keeper(segment.spec());
  for (int round = 0; round < scaled(50); ++round) {
    CHECK(in_child([&]() -> Complaint {
            const int nowhere = ::open("/dev/null", O_RDWR);
            ::close(0);
            std::thread program([&] {
              for (int looks = 0; looks < 20 * round; ++looks) (void)::fcntl(1, F_GETFD);
              // EBUSY: at this instant the library's open() has the number and not yet a file.
              while (::dup2(nowhere, 0) < 0 && errno == EBUSY) std::this_thread::yield();
            });
            for (int opens = 0; opens < 3; ++opens) const OpenCache cache(segment.spec());
            program.join();
            struct stat status {};
            return ::fstat(0, &status) == 0 && S_ISCHR(status.st_mode) ? "" : "the program's file is gone";
          }) == "");
  }
}

TEST_CASE("a filled gap does not reach the programs that are executed after") {
  const TemporarySegment segment("executed", 32 * kMiB);
  CHECK(in_child([&]() -> Complaint {
          ::close(0);
          const OpenCache cache(segment.spec());
          return (::fcntl(0, F_GETFD) & FD_CLOEXEC) != 0 ? "" : "descriptor 0 would be inherited";
        }) == "");
}

TEST_CASE("without a free descriptor beside the standard ones there is an error and no segment") {
  const TemporarySegment segment("limit", 32 * kMiB);
  CHECK(in_child([&]() -> Complaint {
          ::close(0);
          if (Complaint failed = limit_resource(RLIMIT_NOFILE, 3); !failed.empty()) return failed;
          const memstream_options_t options = segment.spec().options();
          memstream_t* cache = nullptr;
          const int status = memstream_open(&options, &cache);
          if (status != CACHE_OS_ERROR) return "status " + std::to_string(status);
          const std::string message = cache_last_error();
          if (message.find("ulimit -n") == message.npos) return message;
          return misused_standard_number(1);
        }) == "");
}

}  // namespace
}  // namespace memstream::test
