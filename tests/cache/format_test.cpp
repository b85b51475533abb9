// The segment header: what a new one says, and each way in which an existing one is refused.
#include "core/cache/format.h"

#include <doctest/doctest.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/base/identity.h"
#include "core/layout/hash.h"
#include "tests/support/expectations.h"
#include "tests/support/page_map.h"
#include "tests/support/scale.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

// A segment over bytes of somebody else, of which it says how many there are.
class BorrowedSegment : public Segment {
 public:
  BorrowedSegment(std::byte* data, std::size_t size_bytes) : data_(data), size_bytes_(size_bytes) {}
  std::byte* data() const noexcept override { return data_; }
  std::size_t size_bytes() const noexcept override { return size_bytes_; }
  Access access() const noexcept override { return Access::kReadWrite; }
  Status commit(std::size_t, std::size_t) noexcept override { return Status::kOk; }
  Status prefault(std::size_t, std::size_t) const noexcept override { return Status::kOk; }
  Status look_for_memory(std::size_t, std::size_t) const noexcept override { return Status::kOk; }
  std::size_t kernel_page_size_bytes() const noexcept override { return kPageSize; }
  std::size_t available_bytes() const noexcept override { return size_bytes(); }
  void abandon() noexcept override {}

 private:
  std::byte* data_;
  std::size_t size_bytes_;
};

// Pages that nobody has touched yet, each by itself: with huge ones the header's page would bring its neighbours along.
class FreshPages {
 public:
  explicit FreshPages(std::size_t size_bytes)
      : data_(::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)),
        size_bytes_(size_bytes) {
    REQUIRE(data_ != MAP_FAILED);
    ::madvise(data_, size_bytes_, MADV_NOHUGEPAGE);
  }
  FreshPages(const FreshPages&) = delete;
  FreshPages& operator=(const FreshPages&) = delete;
  ~FreshPages() { ::munmap(data_, size_bytes_); }
  std::byte* data() const noexcept { return static_cast<std::byte*>(data_); }

 private:
  void* data_;
  std::size_t size_bytes_;
};

// Lays out a segment in borrowed memory; nobody else removes its semaphores.
class LaidOut {
 public:
  LaidOut(SegmentFormat format, Segment& segment) : segment_(segment), status_(format.initialize(segment)) {}
  LaidOut(const LaidOut&) = delete;
  LaidOut& operator=(const LaidOut&) = delete;
  ~LaidOut() { mark_destroyed(segment_.data()); }
  Status status() const { return status_; }

 private:
  Segment& segment_;
  Status status_;
};

// Notes how often memory was asked for, and how often that was when everybody could use the segment.
class WatchedSegment final : public BorrowedSegment {
 public:
  using BorrowedSegment::BorrowedSegment;
  Status commit(std::size_t, std::size_t) noexcept override {
    ++commits;
    if (SegmentFormat("some", 0).state_of(data()) == SegmentState::kReady) ++commits_when_ready;
    return Status::kOk;
  }

  int commits = 0;
  int commits_when_ready = 0;
};

Status check(TestSegment& segment) {
  AttachedHeader attached;
  return check_header(segment.segment(), segment.name(), &attached);
}

// Changes the identity and makes the checksum right again, as another version of this library would have written it.
template <class Change>
void rewrite(TestSegment& segment, Change change) {
  change(segment.header().identity);
  segment.header().checksum = hash_bytes(&segment.header().identity, sizeof(SegmentIdentity));
}

TEST_CASE("a new segment is ready, carries its name, and is accepted for writing and for reading") {
  TestSegment segment(4U << 20, 3);
  const SegmentFormat format(segment.name(), 0);
  CHECK(format.state_of(segment.data()) == SegmentState::kReady);
  CHECK(format.name_of(segment.data()) == segment.name());
  AttachedHeader attached;
  for (const Access access : {Access::kReadWrite, Access::kReadOnly}) {
    const auto other = segment.attach(access);
    REQUIRE(check_header(*other, segment.name(), &attached) == Status::kOk);
    CHECK(attached.geometry.shards == 3);
    CHECK(attached.geometry.size_bytes == 4U << 20);
    CHECK(attached.layout_version == kLayoutVersion);
    CHECK(attached.hash_seed == segment.header().identity.hash_seed);
  }
}

