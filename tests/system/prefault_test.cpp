// Taking and mapping a large segment: in pieces, so that it ends at the deadline, and signals do not send it back to
// the beginning.
#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/support/backend_kinds.h"
#include "tests/support/child_process.h"
#include "tests/support/page_map.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kSize = std::uint64_t{256} << 20;

bool on_posix() { return std::strcmp(std::getenv("MEMSTREAM_BACKEND"), "posix") == 0; }

int open_prefaulted(const CacheSpec& spec) {
  memstream_options_t options = spec.options();
  options.prefault = "on";
  memstream_t* cache = nullptr;
  const int status = memstream_open(&options, &cache);
  if (status == CACHE_OK) memstream_close(cache);
  return status;
}

std::string traces_of(const std::string& name) { return on_posix() ? Posix::traces_of(name) : SysV::traces_of(name); }

TEST_CASE("a creator that cannot have all memory before its deadline says so, and nothing is left") {
  const TemporarySegment segment("creator", kSize, 0, 1);
  CHECK(open_prefaulted(segment.spec()) == CACHE_BUSY);
  CHECK(std::string(cache_last_error()).find("MEMSTREAM_TIMEOUT_MS") != std::string::npos);
  CHECK(traces_of(segment.spec().name) == "");
}

TEST_CASE("who attaches and cannot map all memory before the deadline is told so") {
  const TemporarySegment segment("attach", kSize, 0, 10'000);
  REQUIRE(open_prefaulted(segment.spec()) == CACHE_OK);
  CacheSpec impatient = segment.spec();
  impatient.timeout_ms = 0;
  CHECK(open_prefaulted(impatient) == CACHE_BUSY);
  CHECK(std::string(cache_last_error()).find("MEMSTREAM_TIMEOUT_MS") != std::string::npos);
  CHECK(open_prefaulted(segment.spec()) == CACHE_OK);
}

TEST_CASE("a process that takes a segment whole while signals interrupt large calls gets it") {
  if (!on_posix()) return;  // Others cannot.
  const TemporarySegment segment("signals", kSize, 0, 10'000);
  CHECK(in_child([&]() -> Complaint {
          if (Complaint obstacle = refuse_page_claims(); !obstacle.empty()) return obstacle;
          if (Complaint obstacle = interrupt_large_fallocate(64U << 20); !obstacle.empty()) return obstacle;
          const OpenCache cache(segment.spec());
          return memstream_set(cache, "key", 3, "value", 5, 0, 0) == CACHE_OK ? "" : cache_last_error();
        }) == "");
}

TEST_CASE("a process that cannot take a segment whole before its deadline says so, and nothing is left") {
  if (!on_posix()) return;  // Others cannot.
  const TemporarySegment segment("whole", kSize, 0, 1);
  CHECK(in_child([&]() -> Complaint {
          if (Complaint obstacle = refuse_page_claims(); !obstacle.empty()) return obstacle;
          const memstream_options_t options = segment.spec().options();
          memstream_t* cache = nullptr;
          const int status = memstream_open(&options, &cache);
          if (status != CACHE_BUSY) return "status " + std::to_string(status);
          return traces_of(segment.spec().name);
        }) == "");
}

}  // namespace
}  // namespace memstream::test
