// One shard in memory of this process, for unit tests of the engine: they see its bytes, and the clock is theirs.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/cache/format.h"
#include "core/shard/shard_lookup.h"
#include "core/shard/write_lock.h"
#include "tests/support/memory_segment.h"

namespace memstream::test {

inline constexpr std::uint32_t kDeadPid = 0x3fff'fff0;  // Above every pid that a kernel gives.

// A segment of the engine's own format over the in-memory backend; removed at the end.
class TestSegment {
 public:
  explicit TestSegment(std::uint64_t size_bytes = kMinSegmentSize, std::uint32_t shards = 1);
  TestSegment(const TestSegment&) = delete;
  TestSegment& operator=(const TestSegment&) = delete;
  ~TestSegment();

  Segment& segment() noexcept { return *segment_; }
  std::byte* data() const noexcept { return segment_->data(); }
  const Geometry& geometry() const noexcept { return attached_.geometry; }
  const AttachedHeader& attached() const noexcept { return attached_; }
  const std::string& name() const noexcept { return spec_.name; }
  SegmentHeader& header() const noexcept { return *reinterpret_cast<SegmentHeader*>(data()); }
  ProcessSlot& process_slot(std::uint32_t index) const noexcept;
  ThreadSlot* thread_slots() const noexcept;
  // Another mapping of the same bytes.
  std::unique_ptr<Segment> attach(Access access);

 private:
  MemoryBackend backend_;
  SegmentSpec spec_;
  SegmentFormat format_;
  std::unique_ptr<Segment> segment_;
  AttachedHeader attached_;
};

// Holds W for as long as it lives, for a test that calls a part of a shard directly.
class MEMSTREAM_SCOPED_CAPABILITY WriteLockScope {
 public:
  explicit WriteLockScope(ShardHeader& header) MEMSTREAM_ACQUIRE(kWriteLock);
  WriteLockScope(const WriteLockScope&) = delete;
  WriteLockScope& operator=(const WriteLockScope&) = delete;
  ~WriteLockScope() MEMSTREAM_RELEASE();

 private:
  ShardHeader& header_;
};

// The one shard of such a segment, with this process in its first slot.
class TestShard : public TestSegment {
 public:
  explicit TestShard(std::uint64_t size_bytes = kMinSegmentSize);

  ShardHeader& header() const noexcept { return *reinterpret_cast<ShardHeader*>(shard_data()); }
  std::byte* shard_data() const noexcept { return data() + geometry().shards_offset; }
  std::uint64_t shard_size() const noexcept { return geometry().shard_size; }
  Key key(std::string_view bytes) const noexcept { return {bytes, hash_key(bytes, attached().hash_seed)}; }
  std::uint64_t max_value(std::string_view key_bytes) const noexcept {
    return max_value_size(geometry(), key_bytes.size());
  }
  Deadline deadline() const noexcept { return Deadline(timeout); }

  Status set(std::string_view key_bytes, std::string_view value, std::uint64_t expires_ms = 0, std::uint32_t flags = 0);
  Status store(std::string_view key_bytes, std::string_view value, StoreMode mode, std::uint64_t cas = 0);
  // The value; nothing on a miss.
  std::optional<std::string> get(std::string_view key_bytes);
  // The value and what else a read tells. REQUIRES: the key is there.
  ReadResult read(std::string_view key_bytes);
  Status remove(std::string_view key_bytes) { return shard.remove(key(key_bytes), {deadline(), now_ms}); }
  Status pin(std::string_view key_bytes, PinnedBlock* pinned) {
    return shard.pin(
        key(key_bytes), pins, deadline(), now_ms, [this] { return now_ms; }, pinned);
  }
  Status unpin(const PinnedBlock& pinned) {
    return pins.release(pinned.pin, shard.offset_of(pinned.position)) ? Status::kOk : Status::kBadHandle;
  }
  Status reserve(std::string_view key_bytes, std::uint64_t value_size, PinnedBlock* reserved) {
    return shard.reserve(key(key_bytes), value_size, pins, {deadline(), now_ms}, reserved);
  }
  Status commit(std::string_view key_bytes, const PinnedBlock& reserved, StoreMode mode = StoreMode::kSet) {
    const StoreRequest request{.key = key(key_bytes), .value_size = reserved.read.value_size, .mode = mode};
    return shard.commit_reservation(request, reserved, pins, {deadline(), now_ms});
  }

  ShardStatistics statistics();
  ShardCounters counters() { return statistics().counters; }
  // Everything a scan reports, keys first.
  std::vector<std::pair<std::string, std::string>> scan();
  // The entry of a key that is there.
  Entry& entry(std::string_view key_bytes);
  // The block of that entry.
  BlockHeader& block(std::string_view key_bytes);
  // What the checker finds, "" if nothing.
  std::string problems();
  // A thread locks W and ends: the next operation finds its owner dead and recovers.
  void die_with_lock();
  // ... and the shard as it stands after that.
  void recover();

  std::uint64_t now_ms = 1000;
  std::chrono::milliseconds timeout{2000};
  PinPlaces places;
  PinSet pins;
  Shard shard;

 private:
  std::vector<std::byte> room_;
};

// Bytes that tell which value they are and where in it: a torn or foreign value shows.
std::string pattern(std::size_t size_bytes, std::uint64_t seed);
template <std::signed_integral Seed>
std::string pattern(std::size_t size_bytes, Seed seed) {
  return pattern(size_bytes, static_cast<std::uint64_t>(seed));
}

}  // namespace memstream::test