// Looking at them for each shard took most of the time that creating a large segment takes.
TEST_CASE("a new segment is laid out without a look at the places of its processes") {
  constexpr std::size_t kBytes = 64U << 20;
  const FreshPages pages(kBytes);
  BorrowedSegment segment(pages.data(), kBytes);
  const LaidOut laid_out(SegmentFormat("some", 4), segment);
  REQUIRE(laid_out.status() == Status::kOk);
  AttachedHeader attached;
  REQUIRE(check_header(segment, "some", &attached) == Status::kOk);
  const Geometry& geometry = attached.geometry;
  const std::size_t places = (geometry.redo_records_offset() - geometry.process_slots_offset) / kPageSize;
  CHECK(places > 16);
  CHECK(mapped_pages(segment.data() + geometry.process_slots_offset, places) == 0);
  CHECK(mapped_pages(segment.data() + geometry.shard_offset(3), 1) == 1);
}

TEST_CASE("a new segment is ready when everything else has been laid out") {
  const FreshPages pages(kMinSegmentSize);
  WatchedSegment segment(pages.data(), kMinSegmentSize);
  const SegmentFormat format("some", 1);
  const LaidOut laid_out(format, segment);
  REQUIRE(laid_out.status() == Status::kOk);
  CHECK(format.state_of(segment.data()) == SegmentState::kReady);
  CHECK(segment.commits >= 3);  // For the tables of processes, for the shard's first pages, for its heap.
  CHECK(segment.commits_when_ready == 0);
}

TEST_CASE("a new segment that is pre-faulted never asks for memory again") {
  TestSegment segment(4U << 20, 3);
  SegmentFormat format(segment.name(), 3, true);
  segment.header().state = static_cast<std::uint32_t>(HeaderState::kInitializing);
  const std::size_t before = MemoryBackend::committed_bytes();
  REQUIRE(format.initialize(segment.segment()) == Status::kOk);
  CHECK(format.has_prefaulted());
  CHECK(MemoryBackend::committed_bytes() - before > 3U << 20);
  for (std::uint32_t index = 0; index < 3; ++index) {
    const auto* shard = reinterpret_cast<ShardHeader*>(segment.data() + segment.geometry().shard_offset(index));
    CHECK(shard->space.table_committed == segment.geometry().shard_size);
  }
}

TEST_CASE("a new segment whose memory is not to be had at once is not ready") {
  TestSegment segment(4U << 20, 3);
  SegmentFormat format(segment.name(), 3, true);
  segment.header().state = static_cast<std::uint32_t>(HeaderState::kInitializing);
  MemoryBackend::limit_committed_bytes(MemoryBackend::committed_bytes() + (1U << 20));
  CHECK(format.initialize(segment.segment()) == Status::kNoMemory);
  MemoryBackend::unlimit_committed_bytes();
  CHECK_FALSE(format.has_prefaulted());
  CHECK(format.state_of(segment.data()) == SegmentState::kUnfinished);
}

