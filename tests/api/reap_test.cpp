// Freeing what dead processes hold, on request: locks, and what is refused.
#include <doctest/doctest.h>
#include <pthread.h>
#include <signal.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "backends/open_segment.h"
#include "core/cache/format.h"
#include "core/layout/layout.h"
#include "tests/support/child_process.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

memstream_reap_report_t reap(memstream_t* cache) {
  memstream_reap_report_t report{};
  report.struct_size = sizeof report;
  if (memstream_reap(cache, &report) != CACHE_OK) throw std::runtime_error(cache_last_error());
  return report;
}

// A process takes the write locks of the first `count` shards and is killed.
Complaint leave_locks_behind(const CacheSpec& spec, std::uint32_t count) {
  return in_child([&]() -> Complaint {
    std::unique_ptr<SegmentBackend> backend;
    std::unique_ptr<Segment> segment;
    SegmentFormat format(spec.name, 0);
    AttachedHeader attached;
    if (make_backend_from_environment(&backend) != Status::kOk ||
        backend->attach({.name = spec.name}, Access::kReadWrite, format, &segment) != Status::kOk ||
        check_header(*segment, spec.name, &attached) != Status::kOk)
      return last_error();
    for (std::uint32_t shard = 0; shard < count; ++shard) {
      auto* header = reinterpret_cast<ShardHeader*>(segment->data() + attached.geometry.shard_offset(shard));
      if (::pthread_mutex_lock(&header->write_mutex) != 0) return "the lock is not to be had";
    }
    ::raise(SIGKILL);
    return "alive";
  });
}

TEST_CASE("the locks of a dead process are taken from it, each counts once, and no entry is lost") {
  const TemporarySegment segment("reap", 8 << 20, 4);
  const OpenCache cache(segment.spec());
  for (int i = 0; i < 100; ++i) {
    const std::string key = "key-" + std::to_string(i);
    REQUIRE(memstream_set(cache, key.data(), key.size(), "value", 5, 0, 0) == CACHE_OK);
  }
  CHECK(reap(cache).locks == 0);
  CHECK(leave_locks_behind(segment.spec(), 3) == "killed by signal 9");
  CHECK(reap(cache).locks == 3);
  CHECK(reap(cache).locks == 0);
  CHECK(stats_of(cache).entries == 100);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a reap says what it cannot do") {
  const TemporarySegment segment("reap-refused", 8 << 20);
  const OpenCache cache(segment.spec());
  memstream_reap_report_t report{};
  CHECK(memstream_reap(cache, &report) == CACHE_INVALID);
  CHECK(std::string(cache_last_error()).find("struct_size") != std::string::npos);
  report.struct_size = sizeof report;
  CHECK(memstream_reap(nullptr, &report) == CACHE_INVALID);
  CHECK(memstream_reap(cache, nullptr) == CACHE_INVALID);
  memstream_options_t options = segment.spec().options();
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  CHECK(memstream_reap(reader, &report) == CACHE_READ_ONLY);
  REQUIRE(memstream_destroy(cache) == CACHE_OK);
  CHECK(memstream_reap(cache, &report) == CACHE_GONE);
}

}  // namespace
}  // namespace memstream::test
