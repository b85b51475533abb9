// The ring of accesses by itself: what writers that are killed, stopped or overtaken leave in it, and what a reader is
// told that it has missed.
#include "core/cache/access_trace.h"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "core/base/clock.h"
#include "tests/support/scale.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kSize = kLeastTraceSegment;

// A segment with the ring, a writer, and a reader that has begun.
class Traced : public TestSegment {
 public:
  Traced() : TestSegment(kSize) {
    REQUIRE(segment().commit(geometry().areas[kTraceArea].offset, kTraceAreaSize) == Status::kOk);
    read();
  }

  TraceRing& ring() const { return *reinterpret_cast<TraceRing*>(data() + geometry().areas[kTraceArea].offset); }
  MetricWord& until_ms() const {
    return reinterpret_cast<SegmentMetrics*>(data() + geometry().areas[kMetricsArea].offset)->trace_until_ms;
  }
  void note(std::uint64_t hash) { trace.note(KeyHash{hash}, AccessKind::kHit, hash + 1); }
  // The hashes that came since the last call.
  std::vector<std::uint64_t> read() {
    std::vector<std::uint64_t> hashes;
    std::array<TracedAccess, 100> some{};
    trace.keep_on(&cursor);
    for (std::size_t count = some.size(); count == some.size();) {
      count = trace.read(&cursor, some);
      for (const TracedAccess& access : std::span(some).first(count)) {
        CHECK(access.size == access.hash + 1);
        CHECK(access.what == static_cast<std::uint32_t>(AccessKind::kHit));
        hashes.push_back(access.hash);
      }
    }
    return hashes;
  }

  AccessTrace trace{segment(), geometry(), attached().created_monotonic_ms};
  AccessTrace::Cursor cursor;
};

using Hashes = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("a writer notes an access only while somebody traces") {
  Traced traced;
  traced.note(1);
  traced.note(2);
  CHECK(traced.read() == Hashes{1, 2});
  traced.until_ms() = 0;
  traced.note(3);
  CHECK(traced.ring().next == 2);
  CHECK(traced.read() == Hashes{});
  traced.note(4);
  CHECK(traced.read() == Hashes{4});
  CHECK(traced.cursor.gaps == 0);
}

TEST_CASE("what a reader leaves that was killed ends with the next access") {
  Traced traced;
  for (const std::uint64_t leaving :
       {monotonic_ms() - 1, std::uint64_t{1}, monotonic_ms() + 60'000, ~std::uint64_t{0}}) {
    traced.until_ms() = leaving;  // The last two are damage.
    traced.note(1);
    CHECK(traced.until_ms() == 0);
    CHECK(traced.ring().next == 0);
  }
}

TEST_CASE("a reader that comes after more than a second is told that something may be missing") {
  Traced traced;
  traced.cursor.noted_until_ms = monotonic_ms() - 1;
  traced.note(1);
  CHECK(traced.read() == Hashes{1});
  CHECK(traced.cursor.gaps == 1);
  traced.read();
  CHECK(traced.cursor.gaps == 1);
}

TEST_CASE("a record that is not complete stops a reader for a moment, and is then lost") {
  Traced traced;
  traced.note(1);
  traced.ring().next.fetch_add(1);  // A writer that was killed before its first store.
  traced.note(3);
  traced.note(4);
  traced.ring().records[3].size = 7;  // One that was killed a lap ago, or goes on now.
  traced.note(5);
  CHECK(traced.read() == Hashes{1});
  CHECK(traced.cursor.lost == 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  CHECK(traced.read() == Hashes{3});
  CHECK(traced.cursor.lost == 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  CHECK(traced.read() == Hashes{5});
  CHECK(traced.cursor.lost == 2);
}

TEST_CASE("a writer that is only slow loses nothing") {
  Traced traced;
  traced.note(1);
  TraceRecord& record = traced.ring().records[0];
  const std::uint64_t seal = record.seal.exchange(0);
  CHECK(traced.read() == Hashes{});
  record.seal = seal;
  CHECK(traced.read() == Hashes{1});
  CHECK(traced.cursor.lost == 0);
}

TEST_CASE("a record of the lap before counts as not there yet") {
  Traced traced;
  for (std::uint64_t i = 0; i < kTraceRecords; ++i) traced.note(i);
  CHECK(traced.read().size() == kTraceRecords);
  traced.ring().next.fetch_add(1);
  CHECK(traced.read() == Hashes{});
  CHECK(traced.cursor.lost == 0);
}

TEST_CASE("a reader that was overtaken goes on at the oldest record, and knows how many it has lost") {
  Traced traced;
  for (std::uint64_t i = 0; i < kTraceRecords + 10; ++i) traced.note(i);
  const Hashes hashes = traced.read();
  REQUIRE(hashes.size() == kTraceRecords);
  CHECK(hashes.front() == 10);
  CHECK(hashes.back() == kTraceRecords + 9);
  CHECK(traced.cursor.lost == 10);
}

TEST_CASE("a position behind the end, as one of another segment, begins again") {
  Traced traced;
  traced.note(1);
  traced.cursor.next = 1000;
  CHECK(traced.read() == Hashes{});
  traced.note(2);
  CHECK(traced.read() == Hashes{2});
  CHECK(traced.cursor.lost == 0);
}

// Without pauses, so that writers and reader overtake each other. read() compares the words of each record.
TEST_CASE("no record that is read is of two writers") {
  Traced traced;
  std::atomic<bool> is_over{false};
  std::vector<std::thread> writers;
  for (std::uint64_t number = 0; number < 3; ++number) {
    writers.emplace_back([&traced, &is_over, number] {
      for (std::uint64_t i = number << 40; !is_over; ++i) traced.note(i);
    });
  }
  std::array<std::uint64_t, 3> last{};
  std::uint64_t read = 0;
  int disordered = 0;
  const auto end = std::chrono::steady_clock::now() + stress_time(2);
  while (std::chrono::steady_clock::now() < end) {
    for (const std::uint64_t hash : traced.read()) {
      std::uint64_t& of_writer = last.at(hash >> 40);
      if (hash < of_writer) ++disordered;
      of_writer = hash;
      ++read;
    }
  }
  is_over = true;
  for (std::thread& writer : writers) writer.join();
  MESSAGE(read << " accesses, " << traced.cursor.lost << " lost");
  CHECK(disordered == 0);
  CHECK(read > 0);
}

TEST_CASE("a segment without the ring notes nothing") {
  TestSegment small(kMinSegmentSize);
  AccessTrace trace(small.segment(), small.geometry(), small.attached().created_monotonic_ms);
  reinterpret_cast<SegmentMetrics*>(small.data() + small.geometry().areas[kMetricsArea].offset)->trace_until_ms =
      monotonic_ms() + 500;
  trace.note(KeyHash{1}, AccessKind::kHit, 1);
  CHECK(small.geometry().areas[kTraceArea].size_bytes == 0);
}

}  // namespace memstream::test