TEST_CASE("what a creator that died left behind is wiped before anybody takes it over") {
  TestSegment fresh(4U << 20, 3), left(4U << 20, 3);
  const Geometry geometry = left.attached().geometry;
  std::vector<std::pair<std::size_t, std::size_t>> written = {{kPageSize, fixed_tables_end(geometry) - kPageSize}};
  for (std::uint32_t shard = 0; shard < geometry.shards; ++shard) {
    written.emplace_back(geometry.shard_offset(shard), kShardHeaderSize + kPageSize);
  }
  for (const auto& [offset, size] : written) std::memset(left.data() + offset, 0xa5, size);
  left.header().state = static_cast<std::uint32_t>(HeaderState::kInitializing);
  CHECK(left.attached().marks().exist());
  REQUIRE(SegmentFormat(left.name(), 3).initialize(left.segment()) == Status::kOk);
  CHECK(check(left) == Status::kOk);
  CHECK_FALSE(left.attached().marks().exist());  // There are new ones.
  for (const auto& range : written) {
    const std::size_t offset = range.first;
    CAPTURE(offset);
    CHECK(std::memcmp(left.data() + offset, fresh.data() + offset, range.second) == 0);
  }
}

TEST_CASE("two segments differ in uuid and secret") {
  TestSegment first, second;
  CHECK(std::memcmp(first.header().identity.uuid, second.header().identity.uuid, 16) != 0);
  CHECK(first.attached().hash_seed != second.attached().hash_seed);
}

struct Refusal {
  const char* what;
  Status status;
  const char* message;
  void (*plant)(TestSegment&);
  bool refused_for_reading;
};

const Refusal kRefusals[] = {
    {"other bytes", Status::kBadMagic, "not a MemStream segment", [](TestSegment& s) { s.header().identity.magic = 7; },
     true},
    {"the magic of the other byte order", Status::kOtherByteOrder, "other byte order",
     [](TestSegment& s) { s.header().identity.magic = __builtin_bswap64(kMagic); }, true},
    {"the mark of the other byte order", Status::kOtherByteOrder, "other byte order",
     [](TestSegment& s) { s.header().identity.byte_order = 0x04030201; }, true},
    {"a later layout", Status::kBadVersion, "layout version 10, this library reads version 9",
     [](TestSegment& s) { s.header().identity.layout_version = kLayoutVersion + 1; }, true},
    {"what to do about a later layout", Status::kBadVersion,
     "a newer MemStream made it. Load the library of that release",
     [](TestSegment& s) { s.header().identity.layout_version = kLayoutVersion + 1; }, true},
    {"what to do about an earlier layout", Status::kBadVersion, "an older MemStream made it. Destroy it",
     [](TestSegment& s) { s.header().identity.layout_version = kLayoutVersion - 1; }, true},
    {"a changed byte", Status::kBadChecksum, "checksum is wrong",
     [](TestSegment& s) { s.header().identity.hash_seed ^= 1; }, true},
    {"a changed checksum", Status::kBadChecksum, "checksum is wrong", [](TestSegment& s) { s.header().checksum ^= 1; },
     true},
    {"a header that promises more", Status::kTruncated, "was cut",
     [](TestSegment& s) { rewrite(s, [](SegmentIdentity& i) { i.size_bytes += kPageSize; }); }, true},
    {"a header that promises less", Status::kSizeMismatch, "really has",
     [](TestSegment& s) { rewrite(s, [](SegmentIdentity& i) { i.size_bytes -= kPageSize; }); }, true},
    {"another name", Status::kNameMismatch, "carries the name 'other'",
     [](TestSegment& s) { rewrite(s, [](SegmentIdentity& i) { std::strcpy(i.name, "other"); }); }, true},
    {"a name without an end", Status::kNameMismatch, "carries the name",
     [](TestSegment& s) { rewrite(s, [](SegmentIdentity& i) { std::memset(i.name, 'x', sizeof i.name); }); }, true},
    {"parts that do not fit", Status::kSizeMismatch, "do not fit its size",
     [](TestSegment& s) { rewrite(s, [](SegmentIdentity& i) { i.shards += 1; }); }, true},
    {"a state that does not exist", Status::kBadState, "state 9", [](TestSegment& s) { s.header().state = 9; }, true},
    {"unfinished", Status::kBadState, "state 1", [](TestSegment& s) { s.header().state = 1; }, true},
    {"destroyed", Status::kGone, "Connect again", [](TestSegment& s) { mark_destroyed(s.data()); }, true},
    {"another C library", Status::kOtherLibc, "'musl 1.2'",
     [](TestSegment& s) { rewrite(s, [](SegmentIdentity& i) { std::strcpy(i.libc, "musl 1.2"); }); }, false},
    {"another mutex", Status::kOtherLibc, "attach read-only",
     [](TestSegment& s) { rewrite(s, [](SegmentIdentity& i) { i.mutex_size += 8; }); }, false},
    {"another alignment of the mutex", Status::kOtherLibc, "attach read-only",
     [](TestSegment& s) { rewrite(s, [](SegmentIdentity& i) { i.mutex_alignment *= 2; }); }, false},
    {"another rwlock", Status::kOtherLibc, "attach read-only",
     [](TestSegment& s) { rewrite(s, [](SegmentIdentity& i) { i.rwlock_size += 8; }); }, false},
    {"another alignment of the rwlock", Status::kOtherLibc, "attach read-only",
     [](TestSegment& s) { rewrite(s, [](SegmentIdentity& i) { i.rwlock_alignment *= 2; }); }, false},
    {"another time namespace", Status::kOtherNamespace, "clock differs",
     [](TestSegment& s) { rewrite(s, [](SegmentIdentity& i) { i.time_namespace += 1; }); }, true},
};

