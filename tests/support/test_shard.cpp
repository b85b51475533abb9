// See test_shard.h.
#include "tests/support/test_shard.h"

#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "core/base/robust_mutex.h"

namespace memstream::test {
namespace {

std::string next_name() {
  static std::atomic<int> count = 0;
  return "unit-" + std::to_string(++count);
}

void require_ok(Status status, const char* what) {
  if (status != Status::kOk) throw std::runtime_error(std::string(what) + ": " + last_error());
}

}  // namespace

TestSegment::TestSegment(std::uint64_t size_bytes, std::uint32_t shards)
    : spec_{.name = next_name(), .size_bytes = size_bytes}, format_(spec_.name, shards) {
  require_ok(backend_.open(spec_, format_, &segment_), "open");
  require_ok(check_header(*segment_, spec_.name, &attached_), "check_header");
}

// A header that a test damaged names no semaphores any more.
TestSegment::~TestSegment() {
  attached_.marks().remove();
  (void)backend_.remove(spec_, format_, nullptr, mark_destroyed);
}

ProcessSlot& TestSegment::process_slot(std::uint32_t index) const noexcept {
  return reinterpret_cast<ProcessSlot*>(data() + geometry().process_slots_offset)[index];
}

ThreadSlot* TestSegment::thread_slots() const noexcept {
  return reinterpret_cast<ThreadSlot*>(data() + geometry().thread_slots_offset);
}

std::unique_ptr<Segment> TestSegment::attach(Access access) {
  std::unique_ptr<Segment> other;
  require_ok(backend_.attach(spec_, access, format_, &other), "attach");
  return other;
}

WriteLockScope::WriteLockScope(ShardHeader& header) MEMSTREAM_NOT_ANALYSED : header_(header) {
  if (robust_mutex_try_lock(&header.write_mutex) != LockOutcome::kAcquired) throw std::runtime_error("W is taken");
}

WriteLockScope::~WriteLockScope() MEMSTREAM_NOT_ANALYSED { robust_mutex_unlock(&header_.write_mutex); }

TestShard::TestShard(std::uint64_t size_bytes)
    : TestSegment(size_bytes),
      places(&segment(), geometry()),
      pins(&process_slot(0), places),
      shard(&segment(), geometry(), 0, attached().hash_seed),
      room_(max_value("k")) {
  process_slot(0).pid = static_cast<std::uint32_t>(::getpid());
  TestSegment::header().slots_in_use = 1;
}

Status TestShard::set(std::string_view key_bytes, std::string_view value, std::uint64_t expires_ms,
                      std::uint32_t flags) {
  const StoreRequest request{.key = key(key_bytes),
                             .value = reinterpret_cast<const std::byte*>(value.data()),
                             .value_size = value.size(),
                             .expires_ms = expires_ms,
                             .caller_flags = flags};
  return shard.store(request, {deadline(), now_ms});
}

Status TestShard::store(std::string_view key_bytes, std::string_view value, StoreMode mode, std::uint64_t cas) {
  const StoreRequest request{.key = key(key_bytes),
                             .value = reinterpret_cast<const std::byte*>(value.data()),
                             .value_size = value.size(),
                             .mode = mode,
                             .cas = cas};
  return shard.store(request, {deadline(), now_ms});
}

std::optional<std::string> TestShard::get(std::string_view key_bytes) {
  const GetResult got = shard.get(key(key_bytes), {room_.data(), room_.size()}, {deadline(), now_ms});
  if (got.status == Status::kMiss) return std::nullopt;
  require_ok(got.status, "get");
  return std::string(reinterpret_cast<const char*>(room_.data()), got.read.value_size);
}

ReadResult TestShard::read(std::string_view key_bytes) {
  const GetResult got = shard.get(key(key_bytes), {room_.data(), room_.size()}, {deadline(), now_ms});
  if (got.status != Status::kOk) throw std::runtime_error("no such key");
  return got.read;
}

ShardStatistics TestShard::statistics() {
  ShardStatistics result{};
  require_ok(shard.statistics(deadline(), &result), "statistics");
  return result;
}

std::vector<std::pair<std::string, std::string>> TestShard::scan() {
  std::vector<std::pair<std::string, std::string>> found;
  std::uint32_t next = 0;
  do {
    const Status status = shard.scan(&next, {deadline(), now_ms}, [&](const ScannedEntry& scanned) {
      const auto* key_bytes = reinterpret_cast<const char*>(scanned.block.key);
      const auto* value = reinterpret_cast<const char*>(scanned.block.value);
      found.emplace_back(std::string(key_bytes, scanned.block.key_size), std::string(value, scanned.block.value_size));
      return true;
    });
    require_ok(status, "scan");
  } while (next != 0);
  return found;
}

Entry& TestShard::entry(std::string_view key_bytes) {
  const std::uint32_t hash = key(key_bytes).hash.bucket_bits();
  for (std::uint32_t cell = 0; cell < header().cells; ++cell) {
    for (std::uint32_t slot = kBucketSlots; slot < kSlotsPerCell; ++slot) {
      Entry& candidate = Index::entry_unchecked(&header(), EntryId{cell * kSlotsPerCell + slot});
      BlockContents contents;
      if (candidate.hash == hash && ref_is_live(candidate.ref) &&
          read_block(Backing(shard_data(), shard_size()), ref_block(candidate.ref), &contents) &&
          contents.key_is(key_bytes)) {
        return candidate;
      }
    }
  }
  throw std::runtime_error("no such key");
}

BlockHeader& TestShard::block(std::string_view key_bytes) {
  return *reinterpret_cast<BlockHeader*>(shard_data() + std::uint64_t{ref_block(entry(key_bytes).ref)} * kUnitSize);
}

std::string TestShard::problems() {
  std::vector<std::string> found;
  require_ok(shard.check(deadline(), &found), "check");
  std::string all;
  for (const std::string& problem : found) all += problem + "\n";
  return all;
}

void TestShard::die_with_lock() {
  std::thread([&] { (void)robust_mutex_try_lock(&header().write_mutex); }).join();
}

void TestShard::recover() {
  die_with_lock();
  (void)statistics();
}

std::string pattern(std::size_t size_bytes, std::uint64_t seed) {
  std::string bytes(size_bytes, '\0');
  std::uint64_t state = seed * 0x9e37'79b9'7f4a'7c15ULL + 1;
  for (char& byte : bytes) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

}  // namespace memstream::test
