// The quick get: it answers as the look-up with all cases does, has no answer where it must not, and is safe on any
// bytes.
#include "core/shard/quick_get.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/support/overwriting_shard.h"
#include "tests/support/scale.h"

namespace memstream::test {
namespace {

using Answer = Shard::QuickAnswer;

constexpr std::size_t kRoom = 512;
constexpr std::size_t kLargestValue = 256;  // That it copies.

struct Got {
  Answer answer = Answer::kNone;
  std::string value;
  ReadResult read;
  Entry* entry = nullptr;
};

// A shard that its process has looked into before.
class QuickShard : public OverwritingShard {
 public:
  QuickShard() {
    REQUIRE(set("first", "value") == Status::kOk);
    warm_up();
  }
  void warm_up() {
    for (int i = 0; i < 2; ++i) static_cast<void>(get("first"));
  }

  template <bool kWantsAll>
  Got get_quickly(std::string_view key_bytes, std::size_t capacity = kRoom) {
    constexpr std::byte kUntouched{0xa5};
    std::array<std::byte, 2 * kRoom> room;
    room.fill(kUntouched);
    Got got;
    got.answer = shard.get_quickly<kWantsAll>(key(key_bytes), room.data(), &capacity, &got.read, &got.entry);
    // Without an answer it may have copied what then turned out to have changed.
    const std::size_t most = std::min(capacity, kLargestValue);
    const std::size_t size = got.answer == Answer::kHit ? got.read.value_size : most;
    REQUIRE(size <= most);
    const auto rest = static_cast<std::ptrdiff_t>(size);
    REQUIRE(std::all_of(room.begin() + rest, room.end(), [&](std::byte byte) { return byte == kUntouched; }));
    if (got.answer == Answer::kHit) got.value.assign(reinterpret_cast<const char*>(room.data()), size);
    return got;
  }
  Answer both(std::string_view key_bytes) {
    const Answer answer = get_quickly<true>(key_bytes).answer;
    CHECK(get_quickly<false>(key_bytes).answer == answer);
    return answer;
  }
  Bucket& bucket_of(std::string_view key_bytes) const {
    return Index::bucket(&header(), Index::bucket_of(key(key_bytes).hash.bucket_bits(), header().cells));
  }
};

TEST_CASE("keys and values of every size are read as the other look-up reads them") {
  QuickShard cache;
  for (const std::size_t key_size : {1U, 3U, 4U, 8U, 9U, 13U, 16U, 17U, 24U, 40U, 200U, 1024U}) {
    for (std::size_t value_size = 0; value_size <= kLargestValue + 3; ++value_size) {
      CAPTURE(key_size);
      CAPTURE(value_size);
      const std::string key(key_size, 'k');
      const std::string value = pattern(value_size, static_cast<int>(key_size));
      const std::uint32_t flags = value_size % 3 == 0 ? 0xdead'beef : 0;
      ++cache.now_ms;
      REQUIRE(cache.set(key, value, 0, flags) == Status::kOk);
      const ReadResult read = cache.read(key);
      const Got got = cache.get_quickly<true>(key);
      REQUIRE(got.answer == (value_size <= kLargestValue ? Answer::kHit : Answer::kNone));
      if (got.answer == Answer::kNone) continue;
      REQUIRE(got.value == value);
      REQUIRE(got.entry == &cache.entry(key));
      REQUIRE(got.read.cas == read.cas);
      REQUIRE(got.read.created_ms == read.created_ms);
      REQUIRE(got.read.caller_flags == read.caller_flags);
      REQUIRE(got.read.expires_ms == 0);
      const Got brief = cache.get_quickly<false>(key);
      REQUIRE(brief.answer == (flags == 0 ? Answer::kHit : Answer::kNone));
      if (flags == 0) REQUIRE(brief.value == value);
    }
  }
}

TEST_CASE("a full table is read quickly too, its chains and the keys that are not there") {
  QuickShard cache;
  const auto name = [](int number) { return "key-" + std::to_string(number); };
  constexpr int kKeys = 2000;
  for (int i = 0; i < kKeys; ++i) REQUIRE(cache.set(name(i), name(i)) == Status::kOk);
  cache.warm_up();
  int chained = 0;
  for (int i = 0; i < kKeys; ++i) {
    if (cache.bucket_of(name(i)).overflow != 0) ++chained;
    const Got got = cache.get_quickly<true>(name(i));
    if (got.answer == Answer::kNone) continue;  // Two keys of a bucket with one tag.
    REQUIRE(got.answer == Answer::kHit);
    REQUIRE(got.value == name(i));
    REQUIRE(cache.get_quickly<false>(name(i)).value == name(i));
    REQUIRE(cache.get_quickly<false>("no" + name(i)).answer != Answer::kHit);
  }
  CHECK(chained > 0);
  CHECK(cache.both("absent") == Answer::kMiss);
  REQUIRE(cache.remove(name(1)) == Status::kOk);
  CHECK(cache.both(name(1)) == Answer::kMiss);
}

TEST_CASE("it has no answer for a value that does not fit, may have expired or may be damaged") {
  QuickShard cache;
  CHECK(cache.get_quickly<true>("first", 4).answer == Answer::kNone);
  CHECK(cache.get_quickly<true>("first", 5).answer == Answer::kHit);
  REQUIRE(cache.set("brief", "value", cache.now_ms + 1000) == Status::kOk);
  CHECK(cache.both("brief") == Answer::kNone);
}

TEST_CASE("it has no answer while the shard is rebuilt or has been, or when the table has another size") {
  QuickShard cache;
  for (const std::uint64_t more : {1U, 2U}) {
    cache.header().seq += more;
    CHECK(cache.both("first") == Answer::kNone);
    CHECK(cache.both("absent") == Answer::kNone);
    cache.header().seq -= more;
  }
  ++cache.header().cells;
  CHECK(cache.both("first") == Answer::kNone);
  CHECK(cache.both("absent") == Answer::kNone);
  --cache.header().cells;
  CHECK(cache.both("first") == Answer::kHit);
  CHECK(cache.both("absent") == Answer::kMiss);
  cache.header().seq += 2;
  cache.warm_up();
  CHECK(cache.both("first") == Answer::kHit);
}

TEST_CASE("it believes no miss in a bucket that is in a change") {
  QuickShard cache;
  cache.bucket_of("absent").version |= 1;
  CHECK(cache.both("absent") == Answer::kNone);
}

TEST_CASE("it reads no value that is being overwritten, and none where only the hint says that it is") {
  QuickShard cache;
  REQUIRE(cache.put("key", "old value") == Status::kOk);
  REQUIRE(cache.both("key") == Answer::kHit);
  cache.begin_overwriting("key", "new value", 20);
  CHECK(cache.both("key") == Answer::kNone);
  cache.end_overwriting();
  CHECK(cache.get_quickly<false>("key").value == "new value");
  for (auto& hint : cache.bucket_of("key").hints) hint += 2;
  CHECK(cache.both("key") == Answer::kNone);
}

TEST_CASE("a slot that names a part of a bucket leads to no value, even if what stands there is an entry") {
  QuickShard cache;
  for (int i = 0; i < 100; ++i) REQUIRE(cache.set("key-" + std::to_string(i), "value") == Status::kOk);
  cache.warm_up();
  Bucket& bucket = cache.bucket_of("first");
  const Entry& entry = cache.entry("first");
  const std::uint32_t own_id = Index::number_of(&cache.header(), entry);
  const std::uint32_t cells = cache.header().cells;
  // Another bucket than the key's own, in a cell after the one with the entry.
  std::uint32_t cell = (own_id / kSlotsPerCell + 1) % cells;
  if (&Index::bucket(&cache.header(), cell) == &bucket) cell = (cell + 1) % cells;
  REQUIRE(cell != own_id / kSlotsPerCell);
  int tried = 0;
  for (auto& slot : bucket.slots) {
    if (slot != own_id) continue;
    for (std::uint32_t run = 0; run < kBucketSlots; ++run, ++tried) {
      const EntryId id{cell * kSlotsPerCell + run};
      void* const place = &Index::entry_unchecked(&cache.header(), id);
      std::array<std::byte, sizeof(Entry)> before;
      std::memcpy(before.data(), place, before.size());
      std::memcpy(place, static_cast<const void*>(&entry), sizeof(Entry));
      slot = id;
      CHECK(cache.both("first") == Answer::kNone);
      slot = own_id;
      std::memcpy(place, before.data(), before.size());
    }
  }
  CHECK(tried == kBucketSlots);
  CHECK(cache.both("first") == Answer::kHit);
}

TEST_CASE("a new handle knows nothing, whatever the shard says") {
  QuickShard cache;
  const Shard fresh(&cache.segment(), cache.geometry(), 0, cache.attached().hash_seed);
  std::byte room[kRoom];
  const std::size_t capacity = sizeof room;
  ReadResult read;
  Entry* entry = nullptr;
  for (const std::uint32_t cells : {cache.header().cells.load(), 0U}) {
    cache.header().cells = cells;
    for (const char* name : {"first", "absent"})
      CHECK(fresh.get_quickly<true>(cache.key(name), room, &capacity, &read, &entry) == Answer::kNone);
  }
}

// Its clock is read between the two looks at the ref.
TEST_CASE("the look-up with all cases gives up a value whose entry changed while it read it") {
  QuickShard cache;
  REQUIRE(cache.set("brief", "value", cache.now_ms + 1000) == Status::kOk);
  REQUIRE(cache.get("brief") == "value");
  std::byte room[kRoom];
  for (const std::uint64_t change : {std::uint64_t{0}, std::uint64_t{1} << 32}) {
    GetResult got;
    const auto now = [&] {
      cache.entry("brief").ref ^= change;
      return cache.now_ms;
    };
    const auto noted = [&] { return cache.now_ms; };
    const Shard::FastGet outcome = cache.shard.try_get_fast(cache.key("brief"), {room, sizeof room}, noted, now, &got);
    CHECK((outcome == Shard::FastGet::kAnswered) == (change == 0));
  }
}

// What it returns may be anything then, but it reads and writes nothing outside the shard and the caller's room.
TEST_CASE("any bytes in table and heap are survived, and only a key's own block is taken for its value") {
  QuickShard cache;
  std::vector<std::string> names;
  for (int i = 0; i < 300; ++i) {
    names.push_back("name-" + std::to_string(i * 7919));
    REQUIRE(cache.set(names.back(), pattern(static_cast<std::size_t>(i), i), 0, i % 4 == 0 ? 7 : 0) == Status::kOk);
  }
  cache.warm_up();
  const std::uint64_t table_end = kShardHeaderSize + std::uint64_t{cache.header().cells} * sizeof(Cell);
  const std::uint64_t heap_begin = std::uint64_t{cache.header().space.heap_begin} * kUnitSize;
  // What lies between them has no memory yet.
  const auto copy_of = [&](std::uint64_t begin, std::uint64_t end) {
    return std::string(reinterpret_cast<const char*>(cache.shard_data()) + begin, end - begin);
  };
  const std::string table = copy_of(0, table_end);
  const std::string heap = copy_of(heap_begin, cache.shard_size());
  std::mt19937_64 random(0x5eed);
  int hits = 0;
  int others = 0;
  const auto damage = [&](std::uint64_t begin, std::uint64_t end, int words) {
    for (int i = 0; i < words; ++i) {
      const std::uint64_t offset = begin + random() % (end - begin) / 4 * 4;
      std::uint32_t word = 0;
      std::memcpy(&word, cache.shard_data() + offset, sizeof word);
      word = random() % 2 == 0 ? word ^ 1U << random() % 32 : static_cast<std::uint32_t>(random());
      std::memcpy(cache.shard_data() + offset, &word, sizeof word);
    }
  };
  for (int round = 0; round < scaled(600); ++round) {
    const int words = round % 3 == 0 ? 2000 : 100;
    damage(kShardHeaderSize, table_end, words);
    damage(heap_begin, cache.shard_size(), words);
    for (const std::string& name : names) {
      const std::size_t capacity = round % 4 < 2 ? kRoom : ~std::size_t{0};
      const Got got =
          round % 2 == 0 ? cache.get_quickly<true>(name, capacity) : cache.get_quickly<false>(name, capacity);
      ++(got.answer == Answer::kHit ? hits : others);
      if (got.answer != Answer::kHit) continue;
      const auto distance = static_cast<std::uint64_t>(reinterpret_cast<std::byte*>(got.entry) - cache.shard_data());
      REQUIRE(Index::names_entry(EntryId{static_cast<std::uint32_t>((distance - kShardHeaderSize) / sizeof(Entry))},
                                 cache.header().cells));
      CheckedBlock block;
      const Backing backing(cache.shard_data(), cache.shard_size());
      REQUIRE(check_block(backing, ref_block(got.entry->ref), &block));
      REQUIRE(block.key_is(name));
      REQUIRE(block.value_size == got.read.value_size);
    }
    std::memcpy(cache.shard_data(), table.data(), table.size());
    std::memcpy(cache.shard_data() + heap_begin, heap.data(), heap.size());
  }
  CHECK(hits > 1000);
  CHECK(others > 1000);
}

TEST_CASE("the number of an entry is told from one of a bucket in 32 bits as in 64") {
  constexpr std::uint32_t kMost = Index::kMostCellsInShort * kSlotsPerCell;
  const auto same = [](EntryId id) { return Index::names_entry_in_short(id) == Index::names_entry(id, ~0U); };
  for (EntryId id; id < 100'000; ++id) REQUIRE((same(id) && same(EntryId{kMost - 1 - id})));
  for (EntryId id; id < kMost - 10'007; id += 10'007) REQUIRE(same(id));
  for (EntryId id; id < 1000; ++id) {
    REQUIRE(Index::names_entry(id, ~0U) == (id % kSlotsPerCell >= kBucketSlots));
    REQUIRE(Index::names_entry(EntryId{~id}, ~0U) == (~id % kSlotsPerCell >= kBucketSlots));
  }
}

TEST_CASE("the hash of a short key is the one that XXH3 gives") {
  std::mt19937_64 random(7);
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t seed = i % 100 == 0 ? 0 : random();
    std::string key(HashSeed::kShortLeast + random() % (HashSeed::kShortMost - HashSeed::kShortLeast + 1), '\0');
    for (char& byte : key) byte = static_cast<char>(random());
    REQUIRE(HashSeed::is_short(key.size()));
    REQUIRE(hash_key(key, HashSeed(seed)).value == XXH3_64bits_withSeed(key.data(), key.size(), seed));
  }
  for (const std::size_t size : {1U, 8U, 17U, 300U}) {
    const std::string key(size, 'k');
    REQUIRE(!HashSeed::is_short(size));
    REQUIRE(hash_key(key, HashSeed(5)).value == XXH3_64bits_withSeed(key.data(), key.size(), 5));
  }
}

}  // namespace
}  // namespace memstream::test