TEST_CASE("each fault of a header has its own status and a message with a remedy") {
  for (const Refusal& refusal : kRefusals) {
    CAPTURE(refusal.what);
    TestSegment segment(2U << 20);
    const auto reader = segment.attach(Access::kReadOnly);
    refusal.plant(segment);
    CHECK(check(segment) == refusal.status);
    CHECK_MESSAGE(message_has(refusal.message), last_error());
    CHECK_MESSAGE(message_has("'" + segment.name() + "'"), last_error());
    // A reader takes no lock, so that the library is all the same to it. The clock is not.
    AttachedHeader attached;
    CHECK((check_header(*reader, segment.name(), &attached) == Status::kOk) == !refusal.refused_for_reading);
  }
}

TEST_CASE("a segment that is cut below its header, or below its size, is refused as truncated") {
  TestSegment segment;
  AttachedHeader attached;
  for (const std::size_t size : {std::size_t{0}, kPageSize - 1, kPageSize, std::size_t{kMinSegmentSize} - kPageSize}) {
    const BorrowedSegment cut(segment.data(), size);
    CHECK(check_header(cut, segment.name(), &attached) == Status::kTruncated);
  }
}

TEST_CASE("a refused header leaves the caller's copy alone") {
  TestSegment segment;
  segment.header().checksum ^= 1;
  AttachedHeader attached;
  attached.hash_seed = 42;
  CHECK(check_header(segment.segment(), segment.name(), &attached) == Status::kBadChecksum);
  CHECK(attached.hash_seed == 42);
}

TEST_CASE("the state of a header says whether it may be initialised") {
  const SegmentFormat format("some", 1);
  const auto state_of = [&](std::uint64_t magic, HeaderState state) {
    alignas(kPageSize) static std::byte page[kPageSize];
    std::memset(page, 0, sizeof page);
    auto& header = *reinterpret_cast<SegmentHeader*>(page);
    header.identity.magic = magic;
    header.state = static_cast<std::uint32_t>(state);
    return format.state_of(page);
  };
  CHECK(state_of(0, HeaderState::kBlank) == SegmentState::kBlank);
  CHECK(state_of(0, HeaderState::kInitializing) == SegmentState::kUnfinished);
  CHECK(state_of(kMagic, HeaderState::kInitializing) == SegmentState::kUnfinished);
  CHECK(state_of(kMagic, HeaderState::kReady) == SegmentState::kReady);
  CHECK(state_of(kMagic, HeaderState::kDestroyed) == SegmentState::kDestroyed);
  // Never taken for something that may be written over:
  CHECK(state_of(kMagic, HeaderState::kBlank) == SegmentState::kForeign);
  CHECK(state_of(kMagic, HeaderState{77}) == SegmentState::kForeign);
  CHECK(state_of(0, HeaderState::kReady) == SegmentState::kForeign);
  CHECK(state_of(7, HeaderState::kBlank) == SegmentState::kForeign);
  CHECK(state_of(7, HeaderState::kInitializing) == SegmentState::kForeign);
}

TEST_CASE("a segment that was not ready stays so when it is destroyed: who dies then leaves nothing foreign") {
  TestSegment segment;
  const SegmentFormat format(segment.name(), 1);
  const ProcessMarks marks = segment.attached().marks();
  segment.header().identity.magic = 0;
  segment.header().state = static_cast<std::uint32_t>(HeaderState::kInitializing);
  mark_destroyed(segment.data());
  CHECK(format.state_of(segment.data()) == SegmentState::kUnfinished);
  CHECK_FALSE(marks.exist());
}

TEST_CASE("a header of foreign bytes carries no name") {
  TestSegment segment;
  segment.header().identity.magic = 7;
  CHECK(SegmentFormat("some", 1).name_of(segment.data()) == "");
}

TEST_CASE("what a creator that died left behind is laid out anew, with nothing of it kept") {
  TestSegment segment(2U << 20, 2);
  SegmentFormat format(segment.name(), 2);
  const Deadline deadline{std::chrono::seconds(1)};
  {
    Shard shard(&segment.segment(), segment.geometry(), 0, segment.attached().hash_seed);
    const Key key{"key", hash_key("key", segment.attached().hash_seed)};
    REQUIRE(shard.store({.key = key}, {deadline, 1}) == Status::kOk);
  }
  segment.process_slot(3).pid = 12345;
  segment.header().state = static_cast<std::uint32_t>(HeaderState::kInitializing);
  REQUIRE(format.state_of(segment.data()) == SegmentState::kUnfinished);
  REQUIRE(format.initialize(segment.segment()) == Status::kOk);
  CHECK(segment.process_slot(3).pid == 0);
  AttachedHeader attached;
  REQUIRE(check_header(segment.segment(), segment.name(), &attached) == Status::kOk);
  for (std::uint32_t index = 0; index < 2; ++index) {
    Shard shard(&segment.segment(), attached.geometry, index, attached.hash_seed);
    ShardStatistics statistics{};
    REQUIRE(shard.statistics(deadline, &statistics) == Status::kOk);
    CHECK(statistics.entries == 0);
    std::vector<std::string> problems;
    REQUIRE(shard.check(deadline, &problems) == Status::kOk);
    CHECK(problems.empty());
  }
}

// Whatever one page of a header holds: an answer, and never a geometry that leads out of the segment.
TEST_CASE("a header of any bytes whatever is refused or sound") {
  std::mt19937 random(2);
  TestSegment segment;
  const SegmentIdentity good = segment.header().identity;
  for (int round = 0; round < scaled(3000); ++round) {
    segment.header().identity = good;
    const std::size_t begin = offsetof(SegmentIdentity, size_bytes);
    auto* bytes = reinterpret_cast<unsigned char*>(&segment.header().identity);
    for (unsigned changes = random() % 4 + 1; changes > 0; --changes) {
      bytes[begin + random() % (sizeof(SegmentIdentity) - begin)] = static_cast<unsigned char>(random());
    }
    rewrite(segment, [](SegmentIdentity&) {});
    AttachedHeader attached;
    if (check_header(segment.segment(), segment.name(), &attached) != Status::kOk) continue;
    REQUIRE(geometry_is_valid(attached.geometry));
    REQUIRE(attached.geometry.size_bytes == kMinSegmentSize);
  }
}

}  // namespace
}  // namespace memstream::test
